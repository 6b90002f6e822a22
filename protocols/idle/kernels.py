"""The arithmetic of the idle layer, compiled by numba: slow noise, and one tick of a living face.

As in `kernels`: eager signatures, inputs read-only, what is changed comes last, nothing is allocated, the GIL is kept.
The arrays are vectors with named places, since each array that is passed costs a tenth of a microsecond.
"""

import math

import numba
from numba import types

from kff_live.protocols.channels import COUNT, EYE_RADIANS, GROUPS, INDEX, LIVELINK, SHAPES
from kff_live.protocols.kernels import meet, shown

_F4 = types.Array(types.float32, 1, "C", readonly=True)
_F4_2D = types.Array(types.float32, 2, "C", readonly=True)
_F8 = types.Array(types.float64, 1, "C", readonly=True)
_F8_2D = types.Array(types.float64, 2, "C", readonly=True)
_F8_3D = types.Array(types.float64, 3, "C", readonly=True)
_STATE_2D = types.Array(types.float64, 2, "C")
_OUT = types.Array(types.float32, 1, "C")
_D, _I = types.float64, types.int64

(
    WEIGHT, LID_REST, LID_FOLLOW, GAZE_DOWN, DRIFT, VOR, HEAD_YAW, HEAD_PITCH, HEAD_ROLL, HEAD_REST, BREATH_HEAD,
    BREATH_MOUTH, BROW_BIAS, BROW_NOISE, MOUTH_BIAS, MOUTH_NOISE, BROW_INNER, BROW_OUTER, BROW_DOWN, SMILE, FROWN,
    PRESS, CHEEK, TRACE, TRACE_SECONDS,
) = range(25)  # fmt: skip
"""Places in `numbers`, float64[NUMBERS]: what may blend from tick to tick. Angles in radians."""
NUMBERS = 25

(
    BLINK_AT, BLINK_CLOSING, BLINK_CLOSED, BLINK_OPENING, BLINK_FROM, BLINK_DEPTH,
    GAZE_AT, GAZE_FOR, GAZE_X0, GAZE_X1, GAZE_Y0, GAZE_Y1, VERGENCE_0, VERGENCE_1,
    MICRO_AT, MICRO_FOR, MICRO_X0, MICRO_X1, MICRO_Y0, MICRO_Y1,
    BREATH_AT, BREATH_IN, BREATH_OUT, BREATH_DEPTH, GRID_AT,
) = range(25)  # fmt: skip
"""Places in `events`, float64[EVENTS]: the latest of each kind. Seconds and radians.

Of gaze, x + is the face's right and y + is down, as the eye angles count.
"""
EVENTS = 25

NOISE_YAW, NOISE_PITCH, NOISE_ROLL, NOISE_BROWS, NOISE_BROW, NOISE_MOUTH, NOISE_CORNER, NOISE_X, NOISE_Y = range(9)
"""Rows of `noise`: head, both brows and their difference, mouth and the difference of its corners, gaze."""
NOISES = 9

GRID = 1.0 / 30.0
"""Seconds between two samples of noise; a cubic B-spline leads through them, whatever the frame rate."""
VERGENCE_SECONDS = 0.3
"""Vergence takes longer than a saccade: some 0.2 to 0.4 s (Leigh & Zee 2015)."""
STIR = 1e-5
"""Radians by which head and eye roll alternate, so that no frame equals the one before: 0.0006 degrees."""

_LID_RADIANS = math.radians(45.0)
"""Lid rotation of a full blink."""
_WIDE_SHARE = 0.5
"""EyeWide of an upward gaze as a share of the EyeBlink of an equal downward one: upward lid saccades are smaller."""
_SQUINT = 0.1
"""EyeSquint of a full blink."""
_RISE_SECONDS = 0.8
"""How fast the memory of the acted face takes up an expression."""
_NOISE_LIMIT = 3.5

