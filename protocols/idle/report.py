"""How alive a recording looks in numbers: blinks, gaze, breath and head motion beside those of people."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kff_live.protocols.channels import INDEX

Array = NDArray[np.floating[Any]]

SACCADE_SPEED = 8.0
"""Degrees a second of gaze in the world above which the eye jumps."""
MICRO_DEGREES = 1.0
"""Jumps below this are micro-saccades (Martinez-Conde et al. 2009)."""
VIEWER_DEGREES = 4.5
"""Gaze this near to where it mostly is counts as looking at the viewer."""
HEAD_BAND = (0.1, 3.0)
"""Hz, in which the slope of the head's spectrum is fitted."""

_CLOSES, _STARTS = 0.3, 0.06  # of a lid above its rest: what is a blink, and where it begins and ends
_SEGMENT_SECONDS = 40.0  # of a spectrum


@dataclass(frozen=True)
class Figure:
    """One number of a recording, the range of people (inclusive), and where that is from."""

    name: str
    unit: str
    value: float
    low: float
    high: float
    source: str

    @property
    def human(self) -> bool:
        """Whether the number is within the range of people."""
        return self.low <= self.value <= self.high


@dataclass(frozen=True)
class IdleReport:
    """All numbers of a recording of `seconds` at `rate` frames a second; nan where it shows too little."""

    seconds: float
    rate: float
    figures: tuple[Figure, ...]

    def __getitem__(self, name: str) -> Figure:
        """The figure of that name; KeyError if there is none."""
        for figure in self.figures:
            if figure.name == name:
                return figure
        raise KeyError(name)


@dataclass(frozen=True)
class Blinks:
    """Blinks of a recording, in seconds: when they begin, how long the lids close and open. float64[n] each."""

    onsets: Array
    closing: Array
    opening: Array


@dataclass(frozen=True)
class Saccades:
    """Jumps of gaze: when they begin (s), their size (degrees), how long they take (s). float64[n] each."""

    onsets: Array
    degrees: Array
    seconds: Array


def _column(poses: NDArray[np.float32], name: str) -> Array:
    return poses[:, INDEX[name]].astype(np.float64)


def blinks(poses: NDArray[np.float32], rate: float) -> Blinks:
    """The blinks of both eyes. Times are exact to a frame."""
    closed = np.minimum(_column(poses, "EyeBlinkLeft"), _column(poses, "EyeBlinkRight"))
    closed -= np.median(closed)
    high = closed > _CLOSES
    begins = np.flatnonzero(high[1:] & ~high[:-1]) + 1
    ends = np.array([b + int(np.argmin(np.append(high[b:], False))) for b in begins], int)
    onsets, closing, opening = [], [], []
    for begin, end in zip(begins, ends, strict=True):
        first, last = begin, end
        while first > 0 and _STARTS < closed[first - 1] < closed[first]:
            first -= 1
        while last + 1 < len(closed) and closed[last] > _STARTS and closed[last + 1] < closed[last]:
            last += 1
        most = begin + int(np.argmax(closed[begin : end + 1]))
        onsets.append((first - 1) / rate)
        closing.append((most - first + 1) / rate)
        opening.append((last - most) / rate)
    return Blinks(np.array(onsets), np.array(closing), np.array(opening))


def gaze(poses: NDArray[np.float32]) -> Array:
    """Direction of gaze in the world, degrees: float64[n, 2], the face's right and down.

    The mean of both eyes in the head, plus the head; its yaw and pitch count the other way.
    """
    yaw = 0.5 * (_column(poses, "LeftEyeYaw") + _column(poses, "RightEyeYaw")) - _column(poses, "HeadYaw")
    pitch = 0.5 * (_column(poses, "LeftEyePitch") + _column(poses, "RightEyePitch")) - _column(poses, "HeadPitch")
    return np.degrees(np.stack([yaw, pitch], axis=1))


def saccades(poses: NDArray[np.float32], rate: float) -> Saccades:
    """The jumps of gaze, small ones too; two without a frame of rest between them count as one."""
    direction = gaze(poses)
    moving = np.hypot(*np.diff(direction, axis=0).T) * rate > SACCADE_SPEED
    edges = np.flatnonzero(np.diff(np.concatenate([[False], moving, [False]]).astype(int)))
    first, last = edges[::2], edges[1::2]
    size = np.hypot(*(direction[last] - direction[first]).T) if len(first) else np.empty(0)
    return Saccades(first / rate, size, (last - first) / rate)


def identical_share(poses: NDArray[np.float32]) -> float:
    """Share of frames that equal the one before, bit by bit."""
    if len(poses) < 2:
        return float("nan")
    return float(np.mean(np.all(poses[1:].view(np.uint32) == poses[:-1].view(np.uint32), axis=1)))


