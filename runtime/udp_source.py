"""UDP in: a source that listens on a port until it fails, and can be run again."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from kff_live.protocols.errors import UserError

_log = logging.getLogger(__name__)

_MAX_REPORTS = 20  # complaints in the log; UDP has no other way back, and a log can be flooded


class UdpSource:
    """Hands every packet of an allowed sender to `take`, which a source supplies.

    Args:
        table: of config.toml, for messages.
        allow: sender addresses; all where there is none.
        otherwise: what to do besides choosing another port where it is taken.
    """

    def __init__(self, table: str, host: str, port: int, *, allow: Sequence[str], otherwise: str = "") -> None:
        self._table = table
        self._host, self._port = host, port
        self._allow = frozenset(allow)
        self._otherwise = otherwise
        self._reports = 0
        self._listening: _Listening | None = None

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"{self._host}:{self._port}"

    def take(self, data: bytes, sender: str) -> None:
        """Act on one packet. What is wrong with it goes to the log; what this raises is our fault and ends `run`."""
        raise NotImplementedError

    def report(self, message: str) -> None:
        """Complain about a packet, a limited number of times."""
        self._reports += 1
        if self._reports <= _MAX_REPORTS:
            _log.warning("%s: %s", self._table, message)

    async def start(self) -> None:
        """Bind the port.

        Raises:
            UserError: the port is in use, or the address is not this machine's.
        """
        try:
            await self._bind()
        except OSError as error:
            raise UserError(
                f"{self._table}.port: {self.address} cannot be used ({error.strerror or error}); "
                f"choose another port in config.toml{self._otherwise}"
            ) from None

    async def run(self) -> None:
        """Listen until `close`; run again after an error, it binds the port again.

        Raises:
            Exception: what taking a packet raised, or what happened to the port.
        """
        listening = self._listening or await self._bind()
        try:
            await listening.ended.wait()
        finally:
            self.close()
        if listening.error is not None:
            raise listening.error

    def close(self) -> None:
        """Stop listening."""
        if self._listening is not None:
            self._listening.close()
            self._listening = None

    async def _bind(self) -> "_Listening":
        _, self._listening = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Listening(self._receive), local_addr=(self._host, self._port)
        )
        return self._listening

    def _receive(self, data: bytes, sender: str) -> None:
        if not self._allow or sender in self._allow:
            self.take(data, sender)


class _Listening(asyncio.DatagramProtocol):
    """One life of the port; `ended` is set at its end, with what went wrong in `error`."""

    def __init__(self, receive: Callable[[bytes, str], None]) -> None:
        self.ended = asyncio.Event()
        self.error: Exception | None = None
        self._receive = receive
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The port is bound."""
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        """Have one packet taken."""
        if self.ended.is_set():
            return
        try:
            self._receive(data, addr[0])
        except Exception as error:  # noqa: BLE001 - whatever it is, `run` hands it to the supervisor
            self._end(error)

    def error_received(self, exc: Exception) -> None:
        """Nothing is sent, so an error here concerns nobody."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The port is gone."""
        self._end(exc or ConnectionError("the port was closed"))

    def close(self) -> None:
        """Give the port back, on purpose."""
        self._end(None)
        if self._transport is not None:
            self._transport.close()

    def _end(self, error: Exception | None) -> None:
        if not self.ended.is_set():
            self.error = error
            self.ended.set()
