"""The numeric loops of the talk layer, compiled by numba: the mouth at a time, and the mouth laid over an expression.

Built like `kernels`: eager signatures, inputs read-only, the output last, nothing allocated, no `cache=True`.
"""

import numba
from numba import types

from kff_live.protocols.channels import COUNT, INDEX, SHAPES
from kff_live.protocols.kernels import meet, shown
from kff_live.protocols.talk.visemes import CLOSED_JAW

_F4 = types.Array(types.float32, 1, "C", readonly=True)
_F8 = types.Array(types.float64, 1, "C", readonly=True)
_F8_2D = types.Array(types.float64, 2, "C", readonly=True)
_F4_2D = types.Array(types.float32, 2, "C", readonly=True)
_OUT = types.Array(types.float32, 1, "C")

_N, _SHAPES = COUNT, SHAPES
_MOUTH_CLOSE, _JAW_OPEN = INDEX["MouthClose"], INDEX["JawOpen"]

WINDOW = 4
"""A sound has no influence beyond the WINDOW-th apex before and after its own."""

BEFORE, AFTER, STRENGTH, PAUSE = 0, 1, 2, 3
"""Columns of a speech's `curves`: reach before and after the apex in s, dominance, and 1 where a pause follows."""


@numba.njit(types.float64(types.float64))
def smooth(s):  # type: ignore[no-untyped-def]
    """From 0 at 0 to 1 at 1, at rest at both ends and beyond them."""
    if s <= 0.0:
        return 0.0
    if s >= 1.0:
        return 1.0
    return s * s * (3.0 - 2.0 * s)


@numba.njit(types.float64(types.float64, types.float64))
def bump(distance, reach):  # type: ignore[no-untyped-def]
    """A sound's dominance `distance` seconds from its apex: 1 there, 0 from `reach` on, smooth at both."""
    if distance >= reach:
        return 0.0
    x = distance / reach
    r = 1.0 - x * x
    return r * r * r


@numba.njit(types.void(types.float64, _F8, _F8_2D, _F4_2D, _OUT))
def talk(t, apexes, curves, poses, out):  # type: ignore[no-untyped-def]
    """The mouth at `t` seconds into the speech: the sounds around it, each by its dominance. float32[61].

    Apexes rise strictly. Where a pause follows a sound, and before the first and after the last, the mouth goes
    to rest within the reach of the sounds beside it.
    """
    n = apexes.shape[0]
    for c in range(_N):
        out[c] = 0.0
    low, high = 0, n
    while low < high:
        middle = (low + high) // 2
        if apexes[middle] <= t:
            low = middle + 1
        else:
            high = middle
    if n == 0:
        return
    following = low
    spoken = 1.0
    if following == 0 or following == n or curves[following - 1, PAUSE] > 0.0:
        falling = rising = 0.0
        if following > 0:
            falling = smooth(1.0 - (t - apexes[following - 1]) / curves[following - 1, AFTER])
        if following < n:
            rising = smooth(1.0 - (apexes[following] - t) / curves[following, BEFORE])
        spoken = 1.0 - (1.0 - falling) * (1.0 - rising)
    total = 0.0
    first, last = max(following - WINDOW, 0), min(following + WINDOW, n)
    for i in range(first, last):
        if i < following:
            total += curves[i, STRENGTH] * bump(t - apexes[i], curves[i, AFTER])
        else:
            total += curves[i, STRENGTH] * bump(apexes[i] - t, curves[i, BEFORE])
    if total <= 0.0 or spoken <= 0.0:
        return
    for i in range(first, last):
        if i < following:
            share = curves[i, STRENGTH] * bump(t - apexes[i], curves[i, AFTER])
        else:
            share = curves[i, STRENGTH] * bump(apexes[i] - t, curves[i, BEFORE])
        if share > 0.0:
            share *= spoken / total
            for c in range(_SHAPES):
                out[c] += share * poses[i, c]


@numba.njit(types.void(_F4, _F4, _F4, _F4_2D, types.float64, _OUT))
def lead(mouth, keeps, parts, mix, weight, pose):  # type: ignore[no-untyped-def]
    """Lay a mouth over the acted pose, in place. float32[61] each, `mix` a layers.Mix; `weight` is of all of it.

    `keeps` is the share of the expression that an override leaves in a channel. Where the mouth closes, channels with
    `parts` 1 give way, and mouthClose covers whatever the jaw is open then.
    """
    closed = min(mouth[_MOUTH_CLOSE] / CLOSED_JAW, 1.0)
    jaw, close = float(pose[_JAW_OPEN]), float(pose[_MOUTH_CLOSE])
    for c in range(_SHAPES):
        acted = float(pose[c])
        below = acted * (1.0 - closed * parts[c] * shown(c, mix))
        pose[c] = acted + weight * (meet(c, below, mouth[c], keeps[c], mix) - acted)
    open_jaw = meet(_JAW_OPEN, jaw, mouth[_JAW_OPEN], keeps[_JAW_OPEN], mix)
    covered = min(meet(_MOUTH_CLOSE, close, closed * open_jaw, keeps[_MOUTH_CLOSE], mix), open_jaw)
    pose[_MOUTH_CLOSE] = min(close + weight * (covered - close), pose[_JAW_OPEN])


@numba.njit(types.void(types.float64, _F8, _F8_2D, _F4_2D, _F4, _F4, _F4_2D, types.float64, _OUT, _OUT))
def talk_over(t, apexes, curves, poses, keeps, parts, mix, weight, mouth, pose):  # type: ignore[no-untyped-def]
    """`talk` into `mouth`, then `lead` onto `pose`."""
    talk(t, apexes, curves, poses, mouth)
    lead(mouth, keeps, parts, mix, weight, pose)
