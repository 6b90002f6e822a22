"""The test pattern: every channel once, alone but for what is documented, on the side that its name says."""

import numpy as np
import pytest

from kff_live.protocols.channels import CHANNELS, COUNT, GROUPS, INDEX, LIVELINK, SHAPES
from kff_live.protocols.keyframes import EYE_ANGLES, derived_eye_angles
from kff_live.protocols.pattern import ANGLE, COMPANIONS, Step, steps
from kff_live.protocols.track import Timeline

STEPS = list(steps())


def ident(step: Step) -> str:
    return f"{step.channel}{step.value:+g}"


def test_every_channel_comes_once_in_order_and_rotations_to_both_sides() -> None:
    shapes, rotations = STEPS[:SHAPES], STEPS[SHAPES:]
    assert [step.channel for step in shapes] == list(LIVELINK[:SHAPES])
    assert {step.value for step in shapes} == {1.0}
    assert [step.channel for step in rotations[::2]] == [step.channel for step in rotations[1::2]]
    assert [step.channel for step in rotations[::2]] == list(LIVELINK[SHAPES:])
    assert [step.value for step in rotations[:2]] == [ANGLE, -ANGLE]


def test_named_channels_come_in_the_order_in_which_they_are_named() -> None:
    assert [step.channel for step in steps(("TongueOut", "HeadYaw", "JawOpen"))] == [
        "TongueOut", "HeadYaw", "HeadYaw", "JawOpen",
    ]  # fmt: skip


@pytest.mark.parametrize("step", STEPS, ids=ident)
def test_one_channel_moves_with_its_companions_alone(step: Step) -> None:
    there, back = step.keyframes(2.0)
    companions = {step.channel, *COMPANIONS.get(step.channel, {})}
    if step.channel.startswith("EyeLook"):
        assert np.allclose(there.pose[EYE_ANGLES], derived_eye_angles(step.pose))
        side = "Left" if "Left" in step.channel else "Right"
        companions |= {f"{side}EyeYaw", f"{side}EyePitch"}
    moved = {LIVELINK[i] for i in np.flatnonzero(there.pose)}
    assert moved <= companions
    assert step.channel in moved
    assert there.pose[INDEX[step.channel]] == pytest.approx(step.value)
    assert not back.pose.any()


@pytest.mark.parametrize("seconds", [0.2, 1.5, 30.0])
def test_a_step_ends_at_rest_within_its_time(seconds: float) -> None:
    timeline = Timeline()
    for keyframe in STEPS[0].keyframes(seconds):
        timeline.append(keyframe)
    assert timeline.end == pytest.approx(0.8 * seconds)


@pytest.mark.parametrize("step", STEPS, ids=ident)
def test_what_is_seen_names_the_side_that_moves(step: Step) -> None:
    channel = CHANNELS[INDEX[step.channel]]
    if channel.index < SHAPES or "Eye" in channel.name:
        expected = "left" if "Left" in channel.name else "right" if "Right" in channel.name else ""
        assert step.side == expected
    else:  # of the head, where + is the face's own left; docs of channels
        expected = "" if channel.name == "HeadPitch" else "left" if step.value > 0 else "right"
        assert step.side == expected
    assert {"left": "your right", "right": "your left", "": ""}[step.side] in step.where
    assert step.where.startswith(f"the face's {step.side}: ") or not step.side
    other = {"left": "right", "right": "left"}.get(step.side, "left")
    assert other not in step.seen


def test_eye_angles_are_told_in_the_direction_of_their_signs() -> None:
    # + is the face's own right: for the left eye that is where the nose is.
    seen = {(step.channel, step.value > 0): step.seen for step in STEPS}
    assert seen["LeftEyeYaw", True].startswith("the left eye turns towards the nose")
    assert seen["RightEyeYaw", True].startswith("the right eye turns away from the nose")
    assert seen["LeftEyePitch", True].startswith("the left eye turns down")
    for side, toward in (("Left", "In"), ("Right", "Out")):
        # The same sense as in EyeLook*, from which the runtime derives the angles.
        pose = next(step.pose for step in STEPS if step.channel == f"EyeLook{toward}{side}")
        assert derived_eye_angles(pose)[0 if side == "Left" else 3] > 0


def test_regions_cover_the_pattern() -> None:
    assert sorted(i for indices in GROUPS.values() for i in indices) == list(range(COUNT))
