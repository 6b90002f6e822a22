"""A connection that comes and goes: tried again with growing pauses, told once when lost and once when back."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from kff_live.protocols.errors import KffError
from kff_live.runtime.clock import Clock

_log = logging.getLogger(__name__)

FIRST_PAUSE, MOST_PAUSE = 0.5, 10.0
"""Seconds before the next try, doubled with each; of each pause a random part of up to half is left out, so that many
clients of one server do not come back at the same moment.
"""

STEADY_SECONDS = 10.0
"""A connection that held so long was a good one: what ends it is told again, and the pauses start over."""


class Lost(KffError):
    """The connection cannot be made or has ended; the message says why, and what to do.

    Args:
        about: what is told only once while it lasts; the message itself where that is left out.
    """

    def __init__(self, message: str, about: str = "") -> None:
        super().__init__(message)
        self.about = about or message


async def keep_connected(name: str, session: Callable[[Callable[[], None]], Awaitable[None]], clock: Clock) -> None:
    """Run `session` until it returns; after Lost run it again.

    Args:
        name: of what is connected to, as the log has it.
        session: makes the connection, calls what it is given when all is set up, and serves it.
    """
    told: set[str] = set()
    silent = True
    pause = FIRST_PAUSE
    since: float | None = None

    def connected() -> None:
        nonlocal silent, since
        since = clock.now()
        if not silent:
            _log.warning("%s: connected", name)
        silent = True

    while True:
        try:
            await session(connected)
            return
        except Lost as error:
            if since is not None and clock.now() - since >= STEADY_SECONDS:
                told.clear()
                pause = FIRST_PAUSE
            since = None
            if error.about not in told:
                told.add(error.about)
                silent = False
                _log.warning("%s: %s; it is tried again", name, str(error))  # a record must not hold its sockets
        await clock.wait(asyncio.Event(), clock.now() + pause * random.uniform(0.5, 1.0))
        pause = min(2 * pause, MOST_PAUSE)


def heed_cancel() -> None:
    """Raise a cancel that was swallowed: before Python 3.12 `asyncio.wait_for`, in which aiomqtt waits, forgets one
    that comes in the moment in which it ends.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def first_of(**lives: Coroutine[Any, Any, None]) -> None:
    """Run these side by side until the first ends, and end the others; raises what it has raised."""
    tasks = [asyncio.create_task(life, name=name) for name, life in lives.items()]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
