"""`kff-live render`: texts to takes, with the same player on a manual clock, as fast as the machine goes."""

import argparse
import asyncio
import math
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Annotated

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from kff_live.converters import livelink_csv
from kff_live.protocols import kernels
from kff_live.protocols.errors import DecodeError, GeneratorError, UserError
from kff_live.protocols.frames import Frame, FrameRate
from kff_live.protocols.idle.settings import IdleSettings
from kff_live.protocols.keyframe_text import HEADER, format_keyframe, parse_file
from kff_live.protocols.keyframes import Keyframe, as_acted, release
from kff_live.protocols.messages import MAX_TEXT, Refused, Say, check
from kff_live.protocols.prompt import PromptInput
from kff_live.protocols.segments import Segmenter
from kff_live.protocols.track import Timeline
from kff_live.runtime.clock import ManualClock
from kff_live.runtime.config import Config, settings
from kff_live.runtime.frame_thread import FrameThread, Lane
from kff_live.runtime.model.choice import generator
from kff_live.runtime.model.generator import Generator
from kff_live.runtime.player import Layer, Plan, Player
from kff_live.runtime.writing import write_keyframes

_SAFE_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


class BatchLine(msgspec.Struct):
    """One line of a batch; keys that it does not have are ignored."""

    id: str | int
    text: Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
    background: Annotated[str, msgspec.Meta(max_length=MAX_TEXT)] = ""
    emotion: Annotated[str, msgspec.Meta(max_length=MAX_TEXT)] = ""
    descriptions: tuple[str, ...] = ()


