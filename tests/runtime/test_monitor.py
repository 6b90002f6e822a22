"""`kff-live monitor` as a program, with other people's senders and with broken packets."""

import contextlib
import json
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pylivelinkface import FaceBlendShape, PyLiveLinkFace
from pythonosc.udp_client import SimpleUDPClient

from kff_live.protocols import ifacialmocap
from kff_live.protocols.channels import LIVELINK, SHAPES
from kff_live.runtime.diagnosis.monitor import REPORTS_A_SECOND

DEADLINE = 60.0
Line = dict[str, Any]


class Monitoring:
    """A running monitor and the JSON lines that it prints."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kff_live.runtime.cli", "monitor", "--json", *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.lines: list[Line] = []
        self._arriving: queue.Queue[Line | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.until(lambda line: line["type"] == "listening")

    def _read(self) -> None:
        assert self.process.stdout is not None
        for text in self.process.stdout:
            self._arriving.put(json.loads(text))
        self._arriving.put(None)

    def until(self, condition: Callable[[Line], object]) -> Line:
        """The next line that fulfils the condition."""
        while (line := self._arriving.get(timeout=DEADLINE)) is not None:
            self.lines.append(line)
            if condition(line):
                return line
        raise AssertionError(self.lines)

    def stop(self) -> Line:
        """Ctrl-C, and the last line."""
        self.process.send_signal(signal.SIGINT)
        return self.until(lambda line: line["type"] == "end")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


@contextlib.contextmanager
def monitoring(*arguments: str) -> Iterator[Monitoring]:
    started = Monitoring(*arguments)
    try:
        yield started
    finally:
        started.close()


@contextlib.contextmanager
def sender(port: int) -> Iterator[Callable[[bytes], object]]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.connect(("127.0.0.1", port))
        yield udp.send


def kff(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kff_live.runtime.cli", *arguments], cwd=folder, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=DEADLINE, check=False,
    )  # fmt: skip


def packets(count: int) -> Callable[[Line], bool]:
    return lambda line: line["type"] == "second" and line["packets"] >= count


posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")


@posix
def test_pylivelinkface_is_shown_and_its_frame_numbers_are_not_believed(free_port: int) -> None:
    face = PyLiveLinkFace(name="Py")
    with monitoring("--port", str(free_port)) as monitor, sender(free_port) as send:
        for i in range(40):
            face.set_blendshape(FaceBlendShape.JawOpen, (i + 1) / 40, no_filter=True)
            send(face.encode())
        line = monitor.until(packets(40))
        (subject,) = line["subjects"]
        assert (subject["subject"], subject["declared"], subject["face"]) == ("Py", "60", True)
        assert subject["sender"].startswith("127.0.0.1:")
        assert subject["values"]["JawOpen"] == 1.0
        assert list(subject["values"]) == list(LIVELINK)
        assert (line["packets"], line["rejected"]) == (40, 0)
        # 40 packets at once cannot have 40 rising numbers that count 60ths of a second.
        assert {"repeated", "backward", "identical"} & line["findings"].keys()
        end = monitor.stop()
        assert end["packets"] == 40
        assert monitor.process.wait(DEADLINE) == 0


@posix
def test_every_line_has_the_documented_fields(free_port: int) -> None:
    with monitoring("--port", str(free_port)) as monitor, sender(free_port) as send:
        send(PyLiveLinkFace(name="Py").encode())
        send(b"\x05")
        monitor.until(packets(2))
        monitor.stop()
        by_type = {line["type"]: line for line in monitor.lines}
    assert by_type.keys() == {"listening", "rejected", "second", "end"}
    assert by_type["listening"] == {
        "type": "listening", "host": "127.0.0.1", "port": free_port, "format": "livelink",
    }  # fmt: skip
    assert by_type["rejected"].keys() == {"type", "at", "sender", "bytes", "rule", "reason"}
    for kind in ("second", "end"):
        line = by_type[kind]
        assert line.keys() == {"type", "at", "untold", "packets", "rejected", "subjects", "findings"}
        assert line["findings"]["version"] == {
            "rejected": True, "count": 1, "reason": "version: expected 6, got 5",
        }  # fmt: skip
        assert line["subjects"][0].keys() == {
            "subject", "device", "sender", "frames", "hz", "declared", "jitter_ms", "longest_ms", "missing", "repeated",
            "backward", "number", "timecode", "silent_s", "face", "remarks", "values",
        }  # fmt: skip


@posix
def test_each_broken_packet_is_told_with_its_reason(free_port: int) -> None:
    good = PyLiveLinkFace(name="Py").encode()
    broken = [
        (b"", "version", "an empty datagram"),
        (good[:100], "length", "end inside the 61 values"),
        (b"\x07" + good[1:], "version", "expected 6, got 7"),
        (good[:-245] + bytes([52]) + good[-244:], "count", "expected 61, got 52; the nine rotations are missing"),
        (good[:-4] + b"\x7f\xc0\0\0", "values", "not a finite number"),
        (PyLiveLinkFace(name="Py", fps=30).encode(), "frame-rate-denominator", "send 1"),
        (PyLiveLinkFace(name="Zoë").encode(), "subject", "are characters counted, not bytes?"),
    ]
    with monitoring("--port", str(free_port)) as monitor, sender(free_port) as send:
        for data, rule, reason in broken:
            send(data)
            line = monitor.until(lambda line: line["type"] == "rejected")
            assert (line["rule"], line["bytes"]) == (rule, len(data))
            assert reason in line["reason"]
        end = monitor.stop()
        assert (end["packets"], end["rejected"], end["subjects"]) == (len(broken), len(broken), [])
        assert monitor.process.wait(DEADLINE) == 1


@posix
def test_a_flood_of_broken_packets_is_not_told_one_by_one(free_port: int) -> None:
    with monitoring("--port", str(free_port)) as monitor, sender(free_port) as send:
        for _ in range(200):
            send(b"\x05")
        monitor.until(packets(200))
        monitor.stop()
        told = untold = 0
        in_this_second = 0
        for line in monitor.lines:
            if line["type"] == "rejected":
                told, in_this_second = told + 1, in_this_second + 1
                assert in_this_second <= REPORTS_A_SECOND
            elif line["type"] in ("second", "end"):
                untold, in_this_second = untold + line["untold"], 0
        assert told + untold == 200
        assert untold > 0


@posix
def test_python_osc_as_a_vmc_sender(free_port: int) -> None:
    client = SimpleUDPClient("127.0.0.1", free_port)
    with monitoring("--port", str(free_port), "--format", "vmc") as monitor:
        client.send_message("/VMC/Ext/OK", 1)
        client.send_message("/VMC/Ext/Blend/Val", ["JawOpen", 0.25])
        client.send_message("/VMC/Ext/Blend/Val", ["Blink", 1])  # python-osc makes an integer of this
        client.send_message("/VMC/Ext/Blend/Apply", [])
        line = monitor.until(packets(4))
        assert line["subjects"][0]["values"]["JawOpen"] == 0.25
        rejected = [line for line in monitor.lines if line["type"] == "rejected"]
        assert [line["rule"] for line in rejected] == ["type"]
        assert "the types are 'si', receivers want 'sf'" in rejected[0]["reason"]
    client._sock.close()


@posix
def test_osc_of_any_kind(free_port: int) -> None:
    client = SimpleUDPClient("127.0.0.1", free_port)
    with monitoring("--port", str(free_port), "--format", "osc") as monitor:
        client.send_message("/kff/Anna%20Lena/JawOpen", 0.25)
        client.send_message("/fader/3", 0.75)
        line = monitor.until(packets(2))
        assert {one["subject"].partition(":")[0]: one["values"] for one in line["subjects"]} == {
            "Anna Lena": {"JawOpen": 0.25}, "127.0.0.1": {"/fader/3": 0.75},
        }  # fmt: skip
    client._sock.close()


@posix
def test_ifacialmocap_as_the_vendor_shows_it(free_port: int) -> None:
    shapes = "|".join(f"{name}-{7 if name == 'eyeBlink_L' else 0}" for name in ifacialmocap.NAMES)
    text = (
        f"trackingStatus-1|{shapes}|=head#-21.488958,-6.038993,-6.6019735,-0.030653415,-0.10287084,-0.6584072|"
        "rightEye#6.0297494,2.4403017,0.25649446|leftEye#6.034903,-1.6660284,-0.17520553|"
    )
    with monitoring("--port", str(free_port), "--format", "ifacialmocap") as monitor, sender(free_port) as send:
        send(text.encode())
        send(text.replace("|=head", "|extra-1.5|=head").encode())
        line = monitor.until(packets(2))
        (subject,) = line["subjects"]
        assert (subject["subject"], len(subject["values"])) == ("iFacialMocap from 127.0.0.1", len(LIVELINK))
        assert subject["values"]["EyeBlinkLeft"] == 0.07
        assert sum(subject["values"][name] for name in LIVELINK[:SHAPES]) == pytest.approx(0.07)
        assert line["findings"].keys() == {"integer", "name"}


@posix
def test_who_is_not_allowed_is_named_and_not_judged(free_port: int) -> None:
    with (
        monitoring("--port", str(free_port), "--host", "0.0.0.0", "--allow", "192.0.2.1") as monitor,
        sender(free_port) as send,
    ):
        send(PyLiveLinkFace(name="Py").encode())
        line = monitor.until(lambda line: line["type"] == "second" and line["findings"])
        assert (line["packets"], line["subjects"]) == (0, [])
        assert [finding["reason"] for finding in line["findings"].values()] == [
            "1 packets came from 127.0.0.1, which --allow does not name"
        ]


def test_it_stops_by_itself_and_says_when_nothing_came(free_port: int) -> None:
    ended = kff("monitor", "--port", str(free_port), "--seconds", "0.3")
    assert ended.returncode == 1
    assert f"UDP 127.0.0.1:{free_port}, livelink: 0 packets" in ended.stdout
    assert "Nothing has come. Does the sender run" in ended.stdout
    assert ended.stderr == ""


def test_a_port_that_is_taken_names_who_holds_it() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        port = udp.getsockname()[1]
        ended = kff("monitor", "--port", str(port), "--seconds", "1")
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"kff-live: UDP 127.0.0.1:{port} cannot be listened on: ")
    assert "(process " in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--port", "0"), "--port: 0 is outside 1 to 65535"),
        (("--port", "70000"), "--port: 70000 is outside"),
        (("--seconds", "0"), "--seconds: 0, expected more than 0"),
        (("--seconds", "nan"), "--seconds: nan, expected more than 0"),
        (("--host", "0.0.0.0"), "--allow: beyond loopback the addresses of the allowed senders are needed"),
        (("--host", "no-such-host.invalid", "--allow", "x"), "--host: 'no-such-host.invalid' cannot be found"),
    ],
)
def test_wrong_options_are_the_users_error(arguments: tuple[str, ...], message: str) -> None:
    ended = kff("monitor", *arguments)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"kff-live: {message}")
    assert ended.stderr.count("\n") == 1
    assert ended.stdout == ""
