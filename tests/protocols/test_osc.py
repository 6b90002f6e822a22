import struct

import numpy as np
import pytest
from pythonosc.osc_bundle import OscBundle
from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
from pythonosc.osc_message import OscMessage
from pythonosc.osc_message_builder import OscMessageBuilder
from pythonosc.osc_packet import OscPacket

from kff_live.protocols.channels import COUNT, INDEX, LIVELINK, LOW, Pose, neutral, pose_from_names
from kff_live.protocols.errors import DecodeError, EncodeError
from kff_live.protocols.frames import Frame, FrameRate
from kff_live.protocols.osc import (
    BUNDLE,
    FACE_CAP,
    MAX_DEPTH,
    NAMINGS,
    Encoder,
    Template,
    elements,
    message,
    split,
    subject_address,
)

OURS = NAMINGS[:3]
"""Conventions in which every channel has a float of its own."""


def encode(pose: Pose, *, subject: str = "Face", prefix: str = "/kff", naming: str = "pose") -> bytes:
    return Encoder(subject, prefix=prefix, naming=naming).encode(Frame(subject, 0, 0.0, FrameRate(), pose))


def decoded(data: bytes) -> dict[str, list[float]]:
    """What another library reads: addresses in order, each with its arguments."""
    return {timed.message.address: list(timed.message.params) for timed in OscPacket(data).messages}


def some_pose(seed: int = 3) -> Pose:
    return np.random.default_rng(seed).uniform(LOW, 1.0).astype(np.float32)


def test_golden_bytes_of_a_pose_message() -> None:
    data = encode(pose_from_names({"EyeBlinkLeft": 1.0, "JawOpen": 0.5, "HeadYaw": -0.125}))
    head = b"/kff/Face/pose\0\0" + b"," + b"f" * 61 + b"\0\0"
    assert data[:80] == head
    assert data[80:84] == b"\x3f\x80\x00\x00"
    assert data[80 + 4 * 17 : 80 + 4 * 18] == b"\x3f\x00\x00\x00"
    assert data[80 + 4 * 52 : 80 + 4 * 53] == b"\xbe\x00\x00\x00"
    assert len(data) == 80 + 244


def test_golden_bytes_of_a_channel_bundle_begin_with_the_first_channel() -> None:
    data = encode(pose_from_names({"EyeBlinkLeft": 1.0}), naming="channels")
    message = b"/kff/Face/EyeBlinkLeft\0\0,f\0\0\x3f\x80\x00\x00"
    assert data.startswith(b"#bundle\0" + b"\0\0\0\0\0\0\0\x01" + b"\x00\x00\x00\x20" + message)


def test_pose_message_is_read_by_another_library() -> None:
    pose = some_pose()
    data = encode(pose)
    assert OscMessage.dgram_is_message(data)
    assert decoded(data) == {"/kff/Face/pose": pose.tolist()}


@pytest.mark.parametrize(
    ("naming", "names"),
    [("channels", list(LIVELINK)), ("camel", [name[0].lower() + name[1:] for name in LIVELINK])],
)
def test_bundle_is_read_by_another_library(naming: str, names: list[str]) -> None:
    pose = some_pose()
    data = encode(pose, naming=naming)
    assert OscBundle.dgram_is_bundle(data)
    assert OscBundle(data).num_contents == COUNT
    expected = {f"/kff/Face/{name}": [value] for name, value in zip(names, pose.tolist(), strict=True)}
    assert decoded(data) == expected


@pytest.mark.parametrize("naming", OURS)
def test_every_value_is_a_float_even_a_whole_one(naming: str) -> None:
    values = [
        value
        for arguments in decoded(encode(np.ones(COUNT, np.float32), naming=naming)).values()
        for value in arguments
    ]
    assert len(values) == COUNT
    assert {type(value) for value in values} == {float}


@pytest.mark.parametrize("naming", NAMINGS)
def test_one_encoder_writes_frame_after_frame_and_keeps_nothing(naming: str) -> None:
    encoder = Encoder("Face", naming=naming)
    first = encoder.encode(Frame("Face", 1, 0.0, FrameRate(), some_pose()))
    copy = bytes(first)
    assert encoder.encode(Frame("Face", 2, 0.0, FrameRate(), neutral())) == encode(neutral(), naming=naming)
    assert first == copy == encode(some_pose(), naming=naming)


