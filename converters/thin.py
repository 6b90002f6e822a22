"""Thins a dense take out to keyframes that stay within a stated error of every frame.

The fewest keyframes are found by dynamic programming over the frames. A keyframe takes its pose from a frame; it is
held for a while, and a way with the easing that fits best leads to the next. For a way, each frame is asked which
shares of it would bring all channels near enough: where there is none, no easing can help, and the rest need not be
tried. Long ways are tried in coarser lengths, which may cost a keyframe now and then; the error never suffers.

Importing this module compiles its kernels, which takes seconds.
"""

import math
from dataclasses import dataclass

import numba
import numpy as np
from numba import types
from numpy.typing import NDArray

from kff_live.converters.acting import act
from kff_live.protocols import kernels
from kff_live.protocols.channels import COUNT, HIGH, LOW, Pose, neutral
from kff_live.protocols.easing import DEFAULT_EASING, EASINGS
from kff_live.protocols.errors import EncodeError
from kff_live.protocols.frames import FrameRate
from kff_live.protocols.keyframe_text import quantise
from kff_live.protocols.keyframes import EYE_ANGLES, MAX_SECONDS, Keyframe, as_acted, derived_eye_angles

Poses = NDArray[np.float32]
"""float32[n, 61], a row a frame."""

LEAST_ERROR = 0.001
"""Smallest error that can be asked for; keyframe text carries values to 0.0001."""

_TICKS = 10_000  # a second: keyframe text dates keyframes to 0.1 ms
_ROUNDING = 1e-6  # what sampling in float32 may add to an error
_DENSE = 32  # frames up to which every length of a way is tried
_TIES = 96  # frames up to which ways compete for the least squared error as well
_PATIENCE = 60  # lengths in a row that do not fit, after which longer ones are given up
_STILL = 0.25  # share of the error within which a pose is held rather than left
_HOLDS = (0.0, 0.01, _STILL, 1.0)  # shares of the error up to which a pose is held, before a way that may begin slowly
_FIRST_EASING = EASINGS.index("linear")  # not `step`: a rounded time would move its jump by a frame
_EASINGS = len(EASINGS)

_POSES = types.Array(types.float32, 2, "C", readonly=True)
_TIMES = types.Array(types.float64, 1, "C", readonly=True)
_WORK = types.Array(types.float64, 2, "C")
_FOUND = types.Array(types.int64, 2, "C")


@numba.njit(types.int64(types.int64, types.float64, _POSES, _POSES))
def held(p, error, keys, frames):  # type: ignore[no-untyped-def]
    """The last frame up to which every one from `p` on is within `error` of key `p`."""
    for t in range(p + 1, frames.shape[0]):
        for c in range(frames.shape[1]):
            if abs(frames[t, c] - keys[p, c]) > error:
                return t - 1
    return frames.shape[0] - 1


@numba.njit(types.float64(types.int64, types.int64, _POSES, _POSES))
def squared(p, until, keys, frames):  # type: ignore[no-untyped-def]
    """The squared error of holding key `p` from its own frame to `until`."""
    total = 0.0
    for t in range(p, until + 1):
        for c in range(frames.shape[1]):
            total += (frames[t, c] - keys[p, c]) ** 2
    return total


@numba.njit(types.UniTuple(types.float64, 4)(types.int64, types.int64, types.int64, types.float64, _POSES, _POSES))
def shares(t, p, q, error, keys, frames):  # type: ignore[no-untyped-def]
    """Least and greatest share of the way from key `p` to `q` that brings every channel within `error` of frame `t`,
    least above greatest where none does; then the products of way and wish, and of the wish with itself.
    """
    low, high, along, wish = -np.inf, np.inf, 0.0, 0.0
    for c in range(frames.shape[1]):
        d = keys[q, c] - keys[p, c]
        r = frames[t, c] - keys[p, c]
        along += d * r
        wish += r * r
        if abs(d) < 1e-9:
            if abs(r) > error:
                return 1.0, 0.0, 0.0, 0.0
            continue
        one, other = (r - error) / d, (r + error) / d
        low = max(low, min(one, other))
        high = min(high, max(one, other))
        if low > high:
            return low, high, 0.0, 0.0
    return low, high, along, wish


