"""The Keyframe: a pose to reach, the way there, how long it holds, and the rules a pose must keep."""

import math
from dataclasses import dataclass, replace

import numpy as np

from kff_live.protocols.channels import COUNT, EYE_RADIANS, HIGH, INDEX, LOW, Pose, neutral
from kff_live.protocols.easing import DEFAULT_EASING, EASINGS
from kff_live.protocols.errors import EncodeError

MAX_SECONDS = 12.0
"""Longest way and longest hold of one keyframe, in seconds."""

MAX_LABEL = 60
"""Longest label, in characters."""

RELEASE = "release"
"""Label of the keyframe that returns to neutral after the last one."""

EYE_ANGLES = slice(INDEX["LeftEyeYaw"], INDEX["RightEyeRoll"] + 1)
"""The six eye rotations."""

_SAME_ANGLE = 0.005  # rad, 0.3 degrees: angles this near to the derived ones count as derived


@dataclass(frozen=True, eq=False)
class Keyframe:
    """A pose to reach.

    Args:
        pose: float32[61], canonical order; made read-only.
        way: seconds that the motion into the pose takes, 0 to MAX_SECONDS.
        hold: seconds that the pose stays, 0 to MAX_SECONDS.
        easing: a name of EASINGS; how the face travels into the pose.
        label: what the pose means, in words; may be empty.

    Raises:
        EncodeError: a field is out of its range; the message names it.
    """

    pose: Pose
    way: float = 0.4
    hold: float = 0.0
    easing: str = DEFAULT_EASING
    label: str = ""

    def __post_init__(self) -> None:
        if self.pose.shape != (COUNT,) or self.pose.dtype != np.float32:
            raise EncodeError(f"pose: expected float32[{COUNT}], got {self.pose.dtype}{list(self.pose.shape)}")
        if not np.isfinite(self.pose).all():
            raise EncodeError("pose: holds a value that is not a number")
        for field, value in (("way", self.way), ("hold", self.hold)):
            if not (math.isfinite(value) and 0.0 <= value <= MAX_SECONDS):
                raise EncodeError(f"{field}: {value} is outside 0 to {MAX_SECONDS:g} s")
        if self.easing not in EASINGS:
            raise EncodeError(f"easing: {self.easing!r} is not one of {', '.join(EASINGS)}")
        self.pose.setflags(write=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Keyframe):
            return NotImplemented
        return (
            (self.way, self.hold, self.easing, self.label) == (other.way, other.hold, other.easing, other.label)
        ) and np.array_equal(self.pose, other.pose)

    __hash__ = None  # type: ignore[assignment]  # poses are arrays; equality is for tests and the round-trip law


def derived_eye_angles(pose: Pose) -> Pose:
    """The six eye rotations that agree with a pose's EyeLook* shapes: float32[6], radians, wire signs."""

    def at(name: str) -> float:
        return float(pose[INDEX[name]])

    def pitch(side: str) -> float:
        return EYE_RADIANS * (at(f"EyeLookDown{side}") - at(f"EyeLookUp{side}"))

    left_yaw = EYE_RADIANS * (at("EyeLookInLeft") - at("EyeLookOutLeft"))
    right_yaw = EYE_RADIANS * (at("EyeLookOutRight") - at("EyeLookInRight"))
    return np.array([left_yaw, pitch("Left"), 0.0, right_yaw, pitch("Right"), 0.0], np.float32)


def has_own_eye_angles(pose: Pose) -> bool:
    """Whether the pose sets eye rotations of its own: not all zero, and not merely those its EyeLook* give."""
    angles = pose[EYE_ANGLES]
    return bool(np.any(angles != 0.0)) and not np.allclose(angles, derived_eye_angles(pose), atol=_SAME_ANGLE)


def as_acted(keyframe: Keyframe, *, intensity: float = 1.0) -> Keyframe:
    """The keyframe as the face will act it.

    Intensity scales the pose here and not after sampling, so that a pose driven into its limit is still eased into
    it. Then the rules: mouthClose needs an open jaw (mouthClose <= jawOpen), a lid that closes is not wide open
    (eyeWide <= 1 - eyeBlink), and eye angles follow EyeLook* unless the pose sets its own.
    """
    own_eye_angles = has_own_eye_angles(keyframe.pose)  # before scaling, which clips shapes and angles unevenly
    pose = np.clip(keyframe.pose * np.float32(intensity), LOW, HIGH)
    pose[INDEX["MouthClose"]] = min(pose[INDEX["MouthClose"]], pose[INDEX["JawOpen"]])
    for side in ("Left", "Right"):
        wide = INDEX[f"EyeWide{side}"]
        pose[wide] = min(pose[wide], 1.0 - pose[INDEX[f"EyeBlink{side}"]])
    if not own_eye_angles:
        pose[EYE_ANGLES] = derived_eye_angles(pose)
    return replace(keyframe, pose=pose)


def release(way: float) -> Keyframe:
    """The keyframe that eases the face back to neutral in `way` seconds."""
    return Keyframe(neutral(), way=way, label=RELEASE)
