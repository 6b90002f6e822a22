"""The device that Unreal's newer Live Link Face source connects to, against a client that asks as Unreal does."""

import asyncio
import contextlib
import json
import logging
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import numpy as np
import pytest

from kff_live.protocols.channels import COUNT, LIVELINK
from kff_live.protocols.errors import ConfigError
from kff_live.protocols.frames import Frame, FrameRate
from kff_live.protocols.livelink_device import DISCOVERY_PORT
from kff_live.runtime.clock import ManualClock, SystemClock
from kff_live.runtime.config import Config, LiveLinkDevice, decode
from kff_live.runtime.sinks import livelink_device
from kff_live.runtime.sinks.livelink_device import LiveLinkDeviceSink
from kff_live.runtime.sinks.making import LoopSink, build

pytestmark = pytest.mark.usefixtures("impatient_link")

RAMP = np.linspace(0.0, 1.0, COUNT, dtype=np.float32)
DEADLINE = 20.0


def frame(number: int = 1) -> Frame:
    return Frame("Face", number, 0.25, FrameRate(), RAMP)


class Unreal:
    """Asks as the source does: frames of version 3, each with a transaction number, a session, a UDP port."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.session = "handshake"
        self.version = 3
        self._transactions = 0

    async def ask(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a request; the answer, which must be as the source demands it."""
        self._transactions += 1
        request = {"sessionId": self.session, "addressPath": path, "transactionId": self._transactions, "timestamp": 1}
        data = json.dumps(request | {"type": "request"} | ({"body": body} if body else {})).encode()
        self.writer.write(b"CPSCONTROL\0" + struct.pack("<HI", self.version, len(data)) + data)
        async with asyncio.timeout(DEADLINE):
            head = await self.reader.readexactly(17)
            assert head[:11] == b"CPSCONTROL\0"
            version, size = struct.unpack("<HI", head[11:])
            answer: dict[str, Any] = json.loads(await self.reader.readexactly(size))
        assert version == self.version, "the source rejects a frame of another version"
        assert (answer["addressPath"], answer["transactionId"]) == (path, self._transactions)
        assert answer["type"] == "response"
        assert answer["timestamp"] > 1_600_000_000_000
        assert answer.get("body") != {}
        return answer

    async def start(self, port: int) -> list[str]:
        """The whole way to a stream; the announced controls."""
        self.session = (await self.ask("/session/start"))["body"]["sessionId"]
        information = (await self.ask("/information"))["body"]
        fields = "id name model platformName platformVersion softwareName softwareVersion exportPort".split()  # noqa: SIM905
        assert list(information) == fields
        (subject,) = (await self.ask("/stream/subjects"))["body"]["subjects"]
        body = {"streamPort": port, "subjects": [{"id": subject["id"], "name": subject["name"]}]}
        assert "body" not in await self.ask("/stream/start", body)
        controls: list[str] = subject["animationMetadata"]["controls"]
        return controls


class Stage:
    def __init__(self, sink: LiveLinkDeviceSink, port: int) -> None:
        self.sink = sink
        self.port = port
        self.udp = socket.socket(type=socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.udp.settimeout(DEADLINE)

    async def connect(self) -> Unreal:
        async with asyncio.timeout(DEADLINE):
            while True:
                with contextlib.suppress(OSError):
                    return Unreal(*await asyncio.open_connection("127.0.0.1", self.port))
                await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def stage(port: int, **settings: Any) -> AsyncIterator[Stage]:
    made = LiveLinkDevice(experimental=True, port=port, **settings)
    sink = LiveLinkDeviceSink(made, "Face", "DEVICE-1", rate=FrameRate(), clock=SystemClock())
    life = asyncio.create_task(sink.run())
    s = Stage(sink, port)
    try:
        yield s
    finally:
        life.cancel()
        await asyncio.gather(life, return_exceptions=True)
        s.udp.close()


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scenario())


