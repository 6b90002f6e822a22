import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

import pytest

from kff_live.runtime.clock import ManualClock
from kff_live.runtime.link import FIRST_PAUSE, MOST_PAUSE, STEADY_SECONDS, Lost, first_of, heed_cancel, keep_connected


class Server:
    """Sessions that go as a script says: an error, or so many seconds of connection and then an error."""

    def __init__(self, *script: Lost | tuple[float, Lost]) -> None:
        self.clock = ManualClock()
        self.begun: list[float] = []
        self._script = list(script)

    async def session(self, connected: Callable[[], None]) -> None:
        self.begun.append(self.clock.now())
        if not self._script:
            return
        entry = self._script.pop(0)
        if isinstance(entry, Lost):
            raise entry
        seconds, error = entry
        connected()
        await self.clock.wait(asyncio.Event(), self.clock.now() + seconds)
        raise error

    def run(self) -> None:
        async def scenario() -> None:
            task = asyncio.create_task(keep_connected("it", self.session, self.clock))
            async with asyncio.timeout(20.0):
                while not task.done():
                    self.clock.advance(0.01)
                    await asyncio.sleep(0)
            await task

        asyncio.run(scenario())


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.WARNING)
    return lambda: [record.getMessage() for record in caplog.records]


Told = Callable[[], list[str]]


def away(text: str = "away") -> Lost:
    return Lost(text, about="away")


def test_one_that_is_not_there_is_told_once_and_its_coming_once(told: Told) -> None:
    Server(away("refused"), away("no route"), away(), (1.0, away("closed")), away(), (1.0, away())).run()
    assert told() == ["it: refused; it is tried again", "it: connected"]


def test_a_connection_that_held_is_told_again_when_it_is_lost(told: Told) -> None:
    Server((STEADY_SECONDS + 1, away()), away(), (STEADY_SECONDS + 1, away()), (1.0, away())).run()
    assert told() == ["it: away; it is tried again", "it: connected"] * 2


def test_what_is_new_is_told(told: Told) -> None:
    Server(away(), Lost("the user is not allowed"), away(), Lost("the user is not allowed")).run()
    assert told() == ["it: away; it is tried again", "it: the user is not allowed; it is tried again"]


def test_a_first_connection_is_nothing_to_tell(told: Told) -> None:
    server = Server()
    server.run()
    assert told() == []
    assert len(server.begun) == 1  # what returns is not run again


def test_pauses_grow_to_a_limit_and_are_never_quite_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(*[away() for _ in range(10)])
    server.run()
    pauses = [b - a for a, b in zip(server.begun, server.begun[1:], strict=False)]
    expected = [min(FIRST_PAUSE * 2**i, MOST_PAUSE) for i in range(10)]
    assert all(most / 2 <= pause <= most + 0.03 for pause, most in zip(pauses, expected, strict=True))
    others = Server(*[away() for _ in range(10)])
    others.run()
    assert others.begun != server.begun


def test_a_connection_that_held_lets_the_pauses_start_over() -> None:
    server = Server(*[away() for _ in range(6)], (STEADY_SECONDS, away()), away())
    server.run()
    pauses = [b - a for a, b in zip(server.begun, server.begun[1:], strict=False)]
    assert pauses[5] > 2.0
    assert pauses[6] <= STEADY_SECONDS + FIRST_PAUSE + 0.03


def test_the_first_that_ends_ends_the_others() -> None:
    ended: list[str] = []

    async def wait(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    async def at_once() -> None:
        await asyncio.sleep(0)

    asyncio.run(first_of(a=wait("a"), b=at_once(), c=wait("c")))
    assert sorted(ended) == ["a", "c"]

    async def fails() -> None:
        await asyncio.sleep(0)
        raise Lost("gone")

    with pytest.raises(Lost, match="gone"):
        asyncio.run(first_of(a=wait("a"), b=fails()))


def test_a_cancel_that_was_swallowed_is_raised_afterwards() -> None:
    async def scenario() -> None:
        begun = asyncio.Event()

        async def deaf() -> str:
            begun.set()
            with suppress(asyncio.CancelledError):  # as `wait_for` does it
                await asyncio.Event().wait()
            heed_cancel()
            return "never"

        heed_cancel()  # nothing was asked
        task = asyncio.create_task(deaf())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())


def test_a_lost_connection_is_told_of_by_what_it_is_about() -> None:
    assert (Lost("a").about, Lost("a", about="b").about, str(Lost("a", about="b"))) == ("a", "b", "a")
