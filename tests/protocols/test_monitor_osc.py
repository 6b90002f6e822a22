"""OSC, VMC and iFacialMocap datagrams, judged: worked out by hand, made by python-osc, and broken on purpose."""

import math
import struct
from typing import Any

import numpy as np
import pytest
from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
from pythonosc.osc_message_builder import OscMessageBuilder
from pythonosc.osc_packet import OscPacket

from kff_live.protocols import ifacialmocap, osc, vmc
from kff_live.protocols.channels import LIVELINK, LOW, SHAPES, Pose, pose_from_names
from kff_live.protocols.errors import DecodeError
from kff_live.protocols.frames import Frame, FrameRate
from kff_live.protocols.monitor.formats import FORMATS
from kff_live.protocols.monitor.osc_packet import Message, read
from kff_live.protocols.monitor.stream import Finding, Monitor

SENDER = "127.0.0.1:50000"
VAL = bytes.fromhex("2f564d432f4578742f426c656e642f56616c00002c7366004a61774f70656e003f000000")
APPLY = bytes.fromhex("2f564d432f4578742f426c656e642f4170706c79000000002c000000")
OK = bytes.fromhex("2f564d432f4578742f4f4b002c69000000000001")
T = bytes.fromhex("2f564d432f4578742f5400002c66000041480000")
BONE = bytes.fromhex(
    "2f564d432f4578742f426f6e652f506f730000002c7366666666666666000000"
    "486561640000000000000000000000000000000000000000 3e8483ed 00000000 3f7746ed"
)
BUNDLE = b"#bundle\0" + bytes([0, 0, 0, 0, 0, 0, 0, 1]) + b"\0\0\0\x24" + VAL + b"\0\0\0\x1c" + APPLY
FACE_CAP = bytes.fromhex("2f5700002c6966000000001 83f000000".replace(" ", ""))


def message(address: str, *arguments: tuple[str, Any]) -> bytes:
    """Made by python-osc: (type tag, value) an argument."""
    made = OscMessageBuilder(address)
    for tag, value in arguments:
        made.add_arg(value, tag)
    return made.build().dgram


def bundle(*messages: bytes) -> bytes:
    return b"#bundle\0" + struct.pack(">Q", 1) + b"".join(struct.pack(">i", len(m)) + m for m in messages)


def clip(name: str, value: float) -> bytes:
    return message("/VMC/Ext/Blend/Val", ("s", name), ("f", value))


def some_pose(seed: int = 3) -> Pose:
    return np.random.default_rng(seed).uniform(LOW, 1.0).astype(np.float32)


def frame(number: int, pose: Pose) -> Frame:
    return Frame("Face", number, 0.0, FrameRate(), pose)


def judge(form: str, *datagrams: bytes) -> tuple[Monitor, list[Finding]]:
    """The findings of the last datagram."""
    seen = FORMATS[form].monitor()
    found: list[Finding] = []
    for i, data in enumerate(datagrams):
        found = seen.take(data, SENDER, i / 60)
    return seen, found


# --- OSC itself


def test_golden_messages_are_read_with_their_types() -> None:
    assert read(VAL) == [Message("/VMC/Ext/Blend/Val", "sf", ("JawOpen", 0.5))]
    assert read(APPLY) == [Message("/VMC/Ext/Blend/Apply", "", ())]
    assert read(OK) == [Message("/VMC/Ext/OK", "i", (1,))]
    assert read(T) == [Message("/VMC/Ext/T", "f", (12.5,))]
    assert read(FACE_CAP) == [Message("/W", "if", (24, 0.5))]
    (bone,) = read(BONE)
    assert (bone.address, bone.tags, bone.values[0]) == ("/VMC/Ext/Bone/Pos", "sfffffff", "Head")
    assert bone.values[5] == pytest.approx(math.sin(math.radians(15)))
    assert read(BUNDLE) == read(VAL) + read(APPLY)


