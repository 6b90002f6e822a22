"""`kff-live record`: a take of what a running kff-live sends, or of what arrives on a Live Link port."""

import argparse
import queue
import signal
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TextIO

import msgspec
import numpy as np
from websockets.exceptions import ConnectionClosed

from kff_live.converters import livelink_csv, recording
from kff_live.converters.takes import recognised
from kff_live.protocols import livelink
from kff_live.protocols.errors import DecodeError, UserError
from kff_live.protocols.frames import Frame, FrameRate
from kff_live.protocols.messages import Error, FrameMessage, Subscribe, Welcome, encode
from kff_live.runtime.client import connect_to
from kff_live.runtime.clock import SystemClock
from kff_live.runtime.config import is_loopback
from kff_live.runtime.diagnosis.monitor import Receiver

MOST_LATE, MOST_EARLY = 1.0, 0.1
"""Seconds by which a frame may arrive later than its time says, as Wi-Fi holds packets up, and earlier."""

DRIFT = 0.002
"""Share by which a sender's clock may be slow."""

MOST_DOUBT = 5.0
"""Frames with times that cannot be, after which a sender's times are no longer used; ten good ones make up for one."""

MOST_SUBJECTS = 64
"""Subjects that are recorded from a port."""

_MOST_REASONS = 100
_WAKE_SECONDS = 0.2  # how long Ctrl-C may wait
_DECODER = msgspec.json.Decoder(Welcome | FrameMessage | Error)


class Source(Protocol):
    """Where frames to record come from."""

    name: str
    unread: Counter[str]
    """What came and was no frame, in words."""

    def frames(self) -> Iterator[Frame | None]:
        """Frames as they come, None where none has come for a while; ends with the source."""

    def close(self) -> None:
        """Leave."""


class Sent:
    """What a running kff-live sends, through its WebSocket.

    Raises:
        UserError: there is none at the address, or it refuses; while frames are read also an unknown subject.
    """

    def __init__(self, url: str, token: str, subject: str | None) -> None:
        self.name = url
        self.unread: Counter[str] = Counter()
        self._connection = connect_to(url, token)
        self._connection.send(encode(Subscribe(frames=True, subjects=None if subject is None else [subject])))

    def frames(self) -> Iterator[Frame | None]:
        """Frames with their texts and keyframes, values to five decimals."""
        rate = FrameRate()
        while True:
            try:
                message = _DECODER.decode(self._connection.recv(timeout=_WAKE_SECONDS))
            except TimeoutError:
                yield None
            except msgspec.ValidationError:  # another event
                continue
            except ConnectionClosed:
                return
            else:
                if isinstance(message, Error):
                    raise UserError(message.message)
                if isinstance(message, Welcome):
                    rate = FrameRate.parse(message.rate)
                    continue
                pose = np.array(message.values, np.float32)
                yield Frame(message.subject, message.frame, message.subframe, rate, pose, message.id, message.key)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class Arriving:
    """What anybody sends to a Live Link port.

    Raises:
        UserError: the port cannot be listened on.
    """

    def __init__(self, host: str, port: int, allow: list[str]) -> None:
        self.name = f"UDP {host}:{port}"
        self.unread: Counter[str] = Counter()
        self._receiver = Receiver(host, port, allow)

    def frames(self) -> Iterator[Frame | None]:
        """Frames with the sender's own times, as far as those can be."""
        clocks: defaultdict[str, SenderClock] = defaultdict(SenderClock)
        while True:
            try:
                datagram = self._receiver.arrived.get(timeout=_WAKE_SECONDS)
            except queue.Empty:
                datagram = None
            if datagram is None:
                yield None
                continue
            try:
                packet = livelink.decode(datagram.data)
            except DecodeError as error:
                self._leave(f"no Live Link packet ({error})")
                continue
            if not isinstance(packet.pose, np.ndarray):
                self._leave("without a face")
                continue
            if packet.subject not in clocks and len(clocks) == MOST_SUBJECTS:
                self._leave("of too many subjects")
                continue
            frame = Frame(packet.subject, packet.number, packet.subframe, packet.rate, packet.pose)
            timed = clocks[packet.subject].timed(frame, datagram.at)
            if timed is not None:
                yield timed
            else:
                self._leave(f"of {packet.subject!r} with a time that cannot be")

    def _leave(self, why: str) -> None:
        self.unread[why if why in self.unread or len(self.unread) < _MOST_REASONS else "for other reasons"] += 1

    def close(self) -> None:
        """Stop listening."""
        self._receiver.close()


