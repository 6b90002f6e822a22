"""A face on its sinks without a model: players, sinks and frame thread, for what plays something by itself."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace

from kff_live.protocols.keyframes import release
from kff_live.protocols.track import Timeline, Track
from kff_live.runtime.clock import Clock, seconds_of_day
from kff_live.runtime.config import Config, SinkConfig, settings
from kff_live.runtime.frame_thread import FrameThread, Lane
from kff_live.runtime.player import Player
from kff_live.runtime.sinks.making import ClosingSink, LoopSink, build
from kff_live.runtime.supervisor import supervise

RELEASE_SECONDS = 0.6
"""How long the face takes to neutral at the end."""

_SWITCH_INTERVAL = 0.0001  # s, as of `run`
_NEUTRAL_FRAMES = 3


class Stage:
    """The faces of all subjects, which play the same."""

    def __init__(self, players: Sequence[Player], clock: Clock) -> None:
        self._players = players
        self._clock = clock
        self._cut = 0

    def play(self, track: Track, *, start: float, utterance: str | None = None) -> None:
        """Go over to a track whose zero is at clock time `start`."""
        self._cut += 1
        acting = utterance is not None
        for player in self._players:
            plan = replace(player.plan, track=track, start=start, cut=self._cut)
            player.plan = replace(plan, utterance=utterance, acting=acting)

    async def ease_out(self) -> None:
        """Ease to neutral, and show that for some frames."""
        now = self._clock.now()
        self.play(Timeline().append(release(RELEASE_SECONDS)), start=now)
        rest = (_NEUTRAL_FRAMES + 1) * self._players[0].rate.period
        await self._clock.wait(asyncio.Event(), now + RELEASE_SECONDS + rest)


@asynccontextmanager
async def stage(config: Config, sinks: Sequence[SinkConfig], clock: Clock) -> AsyncIterator[Stage]:
    """The faces of the settings on some of their sinks; frames flow until the block ends, then the faces ease out.

    Raises:
        UserError: a sink cannot be made.
    """
    from kff_live.protocols import kernels  # compiles

    sys.setswitchinterval(_SWITCH_INTERVAL)
    players = {s.name: Player(s.name, config.rate, settings=settings(s, config)) for s in config.subjects}
    with ExitStack() as closing:
        built: list[dict[str, ClosingSink]] = []
        each: dict[int, ClosingSink] = {}
        for sink in sinks:
            built.append(build(sink, config))
            for made in built[-1].values():
                if id(made) not in each:  # one may serve several subjects
                    each[id(made)] = made
                    closing.callback(made.close)
        lanes = []
        for name, player in players.items():
            player.use(kernels)
            lanes.append(Lane(player, [by_subject[name] for by_subject in built if name in by_subject]))
        lives = [
            asyncio.create_task(supervise(sink.name, sink.run), name=sink.name)
            for sink in each.values()
            if isinstance(sink, LoopSink)
        ]
        frames = FrameThread(clock, config.rate, lanes, start_seconds=seconds_of_day())
        acting = Stage(list(players.values()), clock)
        frames.start()
        try:
            yield acting
            await acting.ease_out()
        finally:
            frames.stop()
            for life in lives:
                life.cancel()
            await asyncio.gather(*lives, return_exceptions=True)
