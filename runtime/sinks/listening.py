"""Sinks whose receivers also speak to them: read on the frame thread, once a frame, without waiting."""

import logging
import socket
from collections.abc import Iterator, Sequence

from kff_live.protocols import ifacialmocap, vrchat
from kff_live.protocols.frames import Frame
from kff_live.runtime.sinks.udp import UdpSink

_log = logging.getLogger(__name__)

MOST_HEARD = 64
"""Datagrams that are read in one frame; VRChat reports every parameter that moves, and the rest can wait or be lost."""

MOST_ASKERS = 8
"""Receivers that are answered at a time; one more takes the place of the first."""

RETRY_FRAMES = 60
"""After so many frames a port that was in use is tried again."""


class Ear:
    """A UDP port that is looked at once a frame. One in use is tried again until it is free.

    Args:
        allow: addresses that are heard; all where empty.
    """

    def __init__(self, host: str, port: int, allow: Sequence[str] = ()) -> None:
        self._host, self._port, self._allow = host, port, allow
        self._udp: socket.socket | None = None
        self._tries = self._frames = 0

    def heard(self) -> Iterator[tuple[bytes, str]]:
        """What has come since the last frame, each with its sender's address."""
        if self._udp is None:
            self._open()
        self._frames += 1
        for _ in range(MOST_HEARD):
            try:
                if self._udp is None:
                    return
                data, address = self._udp.recvfrom(2048)
            except OSError:  # nothing more has come; on Windows also a datagram that is longer
                return
            if not self._allow or address[0] in self._allow:
                yield data, address[0]

    def close(self) -> None:
        """Free the port."""
        if self._udp is not None:
            self._udp.close()

    def _open(self) -> None:
        if self._frames < self._tries * RETRY_FRAMES:
            return
        self._tries += 1
        udp = socket.socket(socket.AF_INET6 if ":" in self._host else socket.AF_INET, socket.SOCK_DGRAM)
        udp.setblocking(False)
        try:
            udp.bind((self._host, self._port))
        except OSError as error:
            udp.close()
            if self._tries == 2:  # at first it may be our own, from before the settings were read again
                reason = error.strerror or error
                _log.warning("sinks: cannot listen on %s port %d: %s", self._host, self._port, reason)
            return
        self._udp = udp


class IFacialMocapSink:
    """Sends to its targets, and to whoever asks for it as a receiver asks the phone.

    Args:
        version: that the targets get.
        port: at which those who ask listen; the format leaves them no choice.

    Raises:
        UserError: a target's host cannot be found.
    """

    def __init__(
        self,
        targets: Sequence[tuple[str, int]],
        *,
        version: str = "v1",
        ear: Ear | None = None,
        port: int = ifacialmocap.DEFAULT_PORT,
    ) -> None:
        self._pushed = UdpSink(ifacialmocap.Encoder(version), targets)
        self._ear = ear
        self._port = port
        self._asked: dict[str, tuple[str, UdpSink]] = {}
        self._lost = 0

    @property
    def lost(self) -> int:
        """Frames that did not leave."""
        return self._lost + self._pushed.lost + sum(sink.lost for _, sink in self._asked.values())

    def send(self, frame: Frame) -> None:
        """Hear who asks, then send to all."""
        for data, host in self._ear.heard() if self._ear else ():
            version = ifacialmocap.asked_version(data)
            if version:
                self._answer(host, version)
        self._pushed.send(frame)
        for _, sink in self._asked.values():
            sink.send(frame)

    def close(self) -> None:
        """Close every socket."""
        for host in list(self._asked):
            self._forget(host)
        self._pushed.close()
        if self._ear:
            self._ear.close()

    def _answer(self, host: str, version: str) -> None:
        if host in self._asked:
            if self._asked[host][0] == version:
                return
            self._forget(host)
        if len(self._asked) == MOST_ASKERS:
            self._forget(next(iter(self._asked)))
        self._asked[host] = version, UdpSink(ifacialmocap.Encoder(version), [(host, self._port)])
        _log.warning("iFacialMocap: %s asks for frames (%s)", host, version)

    def _forget(self, host: str) -> None:
        _, sink = self._asked.pop(host)
        self._lost += sink.lost
        sink.close()


class VRChatSink:
    """Sends what changes, and everything again when VRChat says that another avatar was loaded.

    Raises:
        UserError: a target's host cannot be found.
    """

    def __init__(self, encoder: vrchat.Encoder, targets: Sequence[tuple[str, int]], *, ear: Ear | None = None) -> None:
        self._encoder = encoder
        self._udp = UdpSink(encoder, targets)
        self._ear = ear

    @property
    def lost(self) -> int:
        """Frames that did not leave."""
        return self._udp.lost

    def send(self, frame: Frame) -> None:
        """Hear whether the avatar is another, then send."""
        for data, _ in self._ear.heard() if self._ear else ():
            if vrchat.avatar_changed(data):
                self._encoder.resend()
        self._udp.send(frame)

    def close(self) -> None:
        """Tell the avatar that nobody moves its face any more, and close the sockets."""
        self._udp.transmit(self._encoder.farewell())
        self._udp.close()
        if self._ear:
            self._ear.close()
