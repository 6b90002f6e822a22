"""The kernels of a frame and the encoder in plain numpy: what the compiled ones are compared with.

`act`, `fit_cut` and `finish` stand in for those of `protocols.kernels`, with the same arguments and results; a player
takes them by `use`. Written as one would without a compiler: whole poses at a time, no temporary that can be spared.
"""

import struct

import numpy as np
from numpy.typing import NDArray

from kff_live.protocols.channels import COUNT, INDEX, Pose
from kff_live.protocols.easing import ease
from kff_live.protocols.frames import Frame
from kff_live.protocols.livelink import VERSION

_MOUTH_CLOSE, _JAW_OPEN = INDEX["MouthClose"], INDEX["JawOpen"]
_LIDS = tuple((INDEX[f"EyeWide{side}"], INDEX[f"EyeBlink{side}"]) for side in ("Left", "Right"))
_FIT_POINTS = 48
_FIT_HALVINGS = 7
_VELOCITY_STEP = 1e-3  # s
_MARGIN = 1e-4

Times = NDArray[np.float64]
Keys = NDArray[np.int8]


def _share(t: float, begin: float, way: float, easing: int) -> float:
    return ease(easing, (t - begin) / way) if t - begin < way else 1.0


def _sample(t: float, begins: Times, ways: Times, easings: Keys, poses: Pose, start: Pose) -> tuple[int, Pose]:
    key = int(begins.searchsorted(t, side="right")) - 1
    if key < 0:
        return key, start
    before = start if key == 0 else poses[key - 1]
    share = _share(t, float(begins[key]), float(ways[key]), int(easings[key]))
    return key, before + np.float32(share) * (poses[key] - before)


def _decay(offset: Pose, velocity: Pose, span: Pose, u: float | Times) -> NDArray[np.floating]:
    s = np.minimum(u / np.maximum(span, 1e-9), 1.0)
    s3 = s * s * s
    return offset * (1.0 - s3 * (10.0 - 15.0 * s + 6.0 * s * s)) + velocity * span * (
        s - s3 * (6.0 - 8.0 * s + 3.0 * s * s)
    )


def act(
    t: float,
    begins: Times,
    ways: Times,
    easings: Keys,
    poses: Pose,
    start: Pose,
    since_cut: float,
    offset: Pose,
    velocity: Pose,
    span: Pose,
    out: Pose,
) -> int:
    """As `kernels.act`."""
    key, pose = _sample(t, begins, ways, easings, poses, start)
    out[:] = pose
    if since_cut < span.max():
        out += _decay(offset, velocity, span, since_cut).astype(np.float32)
    return key


def fit_cut(
    t: float,
    begins: Times,
    ways: Times,
    easings: Keys,
    poses: Pose,
    displayed: Pose,
    length: float,
    low: Pose,
    high: Pose,
    velocity: Pose,
    offset: Pose,
    span: Pose,
    work: Pose,
) -> None:
    """As `kernels.fit_cut`; `work` is not needed here."""

    stops = np.concatenate([displayed[None], poses])

    def at(times: Times) -> Pose:
        keys = begins.searchsorted(times, side="right") - 1
        shares = [
            _share(u, begins[k], ways[k], int(easings[k])) if k >= 0 else 0.0 for u, k in zip(times, keys, strict=True)
        ]
        before = stops[np.maximum(keys, 0)]
        motion: Pose = before + np.array(shares, np.float32)[:, None] * (stops[keys + 1] - before)
        return motion

    now, ahead = at(np.array([t, t + _VELOCITY_STEP]))
    velocity -= (ahead - now) / np.float32(_VELOCITY_STEP)
    offset[:] = displayed - now
    fitted = np.zeros(COUNT, bool)
    trial = length
    for attempt in range(_FIT_HALVINGS):
        span[~fitted] = trial
        after = trial * np.arange(1, _FIT_POINTS) / _FIT_POINTS
        motion = at(t + after)
        value = motion + _decay(offset, velocity, np.full(COUNT, trial, np.float32), after[:, None])
        above = (value > high + _MARGIN) & (value > motion + _MARGIN)
        below = (value < low - _MARGIN) & (value < motion - _MARGIN)
        fitted |= ~(above | below).any(axis=0) | (attempt == _FIT_HALVINGS - 1)
        if fitted.all():
            return
        trial *= 0.5


def finish(acted: Pose, gain: Pose, offset: Pose, low: Pose, high: Pose, out: Pose) -> None:
    """As `kernels.finish`."""
    out[:] = acted
    out[_MOUTH_CLOSE] = min(out[_MOUTH_CLOSE], max(out[_JAW_OPEN], 0.0))
    for wide, blink in _LIDS:
        out[wide] = min(out[wide], max(1.0 - out[blink], 0.0))
    np.multiply(out, gain, out=out)
    np.add(out, offset, out=out)
    np.clip(out, low, high, out=out)


class Encoder:
    """As `livelink.Encoder`, putting the packet together for every frame."""

    def __init__(self, device: str, subject: str) -> None:
        names = (device.encode(), subject.encode())
        self._head = bytes([VERSION]) + b"".join(struct.pack(">i", len(name)) + name for name in names)

    def encode(self, frame: Frame) -> bytes:
        """The datagram of `frame`."""
        rate = frame.rate
        time = struct.pack(">ifiiB", frame.number, frame.subframe, rate.numerator, rate.denominator, COUNT)
        values: bytes = frame.pose.astype(">f4").tobytes()
        return self._head + time + values
