"""The numeric loops of a frame, compiled by numba: sample a track, decay a cut, keep the rules.

Signatures are eager, so importing this module compiles it (about half a second); inputs are declared read-only, the
output comes last, nothing is allocated. Each kernel's plain Python self is its `.py_func`. No `cache=True`: it gave
stale results after an edit in a called file. The GIL is kept: releasing and retaking it costs more than the loop.
"""

import numba
from numba import types

from kff_live.protocols import easing as _easing
from kff_live.protocols.channels import COUNT, INDEX, SHAPES

_F4 = types.Array(types.float32, 1, "C", readonly=True)
_F8 = types.Array(types.float64, 1, "C", readonly=True)
_I1 = types.Array(types.int8, 1, "C", readonly=True)
_F4_2D = types.Array(types.float32, 2, "C", readonly=True)
_OUT = types.Array(types.float32, 1, "C")
_TRACK = (_F8, _F8, _I1, _F4_2D)

_N, _SHAPES = COUNT, SHAPES
_MOUTH_CLOSE, _JAW_OPEN = INDEX["MouthClose"], INDEX["JawOpen"]
_BLINK_LEFT, _BLINK_RIGHT = INDEX["EyeBlinkLeft"], INDEX["EyeBlinkRight"]
_WIDE_LEFT, _WIDE_RIGHT = INDEX["EyeWideLeft"], INDEX["EyeWideRight"]

_FIT_POINTS = 48
"""Points at which a cut is tried; with 16 a value that arrived between two of them left its range by 0.018. The
whole cut takes 0.07 ms."""
_FIT_HALVINGS = 7
_VELOCITY_STEP = 1e-3
"""Seconds of the forward difference that measures a velocity."""

ease = numba.njit(types.float64(types.int64, types.float64))(_easing.ease)


@numba.njit(types.int64(types.float64, *_TRACK, _F4, _OUT))
def sample(t, begins, ways, easings, poses, start, out):  # type: ignore[no-untyped-def]
    """The pose of a track at `t` seconds into `out`; `start` is the pose before the first key.

    Returns the index of the key that the face travels to or holds, -1 before the first.
    """
    low, high = 0, begins.shape[0]
    while low < high:
        middle = (low + high) // 2
        if begins[middle] <= t:
            low = middle + 1
        else:
            high = middle
    key = low - 1
    if key < 0:
        for c in range(_N):
            out[c] = start[c]
        return key
    share = 1.0
    if t - begins[key] < ways[key]:
        share = ease(easings[key], (t - begins[key]) / ways[key])
    for c in range(_N):
        a = start[c] if key == 0 else poses[key - 1, c]
        out[c] = a + share * (poses[key, c] - a)
    return key


@numba.njit(types.float64(types.float64, types.float64, types.float64, types.float64))
def decay(offset, velocity, span, u):  # type: ignore[no-untyped-def]
    """What is left after `u` seconds of an offset that began with `velocity` and is gone, at rest, after `span`.

    The quintic that begins with no acceleration of its own and ends with position, velocity and acceleration 0.
    """
    if u >= span:
        return 0.0
    s = u / span
    s3 = s * s * s
    stay = 1.0 - s3 * (10.0 - 15.0 * s + 6.0 * s * s)
    move = s - s3 * (6.0 - 8.0 * s + 3.0 * s * s)
    return offset * stay + velocity * span * move


@numba.njit(types.int64(types.float64, *_TRACK, _F4, types.float64, _F4, _F4, _F4, _OUT))
def act(t, begins, ways, easings, poses, start, since_cut, offset, velocity, span, out):  # type: ignore[no-untyped-def]
    """`sample`, plus what is left of the last cut's offset `since_cut` seconds after it. All float32[61]."""
    key = sample(t, begins, ways, easings, poses, start, out)
    for c in range(_N):
        if since_cut < span[c]:
            out[c] += decay(offset[c], velocity[c], span[c], since_cut)
    return key


