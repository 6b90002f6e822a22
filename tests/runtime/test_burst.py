"""A burst of 500 lines against a spawned runtime: each gets its final event, the newest is acted, memory is flat."""

import asyncio
from collections.abc import Iterator

import pytest

from kff_live.runtime.bench import burst
from kff_live.runtime.bench.runtime import Runtime, free_port, running
from kff_live.runtime.config import Config, Nothing


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    with running(Config(model=Nothing()), [free_port()]) as started:
        asyncio.run(started.ready())
        asyncio.run(burst._round(started.url, 1, name="warm"))
        yield started


@pytest.mark.parametrize("sources", [1, burst.LINES])
def test_500_lines_in_a_second(runtime: Runtime, sources: int) -> None:
    before = runtime.usage()[0]
    found = asyncio.run(burst._round(runtime.url, sources, name="hot"))
    after = runtime.usage()[0]
    assert (found.finals, found.last_acted, found.refused) == (burst.LINES, burst.LINES, 0)
    assert found.acted < 20
    assert [len(found.seconds[mode]) for mode in ("interrupt", "queue")] == [2, 1]
    if before is not None and after is not None:
        assert after.resident - before.resident < 10.0  # MB
