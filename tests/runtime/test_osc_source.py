import asyncio
import logging
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
from pythonosc.osc_message_builder import OscMessageBuilder
from pythonosc.udp_client import SimpleUDPClient

from kff_live.protocols.errors import UserError
from kff_live.protocols.frames import FrameRate
from kff_live.protocols.messages import Accepted, Dropped, Event, Interrupted
from kff_live.runtime.clock import ManualClock
from kff_live.runtime.config import OscIn
from kff_live.runtime.desk import Desk
from kff_live.runtime.director import Director
from kff_live.runtime.model.generator import ScriptedGenerator
from kff_live.runtime.osc_source import MAX_DATAGRAM, OscSource
from kff_live.runtime.player import Player

NAMES = ("Face", "Anna B")


class Stage:
    """A source on a port, a desk behind it, and what the desk says."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.events: list[Event] = []
        self._heard = asyncio.Event()
        self.client = SimpleUDPClient("127.0.0.1", port)

    def hear(self, event: Event) -> None:
        self.events.append(event)
        self._heard.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until what was heard fulfils `condition`."""
        async with asyncio.timeout(20.0):
            while not condition():
                self._heard.clear()
                await self._heard.wait()

    def accepted(self) -> list[str]:
        return [event.subject for event in self.events if isinstance(event, Accepted)]


@asynccontextmanager
async def stage(port: int, **settings: Any) -> AsyncIterator[Stage]:
    made = Stage(port)
    clock = ManualClock()
    directors = {
        name: Director(Player(name, FrameRate()), ScriptedGenerator(), clock, notify=made.hear) for name in NAMES
    }
    source = OscSource(OscIn(port=port, **settings), Desk(directors))
    tasks = [asyncio.create_task(director.run()) for director in directors.values()]
    try:
        await source.start()
        yield made
    finally:
        source.close()
        made.client._sock.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scenario())


def raw(port: int, *packets: bytes) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as udp:
        for packet in packets:
            udp.sendto(packet, ("127.0.0.1", port))


def message(address: str, *arguments: Any) -> bytes:
    builder = OscMessageBuilder(address)
    for argument in arguments:
        builder.add_arg(argument)
    return builder.build().dgram


def test_say_goes_to_the_first_subject(free_port: int) -> None:
    async def scenario() -> None:
        async with stage(free_port) as s:
            s.client.send_message("/kff/say", "What a day! 😀")
            await s.until(s.accepted)
            assert s.accepted() == ["Face"]

    run(scenario)


@pytest.mark.parametrize("address", ["/kff/Anna%20B/say", "/kff/Anna B/say"])
def test_say_to_a_subject_by_its_name_or_its_address(free_port: int, address: str) -> None:
    async def scenario() -> None:
        async with stage(free_port) as s:
            raw(free_port, message(address, "Hello"))
            await s.until(s.accepted)
            assert s.accepted() == ["Anna B"]

    run(scenario)


@pytest.mark.parametrize(("address", "stopped"), [("/kff/stop", set(NAMES)), ("/kff/Anna%20B/stop", {"Anna B"})])
def test_stop_is_for_all_or_for_one(free_port: int, address: str, stopped: set[str]) -> None:
    async def scenario() -> None:
        async with stage(free_port) as s:
            for name in ("Face", "Anna%20B"):
                s.client.send_message(f"/kff/{name}/say", "one")
                s.client.send_message(f"/kff/{name}/say", "two")
            await s.until(lambda: len(s.accepted()) == 4)
            s.client.send_message(address, [])
            await s.until(lambda: {e.subject for e in s.events if isinstance(e, Interrupted)} == stopped)
            assert {e.subject for e in s.events if isinstance(e, Dropped)} == stopped

    run(scenario)


def test_a_bundle_is_several_messages(free_port: int) -> None:
    async def scenario() -> None:
        async with stage(free_port) as s:
            bundle = OscBundleBuilder(IMMEDIATELY)
            for text in ("one", "two"):
                builder = OscMessageBuilder("/kff/say")
                builder.add_arg(text)
                bundle.add_content(builder.build())
            raw(free_port, bundle.build().dgram)
            await s.until(lambda: len(s.accepted()) == 2)

    run(scenario)


