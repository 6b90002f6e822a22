"""Easing curves: how the face travels into a keyframe, by the names of easings.net without "ease" and the capitals."""

import math
from types import MappingProxyType

EASINGS: tuple[str, ...] = (
    "step", "linear", "quadin", "quadout", "quad", "cubicin", "cubicout", "cubic",
    "sinein", "sineout", "sine", "backin", "backout", "back",
)  # fmt: skip
"""Names; a curve without in or out is in-out. `step` stays at the old pose and jumps when the way is over."""

DEFAULT_EASING = "cubic"
EASING_INDEX = MappingProxyType({name: i for i, name in enumerate(EASINGS)})

_BACK = 1.70158  # 10 % overshoot
_BACK_IN_OUT = 1.525 * _BACK


def ease(kind: int, s: float) -> float:
    """Share of the way covered at share `s` in [0, 1] of its time; 0 at 0 and 1 at 1.

    Plain Python that `kernels` compiles; `kind` indexes EASINGS.
    """
    if s <= 0.0:
        return 0.0
    if s >= 1.0:
        return 1.0
    r = 1.0 - s
    if kind == 0:
        return 0.0
    if kind == 1:
        return s
    if kind == 2:
        return s * s
    if kind == 3:
        return 1.0 - r * r
    if kind == 4:
        return 2.0 * s * s if s < 0.5 else 1.0 - 2.0 * r * r
    if kind == 5:
        return s * s * s
    if kind == 6:
        return 1.0 - r * r * r
    if kind == 7:
        return 4.0 * s * s * s if s < 0.5 else 1.0 - 4.0 * r * r * r
    if kind == 8:
        return 1.0 - math.cos(0.5 * math.pi * s)
    if kind == 9:
        return math.sin(0.5 * math.pi * s)
    if kind == 10:
        return 0.5 - 0.5 * math.cos(math.pi * s)
    if kind == 11:
        return s * s * ((_BACK + 1.0) * s - _BACK)
    if kind == 12:
        return 1.0 - r * r * ((_BACK + 1.0) * r - _BACK)
    if s < 0.5:
        return 2.0 * s * s * ((_BACK_IN_OUT + 1.0) * 2.0 * s - _BACK_IN_OUT)
    return 1.0 - 2.0 * r * r * ((_BACK_IN_OUT + 1.0) * 2.0 * r - _BACK_IN_OUT)
