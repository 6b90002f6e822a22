import hashlib
import struct
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

from kff_live.protocols.channels import COUNT, INDEX, LIVELINK, LOW, Pose, neutral, pose_from_names
from kff_live.protocols.errors import DecodeError, EncodeError
from kff_live.protocols.frames import Frame, FrameRate
from kff_live.protocols.livelink import MAX_NAMES, VERSION, Encoder, Packet, decode

# A whole packet, worked out field by field from the engine's source: device AVATAR-1, subject Face, frame 3600 + 0.25
# at 60/1; EyeBlinkLeft 1, JawOpen 0.5, MouthLeft 0.25, HeadYaw -0.125.
GOLDEN_HEAD = bytes.fromhex(
    "06 00000008 4156415441522d31 00000004 46616365 00000e10 3e800000 0000003c 00000001 3d"  # 38 bytes
)
GOLDEN_SHA256 = "2d9f9a2fcb52b10168cdc8b24707b76df7a2418ee664286d022ceb36df3e1b39"
GOLDEN_POSE = {"EyeBlinkLeft": 1.0, "JawOpen": 0.5, "MouthLeft": 0.25, "HeadYaw": -0.125}
GOLDEN_FLOATS = {0x26: "3f800000", 0x6A: "3f000000", 0x7A: "3e800000", 0xF6: "be000000"}

# (device, subject, number, sub-frame, rate, header up to the rate): drives encoder and decoder.
HEADERS: list[tuple[str, str, int, float, FrameRate, str]] = [
    ("AVATAR-1", "Face", 3600, 0.25, FrameRate(60), GOLDEN_HEAD[:-1].hex()),
    ("Ä", "顔", 0, 0.0, FrameRate(60), "0600000002c38400000003e9a19400000000000000000000003c00000001"),
    ("a", "b", 1, 0.5, FrameRate(30000, 1001), "060000000161000000016200000001" "3f00000000007530000003e9"),
    ("🙂", "x y", 2**31 - 1, 0.0, FrameRate(24),
     "0600000004f09f9982000000037820797fffffff000000000000001800000001"),
]  # fmt: skip


def golden() -> bytes:
    data = bytearray(GOLDEN_HEAD + bytes(244))
    for at, value in GOLDEN_FLOATS.items():
        data[at : at + 4] = bytes.fromhex(value)
    return bytes(data)


def encode(
    pose: Pose, *, device: str = "AVATAR-1", subject: str = "Face", number: int = 3600, subframe: float = 0.25
) -> bytes:
    rate = FrameRate()
    return Encoder(device, subject, rate).encode(Frame(subject, number, subframe, rate, pose))


def pose_of(packet: Packet) -> Pose:
    assert isinstance(packet.pose, np.ndarray)
    assert packet.pose.dtype == np.float32
    return packet.pose


def some_pose(seed: int = 7) -> Pose:
    return np.random.default_rng(seed).uniform(LOW, 1.0).astype(np.float32)


def test_golden_packet_is_the_one_that_was_worked_out() -> None:
    assert len(golden()) == 282
    assert hashlib.sha256(golden()).hexdigest() == GOLDEN_SHA256


def test_golden_packet_is_encoded() -> None:
    assert encode(pose_from_names(GOLDEN_POSE)) == golden()


def test_golden_packet_is_decoded() -> None:
    packet = decode(golden())
    assert (packet.device, packet.subject, packet.number, packet.subframe) == ("AVATAR-1", "Face", 3600, 0.25)
    assert packet.rate == FrameRate(60, 1)
    assert np.array_equal(pose_of(packet), pose_from_names(GOLDEN_POSE))


