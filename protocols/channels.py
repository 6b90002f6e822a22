"""The 61 channels: names, ranges, partners and every order they travel in.

Canonical order is the Live Link wire order (Unreal's `EARFaceBlendShape`): 52 blendshapes in [0, 1], then nine
rotations in radians. Left and right are the face's own. Other orders are lists of the same names; `permutation`
turns a pose from one order into another.

Signs of the rotations, measured on takes of the Live Link Face app where marked (m), else inferred and therefore
adjustable by a negative gain: head yaw + = the face's left; head pitch + = up; head roll + = left ear down;
eye yaw + = the face's right (m); eye pitch + = down (m).
"""

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from kff_live.protocols.errors import DecodeError

Pose = NDArray[np.float32]
"""float32[61] in canonical order; blendshapes in [0, 1], rotations in radians."""

LIVELINK: tuple[str, ...] = (
    "EyeBlinkLeft", "EyeLookDownLeft", "EyeLookInLeft", "EyeLookOutLeft", "EyeLookUpLeft", "EyeSquintLeft",
    "EyeWideLeft", "EyeBlinkRight", "EyeLookDownRight", "EyeLookInRight", "EyeLookOutRight", "EyeLookUpRight",
    "EyeSquintRight", "EyeWideRight", "JawForward", "JawLeft", "JawRight", "JawOpen", "MouthClose", "MouthFunnel",
    "MouthPucker", "MouthLeft", "MouthRight", "MouthSmileLeft", "MouthSmileRight", "MouthFrownLeft",
    "MouthFrownRight", "MouthDimpleLeft", "MouthDimpleRight", "MouthStretchLeft", "MouthStretchRight",
    "MouthRollLower", "MouthRollUpper", "MouthShrugLower", "MouthShrugUpper", "MouthPressLeft", "MouthPressRight",
    "MouthLowerDownLeft", "MouthLowerDownRight", "MouthUpperUpLeft", "MouthUpperUpRight", "BrowDownLeft",
    "BrowDownRight", "BrowInnerUp", "BrowOuterUpLeft", "BrowOuterUpRight", "CheekPuff", "CheekSquintLeft",
    "CheekSquintRight", "NoseSneerLeft", "NoseSneerRight", "TongueOut", "HeadYaw", "HeadPitch", "HeadRoll",
    "LeftEyeYaw", "LeftEyePitch", "LeftEyeRoll", "RightEyeYaw", "RightEyePitch", "RightEyeRoll",
)  # fmt: skip
"""Unreal's enum order and property names; also the order inside every array of this project."""


def _app_order() -> tuple[str, ...]:
    """The app's CSV and KeyframeFace put the rights of jaw and mouth before the lefts; all else is equal."""
    names = list(LIVELINK)
    for left, right in (("JawLeft", "JawRight"), ("MouthLeft", "MouthRight")):
        i, j = names.index(left), names.index(right)
        names[i], names[j] = names[j], names[i]
    return tuple(names)


LIVELINK_CSV: tuple[str, ...] = _app_order()
"""Titles of a Live Link Face CSV, and KeyframeFace's JSON: JawRight before JawLeft, MouthRight before MouthLeft."""

ORDERS = MappingProxyType({"livelink": LIVELINK, "livelink_csv": LIVELINK_CSV, "keyframeface": LIVELINK_CSV})
"""Every known order by name."""

COUNT = len(LIVELINK)
SHAPES = 52
"""Blendshapes come first: indices 0 to SHAPES - 1; rotations follow."""

INDEX = MappingProxyType({name: i for i, name in enumerate(LIVELINK)})
_FOLDED = {name.lower(): i for i, name in enumerate(LIVELINK)}

EYE_RADIANS = 0.61
"""Eye angle of a full EyeLook* shape, measured on the app's stream and on takes."""


@dataclass(frozen=True)
class Channel:
    """One channel: its index, name, unit ("coefficient" or "radian"), range, and left/right partner or None."""

    index: int
    name: str
    unit: str
    low: float
    high: float
    partner: str | None