def test_every_type_is_read_as_python_osc_wrote_it() -> None:
    values = [("i", -3), ("f", 0.5), ("s", "Zoë"), ("b", b"abcde"), ("h", 2**40), ("d", 0.1), ("T", True), ("F", False)]
    data = message("/a", *values, ("N", None), ("s", ""), ("i", 7))
    (one,) = read(data)
    assert one.tags == "ifsbhdTFNsi"
    assert list(one.values) == [value for _, value in values] + [None, "", 7]


def test_bundles_in_bundles_are_read_as_python_osc_reads_them() -> None:
    inner = OscBundleBuilder(IMMEDIATELY)
    for value in (0.25, 0.75):
        made = OscMessageBuilder("/x")
        made.add_arg(value, "f")
        inner.add_content(made.build())
    outer = OscBundleBuilder(IMMEDIATELY)
    outer.add_content(inner.build())
    outer.add_content(OscMessageBuilder("/y").build())
    data = outer.build().dgram
    theirs = [(timed.message.address, *timed.message.params) for timed in OscPacket(data).messages]
    assert [(one.address, *one.values) for one in read(data)] == theirs == [("/x", 0.25), ("/x", 0.75), ("/y",)]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "expected an address"),
        (b"abcd", "expected an address that begins with '/'"),
        (VAL[:-1], "35 bytes are not a multiple of 4"),
        (VAL[:-4], "ends inside a value of type 'f'"),
        (VAL + bytes(4), "4 bytes after the last value"),
        (b"/ab\0if\0\0", "do not begin with a comma"),
        (b"/abc", "a string without its NUL"),
        (b"/a\0x,\0\0\0", "not padded with NUL"),
        (b"/a\0\0,x\0\0", "unknown type tag 'x'"),
        (b"/a\0\0,b\0\0\0\0\0\x09abcd", "ends inside a value of type 'b'"),
        (b"/\xff\0\0,\0\0\0", "not UTF-8"),
        (BUNDLE[:12], "ends inside its time tag"),
        (BUNDLE[:-4], "an element at byte 56 does not fit into 84 bytes"),
        (bundle() + struct.pack(">i", -4), "an element at byte 16 does not fit"),
        (bundle(b"/a\0"), "not a multiple of 4"),
    ],
)
def test_what_is_no_osc_is_rejected(data: bytes, reason: str) -> None:
    with pytest.raises(DecodeError):
        read(data)
    for form in ("osc", "vmc"):
        seen, (finding,) = judge(form, data)
        assert (finding.rule, finding.rejected, seen.rejected) == ("osc", True, 1)
        assert reason in finding.reason


def test_bundles_nested_too_deep_are_refused() -> None:
    data = VAL
    for _ in range(20):
        data = bundle(data)
    with pytest.raises(DecodeError, match="deeper than 8"):
        read(data)


