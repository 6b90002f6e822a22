"""How long a text takes to reach the face: prompt, first keyframe, next tick."""

import asyncio
import contextlib
import gc
import sys
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec
import numpy as np

from kff_live.protocols import kernels
from kff_live.protocols.errors import GeneratorError, UserError
from kff_live.protocols.frames import Frame, FrameRate
from kff_live.protocols.messages import Event, Failed, KeyframeEvent, Say
from kff_live.runtime.app import SWITCH_INTERVAL
from kff_live.runtime.bench.report import TEXTS, Row, Tell
from kff_live.runtime.clock import SystemClock
from kff_live.runtime.config import Config, Llama
from kff_live.runtime.director import Director
from kff_live.runtime.frame_thread import FrameThread, Lane
from kff_live.runtime.model.choice import engine_settings
from kff_live.runtime.model.llama_process import LlamaProcess
from kff_live.runtime.player import Player

_PART = "latency: text to first changed frame, each text from rest"
_THEIR_TEXTS = 3
_ANSWER_SECONDS = 120.0
_POLL_SECONDS = 0.005


class _Split(msgspec.Struct, frozen=True):
    """One text's way to the face, s."""

    prompt: float
    keyframe: float
    tick: float

    @property
    def total(self) -> float:
        return self.prompt + self.keyframe + self.tick


class _Nowhere:
    """A sink that lets go."""

    def send(self, frame: Frame) -> None:
        pass


class _Pipeline:
    """Generator process, director, player and frame thread, as the runtime joins them."""

    def __init__(self, model: Llama) -> None:
        self.clock = SystemClock()
        self.player = Player("Face", FrameRate())
        self.player.use(kernels)
        self.generator = LlamaProcess(engine_settings(model), stall_seconds=model.stall)
        self.director = Director(self.player, self.generator, self.clock, dialect=model.dialect)
        self._first_keyframe = 0.0
        self._failed = ""

    async def measure(self, text: str) -> _Split:
        """Act on a text, and ease back to neutral once it is written and has moved the face.

        Raises:
            GeneratorError: the model gave nothing.
        """
        self._first_keyframe, self._failed = 0.0, ""
        self.generator.last_stats = None
        cut, _ = self.player.first_moved
        accepted = self.clock.now()
        self.director.say(Say(text=text), self._hear)
        async with asyncio.timeout(_ANSWER_SECONDS):
            await self._until(lambda: self.generator.last_stats is not None and self.player.first_moved[0] != cut)
            moved = self.player.first_moved[1]
            self.director.stop()
            await self._until(lambda: self.director.at_rest)
        assert self.generator.last_stats is not None
        prompt = self.generator.last_stats.prompt_seconds
        return _Split(prompt, self._first_keyframe - accepted - prompt, moved - self._first_keyframe)

    async def _until(self, true: Callable[[], bool]) -> None:
        while not true():
            if self._failed:
                raise GeneratorError(self._failed)
            await self.clock.wait(asyncio.Event(), self.clock.now() + _POLL_SECONDS)

    def _hear(self, event: Event) -> None:
        if isinstance(event, KeyframeEvent):
            self._first_keyframe = self._first_keyframe or self.clock.now()
        elif isinstance(event, Failed):
            self._failed = event.reason


@contextlib.asynccontextmanager
async def _running(model: Llama) -> AsyncIterator[_Pipeline]:
    """A pipeline that is ready."""
    pipeline = _Pipeline(model)
    thread = FrameThread(pipeline.clock, FrameRate(), [Lane(pipeline.player, [_Nowhere()])])
    generator = asyncio.create_task(pipeline.generator.run(), name="generator")
    director = asyncio.create_task(pipeline.director.run(), name="director")
    ready = asyncio.create_task(pipeline.generator.wait_ready(), name="ready")
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL)
    thread.start()
    try:
        await asyncio.wait({ready, generator}, return_when=asyncio.FIRST_COMPLETED)
        if generator.done():
            generator.result()
        yield pipeline
    finally:
        for task in (director, ready, generator):
            task.cancel()
        await asyncio.gather(director, ready, generator, return_exceptions=True)
        thread.stop()
        sys.setswitchinterval(before)


async def _measure(model: Llama, texts: Sequence[str]) -> list[_Split]:
    gc.collect()
    async with _running(model) as pipeline:
        return [await pipeline.measure(text) for text in texts]


def latency(config: Config, *, tell: Tell) -> list[Row]:
    """The rows of latency.

    Raises:
        UserError: the model cannot be loaded, or does not answer.
    """
    if not isinstance(config.model, Llama):
        return [Row(part=_PART, what="total", note='not measured: model.engine is not "llama"')]
    try:
        tell(f"latency: {len(TEXTS)} texts")
        ours = asyncio.run(_measure(config.model, TEXTS))
        tell(f"latency: {_THEIR_TEXTS} texts through KeyframeFace's JSON")
        other_model = msgspec.structs.replace(config.model, dialect="keyframeface")
        others = asyncio.run(_measure(other_model, TEXTS[:_THEIR_TEXTS]))
    except (GeneratorError, TimeoutError) as error:
        raise UserError(f"latency: the model did not answer: {error}") from None
    return [
        _row(f"{what}, {name}", [getattr(s, what) for s in ours], [getattr(s, what) for s in others], share)
        for what in ("total", "prompt", "keyframe", "tick")
        for name, share in (("median", 50), ("p95", 95))
    ]


def _row(what: str, ours: Sequence[float], others: Sequence[float], share: int) -> Row:
    names = {"keyframe": "first keyframe", "tick": "next tick"}
    first, _, rest = what.partition(",")
    return Row(
        part=_PART, what=f"{names.get(first, first)},{rest}", value=1000 * float(np.percentile(ours, share)), unit="ms",
        reference=1000 * float(np.percentile(others, share)), reference_is="KeyframeFace's JSON",
    )  # fmt: skip
