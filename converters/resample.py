"""Puts the frames of a take onto an even grid of times."""

import math
from collections.abc import Iterable, Iterator
from typing import Literal

from kff_live.protocols.frames import Frame, FrameRate

Method = Literal["linear", "hold"]
METHODS: tuple[Method, ...] = ("linear", "hold")

_SAME = 1e-6
"""Share of a frame within which two times are the same."""


def resample(frames: Iterable[Frame], rate: FrameRate, method: Method = "linear") -> Iterator[Frame]:
    """The take at another rate: the first frame keeps its time, and so does the length, to within a frame.

    "linear" goes straight from one frame to the next, each channel by itself; "hold" keeps the frame before. Nothing is
    filtered: motion faster than half the new rate is lost.
    """
    before: Frame | None = None
    first, sub, made = 0, 0.0, 0
    for frame in frames:
        at = frame.seconds * rate.hz  # frames of the new rate
        if before is None:
            first = math.floor(at + _SAME)
            sub = max(at - first, 0.0)
            before, since = frame, at
        while first + sub + made <= at + _SAME:
            share = min(max((first + sub + made - since) / (at - since), 0.0), 1.0) if at > since else 1.0
            if method == "hold":
                share = math.floor(share + _SAME)
            yield _between(before, frame, share, rate, first + made, sub)
            made += 1
        before, since = frame, at


def _between(before: Frame, after: Frame, share: float, rate: FrameRate, number: int, subframe: float) -> Frame:
    if share < _SAME or share > 1.0 - _SAME:
        nearest = after if share > 0.5 else before
        return Frame(nearest.subject, number, subframe, rate, nearest.pose, nearest.utterance, nearest.key)
    pose = before.pose + (after.pose - before.pose) * share
    pose.setflags(write=False)
    return Frame(before.subject, number, subframe, rate, pose, before.utterance, before.key)
