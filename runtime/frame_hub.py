"""The frame hub: carries the newest frame of each subject from the frame thread to the asyncio loop."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress

from kff_live.protocols.frames import Frame


class FrameHub:
    """A sink that keeps the newest frame of each subject and wakes the loop once.

    `send` runs on the frame thread, `take` on the loop.
    """

    def __init__(self) -> None:
        self.wanted = False
        self._newest: dict[str, Frame] = {}
        self._lock = threading.Lock()
        self._wake: Callable[[], object] = lambda: None
        self._asked = False

    def attach(self, loop: asyncio.AbstractEventLoop, callback: Callable[[dict[str, Frame]], None]) -> None:
        """Have `callback` called on the loop with what is new."""

        def wake() -> None:
            with suppress(RuntimeError):  # the loop is closing
                loop.call_soon_threadsafe(lambda: callback(self._take()))

        self._wake = wake

    def send(self, frame: Frame) -> None:
        """Keep the frame; costs nothing while nobody wants any."""
        if not self.wanted:
            return
        with self._lock:
            self._newest[frame.subject] = frame
            asked, self._asked = self._asked, True
        if not asked:
            self._wake()

    def _take(self) -> dict[str, Frame]:
        with self._lock:
            newest, self._newest, self._asked = self._newest, {}, False
        return newest
