"""A chat that runs hot: 500 lines within a second, and what becomes of them, of the memory, and of who comes next."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import numpy as np
from websockets.asyncio.client import ClientConnection, connect

from kff_live.protocols.errors import UserError
from kff_live.protocols.messages import Mode, Say, encode
from kff_live.runtime.bench.report import Row, Tell
from kff_live.runtime.bench.runtime import Runtime, at_work, free_port, running
from kff_live.runtime.bench.usage import HINT, Usage
from kff_live.runtime.clock import SystemClock
from kff_live.runtime.config import Config, Nothing
from kff_live.runtime.waiting import INTERACTIVE

LINES = 500
"""Of one burst, which lasts a second."""

_SOURCES = (1, LINES)
_ROUNDS = 8
_PERIOD = 0.01  # s between two handfuls of lines
_PROBES: tuple[tuple[float, Mode], ...] = ((0.2, "interrupt"), (0.5, "queue"), (0.8, "interrupt"))
"""When in a round somebody speaks whose priority is that of an answer, and how."""

_PATIENCE = 60.0
_FINAL = ("done", "interrupted", "dropped", "failed")
_MOST_LATER = 0.0167  # s: a frame
_GROWTH_MB = 5.0


class Ear:
    """A connection, and what came back on it with its time."""

    def __init__(self, connection: ClientConnection) -> None:
        self.heard: list[tuple[float, dict[str, Any]]] = []
        self._connection = connection
        self._something = asyncio.Event()
        self._clock = SystemClock()

    async def listen(self) -> None:
        """Keep what comes."""
        async for data in self._connection:
            self.heard.append((self._clock.now(), json.loads(data)))
            self._something.set()

    async def say(self, text: str, **fields: Any) -> None:
        """Send a text."""
        await self._connection.send(encode(Say(text=text, **fields)))

    async def until(self, found: Callable[[dict[str, Any]], bool]) -> float:
        """Wait for a message; returns when it came.

        Raises:
            UserError: it does not come.
        """
        try:
            async with asyncio.timeout(_PATIENCE):
                while True:
                    for at, message in self.heard:
                        if found(message):
                            return at
                    self._something.clear()
                    await self._something.wait()
        except TimeoutError:
            raise UserError(f"burst: no answer within {_PATIENCE:g} s") from None


class Round(msgspec.Struct):
    """What became of one burst; seconds of each probe by its mode."""

    finals: int = 0
    acted: int = 0
    last_acted: int = 0
    refused: int = 0
    seconds: dict[str, list[float]] = {}


class _Measured(msgspec.Struct):
    rounds: list[Round]
    before: Usage | None
    after: Usage | None


def burst(config: Config, *, tell: Tell) -> list[Row]:
    """The rows of the bursts; the model is left out, so that they show the queue and the wire.

    Raises:
        UserError: the runtime does not run.
    """
    return asyncio.run(_burst(msgspec.structs.replace(config, model=Nothing()), tell))


async def _burst(config: Config, tell: Tell) -> list[Row]:
    with running(config, [free_port()]) as runtime:
        await runtime.ready()
        tell("burst: nobody speaks but the host")
        quiet = await _measure(runtime, 0)
        rows: list[Row] = []
        for sources in _SOURCES:
            tell(f"burst: {LINES} lines a second from {sources} source{'s' if sources > 1 else ''}")
            rows += _rows(sources, await _measure(runtime, sources), quiet)
        return rows


async def _measure(runtime: Runtime, sources: int) -> _Measured:
    """All rounds, after one that warms up."""
    await _round(runtime.url, sources, name=f"warm-{sources}")
    before = runtime.usage()[0]
    rounds = [await _round(runtime.url, sources, name=f"{sources}-{i}") for i in range(_ROUNDS)]
    runtime.check()
    return _Measured(rounds, before, runtime.usage()[0])


@asynccontextmanager
async def _ear(url: str) -> AsyncIterator[Ear]:
    async with connect(url, compression=None, max_queue=None) as connection:
        ear = Ear(connection)
        async with at_work(ear.listen()):
            yield ear


async def _round(url: str, sources: int, *, name: str) -> Round:
    """One burst from so many sources, or none, and who speaks beside it; until each line has its final event."""
    found = Round()
    async with _ear(url) as chat, _ear(url) as host:
        probes = [_probe(host, f"{name}-host-{i}", mode, at=at) for i, (at, mode) in enumerate(_PROBES)]
        _, *seconds = await asyncio.gather(_flood(chat, sources, name), *probes)
        for (_, mode), took in zip(_PROBES, seconds, strict=True):
            found.seconds.setdefault(mode, []).append(took)
        if sources:
            await _all_ended(chat)
            _count(found, chat, name)
        await _ended(host, [f"{name}-host-{i}" for i in range(len(_PROBES))])
    return found


async def _flood(ear: Ear, sources: int, name: str) -> float:
    """500 lines in a second, a handful at a time; how many seconds it took."""
    clock = SystemClock()
    start, sent = clock.now(), 0
    while sources and sent < LINES:
        due = min(LINES, round((clock.now() - start) * LINES))
        for i in range(sent, due):
            await ear.say(f"This is line {i}.", id=f"{name}-{i}", source=f"viewer {i % sources}")
        sent = due
        await asyncio.sleep(_PERIOD)
    return clock.now() - start


async def _probe(ear: Ear, text_id: str, mode: Mode, *, at: float) -> float:
    """Seconds from a text that somebody waits for to `started` if it cuts in, else to its first keyframe."""
    await asyncio.sleep(at)
    clock = SystemClock()
    asked = clock.now()
    await ear.say("Look at me!", id=text_id, mode=mode, priority=INTERACTIVE)
    kind = "keyframe" if mode == "queue" else "started"
    return await ear.until(lambda message: message["type"] == kind and message["id"] == text_id) - asked


async def _ended(ear: Ear, ids: Sequence[str]) -> None:
    for text_id in ids:
        await ear.until(lambda m, i=text_id: m["type"] in _FINAL and m["id"] == i)  # type: ignore[misc]  # the default


async def _all_ended(ear: Ear) -> None:
    """Wait until each line of a burst was refused or has ended."""
    ended: set[str] = set()

    def last(message: dict[str, Any]) -> bool:
        if message["type"] in (*_FINAL, "error"):
            ended.add(message["id"])
        return len(ended) == LINES

    await ear.until(last)


def _count(found: Round, ear: Ear, name: str) -> None:
    messages = [message for _, message in ear.heard]
    finals = Counter(m["id"] for m in messages if m["type"] in _FINAL)
    acted = [m["id"] for m in messages if m["type"] == "started"]
    found.finals = sum(finals.values()) if max(finals.values(), default=0) == 1 else -1
    found.refused = sum(m["type"] == "error" for m in messages)
    found.acted = len(acted)
    found.last_acted = int(acted[-1].removeprefix(f"{name}-")) + 1 if acted else 0


# --- the report


def _rows(sources: int, measured: _Measured, quiet: _Measured) -> list[Row]:
    part = f"burst: {LINES} lines in a second from {sources} source{'s' if sources > 1 else ''}, {_ROUNDS} times"
    finals, last = [r.finals for r in measured.rounds], [r.last_acted for r in measured.rounds]
    rows = [
        Row(
            part=part, what="final events, worst burst", value=min(finals), target=f"{LINES}, one a line",
            met=set(finals) == {LINES},
        ),
        Row(
            part=part, what="the last line that was acted, worst burst", value=min(last), target=f"{LINES}, the newest",
            met=set(last) == {LINES},
        ),
        Row(part=part, what="lines that were acted, mean", value=float(np.mean([r.acted for r in measured.rounds]))),
    ]  # fmt: skip
    for mode, what in (("interrupt", "interrupt of priority 7 to started"), ("queue", "queued, to its keyframe")):
        ours, theirs = _seconds(measured, mode), _seconds(quiet, mode)
        later = float(np.median(ours) - np.median(theirs))
        rows += [
            Row(
                part=part, what=f"{what}, median", value=1000 * float(np.median(ours)), unit="ms",
                reference=1000 * float(np.median(theirs)), reference_is="without a burst",
                target=f"<= {1000 * _MOST_LATER:g} ms later", met=later <= _MOST_LATER,
            ),
            Row(
                part=part, what=f"{what}, longest", value=1000 * max(ours), unit="ms",
                reference=1000 * max(theirs), reference_is="without a burst",
            ),
        ]  # fmt: skip
    return [*rows, _memory(part, measured.before, measured.after)]


def _seconds(measured: _Measured, mode: str) -> list[float]:
    return [seconds for found in measured.rounds for seconds in found.seconds[mode]]


def _memory(part: str, before: Usage | None, after: Usage | None) -> Row:
    if before is None or after is None:
        return Row(part=part, what="resident size", note=HINT)
    return Row(
        part=part, what="resident size after", value=after.resident, unit="MB", reference=before.resident,
        reference_is="before", target=f"grows by less than {_GROWTH_MB:g} MB",
        met=after.resident - before.resident < _GROWTH_MB,
    )  # fmt: skip