class SenderClock:
    """Tells whether the times that a subject's sender gives can be: they rise, and keep up with those of arrival.

    Not all do. PyLiveLinkFace's go back and forth, others repeat a number. A frame whose time cannot be is left out;
    where that goes on, frames from then on have the times at which they arrive.
    """

    def __init__(self) -> None:
        self._doubt = 0.0
        self._last: tuple[float, float] | None = None  # of the frame before: its time, its arrival, s
        self._ahead = 0.0  # by how much the sender's times are ahead of arrival where packets are not held up, s

    def timed(self, frame: Frame, arrived: float) -> Frame | None:
        """The frame as it is to be recorded; `arrived` is any clock's time in seconds."""
        sent = frame.seconds
        if self._last is None:
            self._last, self._ahead = (sent, arrived), sent - arrived
            return frame
        last, came = self._last
        if self._doubt < MOST_DOUBT:
            ahead = sent - arrived - self._ahead
            if last < sent and -MOST_LATE < ahead < MOST_EARLY:
                self._last = sent, arrived
                self._ahead += max(ahead, -DRIFT * (arrived - came))
                self._doubt = max(0.0, self._doubt - 0.1)
                return frame
            self._doubt += 1.0
            if self._doubt < MOST_DOUBT:
                return None
        self._last = last + arrived - came, arrived
        number, subframe = divmod(self._last[0] * frame.rate.hz, 1.0)
        return msgspec.structs.replace(frame, number=int(number), subframe=subframe)


class Recorder:
    """Writes the frames that it gets as a take: a CSV of one subject, the first that comes where none is named, or JSON
    lines of all.
    """

    def __init__(self, file: TextIO, *, csv: bool, subject: str | None = None) -> None:
        self.frames = 0
        self.left_out: Counter[str] = Counter()
        """Frames of other subjects, by subject."""
        self._file = file
        self._csv = csv
        self._subject = subject
        self._rate: FrameRate | None = None

    def take(self, frame: Frame) -> None:
        """Write a frame."""
        if self._csv and self._subject is None:
            self._subject = frame.subject
        if self._subject not in (None, frame.subject):
            self.left_out[frame.subject] += 1
            return
        if self._rate is None:
            self._rate = frame.rate
            if self._file.seekable():
                self._file.truncate(0)
            self._file.write(livelink_csv.header() if self._csv else recording.header(frame.rate))
        frame = recording.at_rate(frame, self._rate)
        self._file.write(livelink_csv.line(frame) if self._csv else recording.line(frame))
        self.frames += 1


def record(options: argparse.Namespace) -> int:
    """The sub-command; returns 0, or 1 when nothing came.

    Raises:
        UserError: an option is wrong, the file cannot be written, or there is nothing to listen to.
    """
    form = recognised(options.output).name
    if form not in ("csv", "jsonl"):
        raise UserError(f"{options.output}: expected .csv or .jsonl; kff-convert makes the others of them")
    if options.seconds is not None and not options.seconds > 0.0:
        raise UserError(f"--seconds: {options.seconds:g}, expected more than 0")
    source = _source(options)
    try:
        with _new(options.output, force=options.force) as file, _ending() as stopping:
            recorder = Recorder(file, csv=form == "csv", subject=options.subject)
            _tell(f"recording {source.name} to {options.output}; Ctrl-C ends")
            seconds = _follow(source, recorder, options.seconds, stopping)
    finally:
        source.close()
    return _end(source, recorder, seconds, options.output)


def _source(options: argparse.Namespace) -> Source:
    if options.port is None:
        return Sent(options.url, options.token, options.subject)
    if not 1 <= options.port <= 65535:
        raise UserError(f"--port: {options.port} is outside 1 to 65535")
    if not is_loopback(options.host) and not options.allow:
        raise UserError("--allow: beyond loopback the addresses of the allowed senders are needed")
    return Arriving(options.host, options.port, options.allow)


@contextmanager
def _new(path: Path, *, force: bool) -> Iterator[TextIO]:
    """A file that keeps every line as soon as it is written: a take must not be lost with the program.

    What `force` overwrites is there until the first frame has come, and a file without a line does not stay.
    """
    try:
        file = path.open("a" if force else "x", encoding="utf-8", newline="\n", buffering=1)
    except FileExistsError:
        raise UserError(f"{path}: it exists; --force overwrites it") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None
    try:
        with file:
            yield file
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None
    finally:
        if path.is_file() and not path.stat().st_size:
            path.unlink()


@contextmanager
def _ending() -> Iterator[threading.Event]:
    """Set by Ctrl-C and SIGTERM, instead of an end in the middle of a line."""
    stopping = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, lambda *_: stopping.set()) for number in numbers}
    try:
        yield stopping
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _follow(source: Source, recorder: Recorder, seconds: float | None, stopping: threading.Event) -> float:
    """Record until stopped, or for so long from the first frame on; returns the time to the last frame, s.

    Where no frame comes at all, the same time ends it as well.
    """
    clock = SystemClock()
    began = last = clock.now()
    for frame in source.frames():
        now = clock.now()
        if frame is not None:
            if not recorder.frames:
                began = now
            last = now
            recorder.take(frame)
        if stopping.is_set() or (seconds is not None and now - began >= seconds):
            break
    return last - began


def _end(source: Source, recorder: Recorder, seconds: float, path: Path) -> int:
    for name, count in recorder.left_out.items():
        _tell(f"left out: {count} frames of {name!r}; --subject chooses")
    for what, count in source.unread.most_common(5):
        _tell(f"{count} packets {what}")
    if not recorder.frames:
        _tell(f"nothing came from {source.name}; nothing is written")
        return 1
    _tell(f"{path}: {recorder.frames} frames in {seconds:.1f} s ({recorder.frames / max(seconds, 1e-3):.1f} a second)")
    return 0


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - a person is to read it
