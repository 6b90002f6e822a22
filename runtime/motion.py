"""The motion of one subject: keyframes placed in time, moved along with the sound, handed to the player as plans."""

import itertools
import math
from dataclasses import replace

from kff_live.protocols.keyframes import Keyframe, release
from kff_live.protocols.track import Timeline
from kff_live.runtime.clock import Clock
from kff_live.runtime.player import Plan, Player, Settings
from kff_live.runtime.spoken import Spoken

SYNC_LEAST = 0.04
"""Seconds that the sound must have moved for keyframes to be moved; the mouth follows smaller ones as well. A sound
that is 45 ms early is noticed, one that is late not before 125 ms (ITU-R BT.1359).
"""

SYNC_JUMP = 0.5
"""Seconds from which on the mouth does not hurry through what lies between, but closes and opens at the new place."""


class Motion:
    """What a subject's player is given to play. Times are clock times, s."""

    def __init__(self, player: Player, clock: Clock, settings: Settings) -> None:
        self.cut = 0
        """Number of the latest cut."""
        self.start = 0.0
        """When the track began."""
        self.reached = -math.inf
        """When the first keyframe of the text is reached, as far as it is placed."""
        self._player = player
        self._clock = clock
        self._settings = settings
        self._timeline = Timeline()
        self._cuts = itertools.count(1)
        self._first = 0  # keyframe of the text that the track begins with
        self._retimed = self._jumps = 0

    def use(self, settings: Settings) -> None:
        """Take over the subject's settings."""
        self._settings = settings
        self._player.plan = replace(self._player.plan, settings=settings)

    @property
    def end(self) -> float:
        """When the last hold ends."""
        return self.start + self._timeline.end

    @property
    def underruns(self) -> int:
        """Keyframes of the track that came after the face had finished holding the one before."""
        return self._timeline.underruns

    def begin(self) -> None:
        """Cut: what is placed from now on goes on from wherever the face is."""
        self._timeline, self.start, self.cut = Timeline(), self._clock.now(), next(self._cuts)
        self._first = 0

    def place(self, keyframe: Keyframe, *, begin: float | None = None) -> None:
        """Append a keyframe of a text. It begins when the last hold ends, but not before now nor before `begin`."""
        now = self._clock.now()
        at = now if begin is None else max(now, begin)
        track = self._timeline.append(keyframe, at=at - self.start, planned=at > now)
        if len(track) == 1:
            self._first_reached()

    def release(self, seconds: float) -> None:
        """Append the way back to neutral."""
        self._timeline.append(release(seconds), at=self._clock.now() - self.start)

    def follow(self, spoken: Spoken, start: float) -> None:
        """Take the sound to have begun at `start`, and move the keyframes that are not reached yet along with it."""
        if abs(start - spoken.start) > SYNC_JUMP:
            self._jumps += 1
        spoken.start = start
        by = start - spoken.keys_start
        if abs(by) < SYNC_LEAST:
            return
        spoken.keys_start = start
        now, before = self._clock.now(), self._timeline.track
        self._first += self._timeline.retime(by, now=now - self.start)
        if self._timeline.track is not before:
            self._retimed += 1
            if now < self.reached:
                self._first_reached()

    def publish(self, utterance_id: str | None, *, acting: bool, spoken: Spoken | None = None) -> None:
        """Hand over what is placed; `acting` is False on the way back to neutral."""
        self._player.plan = Plan(
            self._timeline.track,
            self.start,
            self.cut,
            utterance_id,
            acting,
            self._settings,
            spoken.speech if spoken else None,
            spoken.start if spoken else 0.0,
            self._retimed,
            self._first,
            self._jumps,
        )

    def silence(self) -> None:
        """End the voice, while the face goes on as it was."""
        self._player.plan = replace(self._player.plan, speech=None)

    def _first_reached(self) -> None:
        track = self._timeline.track
        self.reached = self.start + float(track.begins[0] + track.ways[0])
