"""Sinks: where frames leave, made from their settings; a recording is written by a thread of its own."""

import itertools
import logging
import platform
import queue
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TextIO, runtime_checkable

import msgspec
import numpy as np

from kff_live.converters import recording
from kff_live.protocols import livelink, osc, vmc, vrchat
from kff_live.protocols.channels import HIGH, LOW, mirror
from kff_live.protocols.errors import ConfigError, EncodeError, UserError
from kff_live.protocols.frames import Frame, FrameRate, Thinning
from kff_live.runtime.clock import SystemClock
from kff_live.runtime.config import (
    MOST_RADIANS,
    Config,
    IFacialMocap,
    LiveLink,
    LiveLinkDevice,
    Osc,
    Recording,
    SinkConfig,
    Vmc,
    VRChat,
    VTubeStudio,
    carries_one_face,
    is_loopback,
    parse_target,
    sink_gain,
)
from kff_live.runtime.frame_thread import EventSink, Sink
from kff_live.runtime.sinks.listening import Ear, IFacialMocapSink, VRChatSink
from kff_live.runtime.sinks.livelink_device import LiveLinkDeviceSink
from kff_live.runtime.sinks.udp import UdpSink
from kff_live.runtime.sinks.vtubestudio import VTubeStudioSink

_log = logging.getLogger(__name__)

RECORDING_FRAMES = 600
"""Frames that a recording may be behind; what overflows is counted and lost."""

_LOWEST, _HIGHEST = (np.where(LOW < 0.0, sign * MOST_RADIANS, bound) for sign, bound in ((-1, LOW), (1, HIGH)))


class ClosingSink(Sink, Protocol):
    """A sink that holds something to be given back."""

    @property
    def lost(self) -> int:
        """Frames that did not leave."""

    def close(self) -> None:
        """Write what is left and close; called once, after the last frame."""


@runtime_checkable
class LoopSink(ClosingSink, Protocol):
    """A sink that also has a life on the asyncio loop; `name` is what it sends to."""

    name: str

    async def run(self) -> None:
        """Serve until cancelled."""


def device_id(subject: str, configured: str = "") -> str:
    """The device id of a subject: a UUID of this machine's name and the subject's, so the same at every start."""
    return configured or str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{subject}.kff-live.{platform.node()}"))


class Fitted:
    """A sink behind its own rate, gain, mirror and filter. It changes copies, so that no other sink notices.

    Args:
        settings: of the sink; `fits` says whether they ask for anything.
    """

    def __init__(self, sink: ClosingSink, settings: SinkConfig) -> None:
        self._sink = sink
        self._mirror = settings.mirror
        self._gain = sink_gain(settings)
        self._changes = settings.mirror or bool(np.any(self._gain != 1.0))
        self._thinning = Thinning(FrameRate.parse(settings.rate)) if settings.rate else None
        self._held: dict[str, Frame] = {}
        if isinstance(sink, EventSink):
            self.event = sink.event
        if isinstance(sink, LoopSink):
            self.name, self.run = sink.name, sink.run

    @staticmethod
    def fits(settings: SinkConfig) -> bool:
        """Whether a sink of these settings is to stand behind one."""
        return bool(settings.rate or settings.gain or settings.mirror or settings.channels)

    @property
    def lost(self) -> int:
        """Frames that the sink behind it lost."""
        return self._sink.lost

    def send(self, frame: Frame) -> None:
        """Pass a frame on, or hold it back."""
        if self._thinning is None or self._thinning.picks(frame):
            self._held.pop(frame.subject, None)
            self._pass(frame)
        else:
            self._held[frame.subject] = frame

    def close(self) -> None:
        """Pass on what was held back, so that the last frame is not a pose on the way to it; then close the sink."""
        for frame in self._held.values():
            self._pass(frame)
        self._sink.close()

    def _pass(self, frame: Frame) -> None:
        if self._changes:
            seen = mirror(frame.pose) if self._mirror else frame.pose
            pose = np.clip(seen * self._gain, _LOWEST, _HIGHEST)
            pose.setflags(write=False)
            frame = msgspec.structs.replace(frame, pose=pose)
        self._sink.send(frame)


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


class RecordingSink:
    """Writes frames as converters.recording reads them.

    Raises:
        UserError: the file cannot be written.
    """

    def __init__(self, path: Path, rate: FrameRate) -> None:
        self.lost = 0
        self._reported = False
        self._frames: queue.Queue[Frame | None] = queue.Queue(RECORDING_FRAMES)
        self.path, self._file = _open_new(path)
        self._file.write(recording.header(rate))
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
            try:
                self._file.write(recording.line(frame))
            except (OSError, ValueError) as error:  # the disk is full, or `close` could not wait any longer
                self.lost += 1
                self._report(error)

    def _report(self, error: Exception) -> None:
        if not self._reported:
            self._reported = True
            _log.warning("the recording cannot be written: %s", error)


