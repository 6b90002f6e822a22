"""`kff-live test-pattern`: moves one channel after the other, and says which it is and what a viewer must see."""

import argparse
import asyncio
import sys
from collections.abc import Iterator, Sequence
from typing import get_args

import numpy as np

from kff_live.protocols.channels import GROUPS, HIGH, LIVELINK, mirror, neutral
from kff_live.protocols.errors import UserError
from kff_live.protocols.pattern import Step, steps
from kff_live.protocols.track import Timeline
from kff_live.runtime import loop
from kff_live.runtime.clock import SystemClock
from kff_live.runtime.config import Config, SinkConfig, settings, sink_gain
from kff_live.runtime.diagnosis.ports import holder, is_ours
from kff_live.runtime.diagnosis.stage import Stage, stage

SECONDS = (0.2, 30.0)
"""Shortest and longest step."""

_LEAD_SECONDS = 0.5  # at rest before the first step, so that a receiver has seen the face
_MOVES = 1e-3


def show_pattern(options: argparse.Namespace, config: Config) -> int:
    """The sub-command; returns 0.

    Raises:
        UserError: an option is wrong, or a sink cannot be made.
    """
    if not SECONDS[0] <= options.seconds_each <= SECONDS[1]:
        raise UserError(f"--seconds-each: {options.seconds_each:g} is outside {SECONDS[0]:g} to {SECONDS[1]:g}")
    sinks = chosen(options.sink, config)
    pattern = list(steps(named(options.channels)))
    _warn(config, sinks)
    loop.run(_play(config, sinks, pattern, options))
    return 0


def chosen(sink: str | None, config: Config) -> list[SinkConfig]:
    """The sinks to send to: all of the settings, the one of a number, or those of a type, with its defaults if none is.

    Raises:
        UserError: there is none.
    """
    if sink is None:
        if not config.sinks:
            raise UserError("sinks: there is none in the settings; name a type, such as --sink livelink")
        return list(config.sinks)
    if sink.isdigit():
        if int(sink) >= len(config.sinks):
            raise UserError(f"--sink: there is no sinks[{sink}], the settings have {len(config.sinks)}")
        return [config.sinks[int(sink)]]
    types = {kind.__struct_config__.tag: kind for kind in get_args(SinkConfig)}
    if sink not in types:
        raise UserError(f"--sink: {sink!r} is neither a number nor one of {', '.join(types)}")
    found = [entry for entry in config.sinks if entry.__struct_config__.tag == sink]
    try:
        return found or [types[sink]()]
    except TypeError:
        raise UserError(f"--sink: the settings have no sink of type {sink}, and it has no defaults") from None


def named(names: Sequence[str]) -> tuple[str, ...]:
    """The channels that are named, singly or by region, each once in the order given; all for none.

    Raises:
        UserError: there is no such channel or region.
    """
    folded = {name.lower(): (name,) for name in LIVELINK}
    regions = {name: tuple(LIVELINK[i] for i in indices) for name, indices in GROUPS.items()}
    found: list[str] = []
    for name in names:
        channels = (regions | folded).get(name.lower())
        if channels is None:
            known = ", ".join(regions)
            raise UserError(f"--channels: {name!r} is no channel such as JawOpen, and none of the regions {known}")
        found += channels
    return tuple(dict.fromkeys(found)) or LIVELINK


def _warn(config: Config, sinks: Sequence[SinkConfig]) -> None:
    """What would make one see something else."""
    who = holder("tcp", config.websocket.port)
    if who is not None and is_ours(who):
        _warning(f"{who} runs already: where both send to one place the values alternate; stop it first")
    for sink in sinks:
        if sink.mirror:
            _warning(f"the {sink.__struct_config__.tag} sink is mirrored: left and right change places")


def _warning(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr, flush=True)  # noqa: T201 - a person is to read it


def _line(number: int, count: int, step: Step, *, still: bool) -> str:
    side = f" ({step.where})" if step.where else ""
    note = "; held still by gain, limit or channels in the settings" if still else ""
    return f"{number:>2}/{count}  {step.channel:<19} {step.value:+.1f}  {step.seen}{side}{note}"


async def _play(
    config: Config, sinks: Sequence[SinkConfig], pattern: Sequence[Step], options: argparse.Namespace
) -> None:
    clock, stopping = SystemClock(), asyncio.Event()
    still = _still(config, sinks)
    with loop.ending(stopping.set):
        async with stage(config, sinks, clock) as face:
            at = clock.now() + _LEAD_SECONDS
            await clock.wait(stopping, at)
            for number, step in _numbered(pattern, again=options.loop):
                if stopping.is_set():
                    break
                line = _line(number, len(pattern), step, still=step.channel in still)
                print(line, flush=True)  # noqa: T201 - standard output is the data
                _begin(face, step, at, options.seconds_each)
                at += options.seconds_each
                await clock.wait(stopping, at)


def _numbered(pattern: Sequence[Step], *, again: bool) -> Iterator[tuple[int, Step]]:
    while True:
        yield from enumerate(pattern, 1)
        if not again:
            return


def _begin(face: Stage, step: Step, at: float, seconds: float) -> None:
    timeline = Timeline()
    for keyframe in step.keyframes(seconds):
        timeline.append(keyframe)
    face.play(timeline.track, start=at, utterance=f"test pattern {step.channel}")


def _still(config: Config, sinks: Sequence[SinkConfig]) -> frozenset[str]:
    """Channels that the settings hold still, of every subject or in every sink."""
    moves = np.zeros(len(LIVELINK), bool)
    for subject in config.subjects:
        look = settings(subject, config)
        full, rest = (np.clip(pose * look.gain + look.offset, look.low, look.high) for pose in (HIGH, neutral()))
        moves |= np.abs(full - rest) > _MOVES
    gains = [mirror(sink_gain(sink)) if sink.mirror else sink_gain(sink) for sink in sinks]
    sent = np.any([gain != 0.0 for gain in gains], axis=0)
    return frozenset(name for name, moving in zip(LIVELINK, moves & sent, strict=True) if not moving)
