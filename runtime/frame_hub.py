"""The frame hub: carries the frames of each subject from the frame thread to the asyncio loop."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from kff_live.protocols.frames import Frame

HELD = 60
"""Frames of a subject that wait at most while the loop is held up; of more the oldest are left out."""

T = TypeVar("T")


def keep(waiting: deque[T], new: T, *, slow: bool) -> None:
    """Put what is `new` behind what waits for a receiver; before all of it, alone, while the receiver itself is `slow`.

    So a hiccup of the loop costs no frame, and who reads slowly gets the newest.
    """
    if slow:
        waiting.clear()
    waiting.append(new)


class FrameHub:
    """A sink that keeps the frames of each subject and wakes the loop once.

    `send` runs on the frame thread, `take` on the loop.
    """

    def __init__(self) -> None:
        self.wanted = False
        self._waiting: dict[str, deque[Frame]] = {}
        self._lock = threading.Lock()
        self._wake: Callable[[], object] = lambda: None
        self._asked = False

    def attach(self, loop: asyncio.AbstractEventLoop, callback: Callable[[list[Frame]], None]) -> None:
        """Have `callback` called on the loop with what is new, in the order of each subject."""

        def wake() -> None:
            with suppress(RuntimeError):  # the loop is closing
                loop.call_soon_threadsafe(lambda: callback(self._take()))

        self._wake = wake

    def send(self, frame: Frame) -> None:
        """Keep the frame; costs nothing while nobody wants any."""
        if not self.wanted:
            return
        with self._lock:
            self._waiting.setdefault(frame.subject, deque(maxlen=HELD)).append(frame)
            asked, self._asked = self._asked, True
        if not asked:
            self._wake()

    def _take(self) -> list[Frame]:
        with self._lock:
            waiting, self._waiting, self._asked = self._waiting, {}, False
        return [frame for frames in waiting.values() for frame in frames]
