import asyncio
import logging

import pytest

from kff_live.protocols.errors import GeneratorError, UserError
from kff_live.runtime import supervisor
from kff_live.runtime.supervisor import supervise


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "BACKOFF_FIRST", 0.001)
    monkeypatch.setattr(supervisor, "BACKOFF_MOST", 0.004)


class Flaky:
    """Fails so many times, then returns."""

    def __init__(self, failures: int, error: type[Exception] = RuntimeError) -> None:
        self.runs = 0
        self.returned = asyncio.Event()
        self._failures = failures
        self._error = error

    async def run(self) -> None:
        self.runs += 1
        if self.runs <= self._failures:
            raise self._error(f"failure {self.runs}")
        self.returned.set()


def test_what_returns_is_not_run_again() -> None:
    flaky = Flaky(0)
    asyncio.run(supervise("it", flaky.run))
    assert flaky.runs == 1


@pytest.mark.parametrize("error", [RuntimeError, OSError, GeneratorError, AssertionError])
def test_what_fails_is_told_and_run_again(error: type[Exception], caplog: pytest.LogCaptureFixture) -> None:
    flaky = Flaky(3, error)
    with caplog.at_level(logging.WARNING):
        asyncio.run(supervise("the camera", flaky.run))
    assert flaky.runs == 4
    messages = [record.getMessage() for record in caplog.records]
    assert [message.partition("; ")[0] for message in messages] == [
        f"the camera failed: failure {i}" for i in (1, 2, 3)
    ]


def test_the_pause_doubles_up_to_a_limit(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", noted)
    asyncio.run(supervise("it", Flaky(5).run))
    assert pauses == [0.001, 0.002, 0.004, 0.004, 0.004]


def test_the_users_mistake_is_passed_on() -> None:
    flaky = Flaky(1, UserError)
    with pytest.raises(UserError, match="failure 1"):
        asyncio.run(supervise("it", flaky.run))
    assert flaky.runs == 1


def test_a_cancel_is_passed_on() -> None:
    async def scenario() -> None:
        running = asyncio.Event()

        async def run() -> None:
            running.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(supervise("it", run))
        await running.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())


def test_one_that_fails_cancels_nobody_else() -> None:
    async def scenario() -> None:
        async with asyncio.TaskGroup() as group:
            flaky, steady = Flaky(3), asyncio.Event()

            async def run() -> None:
                await steady.wait()

            group.create_task(supervise("the flaky one", flaky.run))
            other = group.create_task(supervise("the steady one", run))
            await flaky.returned.wait()
            assert flaky.runs == 4
            assert not other.done()
            steady.set()

    asyncio.run(scenario())