@pytest.mark.parametrize("subject", ["F", "Fa", "Fac", "Face", "Faces"])  # every padding
@pytest.mark.parametrize("naming", OURS)
def test_values_lie_right_behind_names_of_any_length(subject: str, naming: str) -> None:
    pose = some_pose()
    data = encode(pose, subject=subject, naming=naming)
    assert len(data) % 4 == 0
    assert [value for arguments in decoded(data).values() for value in arguments] == pose.tolist()


def test_pose_message_fits_into_one_ethernet_packet() -> None:
    assert len(encode(neutral(), subject="x" * 200)) <= 1472 < len(encode(neutral(), naming="channels"))


@pytest.mark.parametrize(
    ("subject", "address"),
    [
        ("Face", "Face"), ("Face-1.b", "Face-1.b"), ("two words", "two%20words"), ("a/b", "a%2Fb"),
        ("a#*,?[]{}b", "a%23%2A%2C%3F%5B%5D%7B%7Db"), ("50%", "50%25"),
        ("Ä", "%C3%84"), ("tab\t", "tab%09"), ("del\x7f", "del%7F"),
    ],
)  # fmt: skip
def test_subject_becomes_an_address_part(subject: str, address: str) -> None:
    assert subject_address(subject) == address
    assert list(decoded(encode(neutral(), subject=subject))) == [f"/kff/{address}/pose"]


@pytest.mark.parametrize(
    ("prefix", "address"), [("", "/Face/pose"), ("/a/b", "/a/b/Face/pose"), ("/x.y", "/x.y/Face/pose")]
)
def test_prefix_comes_first(prefix: str, address: str) -> None:
    assert list(decoded(encode(neutral(), prefix=prefix))) == [address]


@pytest.mark.parametrize(
    "prefix", ["kff", "/", "/kff/", "//kff", "/k ff", "/kff*", "/k#", "/{a,b}", "/kff\n", "/kfä", "/[a]"]
)
def test_prefix_that_is_no_address_is_refused(prefix: str) -> None:
    with pytest.raises(EncodeError, match=r"^prefix: "):
        Encoder("Face", prefix=prefix)


def test_naming_that_does_not_exist_is_refused() -> None:
    with pytest.raises(EncodeError, match="naming: 'vmc' is not one of pose, channels, camel, facecap"):
        Encoder("Face", naming="vmc")


# --- Face Cap


def face_cap(data: bytes) -> tuple[dict[int, float], list[float]]:
    """Weights by index, and the head's angles, as another library reads them."""
    weights, head = {}, []
    for timed in OscPacket(data).messages:
        if timed.message.address == "/W":
            index, weight = timed.message.params
            assert (type(index), type(weight)) == (int, float)
            weights[index] = weight
        else:
            assert timed.message.address == "/HR"
            head = timed.message.params
    return weights, head


def test_golden_bytes_of_a_face_cap_weight() -> None:
    data = encode(pose_from_names({"JawOpen": 0.5}), naming="facecap")
    assert bytes.fromhex("2f570000 2c696600 00000018 3f000000") in data


def test_face_cap_weights_are_in_the_apps_order_and_read_by_another_library() -> None:
    pose = some_pose()
    weights, head = face_cap(encode(pose, naming="facecap"))
    assert weights == {i: float(pose[INDEX[name]]) for i, name in enumerate(FACE_CAP)}
    # (index, name) as the app's list has them: a few of each group, and both neighbours where sides are easily swapped.
    known = {0: "BrowInnerUp", 5: "EyeLookUpLeft", 9: "EyeLookInLeft", 13: "EyeBlinkLeft", 17: "EyeWideLeft",
             19: "CheekPuff", 24: "JawOpen", 25: "JawForward", 26: "JawLeft", 27: "JawRight", 30: "MouthLeft",
             31: "MouthRight", 32: "MouthRollUpper", 33: "MouthRollLower", 36: "MouthClose", 43: "MouthUpperUpLeft",
             45: "MouthLowerDownLeft", 49: "MouthStretchLeft", 50: "MouthStretchRight", 51: "TongueOut"}  # fmt: skip
    assert {i: FACE_CAP[i] for i in known} == known
    assert sorted(FACE_CAP) == sorted(LIVELINK[:52])
    assert len(head) == 3


