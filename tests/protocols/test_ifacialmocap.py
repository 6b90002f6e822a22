"""iFacialMocap, read by parsers that follow the rules of its receivers, the strictest first."""

import math
import re
from dataclasses import dataclass, field

import numpy as np
import pytest

from kff_live.protocols.channels import EYE_RADIANS, INDEX, LIVELINK, LOW, SHAPES, Pose, neutral, pose_from_names
from kff_live.protocols.errors import DecodeError
from kff_live.protocols.frames import Frame, FrameRate
from kff_live.protocols.ifacialmocap import HANDSHAKE, NAMES, Encoder, asked_version, decode

# The app's names, as its receiver VRC_iFacialMocap lists them.
APP = (
    "mouthSmile_R", "eyeLookOut_L", "mouthUpperUp_L", "eyeWide_R", "mouthClose", "mouthPucker", "mouthRollLower",
    "eyeBlink_R", "eyeLookDown_L", "cheekSquint_R", "eyeBlink_L", "tongueOut", "jawRight", "eyeLookIn_R",
    "cheekSquint_L", "mouthDimple_L", "mouthPress_L", "eyeSquint_L", "mouthRight", "mouthShrugLower", "eyeLookUp_R",
    "eyeLookOut_R", "mouthPress_R", "cheekPuff", "jawForward", "mouthLowerDown_L", "mouthFrown_L", "mouthShrugUpper",
    "browOuterUp_L", "browInnerUp", "mouthDimple_R", "browDown_R", "mouthUpperUp_R", "mouthRollUpper", "mouthFunnel",
    "mouthStretch_R", "mouthFrown_R", "eyeLookDown_R", "jawOpen", "jawLeft", "browDown_L", "mouthSmile_L",
    "noseSneer_R", "mouthLowerDown_R", "noseSneer_L", "eyeWide_L", "mouthStretch_L", "browOuterUp_R", "eyeLookIn_L",
    "eyeSquint_R", "eyeLookUp_L", "mouthLeft",
)  # fmt: skip


@dataclass
class Read:
    """What a receiver got out of a packet: shapes 0 to 100, angles in degrees."""

    shapes: dict[str, int] = field(default_factory=dict)
    head: list[float] = field(default_factory=list)
    eyes: dict[str, list[float]] = field(default_factory=dict)


def whole(text: str) -> int:
    """`int.TryParse` and `int.Parse`: digits and a sign, nothing else."""
    assert re.fullmatch(r"[+-]?\d+", text), text
    return int(text)


def number(text: str) -> float:
    """`float.Parse` of the invariant culture."""
    assert re.fullmatch(r"-?\d+(\.\d+)?", text), text
    return float(text)


def vmagicmirror(data: bytes, last: bytes = b"") -> Read:
    """Exactly one "=", sections that end with "|", a name up to "-", the head alone; a packet twice means lost."""
    assert data != last, "tracking lost: the same packet again"
    text = data.decode("ascii").replace(" ", "")
    assert text.count("=") == 1
    shapes, _, rest = text.partition("=")
    read = Read()
    *sections, after = shapes.split("|")
    assert after == ""  # what no "|" ends is not looked at
    for section in sections:
        name, _, value = section.partition("-")
        read.shapes[name] = whole(value)
    *sections, after = rest.split("|")
    assert after == ""
    for section in sections:
        name, _, values = section.partition("#")
        if name == "head":
            read.head = [number(value) for value in values.split(",")[:3]]
    return read


def vrcft_module(data: bytes) -> Read:
    """Version 2; the first and the last field are dropped unseen; "=head" with 6 numbers, eyes with 3."""
    read = Read()
    for part in data.decode("ascii").split("|")[1:-1]:
        if "&" in part:
            name, value = part.split("&")
            read.shapes[name] = whole(value)
        else:
            name, values = part.split("#")
            numbers = [number(value) for value in values.split(",")]
            assert (name, len(numbers)) in [("=head", 6), ("rightEye", 3), ("leftEye", 3)]
            if name == "=head":
                read.head = numbers[:3]
            else:
                read.eyes[name] = numbers
    return read


def warudo(data: bytes) -> Read:
    """No spaces, one "=", a name up to the first "-", whole numbers; head of 3 or 6 numbers, eyes of 3."""
    text = data.decode("ascii").replace(" ", "")
    assert text.count("=") == 1
    shapes, _, rest = text.partition("=")
    read = Read()
    for part in filter(None, shapes.split("|")):
        name, _, value = part.partition("-")
        read.shapes[name] = whole(value)
    for part in filter(None, rest.split("|")):
        name, values = part.split("#")
        numbers = [number(value) for value in values.split(",")]
        if name == "head":
            assert len(numbers) in (3, 6)
            read.head = numbers[:3]
        else:
            assert len(numbers) == 3
            read.eyes[name] = numbers
    return read


def ifmproxy(data: bytes) -> Read:
    """The relay knows a packet by its beginning, and passes it on."""
    assert data.startswith(b"trackingStatus")
    return warudo(data)


