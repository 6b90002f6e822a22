import json
import logging
import socket
import struct
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pylivelinkface import FaceBlendShape, PyLiveLinkFace
from pythonosc.osc_bundle import OscBundle
from pythonosc.osc_message import OscMessage

from kff_live.protocols import kernels, livelink, osc
from kff_live.protocols.channels import COUNT, GROUPS, INDEX, LIVELINK, Pose, mirror, neutral
from kff_live.protocols.errors import ConfigError, UserError
from kff_live.protocols.frames import Frame, FrameRate
from kff_live.protocols.keyframes import Keyframe
from kff_live.protocols.messages import Event, Model
from kff_live.protocols.track import Timeline
from kff_live.runtime.config import Config, IFacialMocap, LiveLink, Osc, Recording, Subject, Vmc, VRChat
from kff_live.runtime.frame_thread import EventSink
from kff_live.runtime.player import Plan, Player
from kff_live.runtime.sinks.making import RECORDING_FRAMES, Fitted, RecordingSink, build, device_id
from kff_live.runtime.sinks.udp import UdpSink

RAMP: Pose = np.linspace(0.0, 1.0, COUNT, dtype=np.float32)


def frame(
    number: int = 4711, *, subject: str = "Face", pose: Pose | None = None, rate: FrameRate | None = None
) -> Frame:
    return Frame(subject, number, 0.25, rate or FrameRate(), RAMP if pose is None else pose, "u-1", 3)


@contextmanager
def receiver(host: str = "127.0.0.1") -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as udp:
        udp.bind((host, 0))
        udp.settimeout(10.0)
        yield udp


def address(udp: socket.socket) -> str:
    host, port = udp.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def subjects(*names: str) -> tuple[Subject, ...]:
    return tuple(Subject(name=name) for name in names)


def decode(data: bytes) -> PyLiveLinkFace:
    found, face = PyLiveLinkFace.decode(data)
    assert found
    return face


def test_live_link_packets_are_read_by_somebody_elses_decoder() -> None:
    with receiver() as udp:
        sink = build(LiveLink(targets=(address(udp),)), Config(fps="30000/1001"))["Face"]
        sink.send(frame(rate=FrameRate(30000, 1001)))
        data = udp.recv(2048)
        sink.close()
    face = decode(data)
    assert face.name == "Face"
    assert len(face.uuid.lstrip("$")) == 36
    assert [face.get_blendshape(FaceBlendShape(i)) for i in range(COUNT)] == pytest.approx(RAMP.tolist())
    ours = livelink.decode(data)
    assert (ours.number, ours.subframe, ours.rate) == (4711, 0.25, FrameRate(30000, 1001))


def unreal_takes(data: bytes) -> bool:
    """Whether Unreal's listener does, by the rules of its source; one that it drops ends its tick."""
    fields, at = [], 1
    for _ in range(2):
        (length,) = struct.unpack_from(">i", data, at)
        fields.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return (
        266 < len(data) == 270 + sum(map(len, fields)) <= 1286
        and data[0] == 6
        and data[at + 16] == 61
        and bool(np.isfinite(np.frombuffer(data, ">f4", 61, at + 17)).all())
    )


def test_from_the_first_frame_to_the_last_unreal_takes_every_packet() -> None:
    config, timeline, rate = Config(subjects=subjects("顔")), Timeline(), FrameRate()
    for pose in (RAMP, -RAMP):
        timeline.append(Keyframe(pose, way=0.1))
    player = Player("顔", rate)
    with receiver() as udp:
        plain = build(LiveLink(targets=(address(udp),)), config)["顔"]
        extreme = build(LiveLink(targets=(address(udp),), gain={"head": -20.0, "mouth": 20.0}, rate=30.0), config)["顔"]
        for tick in range(100):
            now = tick * rate.period
            if tick == 5:  # until then nothing is compiled
                player.use(kernels)
                player.plan = Plan(timeline.track, now, 1)
            if tick == 40:
                player.leave(now)
            for sink in (plain, extreme):
                sink.send(player.frame(now, tick, 0.5))
        for sink in (plain, extreme):
            sink.close()
        udp.setblocking(False)
        packets = list(iter(partial(received, udp), b""))
    assert len(packets) == 100 + 50 + 1  # the last is never held back
    assert all(map(unreal_takes, packets))
    assert not unreal_takes(packets[0][:-4])
    assert not unreal_takes(packets[0] + bytes(4))


def received(udp: socket.socket) -> bytes:
    try:
        return udp.recv(2048)
    except BlockingIOError:
        return b""


