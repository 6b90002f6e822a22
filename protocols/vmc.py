"""VMC, the protocol of VSeeFace, VMagicMirror, Warudo and most VRM programs: OSC with a face's clips and bones.

A frame is `/VMC/Ext/OK i 1`, `/VMC/Ext/T f`, a `/VMC/Ext/Bone/Pos sfffffff` each for neck, head and eyes, a
`/VMC/Ext/Blend/Val sf` for every one of the 52 shapes, and `/VMC/Ext/Blend/Apply` last: receivers forget on Apply
what was not sent before it. From the specification v3.1 (sh-akira/VirtualMotionCaptureProtocol).

Bones are local rotations as Unity has them: left-handed, Y up, Z forward, quaternion x y z w, so that a positive
angle about Y turns the face to its own right, about X down, about Z onto its left ear.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from kff_live.protocols import osc
from kff_live.protocols.channels import INDEX, LIVELINK, SHAPES, Pose, neutral
from kff_live.protocols.errors import DecodeError, EncodeError
from kff_live.protocols.frames import Frame
from kff_live.protocols.keyframes import EYE_ANGLES, derived_eye_angles

DEFAULT_PORT = 39539
"""Of a program that shows an avatar (Marionette); one that passes a face on (Performer) listens on 39540."""

Bone = Literal["Neck", "Head", "LeftEye", "RightEye"]
"""A bone that a face turns, by its name in Unity's HumanBodyBones."""

BONES: tuple[Bone, ...] = ("Neck", "Head", "LeftEye", "RightEye")

NAMINGS = ("pascal", "camel")

VRM0 = ("A", "I", "U", "E", "O", "Blink_L", "Blink_R", "Joy", "Angry", "Sorrow", "Fun")
VRM1 = ("aa", "ih", "ou", "ee", "oh", "blinkLeft", "blinkRight", "happy", "angry", "sad", "relaxed")
PRESETS = {"none": (), "vrm0": VRM0, "vrm1": VRM1}
"""Clips that every model has, in the order of `preset_weights`."""

Quaternion = tuple[float, float, float, float]
"""x, y, z, w of a unit quaternion."""

_YAW, _PITCH, _ROLL = (INDEX[f"Head{axis}"] for axis in ("Yaw", "Pitch", "Roll"))
_EYES = {name: [INDEX[f"{name}{axis}"] for axis in ("Yaw", "Pitch", "Roll")] for name in ("LeftEye", "RightEye")}

# A mouth that is as open, round or wide as in the visemes of "ah", "oo" and "ee".
_OPEN, _ROUND, _WIDE = 0.55, 0.75, 0.35


def quaternion(yaw: float, pitch: float, roll: float) -> Quaternion:
    """Turned by `yaw` to its own right, then by `pitch` down, then by `roll` onto its left ear: radians."""
    sy, cy = math.sin(yaw / 2), math.cos(yaw / 2)
    sx, cx = math.sin(pitch / 2), math.cos(pitch / 2)
    sz, cz = math.sin(roll / 2), math.cos(roll / 2)
    return (
        cy * sx * cz + sy * cx * sz,
        sy * cx * cz - cy * sx * sz,
        cy * cx * sz - sy * sx * cz,
        cy * cx * cz + sy * sx * sz,
    )


def angles(q: Quaternion) -> tuple[float, float, float]:
    """Yaw, pitch and roll of a unit quaternion, as `quaternion` takes them."""
    x, y, z, w = q
    down = min(max(2 * (w * x - y * z), -1.0), 1.0)
    return (
        math.atan2(2 * (x * z + w * y), 1 - 2 * (x * x + y * y)),
        math.asin(down),
        math.atan2(2 * (x * y + w * z), 1 - 2 * (x * x + z * z)),
    )


