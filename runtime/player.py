"""The player of one subject: a plan and a time in, a pose out; it owns the motion across cuts."""

from dataclasses import dataclass, field
from types import ModuleType

import numpy as np

from kff_live.protocols.channels import HIGH, LOW, Pose, neutral
from kff_live.protocols.frames import Frame, FrameRate
from kff_live.protocols.track import EMPTY, Track

MIN_CUT_SECONDS = 0.1
"""Shortest time in which a cut's offset decays; otherwise it is the new key's way."""

_VELOCITY_STEP = 1e-3  # s


def _ones() -> Pose:
    return np.ones(len(LOW), np.float32)


@dataclass(frozen=True, eq=False)
class Settings:
    """A subject's own look: `acted * gain + offset`, limited to [low, high]. float32[61] each."""

    gain: Pose = field(default_factory=_ones)
    offset: Pose = field(default_factory=neutral)
    low: Pose = field(default_factory=LOW.copy)
    high: Pose = field(default_factory=HIGH.copy)


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
    settings: Settings = field(default_factory=Settings)


class Player:
    """Plays the plans of one subject. `frame` belongs to the frame thread; `plan` may be assigned from any other.

    Until `use` has given it the compiled kernels it holds its first pose, so that frames can flow before.
    """

    def __init__(self, subject: str, rate: FrameRate, *, settings: Settings | None = None) -> None:
        self.subject = subject
        self.rate = rate
        self.plan = Plan(settings=settings or Settings())
        self.first_moved: tuple[int, float] = (0, 0.0)
        """The latest cut, and when its first changed frame was made, s."""
        self._kernels: ModuleType | None = None
        self._played = self.plan
        self._cut_at = 0.0
        # Where the played plan came from: the pose at its cut, and the offset that decays after it.
        self._start, self._offset, self._velocity, self._span = (neutral() for _ in range(4))
        self._acted, self._ahead = neutral(), neutral()

    def use(self, kernels: ModuleType) -> None:
        """Begin to play, with `protocols.kernels` (importing it compiles, which takes seconds)."""
        self._kernels = kernels

    def frame(self, now: float, number: int, subframe: float) -> Frame:
        """The frame at clock time `now`."""
        plan = self.plan
        pose = neutral()
        key = -1
        if self._kernels is None:
            pose += plan.settings.offset
            np.clip(pose, plan.settings.low, plan.settings.high, out=pose)
        else:
            if plan.cut != self._played.cut:
                self._cut(plan, now)
            self._played = plan
            key = self._act(plan, now, self._acted)
            if key >= 0 and self.first_moved[0] != plan.cut:
                self.first_moved = (plan.cut, now)
            s = plan.settings
            self._kernels.finish(self._acted, s.gain, s.offset, s.low, s.high, pose)
        pose.setflags(write=False)
        return Frame(self.subject, number, subframe, self.rate, pose, plan.utterance, key)

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
