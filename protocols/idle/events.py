"""When the face blinks, looks elsewhere and breathes: events drawn on the time axis, whatever the frame rate."""

import math
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from kff_live.protocols.idle import kernels as k
from kff_live.protocols.idle.settings import IdleSettings, Mood

REFRACTORY = 0.6
"""Shortest time between two blinks that are no double, s; about a blink's own length and the lid's rest after it."""
SACCADE_REFRACTORY = 0.15
"""Shortest time between two saccades, s: they take so long to be planned (Carpenter 1988)."""

_NEVER = math.inf
_ALWAYS_BLINK = 33.0  # degrees of a gaze shift at which 97 % blink (Evinger et al. 1994)
_DOUBLE_GAP = (0.02, 0.12)  # s between the end of a blink and the second of a double
_PARTIAL = (0.5, 0.85)  # depth of a partial blink
_EYE_OFFSET = 0.0315  # m, half the distance between the pupils (Dodgson 2004: mean 63 mm)
_FAR = 2.5  # how much farther than the viewer other things are
_OFF_FACE = 4.0  # degrees from the viewer that count as elsewhere: half a face at a metre
_MICRO_GAP = 0.12  # s
_MICRO_LIMIT = 1.8  # spreads; longer jumps would be no micro-saccades
_BREATH_IN, _BREATH_OUT = 0.4, 0.5  # shares of a breath; the rest is a pause (Tobin et al. 1983: in 0.42)
_DEPTH_SPREAD = 0.25  # of a breath's depth (Tobin et al. 1988: 33 % of the volume)
_TRIES = 8


@dataclass(frozen=True)
class Habits:
    """Settings with their mood applied: the means from which events are drawn. Seconds and degrees."""

    settings: IdleSettings
    blink_interval: float
    blink_double: float
    blink_time: float
    gaze_hold: float
    gaze_away: float
    saccade_interval: float
    saccade_away: float
    breath: float
    breath_depth: float

    @classmethod
    def of(cls, settings: IdleSettings, mood: Mood) -> "Habits":
        """The habits that follow from settings and a mood."""
        double = min(settings.blink_double * mood.blink_double, 0.5)
        rate = settings.blink_rate * mood.blink_rate
        return cls(
            settings=settings,
            blink_interval=(1.0 + double) * 60.0 / rate if rate > 0.0 else _NEVER,
            blink_double=double,
            blink_time=mood.blink_time,
            gaze_hold=settings.gaze_hold * mood.gaze_hold,
            gaze_away=settings.gaze_away * mood.gaze_away,
            saccade_interval=settings.saccade_interval * mood.saccade_interval,
            saccade_away=settings.saccade_away * mood.saccade_away,
            breath=60.0 / (settings.breath_rate * mood.breath_rate),
            breath_depth=mood.breath_depth,
        )


def draw(random: Random, mean: float, spread: float) -> float:
    """A log-normal number of that mean and coefficient of variation."""
    variance = math.log1p(spread * spread)
    return random.lognormvariate(math.log(mean) - 0.5 * variance, math.sqrt(variance))


def saccade_seconds(degrees: float) -> float:
    """How long a saccade takes: 2.2 ms a degree and 21 ms (Carpenter 1988)."""
    return 0.021 + 0.0022 * degrees


class Blinks:
    """When to blink. A gaze shift draws the next blink forward to itself; the one after stays where it was planned.

    So the rate is kept while blinks gather at gaze shifts. Intervals are log-normal after a refractory time, as the
    distributions of blinks are (Bentivoglio et al. 1997; skewed, Cruz et al. 2011).
    """

    def __init__(self, seed: int, habits: Habits, events: NDArray[np.float64]) -> None:
        self._random = Random(f"{seed} blinks")
        self._events = events
        self._last = -REFRACTORY
        self._planned = 0.0
        self._second = False  # whether what is due is the second of a double
        self.due = 0.0
        self.plan(0.0, habits)
        events[k.BLINK_AT] = -_ALWAYS_BLINK

    def plan(self, after: float, habits: Habits) -> None:
        """Plan the next blink from `after`, s."""
        if habits.blink_interval == _NEVER:
            self._planned = _NEVER
        else:
            mean = max(habits.blink_interval - REFRACTORY, 0.1)
            spread = habits.settings.blink_spread * habits.blink_interval / mean
            self._planned = after + REFRACTORY + draw(self._random, mean, spread)
        self._await_planned()

    def _await_planned(self) -> None:
        self._second = False
        self.due = max(self._planned, self._last + REFRACTORY)

    def change(self, now: float, old: Habits, new: Habits) -> None:
        """Other habits from `now` on: what is still to wait shortens or lengthens with the mean interval."""
        if self._planned == _NEVER or new.blink_interval == _NEVER:
            self.plan(now, new)
        elif not self._second:
            self._planned = now + max(self._planned - now, 0.0) * new.blink_interval / old.blink_interval
            self._await_planned()

    def shift(self, at: float, degrees: float, habits: Habits) -> None:
        """The gaze shifts by so much at `at`: draw a planned blink forward if it is near enough."""
        if self._second or self.due == _NEVER:
            return
        reach = habits.settings.blink_gaze * min(degrees / _ALWAYS_BLINK, 1.0) * habits.blink_interval
        if at + reach >= self.due > at >= self._last + REFRACTORY:
            self.due = at

    def happen(self, habits: Habits) -> None:
        """The blink that is due begins."""
        random, events, at, settings = self._random, self._events, self.due, habits.settings
        pace = habits.blink_time * draw(random, 1.0, 0.1)
        depth = random.uniform(*_PARTIAL) if random.random() < settings.blink_partial else 1.0
        start = k.lid(at, events)
        events[k.BLINK_AT] = self._last = at
        events[k.BLINK_CLOSING] = pace * settings.blink_closing
        events[k.BLINK_CLOSED] = pace * settings.blink_closed
        events[k.BLINK_OPENING] = pace * settings.blink_opening
        events[k.BLINK_FROM], events[k.BLINK_DEPTH] = start, max(start, depth)
        if self._second:
            self._await_planned()
        else:
            self.plan(self._planned, habits)
            if random.random() < habits.blink_double:
                self._second = True
                length = pace * (settings.blink_closing + settings.blink_closed + settings.blink_opening)
                self.due = at + length + random.uniform(*_DOUBLE_GAP)


