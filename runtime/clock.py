"""The only place that reads a clock or sleeps, so that everything else can be run on a manual one."""

import asyncio
import datetime
import time
from typing import Protocol


class Clock(Protocol):
    """Seconds on a scale of its own that never goes back."""

    def now(self) -> float:
        """The time, s."""

    def sleep_until(self, deadline: float) -> None:
        """Block this thread until `deadline`."""

    async def wait(self, event: asyncio.Event, until: float | None) -> None:
        """Return when `event` is set or `until` has come; None waits for the event alone."""


class SystemClock:
    """The machine's monotonic clock."""

    def now(self) -> float:
        """Seconds of `perf_counter`."""
        return time.perf_counter()

    def sleep_until(self, deadline: float) -> None:
        """Sleep; `time.sleep` is precise on Linux and macOS, and on Windows from Python 3.11."""
        remaining = deadline - time.perf_counter()
        if remaining > 0.0:
            time.sleep(remaining)

    async def wait(self, event: asyncio.Event, until: float | None) -> None:
        """Wait on the running loop."""
        timeout = None if until is None else max(0.0, until - time.perf_counter())
        try:
            async with asyncio.timeout(timeout):
                await event.wait()
        except TimeoutError:
            pass


class ManualClock:
    """A clock that moves only when told to: `advance` in tests, `sleep_until` in offline rendering."""

    def __init__(self, start: float = 0.0) -> None:
        self._now = start
        self._moved = asyncio.Event()

    def now(self) -> float:
        """The time last set."""
        return self._now

    def sleep_until(self, deadline: float) -> None:
        """Be there at once."""
        self._now = max(self._now, deadline)

    def advance(self, seconds: float) -> None:
        """Move on, or back with a negative number as a broken clock would, and wake whoever waits."""
        self._now += seconds
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def wait(self, event: asyncio.Event, until: float | None) -> None:
        """Wait until the event is set or `advance` has passed `until`."""
        waiter = asyncio.ensure_future(event.wait())
        try:
            while not event.is_set() and (until is None or self._now < until):
                moved = asyncio.ensure_future(self._moved.wait())
                try:
                    await asyncio.wait({waiter, moved}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    moved.cancel()
        finally:
            waiter.cancel()


def milliseconds_of_epoch() -> int:
    """Milliseconds since 1970, for messages that carry them."""
    return time.time_ns() // 1_000_000


def seconds_of_day() -> float:
    """Local time of day in seconds; read once, for the number of the first frame."""
    now = datetime.datetime.now()
    return now.hour * 3600.0 + now.minute * 60.0 + now.second + now.microsecond * 1e-6


def cpu_seconds() -> float:
    """CPU time of the calling thread so far, for benchmarks."""
    return time.thread_time()