VERSION_1 = (vmagicmirror, warudo, ifmproxy)


def frame(pose: Pose, number: int = 0) -> Frame:
    return Frame("Face", number, 0.0, FrameRate(), pose)


def some_pose(seed: int = 11) -> Pose:
    return np.random.default_rng(seed).uniform(LOW, 1.0).astype(np.float32)


def check(read: Read, pose: Pose) -> None:
    shapes = {name: value for name, value in read.shapes.items() if name != "trackingStatus"}
    assert shapes == {name: round(float(pose[i]) * 100) for i, name in enumerate(NAMES)}
    yaw, pitch, roll = (math.degrees(pose[INDEX[f"Head{axis}"]]) for axis in ("Yaw", "Pitch", "Roll"))
    assert read.head == pytest.approx([-pitch, yaw, -roll], abs=2e-4)


@pytest.mark.parametrize("receiver", VERSION_1)
@pytest.mark.parametrize("seed", range(5))
def test_every_receiver_of_version_1_reads_every_value(receiver: object, seed: int) -> None:
    assert callable(receiver)
    check(receiver(Encoder().encode(frame(some_pose(seed)))), some_pose(seed))


@pytest.mark.parametrize("seed", range(5))
def test_the_receiver_of_version_2_reads_every_value(seed: int) -> None:
    check(vrcft_module(Encoder("v2").encode(frame(some_pose(seed)))), some_pose(seed))


def test_golden_packet() -> None:
    pose = pose_from_names(
        {"EyeBlinkLeft": 0.07, "JawLeft": 0.25, "MouthSmileRight": 1.0, "HeadYaw": 0.25, "LeftEyePitch": 0.5}
    )
    text = Encoder().encode(frame(pose)).decode("ascii")
    assert text.startswith("trackingStatus-1|eyeBlink_L-7|eyeLookDown_L-0|")
    assert "|jawLeft-25|jawRight-0|" in text
    assert "|mouthSmile_L-0|mouthSmile_R-100|" in text
    head = r"\|tongueOut-0\|=head#-0\.0000\d,14\.32394,-0\.00000,0\.0,0\.0,0\.0\|"
    eyes = r"rightEye#0\.00000,-0\.00000,-0\.00000\|leftEye#28\.64789,-0\.00000,-0\.00000\|"
    assert re.search(head + eyes + "$", text)
    assert len(text) < 1472


def test_names_are_the_apps() -> None:
    assert sorted(NAMES) == sorted(APP)
    assert [NAMES[INDEX[name]] for name in ("JawLeft", "MouthRight", "BrowDownLeft", "EyeLookUpRight")] == [
        "jawLeft",
        "mouthRight",
        "browDown_L",
        "eyeLookUp_R",
    ]


def test_a_value_is_a_whole_number_from_0_to_100() -> None:
    values = {name: value / 1000 for name, value in zip(LIVELINK[:SHAPES], range(0, 1000, 19), strict=False)}
    read = warudo(Encoder().encode(frame(pose_from_names(values))))
    assert set(read.shapes.values()) <= set(range(101))


@pytest.mark.parametrize(
    ("channels", "eye", "angles"),
    [
        # Eyes: + down, + to the face's left, the opposite of Live Link's yaw. As in the vendor's samples, where an eye
        # that looks in by 25 of 100 is turned by 9 degrees: the left one to its right, the right one to its left.
        ({"LeftEyeYaw": 0.25 * EYE_RADIANS}, "leftEye", [0.0, -8.7, 0.0]),
        ({"RightEyeYaw": -0.25 * EYE_RADIANS}, "rightEye", [0.0, 8.7, 0.0]),
        ({"LeftEyePitch": 0.25 * EYE_RADIANS}, "leftEye", [8.7, 0.0, 0.0]),
    ],
)
def test_eyes_turn_the_way_the_vendors_samples_do(channels: dict[str, float], eye: str, angles: list[float]) -> None:
    assert warudo(Encoder().encode(frame(pose_from_names(channels)))).eyes[eye] == pytest.approx(angles, abs=0.1)


def test_a_frozen_face_is_not_taken_for_lost_tracking() -> None:
    encoder, last = Encoder(), b""
    for _ in range(10):
        data = encoder.encode(frame(neutral()))
        vmagicmirror(data, last)
        last = data


def test_no_two_packets_are_equal_whatever_the_head_does_and_the_difference_cannot_be_seen() -> None:
    encoder, last = Encoder(), b""
    for i in range(500):
        pose = pose_from_names({"HeadPitch": (i % 3) * 1e-7})
        data = encoder.encode(frame(pose))
        assert data != last
        assert abs(warudo(data).head[0]) < 1e-4
        last = data


def test_a_packet_does_not_depend_on_the_locale() -> None:
    text = Encoder().encode(frame(some_pose())).decode("ascii")
    assert text.count(",") == 5 + 2 + 2