_YAW, _PITCH, _ROLL = INDEX["HeadYaw"], INDEX["HeadPitch"], INDEX["HeadRoll"]
_L_YAW, _L_PITCH, _L_ROLL = INDEX["LeftEyeYaw"], INDEX["LeftEyePitch"], INDEX["LeftEyeRoll"]
_R_YAW, _R_PITCH, _R_ROLL = INDEX["RightEyeYaw"], INDEX["RightEyePitch"], INDEX["RightEyeRoll"]
_L_IN, _L_OUT = INDEX["EyeLookInLeft"], INDEX["EyeLookOutLeft"]
_R_IN, _R_OUT = INDEX["EyeLookInRight"], INDEX["EyeLookOutRight"]
_L_UP, _L_DOWN = INDEX["EyeLookUpLeft"], INDEX["EyeLookDownLeft"]
_R_UP, _R_DOWN = INDEX["EyeLookUpRight"], INDEX["EyeLookDownRight"]
_L_BLINK, _R_BLINK = INDEX["EyeBlinkLeft"], INDEX["EyeBlinkRight"]
_L_WIDE, _R_WIDE = INDEX["EyeWideLeft"], INDEX["EyeWideRight"]
_L_SQUINT, _R_SQUINT = INDEX["EyeSquintLeft"], INDEX["EyeSquintRight"]
_JAW, _L_SNEER, _R_SNEER = INDEX["JawOpen"], INDEX["NoseSneerLeft"], INDEX["NoseSneerRight"]
_INNER, _L_OUTER, _R_OUTER = INDEX["BrowInnerUp"], INDEX["BrowOuterUpLeft"], INDEX["BrowOuterUpRight"]
_L_LOWERED, _R_LOWERED = INDEX["BrowDownLeft"], INDEX["BrowDownRight"]
_L_SMILE, _R_SMILE = INDEX["MouthSmileLeft"], INDEX["MouthSmileRight"]
_L_FROWN, _R_FROWN = INDEX["MouthFrownLeft"], INDEX["MouthFrownRight"]
_L_PRESS, _R_PRESS = INDEX["MouthPressLeft"], INDEX["MouthPressRight"]
_L_CHEEK, _R_CHEEK = INDEX["CheekSquintLeft"], INDEX["CheekSquintRight"]

TRACED: tuple[int, ...] = tuple(
    INDEX[name] for name in LIVELINK if name.startswith(("Mouth", "Brow", "CheekSquint")) and name != "MouthClose"
)
"""Channels that keep a trace of the last expression."""
_LIDS = GROUPS["lids"]
_FREE: tuple[int, ...] = tuple(c for c in range(SHAPES) if c not in (*_LIDS, *GROUPS["gaze"]))
"""Shapes in which nothing that is acted keeps an override out."""


@numba.njit(_D(_D))
def glide(s):  # type: ignore[no-untyped-def]
    """Share of the way at share `s` of the time, with least jerk: at rest at both ends (Flash & Hogan 1985)."""
    if s <= 0.0:
        return 0.0
    if s >= 1.0:
        return 1.0
    return s * s * s * (10.0 - s * (15.0 - 6.0 * s))


@numba.njit(_D(_D, _D, _D))
def below(low, high, x):  # type: ignore[no-untyped-def]
    """1 where `x` is at most `low`, 0 from `high` on, smooth between."""
    s = min(max((x - low) / (high - low), 0.0), 1.0)
    return 1.0 - s * s * (3.0 - 2.0 * s)


@numba.njit(_D(_D, _F8))
def lid(t, events):  # type: ignore[no-untyped-def]
    """How far the latest blink closes the lids at `t`, 0 to 1."""
    s = t - events[BLINK_AT]
    depth = events[BLINK_DEPTH]
    if s < 0.0:
        return 0.0
    if s < events[BLINK_CLOSING]:
        start = events[BLINK_FROM]
        return start + (depth - start) * glide(s / events[BLINK_CLOSING])
    s -= events[BLINK_CLOSING] + events[BLINK_CLOSED]
    if s <= 0.0:
        return depth
    if s >= events[BLINK_OPENING]:
        return 0.0
    return depth * (1.0 - glide((s / events[BLINK_OPENING]) ** 0.8))  # opens soon, settles slowly


@numba.njit(_D(_D, _F8))
def breath(t, events):  # type: ignore[no-untyped-def]
    """How far the latest breath is drawn at `t`: 0 to its depth, in, then out, then a rest."""
    s = t - events[BREATH_AT]
    if s < events[BREATH_IN]:
        return events[BREATH_DEPTH] * glide(s / events[BREATH_IN])
    return events[BREATH_DEPTH] * (1.0 - glide(((s - events[BREATH_IN]) / events[BREATH_OUT]) ** 0.8))