@numba.njit(
    types.Tuple((types.int64, types.float64))(
        types.int64, types.int64, types.int64, types.float64, _POSES, _POSES, _TIMES, _TIMES, _WORK
    )
)
def fit(p, b, q, error, keys, frames, at, key_at, work):  # type: ignore[no-untyped-def]
    """The easing that best leads from key `p`, left at frame `b`, to key `q`, and its squared error; -1 if none does.

    `at` are the times of the frames, `key_at` those of keys, s; `work` is float64[5, n].
    """
    low, high, along, wish = shares((b + q) // 2, p, q, error, keys, frames)  # where it is most likely not to fit
    if low > high:
        return -1, 0.0
    begin, way = key_at[b], key_at[q] - key_at[b]
    length, count = 0.0, 0
    for c in range(frames.shape[1]):
        if abs(keys[q, c] - frames[q, c]) > error:
            return -1, 0.0
        length += (keys[q, c] - keys[p, c]) ** 2
    for t in range(b, q + 1):
        s = (at[t] - begin) / way
        if 0.0 <= s < 1.0:
            low, high, along, wish = shares(t, p, q, error, keys, frames)
            if low > high:
                return -1, 0.0
            work[0, count], work[1, count], work[2, count], work[3, count], work[4, count] = s, low, high, along, wish
            count += 1
    best, least = -1, np.inf
    for easing in range(_FIRST_EASING, _EASINGS):
        total = 0.0
        for i in range(count):
            share = kernels.ease(easing, work[0, i])
            if share < work[1, i] or share > work[2, i]:
                total = np.inf
                break
            total += share * share * length - 2.0 * share * work[3, i] + work[4, i]
        if total < least:
            best, least = easing, total
    return best, least


@numba.njit(
    types.int64(types.float64, types.boolean, types.int64, _POSES, _POSES, _TIMES, _TIMES, _WORK, _FOUND, _WORK)
)
def search(error, rested, longest, keys, frames, at, key_at, work, found, cost):  # type: ignore[no-untyped-def]
    """The last key's frame of the path with the fewest keys, of those the one with the least squared error.

    `rested`: the face begins as at rest, so that the first key may be left out. `longest` is the most frames of a way
    and of a hold. `found` int64[n + 1, 3] becomes, by the frame of a key, the frame of the key before, the frame at
    which that is left, and the easing; its last row what comes before the end. `cost` float64[2, n] is for the keys so
    far and their squared error. -1: there is no path.
    """
    n = frames.shape[0]
    for i in range(n):
        cost[0, i] = np.inf
    cost[0, 0], cost[1, 0] = 0.0 if rested else 1.0, 0.0
    end, end_keys, end_squared = -1, np.inf, np.inf
    for p in range(n):
        if cost[0, p] == np.inf:
            continue
        still = held(p, _STILL * error, keys, frames)
        b = -1
        for wanted in _HOLDS:
            left = p if wanted == 0.0 else held(p, wanted * error, keys, frames)
            if left == b:
                continue
            b = left
            keys_here = cost[0, p] + math.ceil(max(b - p - longest, 0) / (2 * longest))
            if rested and p == 0 and b > 0:
                keys_here += 1.0
            squared_here = cost[1, p] + squared(p, b, keys, frames)
            if b == n - 1:
                if rested and p == 0 and b == 0:
                    keys_here += 1.0
                if keys_here < end_keys or (keys_here == end_keys and squared_here < end_squared):
                    end, end_keys, end_squared = p, keys_here, squared_here
                    found[n, 1] = b
                continue
            missed, span = 0, max(still - b, 0)
            while missed < _PATIENCE:
                span += 1 + span // _DENSE
                q = b + span
                if q >= n or span > longest:
                    break
                if cost[0, q] < keys_here + 1.0 or (span > _TIES and cost[0, q] == keys_here + 1.0):
                    continue
                easing, total = fit(p, b, q, error, keys, frames, at, key_at, work)
                if easing < 0:
                    missed += 1
                    continue
                missed = 0
                total += squared_here
                if keys_here + 1.0 < cost[0, q] or total < cost[1, q]:
                    cost[0, q], cost[1, q] = keys_here + 1.0, total
                    found[q, 0], found[q, 1], found[q, 2] = p, b, easing
    return end


def thin(frames: Poses, rate: FrameRate, *, error: float) -> list[Keyframe]:
    """The fewest keyframes from which the player makes every frame again, to within `error` in every channel.

    What stays within `error` are the frames as the face acts them, `ruled`; `loss` says how far that is from the frames
    themselves. The first keyframe is left out where the take begins at rest. The keyframes are as text carries them.

    Raises:
        EncodeError: there are no frames, `error` is outside LEAST_ERROR to 1, or the rate is too low for keyframes.
    """
    if not len(frames):
        raise EncodeError("there are no frames")
    if not LEAST_ERROR <= error <= 1.0:
        raise EncodeError(f"error: {error} is outside {LEAST_ERROR} to 1")
    longest = math.floor(MAX_SECONDS * rate.hz)
    if longest < 1:
        raise EncodeError(f"frame rate: {rate} is less than a frame in {MAX_SECONDS:g} s")
    n = len(frames)
    text, acted = _as_text(frames), ruled(frames)
    keys = np.array([as_acted(keyframe).pose for keyframe in text])
    ticks = [round(i * rate.period * _TICKS) for i in range(n)]
    at, key_at = np.arange(n) * rate.period, np.array(ticks) / _TICKS
    rested = bool(np.abs(acted[0]).max() <= error - _ROUNDING)
    if rested:
        keys[0] = 0.0
    moving = np.ptp(acted, axis=0) > 0.0
    moving[0] = True  # one channel at least
    of_keys, of_frames = np.ascontiguousarray(keys[:, moving]), np.ascontiguousarray(acted[:, moving])
    found, cost = np.zeros((n + 1, 3), np.int64), np.zeros((2, n))
    work = np.zeros((5, n))
    last = search(error - _ROUNDING, rested, longest, of_keys, of_frames, at, key_at, work, found, cost)
    assert last >= 0, "from each frame to the next there is a way, since text is finer than LEAST_ERROR"
    path = [(last, int(found[n, 1]))]
    while path[-1][0]:
        path.append((int(found[path[-1][0], 0]), int(found[path[-1][0], 1])))
    made: list[Keyframe] = []
    left = 0
    for frame, leave in reversed(path):
        if frame == 0 and rested and leave == 0 and last:
            continue
        pose = neutral() if frame == 0 and rested else text[frame].pose
        easing = EASINGS[found[frame, 2]] if frame else DEFAULT_EASING
        made += _keyframes(pose, ticks[frame] - left, ticks[leave] - ticks[frame], easing)
        left = ticks[leave]
    return made


def _keyframes(pose: Pose, way: int, hold: int, easing: str) -> list[Keyframe]:
    """A keyframe, and more of the same pose where the hold is longer than one can have; way and hold in ticks."""
    most = round(MAX_SECONDS * _TICKS)
    made = [Keyframe(pose, way / _TICKS, min(hold, most) / _TICKS, easing)]
    hold -= most
    while hold > 0:
        made.append(Keyframe(pose, min(hold, most) / _TICKS, min(max(hold - most, 0), most) / _TICKS, "linear"))
        hold -= 2 * most
    return made


def _as_text(frames: Poses) -> list[Keyframe]:
    """A keyframe of each frame, as text carries it."""
    return [quantise(Keyframe(frame.copy())) for frame in frames]


def ruled(frames: Poses) -> Poses:
    """The frames as the face acts them, float32[n, 61]: in range, lips within the open jaw, lids that close not wide
    open, and eye angles that follow EyeLook* unless they are their own, as keyframe text sees it.
    """
    acted = np.array([as_acted(Keyframe(frame)).pose for frame in np.clip(frames, LOW, HIGH)]).reshape(-1, COUNT)
    for i, keyframe in enumerate(_as_text(frames)):
        own = keyframe.pose[EYE_ANGLES].any()
        acted[i, EYE_ANGLES] = np.clip(frames[i], LOW, HIGH)[EYE_ANGLES] if own else derived_eye_angles(acted[i])
    return acted


@dataclass(frozen=True)
class Loss:
    """What a take lost to keyframes.

    most, mean: of the error by channel, against the frames as the face acts them; float32[61]
    rules: how far the face's rules moved the frames before, at most and by channel; float32[61]
    keyframes, seconds: their number, the length of the take
    """

    most: Pose
    mean: Pose
    rules: Pose
    keyframes: int
    seconds: float


def loss(frames: Poses, rate: FrameRate, keyframes: list[Keyframe]) -> Loss:
    """Play the keyframes and compare with the frames."""
    played = np.array([frame.pose for frame in act(keyframes, rate, subject="")])
    acted = ruled(frames)
    error = np.abs(played[: len(acted)] - acted)
    return Loss(
        error.max(axis=0), error.mean(axis=0), np.abs(acted - frames).max(axis=0), len(keyframes), len(frames) / rate.hz
    )
