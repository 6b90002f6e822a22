import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
from pythonosc.osc_message_builder import OscMessageBuilder
from pythonosc.osc_packet import OscPacket

from kff_live.protocols import osc, vmc
from kff_live.protocols.channels import EYE_RADIANS, INDEX, LIVELINK, LOW, SHAPES, Pose, neutral, pose_from_names
from kff_live.protocols.errors import DecodeError, EncodeError
from kff_live.protocols.frames import Frame, FrameRate
from kff_live.protocols.talk.visemes import VISEMES
from kff_live.protocols.vmc import BONES, VRM0, VRM1, Decoder, Encoder, angles, preset_weights, quaternion

NAMES = LIVELINK[:SHAPES]


def frame(pose: Pose, number: int = 0) -> Frame:
    return Frame("Face", number, 0.0, FrameRate(), pose)


def some_pose(seed: int = 5) -> Pose:
    return np.random.default_rng(seed).uniform(LOW, 1.0).astype(np.float32)


def messages(packets: Iterable[bytes]) -> list[tuple[str, list[Any]]]:
    """What another library reads, in order."""
    return [(t.message.address, list(t.message.params)) for data in packets for t in OscPacket(data).messages]


def clips(packets: Iterable[bytes]) -> dict[str, float]:
    return {args[0]: args[1] for address, args in messages(packets) if address == "/VMC/Ext/Blend/Val"}


def bones(packets: Iterable[bytes]) -> dict[str, list[float]]:
    return {args[0]: args[1:] for address, args in messages(packets) if address == "/VMC/Ext/Bone/Pos"}


def turn(q: list[float] | tuple[float, ...], v: tuple[float, float, float]) -> Any:
    """The vector turned by a quaternion x y z w: as a matrix, from the textbook."""
    x, y, z, w = q
    matrix = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.array(matrix) @ v


def python_osc(*parts: tuple[str, list[tuple[Any, str]]]) -> bytes:
    """A bundle that another library builds."""
    bundle = OscBundleBuilder(IMMEDIATELY)
    for address, arguments in parts:
        builder = OscMessageBuilder(address)
        for value, kind in arguments:
            builder.add_arg(value, kind)
        bundle.add_content(builder.build())
    return bundle.build().dgram


# Worked out by hand from the specification.
GOLDEN = {
    "val": "2f564d432f4578742f426c656e642f56616c0000" "2c736600" "4a61774f70656e00" "3f000000",
    "apply": "2f564d432f4578742f426c656e642f4170706c7900000000" "2c000000",
    "ok": "2f564d432f4578742f4f4b00" "2c690000" "00000001",
    "time": "2f564d432f4578742f540000" "2c660000" "41480000",
    # 30 degrees to the face's own right
    "head": "2f564d432f4578742f426f6e652f506f73000000" "2c73666666666666660000004865616400000000"
            "000000000000000000000000" "00000000" "3e8483ee" "00000000" "3f7746ea",
}  # fmt: skip


def test_golden_bytes_of_each_message() -> None:
    encoder = Encoder(whole=True, bones=["Head"])
    encoder.encode(frame(neutral()))
    pose = pose_from_names({"JawOpen": 0.5, "HeadYaw": -math.radians(30)})
    (data,) = encoder.encode(frame(pose, 750))  # 12.5 s
    found = [element.hex() for element in osc.elements(data)]
    assert found[:3] == [GOLDEN["ok"], GOLDEN["time"], GOLDEN["head"]]
    assert GOLDEN["val"] in found
    assert found[-1] == GOLDEN["apply"]


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("presets", ["none", "vrm0", "vrm1"])
def test_bytes_are_those_of_python_osc(whole: bool, presets: str) -> None:
    pose = some_pose()
    packets = Encoder(whole=whole, presets=presets).encode(frame(pose))
    for data in packets:
        parts = []
        for address, args in messages([data]):
            kinds = {"/VMC/Ext/OK": "i", "/VMC/Ext/T": "f", "/VMC/Ext/Blend/Val": "sf"}.get(address, "s" + "f" * 7)
            parts.append((address, list(zip(args, kinds, strict=False))))
        assert data == python_osc(*parts)