class Gaze:
    """Where to look and when: at the viewer's face from point to point, now and then elsewhere and back.

    Sizes of glances are exponential, cut at the range of the eyes without the head (Bahill, Adler & Stark 1975: most
    natural saccades are below 15 degrees).
    """

    def __init__(self, seed: int, habits: Habits, events: NDArray[np.float64]) -> None:
        self._random = Random(f"{seed} gaze")
        self._events = events
        self._away = False
        self._turn = draw(self._random, habits.gaze_hold, 0.6)
        self.due = min(draw(self._random, habits.saccade_interval, habits.settings.saccade_spread), self._turn)
        self.degrees = 0.0
        """Size of the latest saccade."""
        x, y = math.radians(habits.settings.viewer_yaw), math.radians(habits.settings.viewer_pitch)
        events[[k.GAZE_X0, k.GAZE_X1]], events[[k.GAZE_Y0, k.GAZE_Y1]] = x, y
        events[k.GAZE_FOR] = 1.0
        events[[k.VERGENCE_0, k.VERGENCE_1]] = self._vergence(habits, away=False)

    def happen(self, habits: Habits) -> None:
        """The saccade that is due begins."""
        events, at, settings = self._events, self.due, habits.settings
        x, y = math.degrees(events[k.GAZE_X1]), math.degrees(events[k.GAZE_Y1])
        if at >= self._turn:
            self._away = not self._away
            mean = habits.gaze_away if self._away else habits.gaze_hold
            self._turn = at + draw(self._random, mean, 0.6)
        if self._away:
            new_x, new_y = self._glance(x, y, habits)
        else:
            spread = settings.saccade_face / 1.7725  # mean distance of two normal points: sqrt(pi) spreads
            new_x = settings.viewer_yaw + self._random.gauss(0.0, spread)
            new_y = settings.viewer_pitch + self._random.gauss(0.0, spread)
        self.degrees = math.hypot(new_x - x, new_y - y)
        s = k.glide((at - events[k.GAZE_AT]) / k.VERGENCE_SECONDS)
        events[k.VERGENCE_0] += s * (events[k.VERGENCE_1] - events[k.VERGENCE_0])
        events[k.VERGENCE_1] = self._vergence(habits, away=self._away)
        events[k.GAZE_AT], events[k.GAZE_FOR] = at, saccade_seconds(self.degrees)
        events[k.GAZE_X0], events[k.GAZE_Y0] = events[k.GAZE_X1], events[k.GAZE_Y1]
        events[k.GAZE_X1], events[k.GAZE_Y1] = math.radians(new_x), math.radians(new_y)
        pause = draw(self._random, habits.saccade_interval, settings.saccade_spread)
        self.due = max(min(at + pause, self._turn), at + SACCADE_REFRACTORY)

    def change(self, now: float, old: Habits, new: Habits) -> None:
        """Other habits from `now` on: what is still to wait shortens or lengthens with the means."""
        factor = new.gaze_away / old.gaze_away if self._away else new.gaze_hold / old.gaze_hold
        self._turn = now + max(self._turn - now, 0.0) * factor
        self.due = now + max(self.due - now, 0.0) * new.saccade_interval / old.saccade_interval
        self.due = max(min(self.due, self._turn), self._events[k.GAZE_AT] + SACCADE_REFRACTORY)

    def _glance(self, x: float, y: float, habits: Habits) -> tuple[float, float]:
        """A point elsewhere, within the range around the viewer; to the sides more often than up or down."""
        settings = habits.settings
        yaw, pitch = max(settings.gaze_yaw, 0.01), max(settings.gaze_pitch, 0.01)
        across = down = 0.0
        for _ in range(_TRIES):
            size = 1.0 + self._random.expovariate(1.0 / max(habits.saccade_away - 1.0, 0.1))
            angle = self._random.uniform(0.0, 2.0 * math.pi)
            across = x + size * math.cos(angle) - settings.viewer_yaw
            down = y + 0.6 * size * math.sin(angle) - settings.viewer_pitch
            if (across / yaw) ** 2 + (down / pitch) ** 2 <= 1.0 and math.hypot(across, down) >= _OFF_FACE:
                return settings.viewer_yaw + across, settings.viewer_pitch + down
        shrink = 1.0 / max(math.hypot(across / yaw, down / pitch), 1.0)
        return settings.viewer_yaw + across * shrink, settings.viewer_pitch + down * shrink

    @staticmethod
    def _vergence(habits: Habits, *, away: bool) -> float:
        """Radians that each eye turns inwards."""
        return math.atan(_EYE_OFFSET / (habits.settings.viewer_distance * (_FAR if away else 1.0)))


