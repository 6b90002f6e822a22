"""Keyframes as motions: played offline, and how far two are apart."""

import numpy as np
from numpy.typing import NDArray

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