def test_a_face_cap_head_comes_back_as_the_live_link_angles_that_were_sent() -> None:
    pose = pose_from_names({"HeadYaw": 0.5, "HeadPitch": 0.25, "HeadRoll": -0.125})
    _, (a0, a1, a2) = face_cap(encode(pose, naming="facecap"))
    # OscLiveLink reads pitch = -a0, yaw = a1, roll = a2, in degrees.
    assert np.radians([a1, -a0, a2]) == pytest.approx([0.5, 0.25, -0.125])


# --- templates, bundles


def test_a_template_is_what_python_osc_would_build() -> None:
    parts = [message("/a", "name", 7, floats=2), message("/b"), message("/c", floats=1)]
    values = np.array([0.25, -1.0, 3.5], np.float32)
    bundle = OscBundleBuilder(IMMEDIATELY)
    expected: list[tuple[str, list[str | float]]] = [("/a", ["name", 7, 0.25, -1.0]), ("/b", []), ("/c", [3.5])]
    for address, arguments in expected:
        builder = OscMessageBuilder(address)
        for argument in arguments:
            builder.add_arg(argument)
        bundle.add_content(builder.build())
    assert Template(parts).fill(values) == bundle.build().dgram


def test_a_template_without_floats_is_filled_as_well() -> None:
    assert Template([message("/a")]).fill(np.empty(0, np.float32)) == BUNDLE + b"\0\0\0\x08/a\0\0,\0\0\0"


def test_messages_are_split_into_as_few_bundles_as_hold_them() -> None:
    parts = [bytes(100)] * 10
    assert [len(run) for run in split(parts, 16 + 3 * 104)] == [3, 3, 3, 1]
    assert [len(run) for run in split(parts, 16 + 3 * 104 - 1)] == [2, 2, 2, 2, 2]
    assert [len(run) for run in split(parts, 5)] == [1] * 10
    assert split([], 100) == []


def nested(depth: int) -> bytes:
    packet = b"/x\0\0,\0\0\0"
    for _ in range(depth):
        packet = BUNDLE + struct.pack(">i", len(packet)) + packet
    return packet


def test_messages_are_found_in_bundles_within_bundles() -> None:
    inner = nested(1)
    packet = BUNDLE + struct.pack(">i", len(inner)) + inner + b"\0\0\0\x08/y\0\0,\0\0\0"
    assert list(elements(packet)) == [b"/x\0\0,\0\0\0", b"/y\0\0,\0\0\0"]
    assert list(elements(b"/z")) == [b"/z"]
    assert list(elements(nested(MAX_DEPTH))) == [b"/x\0\0,\0\0\0"]


@pytest.mark.parametrize(
    ("packet", "said"),
    [
        (nested(MAX_DEPTH + 1), "bundle: deeper than 8"),
        (nested(1)[:-1], "bundle: an element at byte 16 does not fit into 27 bytes"),
        (BUNDLE + b"\xff\xff\xff\xff/x\0\0", "bundle: an element at byte 16 does not fit"),
        (BUNDLE + b"\0\0", "bundle: an element at byte 16 does not fit"),
    ],
)
def test_a_bundle_whose_lengths_do_not_fit_is_refused(packet: bytes, said: str) -> None:
    with pytest.raises(DecodeError, match=f"^{said}"):
        list(elements(packet))


@pytest.mark.parametrize("naming", NAMINGS)
def test_no_type_tag_is_sent_that_unreal_does_not_know(naming: str) -> None:
    data = encode(some_pose(), naming=naming)
    tags = {tag for part in elements(data) for tag in part[part.index(b",") + 1 :].partition(b"\0")[0].decode()}
    assert tags <= set("cifdhtsbrTFNI")
    assert "f" in tags
