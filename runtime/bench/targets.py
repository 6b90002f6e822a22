"""Receivers on this machine for the sinks of `kff-live bench sinks`: they count frames, and some are bad on purpose."""

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiomqtt
import msgspec
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from kff_live.protocols.errors import UserError
from kff_live.protocols.messages import Subscribe, encode
from kff_live.protocols.vtubestudio_parameters import default_parameters
from kff_live.runtime.bench.runtime import free_port
from kff_live.runtime.clock import SystemClock

HOST = "127.0.0.1"
KEEP_ALIVE = 5.0
"""Seconds between two signs of life, as Unreal gives them."""

_BUFFER = 1 << 20  # bytes that may wait in a socket, so that a receiver that is held up loses nothing
_DROP_AFTER = 20  # frames that the one that drops its connection takes first
_PATIENCE = 30.0
_VERSION = 1  # of Unreal's control frames; the sink answers in the one that it hears


class Count:
    """Frames that came to one receiver, and the longest interval between two, s."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self.forget()

    def forget(self) -> None:
        """Begin again."""
        self.frames = 0
        self.longest = 0.0
        self._at: float | None = None

    def add(self) -> None:
        """Count one that comes now."""
        now = self._clock.now()
        if self._at is not None:
            self.longest = max(self.longest, now - self._at)
        self._at = now
        self.frames += 1


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, count: Count, mark: bytes) -> None:
        self._count = count
        self._mark = mark

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self._mark in data:
            self._count.add()


@contextlib.asynccontextmanager
async def datagrams(count: Count, mark: bytes) -> AsyncIterator[int]:
    """A UDP port where the datagrams that hold `mark` are counted; a frame has one of them."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
    udp.bind((HOST, 0))
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(count, mark), sock=udp)
    try:
        yield udp.getsockname()[1]
    finally:
        transport.close()


# --- VTube Studio


class _Value(msgspec.Struct):
    id: str
    value: float


class _Injected(msgspec.Struct):
    parameterValues: list[_Value] = []


class _Asked(msgspec.Struct):
    messageType: str
    requestID: str
    data: _Injected


_ASKED = msgspec.json.Decoder(_Asked)


class Studio:
    """Answers as VTube Studio does to a plugin that it knows; a repeated frame, which keeps alive, is not counted.

    The token that it gives is empty: none is kept then, and that of a real VTube Studio stays.

    Args:
        drops: closes the connection after some frames, each time.
        reads: false where it takes nothing in any more once the plugin is set up.
    """

    def __init__(self, *, drops: bool = False, reads: bool = True) -> None:
        self.count = Count()
        self.dropped = 0
        self._drops = drops
        self._reads = reads
        self._mark = -1.0

    async def serve(self, connection: ServerConnection) -> None:
        """Serve one connection."""
        taken = 0
        with contextlib.suppress(ConnectionClosed):
            async for text in connection:
                asked = _ASKED.decode(text)
                await connection.send(self._answer(asked))
                if asked.messageType == "InputParameterListRequest" and not self._reads:
                    await connection.wait_closed()
                if asked.messageType == "InjectParameterDataRequest":
                    self._inject(asked.data.parameterValues)
                    taken += 1
                if self._drops and taken == _DROP_AFTER:
                    self.dropped += 1
                    return

    def _inject(self, values: list[_Value]) -> None:
        mark = next(value.value for value in values if value.id.endswith("JawOpen"))
        if mark != self._mark:
            self._mark = mark
            self.count.add()

    @staticmethod
    def _answer(asked: _Asked) -> bytes:
        answers: dict[str, dict[str, Any]] = {
            "AuthenticationTokenRequest": {"authenticationToken": ""},
            "AuthenticationRequest": {"authenticated": True},
            "InputParameterListRequest": {"defaultParameters": [{"name": p.name} for p in default_parameters(0.75)]},
        }
        answer = {
            "messageType": asked.messageType.replace("Request", "Response"),
            "requestID": asked.requestID,
            "data": answers.get(asked.messageType, {}),
        }
        return msgspec.json.encode(answer)


@contextlib.asynccontextmanager
async def studio(made: Studio) -> AsyncIterator[int]:
    """The port where it listens."""
    async with serve(made.serve, HOST, 0, compression=None, close_timeout=0.5) as server:
        yield next(iter(server.sockets)).getsockname()[1]


# --- the newer Live Link Face source


async def unreal(device_port: int, stream_port: int) -> None:
    """Ask the device for a stream to a UDP port, and go on to say that we are there."""
    reader, writer = await asyncio.open_connection(HOST, device_port)
    numbers = itertools.count(1)

    async def ask(path: str, session: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        request = {"sessionId": session, "addressPath": path, "transactionId": next(numbers), "type": "request"}
        data = json.dumps(request | {"body": body or {}}).encode()
        writer.write(b"CPSCONTROL\0" + struct.pack("<HI", _VERSION, len(data)) + data)
        _, size = struct.unpack("<HI", (await reader.readexactly(17))[11:])
        answer: dict[str, Any] = json.loads(await reader.readexactly(size))
        return answer

    try:
        session = (await ask("/session/start", "handshake"))["body"]["sessionId"]
        await ask("/stream/start", session, {"streamPort": stream_port})
        while True:
            await ask("/session/keep-alive", session)
            await asyncio.sleep(KEEP_ALIVE)
    finally:
        writer.close()


# --- WebSocket


async def frames_of(url: str, count: Count) -> None:
    """Subscribe to frames, and count them."""
    async with connect(url, compression=None) as connection:
        await connection.send(encode(Subscribe(frames=True)))
        async for text in connection:
            if json.loads(text)["type"] == "frame":
                count.add()


async def never_read(port: int) -> None:
    """Subscribe to frames, and read none of them."""
    tcp = socket.socket()
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # or the system would take in what nobody reads
    tcp.connect((HOST, port))
    connection = await connect(f"ws://{HOST}:{port}", sock=tcp, compression=None, max_queue=1)
    try:
        await connection.send(encode(Subscribe(frames=True)))
        await asyncio.Event().wait()
    finally:
        connection.transport.abort()


# --- MQTT


def mosquitto() -> str | None:
    """The path of the broker's program, if it is installed."""
    # Debian has brokers where only root looks.
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


@contextlib.contextmanager
def broker(program: str, folder: Path) -> Iterator[int]:
    """A broker of our own; its port.

    Raises:
        UserError: it does not begin.
    """
    port = free_port()
    settings = folder / "mosquitto.conf"
    as_root = "user root\n" if hasattr(os, "geteuid") and os.geteuid() == 0 else ""
    settings.write_text(f"listener {port} {HOST}\n{as_root}allow_anonymous true\n", encoding="utf-8")
    command = [program, "-c", str(settings)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_for(process, port)
            yield port
        finally:
            process.terminate()


def _wait_for(process: subprocess.Popen[bytes], port: int) -> None:
    clock = SystemClock()
    deadline = clock.now() + _PATIENCE
    while clock.now() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1.0):
            return
        clock.sleep_until(clock.now() + 0.02)
    raise UserError("sinks: mosquitto does not begin")


async def frames_through(port: int, topic: str, count: Count) -> None:
    """Subscribe to a topic of a broker, and count what comes."""
    async with aiomqtt.Client(HOST, port, protocol=aiomqtt.ProtocolVersion.V5) as client:
        await client.subscribe(topic)
        async for _ in client.messages:
            count.add()
