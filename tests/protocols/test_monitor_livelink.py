"""Live Link datagrams from bytes that were worked out, from PyLiveLinkFace, and broken on purpose."""

import struct

import numpy as np
import pytest
from pylivelinkface import FaceBlendShape, PyLiveLinkFace

from kff_live.protocols.channels import COUNT, INDEX, SHAPES, Pose, neutral, pose_from_names
from kff_live.protocols.frames import Frame, FrameRate
from kff_live.protocols.livelink import Encoder
from kff_live.protocols.monitor.formats import FORMATS
from kff_live.protocols.monitor.livelink import BUFFER, LiveLinkJudge
from kff_live.protocols.monitor.stream import MAX_STREAMS, Finding, Monitor

SENDER = "127.0.0.1:50000"
# Device AVATAR-1, subject Face, frame 3600 + 0.25 at 60/1; EyeBlinkLeft 1, JawOpen 0.5, MouthLeft 0.25, HeadYaw -0.125.
HEAD = bytes.fromhex("06 00000008 4156415441522d31 00000004 46616365 00000e10 3e800000 0000003c 00000001 3d")
FLOATS = {0x26: "3f800000", 0x6A: "3f000000", 0x7A: "3e800000", 0xF6: "be000000"}


def golden() -> bytes:
    data = bytearray(HEAD + bytes(244))
    for at, value in FLOATS.items():
        data[at : at + 4] = bytes.fromhex(value)
    return bytes(data)


def changed(at: int, new: str) -> bytes:
    data = bytearray(golden())
    value = bytes.fromhex(new)
    data[at : at + len(value)] = value
    return bytes(data)


def monitor() -> Monitor:
    return FORMATS["livelink"].monitor()


def packet(
    number: int = 0,
    pose: Pose | None = None,
    *,
    device: str = "d",
    subject: str = "Face",
    rate: FrameRate | None = None,
) -> bytes:
    rate = rate or FrameRate()
    frame = Frame(subject, number, 0.0, rate, neutral() if pose is None else pose)
    return Encoder(device, subject, rate).encode(frame)


def run(seen: Monitor, numbers: list[int], *, hz: float = 60.0, rate: FrameRate | None = None) -> None:
    """Packets of these numbers, evenly spaced, each with another value."""
    for i, number in enumerate(numbers):
        pose = pose_from_names({"JawOpen": 0.25 + 0.5 * (i % 2)})
        seen.take(packet(number, pose, rate=rate), SENDER, i / hz)


def test_a_good_packet_is_shown_as_it_is() -> None:
    seen = monitor()
    assert seen.take(golden(), SENDER, 1.0) == []
    report = seen.report(1.0)
    assert (report.packets, report.rejected, report.findings) == (1, 0, {})
    (face,) = report.subjects
    assert (face.subject, face.device, face.sender) == ("Face", "AVATAR-1", SENDER)
    assert (face.number, face.timecode, face.declared, face.face) == (3600, "00:01:00:00.250", "60", True)
    assert {name: value for name, value in face.values.items() if value} == {
        "EyeBlinkLeft": 1.0, "JawOpen": 0.5, "MouthLeft": 0.25, "HeadYaw": -0.125,
    }  # fmt: skip
    assert len(face.values) == COUNT


LITTLE_ENDIAN = struct.pack("<Bi", 6, 8) + golden()[5:]
CHARACTERS = HEAD[:13] + struct.pack(">i", 3) + "Zoë".encode() + golden()[21:]
FIFTY_TWO = golden()[:37] + bytes([SHAPES]) + bytes(4 * SHAPES)


@pytest.mark.parametrize(
    ("data", "rule", "reason"),
    [
        (b"", "version", "an empty datagram"),
        (golden()[:200], "length", "200 bytes end inside the 61 values"),
        (golden()[:30], "length", "30 bytes end inside the frame time"),
        (golden() + bytes(BUFFER), "length", "1568 bytes, Unreal's buffer ends at 1286"),
        (changed(0, "05"), "version", "expected 6, got 5"),
        (LITTLE_ENDIAN, "device-length", "; the length is little-endian, every field must be big-endian"),
        (changed(1, "ffffffff"), "device-length", "-1 does not fit"),
        (changed(13, "000003e8"), "subject-length", "1000 does not fit"),
        (CHARACTERS, "subject", "the subject has 4 bytes and its length says 3: are characters counted, not bytes"),
        (changed(25, "3f800000"), "sub-frame", "1.0 is outside 0 to 1"),
        (changed(25, "7fc00000"), "sub-frame", "nan is outside"),
        (changed(29, "00000000"), "frame-rate-numerator", "0 is outside"),
        (changed(33, "00000000"), "frame-rate-denominator", "int(fps / 60) is 0 below 60 fps: send 1"),
        (changed(37, "34"), "count", "expected 61, got 52; the nine rotations are missing"),
        (FIFTY_TWO, "count", "expected 61, got 52; the nine rotations are missing"),
        (changed(37, "00"), "count", "expected 61, got 0"),
        (changed(0x6A, "7fc00000"), "values", "not a finite number"),
        (changed(0x116, "ff800000"), "values", "not a finite number"),
        (b"#bundle\0\0\0\0\0\0\0\0\1", "version", "this is OSC: try --format vmc"),
        (b"/kff/Face/pose\0\0", "version", "this is OSC"),
        (b'{"BlendShapes":[]}', "version", "this is JSON"),
        (b"trackingStatus-1|jawOpen-12|", "version", "this is iFacialMocap: try --format ifacialmocap"),
    ],
)  # fmt: skip
def test_what_unreal_drops_is_rejected_with_its_reason(data: bytes, rule: str, reason: str) -> None:
    seen = monitor()
    (finding,) = seen.take(data, SENDER, 0.0)
    assert (finding.rule, finding.rejected) == (rule, True)
    assert reason in finding.reason
    report = seen.report(0.0)
    assert (report.packets, report.rejected, report.subjects) == (1, 1, ())
    assert report.findings[rule].count == 1