@numba.njit(types.void(_F8_3D, _I, _F8_2D, _STATE_2D, _STATE_2D))
def step_noise(normals, row, coefficients, filters, noise):  # type: ignore[no-untyped-def]
    """One sample more of each noise: float64[NOISES, 4], the newest last, RMS near 1.

    Two first-order random walks that are drawn to zero, a slow and a fast one, are added and smoothed twice; the
    spectrum is flat below the slow one's frequency and falls from there, by more beyond the smoothing's.

    normals: float64[rows, NOISES, 2]; coefficients: float64[NOISES, 5], of `noise.coefficients`
    filters: float64[NOISES, 4], the two walks and the two smoothings
    """
    for i in range(NOISES):
        filters[i, 0] = coefficients[i, 0] * filters[i, 0] + coefficients[i, 1] * normals[row, i, 0]
        filters[i, 1] = coefficients[i, 2] * filters[i, 1] + coefficients[i, 3] * normals[row, i, 1]
        smooth = coefficients[i, 4]
        filters[i, 2] += smooth * (filters[i, 0] + filters[i, 1] - filters[i, 2])
        filters[i, 3] += smooth * (filters[i, 2] - filters[i, 3])
        noise[i, 0] = noise[i, 1]
        noise[i, 1] = noise[i, 2]
        noise[i, 2] = noise[i, 3]
        noise[i, 3] = min(max(filters[i, 3], -_NOISE_LIMIT), _NOISE_LIMIT)


@numba.njit(_D(_F8_2D, _I, _D))
def spline(noise, i, u):  # type: ignore[no-untyped-def]
    """Noise `i` at share `u` of the way between two samples, by the uniform cubic B-spline."""
    r = 1.0 - u
    return (
        r * r * r * noise[i, 0]
        + (4.0 - 3.0 * u * u * (2.0 - u)) * noise[i, 1]
        + (4.0 - 3.0 * r * r * (2.0 - r)) * noise[i, 2]
        + u * u * u * noise[i, 3]
    ) / 6.0


@numba.njit(types.void(_I, _D, _OUT))
def add(c, x, pose):  # type: ignore[no-untyped-def]
    """Add share `x` of what channel `c` has left up to 1: never more than 1, never less than before."""
    pose[c] += max(1.0 - pose[c], 0.0) * min(max(x, 0.0), 1.0)


@numba.njit(types.void(_I, _D, _OUT))
def rotate(c, x, pose):  # type: ignore[no-untyped-def]
    """Add `x` radians to rotation `c`, within -1 to 1."""
    pose[c] = min(max(pose[c] + x, min(-1.0, pose[c])), max(1.0, pose[c]))


@numba.njit(types.void(_I, _I, _I, _D, _OUT))
def turn(plus, minus, angle, x, pose):  # type: ignore[no-untyped-def]
    """Turn an eye by `x` radians: the two opposed EyeLook* shapes and the angle by the same amount."""
    both = min(pose[plus], pose[minus])
    old = float(pose[plus]) - float(pose[minus])
    new = min(max(old + x / EYE_RADIANS, min(-1.0 + both, old)), max(1.0 - both, old))
    pose[plus] = both + max(new, 0.0)
    pose[minus] = both + max(-new, 0.0)
    pose[angle] += EYE_RADIANS * (new - old)


@numba.njit(_D(_OUT))
def looks(pose):  # type: ignore[no-untyped-def]
    """How strongly a pose sets a gaze: its largest EyeLook* or eye angle, as a share of full."""
    shapes = max(pose[_L_IN], pose[_L_OUT], pose[_L_UP], pose[_L_DOWN])
    shapes = max(shapes, pose[_R_IN], pose[_R_OUT], pose[_R_UP], pose[_R_DOWN])
    angles = max(abs(pose[_L_YAW]), abs(pose[_L_PITCH]), abs(pose[_R_YAW]), abs(pose[_R_PITCH]))
    return max(float(shapes), angles / EYE_RADIANS)


