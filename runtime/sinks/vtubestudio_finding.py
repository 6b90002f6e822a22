"""Where VTube Studio is on this machine, from what it broadcasts, and the token that its user has given us."""

import asyncio
import json
import logging
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from kff_live.protocols.vtubestudio import DEFAULT_PORT, DISCOVERY_PORT, Broadcast, decode_broadcast
from kff_live.runtime.clock import Clock
from kff_live.runtime.sinks.udp import shared_port

_log = logging.getLogger(__name__)

HEAR_SECONDS = 2.5
"""How long a broadcast is waited for; there is one every two seconds."""

LOCAL = "127.0.0.1"
MAX_TOKENS = 1 << 16
"""Bytes that are read of the file of tokens."""


@dataclass
class Heard:
    """What was heard: of a VTube Studio here, and the addresses of others, to which no token is ever sent unasked."""

    here: Broadcast | None = None
    elsewhere: str = ""


class _Listener(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.heard = Heard()
        self.found = asyncio.Event()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        state = decode_broadcast(data)
        if state is None:
            return
        if is_here(addr[0]):
            self.heard.here = state
            self.found.set()
        else:
            self.heard.elsewhere = f"{addr[0]}:{state.port}"

    def error_received(self, exc: Exception) -> None:
        """Nothing is sent, so an error here concerns nobody."""


def is_here(address: str) -> bool:
    """Whether an address is one of this machine's: a socket can be bound to no other."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.bind((address, 0))
    except OSError:
        return False
    return True


async def hear(clock: Clock, *, port: int = DISCOVERY_PORT) -> Heard:
    """Listen until a VTube Studio of this machine is heard, at most HEAR_SECONDS.

    It listens on all addresses, since broadcasts come to none in particular, and takes nothing from a packet but the
    state of VTube Studio; the port is shared with whoever else listens.
    """
    try:
        udp = shared_port(port)
    except OSError:
        return Heard()
    transport, listener = await asyncio.get_running_loop().create_datagram_endpoint(_Listener, sock=udp)
    try:
        await clock.wait(listener.found, clock.now() + HEAR_SECONDS)
    finally:
        transport.close()
    return listener.heard


def default_port(heard: Heard) -> int:
    """The port to try on this machine."""
    return heard.here.port if heard.here is not None else DEFAULT_PORT


class Tokens:
    """The tokens by host, in a file that only the user can read."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "vtubestudio.json"

    def get(self, host: str) -> str:
        """The token of a host, empty if there is none."""
        return self._read().get(host, "")

    def put(self, host: str, token: str) -> None:
        """Keep the token of a host; an empty one forgets it."""
        tokens = {**self._read(), host: token}
        data = json.dumps({host: token for host, token in tokens.items() if token}, indent=1)
        draft = self.path.with_suffix(".part")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
                file.write(data)
            draft.replace(self.path)
        except OSError as error:
            _log.warning("VTube Studio's token cannot be kept, it will ask again: %s: %s", self.path, error.strerror)

    def _read(self) -> dict[str, str]:
        try:
            with self.path.open(encoding="utf-8") as file:
                found = json.loads(file.read(MAX_TOKENS))
        except (OSError, ValueError):
            return {}
        if not isinstance(found, dict):
            return {}
        return {host: token for host, token in found.items() if isinstance(token, str)}