@numba.njit(types.void(types.float64, *_TRACK, _F4, types.float64, _F4, _F4, _OUT, _OUT, _OUT, _OUT))
def fit_cut(  # type: ignore[no-untyped-def]
    t, begins, ways, easings, poses, displayed, length, low, high, velocity, offset, span, work
):
    """Prepare a cut onto a track at its time `t`, so that position and velocity go on as they are displayed.

    `velocity` comes in as the displayed one and leaves as what has to decay; `offset` and `span` are written. A
    channel's span is `length` seconds, or the longest of its halvings for which the sum of motion and offset stays
    within [low, high]: a value that rushes towards its limit is braked sooner instead of being clipped there.
    """
    sample(t + _VELOCITY_STEP, begins, ways, easings, poses, displayed, work)
    sample(t, begins, ways, easings, poses, displayed, offset)
    for c in range(_N):
        if (displayed[c] >= high[c] and velocity[c] > 0.0) or (displayed[c] <= low[c] and velocity[c] < 0.0):
            velocity[c] = 0.0  # at its limit it has nowhere to brake
        velocity[c] -= (work[c] - offset[c]) / _VELOCITY_STEP
        offset[c] = displayed[c] - offset[c]
        span[c] = 0.0
    span[0] = length
    trial = span[0]  # as a float32, or it would not be found again in `span`
    span[0] = 0.0
    for attempt in range(_FIT_HALVINGS):
        for c in range(_N):
            if span[c] == 0.0:
                span[c] = trial
        for i in range(1, _FIT_POINTS):
            u = trial * i / _FIT_POINTS
            sample(t + u, begins, ways, easings, poses, displayed, work)
            for c in range(_N):
                if span[c] == trial:
                    value = work[c] + decay(offset[c], velocity[c], trial, u)
                    above = value > high[c] + 1e-4 and value > work[c] + 1e-4
                    below = value < low[c] - 1e-4 and value < work[c] - 1e-4
                    if above or below:
                        span[c] = -trial
        for c in range(_N):
            if span[c] < 0.0:
                span[c] = 0.0 if attempt < _FIT_HALVINGS - 1 else -span[c]
        trial *= 0.5


@numba.njit(types.void(_F4, _F4, types.float64, types.float64, _OUT, _OUT))
def follow(target, offset, left, share, first, shown):  # type: ignore[no-untyped-def]
    """Follow a live face by two filters in a row, which keeps position and velocity continuous. All float32[61].

    `share` in (0, 1] is how far each filter goes in this tick; `left` times `offset` is what remains of a jump that
    is being eased away. `first` and `shown` are the filters' states, `shown` the result.
    """
    for c in range(_N):
        first[c] += (target[c] + left * offset[c] - first[c]) * share
        shown[c] += (first[c] - shown[c]) * share


@numba.njit(types.void(_F4, types.float64, _OUT))
def fade(other, share, pose):  # type: ignore[no-untyped-def]
    """Bring `pose` nearer to `other` by `share` of the way, in place; float32[61]."""
    for c in range(_N):
        pose[c] += (other[c] - pose[c]) * share


@numba.njit(types.float64(types.int64, types.float64, types.float64, types.float64, _F4_2D))
def meet(c, below, own, keeps, mix):  # type: ignore[no-untyped-def]
    """Channel `c` where a layer's own value meets what lies below it: the one rule by which layers combine.

    Each row of `mix`, a layers.Mix, goes its share of the way from `below` to what its mode makes of the two. "add":
    the sum; two shapes add up like coats of paint, so that it stays within 1 without a corner. "max": the greater, of
    two rotations of opposite sign the sum, so that nothing jumps. "override": the layer's own value, with the share
    `keeps` of what lies below added.
    """
    kept = keeps * below
    if c < _SHAPES:
        sum_, instead = below + own * (1.0 - below), kept + own * (1.0 - kept)
    else:
        sum_, instead = below + own, kept + own
    greater = max(below, own, 0.0) + min(below, own, 0.0)
    return below + mix[0, c] * (sum_ - below) + mix[1, c] * (greater - below) + mix[2, c] * (instead - below)


@numba.njit(types.float64(types.int64, _F4_2D))
def shown(c, mix):  # type: ignore[no-untyped-def]
    """How far a layer shows in channel `c`, in whichever way."""
    return mix[0, c] + mix[1, c] + mix[2, c]


@numba.njit(types.void(_F4, _F4, _F4_2D, types.float64, types.float64, _OUT))
def overlay(acted, under, mix, activity, presence, out):  # type: ignore[no-untyped-def]
    """Lay the acted pose over a live one, float32[61] each.

    `activity` in [0, 1] is how far something is acted: as it falls an override keeps the live face, so that a face at
    rest does not wipe it out. `presence` in [0, 1] is how far the live one is there at all.
    """
    for c in range(_N):
        out[c] = acted[c] + (meet(c, under[c], acted[c], 1.0 - activity, mix) - acted[c]) * presence


@numba.njit(types.void(_F4, _F4, _F4, _F4, _F4, _OUT))
def finish(acted, gain, offset, low, high, out):  # type: ignore[no-untyped-def]
    """The pose that is sent: rules of the mouth and lids, the subject's gain and offset, its limits. float32[61]."""
    for c in range(_N):
        out[c] = acted[c]
    out[_MOUTH_CLOSE] = min(out[_MOUTH_CLOSE], max(out[_JAW_OPEN], 0.0))
    out[_WIDE_LEFT] = min(out[_WIDE_LEFT], max(1.0 - out[_BLINK_LEFT], 0.0))
    out[_WIDE_RIGHT] = min(out[_WIDE_RIGHT], max(1.0 - out[_BLINK_RIGHT], 0.0))
    for c in range(_N):
        out[c] = min(max(out[c] * gain[c] + offset[c], low[c]), high[c])