@numba.njit(types.void(_I, _D, _D, _D, _F4_2D, _OUT))
def lay(c, x, keeps, weight, mix, pose):  # type: ignore[no-untyped-def]
    """Let `x`, the layer's own value of shape `c`, meet what is acted; by `weight` of the way."""
    pose[c] += weight * (meet(c, pose[c], x, keeps, mix) - pose[c])


@numba.njit(_D(_I, _D, _D, _F4_2D, _OUT))
def lean(c, x, keeps, mix, pose):  # type: ignore[no-untyped-def]
    """Radians by which rotation `c` leaves what is acted when it meets `x`, the layer's own."""
    return meet(c, pose[c], x, keeps, mix) - pose[c]


@numba.njit(types.void(_D, _D, _F8, _F4, _OUT, _OUT))
def leave_trace(dt, quiet, numbers, pose, trace, own):  # type: ignore[no-untyped-def]
    """Remember the acted face in `trace`, float32[COUNT], and show a share of what is remembered while it is quiet."""
    rise = 1.0 - math.exp(-dt / _RISE_SECONDS)
    fall = math.exp(-dt / numbers[TRACE_SECONDS])
    share = numbers[TRACE] * quiet
    for c in TRACED:
        acted = pose[c]
        if acted > trace[c]:
            trace[c] += rise * (acted - trace[c])
        else:
            trace[c] *= fall
            if trace[c] < 1e-6:
                trace[c] = 0.0  # and not one of the slow, tiny floats
        add(c, share * trace[c], own)


@numba.njit(types.void(_D, _F8, _F8_2D, _D, _OUT))
def rest(quiet, numbers, noise, u, own):  # type: ignore[no-untyped-def]
    """The resting face: the mood's expression, and small, slowly changing differences between left and right."""
    amount = numbers[BROW_NOISE]
    brows = 0.5 * amount * spline(noise, NOISE_BROWS, u)
    brow = numbers[BROW_BIAS] + amount * spline(noise, NOISE_BROW, u)
    add(_INNER, quiet * numbers[BROW_INNER] + max(brows, 0.0), own)
    add(_L_OUTER, quiet * numbers[BROW_OUTER] + max(brow, 0.0), own)
    add(_R_OUTER, quiet * numbers[BROW_OUTER] + max(-brow, 0.0), own)
    add(_L_LOWERED, quiet * numbers[BROW_DOWN] + max(-brows, 0.0), own)
    add(_R_LOWERED, quiet * numbers[BROW_DOWN] + max(-brows, 0.0), own)
    amount = numbers[MOUTH_NOISE]
    mouth = 0.5 * amount * spline(noise, NOISE_MOUTH, u)
    corner = numbers[MOUTH_BIAS] + amount * spline(noise, NOISE_CORNER, u)
    add(_L_SMILE, quiet * numbers[SMILE] + max(corner, 0.0), own)
    add(_R_SMILE, quiet * numbers[SMILE] + max(-corner, 0.0), own)
    add(_L_PRESS, quiet * numbers[PRESS] + max(mouth, 0.0), own)
    add(_R_PRESS, quiet * numbers[PRESS] + max(mouth, 0.0), own)
    add(_L_FROWN, quiet * numbers[FROWN], own)
    add(_R_FROWN, quiet * numbers[FROWN], own)
    add(_L_CHEEK, quiet * numbers[CHEEK], own)
    add(_R_CHEEK, quiet * numbers[CHEEK], own)


