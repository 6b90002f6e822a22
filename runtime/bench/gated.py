"""A process that is `kff-live run` with a gate before its sinks: they get so many frames at a time, and no others.

Started as `python -m kff_live.runtime.bench.gated`: reads the settings as a line of JSON, prints `ready` when it is
warm; then for each line with a number of frames it lets the frames of so many periods through, and prints what became
of them as JSON. Ends when its standard input does. The jaw of a frame says which one it is, for receivers of formats
that do not number their frames and of formats that leave out what has not changed.
"""

import asyncio
import sys
import threading

import msgspec

from kff_live.protocols.channels import INDEX
from kff_live.protocols.frames import Frame
from kff_live.runtime.app import App
from kff_live.runtime.clock import Clock, SystemClock
from kff_live.runtime.config import DEFAULTS, Config, check
from kff_live.runtime.frame_thread import Sink
from kff_live.runtime.loop import run

MARKS = 101
"""After so many frames the jaw has a value again; neighbours differ by a hundredth."""

_SOON = 2  # frames until the gate opens, so that none of the tick in progress slips through
_JAW = INDEX["JawOpen"]


class Passed(msgspec.Struct):
    """What became of the frames of one opening; `sent` and `lost` (as the sinks count it themselves) by sink."""

    due: int
    ticks: int = 0
    longest: float = 0.0
    """Interval between two ticks, s."""
    sent: list[int] = []
    lost: list[int] = []


class Gate:
    """Lets the frames of some periods through; `admit` is called on the frame thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._window = (0, 0)  # the first frame number, and the first that comes too late
        self._number = 0
        self._admitted: Frame | None = None
        self._at: float | None = None
        self._passed = Passed(due=0)
        self._closed = threading.Event()

    def let_through(self, periods: int) -> Passed:
        """Open, and wait until it is closed again."""
        self._passed, self._at = Passed(due=periods), None
        self._closed.clear()
        first = self._number + _SOON
        self._window = (first, first + periods)
        self._closed.wait()
        return self._passed

    def admit(self, frame: Frame) -> Frame | None:
        """The frame with its mark, the same for every sink; None while the gate is closed."""
        if frame.number != self._number:
            self._number = frame.number
            self._admitted = self._tick(frame)
        return self._admitted

    def _tick(self, frame: Frame) -> Frame | None:
        first, end = self._window
        if frame.number >= end:
            self._closed.set()
        if not first <= frame.number < end:
            return None
        now = self._clock.now()
        if self._at is not None:
            self._passed.longest = max(self._passed.longest, now - self._at)
        self._at = now
        self._passed.ticks += 1
        pose = frame.pose.copy()
        pose[_JAW] = (frame.number - first) % MARKS / (MARKS - 1)
        pose.setflags(write=False)
        return msgspec.structs.replace(frame, pose=pose)


class Gated:
    """A sink behind the gate."""

    def __init__(self, sink: Sink, gate: Gate) -> None:
        self.sent = 0
        self._sink = sink
        self._gate = gate

    @property
    def lost(self) -> int:
        """Frames that the sink behind it says it has lost."""
        return int(getattr(self._sink, "lost", 0))

    def send(self, frame: Frame) -> None:
        """Pass on what is admitted."""
        admitted = self._gate.admit(frame)
        if admitted is not None:
            self.sent += 1
            self._sink.send(admitted)


class GatedApp(App):
    """The runtime of one subject, gated."""

    def __init__(self, config: Config) -> None:
        super().__init__(config, DEFAULTS)
        self._gate = Gate(SystemClock())
        (lane,) = self._lanes
        self._gated = [Gated(sink, self._gate) for sink in lane.sinks]
        lane.sinks = self._gated
        self._warm = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def _warm_up(self) -> None:
        await super()._warm_up()
        self._loop = asyncio.get_running_loop()
        self._warm.set()

    def serve(self) -> None:
        """Open the gate as standard input says; at its end stop the runtime."""
        self._warm.wait()
        print("ready", flush=True)  # noqa: T201 - data
        for line in sys.stdin:
            before = [(sink.sent, sink.lost) for sink in self._gated]
            passed = self._gate.let_through(int(line))
            passed.sent = [sink.sent - sent for sink, (sent, _) in zip(self._gated, before, strict=True)]
            passed.lost = [sink.lost - lost for sink, (_, lost) in zip(self._gated, before, strict=True)]
            print(msgspec.json.encode(passed).decode(), flush=True)  # noqa: T201 - data
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self.stop)


def main() -> None:
    """Run until standard input ends."""
    config = msgspec.json.decode(sys.stdin.readline(), type=Config)
    check(config)
    app = GatedApp(config)
    threading.Thread(target=app.serve, daemon=True).start()
    run(app.run())


if __name__ == "__main__":
    main()
