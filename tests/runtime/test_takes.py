"""`kff-live record` and `kff-live play`, spawned, with PyLiveLinkFace as the sender and as the decoder."""

import contextlib
import io
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pylivelinkface import FaceBlendShape, PyLiveLinkFace

from kff_live.converters import livelink_csv
from kff_live.converters.cli import main as convert
from kff_live.converters.reading import Reading
from kff_live.converters.takes import opened
from kff_live.protocols.channels import COUNT, INDEX, LIVELINK, neutral, pose_from_names
from kff_live.protocols.frames import Frame, FrameRate, timecode
from kff_live.runtime.record import Recorder, SenderClock
from tests.runtime.receiver import Receiver

DEADLINE = 60.0
JAW, YAW = INDEX["JawOpen"], INDEX["HeadYaw"]


class Process:
    """A spawned kff-live whose standard error is read as it comes."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kff_live.runtime.cli", *arguments],
            cwd=folder,
            env=environment | {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "APPDATA": str(folder)},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said: list[str] = []
        self._came = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._came:
                self.said.append(line)
                self._came.notify_all()

    def wait_for(self, text: str) -> None:
        with self._came:
            found = self._came.wait_for(lambda: any(text in line for line in self.said), DEADLINE)
        assert found, self.said

    def end(self, how: int | None = None) -> int:
        """Wait for the end, after a signal if any; the exit status."""
        if how is not None:
            self.process.send_signal(how)
        status = self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        assert not any("Traceback" in line for line in self.said), self.said
        return status


@contextlib.contextmanager
def spawned(folder: Path, *arguments: str) -> Iterator[Process]:
    made = Process(folder, *arguments)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.wait()
        made._reader.join(DEADLINE)
        assert made.process.stderr is not None
        made.process.stderr.close()


def settings(folder: Path, *targets: int, websocket: int) -> str:
    """A config whose frames go to these ports of this machine."""
    path = folder / "test.toml"
    addresses = ", ".join(f'"127.0.0.1:{port}"' for port in targets)
    path.write_text(
        f"[websocket]\nport = {websocket}\n[osc_in]\nenabled = false\n[idle]\nenabled = false\n"
        f'[[sinks]]\ntype = "livelink"\ntargets = [{addresses}]\n'
    )
    return str(path)


def port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def performance(seconds: float = 3.0) -> list[Frame]:
    """A head that turns evenly, so that its angle tells the time, and a mouth that opens and goes to its left."""
    made = []
    for i in range(round(seconds * 60) + 1):
        t = i / 60
        values = {"JawOpen": 0.4 - 0.4 * np.cos(5 * t), "MouthLeft": 0.3 + 0.3 * np.sin(2 * t), "HeadYaw": t / 10}
        made.append(Frame("Face", 5000 + i, 0.25, FrameRate(), pose_from_names(values)))
    return made


def saved(path: Path, frames: list[Frame]) -> Path:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        livelink_csv.write(frames, file)
    return path


def read(path: Path, **reading: Any) -> list[Frame]:
    with opened(path, None, Reading(**reading)) as take:
        return list(take.frames)


def poses(frames: list[Frame]) -> NDArray[np.float32]:
    return np.array([frame.pose for frame in frames], np.float32).reshape(-1, COUNT)


# --- record -------------------------------------------------------------------------------------------------------


def send(to: int, until: threading.Event, **values: float) -> None:
    """What PyLiveLinkFace sends at 60 frames a second."""
    face = PyLiveLinkFace(name="Phone", filter_size=1)
    for name, value in values.items():
        face.set_blendshape(FaceBlendShape[name], value)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        while not until.wait(1 / 60):
            for data in (face.encode(), b"not a packet", face.encode()[:-245]):  # the last as of an app without a face
                udp.sendto(data, ("127.0.0.1", to))


@pytest.mark.parametrize("name", ["take.csv", "take.jsonl"])
def test_what_arrives_from_another_sender_is_recorded(tmp_path: Path, name: str) -> None:
    listening, until = port(), threading.Event()
    (tmp_path / name).write_text("old")
    with spawned(tmp_path, "record", name, "--port", str(listening), "--seconds", "1", "--force") as recorder:
        recorder.wait_for("Ctrl-C ends")
        values = {"MouthLeft": 1.0, "JawRight": 0.5, "HeadYaw": -0.25}
        sender = threading.Thread(target=send, args=(listening, until), kwargs=values)
        sender.start()
        try:
            assert recorder.end() == 0
        finally:
            until.set()
            sender.join()
    frames = read(tmp_path / name)
    assert 20 < len(frames) <= 61
    assert (np.diff([frame.seconds for frame in frames]) > 0).all()  # though PyLiveLinkFace's numbers do not rise
    assert frames[-1].seconds - frames[0].seconds == pytest.approx(1.0, abs=0.3)
    assert np.array_equal(poses(frames), np.tile(pose_from_names(values), (len(frames), 1)))
    if name.endswith(".jsonl"):
        assert {frame.subject for frame in frames} == {"Phone"}
    for what in ("packets no Live Link packet (version: expected 6", "packets without a face"):
        assert any(what in line for line in recorder.said)
    assert any(f"{len(frames)} frames in 1.0 s" in line for line in recorder.said)


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot be sent Ctrl-C alone there")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_a_recording_that_is_whole(tmp_path: Path, how: int) -> None:
    listening, until = port(), threading.Event()
    take = tmp_path / "take.csv"
    with spawned(tmp_path, "record", "take.csv", "--port", str(listening)) as recorder:
        recorder.wait_for("Ctrl-C ends")
        sender = threading.Thread(target=send, args=(listening, until), kwargs={"JawOpen": 0.5})
        sender.start()
        try:
            deadline = time.monotonic() + DEADLINE
            while take.stat().st_size < 10_000:  # every line is on disk at once
                assert time.monotonic() < deadline
                recorder.process.poll()
            assert recorder.end(how) == 0
        finally:
            until.set()
            sender.join()
    assert len(read(take)) >= 10


@pytest.mark.parametrize("old", [None, "precious"])
def test_where_nothing_comes_nothing_is_written(tmp_path: Path, old: str | None) -> None:
    take = tmp_path / "take.csv"
    if old is not None:
        take.write_text(old)
    force = ["--force"] if old is not None else []
    with spawned(tmp_path, "record", "take.csv", "--port", str(port()), "--seconds", "0.3", *force) as recorder:
        assert recorder.end() == 1
    assert any("nothing came from UDP 127.0.0.1:" in line for line in recorder.said)
    assert (take.read_text() if take.exists() else None) == old


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("take.npy",), "take.npy: expected .csv or .jsonl; kff-convert makes the others"),
        (("take",), "take: which format?"),
        (("take.csv", "--seconds", "0"), "--seconds: 0, expected more than 0"),
        (("take.csv", "--port", "0"), "--port: 0 is outside 1 to 65535"),
        (("take.csv", "--port", "11119", "--host", "0.0.0.0"), "--allow: beyond loopback the addresses of the allowed"),
        (("take.csv", "--url", "ws://127.0.0.1:1"), "start it with  kff-live"),
        (("there.csv", "--port", "11119"), "there.csv: it exists; --force overwrites it"),
        (("no/take.csv", "--port", "11119"), "no/take.csv: cannot be written: No such file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_mistake_with_record_is_told_in_one_line(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    (tmp_path / "there.csv").write_text("precious")
    with spawned(tmp_path, "record", *arguments) as recorder:
        assert recorder.end() == 2
    assert said in recorder.said[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["there.csv"]


def recorded(*frames: Frame, csv: bool = False, subject: str | None = None) -> tuple[Recorder, list[str]]:
    file = io.StringIO()
    recorder = Recorder(file, csv=csv, subject=subject)
    for frame in frames:
        recorder.take(frame)
    return recorder, file.getvalue().splitlines()[1:]


def frame(number: int, subject: str = "Face", rate: FrameRate | None = None) -> Frame:
    return Frame(subject, number, 0.0, rate or FrameRate(), neutral())


def timed(*sent: float, every: float = 1 / 60) -> list[float | None]:
    """What becomes of frames with these numbers that arrive evenly: numbers, sub-frames included."""
    clock, found = SenderClock(), []
    for i, number in enumerate(sent):
        made = clock.timed(frame(int(number)), 100.0 + i * every)
        found.append(None if made is None else round(made.number + made.subframe, 3))
    return found


def test_times_that_rise_are_the_senders_own() -> None:
    numbers = [1000.0 + i + (i > 30) * 3 for i in range(100)]  # three were lost
    assert timed(*numbers) == numbers


@pytest.mark.parametrize("hz", [59.9, 60.0, 60.1])
def test_a_clock_that_drifts_and_packets_that_are_held_up_do_no_harm(hz: float) -> None:
    clock = SenderClock()
    for i in range(60 * 1200):
        arrived = i / hz + (0.5 if i % 600 == 300 else 0.0)
        kept = clock.timed(sent := frame(i), arrived)
        assert kept is sent


def test_a_frame_that_comes_late_is_left_out() -> None:
    assert timed(1000, 1001, 1003, 1002, 1004, 1005) == [1000, 1001, 1003, None, 1004, 1005]


@pytest.mark.parametrize("restart", [5, 900_000])
def test_a_sender_that_starts_over_goes_on_by_the_times_of_arrival(restart: int) -> None:
    found = timed(*range(1000, 1010), *range(restart, restart + 10))
    assert found == [*range(1000, 1010), None, None, None, None, *(1014.0 + i for i in range(6))]


@pytest.mark.parametrize("numbers", [[1000] * 100, [1000 + i // 5 * 5 for i in range(100)]], ids=["one", "every fifth"])
def test_a_sender_whose_numbers_stand_still_is_timed_by_arrival(numbers: list[int]) -> None:
    found = timed(*numbers)
    assert found[-60:] == pytest.approx([1040.0 + i for i in range(60)], abs=5.0)
    assert np.diff(np.array(found[-60:], float)) == pytest.approx(1.0)


def test_a_csv_has_one_subject_and_json_lines_all() -> None:
    both = [frame(1, "Anna"), frame(1, "Bo"), frame(2, "Anna"), frame(2, "Bo")]
    recorder, lines = recorded(*both, csv=True)
    assert (len(lines), recorder.left_out) == (2, {"Bo": 2})
    _, lines = recorded(*both)
    assert [json.loads(line)["subject"] for line in lines] == ["Anna", "Bo", "Anna", "Bo"]
    _, lines = recorded(*both, subject="Bo")
    assert [json.loads(line)["subject"] for line in lines] == ["Bo", "Bo"]


def test_a_recording_has_one_rate() -> None:
    _, lines = recorded(frame(60), frame(30, "Bo", FrameRate(30)))
    assert [(json.loads(line)["frame"], json.loads(line)["timecode"]) for line in lines] == [
        (60, "00:00:01:00.000"), (60, "00:00:01:00.000")
    ]  # fmt: skip


# --- play ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def on_the_curve(shown: NDArray[np.float32]) -> NDArray[np.float32]:
    """The packets of the take's middle, which must hold what the take has at the time that their head angle tells."""
    rising = shown[: int(shown[:, YAW].argmax())]
    middle = rising[(rising[:, YAW] > 0.05) & (rising[:, YAW] < 0.25)]
    t = middle[:, YAW] * 10
    assert np.abs(middle[:, JAW] - (0.4 - 0.4 * np.cos(5 * t))).max() < 2e-3
    assert np.abs(middle[:, INDEX["MouthLeft"]] - (0.3 + 0.3 * np.sin(2 * t))).max() < 2e-3
    return middle


