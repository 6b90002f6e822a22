"""How evenly frames reach another process, and what memory the runtime holds, while the model generates."""

import asyncio
import contextlib
import json
import subprocess
from collections.abc import Coroutine, Iterator
from typing import Any

import msgspec

from kff_live.protocols.frames import FrameRate
from kff_live.runtime.bench.report import Intervals, Row, Tell
from kff_live.runtime.bench.runtime import at_work, busy_cores, flood, keep_generating, python, running, watch
from kff_live.runtime.bench.sender import KINDS
from kff_live.runtime.bench.usage import HINT, Usage
from kff_live.runtime.clock import SystemClock
from kff_live.runtime.config import Config

_WARM_UP_SECONDS = 2.0
_SETTLE_SECONDS = 0.1
_LATE = 0.0008  # s that our p99 may be above the bare sender's
_P99 = 0.0175  # s
_RATE = 0.05  # Hz off
_FLOOD, _CLIENTS, _TARGETS = 500, 4, 8
_GROWTH_MB = 5.0
_SETTLED = 0.2  # share of the memory run after which memory must not grow: minute 2 of 10


class _Load(msgspec.Struct, frozen=True):
    """What happens beside the clock while it is measured."""

    title: str
    crowd: bool = False
    busy: bool = False


_LOADS = (
    _Load("the model generates without pause"),
    _Load(f"and {_FLOOD} texts a second, {_CLIENTS} WebSocket clients, {_TARGETS} UDP targets", crowd=True),
    _Load("and every core busy at normal priority", busy=True),
)


class _Measured(msgspec.Struct):
    """Intervals of ours and of both references, packets to each further target, and use before and after."""

    ours: Intervals
    deadline: Intervals
    sleep: Intervals
    others: list[Intervals]
    before: tuple[Usage | None, Usage | None]
    after: tuple[Usage | None, Usage | None]
    seconds: float


def clock(config: Config, *, seconds: float, tell: Tell) -> list[Row]:
    """The rows of the frame clock, `seconds` for each load.

    Raises:
        UserError: the runtime does not run with this model.
    """
    rows: list[Row] = []
    for load in _LOADS:
        tell(f"clock: {load.title}, {seconds:g} s")
        rows += _rows(load, asyncio.run(_measure(config, load, seconds)))
    return rows


class _Receiver:
    """The receiver process."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.ports: list[int] = self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def begin(self) -> None:
        """Have it forget what came so far, and measure from now on."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(b"go\n")
        self._process.stdin.flush()
        self._process.stdout.readline()

    async def results(self) -> list[Intervals]:
        """Wait for what it has measured."""
        return msgspec.convert(await asyncio.to_thread(self._read), list[Intervals])


@contextlib.contextmanager
def _receiver(seconds: float, ports: int) -> Iterator[_Receiver]:
    with python("kff_live.runtime.bench.receiver", seconds, ports, _SETTLE_SECONDS, piped=True) as process:
        yield _Receiver(process)


async def _measure(config: Config, load: _Load, seconds: float) -> _Measured:
    targets = _TARGETS if load.crowd else 1
    with contextlib.ExitStack() as stack:
        receiver = stack.enter_context(_receiver(seconds, len(KINDS) + targets))
        for kind, port in zip(KINDS, receiver.ports, strict=False):
            stack.enter_context(python("kff_live.runtime.bench.sender", kind, port, piped=True))
        runtime = stack.enter_context(running(config, receiver.ports[len(KINDS) :]))
        await runtime.ready()
        if load.busy:
            stack.enter_context(busy_cores())
        async with at_work(keep_generating(runtime.url), *(_crowd(runtime.url) if load.crowd else [])):
            await asyncio.sleep(_WARM_UP_SECONDS)
            before = runtime.usage()
            receiver.begin()
            deadline, sleep, ours, *others = await receiver.results()
            after = runtime.usage()
            runtime.check()
    return _Measured(ours, deadline, sleep, others, before, after, seconds)


def _crowd(url: str) -> list[Coroutine[Any, Any, None]]:
    """The clients of the crowded load: one floods, four watch, of whom one never reads."""
    return [
        flood(url, texts_per_second=_FLOOD),
        watch(url),
        watch(url),
        watch(url, form="livelink"),
        watch(url, read=False),
    ]