def test_a_stream_holds_as_many_values_as_were_announced(free_port: int) -> None:
    async def scenario() -> None:
        async with stage(free_port) as s:
            s.sink.send(frame())  # nobody has asked yet
            unreal = await s.connect()
            controls = await unreal.start(s.udp.getsockname()[1])
            assert controls == list(LIVELINK[:52])
            s.sink.send(frame(4711))
            data = s.udp.recv(2048)
            version, length = struct.unpack_from("<HH", data)
            assert (version, data[4 : 4 + length]) == (1, b"DEVICE-1")
            number, subframe, numerator, denominator, count = struct.unpack_from("<ifiiH", data, 4 + length)
            assert (number, subframe, numerator, denominator) == (4711, 0.25, 60, 1)
            assert count == len(controls)
            values = np.frombuffer(data, "<u2", count, 22 + length) / 65535
            assert values == pytest.approx(RAMP[:52], abs=1e-5)
            assert len(data) == 22 + length + 2 * count + 24
            assert "body" not in await unreal.ask("/session/keep-alive")
            assert "body" not in await unreal.ask("/stream/stop")
            s.sink.send(frame())
            assert s.sink.lost == 0
            await unreal.ask("/session/stop")
            assert "error" in await unreal.ask("/stream/subjects")
            unreal.writer.close()

    run(scenario)


def test_the_numbers_that_nobody_has_confirmed_can_be_set(free_port: int) -> None:
    async def scenario() -> None:
        async with stage(free_port, version=9, packet_version=5, metadata_version=7, head_scale=2.0) as s:
            unreal = await s.connect()
            unreal.version = 9
            await unreal.ask("/session/start")
            (subject,) = (await unreal.ask("/stream/subjects"))["body"]["subjects"]
            assert subject["animationMetadata"]["version"] == 7
            await unreal.ask("/stream/start", {"streamPort": s.udp.getsockname()[1]})
            s.sink.send(frame())
            data = s.udp.recv(2048)
            assert data[:2] == b"\5\0"
            assert struct.unpack("<3f", data[-24:-12]) == pytest.approx(2.0 * RAMP[[54, 53, 52]])
            unreal.writer.close()

    run(scenario)


def test_what_it_does_not_know_is_refused_and_the_session_goes_on(free_port: int) -> None:
    async def scenario() -> None:
        async with stage(free_port) as s:
            unreal = await s.connect()
            assert (await unreal.ask("/information"))["error"]["description"] == "there is no session"
            await unreal.ask("/session/start")
            assert "not known" in (await unreal.ask("/take/record"))["error"]["description"]
            assert "streamPort" in (await unreal.ask("/stream/start", {"streamPort": 0}))["error"]["description"]
            assert "error" not in await unreal.ask("/session/keep-alive")
            unreal.writer.close()

    run(scenario)


