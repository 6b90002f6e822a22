"""The frame clock: a thread that ticks at absolute deadlines, plays every subject, and hands frames to the sinks."""

import logging
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import msgspec

from kff_live.protocols.frames import Frame, FrameRate
from kff_live.protocols.messages import Event
from kff_live.runtime.clock import Clock
from kff_live.runtime.player import Player
from kff_live.runtime.priority import raise_thread

_log = logging.getLogger(__name__)

_LAST_SUBFRAME = 0.9999  # the sub-frame is below 1, also as float32


class Sink(Protocol):
    """Where frames leave. `send` is called on the frame thread: it never blocks and keeps what it needs."""

    def send(self, frame: Frame) -> None:
        """Send or keep one frame."""


@runtime_checkable
class EventSink(Sink, Protocol):
    """A sink that also hears the WebSocket's events of the subjects whose frames it gets, and those of the model."""

    def event(self, subject: str, event: Event) -> None:
        """Send or keep one event; `subject` is empty for one of the model. Called on the asyncio loop's thread: it
        never blocks. What it raises is logged once and reaches nobody else.
        """


@dataclass
class FrameStats:
    """Counts since the start; `worst_late` (s) since it was last taken."""

    frames: int = 0
    skipped: int = 0
    worst_late: float = 0.0
    sink_errors: int = 0

    def take_worst_late(self) -> float:
        """The worst lateness since the last call, s."""
        worst, self.worst_late = self.worst_late, 0.0
        return worst


@dataclass
class Lane:
    """A player and the sinks that get its frames."""

    player: Player
    sinks: Sequence[Sink] = field(default_factory=list)
    last: Frame | None = None


class FrameThread:
    """Ticks at `rate`. Late by a frame or more it skips and counts, it never sends a burst.

    Args:
        start_seconds: time of day of the first frame, s; its number is that times the rate.
    """

    def __init__(self, clock: Clock, rate: FrameRate, lanes: Sequence[Lane], *, start_seconds: float = 0.0) -> None:
        self.stats = FrameStats()
        self._clock = clock
        self._rate = rate
        self._lanes = list(lanes)
        self._first_number = math.floor(start_seconds * rate.hz)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._live, name="frames", daemon=True)
        self._reported: set[int] = set()

    def start(self) -> None:
        """Begin to tick in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the tick in progress, and wait for it."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=1.0)

    def _live(self) -> None:
        raise_thread()
        self.run()

    def run(self, ticks: int | None = None) -> None:
        """Tick until `stop`, or for so many ticks: what the thread does, and what a test calls on a manual clock."""
        period = self._rate.period
        start = self._clock.now()
        tick = 0
        while not self._stopping.is_set() and (ticks is None or self.stats.frames < ticks):
            deadline = start + tick * period
            if deadline - self._clock.now() > 2 * period:  # the clock went back: go on from here, numbers still rise
                start = self._clock.now() - tick * period
                deadline = self._clock.now()
            self._clock.sleep_until(deadline)
            now = self._clock.now()
            late = now - deadline
            if late >= period:
                missed = int(late / period)
                self.stats.skipped += missed
                tick += missed
                late -= missed * period
            self._tick(now, self._first_number + tick, min(max(late / period, 0.0), _LAST_SUBFRAME))
            self.stats.worst_late = max(self.stats.worst_late, now - deadline)
            self.stats.frames += 1
            tick += 1

    def _tick(self, now: float, number: int, subframe: float) -> None:
        for lane in self._lanes:
            frame = self._frame(lane, now, number, subframe)
            for sink in lane.sinks:
                try:
                    sink.send(frame)
                except Exception as error:  # noqa: BLE001 - one sink's bug must not stop the face
                    self.stats.sink_errors += 1
                    self._report(sink, f"{type(sink).__name__} cannot send: {error}")

    def _frame(self, lane: Lane, now: float, number: int, subframe: float) -> Frame:
        """The frame of a lane; a bug in a layer costs the layers, not the face."""
        try:
            frame = lane.player.frame(now, number, subframe)
        except Exception as error:  # noqa: BLE001 - nor may it stop the other faces
            self._report(lane, f"{lane.player.subject} goes on without idle and live layers: {error!r}")
            lane.player.without_layers()
            if lane.last is None:
                return lane.player.frame(now, number, subframe)
            frame = msgspec.structs.replace(lane.last, number=number, subframe=subframe)
        lane.last = frame
        return frame

    def _report(self, about: object, message: str) -> None:
        if id(about) not in self._reported:
            self._reported.add(id(about))
            _log.error("%s", message)
