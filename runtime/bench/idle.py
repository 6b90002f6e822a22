"""How alive the face looks when nothing is acted: ten minutes of idle life beside the figures of people."""

from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from kff_live.converters import takes
from kff_live.protocols import kernels
from kff_live.protocols.errors import UserError
from kff_live.protocols.frames import FrameRate
from kff_live.protocols.idle.layer import Idle
from kff_live.protocols.idle.report import report
from kff_live.runtime.bench.report import Row, Tell
from kff_live.runtime.config import Config
from kff_live.runtime.player import Player


def idle(config: Config, *, minutes: float, take: str | None, tell: Tell) -> list[Row]:
    """The rows of this part: of a recording that `kff-live run` made, or of the same layer played offline.

    Raises:
        UserError: the recording cannot be read.
    """
    if take is not None:
        poses, rate = read(Path(take))
        part = f"idle: {take}, {len(poses) / rate.hz / 60:.1f} minutes"
    else:
        tell(f"idle: playing {minutes:g} minutes")
        poses, rate = play(config, minutes), config.rate
        part = f"idle: {minutes:g} minutes played offline, mood {config.idle.mood}"
    found = report(poses, rate.hz)
    return [
        Row(
            part=part,
            what=figure.name,
            value=figure.value,
            unit=figure.unit,
            target=f"people {figure.low:g} to {figure.high:g} ({figure.source})",
            met=figure.human,
        )
        for figure in found.figures
    ]


def play(config: Config, minutes: float) -> NDArray[np.float32]:
    """The poses of a face left alone, float32[frames, 61]."""
    player = Player(config.subjects[0].name, config.rate)
    player.use(kernels, idle=Idle(msgspec.structs.replace(config.idle, enabled=True)))
    ticks = round(minutes * 60 * config.rate.hz)
    return np.array([player.frame(tick * config.rate.period, tick, 0.0).pose for tick in range(ticks)])


def read(path: Path) -> tuple[NDArray[np.float32], FrameRate]:
    """The poses of a take, and their rate; the neutral frames with which a runtime says goodbye are left out.

    Raises:
        UserError: the file cannot be read, a line is not a frame, or it is short; the message names it.
    """
    with takes.opened(path) as take:
        frames = list(take.frames)
    if not frames or len(frames) < 60 * frames[0].rate.hz:
        raise UserError(f"--take: {path}: {len(frames)} frames, at least a minute is needed")
    poses = np.array([frame.pose for frame in frames], np.float32)
    moving = np.flatnonzero(poses.any(axis=1))
    return poses[: moving[-1] + 1 if len(moving) else 0], frames[0].rate
