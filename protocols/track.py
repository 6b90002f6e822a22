"""Timeline builds, Track plays: keyframes placed in time, and the immutable arrays that are sampled."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from kff_live.protocols.channels import COUNT
from kff_live.protocols.easing import EASING_INDEX
from kff_live.protocols.keyframes import Keyframe

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
