"""Timeline builds, Track plays: keyframes placed in time, and the immutable arrays that are sampled."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from kff_live.protocols.channels import COUNT
from kff_live.protocols.easing import EASING_INDEX
from kff_live.protocols.keyframes import Keyframe
from kff_live.protocols.talk.fitting import MOST_STRETCH

_Scalar = TypeVar("_Scalar", bound=np.generic)


def _frozen(array: NDArray[_Scalar]) -> NDArray[_Scalar]:
    array.setflags(write=False)
    return array


@dataclass(frozen=True, eq=False)
class Track:
    """An immutable sequence of keyframes, in seconds from the track's start.

    Key i is travelled to from `begins[i]` for `ways[i]` and then kept until `begins[i + 1]`; the last is kept for
    ever. Before the first key and in an empty track the face keeps the pose it started from.

    begins, ways: float64[n], begins rising and each at or after the arrival before it
    easings: int8[n], indices into EASINGS
    poses: float32[n, 61]
    """

    begins: NDArray[np.float64]
    ways: NDArray[np.float64]
    easings: NDArray[np.int8]
    poses: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.begins)


EMPTY = Track(
    _frozen(np.empty(0, np.float64)),
    _frozen(np.empty(0, np.float64)),
    _frozen(np.empty(0, np.int8)),
    _frozen(np.empty((0, COUNT), np.float32)),
)


@dataclass
class Timeline:
    """Places keyframes one after the other; times are seconds from the track's start.

    `underruns` counts keyframes that came after the face had finished holding the one before.
    """

    track: Track = EMPTY
    end: float = 0.0
    """When the last hold ends."""
    underruns: int = 0

    def append(self, keyframe: Keyframe, *, at: float = 0.0, planned: bool = False) -> Track:
        """The track with one keyframe more, which begins when the last hold ends, but not before `at`.

        A keyframe never begins in the past: `at` is now for one that has just arrived. With `planned` it is meant to
        wait for `at`, as one that belongs to a later word, and is no underrun. Samples before its beginning stay what
        they were.
        """
        if at > self.end and len(self.track) and not planned:
            self.underruns += 1
        begin = max(self.end, at)
        old = self.track
        self.track = Track(
            _frozen(np.append(old.begins, begin)),
            _frozen(np.append(old.ways, keyframe.way)),
            _frozen(np.append(old.easings, np.int8(EASING_INDEX[keyframe.easing]))),
            _frozen(np.concatenate([old.poses, keyframe.pose[None]])),
        )
        self.end = begin + keyframe.way + keyframe.hold
        return self.track

    def retime(self, by: float, *, now: float) -> int:
        """Move the keys that are not reached by `now` to `by` seconds later; returns how many leave the track.

        What is left begins with the key that the face is to travel to next, from wherever it is. Those that are reached
        leave the track, and so do those whose successor is due already. The first that is left, where it has begun or
        is due, begins now and arrives at its new time, as far as MOST_STRETCH allows: what it has left of its way is
        not shortened by more than that, and its way does not become longer by more. Where every key is reached the
        track stays and only its end is moved.
        """
        old = self.track
        arrivals = old.begins + old.ways
        left = int(np.count_nonzero(arrivals <= now))
        if left == len(old):
            self.end = max(self.end + by, arrivals[-1] if len(old) else 0.0)
            return 0
        while left + 1 < len(old) and old.begins[left + 1] + by <= now:
            left += 1
        begins, ways = old.begins[left:] + by, old.ways[left:].copy()
        if min(begins[0], old.begins[left]) <= now:
            least = min(ways[0], arrivals[left] - now) / MOST_STRETCH
            ways[0] = min(max(begins[0] + ways[0] - now, least), MOST_STRETCH * ways[0])
            begins[0] = now
        for i in range(1, len(begins)):
            begins[i] = max(begins[i], begins[i - 1] + ways[i - 1])
        self.track = Track(_frozen(begins), _frozen(ways), old.easings[left:], old.poses[left:])
        self.end = max(self.end + by, float(begins[-1] + ways[-1]))
        return left