def test_every_target_gets_every_frame() -> None:
    with receiver() as one, receiver() as two, receiver() as three:
        sockets = (one, two, three)
        sink = build(LiveLink(targets=tuple(map(address, sockets))), Config())["Face"]
        for number in (1, 2, 3):
            sink.send(frame(number))
        for udp in sockets:
            assert [livelink.decode(udp.recv(2048)).number for _ in range(3)] == [1, 2, 3]
        assert isinstance(sink, UdpSink)
        assert (sink.sent, sink.lost) == (9, 0)
        sink.close()


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as udp:
            udp.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
def test_a_target_may_be_ipv6() -> None:
    with receiver("::1") as udp:
        sink = build(LiveLink(targets=(address(udp),)), Config())["Face"]
        sink.send(frame())
        assert decode(udp.recv(2048)).name == "Face"
        sink.close()


def test_a_target_may_be_a_name() -> None:
    with receiver() as udp:
        sink = build(LiveLink(targets=(f"localhost:{udp.getsockname()[1]}",)), Config())["Face"]
        sink.send(frame())
        sink.close()


def test_a_target_that_refuses_packets_costs_nothing_and_delays_no_other(free_port: int) -> None:
    with receiver() as udp:
        sink = build(LiveLink(targets=(f"127.0.0.1:{free_port}", address(udp))), Config())["Face"]
        for number in range(50):
            sink.send(frame(number))
            assert livelink.decode(udp.recv(2048)).number == number
        sink.close()


class TooLong:
    """An encoder whose datagrams no socket takes."""

    def encode(self, frame: Frame) -> bytes:
        return bytes(100_000)