@pytest.mark.parametrize(("device", "subject", "number", "subframe", "rate", "head"), HEADERS)
def test_header_and_fields_are_each_others_form(
    device: str, subject: str, number: int, subframe: float, rate: FrameRate, head: str
) -> None:
    data = Encoder(device, subject, rate).encode(Frame(subject, number, subframe, rate, neutral()))
    assert data == bytes.fromhex(head) + b"\x3d" + bytes(244)
    assert len(data) == 270 + len(device.encode()) + len(subject.encode())
    packet = decode(data)
    assert packet == Packet(device, subject, number, subframe, rate, packet.pose)
    assert not np.any(pose_of(packet))


@pytest.mark.parametrize("name", LIVELINK)
def test_each_channel_lies_at_its_place_in_the_packet(name: str) -> None:
    pose = neutral()
    pose[INDEX[name]] = 0.75
    data = encode(pose)
    assert [i for i in range(61) if data[38 + 4 * i : 42 + 4 * i] == b"\x3f\x40\x00\x00"] == [INDEX[name]]
    assert np.array_equal(pose_of(decode(data)), pose)


@pytest.mark.parametrize("seed", range(10))
def test_any_frame_comes_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pose = some_pose(seed)
    subframe = float(np.float32(rng.random()))
    packet = decode(encode(pose, device="d" * 36, subject="顔" * 20, number=seed, subframe=subframe))
    assert (packet.number, packet.subframe) == (seed, subframe)
    assert np.array_equal(pose_of(packet), pose)


def test_one_encoder_writes_frame_after_frame_and_keeps_nothing() -> None:
    encoder = Encoder("AVATAR-1", "Face", FrameRate())
    first = encoder.encode(Frame("Face", 1, 0.75, FrameRate(), np.ones(COUNT, np.float32)))
    assert encoder.encode(Frame("Face", 3600, 0.25, FrameRate(), pose_from_names(GOLDEN_POSE))) == golden()
    assert first[-4:] == b"\x3f\x80\x00\x00"


def test_a_subframe_just_below_one_does_not_become_one_on_the_wire() -> None:
    packet = decode(encode(neutral(), subframe=1.0 - 1e-12))
    assert 0.9999 < packet.subframe < 1.0


@pytest.mark.parametrize("subject", ["Face", "a", "with space"])
def test_another_implementation_reads_the_packet(subject: str, require: Callable[[str], ModuleType]) -> None:
    # It takes the version, a fixed id length of 36 and the low byte of the rate's numerator on trust.
    library = require("pylivelinkface")
    device = "12345678-1234-1234-1234-123456789abc"
    pose = some_pose()
    data = encode(pose, device=device, subject=subject, number=3600, subframe=0.25)
    has_face, face = library.PyLiveLinkFace.decode(data)
    assert has_face
    assert (face.uuid, face.name, face._frames, face._sub_frame) == ("$" + device, subject, 3600, 0.25)
    for shape in library.FaceBlendShape:
        assert face.get_blendshape(shape) == pose[INDEX[shape.name]]


def test_packet_of_another_implementation_is_read(require: Callable[[str], ModuleType]) -> None:
    library = require("pylivelinkface")
    face = library.PyLiveLinkFace(name="Face", uuid="12345678-1234-1234-1234-123456789abc", fps=60)
    pose = some_pose()
    for shape in library.FaceBlendShape:
        face.set_blendshape(shape, float(pose[INDEX[shape.name]]), no_filter=True)
    packet = decode(face.encode())
    assert (packet.device, packet.subject) == ("12345678-1234-1234-1234-123456789abc", "Face")
    assert packet.rate == FrameRate(60, 1)
    assert np.array_equal(pose_of(packet), pose)


@pytest.mark.parametrize("length", range(282))
def test_packet_cut_at_any_length_is_refused_or_has_no_face(length: int) -> None:
    data = golden()[:length]
    if length == 37:  # ends after the frame rate
        assert decode(data).pose is None
    else:
        with pytest.raises(DecodeError, match=r"version|length"):
            decode(data)


def test_no_face_packet_keeps_its_header() -> None:
    packet = decode(golden()[:37])
    assert packet == Packet("AVATAR-1", "Face", 3600, 0.25, FrameRate(60), None)


