"""Keyframes as the player shows them, frame by frame."""

from collections.abc import Iterable, Iterator

import numpy as np

from kff_live.protocols import kernels
from kff_live.protocols.channels import HIGH, LOW, Pose, neutral
from kff_live.protocols.frames import Frame, FrameRate
from kff_live.protocols.keyframes import Keyframe, as_acted
from kff_live.protocols.track import Timeline

_SAME = 1e-9  # s
_TICK = 1e-4  # s, to which keyframe text rounds the end
_ONES, _ZEROS = np.ones_like(LOW), np.zeros_like(LOW)


def act(keyframes: Iterable[Keyframe], rate: FrameRate, *, subject: str, start: float = 0.0) -> Iterator[Frame]:
    """The frames of keyframes from neutral to the end of the last hold, as a track is sampled that holds them all.

    Args:
        start: number of the first frame and its sub-frame, at `rate`.
    """
    number, subframe = int(start), start - int(start)
    begin, made, key, previous, sampled = 0.0, 0, -1, neutral(), neutral()
    for key, keyframe in enumerate(keyframes):
        timeline = Timeline()
        track = timeline.append(as_acted(keyframe), at=begin)
        while made * rate.period < timeline.end - _SAME:
            at = made * rate.period
            kernels.sample(at, track.begins, track.ways, track.easings, track.poses, previous, sampled)
            yield _frame(subject, number + made, subframe, rate, sampled, key)
            made += 1
        begin, previous = timeline.end, track.poses[0]
    while key >= 0 and made * rate.period <= begin + _TICK:
        yield _frame(subject, number + made, subframe, rate, previous, key)
        made += 1


def _frame(subject: str, number: int, subframe: float, rate: FrameRate, acted: Pose, key: int) -> Frame:
    """The frame of an acted pose; what an easing carries beyond its keyframes is brought back into range."""
    pose = neutral()
    kernels.finish(acted, _ONES, _ZEROS, LOW, HIGH, pose)
    pose.setflags(write=False)
    return Frame(subject, number, subframe, rate, pose, None, key)