def test_what_the_system_refuses_is_counted_and_told_once_a_target(
    free_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    sink = UdpSink(TooLong(), [("127.0.0.1", free_port), ("localhost", free_port)])
    with caplog.at_level(logging.WARNING):
        for _ in range(10):
            sink.send(frame())
    sink.close()
    assert (sink.sent, sink.lost) == (0, 20)
    assert len(caplog.records) == 2
    assert f"cannot send to 127.0.0.1 port {free_port}" in caplog.text


def test_a_host_that_cannot_be_found_is_the_users_error_and_leaves_nothing_open() -> None:
    for host in ("no-such-host.invalid", "a" * 70 + ".invalid"):
        with pytest.raises(UserError, match=f"the host '{host}' cannot be found"):
            build(LiveLink(targets=("127.0.0.1:9", f"{host}:9")), Config())  # an open socket would be a warning


def test_a_name_that_cannot_be_encoded_is_the_users_error_and_leaves_nothing_open() -> None:
    config = Config(subjects=(Subject(name="Face"), Subject(name="B", device="x" * 300)))
    with pytest.raises(ConfigError, match=r"^sinks: subject: "):
        build(LiveLink(), config)
    with pytest.raises(ConfigError, match=r"^sinks: prefix: "):
        build(Osc(prefix="kff"), Config())


def test_several_subjects_share_a_target_and_differ_by_name_and_device() -> None:
    names = ("Anna", "Bertille", "日本")
    with receiver() as udp:
        sinks = build(LiveLink(targets=(address(udp),)), Config(subjects=subjects(*names)))
        assert tuple(sinks) == names
        found = {}
        for name, sink in sinks.items():
            sink.send(frame(subject=name))
            packet = livelink.decode(udp.recv(2048))
            found[packet.subject] = packet.device
            sink.close()
    assert tuple(found) == names
    assert len(set(found.values())) == 3
    for name, device in found.items():
        assert len(device) == 36
        assert str(uuid.UUID(device)) == device
        assert device == device_id(name)


def test_a_device_id_is_the_same_every_time_unless_it_is_configured() -> None:
    assert device_id("Face") == device_id("Face")
    assert device_id("Face") != device_id("face")
    assert device_id("Face", "MY-PHONE") == "MY-PHONE"


def test_a_sink_may_be_for_some_subjects_only() -> None:
    config = Config(subjects=subjects("A", "B", "C"))
    for settings in (LiveLink(subjects=("B",)), Osc(subjects=("B",))):
        sinks = build(settings, config)
        assert tuple(sinks) == ("B",)
        sinks["B"].close()


def test_an_osc_server_on_all_addresses_is_reached_where_it_is_looked_for() -> None:
    with receiver("0.0.0.0") as udp:
        sink = build(Osc(targets=(f"127.0.0.1:{udp.getsockname()[1]}",)), Config())["Face"]
        sink.send(frame())
        sink.close()
        assert OscMessage(udp.recv(2048)).address == "/kff/Face/pose"


def test_osc_poses_are_read_by_python_osc() -> None:
    with receiver() as udp:
        sink = build(Osc(targets=(address(udp),), prefix="/stage"), Config(subjects=subjects("Anna B")))["Anna B"]
        sink.send(frame())
        message = OscMessage(udp.recv(2048))
        sink.close()
    assert message.address == "/stage/Anna%20B/pose"
    assert message.params == pytest.approx(RAMP.tolist())


@pytest.mark.parametrize("naming", ["channels", "camel"])
def test_osc_channels_are_read_by_python_osc(naming: str) -> None:
    with receiver() as udp:
        sink = build(Osc(targets=(address(udp),), naming=naming), Config())["Face"]  # type: ignore[arg-type]
        sink.send(frame())
        bundle = OscBundle(udp.recv(8192))
        sink.close()
    assert naming in osc.NAMINGS
    messages = [item for item in bundle if isinstance(item, OscMessage)]
    assert len(messages) == COUNT
    for i, message in enumerate(messages):
        name = LIVELINK[i] if naming == "channels" else LIVELINK[i][0].lower() + LIVELINK[i][1:]
        assert message.address == f"/kff/Face/{name}"
        assert message.params == pytest.approx([RAMP[i]])


# --- what every kind of sink can be told


class Kept:
    """Keeps the frames that come, and the events."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.events: list[Event] = []
        self.lost = 0
        self.closed = 0

    def send(self, frame: Frame) -> None:
        self.frames.append(frame)

    def event(self, subject: str, event: Event) -> None:
        self.events.append(event)

    def close(self) -> None:
        self.closed += 1


class Silent:
    """A sink without a use for events."""

    lost = 3

    def send(self, frame: Frame) -> None: ...

    def close(self) -> None: ...


def fitted(**settings: Any) -> tuple[Kept, Fitted]:
    kept = Kept()
    return kept, Fitted(kept, LiveLink(**settings))


def sent(pose: Pose, **settings: Any) -> Pose:
    kept, sink = fitted(**settings)
    sink.send(frame(pose=pose))
    made: Pose = kept.frames[0].pose
    return made


def test_nothing_stands_before_a_sink_that_is_told_nothing() -> None:
    sink = build(LiveLink(subjects=("Face",)), Config())["Face"]
    assert isinstance(sink, UdpSink)
    sink.close()


@pytest.mark.parametrize(
    "settings", [{"rate": 30.0}, {"gain": {"JawOpen": 0.5}}, {"mirror": True}, {"channels": ("mouth",)}]
)
def test_every_kind_of_sink_can_be_told(settings: dict[str, Any], tmp_path: Path) -> None:
    for kind in (LiveLink(**settings), Osc(**settings), Recording(path=str(tmp_path / "a"), **settings)):
        sink = build(kind, Config())["Face"]
        assert isinstance(sink, Fitted)
        sink.close()


def test_a_sinks_own_gain_changes_a_copy_and_no_other_sink() -> None:
    with receiver() as one, receiver() as two:
        plain = build(LiveLink(targets=(address(one),)), Config())["Face"]
        louder = build(LiveLink(targets=(address(two),), gain={"JawOpen": 2.0, "headYaw": -1.0}), Config())["Face"]
        pose = neutral()
        pose[[INDEX["JawOpen"], INDEX["HeadYaw"], INDEX["MouthLeft"]]] = 0.3, 0.25, 0.1
        pose.setflags(write=False)
        for sink in (louder, plain):
            sink.send(frame(pose=pose))
        assert livelink.decode(one.recv(2048)).pose == pytest.approx(pose)
        face = decode(two.recv(2048))
        for sink in (louder, plain):
            sink.close()
    assert face.get_blendshape(FaceBlendShape.JawOpen) == pytest.approx(0.6)
    assert face.get_blendshape(FaceBlendShape.HeadYaw) == pytest.approx(-0.25)
    assert face.get_blendshape(FaceBlendShape.MouthLeft) == pytest.approx(0.1)


def test_a_gain_ends_at_a_channels_range() -> None:
    pose = sent(np.full(COUNT, 0.9, np.float32), gain={"mouth": 20.0, "head": -20.0, "brows": -1.0})
    assert pose.dtype == np.float32
    assert pose[INDEX["MouthSmileLeft"]] == 1.0
    assert pose[INDEX["BrowInnerUp"]] == 0.0
    assert pose[INDEX["HeadYaw"]] == pytest.approx(-3.15)
    assert pose[INDEX["JawOpen"]] == pytest.approx(0.9)


def test_a_channels_gain_goes_before_that_of_its_group_where_it_stands_after_it() -> None:
    pose = sent(RAMP, gain={"mouth": 0.5, "MouthClose": 1.0})
    assert pose[INDEX["MouthClose"]] == pytest.approx(RAMP[INDEX["MouthClose"]])
    assert pose[INDEX["MouthPucker"]] == pytest.approx(RAMP[INDEX["MouthPucker"]] / 2)


def test_a_mirrored_sink_shows_the_other_side() -> None:
    assert sent(RAMP, mirror=True) == pytest.approx(mirror(RAMP))
    pose = neutral()
    pose[[INDEX["MouthLeft"], INDEX["HeadYaw"]]] = 0.5, 0.25
    seen = sent(pose, mirror=True, gain={"MouthRight": 2.0})  # names are those of what is sent
    assert (seen[INDEX["MouthRight"]], seen[INDEX["MouthLeft"]], seen[INDEX["HeadYaw"]]) == (1.0, 0.0, -0.25)


def test_a_filter_sends_its_channels_and_leaves_the_others_neutral() -> None:
    pose = sent(RAMP, channels=("jaw", "HeadYaw"))
    mine = {*GROUPS["jaw"], INDEX["HeadYaw"]}
    assert [i for i in range(COUNT) if pose[i]] == sorted(mine)
    assert pose[sorted(mine)] == pytest.approx(RAMP[sorted(mine)])


@pytest.mark.parametrize(
    ("fps", "rate", "numbers"),
    [
        (FrameRate(60), 30.0, [0, 2, 4, 6, 8, 10]),
        (FrameRate(60), 20.0, [0, 3, 6, 9]),
        (FrameRate(60), 24.0, [0, 3, 5, 8, 10]),
        (FrameRate(60), 60.0, list(range(12))),
        (FrameRate(60), 1000.0, list(range(12))),
        (FrameRate(60000, 1001), 29.97, [0, 2, 4, 6, 8, 10]),
        (FrameRate(25), 0.0, list(range(12))),
    ],
)
def test_a_rate_lets_every_so_many_frames_through(fps: FrameRate, rate: float, numbers: list[int]) -> None:
    kept, sink = fitted(rate=rate, mirror=True)
    for number in range(12):
        sink.send(frame(number, rate=fps))
    assert [f.number for f in kept.frames] == numbers


def test_a_rate_is_kept_over_hours_and_over_ticks_that_are_skipped() -> None:
    kept, sink = fitted(rate=20.0)
    for number in range(5_000_001, 5_000_601):
        if number % 7:
            sink.send(frame(number))
    assert len(kept.frames) == 200


def test_each_subject_of_a_sink_has_the_whole_rate() -> None:
    kept, sink = fitted(rate=30.0)
    for number in range(6):
        for name in ("A", "B"):
            sink.send(frame(number, subject=name))
    assert [(f.number, f.subject) for f in kept.frames] == [(n, s) for n in (0, 2, 4) for s in "AB"]


def test_the_last_frame_leaves_although_the_rate_held_it_back() -> None:
    kept, sink = fitted(rate=1.0)
    for number in range(60, 100):
        sink.send(frame(number))
    sink.close()
    assert [f.number for f in kept.frames] == [60, 99]
    assert kept.closed == 1


def test_a_sink_of_several_subjects_stays_one(tmp_path: Path) -> None:
    sinks = build(Recording(path=str(tmp_path / "a"), mirror=True), Config(subjects=subjects("A", "B")))
    assert sinks["A"] is sinks["B"]
    sinks["A"].close()


def test_events_reach_a_sink_that_takes_them_through_whatever_stands_before_it() -> None:
    kept, sink = fitted(mirror=True)
    assert isinstance(sink, EventSink)
    sink.event("", Model("ready"))
    assert kept.events == [Model("ready")]
    silent = Fitted(Silent(), LiveLink(mirror=True))
    assert not isinstance(silent, EventSink)
    assert silent.lost == 3


# --- formats that carry one face


def test_vmc_is_one_bundle_on_this_machine_and_split_beyond_it() -> None:
    def bundles(target: str, **settings: Any) -> int:
        with receiver() as udp:
            sink = build(Vmc(targets=(address(udp), *target.split()), **settings), Config())["Face"]
            sink.send(frame())
            found = [udp.recv(4096)]
            while b"/VMC/Ext/Blend/Apply" not in found[-1]:
                found.append(udp.recv(4096))
            sink.close()
        return len(found)

    assert bundles("") == bundles("", bundle="whole") == bundles("192.0.2.1:9", bundle="whole") == 1
    assert bundles("192.0.2.1:9") == bundles("", bundle="split") == 2


@pytest.mark.parametrize("kind", [Vmc, IFacialMocap, VRChat, partial(Osc, naming="facecap")])
def test_a_format_without_names_carries_the_first_face_or_the_one_that_is_named(kind: Callable[..., Any]) -> None:
    config = Config(subjects=subjects("A", "B"))
    for settings, names in (({}, ["A"]), ({"subjects": ("B",)}, ["B"]), ({"subjects": ()}, [])):
        sinks = build(kind(targets=("127.0.0.1:9",), **settings), config)
        assert list(sinks) == names
        for sink in sinks.values():
            sink.close()


@pytest.mark.parametrize(
    ("settings", "said"),
    [(VRChat(prefix="F T"), "sinks: prefix: "), (VRChat(binary={"Jaw": 2}), "sinks: binary: Jaw = 2")],
)
def test_what_no_avatar_can_have_is_the_users_error(settings: VRChat, said: str) -> None:
    with pytest.raises(ConfigError, match=f"^{said}"):
        build(settings, Config())


# --- recording


def test_a_recording_holds_every_frame_as_a_json_line(tmp_path: Path) -> None:
    path = tmp_path / "take é.jsonl"
    config = Config(fps="30000/1001", subjects=subjects("A", "B"))
    sinks = build(Recording(path=str(path)), config)
    assert sinks["A"] is sinks["B"]
    for number in range(200):
        for name in ("A", "B"):
            sinks[name].send(frame(number, subject=name, rate=config.rate))
    sinks["A"].close()
    text = path.read_text(encoding="utf-8")
    assert text.endswith("\n")
    assert "\r" not in text
    header, *lines = map(json.loads, text.splitlines())
    assert header == {
        "format": "kff-live recording",
        "version": 1,
        "rate": "30000/1001",
        "channels": list(LIVELINK),
    }
    assert [(line["frame"], line["subject"]) for line in lines] == [(n, s) for n in range(200) for s in "AB"]
    first = lines[0]
    assert set(first) == {"subject", "timecode", "frame", "subframe", "id", "key", "values"}
    assert (first["timecode"], first["subframe"], first["id"], first["key"]) == ("00:00:00:00.500", 0.25, "u-1", 3)
    assert first["values"] == pytest.approx(RAMP.tolist(), abs=1e-5)


def test_a_recording_that_falls_behind_counts_what_it_loses(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    go, begun = threading.Event(), threading.Event()

    class Slow:
        """A pose of which nothing can be read before `go` is set."""

        def __iter__(self) -> Iterator[float]:
            begun.set()
            assert go.wait(10.0)
            return iter([0.0] * COUNT)

    sink = RecordingSink(tmp_path / "take.jsonl", FrameRate())
    sink.send(Frame("Face", 0, 0.0, FrameRate(), Slow()))
    assert begun.wait(10.0)
    for number in range(1, RECORDING_FRAMES + 101):
        sink.send(frame(number))
    assert sink.lost == 100
    go.set()
    with caplog.at_level(logging.WARNING):
        sink.close()
    assert "the recording lost 100 frames" in caplog.text
    lines = (tmp_path / "take.jsonl").read_text(encoding="utf-8").splitlines()[1:]
    assert [json.loads(line)["frame"] for line in lines] == list(range(RECORDING_FRAMES + 1))


def test_a_recording_that_cannot_be_opened_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written: No such file or directory"):
        RecordingSink(tmp_path / "missing" / "take.jsonl", FrameRate())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /dev/full")
def test_a_full_disk_is_told_once_and_ends_neither_frames_nor_the_program(caplog: pytest.LogCaptureFixture) -> None:
    sink = RecordingSink(Path("/dev/full"), FrameRate())
    with caplog.at_level(logging.WARNING):
        for number in range(2 * RECORDING_FRAMES):
            sink.send(frame(number))
        sink.close()
    assert sink.lost > 0
    assert caplog.text.count("the recording cannot be written: ") == 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("recording")]


def test_a_recording_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "take.jsonl"
    path.write_text("precious")
    sinks = [RecordingSink(path, FrameRate()) for _ in range(2)]
    for sink in sinks:
        sink.close()
    assert path.read_text() == "precious"
    assert [sink.path.name for sink in sinks] == ["take-2.jsonl", "take-3.jsonl"]
