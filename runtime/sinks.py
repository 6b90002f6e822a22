"""Sinks: where frames leave. UDP is sent from the frame thread; a recording is written by a thread of its own."""

import itertools
import logging
import platform
import queue
import socket
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TextIO

import msgspec

from kff_live.protocols import livelink, osc
from kff_live.protocols.channels import LIVELINK
from kff_live.protocols.errors import ConfigError, EncodeError, UserError
from kff_live.protocols.frames import Frame, FrameRate, timecode
from kff_live.runtime.config import Config, LiveLink, Osc, Recording, SinkConfig, parse_target
from kff_live.runtime.frame_thread import Sink

_log = logging.getLogger(__name__)

RECORDING_FRAMES = 600
"""Frames that a recording may be behind; what overflows is counted and lost."""


class Encoder(Protocol):
    """Writes the frames of one subject as datagrams."""

    def encode(self, frame: Frame) -> bytes:
        """The datagram of a frame."""


class ClosingSink(Sink, Protocol):
    """A sink that holds something to be given back; `lost` counts frames that did not leave."""

    lost: int

    def close(self) -> None:
        """Write what is left and close; called once, after the last frame."""


def device_id(subject: str, configured: str = "") -> str:
    """The device id of a subject: a UUID of this machine's name and the subject's, so the same at every start."""
    return configured or str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{subject}.kff-live.{platform.node()}"))


class UdpSink:
    """Sends every frame to every target, without blocking; what the system refuses is counted and lost."""

    def __init__(self, encoder: Encoder, targets: Sequence[tuple[str, int]]) -> None:
        self.sent = 0
        self.lost = 0
        self._encoder = encoder
        self._reported: set[int] = set()
        self._targets: list[tuple[socket.socket, Any]] = []
        try:
            for host, port in targets:
                self._targets.append(_open(host, port))
        except UserError:
            self.close()
            raise

    def send(self, frame: Frame) -> None:
        """Encode once, send to all."""
        data = self._encoder.encode(frame)
        for i, (udp, address) in enumerate(self._targets):
            try:
                udp.sendto(data, address)
                self.sent += 1
            except OSError as error:
                self.lost += 1
                if i not in self._reported and not isinstance(error, BlockingIOError):
                    self._reported.add(i)
                    _log.warning("cannot send to %s port %s: %s", address[0], address[1], error.strerror)

    def close(self) -> None:
        """Close the sockets."""
        for udp, _ in self._targets:
            udp.close()


