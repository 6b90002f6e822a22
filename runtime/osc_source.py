"""OSC in, for tools that only speak OSC: `/kff/say s`, `/kff/<subject>/say s`, `/kff/stop`, `/kff/<subject>/stop`."""

from typing import Any

from pythonosc.osc_packet import OscPacket, ParseError

from kff_live.protocols.messages import Refused, Say, Stop, check
from kff_live.protocols.osc import subject_address
from kff_live.runtime.config import OscIn
from kff_live.runtime.desk import Desk
from kff_live.runtime.udp_source import UdpSource

MAX_DATAGRAM = 16_384


class OscSource(UdpSource):
    """Listens for texts."""

    def __init__(self, settings: OscIn, desk: Desk) -> None:
        super().__init__(
            "osc_in", settings.host, settings.port, allow=settings.allow, otherwise=", or set osc_in.enabled = false"
        )
        self._desk = desk
        self._subjects = {subject_address(name): name for name in desk.directors}

    def take(self, data: bytes, sender: str) -> None:
        """Act on one packet; what is wrong with it goes to the log."""
        if len(data) > MAX_DATAGRAM:
            self.report(f"a packet of {len(data)} bytes, at most {MAX_DATAGRAM}")
            return
        try:
            packet = OscPacket(data)
        except (ParseError, ValueError, RecursionError) as error:
            self.report(f"not an OSC packet: {str(error)[:200]}")
            return
        for timed in packet.messages:
            try:
                self._act(timed.message.address, list(timed.message.params))
            except Refused as refused:
                self.report(f"{timed.message.address}: {refused}")

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
