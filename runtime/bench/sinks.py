"""All sinks at once, each towards a receiver on this machine: whether one that is in order loses frames to bad ones.

The runtime is that of `gated.py`, with the frame thread and the sinks of `kff-live run`; the receivers are those of
`targets.py`, in this process.
"""

import asyncio
import contextlib
import subprocess
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from kff_live.converters import takes
from kff_live.protocols.errors import UserError
from kff_live.protocols.frames import FrameRate
from kff_live.protocols.mqtt import Topics
from kff_live.runtime.bench import targets
from kff_live.runtime.bench.gated import Passed
from kff_live.runtime.bench.report import Rate, Row, Tell
from kff_live.runtime.bench.runtime import at_work, free_port, python
from kff_live.runtime.bench.targets import HOST, Count, Studio
from kff_live.runtime.clock import SystemClock
from kff_live.runtime.config import (
    Config,
    IFacialMocap,
    LiveLink,
    LiveLinkDevice,
    Mqtt,
    Nothing,
    Osc,
    OscIn,
    Recording,
    SinkConfig,
    Subject,
    Vmc,
    VRChat,
    VTubeStudio,
    WebSocket,
)
from kff_live.runtime.loop import run

RATE = FrameRate(60)
"""Of the frames, and what every receiver is to get."""

_SUBJECT = "Face"
_DATAGRAMS: tuple[tuple[str, LiveLink | Osc | Vmc | IFacialMocap | VRChat, bytes], ...] = (
    ("Live Link", LiveLink(), _SUBJECT.encode()),
    ("OSC, own", Osc(), b"/kff/Face/pose\0"),
    ("OSC, own, by channel", Osc(naming="channels"), b"/kff/Face/JawOpen\0"),
    ("OSC, Face Cap", Osc(naming="facecap"), b"/HR\0"),
    ("VMC", Vmc(), b"/VMC/Ext/Blend/Apply\0"),
    ("iFacialMocap", IFacialMocap(), b"|jawOpen-"),
    ("VRChat", VRChat(listen=""), b"/avatar/parameters/v2/JawOpen\0"),
)
"""Sinks of datagrams, and what stands in one datagram of each frame."""

_WARM_UP_FRAMES = 30
_SETTLE_SECONDS = 1.0  # without a frame, after which none is on its way any more
_PATIENCE = 30.0


def sinks(*, seconds: float, tell: Tell) -> tuple[list[Row], list[Rate]]:
    """The rows of the frame thread, and the rate of each sink.

    Raises:
        UserError: the runtime or the broker does not begin.
    """
    periods = round(seconds * RATE.hz)
    passed, rates = run(measure(periods, tell=tell))
    part = f"sinks, {seconds:g} s: all at once"
    rows = [
        Row(part=part, what="frames of the frame thread", value=passed.ticks, reference=periods, reference_is="due"),
        Row(part=part, what="its longest interval", value=1000 * passed.longest, unit="ms"),
    ]
    return rows, rates


async def measure(periods: int, *, tell: Tell) -> tuple[Passed, list[Rate]]:
    """Run the frames of so many periods through every sink."""
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stage = _Stage()
        await stage.build(stack, folder)
        log = folder / "stderr.txt"
        stderr = stack.enter_context(log.open("wb"))
        process = stack.enter_context(python("kff_live.runtime.bench.gated", piped=True, stderr=stderr))
        runtime = _Runtime(process, log)
        tell("sinks: waiting for every connection")
        await runtime.begin(stage.config())
        async with at_work(*(client() for client in stage.clients)):
            before = await stage.warm_up(runtime)
            tell(f"sinks: {periods * RATE.period:g} s of frames")
            passed = await runtime.let_through(periods)
            await stage.settle()
        await runtime.end()
        stage.take.count.frames = _frames(stage.take) - before
        return passed, [*(case.rate(passed) for case in stage.cases), *stage.not_measured]


def _frames(take: "_Case") -> int:
    with takes.opened(Path(take.target)) as opened:
        return sum(1 for _ in opened.frames)


class _Runtime:
    """The gated runtime, a process."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log

    async def begin(self, config: Config) -> None:
        """Give it its settings, and wait until it is warm."""
        await self._ask(msgspec.json.encode(config))

    async def let_through(self, periods: int) -> Passed:
        """Have the frames of so many periods sent."""
        return msgspec.json.decode(await self._ask(str(periods).encode()), type=Passed)

    async def end(self) -> None:
        """Have it take its leave, after which its recording is whole."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await asyncio.to_thread(self._process.wait, _PATIENCE)

    async def _ask(self, line: bytes) -> bytes:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        try:
            stdin.write(line + b"\n")
            stdin.flush()
        except BrokenPipeError:  # there is no answer then
            with contextlib.suppress(BrokenPipeError):
                stdin.close()
        answer = await asyncio.to_thread(stdout.readline)
        if not answer:
            said = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise UserError(f"sinks: the runtime ended: {said[-1] if said else 'without a word'}")
        return answer


@dataclass
class _Case:
    """A sink and its receiver.

    Args:
        place: of the sink among those of the runtime.
        note: what is said of it; gets how many frames the sink says it has lost.
    """

    sink: str
    target: str
    place: int
    count: Count = field(default_factory=Count)
    healthy: bool = True
    note: Callable[[int], str] = lambda lost: ""

    def rate(self, passed: Passed) -> Rate:
        """What became of its frames."""
        sent, received = passed.sent[self.place], self.count.frames
        return Rate(
            sink=self.sink, target=self.target, hz=RATE.hz, sent=sent, received=received, lost=sent - received,
            longest=1000 * self.count.longest or None, healthy=self.healthy, note=self.note(passed.lost[self.place]),
        )  # fmt: skip


