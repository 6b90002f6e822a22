from dataclasses import replace

import numpy as np
import pytest

from kff_live.protocols.channels import EYE_RADIANS, HIGH, INDEX, LOW, neutral, pose_from_names, pose_to_names
from kff_live.protocols.errors import EncodeError
from kff_live.protocols.keyframes import (
    EYE_ANGLES,
    MAX_SECONDS,
    RELEASE,
    Keyframe,
    as_acted,
    derived_eye_angles,
    has_own_eye_angles,
    release,
)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("way", -0.1), ("way", MAX_SECONDS + 0.1), ("way", float("nan")), ("way", float("inf")),
        ("hold", -0.1), ("hold", MAX_SECONDS + 0.1), ("hold", float("nan")),
        ("easing", "bounce"), ("easing", ""), ("easing", "Cubic"),
        ("pose", np.zeros(60, np.float32)), ("pose", np.zeros((61, 1), np.float32)), ("pose", np.zeros(61)),
        ("pose", np.full(61, np.nan, np.float32)), ("pose", np.full(61, np.inf, np.float32)),
    ],
)  # fmt: skip
def test_field_out_of_range_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(EncodeError, match=f"^{field}: "):
        replace(Keyframe(neutral()), **{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [0.0, MAX_SECONDS])
def test_limits_of_way_and_hold_are_allowed(seconds: float) -> None:
    keyframe = Keyframe(neutral(), way=seconds, hold=seconds)
    assert (keyframe.way, keyframe.hold) == (seconds, seconds)


def test_pose_of_a_keyframe_cannot_be_written_to() -> None:
    keyframe = Keyframe(neutral())
    with pytest.raises(ValueError, match="read-only"):
        keyframe.pose[0] = 1.0


def test_keyframes_are_equal_when_every_field_is() -> None:
    keyframe = Keyframe(pose_from_names({"JawOpen": 0.5}), way=0.2, hold=1.0, easing="sine", label="a")
    assert keyframe == replace(keyframe, pose=keyframe.pose.copy())
    others: list[dict[str, object]] = [
        {"pose": neutral()}, {"way": 0.3}, {"hold": 0.0}, {"easing": "quad"}, {"label": "b"},
    ]  # fmt: skip
    for other in others:
        assert keyframe != replace(keyframe, **other)  # type: ignore[arg-type]
    assert keyframe != "a keyframe"


@pytest.mark.parametrize(
    ("shapes", "angles"),
    [
        ({}, {}),
        ({"EyeLookDownLeft": 1.0}, {"LeftEyePitch": 1}),
        ({"EyeLookUpRight": 1.0}, {"RightEyePitch": -1}),
        ({"EyeLookInLeft": 1.0, "EyeLookOutRight": 1.0}, {"LeftEyeYaw": 1, "RightEyeYaw": 1}),  # to the face's right
        ({"EyeLookOutLeft": 1.0, "EyeLookInRight": 1.0}, {"LeftEyeYaw": -1, "RightEyeYaw": -1}),  # to its left
        ({"EyeLookInLeft": 1.0, "EyeLookInRight": 1.0}, {"LeftEyeYaw": 1, "RightEyeYaw": -1}),  # at its nose
    ],
)
def test_eye_angles_that_agree_with_the_look_shapes(shapes: dict[str, float], angles: dict[str, int]) -> None:
    expected = pose_from_names({name: EYE_RADIANS * full for name, full in angles.items()})
    assert derived_eye_angles(pose_from_names(shapes)) == pytest.approx(expected[EYE_ANGLES])


def test_eye_angles_are_own_only_when_they_say_something_else() -> None:
    look = pose_from_names({"EyeLookDownLeft": 0.5, "EyeLookDownRight": 0.5})
    assert not has_own_eye_angles(neutral())
    assert not has_own_eye_angles(look)
    derived = look.copy()
    derived[EYE_ANGLES] = derived_eye_angles(look)
    assert not has_own_eye_angles(derived)
    derived[INDEX["LeftEyePitch"]] += 0.1
    assert has_own_eye_angles(derived)
    assert has_own_eye_angles(pose_from_names({"LeftEyeRoll": 0.1}))


@pytest.mark.parametrize(
    ("named", "intensity", "acted"),
    [
        ({"JawOpen": 0.5}, 1.0, {"JawOpen": 0.5}),
        ({"JawOpen": 0.5, "HeadYaw": -0.25}, 0.5, {"JawOpen": 0.25, "HeadYaw": -0.125}),
        ({"JawOpen": 0.5}, 0.0, {}),
        ({"MouthSmileLeft": 0.75, "HeadPitch": -0.75}, 2.0, {"MouthSmileLeft": 1.0, "HeadPitch": -1.0}),
        # The mouth can only be closed as far as the jaw is open.
        ({"MouthClose": 0.5}, 1.0, {}),
        ({"MouthClose": 0.5, "JawOpen": 0.25}, 1.0, {"MouthClose": 0.25, "JawOpen": 0.25}),
        ({"MouthClose": 0.25, "JawOpen": 0.5}, 1.0, {"MouthClose": 0.25, "JawOpen": 0.5}),
        # A closing lid is not wide open; each eye for itself.
        ({"EyeBlinkLeft": 1, "EyeWideLeft": 1, "EyeWideRight": 1}, 1.0, {"EyeBlinkLeft": 1, "EyeWideRight": 1}),
        ({"EyeBlinkRight": 0.75, "EyeWideRight": 0.5}, 1.0, {"EyeBlinkRight": 0.75, "EyeWideRight": 0.25}),
        # Gaze: angles are derived, of the pose as scaled and clipped, unless the keyframe has its own.
        ({"EyeLookUpLeft": 0.5}, 1.0, {"EyeLookUpLeft": 0.5, "LeftEyePitch": -0.305}),
        ({"EyeLookUpLeft": 0.8}, 2.0, {"EyeLookUpLeft": 1.0, "LeftEyePitch": -0.61}),
        ({"EyeLookUpLeft": 0.8, "LeftEyePitch": -0.488}, 2.0, {"EyeLookUpLeft": 1.0, "LeftEyePitch": -0.61}),
        ({"LeftEyeYaw": 0.25}, 2.0, {"LeftEyeYaw": 0.5}),
        ({"EyeLookUpLeft": 0.5, "LeftEyeYaw": 0.25}, 1.0, {"EyeLookUpLeft": 0.5, "LeftEyeYaw": 0.25}),
    ],
)  # fmt: skip
def test_acted_pose(named: dict[str, float], intensity: float, acted: dict[str, float]) -> None:
    keyframe = Keyframe(pose_from_names(named), way=0.7, hold=0.1, easing="back", label="x")
    result = as_acted(keyframe, intensity=intensity)
    assert pose_to_names(result.pose) == pytest.approx(acted)
    assert result == replace(keyframe, pose=result.pose)  # nothing but the pose changes


@pytest.mark.parametrize("seed", range(20))
def test_acting_again_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    once = as_acted(Keyframe(rng.uniform(LOW, HIGH).astype(np.float32)), intensity=rng.uniform(0.0, 2.0))
    assert as_acted(once) == once
    assert (once.pose >= LOW).all()
    assert (once.pose <= HIGH).all()


def test_release_eases_to_neutral() -> None:
    keyframe = release(0.8)
    assert pose_to_names(keyframe.pose) == {}
    assert (keyframe.way, keyframe.hold, keyframe.label) == (0.8, 0.0, RELEASE)