@pytest.mark.parametrize("name", ["take.csv", "take.kff"])
def test_a_take_is_what_the_packets_hold(tmp_path: Path, receiver: Receiver, name: str) -> None:
    take = saved(tmp_path / "first.csv", performance())
    if name != "take.csv":
        assert convert([str(take), str(tmp_path / name), "--error", "0.001"]) == 0
        take = tmp_path / name
    config = settings(tmp_path, receiver.port, websocket=port())
    with spawned(tmp_path, "play", str(take), "--config", config) as player:
        assert player.end() == 0
    shown = np.array([p.values for p in receiver.packets])
    assert len(on_the_curve(shown)) > 60
    assert not shown[-3:].any()
    assert all(a < b for a, b in itertools.pairwise(p.number for p in receiver.packets))
    assert any("playing" in line and ("3.6 s" if name.endswith(".kff") else "3.0 s") in line for line in player.said)
    assert any(" fps   late at worst" in line for line in player.said)


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot be sent Ctrl-C alone there")
def test_ctrl_c_eases_a_loop_to_neutral(tmp_path: Path, receiver: Receiver) -> None:
    take = saved(tmp_path / "take.csv", performance(1.0))
    config = settings(tmp_path, receiver.port, websocket=port())
    arguments = ("--loop", "--speed", "2", "--from", "0.2", "--to", "0.9", "--blend", "0.2")
    with spawned(tmp_path, "play", str(take), "--config", config, *arguments) as player:
        for _ in range(3):  # three turns
            receiver.wait(lambda packets: bool(packets[-1].values[YAW] >= 0.08))
            receiver.wait(lambda packets: bool(packets[-1].values[YAW] < 0.07))
        receiver.wait(lambda packets: bool(packets[-1].values[JAW] >= 0.3))
        assert player.end(signal.SIGINT) == 0
    shown = np.array([p.values for p in receiver.packets])
    assert not shown[-3:].any()
    assert 0.085 < shown[:, YAW].max() < 0.095
    steps = np.abs(np.diff(shown, axis=0)) / np.diff([p.number for p in receiver.packets])[:, None]
    assert steps.max() < 0.2  # at twice the speed the jaw moves 0.067 a frame, a blend adds to that


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("no.csv",), "no.csv: cannot be read: No such file"),
        (("bad.csv",), "bad.csv: line 2, column 1 (Timecode): 'soon' is not a timecode"),
        (("take.csv", "--from", "2"), "take.csv: nothing lies between --from 2 and --to 1; the take is 1.00 s long"),
        (("take.csv", "--from", "-1"), "take.csv: nothing lies between --from -1"),
        (("one.csv",), "one.csv: nothing lies between --from 0 and --to 0; the take is 0.00 s long"),
        (("empty.csv",), "empty.csv: it holds no frame"),
        (("take.csv", "--speed", "0"), "--speed: 0 is outside 0.1 to 10"),
        (("take.csv", "--blend", "-1"), "--blend: -1 is outside 0 to 10 s"),
        (("take.csv", "--subject", "Bo"), "--subject: there is no subject 'Bo' in the settings, but Face"),
        (("take.csv", "--format", "bvh"), "--format: 'bvh' is not one of csv, jsonl"),
        (("take.csv", "--in-fps", "0"), "--in-fps: '0' is not a frame rate"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_mistake_with_play_is_told_in_one_line(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    saved(tmp_path / "take.csv", performance(1.0))
    saved(tmp_path / "one.csv", performance(0.0))
    saved(tmp_path / "empty.csv", [])
    (tmp_path / "bad.csv").write_text("Timecode,BlendshapeCount,JawOpen\nsoon,1,0.5\n")
    with spawned(tmp_path, "play", *arguments) as player:
        assert player.end() == 2
    assert len(player.said) == 1
    assert said in player.said[0]


# --- both ---------------------------------------------------------------------------------------------------------


def test_a_take_of_our_own_packets_goes_through_every_format(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """CSV of what arrives, JSON lines of what is sent, then CSV -> JSON lines -> keyframes -> CSV."""
    listening, websocket = port(), port()
    take = saved(tmp_path / "take.csv", performance(4.0))
    with (
        spawned(tmp_path, "record", "arrived.csv", "--port", str(listening)) as arriving,
        spawned(
            tmp_path, "play", str(take), "--config", settings(tmp_path, listening, websocket=websocket), "--blend", "1"
        ) as player,
    ):
        arriving.wait_for("Ctrl-C ends")
        player.wait_for("playing")
        with spawned(tmp_path, "record", "sent.jsonl", "--url", f"ws://127.0.0.1:{websocket}") as sending:
            assert sending.end() == 0  # when the runtime ends
        assert player.end() == 0
        if sys.platform == "win32":
            arriving.process.kill()
        else:
            assert arriving.end(signal.SIGINT) == 0
    arrived, sent = read(tmp_path / "arrived.csv"), read(tmp_path / "sent.jsonl")
    by_time = {timecode(f.number, f.subframe, f.rate)[:-1]: f.pose for f in arrived}
    both = [(f.pose, by_time[code]) for f in sent if (code := timecode(f.number, f.subframe, f.rate)[:-1]) in by_time]
    assert len(both) > 0.8 * len(sent) > 100
    assert max(float(np.abs(a - b).max()) for a, b in both) <= 5.1e-6

    steps = [("arrived.jsonl", 5.1e-6), ("thinned.kff", 0.02), ("again.csv", 0.02 + 1e-6)]
    source, before = "arrived.csv", arrived
    for name, stated in steps:
        assert convert([str(tmp_path / source), str(tmp_path / name), "--error", "0.02"]) == 0
        told = capsys.readouterr().err
        if name.endswith(".kff"):
            error = float(told.partition("off by at most ")[2].split()[0])
        else:
            after = read(tmp_path / name)
            at = [f.seconds for f in after]
            wanted = np.array([np.interp(at, [f.seconds for f in before], curve) for curve in poses(before).T]).T
            error = float(np.abs(poses(after) - wanted).max())
        with capsys.disabled():
            print(f"\n{source} -> {name}: off by at most {error:.7f}, stated {stated}", end="")  # noqa: T201 - wanted
        assert error <= stated
        source = name
    assert set(LIVELINK[i] for i in np.flatnonzero(np.abs(poses(read(tmp_path / "again.csv"))).max(axis=0) > 0.05)) == {
        "JawOpen", "MouthLeft", "HeadYaw"
    }  # fmt: skip
