"""The idle layer: what a face does by itself, laid over the acted pose once a tick.

Importing it compiles `kernels`; the settings are in `settings`, which does not.
"""

import math
from random import Random

import msgspec
import numpy as np
from numpy.typing import NDArray

from kff_live.protocols.channels import Pose, neutral
from kff_live.protocols.idle import kernels as k
from kff_live.protocols.idle.events import Habits, Schedule
from kff_live.protocols.idle.noise import Noise, coefficients
from kff_live.protocols.idle.settings import IdleSettings, Mood

BLEND_SECONDS = 1.0
"""How long other settings, another mood and the first tick take to come in."""

MAX_GAP = 2.0
"""Seconds between two ticks up to which all that happened between is made up for. After a longer gap, and when the
time went back, the face goes on where it was."""

_AFTER_GAP = 1.0 / 60.0  # s, how far its own time goes on then
_LEFT = 0.05  # share of a trace that is left after `trace_fade`


class _Way:
    """Settings as the tick and the schedule need them; immutable once made, so that another thread may hand it over."""

    def __init__(self, settings: IdleSettings) -> None:
        self.settings = settings
        mood = settings.mood_named(settings.mood)
        self.habits = Habits.of(settings, mood)
        self.numbers = _numbers(settings, mood)
        self.head = coefficients(settings.head_low, settings.head_high)
        self.mix = settings.regions.mix()


def _numbers(settings: IdleSettings, mood: Mood) -> NDArray[np.float64]:
    """What the tick needs, by the places that `kernels` names: angles in radians, shares."""
    sides = Random(f"{settings.seed} sides")
    brow, mouth = (sides.choice((-1.0, 1.0)) * sides.uniform(0.4, 1.0) for _ in range(2))
    values = {
        k.WEIGHT: settings.weight if settings.enabled else 0.0,
        k.LID_REST: min(settings.lid_rest + mood.lid_rest, 0.6),
        k.LID_FOLLOW: settings.lid_follow,
        k.GAZE_DOWN: math.radians(mood.gaze_down),
        k.DRIFT: math.radians(settings.drift),
        k.VOR: settings.vor,
        k.HEAD_YAW: math.radians(settings.head_yaw) * mood.head,
        k.HEAD_PITCH: math.radians(settings.head_pitch) * mood.head,
        k.HEAD_ROLL: math.radians(settings.head_roll) * mood.head,
        k.HEAD_REST: math.radians(mood.head_pitch),
        k.BREATH_HEAD: math.radians(settings.breath_head),
        k.BREATH_MOUTH: settings.breath_mouth,
        k.BROW_BIAS: 0.5 * settings.brow_asymmetry * brow,
        k.BROW_NOISE: 0.5 * settings.brow_asymmetry,
        k.MOUTH_BIAS: 0.5 * settings.mouth_asymmetry * mouth,
        k.MOUTH_NOISE: 0.5 * settings.mouth_asymmetry,
        k.BROW_INNER: mood.brow_inner,
        k.BROW_OUTER: mood.brow_outer,
        k.BROW_DOWN: mood.brow_down,
        k.SMILE: mood.smile,
        k.FROWN: mood.frown,
        k.PRESS: mood.press,
        k.CHEEK: mood.cheek,
        k.TRACE: settings.trace,
        k.TRACE_SECONDS: settings.trace_fade / -math.log(_LEFT),
    }
    return np.array([values[place] for place in range(k.NUMBERS)])


class Idle:
    """A face's own life, as a layer: `apply` once a tick on the frame thread, the rest from any other thread.

    All but the trace of the last expression is a function of the seed and of time alone: the same at every frame
    rate, whatever ticks are skipped. What is remembered does not grow.
    """

    def __init__(self, settings: IdleSettings | None = None) -> None:
        self._wanted = _Way(settings or IdleSettings())
        self._way = self._wanted
        self._start = np.zeros(k.NUMBERS)  # numbers that a blend comes from; at first a face without idle life
        self._start[:] = self._way.numbers
        self._start[k.WEIGHT] = 0.0
        self._current = self._start.copy()
        self._start_mix, self._mix = self._way.mix.copy(), self._way.mix.copy()
        self._blend_at: float | None = 0.0
        self._origin: float | None = None
        self._t = 0.0
        self._sign = 1.0
        self._trace, self._own = neutral(), neutral()
        self._noise = Noise(self._way.settings.seed, head=self._way.head)
        self._schedule = Schedule(self._way.settings.seed, self._way.habits)
        self._due = 0.0

    @property
    def settings(self) -> IdleSettings:
        """The settings that were last asked for."""
        return self._wanted.settings

    def update(self, settings: IdleSettings) -> None:
        """Use other settings: numbers and regions change smoothly within BLEND_SECONDS, after a change on its way."""
        self._wanted = _Way(settings)

    def set_mood(self, name: str) -> None:
        """Change the mood, as `update`.

        Raises:
            ValueError: there is no mood of that name.
        """
        self.settings.mood_named(name)
        self.update(msgspec.structs.replace(self.settings, mood=name))

    def apply(self, now: float, pose: Pose) -> None:
        """Lay idle life over the acted `pose`, float32[61], in place. `now` is in seconds, from any zero, and rises."""
        t = now - self._origin if self._origin is not None else -1.0
        dt = t - self._t
        if not 0.0 <= dt <= MAX_GAP:
            dt = _AFTER_GAP if self._origin is not None else 0.0
            t = self._t + dt
            self._origin = now - t
        self._t = t
        if self._wanted is not self._way and self._blend_at is None:  # else a change would stop short
            self._take(self._wanted)
        if self._blend_at is not None:
            self._blend(t)
        if t >= self._due:
            self._advance(t)
        self._sign = -self._sign
        if self._way.settings.enabled or self._current[k.WEIGHT] > 0.0:
            k.enliven(
                t, dt, self._sign, self._current, self._schedule.state, self._noise.samples, self._mix,
                self._trace, self._own, pose,
            )  # fmt: skip

    def _take(self, way: _Way) -> None:
        """Go over to other settings. The random numbers of another seed begin with the next `Idle`."""
        self._schedule.change(self._t, self._way.habits, way.habits)
        self._noise.set_head(way.head)
        self._way = way
        self._start[:] = self._current
        self._start_mix[:] = self._mix
        self._blend_at = self._t
        self._due = self._t

    def _blend(self, t: float) -> None:
        assert self._blend_at is not None
        share = k.glide((t - self._blend_at) / BLEND_SECONDS)
        self._current[:] = self._start + share * (self._way.numbers - self._start)
        self._mix[:] = self._start_mix + share * (self._way.mix - self._start_mix)
        if share >= 1.0:
            self._blend_at = None

    def _advance(self, t: float) -> None:
        """Let all that is due by `t` happen."""
        if self._schedule.due <= t:
            self._schedule.advance(t, self._way.habits)
        while self._noise.due <= t:
            self._noise.advance()
        self._schedule.state[k.GRID_AT] = self._noise.at
        self._due = min(self._schedule.due, self._noise.due)
