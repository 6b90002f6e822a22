"""A whole runtime in this process: sources that fail are started again while the frames and the texts go on."""

import asyncio
import itertools
import json
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import numpy as np
import pytest
from pylivelinkface import FaceBlendShape, PyLiveLinkFace
from pythonosc.udp_client import SimpleUDPClient
from websockets.asyncio.client import connect

from kff_live.protocols import livelink
from kff_live.protocols.channels import INDEX
from kff_live.protocols.errors import UserError
from kff_live.protocols.frames import Frame
from kff_live.protocols.keyframe_text import KeyframeJson
from kff_live.protocols.messages import Accepted, Done, Event, Keyframes
from kff_live.runtime import supervisor
from kff_live.runtime.app import App
from kff_live.runtime.config import DEFAULTS, decode
from tests.runtime.ports import free_ports

pytestmark = pytest.mark.usefixtures("ordinary")

DEADLINE = 60.0
SOURCES = ("websocket", "osc_in", "capture")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "BACKOFF_FIRST", 0.02)


class Stage:
    """A running app, its packets and its events."""

    def __init__(self, receiver: socket.socket) -> None:
        self.ports = dict(zip(SOURCES, free_ports(3), strict=True))
        tables = "".join(f"[{name}]\nport = {port}\n" for name, port in self.ports.items())
        target = f"127.0.0.1:{receiver.getsockname()[1]}"
        self.app = App(
            decode(
                f'[model]\nengine = "none"\n{tables}enabled = true\n'
                f'[[sinks]]\ntype = "livelink"\ntargets = ["{target}"]\n'
            ),
            DEFAULTS,
        )
        self.events: list[Event] = []
        self.app.desk.listeners.append(self._hear)
        self.numbers: list[int] = []
        self.values = np.zeros(61, np.float32)
        self._something = asyncio.Event()

    def _hear(self, event: Event) -> None:
        self.events.append(event)
        self._something.set()

    async def receive(self, receiver: socket.socket) -> None:
        while True:
            packet = livelink.decode(await asyncio.get_running_loop().sock_recv(receiver, 2048))
            self.numbers.append(packet.number)
            if isinstance(packet.pose, np.ndarray):
                self.values = packet.pose
            self._something.set()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not condition():
                self._something.clear()
                await self._something.wait()

    async def frames(self, count: int) -> None:
        """Wait for so many frames more."""
        seen = len(self.numbers)
        await self.until(lambda: len(self.numbers) >= seen + count)


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.setblocking(False)
        made = Stage(receiver)
        tasks = [asyncio.create_task(made.app.run()), asyncio.create_task(made.receive(receiver))]
        try:
            await made.frames(1)
            await made.until(lambda: tasks[0].done() or made.values.any() or len(made.numbers) > 30)
            yield made
        finally:
            made.app.stop()
            await asyncio.wait_for(tasks[0], DEADLINE)
            tasks[1].cancel()
            await asyncio.gather(tasks[1], return_exceptions=True)


def lose_osc(s: Stage) -> None:
    """Its port goes away."""
    listening: Any = s.app.osc
    listening._listening._transport.abort()


def break_capture(s: Stage) -> None:
    """A packet that it cannot take."""
    capture: Any = s.app.capture
    taken = capture.take

    def take(data: bytes, sender: str) -> None:
        capture.take = taken
        raise ZeroDivisionError("a bug")

    capture.take = take
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
        phone.sendto(PyLiveLinkFace(name="Phone").encode(), ("127.0.0.1", s.ports["capture"]))


def break_websocket(s: Stage) -> None:
    """A frame that it cannot send."""
    server: Any = s.app.websocket
    encode = server._encode

    def fail(frame: Frame, form: str) -> str:
        server._encode = encode
        raise ZeroDivisionError("a bug")

    server._encode = fail


async def hear_osc(s: Stage) -> None:
    client = SimpleUDPClient("127.0.0.1", s.ports["osc_in"])
    accepted = len([e for e in s.events if isinstance(e, Accepted)])
    while len([e for e in s.events if isinstance(e, Accepted)]) == accepted:
        client.send_message("/kff/say", "Are you there?")
        await s.frames(1)
    client._sock.close()


async def hear_capture(s: Stage) -> None:
    face = PyLiveLinkFace(name="Phone", filter_size=1)
    face.set_blendshape(FaceBlendShape.TongueOut, 0.6)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
        while s.values[INDEX["TongueOut"]] < 0.5:
            phone.sendto(face.encode(), ("127.0.0.1", s.ports["capture"]))
            await s.frames(1)


async def hear_websocket(s: Stage) -> None:
    async with asyncio.timeout(DEADLINE):
        while True:
            with suppress(OSError):
                async with connect(s.app.websocket.url, proxy=None) as client:
                    await client.send('{"type":"subscribe","frames":true}')
                    while json.loads(await client.recv())["type"] != "frame":
                        pass
                    return
            await s.frames(1)


CASES = {
    "OSC in": (lose_osc, hear_osc, "the port was closed"),
    "the live capture": (break_capture, hear_capture, "a bug"),
    "the WebSocket": (break_websocket, hear_websocket, "a bug"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_source_that_fails_is_started_again_and_stops_nothing_else(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    fail, hear, reason = CASES[name]

    async def scenario() -> None:
        async with stage() as s:
            for other in CASES.values():
                await other[1](s)
            playing = s.app.desk.directors["Face"].play(
                Keyframes(keyframes=[KeyframeJson({"JawOpen": 1.0}, 0.2, 1.0)], mode="interrupt"), lambda event: None
            )
            await s.until(lambda: s.values[INDEX["JawOpen"]] > 0.5)
            first = len(s.numbers)
            if name == "the WebSocket":
                async with connect(s.app.websocket.url, proxy=None) as watching:
                    await watching.send('{"type":"subscribe","frames":true}')
                    fail(s)
                    async with asyncio.timeout(DEADLINE):
                        await watching.wait_closed()
            else:
                fail(s)
            await s.frames(20)
            await hear(s)
            for other in CASES.values():
                await other[1](s)
            await s.until(lambda: any(isinstance(e, Done) and e.id == playing for e in s.events))
            numbers = s.numbers[first:]
            assert all(later > earlier for earlier, later in itertools.pairwise(numbers))
            assert s.app.frame_thread.stats.sink_errors == 0

    with caplog.at_level(logging.WARNING):
        asyncio.run(scenario())
    told = [r.getMessage().partition("; ")[0] for r in caplog.records if r.name.startswith("kff_live")]
    assert told == [f"{name} failed: {reason}"]


@pytest.mark.parametrize("table", SOURCES)
def test_a_port_that_is_taken_at_the_start_ends_the_program(table: str) -> None:
    kind = socket.SOCK_STREAM if table == "websocket" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            other.listen()
        port = other.getsockname()[1]
        ports = dict(zip(SOURCES, free_ports(3), strict=True)) | {table: port}
        tables = "".join(f"[{name}]\nport = {number}\n" for name, number in ports.items())

        async def scenario() -> None:
            settings = f'sinks = []\n[model]\nengine = "none"\n{tables}enabled = true\n'
            await App(decode(settings), DEFAULTS).run()

        with pytest.raises(UserError, match=rf"^{table}\.port: .*{port} cannot be used"):
            asyncio.run(scenario())
