"""One connection to VTube Studio's API: requests that wait for their answers, and requests that do not."""

import asyncio
import itertools
from collections.abc import Callable, Mapping
from typing import Any

from websockets.asyncio.client import ClientConnection

from kff_live.protocols.errors import DecodeError
from kff_live.protocols.vtubestudio import Refusal, decode, request
from kff_live.runtime.link import Lost

ANSWER_SECONDS = 10.0
"""VTube Studio answers within a frame; loading a model can hold it up for some seconds."""


class Api:
    """Asks and tells; `read` must run meanwhile, since answers come in any order.

    Args:
        refused: is called with the refusal of what was only told; what it raises ends `read`.
    """

    def __init__(self, connection: ClientConnection, *, refused: Callable[[Refusal], None]) -> None:
        self._connection = connection
        self._refused = refused
        self._ids = itertools.count(1)
        self._asked: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._told: set[str] = set()

    @property
    def unanswered(self) -> int:
        """Requests that were told and not answered yet."""
        return len(self._told)

    async def ask(
        self, kind: str, data: Mapping[str, Any] | None = None, *, within: float = ANSWER_SECONDS
    ) -> dict[str, Any]:
        """The data of the answer to `<kind>Request`.

        Raises:
            Refusal: VTube Studio did not do it.
            Lost: there was no answer in time.
        """
        request_id = f"ask-{next(self._ids)}"
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._asked[request_id] = answer
        try:
            async with asyncio.timeout(within):
                await self._connection.send(request(kind, request_id, data))
                return await answer
        except TimeoutError:
            raise Lost(f"VTube Studio did not answer {kind}Request within {within:g} s") from None
        finally:
            del self._asked[request_id]

    async def tell(self, kind: str, data: Mapping[str, Any]) -> None:
        """Send `<kind>Request` without waiting for its answer."""
        await self.tell_encoded(lambda request_id: request(kind, request_id, data))

    async def tell_encoded(self, encode: Callable[[str], str]) -> None:
        """The same for a request that is written by `encode`, which gets its id."""
        request_id = f"tell-{next(self._ids)}"
        self._told.add(request_id)
        await self._connection.send(encode(request_id))

    async def read(self) -> None:
        """Take answers until the connection ends.

        Raises:
            Lost: it has ended, or what answers is not VTube Studio.
        """
        async for text in self._connection:
            try:
                answer = decode(text)
            except DecodeError as error:
                raise Lost(str(error)) from None
            refusal = answer.refusal
            waiting = self._asked.get(answer.requestID)
            if waiting is not None and not waiting.done():
                if refusal is None:
                    waiting.set_result(answer.data)
                else:
                    waiting.set_exception(refusal)
            elif answer.requestID in self._told:
                self._told.discard(answer.requestID)
                if refusal is not None:
                    self._refused(refusal)
        raise Lost("it has closed the connection", about="away")