def preset_weights(pose: Pose) -> list[float]:
    """Weights, 0 to 1, of the clips that every VRM model has, in the order of VRM0: for models without the 52.

    Vowels share the mouth, and moods the face, so that neither sum exceeds 1.
    """

    def at(name: str) -> float:
        return float(pose[INDEX[name]])

    def both(name: str) -> float:
        return (at(f"{name}Left") + at(f"{name}Right")) / 2

    opened = min(max(at("JawOpen") - at("MouthClose"), 0.0) / _OPEN, 1.0)
    rounded = min((at("MouthPucker") + at("MouthFunnel")) / _ROUND, 1.0)
    wide = min(both("MouthStretch") / _WIDE, 1.0) * (1 - rounded)
    smile, cheeks, angry = both("MouthSmile"), both("CheekSquint"), both("BrowDown")
    sad = max(both("MouthFrown"), at("BrowInnerUp") - both("BrowOuterUp"))
    return [
        opened * (1 - rounded - wide),
        (1 - opened) * wide,
        (1 - opened) * rounded,
        opened * wide,
        opened * rounded,
        at("EyeBlinkLeft"),
        at("EyeBlinkRight"),
        smile * cheeks,
        (1 - smile) * angry,
        (1 - smile) * (1 - angry) * sad,
        smile * (1 - cheeks),
    ]


class Encoder:
    """Writes frames as VMC.

    Args:
        naming: of the 52 clips, one of NAMINGS; models mostly have Pascal names.
        presets: a key of PRESETS: the clips of a model without the 52, sent beside them.
        bones: which of BONES to turn. Neck and head share the turn of the head.
        positions: of bones in their parents, m, for receivers that take them over; 0 where not named.
        whole: one bundle a frame, which a network may have to fragment, instead of bundles of at most osc.MOST_BYTES.

    Raises:
        EncodeError: one of these is none of the names that it may be.
    """

    def __init__(
        self,
        *,
        naming: str = "pascal",
        presets: str = "none",
        bones: Sequence[Bone] = BONES,
        positions: Mapping[Bone, Sequence[float]] | None = None,
        whole: bool = False,
    ) -> None:
        for field, value, known in (
            ("naming", naming, NAMINGS),
            ("presets", presets, PRESETS),
            *(("bones", bone, BONES) for bone in [*bones, *(positions or {})]),
        ):
            if value not in known:
                raise EncodeError(f"{field}: {value!r} is not one of {', '.join(known)}")
        names = [name if naming == "pascal" else name[0].lower() + name[1:] for name in LIVELINK[:SHAPES]]
        messages = [
            osc.message("/VMC/Ext/OK", 1),
            osc.message("/VMC/Ext/T", floats=1),
            *(osc.message("/VMC/Ext/Bone/Pos", bone, floats=7) for bone in bones),
            *(osc.message("/VMC/Ext/Blend/Val", name, floats=1) for name in [*names, *PRESETS[presets]]),
            osc.message("/VMC/Ext/Blend/Apply"),
        ]
        runs = [messages] if whole else osc.split(messages, osc.MOST_BYTES)
        self._templates = [osc.Template(run) for run in runs]
        self._ends = np.cumsum([template.floats for template in self._templates]).tolist()
        self._values = np.zeros(self._ends[-1], np.float32)
        self._bones = tuple(bones)
        self._rotations = [1 + 7 * i + 3 for i in range(len(bones))]
        for start, bone in zip(self._rotations, bones, strict=True):
            self._values[start - 3 : start] = (positions or {}).get(bone, (0.0, 0.0, 0.0))
        self._shapes = 1 + 7 * len(bones)
        self._presets = presets != "none"
        self._first: int | None = None

    def encode(self, frame: Frame) -> list[bytes]:
        """The bundles of `frame`; its time counts from the first frame, s."""
        if self._first is None:
            self._first = frame.number
        pose, values = frame.pose, self._values
        values[0] = (frame.number - self._first + frame.subframe) * frame.rate.period
        for start, rotation in zip(self._rotations, self._turns(pose), strict=True):
            values[start : start + 4] = rotation
        end = self._shapes + SHAPES
        values[self._shapes : end] = pose[:SHAPES]
        if self._presets:
            values[end:] = preset_weights(pose)
        return [
            template.fill(values[end - template.floats : end])
            for template, end in zip(self._templates, self._ends, strict=True)
        ]

    def _turns(self, pose: Pose) -> list[Quaternion]:
        """The rotation of each bone."""
        head = quaternion(-float(pose[_YAW]), -float(pose[_PITCH]), float(pose[_ROLL]))
        if "Neck" in self._bones and "Head" in self._bones:
            head = _half(head)
        turns = []
        for bone in self._bones:
            eye = _EYES.get(bone)
            turns.append(quaternion(*(float(pose[i]) for i in eye)) if eye else head)
        return turns


