"""Keyframes fitted to the time their words take, so that an expression lasts as long as it is spoken."""

from collections.abc import Sequence
from dataclasses import replace

from kff_live.protocols.keyframes import MAX_SECONDS, Keyframe

SHORTEST_WAY = 0.1
"""Seconds below which fitting does not shorten a way; one that was shorter stays as it was."""

MOST_STRETCH = 2.0
"""A way is stretched at most by this factor: a slower motion would no longer be the same expression."""

_HALVINGS = 40


def fit_keyframes(keyframes: Sequence[Keyframe], seconds: float) -> list[Keyframe]:
    """The keyframes of one segment, made to take `seconds`: the time its words take.

    Ways and holds are scaled alike as far as SHORTEST_WAY and MOST_STRETCH allow; what is missing then is added to
    the last hold, and to those before it where that one reaches MAX_SECONDS. If the time is too short for the
    shortest ways, the motion takes longer than the words: see `total_seconds`.
    """
    if not keyframes or total_seconds(keyframes) <= 0.0:
        return _held(list(keyframes), seconds)
    low, high = 0.0, MOST_STRETCH
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if total_seconds(_scaled(keyframes, middle)) < seconds else (low, middle)
    return _held(_scaled(keyframes, low), seconds)


def total_seconds(keyframes: Sequence[Keyframe]) -> float:
    """How long the motion takes: all ways and holds."""
    return sum(keyframe.way + keyframe.hold for keyframe in keyframes)


def _scaled(keyframes: Sequence[Keyframe], scale: float) -> list[Keyframe]:
    return [
        replace(
            keyframe,
            way=min(max(keyframe.way * scale, min(keyframe.way, SHORTEST_WAY)), MAX_SECONDS),
            hold=min(keyframe.hold * scale, MAX_SECONDS),
        )
        for keyframe in keyframes
    ]


def _held(keyframes: list[Keyframe], seconds: float) -> list[Keyframe]:
    """What is missing to `seconds` added to the last hold, and where that is full to those before it."""
    for i in reversed(range(len(keyframes))):
        missing = seconds - total_seconds(keyframes)
        if missing <= 0.0:
            break
        keyframes[i] = replace(keyframes[i], hold=min(keyframes[i].hold + missing, MAX_SECONDS))
    return keyframes
