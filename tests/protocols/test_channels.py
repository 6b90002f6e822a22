from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

from kff_live.protocols import channels
from kff_live.protocols.channels import (
    CHANNELS,
    COUNT,
    HIGH,
    INDEX,
    LIVELINK,
    LIVELINK_CSV,
    LOW,
    ORDERS,
    SHAPES,
    mirror,
    neutral,
    permutation,
    pose_from_names,
    pose_to_names,
)
from kff_live.protocols.errors import DecodeError

# The header of a take of the Live Link Face app, as the app writes it.
APP_HEADER = (
    "EyeBlinkLeft,EyeLookDownLeft,EyeLookInLeft,EyeLookOutLeft,EyeLookUpLeft,EyeSquintLeft,EyeWideLeft,EyeBlinkRight,"
    "EyeLookDownRight,EyeLookInRight,EyeLookOutRight,EyeLookUpRight,EyeSquintRight,EyeWideRight,JawForward,JawRight,"
    "JawLeft,JawOpen,MouthClose,MouthFunnel,MouthPucker,MouthRight,MouthLeft,MouthSmileLeft,MouthSmileRight,"
    "MouthFrownLeft,MouthFrownRight,MouthDimpleLeft,MouthDimpleRight,MouthStretchLeft,MouthStretchRight,"
    "MouthRollLower,MouthRollUpper,MouthShrugLower,MouthShrugUpper,MouthPressLeft,MouthPressRight,MouthLowerDownLeft,"
    "MouthLowerDownRight,MouthUpperUpLeft,MouthUpperUpRight,BrowDownLeft,BrowDownRight,BrowInnerUp,BrowOuterUpLeft,"
    "BrowOuterUpRight,CheekPuff,CheekSquintLeft,CheekSquintRight,NoseSneerLeft,NoseSneerRight,TongueOut,HeadYaw,"
    "HeadPitch,HeadRoll,LeftEyeYaw,LeftEyePitch,LeftEyeRoll,RightEyeYaw,RightEyePitch,RightEyeRoll"
)


def test_csv_order_is_the_header_that_the_app_writes() -> None:
    assert ",".join(LIVELINK_CSV) == APP_HEADER


def test_wire_order_is_the_enum_of_another_implementation(require: Callable[[str], ModuleType]) -> None:
    shapes = require("pylivelinkface").FaceBlendShape
    assert {shape.name: shape.value for shape in shapes} == dict(INDEX)


# Numeric values that Epic's API pages print for EARFaceBlendShape.
@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("EyeBlinkLeft", 0), ("EyeBlinkRight", 7), ("JawForward", 14), ("JawLeft", 15), ("JawRight", 16),
        ("JawOpen", 17), ("MouthLeft", 21), ("MouthRight", 22), ("BrowInnerUp", 43), ("TongueOut", 51),
        ("HeadYaw", 52), ("HeadPitch", 53), ("HeadRoll", 54), ("LeftEyeYaw", 55), ("RightEyeRoll", 60),
    ],
)  # fmt: skip
def test_names_stand_at_their_wire_index(name: str, place: int) -> None:
    assert LIVELINK[place] == name
    assert channels.index(name) == place


def test_there_are_52_shapes_then_9_rotations() -> None:
    assert (COUNT, SHAPES) == (61, 52)
    assert [c.unit for c in CHANNELS] == ["coefficient"] * 52 + ["radian"] * 9
    assert [(c.low, c.high) for c in CHANNELS] == [(0.0, 1.0)] * 52 + [(-1.0, 1.0)] * 9
    assert LOW.tolist() == [c.low for c in CHANNELS]
    assert HIGH.tolist() == [c.high for c in CHANNELS]


def test_limits_cannot_be_written_to() -> None:
    for array in (LOW, HIGH):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0.5


def test_csv_order_differs_only_by_the_left_right_swap_of_jaw_and_mouth() -> None:
    different = [(a, b) for a, b in zip(LIVELINK, LIVELINK_CSV, strict=True) if a != b]
    assert different == [
        ("JawLeft", "JawRight"),
        ("JawRight", "JawLeft"),
        ("MouthLeft", "MouthRight"),
        ("MouthRight", "MouthLeft"),
    ]


@pytest.mark.parametrize("source", ORDERS)
@pytest.mark.parametrize("target", ORDERS)
def test_permutation_moves_every_value_to_its_name(source: str, target: str) -> None:
    values = np.arange(COUNT)
    moved = values[permutation(source, target)]
    by_name = dict(zip(ORDERS[source], values, strict=True))
    assert dict(zip(ORDERS[target], moved, strict=True)) == by_name
    assert (moved[permutation(target, source)] == values).all()


def test_a_mouth_to_the_left_lands_under_its_own_title_in_a_csv() -> None:
    pose = neutral()
    pose[channels.index("MouthLeft")] = 1.0
    row = pose[permutation("livelink", "livelink_csv")]
    assert row[LIVELINK_CSV.index("MouthLeft")] == 1.0
    assert LIVELINK_CSV.index("MouthLeft") == 22


@pytest.mark.parametrize("spelling", ["MouthSmileLeft", "mouthSmileLeft", "MOUTHSMILELEFT"])
def test_index_takes_pascal_and_camel_case(spelling: str) -> None:
    assert channels.index(spelling) == 23