# --- from settings to sinks


def _subjects(settings: SinkConfig, config: Config) -> Sequence[str]:
    """Whose frames a sink gets: all where none are named, the first where the format carries one face."""
    if settings.subjects is not None:
        return settings.subjects
    names = [subject.name for subject in config.subjects]
    return names[:1] if carries_one_face(settings) else names


def _targets(settings: LiveLink | Osc | Vmc | IFacialMocap | VRChat) -> list[tuple[str, int]]:
    return [parse_target(target, where="targets") for target in settings.targets]


def _livelink(settings: LiveLink, config: Config) -> dict[str, ClosingSink]:
    devices = {subject.name: subject.device for subject in config.subjects}
    targets = _targets(settings)
    # All encoders first: a name that cannot be encoded must not leave the sockets of the names before it open.
    encoders = {
        name: livelink.Encoder(device_id(name, devices[name]), name, config.rate)
        for name in _subjects(settings, config)
    }
    return {name: UdpSink(encoder, targets) for name, encoder in encoders.items()}


def _osc(settings: Osc, config: Config) -> dict[str, ClosingSink]:
    targets = _targets(settings)
    return {
        name: UdpSink(osc.Encoder(name, prefix=settings.prefix, naming=settings.naming), targets)
        for name in _subjects(settings, config)
    }


def _vmc(settings: Vmc, config: Config) -> dict[str, ClosingSink]:
    targets = _targets(settings)
    here = all(is_loopback(host) for host, _ in targets)
    encoder = vmc.Encoder(
        naming=settings.naming,
        presets=settings.presets,
        bones=settings.bones,
        positions=settings.positions,
        whole=settings.bundle == "whole" or (settings.bundle == "auto" and here),
    )
    return {name: UdpSink(encoder, targets) for name in _subjects(settings, config)}


def _ifacialmocap(settings: IFacialMocap, config: Config) -> dict[str, ClosingSink]:
    return {
        name: IFacialMocapSink(_targets(settings), version=settings.version, ear=_ear(settings))
        for name in _subjects(settings, config)
    }


def _vrchat(settings: VRChat, config: Config) -> dict[str, ClosingSink]:
    encoder = vrchat.Encoder(prefix=settings.prefix, native_eyes=settings.native_eyes, binary=settings.binary)
    return {name: VRChatSink(encoder, _targets(settings), ear=_ear(settings)) for name in _subjects(settings, config)}


def _ear(settings: IFacialMocap | VRChat) -> Ear | None:
    return Ear(*parse_target(settings.listen, where="listen"), settings.allow) if settings.listen else None


def _recording(settings: Recording, config: Config) -> dict[str, ClosingSink]:
    sink = RecordingSink(Path(settings.path).expanduser(), config.rate)
    return dict.fromkeys(_subjects(settings, config), sink)


def _vtubestudio(settings: VTubeStudio, config: Config) -> dict[str, ClosingSink]:
    return {name: VTubeStudioSink(settings, SystemClock()) for name in _subjects(settings, config)}


def _livelink_device(settings: LiveLinkDevice, config: Config) -> dict[str, ClosingSink]:
    devices = {subject.name: subject.device for subject in config.subjects}
    return {
        name: LiveLinkDeviceSink(settings, name, device_id(name, devices[name]), rate=config.rate, clock=SystemClock())
        for name in _subjects(settings, config)
    }


_KINDS: Mapping[type, Callable[..., dict[str, ClosingSink]]] = {
    LiveLink: _livelink,
    Osc: _osc,
    Vmc: _vmc,
    IFacialMocap: _ifacialmocap,
    VRChat: _vrchat,
    Recording: _recording,
    VTubeStudio: _vtubestudio,
    LiveLinkDevice: _livelink_device,
}
"""The whole plug-in system: a config struct and the function that makes its sinks, one a subject."""


def build(settings: SinkConfig, config: Config) -> dict[str, ClosingSink]:
    """The sinks of one `[[sinks]]` entry by subject.

    Raises:
        ConfigError: a value that only the encoder can judge, such as an over-long subject name.
    """
    try:
        sinks = _KINDS[type(settings)](settings, config)
    except EncodeError as error:
        raise ConfigError(f"sinks: {error}") from None
    if not Fitted.fits(settings):
        return sinks
    fitted = {id(sink): Fitted(sink, settings) for sink in sinks.values()}  # one may serve several
    return {name: fitted[id(sink)] for name, sink in sinks.items()}
