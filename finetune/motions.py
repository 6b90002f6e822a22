"""Keyframes as motions: played offline, and scored by somebody else's rules for what a face must show."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kff_live.protocols.channels import LIVELINK
from kff_live.protocols.errors import UserError
from kff_live.protocols.frames import FrameRate
from kff_live.protocols.keyframes import Keyframe
from kff_live.runtime.config import Config
from kff_live.runtime.render import Renderer

Motion = NDArray[np.float32]
"""Poses at a fixed rate: float32[frames, 61]."""


def play(keyframes: list[Keyframe], hz: int) -> Motion:
    """Keyframes as `kff-live render` plays them, from rest back to rest."""
    return np.stack([frame.pose for frame in Renderer(Config(), FrameRate(hz)).frames(keyframes)])


def apart(one: Motion, other: Motion) -> tuple[float, float]:
    """Mean squared and mean absolute difference of two motions; the shorter stays at rest."""
    longest = max(len(one), len(other))
    a, b = (np.pad(motion, ((0, longest - len(motion)), (0, 0))) for motion in (one, other))
    return float(np.mean((a - b) ** 2)), float(np.mean(np.abs(a - b)))


class Expressions:
    """Cases of a folder with score.py, groups.json and dev_cases.jsonl; its own functions score the takes.

    `cases`: each a dict with at least `text` and `kind`.

    Raises:
        UserError: the folder does not hold them.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "score.py"
        spec = importlib.util.spec_from_file_location("kff_expressions_score", path)
        if spec is None or spec.loader is None or not path.is_file():
            raise UserError(f"--expressions: {folder}: there is no score.py")
        self._score: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self._score)
        try:
            self._groups, self.cases = self._score.load_cases(folder)
        except self._score.BadInput as error:
            raise UserError(f"--expressions: {error}") from None

    def passes(self, case: dict[str, Any], keyframes: list[Keyframe]) -> bool:
        """Whether a take of the keyframes shows what the case asks for."""
        frames = [dict(zip(LIVELINK, pose.tolist(), strict=True)) for pose in play(keyframes, 60)]
        return not self._score.broken_rules(case, frames, self._groups)