def test_a_frame_is_ok_time_bones_all_52_shapes_and_apply_last() -> None:
    pose = some_pose()
    found = messages(Encoder(whole=True).encode(frame(pose)))
    assert [address for address, _ in found] == [
        "/VMC/Ext/OK",
        "/VMC/Ext/T",
        *["/VMC/Ext/Bone/Pos"] * 4,
        *["/VMC/Ext/Blend/Val"] * 52,
        "/VMC/Ext/Blend/Apply",
    ]
    assert found[0][1] == [1]
    assert [args for address, args in found if address == "/VMC/Ext/Blend/Val"] == [
        [name, value] for name, value in zip(NAMES, pose[:SHAPES].tolist(), strict=True)
    ]


@pytest.mark.parametrize("presets", ["none", "vrm0"])
def test_bundles_stay_below_an_ethernet_packet_and_apply_is_last_of_the_last(presets: str) -> None:
    packets = Encoder(presets=presets).encode(frame(some_pose()))
    assert len(packets) > 1
    assert max(map(len, packets)) <= 1472
    addresses = [[address for address, _ in messages([data])] for data in packets]
    assert sum(a.count("/VMC/Ext/Blend/Apply") for a in addresses) == 1
    assert addresses[-1][-1] == "/VMC/Ext/Blend/Apply"
    assert len(clips(packets)) == (52 if presets == "none" else 63)


def test_one_bundle_a_frame_is_the_same_messages() -> None:
    pose = some_pose()
    (whole,) = Encoder(whole=True).encode(frame(pose))
    assert len(whole) > 1500
    assert messages([whole]) == messages(Encoder().encode(frame(pose)))


def test_every_value_is_a_float_even_a_whole_one() -> None:
    packets = Encoder(presets="vrm0").encode(frame(pose_from_names({"JawOpen": 1.0})))
    assert {type(value) for value in clips(packets).values()} == {float}
    assert {type(value) for numbers in bones(packets).values() for value in numbers} == {float}


def test_nothing_is_left_out_of_a_frame_that_has_not_changed() -> None:
    encoder = Encoder()
    first, second = (messages(encoder.encode(frame(neutral(), number))) for number in (0, 1))
    assert len(first) == len(second) == 59


def test_names_may_be_camel() -> None:
    assert list(clips(Encoder(naming="camel").encode(frame(neutral())))) == [n[0].lower() + n[1:] for n in NAMES]


def test_time_counts_from_the_first_frame() -> None:
    encoder = Encoder()
    times = []
    for number, subframe in ((5_184_000, 0.0), (5_184_001, 0.5), (5_187_600, 0.0)):
        packets = encoder.encode(Frame("Face", number, subframe, FrameRate(), neutral()))
        times += [args[0] for address, args in messages(packets) if address == "/VMC/Ext/T"]
    assert times == pytest.approx([0.0, 0.025, 60.0])


def test_one_encoder_writes_frame_after_frame_and_keeps_nothing() -> None:
    encoder = Encoder(presets="vrm0")
    first = encoder.encode(frame(some_pose()))
    copy = [bytes(data) for data in first]
    encoder.encode(frame(some_pose(6)))
    assert first == copy
    assert encoder.encode(frame(some_pose())) == copy


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("naming", {"naming": "snake"}),
        ("presets", {"presets": "vrm2"}),
        ("bones", {"bones": ["Hips"]}),
        ("bones", {"positions": {"Jaw": (0, 0, 0)}}),
    ],
)
def test_names_that_do_not_exist_are_refused(field: str, settings: dict[str, Any]) -> None:
    with pytest.raises(EncodeError, match=f"^{field}: "):
        Encoder(**settings)


# --- bones


def test_a_face_at_rest_has_identity_rotations_and_never_zero_ones() -> None:
    assert bones(Encoder().encode(frame(neutral()))) == {bone: [0, 0, 0, 0, 0, 0, 1] for bone in BONES}