def _half(q: Quaternion) -> Quaternion:
    """The rotation which made twice is `q`."""
    x, y, z, w = q
    length = math.sqrt(2 + 2 * w)
    return x / length, y / length, z / length, (w + 1) / length


def _times(a: Quaternion, b: Quaternion) -> Quaternion:
    """The rotation `b` within `a`."""
    ax, ay, az, aw = a
    bx, by, bz, bw = b
    return (
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
        aw * bw - ax * bx - ay * by - az * bz,
    )


_VAL = b"/VMC/Ext/Blend/Val\0\0,sf"
_APPLY = b"/VMC/Ext/Blend/Apply\0"
_BONE = b"/VMC/Ext/Bone/Pos\0\0\0,sfffffff"
_TURN = struct.Struct(">ffff")
_FLOAT = struct.Struct(">f")
_SHAPE_OF = {name.lower().encode(): i for i, name in enumerate(LIVELINK[:SHAPES])}
_BONE_OF = {bone.encode(): bone for bone in BONES}


class Decoder:
    """Reads what a VMC sender sends: the 52 clips in any case, neck, head and eyes; everything else is ignored.

    A value that is not sent again stays. Eyes follow the EyeLook* shapes until a bone says otherwise.
    """

    def __init__(self) -> None:
        self._pose = neutral()
        self._turns: dict[str, Quaternion] = {}

    def feed(self, packet: bytes) -> list[Pose]:
        """The poses that a packet completes, one for each Apply, float32[61] as sent: not limited to any range.

        Raises:
            DecodeError: it is no OSC, or a value in it is not a finite number.
        """
        poses = []
        for element in osc.elements(packet):
            try:
                if element.startswith(_VAL):
                    name, at = _string(element, len(_VAL))
                    self._set(_SHAPE_OF.get(name.lower()), *_FLOAT.unpack_from(element, at))
                elif element.startswith(_BONE):
                    name, at = _string(element, len(_BONE))
                    if name in _BONE_OF:
                        self._turn(_BONE_OF[name], _TURN.unpack_from(element, at + 12))
                elif element.startswith(_APPLY):
                    poses.append(self._whole())
                elif not element.startswith(b"/"):
                    raise DecodeError(f"address: {element[:20]!r} is not one of OSC")
            except (struct.error, ValueError):
                raise DecodeError(f"arguments: a message of {len(element)} bytes ends inside them") from None
        return poses

    def _set(self, channel: int | None, value: float) -> None:
        if not math.isfinite(value):
            raise DecodeError(f"value: {value} is not a finite number")
        if channel is not None:
            self._pose[channel] = value

    def _turn(self, bone: str, q: tuple[float, ...]) -> None:
        x, y, z, w = q
        length = math.sqrt(x * x + y * y + z * z + w * w)
        if not 0.1 < length < 10.0:  # also refuses NaN
            raise DecodeError(f"{bone}: {x:g} {y:g} {z:g} {w:g} is no rotation")
        self._turns[bone] = (x / length, y / length, z / length, w / length)

    def _whole(self) -> Pose:
        pose = self._pose.copy()
        still = (0.0, 0.0, 0.0, 1.0)
        yaw, pitch, roll = angles(_times(self._turns.get("Neck", still), self._turns.get("Head", still)))
        pose[[_YAW, _PITCH, _ROLL]] = -yaw, -pitch, roll
        pose[EYE_ANGLES] = derived_eye_angles(pose)
        for bone, indices in _EYES.items():
            if bone in self._turns:
                pose[indices] = angles(self._turns[bone])
        return pose


def _string(message: bytes, at: int) -> tuple[bytes, int]:
    """The string behind the type tags that end at or after `at`, and where the next argument begins."""
    start = _padded(message.index(0, at))
    end = message.index(0, start)
    return message[start:end], _padded(end)


def _padded(end: int) -> int:
    """Where the next argument begins behind a string that ends at `end`."""
    return end // 4 * 4 + 4
