"""The player of one subject: a plan and a time in, a pose out; it owns the motion across cuts."""

import math
from dataclasses import dataclass, field
from types import ModuleType
from typing import Protocol

import numpy as np

from kff_live.protocols.channels import HIGH, INDEX, LOW, Pose, neutral
from kff_live.protocols.frames import Frame, FrameRate
from kff_live.protocols.layers import LiveRegions, Mix, Regions
from kff_live.protocols.talk.layer import Talk
from kff_live.protocols.talk.speech import Speech
from kff_live.protocols.track import EMPTY, Track

MIN_CUT_SECONDS = 0.1
"""Shortest time in which a cut's offset decays; otherwise it is the new key's way."""

ACTIVITY_SECONDS = 0.1
"""Time constant with which an acted expression takes the face over from a live one, and gives it back."""

FADE_SECONDS = 0.3
"""How long new settings take to show."""

LEAVE_SECONDS = 0.6
"""How long the layers take to go when the program ends."""

LIVE_ENOUGH = 0.999
"""Presence from which on a live face is alive by itself, and idle life rests."""

VOICE_SECONDS = 0.025
"""Time constant with which a voice takes the mouth over and gives it back."""

VOICE_LEAD = 0.05
"""Seconds before the mouth opens at which the voice begins to take it over."""

SYNC_SECONDS = 0.08
"""Time constant with which the mouth follows a correction of the sound's position."""

_VELOCITY_STEP = 1e-3  # s
_HEAD_ROLL, _UNSEEN = INDEX["HeadRoll"], 1e-5  # rad; some receivers take two equal frames for lost tracking


def _ones() -> Pose:
    return np.ones(len(LOW), np.float32)


@dataclass(frozen=True, eq=False)
class Settings:
    """A subject's own look: `acted * gain + offset`, limited to [low, high], float32[61] each; how a voice meets the
    expression, and the acted face a live one.
    """

    gain: Pose = field(default_factory=_ones)
    offset: Pose = field(default_factory=neutral)
    low: Pose = field(default_factory=LOW.copy)
    high: Pose = field(default_factory=HIGH.copy)
    talk: Mix = field(default_factory=Regions().mix)
    live: Mix = field(default_factory=LiveRegions().mix)


PLAIN = Settings()
"""Of a subject for which nothing is set."""