@pytest.mark.parametrize(
    ("channels", "bone", "axis", "towards"),
    [
        # In Unity X is the avatar's own right, Y up, Z forward: where does the nose (or the crown) go?
        ({"HeadYaw": 0.3}, "Head", (0, 0, 1), (-1, 0, 0)),
        ({"HeadPitch": 0.3}, "Head", (0, 0, 1), (0, 1, 0)),
        ({"HeadRoll": 0.3}, "Head", (0, 1, 0), (-1, 0, 0)),
        ({"LeftEyeYaw": 0.3}, "LeftEye", (0, 0, 1), (1, 0, 0)),
        ({"LeftEyePitch": 0.3}, "LeftEye", (0, 0, 1), (0, -1, 0)),
        ({"RightEyeYaw": 0.3}, "RightEye", (0, 0, 1), (1, 0, 0)),
        ({"RightEyePitch": 0.3}, "RightEye", (0, 0, 1), (0, -1, 0)),
    ],
)
def test_bones_turn_the_way_the_channels_say(
    channels: dict[str, float], bone: str, axis: tuple[int, int, int], towards: tuple[int, int, int]
) -> None:
    found = bones(Encoder(bones=["Head", "LeftEye", "RightEye"]).encode(frame(pose_from_names(channels))))
    moved = turn(found[bone][3:], axis)
    assert np.dot(moved, towards) == pytest.approx(math.sin(0.3), abs=1e-6)
    assert np.dot(moved, axis) == pytest.approx(math.cos(0.3), abs=1e-6)
    others = [q[3:] for name, q in found.items() if name != bone]
    assert others == [[0, 0, 0, 1]] * 2


@pytest.mark.parametrize("seed", range(20))
def test_every_rotation_is_a_unit_quaternion(seed: int) -> None:
    for numbers in bones(Encoder().encode(frame(some_pose(seed)))).values():
        assert np.linalg.norm(numbers[3:]) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_neck_and_head_together_make_the_whole_turn(seed: int) -> None:
    pose = some_pose(seed)
    both = bones(Encoder().encode(frame(pose)))
    alone = bones(Encoder(bones=["Head"]).encode(frame(pose)))
    for axis in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):
        in_neck = turn(both["Neck"][3:], tuple(turn(both["Head"][3:], axis)))
        assert in_neck == pytest.approx(turn(alone["Head"][3:], axis), abs=1e-6)
    assert both["Neck"][3:] == both["Head"][3:]


def test_angles_are_applied_in_unitys_order() -> None:
    # Quaternion.Euler(pitch, yaw, roll) turns about Z, then X, then Y: the matrices of the textbook, multiplied.
    yaw, pitch, roll = 0.7, -0.4, 0.25
    cy, sy, cx, sx, cz, sz = (f(a) for a in (yaw, pitch, roll) for f in (math.cos, math.sin))
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    for axis in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)):
        assert turn(quaternion(yaw, pitch, roll), axis) == pytest.approx(about_y @ about_x @ about_z @ axis)


@pytest.mark.parametrize("seed", range(20))
def test_a_rotation_comes_back_as_its_angles(seed: int) -> None:
    given = np.random.default_rng(seed).uniform(-1.4, 1.4, 3).tolist()
    assert angles(quaternion(*given)) == pytest.approx(given)


def test_straight_down_does_not_leave_the_arc_sine() -> None:
    assert angles((0.7071068, 0.0, 0.0, 0.7071068))[1] == pytest.approx(math.pi / 2)


def test_bones_can_be_left_out_and_have_the_positions_of_a_model() -> None:
    packets = Encoder(bones=["Head", "LeftEye"], positions={"Head": (0.0, 0.08, 0.01)}).encode(frame(some_pose()))
    found = bones(packets)
    assert list(found) == ["Head", "LeftEye"]
    assert found["Head"][:3] == pytest.approx([0.0, 0.08, 0.01])
    assert found["LeftEye"][:3] == [0, 0, 0]
    assert bones(Encoder(bones=[]).encode(frame(some_pose()))) == {}


# --- the clips that every model has


def presets(pose: Pose) -> dict[str, float]:
    return dict(zip(VRM0, preset_weights(pose), strict=True))


