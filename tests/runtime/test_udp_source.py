"""A UDP source fails, gives its port back, and listens again when it is run again."""

import asyncio
import logging
import socket
from typing import Any

import pytest

from kff_live.protocols.errors import UserError
from kff_live.runtime import supervisor
from kff_live.runtime.supervisor import supervise
from kff_live.runtime.udp_source import UdpSource

DEADLINE = 20.0


class Heard(UdpSource):
    """Keeps what it takes; a packet `bug` is one that it cannot take."""

    def __init__(self, port: int, *allow: str) -> None:
        super().__init__("test_in", "127.0.0.1", port, allow=allow, otherwise=", or none")
        self.packets: list[bytes] = []
        self.binds = 0
        self._arrived = asyncio.Event()
        self._bound = asyncio.Event()

    async def _bind(self) -> Any:
        self.binds += 1
        self._bound.set()
        return await super()._bind()

    async def until_binds(self, count: int) -> None:
        """Wait until the port has been tried so many times."""
        async with asyncio.timeout(DEADLINE):
            while self.binds < count:
                self._bound.clear()
                await self._bound.wait()

    def take(self, data: bytes, sender: str) -> None:
        if data == b"bug":
            raise ZeroDivisionError("a bug")
        self.packets.append(data)
        self._arrived.set()

    async def until_heard(self, data: bytes) -> None:
        """Sends `data` until it is taken: before the port is bound again, packets are lost."""
        async with asyncio.timeout(DEADLINE):
            while data not in self.packets:
                send(self, data)
                self._arrived.clear()
                try:
                    async with asyncio.timeout(0.01):
                        await self._arrived.wait()
                except TimeoutError:
                    pass


def send(source: UdpSource, *packets: bytes) -> None:
    host, _, port = source.address.partition(":")
    with socket.socket(type=socket.SOCK_DGRAM) as udp:
        for packet in packets:
            udp.sendto(packet, (host, int(port)))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "BACKOFF_FIRST", 0.001)
    monkeypatch.setattr(supervisor, "BACKOFF_MOST", 0.01)


def test_a_bug_is_told_once_and_the_port_is_bound_again(free_port: int, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        source = Heard(free_port)
        await source.start()
        task = asyncio.create_task(supervise("the test", source.run))
        await source.until_heard(b"before")
        send(source, b"bug", b"bug", b"bug")
        await source.until_heard(b"after")
        assert not task.done()
        source.close()
        await asyncio.wait_for(task, DEADLINE)

    with caplog.at_level(logging.ERROR):
        asyncio.run(scenario())
    assert [r.getMessage().partition(";")[0] for r in caplog.records] == ["the test failed: a bug"]
    assert caplog.records[0].exc_info is not None


def test_a_port_that_goes_away_is_bound_again(free_port: int, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        source = Heard(free_port)
        await source.start()
        task = asyncio.create_task(supervise("the test", source.run))
        await source.until_heard(b"before")
        assert source._listening is not None
        transport: Any = source._listening._transport
        transport.abort()
        await source.until_heard(b"after")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert source._listening is None

    with caplog.at_level(logging.ERROR):
        asyncio.run(scenario())
    assert "the test failed: the port was closed" in caplog.text


def test_a_port_that_is_taken_when_it_is_bound_again_is_waited_for(free_port: int) -> None:
    async def scenario() -> None:
        source = Heard(free_port)
        await source.start()
        source.close()
        with socket.socket(type=socket.SOCK_DGRAM) as other:
            await asyncio.sleep(0)  # the transport closes its socket in the next turn of the loop
            other.bind(("127.0.0.1", free_port))
            with pytest.raises(OSError):
                await source.run()
            with pytest.raises(UserError, match=rf"^test_in\.port: 127.0.0.1:{free_port} cannot be used .*, or none"):
                await source.start()
            task = asyncio.create_task(supervise("the test", source.run))
            await source.until_binds(source.binds + 3)
            assert not task.done()
        await source.until_heard(b"at last")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scenario())


def test_closing_on_purpose_is_no_error() -> None:
    async def scenario() -> None:
        source = Heard(0)
        await source.start()
        task = asyncio.create_task(source.run())
        await asyncio.sleep(0)
        source.close()
        await asyncio.wait_for(task, DEADLINE)

    asyncio.run(scenario())
