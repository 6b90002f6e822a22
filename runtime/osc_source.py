"""OSC in, for tools that only speak OSC: `/kff/say s`, `/kff/<subject>/say s`, `/kff/stop`, `/kff/<subject>/stop`."""

import asyncio
import logging
from typing import Any

from pythonosc.osc_packet import OscPacket, ParseError

from kff_live.protocols.errors import UserError
from kff_live.protocols.messages import Refused, Say, Stop, check
from kff_live.protocols.osc import subject_address
from kff_live.runtime.config import OscIn
from kff_live.runtime.desk import Desk

_log = logging.getLogger(__name__)

MAX_DATAGRAM = 16_384
_MAX_REPORTS = 20  # complaints in the log; UDP has no other way back, and a log can be flooded


class OscSource(asyncio.DatagramProtocol):
    """Listens for texts."""

    def __init__(self, settings: OscIn, desk: Desk) -> None:
        self._settings = settings
        self._desk = desk
        self._subjects = {subject_address(name): name for name in desk.directors}
        self._reports = 0
        self._transport: asyncio.BaseTransport | None = None

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"{self._settings.host}:{self._settings.port}"

    async def start(self) -> None:
        """Bind the port.

        Raises:
            UserError: the port is in use, or the address is not this machine's.
        """
        try:
            self._transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: self, local_addr=(self._settings.host, self._settings.port)
            )
        except OSError as error:
            raise UserError(
                f"osc_in.port: {self.address} cannot be used ({error.strerror or error}); "
                "choose another port in config.toml, or set osc_in.enabled = false"
            ) from None

    def close(self) -> None:
        """Stop listening."""
        if self._transport is not None:
            self._transport.close()

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        """Act on one packet; what is wrong with it goes to the log."""
        if self._settings.allow and addr[0] not in self._settings.allow:
            return
        if len(data) > MAX_DATAGRAM:
            self._report(f"a packet of {len(data)} bytes, at most {MAX_DATAGRAM}")
            return
        try:
            packet = OscPacket(data)
        except (ParseError, ValueError, RecursionError) as error:
            self._report(f"not an OSC packet: {str(error)[:200]}")
            return
        for timed in packet.messages:
            try:
                self._act(timed.message.address, list(timed.message.params))
            except Refused as refused:
                self._report(f"{timed.message.address}: {refused}")

    def error_received(self, exc: Exception) -> None:
        """Nothing is sent, so an error here concerns nobody."""

    def _act(self, address: str, arguments: list[Any]) -> None:
        parts = address.strip("/").split("/")
        if parts[0] != "kff" or len(parts) not in (2, 3) or parts[-1] not in ("say", "stop"):
            raise Refused("bad-message", "expected /kff/say, /kff/<subject>/say, /kff/stop or /kff/<subject>/stop")
        subject = self._subjects.get(parts[1], parts[1]) if len(parts) == 3 else None
        if parts[-1] == "stop":
            self._desk.hand_in(Stop(subject=subject), lambda event: None, source="OSC")
            return
        if len(arguments) != 1 or not isinstance(arguments[0], str):
            raise Refused("bad-field", "expected one string")
        message = Say(text=arguments[0], subject=subject)
        check(message)
        self._desk.hand_in(message, lambda event: None, source="OSC")

    def _report(self, message: str) -> None:
        self._reports += 1
        if self._reports <= _MAX_REPORTS:
            _log.warning("OSC in: %s", message)