@pytest.mark.parametrize("tail", [b"\0", b"\x06" * 100])
def test_bytes_after_the_last_value_are_ignored(tail: bytes) -> None:
    packet = decode(golden() + tail)
    assert np.array_equal(pose_of(packet), pose_from_names(GOLDEN_POSE))


def changed(at: int, new: str) -> bytes:
    data = bytearray(golden())
    value = bytes.fromhex(new)
    data[at : at + len(value)] = value
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "version: expected 6, got an empty datagram"),
        (changed(0, "05"), "version: expected 6, got 5"),
        (changed(0, "07"), "version: expected 6, got 7"),
        (b'{"type":"say"}', "version: expected 6, got 123"),
        (changed(1, "ffffffff"), "device length: -1 does not fit"),
        (changed(1, "80000000"), "device length: -2147483648 does not fit"),
        (changed(1, "7fffffff"), "device length: 2147483647 does not fit"),
        (changed(1, "08000000"), "device length: 134217728 does not fit"),  # little-endian
        (changed(13, "fffffffe"), "subject length: -2 does not fit"),
        (changed(13, "00000111"), "subject length: 273 does not fit"),
        (changed(5, "ff"), "device: not valid UTF-8"),
        (changed(17, "c3"), "subject: not valid UTF-8"),
        (changed(25, "3f800000"), r"sub-frame: 1\.0 is outside"),
        (changed(25, "bf000000"), r"sub-frame: -0\.5 is outside"),
        (changed(25, "7fc00000"), "sub-frame: nan is outside"),
        (changed(29, "00000000"), "frame rate numerator: 0 is outside"),
        (changed(33, "00000000"), "frame rate denominator: 0 is outside"),
        (changed(33, "ffffffff"), "frame rate denominator: -1 is outside"),
        (changed(37, "34"), "count: expected 61, got 52"),
        (changed(37, "00"), "count: expected 61, got 0"),
        (changed(0x6A, "7fc00000"), "values: one is not a finite number"),
        (changed(0x116, "ff800000"), "values: one is not a finite number"),
    ],
)  # fmt: skip
def test_what_a_strict_receiver_would_drop_is_refused_with_its_reason(data: bytes, message: str) -> None:
    with pytest.raises(DecodeError, match=f"^{message}"):
        decode(data)


@pytest.mark.parametrize("seed", range(200))
def test_no_datagram_raises_anything_but_a_decode_error(seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = bytearray(golden())
    for at in rng.integers(0, 40, 3):  # in the header, where it matters
        data[at] = rng.integers(256)
    try:
        packet = decode(bytes(data))
    except DecodeError:
        return
    assert packet.pose is not None


@pytest.mark.parametrize(
    ("device", "subject", "message"),
    [
        ("", "Face", "device: '' must not be empty"),
        ("d", "", "subject: '' must not be empty"),
        ("d\0", "Face", "device: .* or hold NUL"),
        ("d", "Fa\0ce", "subject: .* or hold NUL"),
        ("d", "\ud800", "subject: .* is not valid Unicode"),
        ("d", "x" * MAX_NAMES, "subject: device id and subject have 201 bytes, at most 200"),
        ("d", "顔" * 67, "subject: device id and subject have 202 bytes, at most 200"),
    ],
)
def test_names_that_cannot_be_sent_are_refused(device: str, subject: str, message: str) -> None:
    with pytest.raises(EncodeError, match=f"^{message}"):
        Encoder(device, subject, FrameRate())


def test_the_longest_names_are_sent() -> None:
    subject = "x" * (MAX_NAMES - 1)
    assert decode(encode(neutral(), device="d", subject=subject)).subject == subject


def test_no_packet_is_longer_than_the_receivers_buffer() -> None:
    assert 270 + MAX_NAMES <= 1286
    assert struct.pack(">B", VERSION) == b"\x06"