@pytest.mark.parametrize("name", ["", "MouthSmile", "mouthSmile_L", "Mouth SmileLeft"])
def test_index_of_an_unknown_name_is_refused_by_name(name: str) -> None:
    with pytest.raises(DecodeError, match=f"unknown channel {name!r}"):
        channels.index(name)


def test_partners_are_mutual_and_of_one_kind() -> None:
    for channel in CHANNELS:
        if channel.partner is not None:
            partner = CHANNELS[INDEX[channel.partner]]
            assert partner.partner == channel.name
            assert (partner.unit, partner.low, partner.high) == (channel.unit, channel.low, channel.high)


def test_channels_without_a_partner() -> None:
    assert [c.name for c in CHANNELS if c.partner is None] == [
        "JawForward", "JawOpen", "MouthClose", "MouthFunnel", "MouthPucker", "MouthRollLower", "MouthRollUpper",
        "MouthShrugLower", "MouthShrugUpper", "BrowInnerUp", "CheekPuff", "TongueOut", "HeadYaw", "HeadPitch",
        "HeadRoll",
    ]  # fmt: skip


def random_pose(seed: int) -> channels.Pose:
    return np.random.default_rng(seed).uniform(LOW, HIGH).astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_mirror_is_an_involution_that_moves_something(seed: int) -> None:
    pose = random_pose(seed)
    assert (mirror(mirror(pose)) == pose).all()
    assert (mirror(pose) != pose).any()


def test_mirror_of_many_poses_at_once_is_the_mirror_of_each() -> None:
    poses = np.stack([random_pose(seed) for seed in range(4)])
    assert (mirror(poses) == np.stack([mirror(pose) for pose in poses])).all()


@pytest.mark.parametrize(
    ("seen", "mirrored"),
    [
        ({"MouthSmileLeft": 0.5}, {"MouthSmileRight": 0.5}),
        ({"MouthLeft": 1.0}, {"MouthRight": 1.0}),
        ({"JawRight": 0.25}, {"JawLeft": 0.25}),
        ({"JawOpen": 0.5}, {"JawOpen": 0.5}),
        ({"HeadYaw": 0.5, "HeadPitch": 0.25, "HeadRoll": -0.5}, {"HeadYaw": -0.5, "HeadPitch": 0.25, "HeadRoll": 0.5}),
        # A gaze to the face's left becomes one to its right: both yaws change sign and eye.
        ({"EyeLookOutLeft": 1.0, "EyeLookInRight": 0.5}, {"EyeLookOutRight": 1.0, "EyeLookInLeft": 0.5}),
        ({"LeftEyeYaw": -0.5, "RightEyeYaw": -0.25}, {"RightEyeYaw": 0.5, "LeftEyeYaw": 0.25}),
        ({"LeftEyePitch": 0.5}, {"RightEyePitch": 0.5}),
        ({"LeftEyeRoll": 0.5}, {"RightEyeRoll": -0.5}),
    ],
)
def test_mirror_exchanges_sides(seen: dict[str, float], mirrored: dict[str, float]) -> None:
    assert pose_to_names(mirror(pose_from_names(seen))) == pose_to_names(pose_from_names(mirrored))


def test_neutral_is_new_writable_zeros() -> None:
    one, other = neutral(), neutral()
    one[0] = 1.0
    assert other.tolist() == [0.0] * 61
    assert other.dtype == np.float32


@pytest.mark.parametrize("seed", range(5))
def test_names_of_a_pose_give_the_pose_back(seed: int) -> None:
    pose = random_pose(seed)
    pose[::3] = 0.0
    again = pose_from_names(pose_to_names(pose))
    assert np.abs(again - pose).max() <= 0.5001e-4


def test_zeros_are_left_out_of_the_names_even_when_only_rounding_makes_them_zero() -> None:
    pose = neutral()
    pose[:3] = 0.00004, -0.00004, 0.00006
    assert pose_to_names(pose) == {"EyeLookInLeft": 0.0001}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"jawopen ": 1.0}, r"face\.jawopen : unknown channel"),
        ({"JawOpen": 1.5}, r"face\.JawOpen: 1\.5 is outside 0 to 1"),
        ({"JawOpen": -0.1}, r"face\.JawOpen: -0\.1 is outside 0 to 1"),
        ({"HeadYaw": -1.01}, r"face\.HeadYaw: -1\.01 is outside -1 to 1"),
        ({"JawOpen": float("nan")}, r"face\.JawOpen: nan is outside"),
        ({"JawOpen": float("inf")}, r"face\.JawOpen: inf is outside"),
        ({"JawOpen": 0.5, "jawOpen": 0.5}, r"face\.jawOpen: the channel is named twice"),
    ],
)
def test_named_values_that_are_wrong_are_refused_by_path(values: dict[str, float], message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        pose_from_names(values, where="face")


def test_limits_themselves_are_allowed() -> None:
    pose = pose_from_names({"JawOpen": 1, "HeadYaw": -1})
    assert pose[INDEX["JawOpen"]] == 1.0
    assert pose[INDEX["HeadYaw"]] == -1.0
