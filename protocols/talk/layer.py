"""The talk layer: while a text is spoken its mouth leads, and the expression shows through."""

from types import ModuleType

import numpy as np
import numpy.typing as npt

from kff_live.protocols.channels import CHANNELS, Pose, neutral
from kff_live.protocols.layers import Mix, Regions
from kff_live.protocols.talk.speech import Speech

_KEPT = {
    "JawForward": 0.5, "JawLeft": 0.5, "JawRight": 0.5, "JawOpen": 0.25, "MouthClose": 0.0, "MouthFunnel": 0.2,
    "MouthPucker": 0.2, "MouthLeft": 0.6, "MouthRight": 0.6, "MouthSmile": 0.6, "MouthFrown": 0.7, "MouthDimple": 0.6,
    "MouthStretch": 0.5, "MouthRollLower": 0.2, "MouthRollUpper": 0.2, "MouthShrugLower": 0.4, "MouthShrugUpper": 0.4,
    "MouthPress": 0.3, "MouthLowerDown": 0.4, "MouthUpperUp": 0.4, "CheekPuff": 0.2, "TongueOut": 0.0,
}  # fmt: skip
_PARTING = {"MouthFunnel", "MouthLowerDown", "MouthUpperUp", "MouthShrugUpper", "TongueOut"}
"""An expression's channels that would part closed lips."""


def _by_channel(values: dict[str, float], rest: float) -> Pose:
    def value(name: str) -> float:
        return values.get(name, values.get(name.removesuffix("Left").removesuffix("Right"), rest))

    array = np.array([value(channel.name) for channel in CHANNELS], np.float32)
    array.setflags(write=False)
    return array


KEEPS: Pose = _by_channel(_KEPT, 1.0)
"""Share of the expression that shows in each channel while the mouth talks: float32[61]."""
PARTS: Pose = _by_channel(dict.fromkeys(_PARTING, 1.0), 0.0)
"""1 for channels that give way where the lips close: float32[61]."""
_LEADING = Regions().mix()


class Talk:
    """Lays one speech over a subject's pose.

    Args:
        speech: what is spoken.
        kernels: `protocols.talk.kernels`, which compiles when it is imported.
    """

    def __init__(self, speech: Speech, kernels: ModuleType) -> None:
        self.speech = speech
        self._kernels = kernels
        self._mouth = neutral()

    def apply(self, t: float, pose: npt.NDArray[np.float32], weight: float = 1.0, mix: Mix = _LEADING) -> None:
        """Change the acted pose in place, as the mouth is `t` seconds into the speech.

        Any `t` will do: before the speech and after it the mouth is at rest, and what `KEEPS` leaves of the expression
        shows. `weight` 0 to 1 fades the layer, `mix` is how it meets the expression; the caller changes both smoothly,
        and with them position and velocity are continuous. mouthClose never exceeds jawOpen if it did not before.
        """
        if weight <= 0.0:
            return
        speech = self.speech
        self._kernels.talk_over(
            t, speech.apexes, speech.curves, speech.poses, KEEPS, PARTS, mix, min(weight, 1.0), self._mouth, pose
        )