@pytest.mark.parametrize(
    ("data", "version"),
    [
        (HANDSHAKE, "v1"),
        (HANDSHAKE + b"\n", "v1"),
        (HANDSHAKE + b"|sendDataVersion=v2", "v2"),
        (HANDSHAKE + b"|sendDataVersion=v1", "v1"),
        (b"iFacialMocap_UDPTCP_sahuasouryya9218sauhuiayeta91555dy3719", None),
        (b"iFacialMocap_UDPTCPSTOP_sahuasouryya9218sauhuiayeta91555dy3719", None),
        (b"FACEMOTION3D_OtherStreaming", None),
        (HANDSHAKE[:-1], None),
        (b"", None),
        (b"trackingStatus-1|jawOpen-5|=head#0,0,0|", None),
    ],
)
def test_a_handshake_says_which_version_it_wants(data: bytes, version: str | None) -> None:
    assert asked_version(data) == version


# --- in


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("seed", range(5))
def test_what_is_sent_is_read(version: str, seed: int) -> None:
    pose = some_pose(seed)
    read = decode(Encoder(version).encode(frame(pose)))
    assert read is not None
    assert read[:SHAPES] == pytest.approx(pose[:SHAPES], abs=0.0051)
    assert read[SHAPES:] == pytest.approx(pose[SHAPES:], abs=1e-5)


def test_the_apps_packets_are_read_with_the_signs_of_the_channels() -> None:
    # Head and eyes of a sample of the app; the old form without a status, with spaces, and a value that is below 0.
    pose = decode(
        b"mouthSmile_R - 20|eyeLookDown_L-17|eyeLookIn_L--3|jawOpen-12|hapihapi-0|"
        b"=head#-21.488958,-6.038993,-6.6019735,-0.030653415,-0.10287084,-0.6584072"
        b"|rightEye#6.0297494,2.4403017,0.25649446|leftEye#6.034903,-1.6660284,-0.17520553|"
    )
    assert pose is not None
    assert pose[INDEX["MouthSmileRight"]] == pytest.approx(0.2)
    assert pose[INDEX["EyeLookInLeft"]] == pytest.approx(-0.03)
    degrees = {
        "HeadPitch": 21.488958, "HeadYaw": -6.038993, "HeadRoll": 6.6019735, "LeftEyePitch": 6.034903,
        "LeftEyeYaw": 1.6660284, "RightEyeYaw": -2.4403017,
    }  # fmt: skip
    for channel, value in degrees.items():
        assert math.degrees(pose[INDEX[channel]]) == pytest.approx(value, abs=1e-4)
    # The angle of an eye and its shape say the same: 17 of 100 down.
    assert pose[INDEX["LeftEyePitch"]] / EYE_RADIANS == pytest.approx(pose[INDEX["EyeLookDownLeft"]], abs=0.01)


def test_eyes_follow_their_shapes_where_no_angles_come() -> None:
    pose = decode(b"eyeLookInLeft-50|=head#0,0,0|")
    assert pose is not None
    assert pose[INDEX["LeftEyeYaw"]] == pytest.approx(0.5 * EYE_RADIANS)


@pytest.mark.parametrize("status", [b"trackingStatus-0", b"trackingStatus&0"])
def test_a_face_that_is_not_tracked_is_none(status: bytes) -> None:
    assert decode(status + b"|jawOpen-5|=head#0,0,0,0,0,0|rightEye#0,0,0|leftEye#0,0,0|") is None


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "packet: expected exactly one '='"),
        (b"jawOpen-5|head#0,0,0|", "packet: expected exactly one '='"),
        (b"jawOpen-5|=head#0,0,0|=", "packet: expected exactly one '='"),
        (b"jawOpen-a|=head#0,0,0|", "jawOpen: 'a' is not a number"),
        (b"jawOpen-nan|=head#0,0,0|", "jawOpen: 'nan' is not a number"),
        (b"jawOpen-1e999|=head#0,0,0|", "jawOpen: '1e999' is not a number"),
        (b"jawOpen-|=head#0,0,0|", "jawOpen: '' is not a number"),
        (b"jawOpen-5|=head#0,0|", "head: expected 3 or 6 numbers, got 2"),
        (b"jawOpen-5|=head#0,0,inf|", "head: 'inf' is not a number"),
        (b"jawOpen-5|=leftEye#|", "leftEye: '' is not a number"),
    ],
)
def test_what_is_not_this_format_is_refused_with_its_reason(data: bytes, said: str) -> None:
    with pytest.raises(DecodeError, match=f"^{re.escape(said)}"):
        decode(data)


@pytest.mark.parametrize("seed", range(200))
def test_no_datagram_raises_anything_but_a_decode_error(seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = bytearray(Encoder().encode(frame(some_pose(seed))))
    for at in rng.integers(0, len(data), 6):
        data[at] = rng.integers(256)
    try:
        pose = decode(bytes(data[: rng.integers(len(data) // 2, len(data) + 1)]))
    except DecodeError:
        return
    assert pose is None or np.isfinite(pose).all()