@pytest.mark.parametrize(
    ("packet", "said"),
    [
        (message("/kff/say", 5), "/kff/say: expected one string"),
        (message("/kff/say", 0.5), "/kff/say: expected one string"),
        (message("/kff/say", b"blob"), "/kff/say: expected one string"),
        (message("/kff/say", True), "/kff/say: expected one string"),
        (message("/kff/say"), "/kff/say: expected one string"),
        (message("/kff/say", "a", "b"), "/kff/say: expected one string"),
        (message("/kff/say", ""), "/kff/say: text: it is empty"),
        (message("/kff/say", "x" * 2001), "/kff/say: text: 2001 characters, at most 2000"),
        (message("/kff/Nobody/say", "a"), "/kff/Nobody/say: subject: 'Nobody', expected one of Face, Anna B"),
        (message("/kff/Nobody/stop"), "/kff/Nobody/stop: subject: 'Nobody'"),
        (message("/say", "a"), "/say: expected /kff/say"),
        (message("/kff/shout", "a"), "/kff/shout: expected /kff/say"),
        (message("/kff/Face/say/loud", "a"), "/kff/Face/say/loud: expected /kff/say"),
        (bytes(MAX_DATAGRAM + 1), f"a packet of {MAX_DATAGRAM + 1} bytes"),
        (b"hello", "not an OSC packet"),
    ],
)
def test_what_cannot_be_acted_is_told_in_the_log_and_the_next_is_acted(
    free_port: int, packet: bytes, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with stage(free_port) as s:
            with caplog.at_level(logging.WARNING):
                raw(free_port, packet, message("/kff/say", "Hello"))
                await s.until(s.accepted)
            assert s.accepted() == ["Face"]
            assert said in caplog.text

    run(scenario)


def nested(depth: int) -> bytes:
    packet = message("/kff/say", "deep")
    for _ in range(depth):
        packet = b"#bundle\0" + struct.pack(">Qi", 1, len(packet)) + packet
    return packet


def rubbish(seed: int) -> bytes:
    r = random.Random(seed)
    packet = bytearray(r.choice((message("/kff/sya", "hello"), nested(1), r.randbytes(r.randrange(80)))))
    for _ in range(r.randrange(4)):
        if packet:
            packet[r.randrange(len(packet))] = r.randrange(256)
    return bytes(packet[: r.randrange(len(packet) + 1)] if r.random() < 0.4 else packet)


def test_rubbish_stops_nothing_and_does_not_flood_the_log(free_port: int, caplog: pytest.LogCaptureFixture) -> None:
    problems: list[dict[str, Any]] = []

    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context))
        async with stage(free_port) as s:
            with caplog.at_level(logging.WARNING):
                for i in range(20):  # a few at a time, since the system drops what does not fit its buffer
                    packets = [rubbish(seed) for seed in range(50 * i, 50 * i + 50)]
                    raw(free_port, *packets, nested(790), message("/kff/Anna%20B/say", "Hello"))
                    await s.until(lambda: s.accepted().count("Anna B") == i + 1)  # noqa: B023 - awaited here

    run(scenario)
    assert problems == []
    ours = [record for record in caplog.records if record.name.startswith("kff_live")]
    assert 0 < len(ours) <= 20


def test_only_allowed_senders_are_heard(free_port: int) -> None:
    async def scenario() -> None:
        async with stage(free_port, allow=("127.0.0.2",)) as s:
            raw(free_port, message("/kff/say", "not me"))
            with socket.socket(type=socket.SOCK_DGRAM) as udp:
                try:
                    udp.bind(("127.0.0.2", 0))
                except OSError:
                    pytest.skip("this machine has only 127.0.0.1")
                udp.sendto(message("/kff/Anna%20B/say", "me"), ("127.0.0.1", free_port))
            await s.until(s.accepted)
            assert s.accepted() == ["Anna B"]

    run(scenario)


def test_a_port_in_use_is_the_users_error(free_port: int) -> None:
    async def scenario() -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as udp:
            udp.bind(("127.0.0.1", free_port))
            with pytest.raises(UserError, match=rf"^osc_in\.port: 127\.0\.0\.1:{free_port} cannot be used"):
                async with stage(free_port):
                    pass

    run(scenario)
