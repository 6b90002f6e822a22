"""The sink for the "Live Link Face" source of Unreal 5.6 and later: serves as the phone that Unreal connects to."""

import asyncio
import logging
import platform
import socket
import struct
import uuid
from collections.abc import Callable
from typing import Any, cast

from kff_live.protocols import livelink_device
from kff_live.protocols.errors import DecodeError
from kff_live.protocols.frames import Frame, FrameRate
from kff_live.protocols.livelink_device import Encoder, Request
from kff_live.runtime.clock import Clock, milliseconds_of_epoch
from kff_live.runtime.config import LiveLinkDevice, is_loopback
from kff_live.runtime.link import Lost, keep_connected
from kff_live.runtime.sinks.udp import shared_port

_log = logging.getLogger(__name__)

SILENT_SECONDS = 20.0
"""Unreal asks every five seconds whether we are alive, and gives up after three answers that do not come; so do we."""


class LiveLinkDeviceSink:
    """One device with one subject; Unreal's newest connection is served.

    Args:
        subject: as Unreal lists it.
        device: its id, always the same.
    """

    name = "the Live Link Face source of Unreal"

    def __init__(self, settings: LiveLinkDevice, subject: str, device: str, *, rate: FrameRate, clock: Clock) -> None:
        self.lost = 0
        self._settings = settings
        self._subject = subject
        self._device = device
        self._clock = clock
        self._encoder = Encoder(device, rate, packet_version=settings.packet_version, head_scale=settings.head_scale)
        self._session = ""
        self._stream: tuple[socket.socket, Any] | None = None
        self._serving: asyncio.Task[None] | None = None

    def send(self, frame: Frame) -> None:
        """Send a frame where Unreal has asked for it; nothing before it has."""
        stream = self._stream
        if stream is None:
            return
        udp, address = stream
        try:
            udp.sendto(self._encoder.encode(frame), address)
        except OSError:  # also of a socket that was closed in this moment
            self.lost += 1

    def close(self) -> None:
        """Send nothing more."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream[0].close()

    async def run(self) -> None:
        """Serve until cancelled; a port that is taken is tried again."""
        await keep_connected(self.name, self._listen, self._clock)

    async def _listen(self, connected: Callable[[], None]) -> None:
        host, port = self._settings.host, self._settings.port
        try:
            server = await asyncio.start_server(self._accept, host, port)
        except OSError as error:
            raise Lost(f"{host} port {port} cannot be used: {error.strerror or error}") from None
        # A device on loopback cannot be reached from where discovery is asked for.
        discovery = None if is_loopback(host) else await self._discoverable()
        try:
            connected()
            await server.serve_forever()
        finally:
            server.close()
            if discovery is not None:
                discovery.close()
            if self._serving is not None:
                self._serving.cancel()
            self.close()

    # --- one connection

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")[0]
        if self._settings.allow and peer not in self._settings.allow:
            writer.close()
            return
        if self._serving is not None:
            self._serving.cancel()
        mine = self._serving = asyncio.current_task()
        self._session = ""
        try:
            while True:
                async with asyncio.timeout(SILENT_SECONDS):
                    version, size = livelink_device.decode_head(await reader.readexactly(livelink_device.HEAD_SIZE))
                    data = await reader.readexactly(size)
                writer.write(self._answer(livelink_device.decode_request(data), version, peer))
                await writer.drain()
        except (asyncio.IncompleteReadError, TimeoutError, ConnectionError, asyncio.CancelledError):
            pass  # Unreal has gone, it comes back by itself; or it has come back, or we end
        except DecodeError as error:
            _log.warning("%s: %s sent what cannot be read: %s", self.name, peer, error)
        finally:
            writer.close()
            if self._serving is mine:
                self._serving = None
                self.close()

    def _answer(self, request: Request, version: int, peer: str) -> bytes:
        """The control frame that answers a request; unless configured in the version in which Unreal has spoken."""
        session, body, error = self._session, None, ""
        try:
            body = self._act(request, peer)
        except DecodeError as refused:
            error = str(refused)
        return livelink_device.response(
            request,
            version=self._settings.version or version,
            session=session,
            milliseconds=milliseconds_of_epoch(),
            body=body,
            error=error,
        )

    def _act(self, request: Request, peer: str) -> dict[str, Any] | None:
        match request.addressPath:
            case "/session/start":
                self._session = uuid.uuid4().hex
                return {"sessionId": self._session}
            case _ if not self._session:
                raise DecodeError("there is no session")
            case "/information":
                return self._information()
            case "/stream/subjects":
                return livelink_device.subjects_body(
                    self._device, self._subject, metadata_version=self._settings.metadata_version
                )
            case "/stream/start":
                self._start(peer, livelink_device.stream_port(request))
            case "/stream/stop":
                self.close()
            case "/session/stop":
                self.close()
                self._session = ""
            case "/session/keep-alive":
                pass
            case path:
                raise DecodeError(f"{path!r} is not known")
        return None

    def _information(self) -> dict[str, Any]:
        return {
            "id": self._device,
            "name": self._settings.name,
            "model": "kff-live",
            "platformName": platform.system(),
            "platformVersion": platform.release(),
            "softwareName": "kff-live",
            "softwareVersion": "1",
            "exportPort": 0,
        }

    def _start(self, peer: str, port: int) -> None:
        self.close()
        udp = socket.socket(socket.AF_INET6 if ":" in peer else socket.AF_INET, socket.SOCK_DGRAM)
        udp.setblocking(False)
        self._stream = udp, (peer, port)

    # --- discovery

    async def _discoverable(self) -> asyncio.DatagramTransport | None:
        """Answer those who ask the multicast group for devices."""
        udp = None
        try:
            udp = shared_port(livelink_device.DISCOVERY_PORT)
            group = struct.pack("4sI", socket.inet_aton(livelink_device.DISCOVERY_GROUP), socket.INADDR_ANY)
            udp.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
        except OSError as error:
            if udp is not None:
                udp.close()
            _log.warning("%s: it cannot be discovered: %s; enter its address in Unreal", self.name, error.strerror)
            return None
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: _Discovery(self._settings, self._device), sock=udp)
        return transport


class _Discovery(asyncio.DatagramProtocol):
    def __init__(self, settings: LiveLinkDevice, device: str) -> None:
        self._settings = settings
        self._answer = livelink_device.discovery_response(
            uuid.uuid5(uuid.NAMESPACE_DNS, device).bytes,
            settings.name,
            settings.port,
            version=settings.discovery_version,
        )
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer whom we would also let in."""
        asks = livelink_device.is_discovery_request(data, version=self._settings.discovery_version)
        if asks and addr[0] in self._settings.allow and self._transport is not None:
            self._transport.sendto(self._answer, addr)

    def error_received(self, exc: Exception) -> None:
        """An answer that cannot be sent; the question comes again in three seconds."""
