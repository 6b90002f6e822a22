"""A take below the acted face, in the place of a live one: plays a track on the frame thread, once or in a loop."""

from dataclasses import dataclass
from types import ModuleType

import numpy as np

from kff_live.protocols.channels import HIGH, LOW, Pose, neutral
from kff_live.protocols.track import Track
from kff_live.runtime.player import smoothstep

_STEP = 1e-3  # s, of the differences that measure a velocity
_REST = 1e-4  # of a pose that is at rest


@dataclass(frozen=True, eq=False)
class Playback:
    """What is to be played: a track from `begin` to `end`, which is later, in its seconds.

    name: of the take, for the start screen
    subject: whose face
    blend: how long the face takes from rest into the take, out of it, and from its end to its beginning in a loop, s
    """

    name: str
    subject: str
    track: Track
    begin: float
    end: float
    loop: bool = False
    blend: float = 0.3

    @property
    def seconds(self) -> float:
        """How long it takes once."""
        return self.end - self.begin


class TakeLayer:
    """Shows a take from its first `follow` on.

    At both ends it fades from rest and back to rest, where the take itself does not rest there. In a loop the pose and
    the velocity of its end are carried over into its beginning.

    Args:
        kernels: protocols.kernels.
    """

    def __init__(self, playback: Playback, kernels: ModuleType) -> None:
        self.presence = 0.0
        """How far the take shows, 0 to 1."""
        self.ended = False
        self._kernels = kernels
        self._loop = playback.loop
        self._begin, self._length = playback.begin, playback.seconds
        self._blend = min(playback.blend, self._length / 2)
        track = playback.track
        self._track = (track.begins, track.ways, track.easings, track.poses)
        self._began: float | None = None
        self._turn = 0
        self._shown = neutral()
        # Where a turn comes from: the pose before it, and the offset that decays in it. The first comes from rest.
        self._start, self._offset, self._velocity, self._span = (neutral() for _ in range(4))
        self._rises = not self._rests(playback.begin, playback.begin + _STEP)
        self._falls = not self._loop and not self._rests(playback.end - _STEP, playback.end)

    def follow(self, now: float) -> Pose:
        """The take's pose at clock time `now`, float32[61]."""
        if self._began is None:
            self._began = now
        passed = now - self._began
        turn, within = divmod(passed, self._length) if self._loop else (0.0, passed)
        if turn and not self._turn:
            self._prepare_seam()
        self._turn = int(turn)
        self._act(self._begin + min(within, self._length), within, self._shown)
        self.ended = not self._loop and passed >= self._length
        self.presence = (self._share(passed) if self._rises else 1.0) * (
            self._share(self._length - passed) if self._falls else 1.0
        )
        return self._shown

    def _share(self, seconds: float) -> float:
        return smoothstep(seconds / self._blend) if self._blend else float(seconds >= 0.0)

    def _act(self, t: float, since: float, out: Pose) -> None:
        self._kernels.act(t, *self._track, self._start, since, self._offset, self._velocity, self._span, out)

    def _rests(self, *times: float) -> bool:
        pose = neutral()
        for t in times:
            self._act(t, self._length, pose)
            if np.abs(pose).max() > _REST:
                return False
        return True

    def _prepare_seam(self) -> None:
        """Carry pose and velocity of the end over; they are the same at every turn, since an offset is gone by then."""
        before, work = neutral(), neutral()
        end = self._begin + self._length
        self._act(end - _STEP, self._length, before)
        self._act(end, self._length, self._start)
        self._velocity[:] = (self._start - before) / _STEP
        if self._blend:
            self._kernels.fit_cut(
                self._begin, *self._track, self._start.copy(), self._blend, LOW, HIGH,
                self._velocity, self._offset, self._span, work,
            )  # fmt: skip
