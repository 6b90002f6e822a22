"""How layers combine: a weight and a mode for each region of the face."""

from typing import Annotated, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from kff_live.protocols.channels import COUNT, GROUPS, Pose

Mode = Literal["add", "max", "override"]
Weight = Annotated[float, msgspec.Meta(ge=0, le=1)]

MODES: tuple[Mode, ...] = ("add", "max", "override")
"""By the number that `kernels.overlay` knows them by."""


class Blend(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of one region: how strongly a layer shows, and how it meets what lies below."""

    weight: Weight = 1.0
    mode: Mode = "override"


class Regions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A blend for each of channels.GROUPS.

    The defaults lay an acted expression over a live face: brows, cheeks and nose add up, the mouth and the lids take
    the greater, gaze and head stay the performer's own.
    """

    brows: Blend = Blend(mode="add")
    lids: Blend = Blend(mode="max")
    gaze: Blend = Blend(weight=0.0)
    cheeks: Blend = Blend(mode="max")
    nose: Blend = Blend(mode="max")
    jaw: Blend = Blend(mode="max")
    mouth: Blend = Blend(mode="max")
    tongue: Blend = Blend(mode="max")
    head: Blend = Blend(mode="add", weight=0.5)

    def arrays(self) -> tuple[Pose, NDArray[np.int8]]:
        """Weight float32[61] and mode int8[61], for `kernels.overlay`."""
        weight, mode = np.zeros(COUNT, np.float32), np.zeros(COUNT, np.int8)
        for group, indices in GROUPS.items():
            blend: Blend = getattr(self, group)
            weight[list(indices)] = blend.weight
            mode[list(indices)] = MODES.index(blend.mode)
        return weight, mode
