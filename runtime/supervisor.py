"""Tasks with an owner and a name; one that fails is logged, backed off and started again, and cancels nobody else."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from kff_live.protocols.errors import UserError

_log = logging.getLogger(__name__)

BACKOFF_FIRST, BACKOFF_MOST = 0.5, 10.0


async def supervise(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Run `run` until it returns; after an error run it again.

    Raises:
        UserError: passed on, since running it again cannot help.
    """
    backoff = BACKOFF_FIRST
    while True:
        try:
            await run()
            return
        except UserError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the face goes on
            _log.exception("%s failed: %s; starting it again in %.1f s", name, error, backoff)
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, BACKOFF_MOST)