@pytest.mark.parametrize("seed", range(100))
def test_no_datagram_brings_a_judge_down(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for form, good in (("osc", BUNDLE), ("vmc", bundle(OK, BONE, VAL, APPLY)), ("ifacialmocap", text())):
        data = bytearray(good)
        for at in rng.integers(0, len(data), 4):
            data[at] = rng.integers(256)
        seen, _ = judge(form, bytes(data[: rng.integers(0, len(data) + 1)]), bytes(data))
        seen.report(1.0)


# --- faces over OSC


def test_face_cap_is_shown_by_channel() -> None:
    pose = some_pose()
    seen, _ = judge("osc", osc.Encoder("Face", naming="facecap").encode(frame(0, pose)))
    (face,) = seen.report(0.0).subjects
    assert face.subject == "Face Cap"
    names = [*LIVELINK[:SHAPES], "HeadYaw", "HeadPitch", "HeadRoll"]
    assert [face.values[name] for name in names] == pytest.approx(pose[: len(names)].tolist(), abs=1e-3)
    assert seen.rejected == 0


def test_face_cap_s_golden_bytes_are_its_jaw() -> None:
    seen, found = judge("osc", FACE_CAP)
    assert (seen.report(0.0).subjects[0].values, found) == ({"JawOpen": 0.5}, [])


@pytest.mark.parametrize("naming", ["pose", "channels", "camel"])
def test_our_own_osc_is_shown_by_channel(naming: str) -> None:
    pose = some_pose()
    seen, found = judge("osc", osc.Encoder("Anna Lena", naming=naming).encode(frame(0, pose)))
    (face,) = seen.report(0.0).subjects
    assert face.subject == "Anna Lena"
    assert [face.values[name] for name in LIVELINK] == pytest.approx(pose.tolist(), abs=1e-4)
    assert (face.number, face.missing, face.timecode) == (None, None, None)
    assert [finding.rule for finding in found] == ([] if naming == "pose" else ["size"])


def test_an_address_that_nobody_knows_is_shown_as_it_is() -> None:
    seen, found = judge("osc", message("/mixer/volume", ("f", 0.25)), message("/xy", ("f", 0.5), ("i", 3)))
    (face,) = seen.report(0.0).subjects
    assert face.subject == SENDER
    assert face.values == {"/mixer/volume": 0.25, "/xy[0]": 0.5, "/xy[1]": 3.0}
    assert found == []


def test_vrchat_s_parameters_are_shown() -> None:
    data = bundle(message("/avatar/parameters/v2/JawOpen", ("f", 0.5)), message("/avatar/parameters/Eyes", ("T", True)))
    seen, found = judge("osc", data)
    (face,) = seen.report(0.0).subjects
    assert (face.subject, face.values, found) == ("VRChat", {"v2/JawOpen": 0.5, "Eyes": 1.0}, [])


@pytest.mark.parametrize(
    ("data", "rule", "rejected", "reason"),
    [
        (message("/kff/Face/JawOpen", ("i", 1)), "type", True, "an integer where a float belongs"),
        (message("/kff/Face/JawOpen", ("d", 0.5)), "type", True, "a double where a float belongs"),
        (message("/kff/Face/pose", *[("f", 0.5)] * 52), "count", True, "52 numbers, a pose has 61"),
        (message("/kff/Face/JawOpen", ("f", math.nan)), "values", True, "JawOpen is not a finite number"),
        (b"/a\0\0,[f]\0\0\0\0\x3f\0\0\0", "tag", True, "the type '[' stops Unreal's OSC plugin"),
        (message("/kff/Face/JawOpen", ("f", 50.0)), "range", False, "JawOpen is 50: a blendshape goes from 0 to 1"),
        (message("/kff/Face/HeadYaw", ("f", -20.0)), "angle", False, "are these degrees?"),
    ],
)
def test_what_osc_receivers_mind(data: bytes, rule: str, rejected: bool, reason: str) -> None:
    seen, (finding,) = judge("osc", data)
    assert (finding.rule, finding.rejected, seen.rejected) == (rule, rejected, int(rejected))
    assert reason in finding.reason


def test_a_datagram_longer_than_a_packet_is_told() -> None:
    data = bundle(*[message(f"/kff/Face/{name}", ("f", 0.1)) for name in LIVELINK])
    _, (finding,) = judge("osc", data)
    assert (finding.rule, finding.rejected) == ("size", False)
    assert finding.reason.startswith(f"{len(data)} bytes do not fit into one packet, which holds 1472")


# --- VMC


@pytest.mark.parametrize("whole", [True, False])
def test_our_own_vmc_is_in_order(whole: bool) -> None:
    encoder = vmc.Encoder(presets="vrm0", whole=whole)
    seen, _ = judge("vmc", *[data for i in range(70) for data in encoder.encode(frame(i, some_pose(i)))])
    assert set(seen.findings) == ({"size"} if whole else set())
    (face,) = seen.report(70 / 60).subjects
    assert face.subject == f"VMC from {SENDER}"
    assert face.frames == 70
    assert face.values.keys() == {*LIVELINK, *vmc.VRM0}
    expected = some_pose(69)[:SHAPES].tolist()
    assert [face.values[name] for name in LIVELINK[:SHAPES]] == pytest.approx(expected, abs=1e-4)


def test_golden_bytes_make_a_frame() -> None:
    seen, _ = judge("vmc", bundle(OK, T, BONE, VAL, APPLY))
    (face,) = seen.report(0.0).subjects
    assert face.values["JawOpen"] == 0.5
    assert face.values["HeadYaw"] == pytest.approx(-math.radians(30), abs=1e-3)  # 30 degrees to its own right


WHOLE = [clip(name, 0.5) for name in LIVELINK[:SHAPES]]


@pytest.mark.parametrize(
    ("data", "rule", "rejected", "reason"),
    [
        (message("/VMC/Ext/Blend/Val", ("s", "JawOpen"), ("i", 1)), "type", True, "'si', receivers want 'sf'"),
        (message("/VMC/Ext/Blend/Val", ("s", "JawOpen"), ("d", 0.5)), "type", True, "'sd'"),
        (message("/VMC/Ext/Blend/Val", ("s", "JawOpen")), "type", True, "'s', receivers want 'sf'"),
        (message("/VMC/Ext/Bone/Pos", ("s", "Head"), *[("f", 0.0)] * 7), "value", True, "Head: 0 0 0 0 is no rotation"),
        (message("/VMC/Ext/Bone/Pos", ("s", "Head"), *[("f", 0.0)] * 6, ("f", 2.0)), "unit", False, "length is 2"),
        (message("/VMC/Ext/Bone/Pos", ("s", "Hips"), *[("i", 0)] * 7), "type", True, "receivers want 'sfffffff'"),
        (message("/VMC/Ext/OK", ("i", 0)), "ok", False, "receivers wait for"),
        (clip("jawOpen", 0.5), "case", False, "'jawOpen': models mostly have 'JawOpen'"),
        (clip("JawOpen", 50.0), "range", False, "a blendshape goes from 0 to 1"),
        (clip("JawOpen", math.nan), "value", True, "not a finite number"),
        (bundle(*WHOLE[:20], APPLY), "clips", False, "20 of the 52 ARKit clips are sent: VSeeFace wants all"),
    ],
)
def test_what_vmc_receivers_mind(data: bytes, rule: str, rejected: bool, reason: str) -> None:
    seen, (finding,) = judge("vmc", data)
    assert (finding.rule, finding.rejected, seen.rejected) == (rule, rejected, int(rejected))
    assert reason in finding.reason


def test_sending_only_what_changed_is_told() -> None:
    _, found = judge("vmc", bundle(*WHOLE, APPLY), bundle(clip("JawOpen", 0.7), APPLY))
    (finding,) = [finding for finding in found if finding.rule == "partial"]
    assert finding.reason == "51 clips are not sent again, such as BrowDownLeft: some receivers forget them"


def test_a_sender_without_apply_is_rejected_after_a_while() -> None:
    seen, found = judge("vmc", *[bundle(*WHOLE[:20])] * 61)
    assert [(finding.rule, finding.rejected) for finding in found] == [("apply", True)]
    assert seen.rejected == 1
    assert seen.report(1.0).subjects == ()


def test_a_sender_without_ok_is_told_after_a_while() -> None:
    seen, _ = judge("vmc", *[bundle(*WHOLE, APPLY)] * 60)
    assert "ok" not in seen.findings
    seen, _ = judge("vmc", *[bundle(*WHOLE, APPLY)] * 61)
    assert seen.findings["ok"].reason.startswith("no /VMC/Ext/OK")


def test_a_flood_of_vmc_senders_is_forgotten_again() -> None:
    seen = FORMATS["vmc"].monitor()
    for port in range(500):
        seen.take(bundle(OK, VAL, APPLY), f"127.0.0.1:{port}", port / 60)
    assert len(seen.streams) <= 64


# --- iFacialMocap


def text(**changes: str) -> bytes:
    """A packet that every receiver reads, with parts changed."""
    shapes = "|".join(f"{name}-{i % 101}" for i, name in enumerate(ifacialmocap.NAMES))
    parts = {
        "status": "trackingStatus-1|", "shapes": f"{shapes}|", "equals": "=",
        "head": "head#1.5,-2.5,0.25,0.0,0.1,-0.6|",
        "right": "rightEye#6.03,2.44,0.25|", "left": "leftEye#6.03,-1.66,-0.17|",
    }  # fmt: skip
    return "".join((parts | changes).values()).encode()


def test_a_packet_for_the_strictest_receiver_is_in_order() -> None:
    seen, found = judge("ifacialmocap", text())
    assert found == []
    (face,) = seen.report(0.0).subjects
    assert face.subject == "iFacialMocap from 127.0.0.1"
    assert face.values["EyeLookDownLeft"] == 0.01
    assert face.values["RightEyePitch"] == pytest.approx(math.radians(6.03), abs=1e-4)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_our_own_ifacialmocap_is_in_order_also_when_the_face_stands_still(version: str) -> None:
    encoder = ifacialmocap.Encoder(version)
    seen, _ = judge("ifacialmocap", *[encoder.encode(frame(i, pose_from_names({"JawOpen": 0.5}))) for i in range(50)])
    assert (seen.packets, seen.findings) == (50, {})


@pytest.mark.parametrize(
    ("data", "rule", "rejected", "reason"),
    [
        (text(status=""), "status", True, "does not begin with trackingStatus"),
        (text()[:-1], "end", True, "does not end with '|'"),
        (text(head="|head#1.5,-2.5,0.25,0.0,0.1,-0.6|"), "head", True, "'=' is not followed by 'head#'"),
        (text(equals=""), "packet", True, "exactly one '='"),
        (text(left="leftEye=1,2,3|"), "packet", True, "exactly one '='"),
        (text(status="trackingStatus-1|jawOpen-12.5|"), "integer", True, "'jawOpen-12.5': most receivers read whole"),
        (text(head="head#1,5,-2,5,0,25,0,0,1,-0,6|"), "angles", True, "head: expected 6 numbers with a point"),
        (text(right="rightEye#6.03,2.44|"), "packet", True, "rightEye"),
        (text(left="leftEye#6.03,-1.66,-0.17,1.0|"), "angles", True, "leftEye: expected 3 numbers"),
        (text(status="trackingStatus-1|jawOpen-120|"), "range", False, "'jawOpen-120': a blendshape goes from 0"),
        (text(status="trackingStatus-1|jawOpenLeft-1|"), "name", False, "'jawOpenLeft' is no name of iFacialMocap"),
        (text(shapes="jawOpen-12|"), "names", False, "1 of the 52 blendshapes are there"),
        (text(status="trackingStatus-0|"), "no-face", False, "sees no face"),
        (text(status="trackingStatus-1|é-1|"), "ascii", True, "not ASCII"),
        (ifacialmocap.HANDSHAKE, "handshake", False, f"a receiver at {SENDER} asks for data"),
    ],
)  # fmt: skip
def test_what_ifacialmocap_receivers_mind(data: bytes, rule: str, rejected: bool, reason: str) -> None:
    seen, found = judge("ifacialmocap", data)
    (finding,) = found
    assert (finding.rule, finding.rejected, seen.rejected) == (rule, rejected, int(rejected))
    assert reason in finding.reason


def test_two_equal_ifacialmocap_packets_are_told() -> None:
    seen, (finding,) = judge("ifacialmocap", text(), text())
    assert finding.reason == "two equal datagrams in a row; VMagicMirror takes that for lost tracking"
    assert seen.report(0.0).subjects[0].frames == 2


def test_values_without_end_are_kept_within_a_limit() -> None:
    seen, _ = judge("osc", *[message(f"/a/{i}", ("f", float(i))) for i in range(1000)])
    assert len(seen.report(0.0).subjects[0].values) == 256