def _rows(load: _Load, measured: _Measured) -> list[Row]:
    part = f"clock, {measured.seconds:g} s: {load.title}"
    ours, bare, plain = measured.ours, measured.deadline, measured.sleep
    hz, period = FrameRate().hz, FrameRate().period

    def ms(what: str, ours: float, other: float, target: str = "", met: bool | None = None) -> Row:
        return Row(
            part=part, what=what, value=1000 * ours, unit="ms", reference=1000 * other, reference_is="bare sender",
            target=target, met=met,
        )  # fmt: skip

    allowed = bare.p99 + _LATE
    target = f"<= {1000 * allowed:.2f} ms, the bare sender's + {1000 * _LATE:.1f}"
    if not (load.crowd or load.busy):
        allowed, target = min(allowed, _P99), f"{target}; <= {1000 * _P99:.1f} ms"
    rows = [
        Row(
            part=part, what="mean rate", value=ours.rate, unit="Hz", reference=plain.rate,
            reference_is="sleep(1/60) loop", target=f"{hz:.2f} +- {_RATE:.2f} Hz", met=abs(ours.rate - hz) <= _RATE,
        ),
        ms("median interval", ours.p50, bare.p50),
        ms("p99 interval", ours.p99, bare.p99, target, ours.p99 <= allowed),
        Row(
            part=part, what="p99 interval", value=1000 * ours.p99, unit="ms", reference=1000 * plain.p99,
            reference_is="sleep(1/60) loop",
        ),
        ms("longest interval", ours.longest, bare.longest, f"<= {2000 * period:.1f} ms", not ours.gaps),
        Row(
            part=part, what="gaps over two periods", value=ours.gaps, reference=bare.gaps, reference_is="bare sender",
            target="0", met=ours.gaps == 0,
        ),
        Row(part=part, what="frame numbers missing", value=ours.missing, target="0", met=ours.missing == 0),
    ]  # fmt: skip
    if measured.others:
        least, worst = min(o.packets for o in measured.others), max(o.p99 for o in measured.others)
        rows += [
            Row(
                part=part, what="packets to the worst served target", value=least, reference=ours.packets,
                reference_is="to the first",
            ),
            Row(
                part=part, what="p99 interval at the worst served target", value=1000 * worst, unit="ms",
                reference=1000 * ours.p99, reference_is="at the first",
            ),
        ]  # fmt: skip
    return rows + _usage_rows(part, measured)


def _usage_rows(part: str, measured: _Measured) -> list[Row]:
    rows = []
    for name, before, after in zip(("runtime", "generator"), measured.before, measured.after, strict=True):
        if before is not None and after is not None:
            rows += [
                Row(part=part, what=f"{name}: cores used", value=(after.cpu - before.cpu) / measured.seconds),
                Row(part=part, what=f"{name}: resident", value=after.resident, unit="MB"),
            ]
    return rows or [Row(part=part, what="resident size", note=HINT)]


# --- memory


def memory(config: Config, *, minutes: float, tell: Tell) -> list[Row]:
    """Resident size of both processes after a fifth of the time and at its end.

    Raises:
        UserError: the runtime does not run with this model.
    """
    tell(f"memory: {minutes:g} minutes of texts")
    return asyncio.run(_memory(config, minutes))


async def _memory(config: Config, minutes: float) -> list[Row]:
    part = f"memory: resident size while the model generates, {minutes:g} minutes"
    time = SystemClock()
    with _receiver(1.0, 1) as receiver, running(config, receiver.ports) as runtime:
        await runtime.ready()
        start = time.now()
        async with at_work(keep_generating(runtime.url), watch(runtime.url)):
            await asyncio.sleep(60 * minutes * _SETTLED)
            early = runtime.usage()
            await asyncio.sleep(start + 60 * minutes - time.now())
            late = runtime.usage()
            runtime.check()
    names = ("runtime", "generator")
    return [_growth(part, name, a, b, minutes) for name, a, b in zip(names, early, late, strict=True)]


def _growth(part: str, name: str, early: Usage | None, late: Usage | None, minutes: float) -> Row:
    if early is None or late is None:
        return Row(part=part, what=f"{name} process", note=HINT)
    return Row(
        part=part, what=f"{name} process at the end", value=late.resident, unit="MB", reference=early.resident,
        reference_is=f"at minute {minutes * _SETTLED:g}", target=f"grows by less than {_GROWTH_MB:g} MB",
        met=late.resident - early.resident < _GROWTH_MB,
    )  # fmt: skip