@numba.njit(types.void(_D, _D, _D, _F8, _F8, _F8_2D, _F4_2D, _OUT, _OUT, _OUT))
def enliven(t, dt, sign, numbers, events, noise, mix, trace, own, pose):  # type: ignore[no-untyped-def]
    """One tick: `pose` comes in as acted, float32[COUNT], and leaves alive.

    t: seconds on the layer's own time axis; dt: since the last tick; sign: 1 and -1 in turns
    mix: a layers.Mix, how what the layer does by itself meets what is acted
    own: float32[COUNT], leaves as the shapes that the layer makes by itself, where what is acted lets it
    """
    acting = 0.0
    for c in range(COUNT):
        own[c] = 0.0
        acting = max(acting, abs(pose[c]))
    quiet = below(0.03, 0.2, acting)
    left, right = float(pose[_L_BLINK]), float(pose[_R_BLINK])
    wink = below(0.1, 0.35, abs(left - right))
    gaze = below(0.03, 0.2, looks(pose)) * below(0.5, 0.9, max(left, right))
    u = (t - events[GRID_AT]) / GRID

    leave_trace(dt, quiet, numbers, pose, trace, own)
    rest(quiet, numbers, noise, u, own)

    drawn = breath(t, events)
    add(_JAW, numbers[BREATH_MOUTH] * drawn, own)
    add(_L_SNEER, numbers[BREATH_MOUTH] * drawn, own)
    add(_R_SNEER, numbers[BREATH_MOUTH] * drawn, own)
    yaw = numbers[HEAD_YAW] * spline(noise, NOISE_YAW, u)
    pitch = numbers[HEAD_PITCH] * spline(noise, NOISE_PITCH, u)
    pitch += numbers[BREATH_HEAD] * drawn + quiet * numbers[HEAD_REST]
    roll = numbers[HEAD_ROLL] * spline(noise, NOISE_ROLL, u)

    # Head and eye angles have opposite senses, so that what makes up for a head's turn has the same sign.
    s = glide((t - events[GAZE_AT]) / events[GAZE_FOR])
    micro = glide((t - events[MICRO_AT]) / events[MICRO_FOR])
    x = events[GAZE_X0] + s * (events[GAZE_X1] - events[GAZE_X0])
    y = events[GAZE_Y0] + s * (events[GAZE_Y1] - events[GAZE_Y0])
    x += events[MICRO_X0] + micro * (events[MICRO_X1] - events[MICRO_X0])
    y += events[MICRO_Y0] + micro * (events[MICRO_Y1] - events[MICRO_Y0])
    vor = numbers[VOR] * shown(_YAW, mix)
    x += numbers[DRIFT] * spline(noise, NOISE_X, u) + vor * yaw
    y += numbers[DRIFT] * spline(noise, NOISE_Y, u) + vor * pitch + quiet * numbers[GAZE_DOWN]
    s = glide((t - events[GAZE_AT]) / VERGENCE_SECONDS)
    inwards = events[VERGENCE_0] + s * (events[VERGENCE_1] - events[VERGENCE_0])

    blink = wink * lid(t, events)
    follow = wink * gaze * shown(_L_YAW, mix) * numbers[LID_FOLLOW] * y / _LID_RADIANS
    lowered = 1.0 - (1.0 - blink) * (1.0 - wink * quiet * numbers[LID_REST]) * (1.0 - min(max(follow, 0.0), 1.0))
    raised = _WIDE_SHARE * max(-follow, 0.0) * (1.0 - blink)
    own[_L_BLINK] = own[_R_BLINK] = lowered
    own[_L_SQUINT] = own[_R_SQUINT] = _SQUINT * blink
    own[_L_WIDE] = min(raised * (1.0 - left), 1.0)
    own[_R_WIDE] = min(raised * (1.0 - right), 1.0)

    w = numbers[WEIGHT]
    for c in _FREE:
        lay(c, own[c], 0.0, w, mix, pose)
    stays = 1.0 - wink * below(0.03, 0.2, max(left, right))
    for c in _LIDS:
        lay(c, own[c], stays, w, mix, pose)
    turn(_L_IN, _L_OUT, _L_YAW, w * lean(_L_YAW, gaze * (x + inwards), 1.0 - gaze, mix, pose), pose)
    turn(_R_OUT, _R_IN, _R_YAW, w * lean(_R_YAW, gaze * (x - inwards), 1.0 - gaze, mix, pose), pose)
    turn(_L_DOWN, _L_UP, _L_PITCH, w * lean(_L_PITCH, gaze * y, 1.0 - gaze, mix, pose), pose)
    turn(_R_DOWN, _R_UP, _R_PITCH, w * lean(_R_PITCH, gaze * y, 1.0 - gaze, mix, pose), pose)
    rotate(_YAW, w * lean(_YAW, yaw, 0.0, mix, pose), pose)
    rotate(_PITCH, w * lean(_PITCH, pitch, 0.0, mix, pose), pose)
    rotate(_ROLL, w * lean(_ROLL, roll, 0.0, mix, pose) + sign * STIR, pose)
    rotate(_L_ROLL, sign * STIR, pose)
    rotate(_R_ROLL, -sign * STIR, pose)