def spectrum(signal: Array, rate: float) -> tuple[Array, Array]:
    """Frequencies (Hz) and power density of a signal, by Welch's averaged, overlapping segments."""
    length = min(len(signal), int(_SEGMENT_SECONDS * rate))
    window = np.hanning(length)
    starts = range(0, len(signal) - length + 1, max(length // 2, 1))
    segments = np.stack([signal[s : s + length] - signal[s : s + length].mean() for s in starts])
    power = (np.abs(np.fft.rfft(segments * window)) ** 2).mean(axis=0)
    return np.fft.rfftfreq(length, 1.0 / rate), 2.0 * power / (rate * float(np.sum(window**2)))


def slope(signal: Array, rate: float, *, band: tuple[float, float] = HEAD_BAND) -> float:
    """Exponent of the power law that fits a signal's spectrum best in a band; every octave counts the same."""
    frequencies, power = spectrum(signal, rate)
    edges = np.geomspace(*band, 13)
    octaves, levels = [], []
    for low, high in pairwise(edges):
        inside = (frequencies >= low) & (frequencies < high)
        if inside.any() and power[inside].mean() > 0.0:
            octaves.append(math.log(math.sqrt(low * high)))
            levels.append(math.log(power[inside].mean()))
    if len(levels) < 3:
        return float("nan")
    return float(np.polyfit(octaves, levels, 1)[0])


def breaths(poses: NDArray[np.float32]) -> int:
    """How many breaths the jaw's opening shows."""
    jaw = _column(poses, "JawOpen")
    drawn = jaw > 0.5 * np.percentile(jaw, 95)
    return int(np.count_nonzero(drawn[1:] & ~drawn[:-1]))


def report(poses: NDArray[np.float32], rate: float) -> IdleReport:
    """The numbers of a recording, float32[n, 61] at `rate` frames a second. It should be minutes long and only idle."""
    seconds = len(poses) / rate
    figures = [*_of_blinks(blinks(poses, rate), seconds), *_of_gaze(poses, rate), *_of_head(poses, rate)]
    figures.append(
        Figure("breath rate", "1/min", breaths(poses) * 60.0 / seconds, 12, 20, "Tobin et al. 1983: 16.6 +- 2.8")
    )
    figures.append(Figure("identical frames", "share", identical_share(poses), 0, 0, "people are never still"))
    return IdleReport(seconds, rate, tuple(figures))


def _mean(values: Array) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _of_blinks(found: Blinks, seconds: float) -> list[Figure]:
    intervals = np.diff(found.onsets)
    enough = len(intervals) > 2
    deviation = intervals - intervals.mean() if enough else intervals
    spread = float(intervals.std() / intervals.mean()) if enough else float("nan")
    skew = float(np.mean(deviation**3) / intervals.std() ** 3) if spread > 1e-6 else float("nan")
    doubles = float(np.mean(intervals < 0.6)) if enough else float("nan")
    kinematics = "VanderWerf et al. 2003; Evinger, Manning & Sibony 1991"
    return [
        Figure("blink rate", "1/min", len(found.onsets) * 60.0 / seconds, 8, 21, "Doughty 2001, looking ahead, silent"),
        Figure("blink interval", "s, mean", _mean(intervals), 2.5, 8, "Doughty 2001, 2002"),
        Figure("blink interval spread", "sd / mean", spread, 0.4, 1.1, "Cruz et al. 2011"),
        Figure("blink interval skewness", "", skew, 0.5, 6, "Bentivoglio et al. 1997 (log-normal); Cruz et al. 2011"),
        Figure("double blinks", "share of intervals", doubles, 0, 0.2, "a design choice: now and then"),
        Figure("blink closing", "s, mean", _mean(found.closing), 0.06, 0.13, kinematics),
        Figure("blink opening", "s, mean", _mean(found.opening), 0.13, 0.32, kinematics),
    ]


def _of_gaze(poses: NDArray[np.float32], rate: float) -> list[Figure]:
    jumps = saccades(poses, rate)
    large = jumps.degrees >= MICRO_DEGREES
    sizes, intervals = jumps.degrees[large], np.diff(jumps.onsets[large])
    direction = gaze(poses)
    with_viewer = np.hypot(*(direction - np.median(direction, axis=0)).T) < VIEWER_DEGREES
    micro = np.count_nonzero(~large) / (len(poses) / rate)
    crossing = _column(poses, "LeftEyeYaw") - _column(poses, "RightEyeYaw")
    malinov = "Malinov et al. 2000: 53 % below 5, 83 % below 15 degrees"
    return [
        Figure("saccade size", "degrees, mean", _mean(sizes), 2, 8, "Lee, Badler & Badler 2002: exponential, 6.9"),
        Figure("saccades below 5 degrees", "share", _mean((sizes < 5.0) * 1.0), 0.5, 0.9, malinov),
        Figure("saccades below 15 degrees", "share", _mean((sizes < 15.0) * 1.0), 0.83, 1, f"Bahill 1975; {malinov}"),
        Figure("saccade interval", "s, mean", _mean(intervals), 0.25, 1.5, "fixations; Henderson & Hollingworth 1998"),
        Figure("shortest saccade interval", "s", float(intervals.min()) if len(intervals) else float("nan"),
               0.1, 0.5, "Carpenter 1988"),
        Figure("looking at the viewer", "share", _mean(with_viewer * 1.0), 0.4, 0.85, "Argyle 1975: talking 40 %, "
               "listening 75 %"),
        Figure("micro-saccades", "1/s", micro, 0.3, 2, "Martinez-Conde et al. 2009: 1 to 2; a camera sees fewer"),
        Figure("eyes diverge", "share of frames", _mean((crossing < -1e-6) * 1.0), 0, 0, "eyes meet at what they see"),
    ]  # fmt: skip


def _of_head(poses: NDArray[np.float32], rate: float) -> list[Figure]:
    figures = []
    sits = "Al-Yassary et al. 2022, five minutes seated: SD 1.2 (roll) to 2.7 (yaw)"
    for name in ("HeadYaw", "HeadPitch", "HeadRoll"):
        angle = np.degrees(_column(poses, name))
        falls = "between 1/f and 1/f^2: Collins & De Luca 1995, Duarte & Zatsiorsky 2000"
        figures.append(Figure(f"{name} spectrum", "exponent, 0.1-3 Hz", slope(angle, rate), -2.2, -0.9, falls))
        figures.append(Figure(f"{name} motion", "degrees RMS", float(angle.std()), 0.1, 2.7, sits))
    return figures