class _Keep:
    """A sink that keeps its frames."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []

    def send(self, frame: Frame) -> None:
        self.frames.append(frame)


class Renderer:
    """Plays keyframes offline: as if each had arrived in time, from neutral back to neutral.

    Args:
        config: the first subject's name, gains and release are used.
        idle: whether the face also does what it does by itself.
    """

    def __init__(self, config: Config, rate: FrameRate, *, idle: bool = False) -> None:
        self._idle = msgspec.structs.replace(config.idle, enabled=True) if idle else None
        self._subject = config.subjects[0]
        self._settings = settings(self._subject, config)
        self._rate = rate

    def frames(self, keyframes: Sequence[Keyframe], *, intensity: float = 1.0) -> list[Frame]:
        """The frames of a take, numbered from 0."""
        timeline = Timeline()
        for keyframe in keyframes:
            timeline.append(as_acted(keyframe, intensity=intensity))
        timeline.append(release(self._subject.release))
        player = Player(self._subject.name, self._rate, settings=self._settings)
        player.use(kernels, idle=_idle_layer(self._idle) if self._idle is not None else None)
        player.plan = Plan(timeline.track, cut=1, settings=self._settings)
        keep = _Keep()
        ticks = math.ceil(timeline.end * self._rate.hz - 1e-6) + 1
        FrameThread(ManualClock(), self._rate, [Lane(player, [keep])]).run(ticks)
        return keep.frames


def _idle_layer(settings: IdleSettings) -> Layer:
    from kff_live.protocols.idle.layer import Idle  # compiles, which most renderings need not wait for

    return Idle(settings)


async def write_all(model: Generator, request: PromptInput, *, dialect: str, seed: int) -> list[Keyframe]:
    """Every keyframe of a text, segment by segment.

    Raises:
        GeneratorError: the model gave none.
    """
    keyframes: list[Keyframe] = []
    for segment in Segmenter().feed(request.text, more=False):
        part = msgspec.structs.replace(request, text=segment)
        async with aclosing(write_keyframes(model, part, dialect=dialect, seed=seed)) as written:
            keyframes += [keyframe async for keyframe in written]
    if not keyframes:
        raise GeneratorError("the model wrote no keyframe")
    return keyframes


@asynccontextmanager
async def running(config: Config) -> AsyncIterator[Generator]:
    """The configured generator, ready to answer.

    Raises:
        UserError: the model cannot be loaded.
    """
    model = generator(config.model)
    task = asyncio.create_task(model.run(), name="generator")
    try:
        while model.state == "loading" and not task.done():
            await asyncio.wait({task}, timeout=0.05)
        if task.done():
            task.result()
        yield model
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def render(options: argparse.Namespace, config: Config) -> int:
    """The sub-command; returns 0, or 1 when the model failed on some text.

    Raises:
        UserError: the options or a file are wrong.
    """
    if sum(x is not None for x in (options.text, options.batch, options.keyframes)) != 1:
        raise UserError("render: expected one of TEXT, --batch FILE or --keyframes FILE")
    if options.output is None and (options.batch or not options.show):
        raise UserError("render: expected -o PATH" + ("" if options.batch else " or --print"))
    try:
        rate = FrameRate.parse(options.fps) if options.fps else config.rate
    except DecodeError as error:
        raise UserError(f"--fps: {error}") from None
    renderer = Renderer(config, rate, idle=options.idle)
    check_options(options)
    if options.keyframes:
        keyframes = read_keyframes(Path(options.keyframes))
        _deliver(renderer, keyframes, options, Path(options.output) if options.output else None)
        return 0
    if options.batch:
        lines = list(_read_batch(Path(options.batch)))
        folder = _folder(Path(options.output))
        return asyncio.run(_render_batch(renderer, lines, folder, options, config))
    written = write_one(options, config)
    if written is None:
        return 1
    _deliver(renderer, written, options, Path(options.output) if options.output else None)
    return 0


def check_options(options: argparse.Namespace) -> None:
    """Check what the commands that act on one text share: text, background, emotion and intensity.

    Raises:
        UserError: one of them is out of range.
    """
    if not 0.0 <= options.intensity <= 2.0:
        raise UserError(f"--intensity: {options.intensity} is outside 0 to 2")
    if options.text is not None:
        try:
            check(Say(text=options.text, background=options.background, emotion=options.emotion))
        except Refused as refused:
            raise UserError(str(refused)) from None


def write_one(options: argparse.Namespace, config: Config) -> list[Keyframe] | None:
    """The keyframes that the model writes for the options' text; None, after saying why, when it fails.

    Raises:
        UserError: the model cannot be loaded.
    """
    request = PromptInput(options.text, options.background, options.emotion)

    async def write() -> list[Keyframe]:
        async with running(config) as model:
            return await write_all(model, request, dialect=config.model.dialect, seed=_seed(options, config))

    try:
        return asyncio.run(write())
    except GeneratorError as error:
        Console(stderr=True).print(f"kff-live: {error}", markup=False)
        return None


async def _render_batch(
    renderer: Renderer, lines: Sequence[BatchLine], folder: Path, options: argparse.Namespace, config: Config
) -> int:
    """One after the other and not side by side: what a text gets must not depend on its neighbours."""
    failed = 0
    console = Console(stderr=True)
    columns = (TextColumn("rendering"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    async with running(config) as model:
        with Progress(*columns, console=console) as progress:
            for line in progress.track(lines):
                request = PromptInput(line.text, line.background, line.emotion, line.descriptions)
                try:
                    keyframes = await write_all(
                        model, request, dialect=config.model.dialect, seed=_seed(options, config)
                    )
                except GeneratorError as error:
                    failed += 1
                    progress.console.print(f"kff-live: {line.id}: {error}", markup=False)
                    continue
                if options.show:
                    print(f"# {line.id}")  # noqa: T201 - standard output is the data
                _deliver(renderer, keyframes, options, folder / f"{line.id}.csv")
    return 1 if failed else 0


def _seed(options: argparse.Namespace, config: Config) -> int:
    return config.model.seed if options.seed is None else options.seed


def _deliver(renderer: Renderer, keyframes: Sequence[Keyframe], options: argparse.Namespace, path: Path | None) -> None:
    """Print the keyframes as they are acted if asked to, write the take if there is a path."""
    if options.show:
        text = "".join(format_keyframe(as_acted(k, intensity=options.intensity)) for k in keyframes)
        print(text if options.batch else f"{HEADER}\n{text}", end="")  # noqa: T201 - standard output is the data
    if path is None:
        return
    try:
        with path.open("w", encoding="utf-8", newline="\n") as file:
            livelink_csv.write(renderer.frames(keyframes, intensity=options.intensity), file)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None


def read_keyframes(path: Path) -> list[Keyframe]:
    """The keyframes of a file of keyframe text.

    Raises:
        UserError: it cannot be read, or is not keyframe text.
    """
    try:
        return parse_file(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: it is not UTF-8") from None
    except DecodeError as error:
        raise UserError(f"{path}: {error}") from None


def _folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be used as a folder: {error.strerror}") from None
    return path


def _read_batch(path: Path) -> Iterator[BatchLine]:
    """The lines of a batch file; all are checked before the first is rendered."""
    seen: set[str] = set()
    try:
        texts = path.read_text(encoding="utf-8-sig").split("\n")  # and not splitlines: JSON may hold U+2028
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: it is not UTF-8") from None
    for number, text in enumerate(texts, 1):
        if not text.strip():
            continue
        where = f"{path} line {number}"
        try:
            line = msgspec.json.decode(text, type=BatchLine)
        except msgspec.DecodeError as error:
            raise UserError(f"{where}: {error}") from None
        name = str(line.id)
        if not _SAFE_ID.fullmatch(name):
            raise UserError(f"{where}: id: {name!r} is no file name: letters, digits, '.', '_' and '-', up to 100")
        if name.lower() in seen:
            raise UserError(f"{where}: id: {name!r} is there twice")
        if not line.text.strip():
            raise UserError(f"{where}: text: it is empty")
        seen.add(name.lower())
        yield line
    if not seen:
        raise UserError(f"{path}: it holds no line")