class Smoothed:
    """A number in [0, 1] that follows a switch through two filters in a row: position and velocity go on.

    Args:
        seconds: time constant of each filter; may be changed, smoothly.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.value = 0.0
        self._first = 0.0
        self._last = -math.inf

    def step(self, on: bool, now: float) -> float:
        """The number at clock time `now`."""
        share = step_share(now - self._last, self.seconds)
        self._last = now
        self._first += (on - self._first) * share
        self.value += (self._first - self.value) * share
        return self.value


def smoothstep(share: float) -> float:
    """0 to 1 with a level beginning and end, for a share of time that is limited to 0 to 1."""
    limited = min(max(share, 0.0), 1.0)
    return limited * limited * (3.0 - 2.0 * limited)


def between(a: Mix, b: Mix, share: float) -> Mix:
    """`share` of the way from `a` to `b`."""
    return a + share * (b - a) if share else a


def step_share(passed: float, seconds: float) -> float:
    """How far a filter with a time constant goes in `passed` seconds, 0 to 1; a gap counts as 0.1 s."""
    if passed <= 0.0:
        return 0.0
    return 1.0 - math.exp(-(passed if passed < 0.1 else 0.1) / seconds)


@dataclass(frozen=True, eq=False)
class Plan:
    """What the frame thread is to play: immutable, handed over by one assignment to `Player.plan`.

    `start` is the clock time of the track's zero. A new `cut` means that the track does not continue the one before:
    the player then carries displayed position and velocity over. The same `cut` with a longer track is an append.
    """

    track: Track = EMPTY
    start: float = 0.0
    cut: int = 0
    utterance: str | None = None
    acting: bool = False
    """Whether keyframes of the utterance are shown; not so on the way back to neutral."""
    settings: Settings = PLAIN
    speech: Speech | None = None
    speech_start: float = 0.0
    """Clock time at which the sound of `speech` begins."""
    retimed: int = 0
    """Another number says that keys were moved in time: as at a cut, position and velocity are carried over."""
    first: int = 0
    """Which keyframe of the utterance the track begins with."""
    jumps: int = 0
    """Another number says that the sound jumped: the mouth fades over to its new place instead of hurrying there."""


class Layer(Protocol):
    """Changes the acted pose in place, once a tick, on the frame thread."""

    def apply(self, now: float, pose: Pose) -> None:
        """Change `pose`, float32[61], for the clock time `now`."""


class LiveFace(Protocol):
    """The live face below the acted one."""

    presence: float

    def follow(self, now: float) -> Pose:
        """The live pose at clock time `now`, float32[61]; sets `presence`, 0 to 1."""


class _Voice:
    """One speech on its way over the face: fades in, follows its sound, fades out when it is over or cut."""

    def __init__(self, plan: Plan, talk: Talk) -> None:
        self.of = (plan.cut, plan.jumps)
        self.talk = talk
        self._span = (0.0, 0.0)  # of the speech: when the mouth opens, when it is at rest again
        self._use(talk.speech)
        self._weight = Smoothed(VOICE_SECONDS)
        self._start = self._first = plan.speech_start
        self._last = -math.inf

    def apply(self, plan: Plan, now: float, mix: Mix, pose: Pose) -> bool:
        """Lay it over the acted pose; False once it has gone."""
        mine = (plan.cut, plan.jumps) == self.of and plan.speech is not None
        if mine and plan.speech is not None:
            if plan.speech is not self.talk.speech:
                self._use(plan.speech)  # a streamed text grows
            if plan.speech_start != self._start:
                share = step_share(now - self._last, SYNC_SECONDS)
                self._first += (plan.speech_start - self._first) * share
                self._start += (self._first - self._start) * share
        self._last = now
        t = now - self._start
        speaking = mine and self._span[0] <= t <= self._span[1]
        weight = self._weight.step(speaking, now)
        self.talk.apply(t, pose, weight, mix)
        return mine or weight > 1e-3

    def _use(self, speech: Speech) -> None:
        self.talk.speech = speech
        self._span = (speech.opens - VOICE_LEAD, speech.closes)


class Player:
    """Plays the plans of one subject. `frame` belongs to the frame thread; `plan` may be assigned from any other.

    Until `use` has given it the compiled kernels it holds its first pose, so that frames can flow before.
    """

    def __init__(self, subject: str, rate: FrameRate, *, settings: Settings | None = None, alive: bool = False) -> None:
        self.subject = subject
        self.rate = rate
        self._alive = alive  # idle life will come: until then no two frames are equal either
        self._stirred = False
        self.plan = Plan(settings=settings or PLAIN)
        self.first_moved: tuple[int, float] = (0, 0.0)
        """The latest cut, and when its first changed frame was made, s."""
        self._kernels: ModuleType | None = None
        self._idle: Layer | None = None
        self._live: LiveFace | None = None
        self._talk: ModuleType | None = None
        self._voices: list[_Voice] = []
        self._leaving: float | None = None
        self._played = self.plan
        self._cut_at = 0.0
        # Where the played plan came from: the pose at its cut, and the offset that decays after it.
        self._start, self._offset, self._velocity, self._span = (neutral() for _ in range(4))
        self._acted, self._ahead, self._over = neutral(), neutral(), neutral()
        self._activity = Smoothed(ACTIVITY_SECONDS)
        self._look, self._new_look = self.plan.settings, self.plan.settings
        self._look_since = 0.0

    def use(
        self,
        kernels: ModuleType,
        *,
        idle: Layer | None = None,
        live: LiveFace | None = None,
        talk: ModuleType | None = None,
    ) -> None:
        """Begin to play, with `protocols.kernels` (importing it compiles, which takes seconds) and the layers.

        `talk` is `protocols.talk.kernels`; without it nothing is spoken.
        """
        self._idle, self._live, self._talk = idle, live, talk
        self._kernels = kernels

    def leave(self, now: float) -> None:
        """Fade every layer out within LEAVE_SECONDS from `now`, so that the last frames hold the acted pose alone."""
        self._leaving = now

    def without_layers(self) -> None:
        """Go on with the acted expression alone."""
        self._idle = self._live = self._talk = None
        self._voices = []

    def frame(self, now: float, number: int, subframe: float) -> Frame:
        """The frame at clock time `now`."""
        plan = self.plan
        pose = neutral()
        key = -1
        if self._kernels is None:
            pose += plan.settings.offset
            self._stirred = self._alive and not self._stirred
            pose[_HEAD_ROLL] += _UNSEEN * self._stirred
            np.clip(pose, plan.settings.low, plan.settings.high, out=pose)
        else:
            if (plan.cut, plan.retimed) != (self._played.cut, self._played.retimed):
                self._cut(plan, now)
            self._played = plan
            key = self._act(plan, now, self._acted)
            if key >= 0 and self.first_moved[0] != plan.cut:
                self.first_moved = (plan.cut, now)
            self._lay(plan, now, pose)
        pose.setflags(write=False)
        return Frame(self.subject, number, subframe, self.rate, pose, plan.utterance, key + plan.first)

    def _lay(self, plan: Plan, now: float, pose: Pose) -> None:
        """Layers, rules, gain, offset and limits, from the acted pose into `pose`."""
        kernels = self._kernels
        assert kernels is not None
        share = self._fade_look(plan.settings, now)
        look, new = self._look, self._new_look
        acted, live, presence, activity = self._acted, None, 0.0, 0.0
        if self._live is not None:
            live = self._live.follow(now)
            presence = self._live.presence
            activity = self._activity.step(plan.acting, now)
        if self._idle is not None and presence < LIVE_ENOUGH:
            acted = self._ahead
            acted[:] = self._acted
            self._idle.apply(now, acted)
            if presence:
                kernels.fade(self._acted, presence, acted)
        if plan.speech is not None or self._voices:
            acted = self._speak(plan, now, between(look.talk, new.talk, share), acted)
        if self._leaving is not None:
            gone = smoothstep((now - self._leaving) / LEAVE_SECONDS)
            presence *= 1.0 - gone
            if acted is not self._acted:
                kernels.fade(self._acted, gone, acted)
        if live is not None and presence:
            kernels.overlay(acted, live, between(look.live, new.live, share), activity, presence, self._over)
            acted = self._over
        kernels.finish(acted, look.gain, look.offset, look.low, look.high, pose)
        if share:
            other = neutral()
            kernels.finish(acted, new.gain, new.offset, new.low, new.high, other)
            pose += share * (other - pose)

    def _speak(self, plan: Plan, now: float, mix: Mix, acted: Pose) -> Pose:
        """The pose with every voice laid over: the current one, and one that was cut and fades."""
        new = plan.speech is not None and (plan.cut, plan.jumps) not in [voice.of for voice in self._voices]
        if new and plan.speech is not None and self._talk is not None:
            self._voices.append(_Voice(plan, Talk(plan.speech, self._talk)))
        spoken = acted.copy()
        self._voices = [voice for voice in self._voices if voice.apply(plan, now, mix, spoken)]
        return spoken

    def _fade_look(self, wanted: Settings, now: float) -> float:
        """How far `_new_look` shows for `_look`; what is wanted meanwhile waits, or the fade would stop short."""
        if self._new_look is self._look:
            if wanted is self._look:
                return 0.0
            self._new_look, self._look_since = wanted, now
        share = smoothstep((now - self._look_since) / FADE_SECONDS)
        if share < 1.0:
            return share
        self._look = self._new_look
        return 0.0

    def _act(self, plan: Plan, now: float, out: Pose) -> int:
        track = plan.track
        assert self._kernels is not None
        key: int = self._kernels.act(
            now - plan.start, track.begins, track.ways, track.easings, track.poses, self._start,
            now - self._cut_at, self._offset, self._velocity, self._span, out,
        )  # fmt: skip
        return key

    def _cut(self, plan: Plan, now: float) -> None:
        """Take over position and velocity as they are displayed at this very tick."""
        assert self._kernels is not None
        self._act(self._played, now, self._acted)
        self._act(self._played, now + _VELOCITY_STEP, self._ahead)
        self._start[:] = self._acted
        self._velocity[:] = (self._ahead - self._acted) / _VELOCITY_STEP
        self._cut_at = now
        track = plan.track
        length = max(MIN_CUT_SECONDS, float(track.ways[0]) if len(track) else 0.0)
        self._kernels.fit_cut(
            now - plan.start, track.begins, track.ways, track.easings, track.poses, self._start,
            length, LOW, HIGH, self._velocity, self._offset, self._span, self._ahead,
        )  # fmt: skip