def test_preset_names_are_those_of_the_version_and_come_beside_the_52() -> None:
    pose = some_pose()
    expected = dict(zip(NAMES, pose[:SHAPES].tolist(), strict=True))
    for version, names in (("vrm0", VRM0), ("vrm1", VRM1)):
        found = clips(Encoder(presets=version).encode(frame(pose)))
        assert list(found) == [*NAMES, *names]
        assert {name: found[name] for name in NAMES} == expected
        assert [found[name] for name in names] == pytest.approx(preset_weights(pose))
    table = dict(zip(VRM0, VRM1, strict=True))
    assert table == {
        "Joy": "happy", "Angry": "angry", "Sorrow": "sad", "Fun": "relaxed", "A": "aa", "I": "ih", "U": "ou",
        "E": "ee", "O": "oh", "Blink_L": "blinkLeft", "Blink_R": "blinkRight",
    }  # fmt: skip


def test_a_face_at_rest_has_no_preset() -> None:
    assert set(preset_weights(neutral())) == {0.0}


@pytest.mark.parametrize(("viseme", "clip"), [("aa", "A"), ("ih", "I"), ("ou", "U"), ("eh", "E"), ("oh", "O")])
def test_a_spoken_vowel_is_the_clip_of_its_name(viseme: str, clip: str) -> None:
    found = presets(VISEMES[viseme].pose)
    vowels = {name: found[name] for name in "AIUEO"}
    assert max(vowels, key=lambda name: vowels[name]) == clip
    assert vowels[clip] > 0.4


def test_lips_that_meet_open_no_mouth() -> None:
    found = presets(VISEMES["pp"].pose)
    assert [found[name] for name in "AEO"] == [0.0] * 3


@pytest.mark.parametrize(
    ("channels", "mood"),
    [
        ({"MouthSmileLeft": 0.8, "MouthSmileRight": 0.8, "CheekSquintLeft": 0.9, "CheekSquintRight": 0.9}, "Joy"),
        ({"MouthSmileLeft": 0.6, "MouthSmileRight": 0.6}, "Fun"),
        ({"BrowDownLeft": 0.9, "BrowDownRight": 0.9, "MouthFrownLeft": 0.4, "MouthFrownRight": 0.4}, "Angry"),
        ({"BrowInnerUp": 0.8, "MouthFrownLeft": 0.6, "MouthFrownRight": 0.6}, "Sorrow"),
    ],
)
def test_a_mood_shows_as_its_clip(channels: dict[str, float], mood: str) -> None:
    found = presets(pose_from_names(channels))
    moods = {name: found[name] for name in ("Joy", "Angry", "Sorrow", "Fun")}
    assert max(moods, key=lambda name: moods[name]) == mood
    assert moods[mood] >= 0.5


def test_surprise_is_not_sorrow() -> None:
    surprise = pose_from_names({"BrowInnerUp": 0.9, "BrowOuterUpLeft": 0.9, "BrowOuterUpRight": 0.9})
    assert presets(surprise)["Sorrow"] == pytest.approx(0.0)


def test_a_wink_closes_one_lid() -> None:
    found = presets(pose_from_names({"EyeBlinkLeft": 1.0}))
    assert (found["Blink_L"], found["Blink_R"]) == (1.0, 0.0)


@pytest.mark.parametrize("seed", range(50))
def test_presets_stay_within_their_range_and_share_mouth_and_face(seed: int) -> None:
    found = presets(some_pose(seed))
    assert all(0.0 <= value <= 1.0 for value in found.values())
    assert sum(found[name] for name in "AIUEO") <= 1.0 + 1e-6
    assert sum(found[name] for name in ("Joy", "Angry", "Sorrow", "Fun")) <= 1.0 + 1e-6


# --- in


@pytest.mark.parametrize("settings", [{}, {"whole": True}, {"naming": "camel"}, {"bones": ["Head", *BONES[2:]]}])
@pytest.mark.parametrize("seed", range(5))
def test_what_is_sent_is_read(settings: dict[str, Any], seed: int) -> None:
    pose, decoder = some_pose(seed), Decoder()
    poses = [pose for data in Encoder(**settings).encode(frame(pose)) for pose in decoder.feed(data)]
    assert len(poses) == 1
    assert poses[0] == pytest.approx(pose, abs=1e-5)


