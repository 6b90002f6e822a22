import numpy as np
import pytest
from pythonosc.osc_bundle import OscBundle
from pythonosc.osc_message import OscMessage
from pythonosc.osc_packet import OscPacket

from kff_live.protocols.channels import COUNT, LIVELINK, LOW, Pose, neutral, pose_from_names
from kff_live.protocols.errors import EncodeError
from kff_live.protocols.frames import Frame, FrameRate
from kff_live.protocols.osc import NAMINGS, Encoder, subject_address


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


@pytest.mark.parametrize("naming", NAMINGS)
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
@pytest.mark.parametrize("naming", NAMINGS)
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
    with pytest.raises(EncodeError, match="naming: 'vmc' is not one of pose, channels, camel"):
        Encoder("Face", naming="vmc")
