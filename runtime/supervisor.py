"""Tasks with an owner and a name; one that fails is logged, backed off and started again, and cancels nobody else."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from kff_live.protocols.errors import UserError

_log = logging.getLogger(__name__)

BACKOFF_FIRST, BACKOFF_MOST = 0.5, 10.0
"""Seconds before the next start, doubled with each failure; a minute of life starts over."""

_STEADY_SECONDS = 60.0


async def supervise(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Run `run` until it returns; after an error run it again. Only the first of a row of errors is told at length.

    Raises:
        UserError: passed on, since running it again cannot help.
    """
    backoff = BACKOFF_FIRST
    loop = asyncio.get_running_loop()
    while True:
        began = loop.time()
        try:
            await run()
            return
        except UserError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the face goes on
            if loop.time() - began > _STEADY_SECONDS:
                backoff = BACKOFF_FIRST
            first = backoff == BACKOFF_FIRST
            _log.error("%s failed: %s; starting it again in %.1f s", name, error, backoff, exc_info=first)
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, BACKOFF_MOST)