class MicroSaccades:
    """Small jumps of the eyes within a fixation, back and forth about its point, mostly across."""

    def __init__(self, seed: int, habits: Habits, events: NDArray[np.float64]) -> None:
        self._random = Random(f"{seed} micro")
        self._events = events
        events[k.MICRO_FOR] = 1.0
        self.due = 0.0
        self._plan(0.0, habits)

    def _plan(self, at: float, habits: Habits) -> None:
        rate = habits.settings.micro_rate
        mean = 1.0 / rate - _MICRO_GAP if rate > 0.0 else 1.0
        self.due = at + _MICRO_GAP + self._random.expovariate(1.0 / mean)

    def rest(self, until: float) -> None:
        """Wait, after a saccade."""
        self.due = max(self.due, until)

    def happen(self, habits: Habits) -> None:
        """The micro-saccade that is due begins."""
        events, at, settings = self._events, self.due, habits.settings
        size = settings.micro_size if settings.micro_rate > 0.0 else 0.0
        spread = size / 1.35  # of jumps between normal points, less spread up and down
        x, y = (min(max(self._random.gauss(0.0, 1.0), -_MICRO_LIMIT), _MICRO_LIMIT) for _ in range(2))
        x, y = math.radians(x * spread), math.radians(0.5 * y * spread)
        events[k.MICRO_X0], events[k.MICRO_Y0] = events[k.MICRO_X1], events[k.MICRO_Y1]
        events[k.MICRO_X1], events[k.MICRO_Y1] = x, y
        jump = math.degrees(math.hypot(x - events[k.MICRO_X0], y - events[k.MICRO_Y0]))
        events[k.MICRO_AT], events[k.MICRO_FOR] = at, saccade_seconds(jump)
        self._plan(at, habits)


class Breaths:
    """One breath after the other, each of its own length and depth."""

    def __init__(self, seed: int, habits: Habits, events: NDArray[np.float64]) -> None:
        self._random = Random(f"{seed} breaths")
        self._events = events
        self.due = 0.0
        self.happen(habits)

    def happen(self, habits: Habits) -> None:
        """The breath that is due begins."""
        length = draw(self._random, habits.breath, habits.settings.breath_spread)
        events = self._events
        events[k.BREATH_AT] = self.due
        events[k.BREATH_IN], events[k.BREATH_OUT] = _BREATH_IN * length, _BREATH_OUT * length
        events[k.BREATH_DEPTH] = min(habits.breath_depth * draw(self._random, 1.0, _DEPTH_SPREAD), 3.0)
        self.due += length


class Schedule:
    """All that happens to one face by itself. `state`, float64[EVENTS], holds the latest event of each kind."""

    def __init__(self, seed: int, habits: Habits) -> None:
        self.state = np.zeros(k.EVENTS)
        self.blinks = Blinks(seed, habits, self.state)
        self.gaze = Gaze(seed, habits, self.state)
        self.micro = MicroSaccades(seed, habits, self.state)
        self.breaths = Breaths(seed, habits, self.state)
        self.due = 0.0
        """When the next event begins, s."""
        self.advance(0.0, habits)

    def change(self, now: float, old: Habits, new: Habits) -> None:
        """Other habits from `now` on."""
        self.blinks.change(now, old, new)
        self.gaze.change(now, old, new)
        self.due = now

    def advance(self, t: float, habits: Habits) -> None:
        """Let all that is due by `t` happen, in its order."""
        blinks, gaze, micro, breaths = self.blinks, self.gaze, self.micro, self.breaths
        while True:
            self.due = min(blinks.due, gaze.due, micro.due, breaths.due)
            if self.due > t:
                return
            if self.due == gaze.due:
                at = gaze.due
                gaze.happen(habits)
                blinks.shift(at, gaze.degrees, habits)
                micro.rest(at + SACCADE_REFRACTORY)
            elif self.due == blinks.due:
                blinks.happen(habits)
            elif self.due == micro.due:
                micro.happen(habits)
            else:
                breaths.happen(habits)
