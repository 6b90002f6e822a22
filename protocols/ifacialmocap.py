"""iFacialMocap: one line of text a frame over UDP, as the phone app of that name sends it.

    trackingStatus-1|eyeBlink_L-7|jawOpen-12|...|=head#x,y,z,px,py,pz|rightEye#x,y,z|leftEye#x,y,z|

Values are whole numbers 0 to 100, angles degrees, positions metres; version 2 has & for -. Receivers differ in what
they need: the status in front, exactly one "=" glued to "head", a "|" at the very end, no two equal packets in a row.
What is written here satisfies all of them (docs/formats.md names them).

Angles about x, y, z: eyes + = down, + = the face's left (measured on the vendor's samples); the head has the same axes,
and + = the right ear down (inferred from ARKit's axes and from how VMagicMirror uses them).
"""

import math

import numpy as np

from kff_live.protocols.channels import INDEX, LIVELINK, SHAPES, Pose, neutral
from kff_live.protocols.errors import DecodeError
from kff_live.protocols.frames import Frame
from kff_live.protocols.keyframes import EYE_ANGLES, derived_eye_angles

DEFAULT_PORT = 49983
"""Of receivers and of the phone."""

HANDSHAKE = b"iFacialMocap_sahuasouryya9218sauhuiayeta91555dy3719"
"""A receiver sends this to the phone, which then sends to that address."""

SEPARATORS = {"v1": "-", "v2": "&"}
"""Between name and value, by version."""


def _name(channel: str) -> str:
    """`MouthSmileLeft` as mouthSmile_L; the jaw's and the mouth's own left and right stay as they are."""
    name = channel[0].lower() + channel[1:]
    if name in ("jawLeft", "jawRight", "mouthLeft", "mouthRight"):
        return name
    return name.replace("Left", "_L").replace("Right", "_R")


NAMES = tuple(_name(channel) for channel in LIVELINK[:SHAPES])
"""The blendshapes' names, in the order of the channels."""

_INDEX = {name: i for i, name in enumerate(NAMES)} | {name.lower(): i for i, name in enumerate(LIVELINK[:SHAPES])}

# Each angle as it is written: its channel, and the sign that turns ours into theirs.
_ANGLES = {
    "head": (("HeadPitch", -1.0), ("HeadYaw", 1.0), ("HeadRoll", -1.0)),
    "rightEye": (("RightEyePitch", 1.0), ("RightEyeYaw", -1.0), ("RightEyeRoll", -1.0)),
    "leftEye": (("LeftEyePitch", 1.0), ("LeftEyeYaw", -1.0), ("LeftEyeRoll", -1.0)),
}
_ORDER = np.array([INDEX[channel] for axes in _ANGLES.values() for channel, _ in axes], np.intp)
_DEGREES = np.array([sign * math.degrees(1.0) for axes in _ANGLES.values() for _, sign in axes])

# The last digit of the head's first angle is the packet's own: it alternates, so that no two packets are equal.
_TAIL = "=head#%.4f{digit},%.5f,%.5f,0.0,0.0,0.0|rightEye#%.5f,%.5f,%.5f|leftEye#%.5f,%.5f,%.5f|"


class Encoder:
    """Writes frames as text that differs from one frame to the next, if by a hundred-thousandth of a degree.

    Args:
        version: a key of SEPARATORS.
    """

    def __init__(self, version: str = "v1") -> None:
        separator = SEPARATORS[version]
        shapes = "".join(f"{name}{separator}%d|" for name in NAMES)
        self._forms = [f"trackingStatus{separator}1|{shapes}{_TAIL.format(digit=digit)}" for digit in (0, 1)]

    def encode(self, frame: Frame) -> bytes:
        """The datagram of `frame`, ASCII."""
        self._forms.reverse()
        values = np.rint(frame.pose[:SHAPES] * 100.0).astype(np.int32).tolist()
        angles = (frame.pose[_ORDER] * _DEGREES).tolist()
        return (self._forms[0] % (*values, *angles)).encode()


def asked_version(data: bytes) -> str | None:
    """The version that a handshake asks for; None where it is none, or one for TCP."""
    parts = data.strip(b"\0 \r\n").split(b"|")
    if parts[0] != HANDSHAKE:
        return None
    return "v2" if b"sendDataVersion=v2" in parts[1:] else "v1"


def decode(data: bytes) -> Pose | None:
    """The pose of a datagram, float32[61] as sent: not limited to any range; None where no face is tracked.

    Either version, blendshapes also by ARKit's names; what is unknown is ignored. Without eye angles they follow the
    EyeLook* shapes.

    Raises:
        DecodeError: not this format, or a number that is none.
    """
    shapes, found, angles = data.decode("ascii", "replace").replace(" ", "").partition("=")
    if not found or "=" in angles:
        raise DecodeError("packet: expected exactly one '='")
    pose = neutral()
    for part in shapes.split("|"):
        name, separator, value = part.partition("&" if "&" in part else "-")
        channel = _INDEX.get(name, _INDEX.get(name.lower()))
        if name == "trackingStatus" and value == "0":
            return None
        if channel is not None and separator:
            pose[channel] = _number(value, name) / 100.0
    eyes = False
    for part in angles.split("|"):
        name, _, values = part.partition("#")
        axes = _ANGLES.get(name)
        if axes is None:
            continue
        numbers = [_number(value, name) for value in values.split(",")]
        if len(numbers) < len(axes):
            raise DecodeError(f"{name}: expected 3 or 6 numbers, got {len(numbers)}")
        for (axis, sign), degrees in zip(axes, numbers, strict=False):
            pose[INDEX[axis]] = math.radians(sign * degrees)
        eyes = eyes or name != "head"
    if not eyes:
        pose[EYE_ANGLES] = derived_eye_angles(pose)
    return pose


def _number(text: str, name: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DecodeError(f"{name}: {text[:20]!r} is not a number")
    return value