def _partner(name: str) -> str | None:
    swapped = name.replace("Left", "\0").replace("Right", "Left").replace("\0", "Right")
    return swapped if swapped != name else None


CHANNELS: tuple[Channel, ...] = tuple(
    Channel(i, name, *(("coefficient", 0.0, 1.0) if i < SHAPES else ("radian", -1.0, 1.0)), _partner(name))
    for i, name in enumerate(LIVELINK)
)

LOW: Pose = np.array([c.low for c in CHANNELS], np.float32)
HIGH: Pose = np.array([c.high for c in CHANNELS], np.float32)
LOW.setflags(write=False)
HIGH.setflags(write=False)


def index(name: str) -> int:
    """Index of the channel `name`, spelled in Pascal or camel case.

    Raises:
        DecodeError: there is no such channel.
    """
    found = _FOLDED.get(name.lower())
    if found is None:
        raise DecodeError(f"unknown channel {name!r}: expected one of the 61 ARKit names such as 'MouthSmileLeft'")
    return found


def permutation(source: str, target: str) -> NDArray[np.intp]:
    """Indices p so that `values_in_target = values_in_source[p]`, for two names of ORDERS."""
    place = {name: i for i, name in enumerate(ORDERS[source])}
    return np.array([place[name] for name in ORDERS[target]], np.intp)


_MIRROR = np.array([INDEX[c.partner] if c.partner else c.index for c in CHANNELS], np.intp)
_MIRROR_SIGN = np.array(
    [-1.0 if c.unit == "radian" and c.name.endswith(("Yaw", "Roll")) else 1.0 for c in CHANNELS], np.float32
)


def mirror(pose: Pose) -> Pose:
    """The pose as seen in a mirror: partners exchanged, yaw and roll negated. Shape [..., 61]."""
    return pose[..., _MIRROR] * _MIRROR_SIGN


def neutral() -> Pose:
    """A new writable neutral pose: float32[61] of zeros."""
    return np.zeros(COUNT, np.float32)


def pose_from_names(values: dict[str, float], *, where: str = "pose") -> Pose:
    """A pose from names to values; unnamed channels are neutral.

    Raises:
        DecodeError: unknown name, or a value outside the channel's range; the message names `where`.
    """
    pose = neutral()
    seen: set[int] = set()
    for name, value in values.items():
        try:
            i = index(name)
        except DecodeError as error:
            raise DecodeError(f"{where}.{name}: {error}") from None
        channel = CHANNELS[i]
        if i in seen:
            raise DecodeError(f"{where}.{name}: the channel is named twice")
        if not channel.low <= value <= channel.high:  # also refuses NaN
            raise DecodeError(f"{where}.{name}: {value} is outside {channel.low:g} to {channel.high:g}")
        seen.add(i)
        pose[i] = value
    return pose


def pose_to_names(pose: Pose, *, digits: int = 4) -> dict[str, float]:
    """The non-zero channels of a pose by name, rounded to `digits`."""
    rounded = ((name, round(float(value), digits)) for name, value in zip(LIVELINK, pose, strict=True))
    return {name: value for name, value in rounded if value != 0.0}


def _group(*prefixes: str) -> tuple[int, ...]:
    return tuple(c.index for c in CHANNELS if c.name.startswith(prefixes))


GROUPS = MappingProxyType(
    {
        "brows": _group("Brow"),
        "lids": _group("EyeBlink", "EyeSquint", "EyeWide"),
        "gaze": _group("EyeLook", "LeftEye", "RightEye"),
        "cheeks": _group("Cheek"),
        "nose": _group("Nose"),
        "jaw": _group("Jaw"),
        "mouth": _group("Mouth"),
        "tongue": _group("Tongue"),
        "head": _group("Head"),
    }
)
"""Regions of the face: each channel is in exactly one. For weights and modes of layers."""