def test_packets_of_another_library_are_read_in_any_case_message_by_message() -> None:
    decoder = Decoder()
    values = (("JAWOPEN", 0.5), ("mouthLeft", 0.25), ("EyeLookInLeft", 0.5), ("Joy", 1.0), ("unknown", 1.0))
    for name, value in values:
        assert decoder.feed(python_osc(("/VMC/Ext/Blend/Val", [(name, "s"), (value, "f")]))) == []
    root: list[tuple[Any, str]] = [("root", "s"), *[(9.0, "f")] * 7]
    assert decoder.feed(python_osc(("/VMC/Ext/OK", [(1, "i")]), ("/VMC/Ext/Root/Pos", root))) == []
    (pose,) = decoder.feed(python_osc(("/VMC/Ext/Blend/Apply", [])))
    expected = {"JawOpen": 0.5, "MouthLeft": 0.25, "EyeLookInLeft": 0.5, "LeftEyeYaw": 0.5 * EYE_RADIANS}
    assert pose == pytest.approx(pose_from_names(expected))


def test_a_value_that_is_not_sent_again_stays_and_every_apply_is_a_pose() -> None:
    decoder = Decoder()

    def val(name: str, value: float) -> tuple[str, list[tuple[Any, str]]]:
        return "/VMC/Ext/Blend/Val", [(name, "s"), (value, "f")]

    apply: tuple[str, list[tuple[Any, str]]] = ("/VMC/Ext/Blend/Apply", [])
    first, second = decoder.feed(python_osc(val("JawOpen", 0.5), apply, val("MouthLeft", 0.5), apply))
    assert (first[INDEX["JawOpen"]], first[INDEX["MouthLeft"]]) == (0.5, 0.0)
    assert (second[INDEX["JawOpen"]], second[INDEX["MouthLeft"]]) == (0.5, 0.5)


def test_arguments_beyond_those_of_the_specification_are_ignored() -> None:
    (pose,) = Decoder().feed(
        python_osc(
            ("/VMC/Ext/Blend/Val", [("JawOpen", "s"), (0.5, "f"), (3, "i")]),
            ("/VMC/Ext/Bone/Pos", [("Head", "s"), *[(0.0, "f")] * 6, (1.0, "f"), ("more", "s")]),
            ("/VMC/Ext/Blend/Val", [("MouthLeft", "s"), (1, "i")]),  # not a float: not ours to guess
            ("/VMC/Ext/Blend/Apply", []),
        )
    )
    assert pose == pytest.approx(pose_from_names({"JawOpen": 0.5}))


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"hello",
        b"\x06\x00\x00\x00",
        python_osc(("/VMC/Ext/Blend/Val", [("JawOpen", "s"), (math.nan, "f")])),
        python_osc(("/VMC/Ext/Blend/Val", [("unknown", "s"), (math.inf, "f")])),
        python_osc(("/VMC/Ext/Bone/Pos", [("Head", "s"), *[(0.0, "f")] * 7])),
        python_osc(("/VMC/Ext/Bone/Pos", [("Head", "s"), *[(math.nan, "f")] * 7])),
        b"/VMC/Ext/Blend/Val\0\0,sf\0JawOpen\0\x3f",
        b"/VMC/Ext/Blend/Val\0\0,sf\0JawOpen",
        b"/VMC/Ext/Blend/Val\0\0,sf",
    ],
)
def test_what_is_no_vmc_is_refused(packet: bytes) -> None:
    with pytest.raises(DecodeError):
        Decoder().feed(packet)


@pytest.mark.parametrize("seed", range(200))
def test_no_datagram_raises_anything_but_a_decode_error(seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = bytearray(Encoder(whole=True).encode(frame(some_pose(seed)))[0][: rng.integers(16, 400)])
    for at in rng.integers(0, len(data), 4):
        data[at] = rng.integers(256)
    try:
        poses = Decoder().feed(bytes(data))
    except DecodeError:
        return
    assert all(np.isfinite(pose).all() for pose in poses)


def test_ports_are_those_of_the_specification() -> None:
    assert vmc.DEFAULT_PORT == 39539