@pytest.mark.parametrize("seed", range(100))
def test_no_datagram_brings_the_judge_down(seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = bytearray(golden())
    for at in rng.integers(0, 42, 4):
        data[at] = rng.integers(256)
    seen = monitor()
    seen.take(bytes(data[: rng.integers(0, len(data) + 1)]), SENDER, 0.0)
    assert seen.packets == 1
    assert seen.report(0.0).packets == 1


@pytest.mark.parametrize(
    ("data", "rule", "reason"),
    [
        (golden()[:37], "no-face", "Unreal drops it and keeps the last pose"),
        (golden() + bytes(8), "trailing", "8 bytes after the last value: VRCFaceTracking reads the last 244"),
        (changed(0x6A, "40000000"), "range", "JawOpen is 2: a blendshape goes from 0 to 1"),
        (changed(0x6A, "bf000000"), "range", "JawOpen is -0.5"),
        (changed(0xF6, "41c80000"), "angle", "HeadYaw is 25: rotations are radians; are these degrees?"),
        (changed(17, "4600"), "names", "Unreal ends a name at NUL"),
    ],
)
def test_what_is_accepted_but_does_harm_is_a_warning(data: bytes, rule: str, reason: str) -> None:
    seen = monitor()
    (finding,) = seen.take(data, SENDER, 0.0)
    assert (finding.rule, finding.rejected) == (rule, False)
    assert reason in finding.reason
    assert seen.rejected == 0


def test_the_phones_own_overshoot_is_no_fault() -> None:
    pose = neutral()
    pose[INDEX["EyeLookInLeft"]] = 1.05
    assert monitor().take(packet(pose=pose), SENDER, 0.0) == []


def test_a_packet_tells_each_rule_once_and_how_many_channels() -> None:
    pose = neutral()
    pose[:3] = 5.0
    (finding,) = monitor().take(packet(pose=pose), SENDER, 0.0)
    assert finding.reason == "EyeBlinkLeft is 5 (and 2 more): a blendshape goes from 0 to 1"


def test_a_face_that_is_not_seen_is_said_so() -> None:
    seen = monitor()
    seen.take(golden(), SENDER, 0.0)
    seen.take(golden()[:37], SENDER, 0.1)
    (face,) = seen.report(0.2).subjects
    assert not face.face
    assert face.remarks == ("the sender sees no face: Unreal drops such packets and keeps the last pose",)


# --- from frame to frame


def test_rate_jitter_and_longest_interval() -> None:
    seen = monitor()
    at = 0.0
    for number in range(240):
        seen.take(packet(number, pose_from_names({"JawOpen": number % 2 / 2})), SENDER, at)
        at += 0.010 if number % 2 else 0.020
    (face,) = seen.report(at).subjects
    assert face.frames == 240
    assert face.hz == pytest.approx(1 / 0.015, abs=0.1)
    assert face.jitter_ms == pytest.approx(5.0, abs=0.05)
    assert face.longest_ms == pytest.approx(20.0)
    assert face.missing == 0


@pytest.mark.parametrize(
    ("numbers", "missing", "repeated", "backward"),
    [
        (list(range(100)), 0, 0, 0),
        ([*range(50), *range(53, 100)], 3, 0, 0),
        ([*range(0, 100, 2)], 0, 0, 0),  # a camera of 30 fps counts in 60ths
        ([*range(0, 50, 2), *range(54, 100, 2)], 2, 0, 0),
        ([*range(50), 49, *range(50, 60)], 0, 1, 0),
        ([*range(10), 11, 10, 12, 13], 0, 0, 1),  # late, not lost
        ([*range(1000, 1050), *range(50)], 0, 0, 1),  # started again
        ([*range(50), *range(100_000, 100_050)], 0, 0, 0),  # another clock
    ],
)
def test_frame_numbers_tell_what_is_missing(numbers: list[int], missing: int, repeated: int, backward: int) -> None:
    seen = monitor()
    run(seen, numbers)
    (face,) = seen.report(len(numbers) / 60).subjects
    assert (face.missing, face.repeated, face.backward) == (missing, repeated, backward)
    assert ("repeated" in seen.findings, "backward" in seen.findings) == (bool(repeated), bool(backward))
    assert seen.rejected == 0


def test_two_equal_datagrams_in_a_row_are_told_as_that() -> None:
    seen = monitor()
    assert seen.take(packet(1), SENDER, 0.0) == []
    (finding,) = seen.take(packet(1), SENDER, 0.1)
    assert finding.rule == "identical"
    assert "one frame was sent twice" in finding.reason


def test_a_rate_that_is_not_the_declared_one_is_told() -> None:
    seen = monitor()
    run(seen, list(range(150)), hz=30.0)
    assert seen.report(5.0).subjects[0].remarks == ("30.0 frames a second arrive, the sender says 60",)


def test_a_low_rate_is_told() -> None:
    seen = monitor()
    run(seen, list(range(100)), hz=20.0, rate=FrameRate(20))
    assert seen.report(5.0).subjects[0].remarks == ("20.0 frames a second: below 30 a face looks choppy",)


def test_bursts_are_told() -> None:
    seen = monitor()
    for i in range(300):
        seen.take(packet(i, pose_from_names({"JawOpen": i % 2 / 2})), SENDER, i // 3 * 0.05 + i % 3 * 0.0001)
    (remark,) = seen.report(5.0).subjects[0].remarks
    assert remark == "frames come in bursts: Unreal shows only the last of each"


@pytest.mark.parametrize(
    ("value", "remark"), [(0.0, "every value is 0: a face at rest, for 4 s"), (0.5, "no value changes, for 4 s")]
)
def test_a_face_that_stands_still_is_told(value: float, remark: str) -> None:
    seen = monitor()
    for i in range(240):
        seen.take(packet(i, pose_from_names({"JawOpen": value})), SENDER, i / 60)
    assert seen.report(4.0).subjects[0].remarks == (remark,)


def test_silence_is_told_and_has_no_rate() -> None:
    seen = monitor()
    run(seen, list(range(120)))
    (face,) = seen.report(4.5).subjects
    assert face.hz == 0.0
    assert face.remarks == ("nothing has come for 2.5 s",)


def test_one_device_with_two_subjects_is_told() -> None:
    seen = monitor()
    seen.take(packet(subject="Anna"), SENDER, 0.0)
    (finding,) = seen.take(packet(subject="Berta"), SENDER, 0.0)
    assert finding.rule == "two-subjects"
    assert finding.reason == "the device 'd' was 'Anna' and is now 'Berta': Unreal removes one for the other"


def test_one_subject_from_two_devices_is_told() -> None:
    seen = monitor()
    seen.take(packet(device="one"), SENDER, 0.0)
    (finding,) = seen.take(packet(device="two", subject="FACE"), SENDER, 0.0)  # Unreal ignores case
    assert finding.rule == "two-devices"
    assert finding.reason == "the subject 'FACE' comes from 'one' and from 'two': their values alternate"


def test_two_devices_with_a_subject_each_are_in_order() -> None:
    seen = monitor()
    for i in range(10):
        assert seen.take(packet(i, device="one", subject="Anna"), SENDER, i / 60) == []
        assert seen.take(packet(i, device="two", subject="Berta"), SENDER, i / 60) == []
    assert [face.subject for face in seen.report(0.2).subjects] == ["Anna", "Berta"]


def test_a_flood_of_subjects_costs_the_oldest_its_place() -> None:
    seen = monitor()
    for i in range(MAX_STREAMS + 5):
        seen.take(packet(device=f"d{i}", subject=f"s{i}"), SENDER, float(i))
    names = [face.subject for face in seen.report(100.0).subjects]
    assert names == [f"s{i}" for i in range(5, MAX_STREAMS + 5)]


# --- somebody else's sender


def test_pylivelinkface_at_60_fps_is_accepted() -> None:
    face = PyLiveLinkFace(name="Py", fps=60)
    face.set_blendshape(FaceBlendShape.MouthSmileLeft, 0.75, no_filter=True)
    judged = LiveLinkJudge()(face.encode(), SENDER)
    assert judged.findings == ()
    (arrival,) = judged.arrivals
    assert (arrival.subject, arrival.rate) == ("Py", FrameRate(60))
    assert arrival.values is not None and arrival.values["MouthSmileLeft"] == 0.75


@pytest.mark.parametrize(
    ("face", "rule"),
    [
        (PyLiveLinkFace(name="Py", fps=30), "frame-rate-denominator"),
        (PyLiveLinkFace(name="Zoë"), "subject"),
        (PyLiveLinkFace(name="Py", uuid="short"), "device"),
    ],
)  # fmt: skip
def test_pylivelinkface_s_known_mistakes_are_found(face: PyLiveLinkFace, rule: str) -> None:
    (finding,) = LiveLinkJudge()(face.encode(), SENDER).findings
    assert finding.rejected
    assert finding.rule.startswith(rule), finding


def test_findings_are_plain_values() -> None:
    one, other = (LiveLinkJudge()(b"", SENDER).findings[0] for _ in range(2))
    assert one == other == Finding("version", True, "version: expected 6, got an empty datagram")