class _Stage:
    """All who take part: the settings of the sinks, their receivers, the clients that connect to the runtime."""

    def __init__(self) -> None:
        self.cases: list[_Case] = []
        self.clients: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self.not_measured: list[Rate] = []
        self.take = _Case("recording", "", 0)
        self._sinks: list[SinkConfig] = []
        self._mqtt = Mqtt()
        self._websocket = free_port()

    def config(self) -> Config:
        """The settings of the runtime."""
        return Config(
            subjects=(Subject(name=_SUBJECT),),
            model=Nothing(),
            websocket=WebSocket(port=self._websocket),
            osc_in=OscIn(enabled=False),
            mqtt=self._mqtt,
            sinks=tuple(self._sinks),
        )

    async def build(self, stack: contextlib.AsyncExitStack, folder: Path) -> None:
        """Start the receivers. The sinks come first, then what the runtime puts behind them."""
        for sink, settings, mark in _DATAGRAMS:
            case = self._add(sink, "")
            case.target = f"{HOST}:{await stack.enter_async_context(targets.datagrams(case.count, mark))}"
            self._sinks.append(msgspec.structs.replace(settings, targets=(case.target,)))
        await self._add_device(stack)
        await self._add_studios(stack)
        self.take = self._add("recording", str(folder / "take.jsonl"))
        self._sinks.append(Recording(path=self.take.target))
        self._add_broker(stack, folder)
        self._add_clients()

    def _add(self, sink: str, target: str, **more: Any) -> _Case:
        self.cases.append(_Case(sink, target, place=len(self._sinks), **more))
        return self.cases[-1]

    async def _add_device(self, stack: contextlib.AsyncExitStack) -> None:
        port = free_port()
        case = self._add("Live Link, Unreal 5.6", f"{HOST}:{port}")
        stream = await stack.enter_async_context(targets.datagrams(case.count, b""))
        self._sinks.append(LiveLinkDevice(experimental=True, port=port))
        self.clients.append(partial(targets.unreal, port, stream))

    async def _add_studios(self, stack: contextlib.AsyncExitStack) -> None:
        await self._add_studio(stack, "VTube Studio", Studio())
        drops = Studio(drops=True)
        await self._add_studio(
            stack, "VTube Studio, fails", drops, healthy=False,
            note=lambda _: f"on purpose: it dropped the connection {drops.dropped} times",
        )  # fmt: skip
        await self._add_studio(
            stack, "VTube Studio, blocks", Studio(reads=False), healthy=False,
            note=lambda lost: f"on purpose: it takes nothing in; {lost} frames held back",
        )  # fmt: skip
        nobody = f"{HOST}:{free_port()}"
        self._add("VTube Studio, refuses", nobody, healthy=False, note=lambda _: "on purpose: nobody listens there")
        self._sinks.append(VTubeStudio(target=nobody))

    async def _add_studio(self, stack: contextlib.AsyncExitStack, sink: str, made: Studio, **more: Any) -> None:
        target = f"{HOST}:{await stack.enter_async_context(targets.studio(made))}"
        self._add(sink, target, count=made.count, **more)
        self._sinks.append(VTubeStudio(target=target))

    def _add_broker(self, stack: contextlib.AsyncExitStack, folder: Path) -> None:
        program = targets.mosquitto()
        if program is None:
            self.not_measured.append(Rate(sink="MQTT", hz=RATE.hz, healthy=False, note="mosquitto is not installed"))
            return
        port = stack.enter_context(targets.broker(program, folder))
        case = self._add("MQTT", f"{HOST}:{port}")
        self._mqtt = Mqtt(enabled=True, port=port, frames=RATE.hz)
        topic = Topics(self._mqtt.topic, _SUBJECT, self._mqtt.group).frame
        self.clients.append(partial(targets.frames_through, port, topic, case.count))

    def _add_clients(self) -> None:
        """Those of the WebSocket, which comes last of all."""
        place = len(self._sinks) + self._mqtt.enabled
        url = f"ws://{HOST}:{self._websocket}"
        good = _Case("WebSocket", url, place)
        bad = _Case("WebSocket, blocks", url, place, healthy=False, note=lambda _: "on purpose: it reads nothing")
        self.cases += [good, bad]
        self.clients += [
            partial(targets.frames_of, url, good.count),
            partial(targets.never_read, self._websocket),
        ]

    # --- while it runs

    async def warm_up(self, runtime: _Runtime) -> int:
        """Send frames until each healthy receiver has had some, then forget them; how many there were."""
        clock, frames = SystemClock(), 0
        deadline = clock.now() + _PATIENCE
        while not self._all_served() and clock.now() < deadline:
            frames += (await runtime.let_through(_WARM_UP_FRAMES)).ticks
            await self.settle()
        for case in self.cases:
            case.count.forget()
        return frames

    async def settle(self) -> None:
        """Wait until nothing comes any more."""
        before, now = -1, 0
        while now != before:
            await asyncio.sleep(_SETTLE_SECONDS)
            before, now = now, sum(case.count.frames for case in self.cases)

    def _all_served(self) -> bool:
        """Whether each healthy receiver has got a frame; the recording is counted in the end."""
        return all(case.count.frames for case in self.cases if case.healthy and case is not self.take)