def _open(host: str, port: int) -> tuple[socket.socket, Any]:
    """A non-blocking socket, and the address resolved once."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    except (OSError, UnicodeError):
        raise UserError(f"sinks: the host {host!r} cannot be found") from None
    udp = socket.socket(family, kind, protocol)
    udp.setblocking(False)
    if family == socket.AF_INET:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    return udp, address


def _open_text(path: Path, mode: str) -> TextIO:
    try:
        return path.open(mode, encoding="utf-8", newline="\n")  # type: ignore[return-value]  # text by its mode
    except FileExistsError:
        raise
    except OSError as error:
        raise UserError(f"sinks: {path}: cannot be written: {error.strerror}") from None


def _open_new(path: Path) -> tuple[Path, TextIO]:
    """A file that was not there before: a take is never overwritten, the next is called take-2.jsonl."""
    for number in itertools.count(1):
        candidate = path if number == 1 else path.with_stem(f"{path.stem}-{number}")
        try:
            return candidate, _open_text(candidate, "x")
        except FileExistsError:
            if not candidate.is_file():  # a pipe or a device is written to as it is; a folder says so itself
                return candidate, _open_text(candidate, "w")
    raise AssertionError("count does not end")


class _Line(msgspec.Struct):
    """One frame of a recording."""

    subject: str
    timecode: str
    frame: int
    subframe: float
    id: str | None
    key: int
    values: list[float]


class RecordingSink:
    """Writes frames as JSON lines: a first line with rate and channels, then a line a frame.

    Raises:
        UserError: the file cannot be written.
    """

    def __init__(self, path: Path, rate: FrameRate) -> None:
        self.lost = 0
        self._reported = False
        self._frames: queue.Queue[Frame | None] = queue.Queue(RECORDING_FRAMES)
        self.path, self._file = _open_new(path)
        header = {"format": "kff-live recording", "version": 1, "rate": str(rate), "channels": LIVELINK}
        self._file.write(msgspec.json.encode(header).decode() + "\n")
        self._thread = threading.Thread(target=self._write, name=f"recording {path.name}", daemon=True)
        self._thread.start()

    def send(self, frame: Frame) -> None:
        """Queue a frame."""
        try:
            self._frames.put_nowait(frame)
        except queue.Full:
            self.lost += 1

    def close(self) -> None:
        """Write what is queued and close the file."""
        with suppress(queue.Full):
            self._frames.put(None, timeout=2.0)
        self._thread.join(timeout=2.0)
        try:
            self._file.close()
        except OSError as error:
            self._report(error)
        if self.lost:
            _log.warning("the recording lost %d frames", self.lost)

    def _write(self) -> None:
        while (frame := self._frames.get()) is not None:
            values = [round(float(v), 5) for v in frame.pose]
            line = _Line(
                frame.subject,
                timecode(frame.number, frame.subframe, frame.rate),
                frame.number,
                round(frame.subframe, 4),
                frame.utterance,
                frame.key,
                values,
            )
            try:
                self._file.write(msgspec.json.encode(line).decode() + "\n")
            except (OSError, ValueError) as error:  # the disk is full, or `close` could not wait any longer
                self.lost += 1
                self._report(error)

    def _report(self, error: Exception) -> None:
        if not self._reported:
            self._reported = True
            _log.warning("the recording cannot be written: %s", error)


# --- from settings to sinks


def _subjects(settings: SinkConfig, config: Config) -> Sequence[str]:
    """Whose frames a sink gets: all where none are named."""
    return [subject.name for subject in config.subjects] if settings.subjects is None else settings.subjects


def _livelink(settings: LiveLink, config: Config) -> dict[str, ClosingSink]:
    devices = {subject.name: subject.device for subject in config.subjects}
    targets = [parse_target(target, where="targets") for target in settings.targets]
    # All encoders first: a name that cannot be encoded must not leave the sockets of the names before it open.
    encoders = {
        name: livelink.Encoder(device_id(name, devices[name]), name, config.rate)
        for name in _subjects(settings, config)
    }
    return {name: UdpSink(encoder, targets) for name, encoder in encoders.items()}


def _osc(settings: Osc, config: Config) -> dict[str, ClosingSink]:
    targets = [parse_target(target, where="targets") for target in settings.targets]
    return {
        name: UdpSink(osc.Encoder(name, prefix=settings.prefix, naming=settings.naming), targets)
        for name in _subjects(settings, config)
    }


def _recording(settings: Recording, config: Config) -> dict[str, ClosingSink]:
    sink = RecordingSink(Path(settings.path).expanduser(), config.rate)
    return dict.fromkeys(_subjects(settings, config), sink)


_KINDS: Mapping[type, Callable[..., dict[str, ClosingSink]]] = {
    LiveLink: _livelink,
    Osc: _osc,
    Recording: _recording,
}
"""The whole plug-in system: a config struct and the function that makes its sinks, one a subject."""


def build(settings: SinkConfig, config: Config) -> dict[str, ClosingSink]:
    """The sinks of one `[[sinks]]` entry by subject.

    Raises:
        ConfigError: a value that only the encoder can judge, such as an over-long subject name.
    """
    try:
        return _KINDS[type(settings)](settings, config)
    except EncodeError as error:
        raise ConfigError(f"sinks: {error}") from None