@pytest.mark.parametrize("junk", [b"GET / HTTP/1.1\r\n\r\n", b"CPSCONTROL\0" + struct.pack("<HI", 1, 1 << 30)])
def test_junk_ends_its_connection_and_no_other(free_port: int, junk: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with stage(free_port) as s:
            stranger = await s.connect()
            stranger.writer.write(junk)
            async with asyncio.timeout(DEADLINE):
                assert await stranger.reader.read() == b""
            stranger.writer.close()
            unreal = await s.connect()
            await unreal.start(s.udp.getsockname()[1])
            s.sink.send(frame())
            assert s.udp.recv(2048)
            unreal.writer.close()
        assert "sent what cannot be read: control frame" in caplog.text

    run(scenario)


def test_unreal_that_comes_again_is_served_and_its_old_connection_ended(free_port: int) -> None:
    async def scenario() -> None:
        async with stage(free_port) as s:
            old = await s.connect()
            await old.start(s.udp.getsockname()[1])
            new = await s.connect()
            async with asyncio.timeout(DEADLINE):
                assert await old.reader.read() == b""
            await new.start(s.udp.getsockname()[1])
            s.sink.send(frame(5))
            assert s.udp.recv(2048)
            for unreal in (old, new):
                unreal.writer.close()

    run(scenario)


def test_one_that_falls_silent_is_left(free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(livelink_device, "SILENT_SECONDS", 0.05)

    async def scenario() -> None:
        async with stage(free_port) as s:
            unreal = await s.connect()
            async with asyncio.timeout(DEADLINE):
                assert await unreal.reader.read() == b""
            unreal.writer.close()

    run(scenario)


def test_only_allowed_addresses_are_served(free_port: int) -> None:
    async def scenario() -> None:
        async with stage(free_port, allow=("192.0.2.1",)) as s:
            unreal = await s.connect()
            async with asyncio.timeout(DEADLINE):
                assert await unreal.reader.read() == b""
            unreal.writer.close()

    run(scenario)


def test_a_port_in_use_is_told_once_and_tried_again(free_port: int, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        with caplog.at_level(logging.WARNING), socket.socket() as taken:
            taken.bind(("127.0.0.1", free_port))
            taken.listen()
            async with stage(free_port) as s:
                async with asyncio.timeout(DEADLINE):
                    while not caplog.records:  # noqa: ASYNC110
                        await asyncio.sleep(0.005)
                taken.close()
                unreal = await s.connect()
                await unreal.ask("/session/start")
                unreal.writer.close()
        told = [record.getMessage() for record in caplog.records]
        assert len(told) == 2
        assert f"127.0.0.1 port {free_port} cannot be used" in told[0]
        assert told[1].endswith(": connected")

    run(scenario)


@pytest.mark.parametrize("allow", [("127.0.0.1",), ("192.0.2.1",)])
def test_who_may_connect_discovers_it_and_nobody_else(free_port: int, allow: tuple[str, ...]) -> None:
    settings = LiveLinkDevice(experimental=True, host="0.0.0.0", allow=allow, name="Anna", port=1234)

    async def scenario() -> None:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: livelink_device._Discovery(settings, "DEVICE-1"), local_addr=("127.0.0.1", free_port)
        )
        with socket.socket(type=socket.SOCK_DGRAM) as udp:
            udp.setblocking(False)
            for question in (b"junk", b"CPSDISCOVER\0\1\0\0", b"CPSDISCOVER\0\2\0\0"):
                udp.sendto(question, ("127.0.0.1", free_port))
            loop = asyncio.get_running_loop()
            if allow == ("127.0.0.1",):
                async with asyncio.timeout(DEADLINE):
                    answer = await loop.sock_recv(udp, 512)
                assert answer[:15] == b"CPSDISCOVER\0\2\0\1"
                assert answer[31:] == b"\4Anna" + struct.pack("<H", 1234)
            for _ in range(20):
                await asyncio.sleep(0.001)
            with pytest.raises(BlockingIOError):
                udp.recv(512)  # to the others there was no answer
        transport.close()

    run(scenario)


def test_the_group_is_joined_where_there_is_one_and_else_the_way_out_told(caplog: pytest.LogCaptureFixture) -> None:
    settings = LiveLinkDevice(experimental=True, host="0.0.0.0", allow=("127.0.0.1",))
    sink = LiveLinkDeviceSink(settings, "Face", "DEVICE-1", rate=FrameRate(), clock=ManualClock())

    async def scenario() -> None:
        transport = await sink._discoverable()
        if transport is None:
            assert "it cannot be discovered" in caplog.text
        else:
            assert transport.get_extra_info("sockname")[1] == DISCOVERY_PORT
            transport.close()

    run(scenario)


def test_it_is_a_sink_with_a_life_and_only_with_the_switch_that_says_experimental() -> None:
    with pytest.raises(ConfigError, match=r"sinks\[0\]\.experimental: no Unreal has confirmed"):
        decode('[[sinks]]\ntype = "livelink-device"\n')
    with pytest.raises(ConfigError, match=r"sinks\[0\]\.allow: beyond loopback"):
        decode('[[sinks]]\ntype = "livelink-device"\nexperimental = true\nhost = "0.0.0.0"\n')
    sink = build(LiveLinkDevice(experimental=True, rate=30.0), Config())["Face"]
    assert isinstance(sink, LoopSink)
    sink.close()
