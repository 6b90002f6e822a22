import json
import logging
import socket
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from pylivelinkface import FaceBlendShape, PyLiveLinkFace
from pythonosc.osc_bundle import OscBundle
from pythonosc.osc_message import OscMessage

from kff_live.protocols import livelink, osc
from kff_live.protocols.channels import COUNT, LIVELINK, Pose
from kff_live.protocols.errors import ConfigError, UserError
from kff_live.protocols.frames import Frame, FrameRate
from kff_live.runtime.config import Config, LiveLink, Osc, Recording, Subject
from kff_live.runtime.sinks import RECORDING_FRAMES, RecordingSink, UdpSink, build, device_id

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
