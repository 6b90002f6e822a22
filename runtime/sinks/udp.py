"""UDP: every frame to every target from the frame thread, without blocking; and a port shared with others."""

import logging
import socket
import sys
from collections.abc import Sequence
from typing import Any, Protocol

from kff_live.protocols.errors import UserError
from kff_live.protocols.frames import Frame

_log = logging.getLogger(__name__)


class Encoder(Protocol):
    """Writes the frames of one subject as datagrams."""

    def encode(self, frame: Frame) -> bytes:
        """The datagram of a frame."""


class SplitEncoder(Protocol):
    """Writes a frame as any number of datagrams."""

    def encode(self, frame: Frame) -> Sequence[bytes]:
        """The datagrams of a frame, in the order in which they are to be sent."""


class UdpSink:
    """Sends every frame to every target, without blocking; what the system refuses is counted and lost.

    Raises:
        UserError: a host cannot be found.
    """

    def __init__(self, encoder: Encoder | SplitEncoder, targets: Sequence[tuple[str, int]]) -> None:
        self.sent = 0
        self.lost = 0
        self._encoder = encoder
        self._reported: set[int] = set()
        self._targets: list[tuple[socket.socket, Any]] = []
        try:
            for host, port in targets:
                self._targets.append(_open(host, port))
        except UserError:
            self.close()
            raise

    def send(self, frame: Frame) -> None:
        """Encode once, send to all."""
        data = self._encoder.encode(frame)
        self.transmit((data,) if isinstance(data, bytes) else data)

    def transmit(self, datagrams: Sequence[bytes]) -> None:
        """Send one frame's datagrams to all; after one that the system refuses a target gets none of the rest."""
        for i, (udp, address) in enumerate(self._targets):
            try:
                for datagram in datagrams:
                    udp.sendto(datagram, address)
                self.sent += 1
            except OSError as error:
                self.lost += 1
                if i not in self._reported and not isinstance(error, BlockingIOError):
                    self._reported.add(i)
                    _log.warning("cannot send to %s port %s: %s", address[0], address[1], error.strerror)

    def close(self) -> None:
        """Close the sockets."""
        for udp, _ in self._targets:
            udp.close()


def shared_port(port: int) -> socket.socket:
    """A non-blocking socket on a port of all addresses, which others may listen on as well.

    Raises:
        OSError: the port cannot be had.
    """
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sys.platform == "darwin":
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        udp.setblocking(False)
        udp.bind(("", port))
    except OSError:
        udp.close()
        raise
    return udp


def _open(host: str, port: int) -> tuple[socket.socket, Any]:
    """A non-blocking socket, and the address resolved once."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    except (OSError, UnicodeError):
        raise UserError(f"sinks: the host {host!r} cannot be found") from None
    udp = socket.socket(family, kind, protocol)
    udp.setblocking(False)
    if family == socket.AF_INET:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    return udp, address
