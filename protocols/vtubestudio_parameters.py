"""VTube Studio's parameters: what a pose becomes, ours one a channel, and its own so that any model moves.

Where its own point is taken from Live2D's standard parameters, which VTube Studio's automatic set-up drives: FaceAngleX
+ turns to the right of the screen, which is the face's own left, Y + up, Z + tilts to the face's left. EyeLeftX and
EyeRightX are + towards the face's right, since that set-up turns them round. Bridges from ARKit by others agree.
"""

import math
import re
from collections.abc import Collection, Mapping
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from kff_live.protocols.channels import CHANNELS, COUNT, EYE_RADIANS, INDEX, LIVELINK, Pose
from kff_live.protocols.errors import EncodeError
from kff_live.protocols.vtubestudio import API_NAME, API_VERSION

MAX_PREFIX = 13
"""Characters: the longest channel name has 19, a parameter at most 32."""

Mode = Literal["set", "add"]


class Parameter(msgspec.Struct, frozen=True):
    """A parameter as a function of a pose: rest + the sum of gain x channel, within low and high."""

    name: str
    gains: Mapping[str, float]
    low: float = 0.0
    high: float = 1.0
    rest: float = 0.0
    explanation: str = ""


def check_prefix(prefix: str) -> None:
    """Refuse a prefix that makes no name of 4 to 32 letters and digits.

    Raises:
        EncodeError: it is refused; without one TongueOut and CheekPuff would be names of VTube Studio's own.
    """
    if not re.fullmatch(rf"[A-Za-z0-9]{{1,{MAX_PREFIX}}}", prefix):
        raise EncodeError(f"prefix: {prefix!r} is not 1 to {MAX_PREFIX} letters and digits")


def own_parameters(prefix: str, channels: Collection[str] = LIVELINK) -> list[Parameter]:
    """A parameter for each of the channels named; rotations in radians.

    Raises:
        EncodeError: as `check_prefix`.
    """
    check_prefix(prefix)
    return [
        Parameter(
            prefix + channel.name,
            {channel.name: 1.0},
            channel.low,
            channel.high,
            explanation=f"ARKit {channel.name} from kff-live, {channel.low:g} to {channel.high:g}"
            + (" radians" if channel.unit == "radian" else ""),
        )
        for channel in CHANNELS
        if channel.name in channels
    ]


def default_parameters(eyes_open: float, channels: Collection[str] = LIVELINK) -> list[Parameter]:
    """VTube Studio's own parameters, so that a model which knows nothing of ours moves; those that `channels` move.

    MouthSmile and the brows rest at 0.5, as bridges from ARKit have them. `eyes_open` is the value of an eye that is
    simply open: from there to 1 it is wide.
    """
    degrees = math.degrees(1.0)
    smile = {"MouthSmileLeft": 0.25, "MouthSmileRight": 0.25, "MouthFrownLeft": -0.25, "MouthFrownRight": -0.25}
    opened = {"JawOpen": 1.0, "MouthClose": -1.0}
    left, right = (
        {"BrowInnerUp": 0.25, f"BrowOuterUp{side}": 0.25, f"BrowDown{side}": -0.5} for side in ("Left", "Right")
    )
    brows = {name: 0.5 * (left.get(name, 0.0) + right.get(name, 0.0)) for name in left | right}
    found = [
        Parameter("FaceAngleX", {"HeadYaw": degrees}, -30.0, 30.0),
        Parameter("FaceAngleY", {"HeadPitch": degrees}, -30.0, 30.0),
        Parameter("FaceAngleZ", {"HeadRoll": degrees}, -30.0, 30.0),
        Parameter("MouthSmile", smile, rest=0.5),
        Parameter("VoiceFrequencyPlusMouthSmile", smile, rest=0.5),
        Parameter("MouthOpen", opened),
        Parameter("VoiceVolumePlusMouthOpen", opened),
        Parameter("MouthX", {"MouthLeft": 1.0, "MouthRight": -1.0}, -1.0, 1.0),
        Parameter("Brows", brows, rest=0.5),
        Parameter("BrowLeftY", left, rest=0.5),
        Parameter("BrowRightY", right, rest=0.5),
        Parameter("CheekPuff", {"CheekPuff": 1.0}),
        Parameter("TongueOut", {"TongueOut": 1.0}),
    ]
    for side in ("Left", "Right"):
        lid = {f"EyeBlink{side}": -eyes_open, f"EyeWide{side}": 1.0 - eyes_open}
        found += [
            Parameter(f"EyeOpen{side}", lid, rest=eyes_open),
            Parameter(f"Eye{side}X", {f"{side}EyeYaw": 1.0 / EYE_RADIANS}, -1.0, 1.0),
            Parameter(f"Eye{side}Y", {f"{side}EyePitch": -1.0 / EYE_RADIANS}, -1.0, 1.0),
        ]
    return [parameter for parameter in found if any(name in channels for name in parameter.gains)]


def creation(parameter: Parameter) -> dict[str, Any]:
    """The data of ParameterCreationRequest."""
    return {
        "parameterName": parameter.name,
        "explanation": parameter.explanation,
        "min": parameter.low,
        "max": parameter.high,
        "defaultValue": parameter.rest,
    }


class Encoder:
    """Writes poses as InjectParameterDataRequest.

    Args:
        parameters: at least one; all must be known to VTube Studio, or it refuses every request.
        mode: "set", or "add" to what tracking says; then each value is the distance from its rest.
        weight: 0 to 1, how far "set" overrides tracking.
    """

    def __init__(self, parameters: Collection[Parameter], *, mode: Mode = "set", weight: float = 1.0) -> None:
        if not parameters:
            raise EncodeError("parameters: there is none to send")
        self._matrix: NDArray[np.float64] = np.zeros((len(parameters), COUNT))
        for row, parameter in zip(self._matrix, parameters, strict=True):
            for name, gain in parameter.gains.items():
                row[INDEX[name]] = gain
        self._rest = np.array([p.rest for p in parameters])
        self._low = np.array([p.low for p in parameters])
        self._high = np.array([p.high for p in parameters])
        self._from = self._rest if mode == "add" else np.zeros(len(parameters))
        self._heads = [f'{{"id":"{p.name}","weight":{weight:g},"value":' for p in parameters]
        # Only who sets a face may say that there is one; who adds to it leaves that to the tracking.
        self._face = '"faceFound":true,' if mode == "set" else ""
        self._mode = mode

    def values(self, pose: Pose) -> NDArray[np.float64]:
        """The parameters of a pose, in the order in which they were given."""
        values: NDArray[np.float64] = np.clip(self._matrix @ pose + self._rest, self._low, self._high) - self._from
        return values

    def encode(self, pose: Pose, request_id: str) -> str:
        """The request that sets them."""
        values = ",".join(
            f"{head}{value:.5g}}}" for head, value in zip(self._heads, self.values(pose).tolist(), strict=True)
        )
        return (
            f'{{"apiName":"{API_NAME}","apiVersion":"{API_VERSION}","requestID":"{request_id}",'
            f'"messageType":"InjectParameterDataRequest","data":{{{self._face}"mode":"{self._mode}",'
            f'"parameterValues":[{values}]}}}}'
        )
