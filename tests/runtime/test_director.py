import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any

import numpy as np
import pytest

from kff_live.protocols import kernels
from kff_live.protocols.channels import INDEX
from kff_live.protocols.errors import GeneratorDied, GeneratorError
from kff_live.protocols.frames import FrameRate
from kff_live.protocols.keyframe_text import KeyframeJson
from kff_live.protocols.messages import (
    Accepted,
    Done,
    Dropped,
    Event,
    Failed,
    Interrupted,
    KeyframeEvent,
    Keyframes,
    Refused,
    Say,
    Started,
    Sync,
)
from kff_live.protocols.prompt import PromptInput
from kff_live.runtime.clock import ManualClock
from kff_live.runtime.director import HOLD_FOR_NEXT, MAX_STREAMED, MORE_SECONDS, Director
from kff_live.runtime.model.generator import Generator, ModelState, ScriptedGenerator
from kff_live.runtime.model.generator_wire import AnswerStats
from kff_live.runtime.player import Player
from kff_live.runtime.spoken import LEAD
from kff_live.runtime.waiting import Rules

SMILE = INDEX["MouthSmileLeft"]
FINAL = (Done, Interrupted, Dropped, Failed)


class Fake:
    """The part of a generator that every fake here shares; `asked` lists the texts it was asked for."""

    state: ModelState = "ready"
    last_stats: AnswerStats | None = None

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.attempts: list[int] = []
        self.cancelled: list[str] = []

    async def run(self) -> None: ...

    def describe(self) -> str:
        return "a fake"

    async def stream(self, request: PromptInput, *, seed: int = 0, attempt: int = 0) -> AsyncGenerator[str, None]:
        self.asked.append(request.text)
        self.attempts.append(attempt)
        try:
            async for piece in self.answer(request.text, attempt):
                yield piece
        except (GeneratorExit, asyncio.CancelledError):
            self.cancelled.append(request.text)
            raise

    async def answer(self, text: str, attempt: int) -> AsyncGenerator[str, None]:
        raise NotImplementedError
        yield ""


class OnCommand(Fake):
    """Writes what `give` says; None ends the answer, an error is raised."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: defaultdict[str, asyncio.Queue[str | Exception | None]] = defaultdict(asyncio.Queue)

    def give(self, text: str, *pieces: str | Exception | None) -> None:
        for piece in pieces:
            self._pieces[text].put_nowait(piece)

    async def answer(self, text: str, attempt: int) -> AsyncGenerator[str, None]:
        while (piece := await self._pieces[text].get()) is not None:
            if isinstance(piece, Exception):
                raise piece
            yield piece


class Stage:
    """A director on a manual clock, with everything it says."""

    def __init__(self, generator: Generator | None = None, **options: Any) -> None:
        self.clock = ManualClock(1000.0)
        self.player = Player("Face", FrameRate())
        self.player.use(kernels)
        self.events: list[Event] = []
        self.own: list[Event] = []
        self.director = Director(
            self.player, generator or ScriptedGenerator(), self.clock, notify=self.events.append, **options
        )

    async def __aenter__(self) -> "Stage":
        self._task = asyncio.create_task(self.director.run())
        await settle()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.end()

    async def end(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def say(self, text: str, **fields: Any) -> str:
        new = self.director.say(Say(text=text, **fields), self.own.append)
        await self.tick()
        return new

    async def play(self, *keyframes: KeyframeJson, **fields: Any) -> str:
        new = self.director.play(Keyframes(keyframes=list(keyframes), **fields), self.own.append)
        await self.tick()
        return new

    async def advance(self, seconds: float, step: float = 0.05) -> None:
        end = self.clock.now() + seconds
        while self.clock.now() < end - 1e-9:
            self.clock.advance(min(step, end - self.clock.now()))
            await self.tick()

    async def stop(self, **options: Any) -> None:
        self.director.stop(**options)
        await self.tick()

    def of(self, utterance: str) -> list[str]:
        return [type(event).__name__ for event in self.events if getattr(event, "id", None) == utterance]

    def final(self, utterance: str) -> Event | None:
        finals = [e for e in self.events if isinstance(e, FINAL) and e.id == utterance]
        assert len(finals) <= 1
        return finals[0] if finals else None

    async def tick(self) -> None:
        """Let the director do what it has to, and one frame be made."""
        await settle()
        self.frame = self.player.frame(self.clock.now(), 0, 0.0)

    def smile(self) -> float:
        return float(self.frame.pose[SMILE])


async def settle() -> None:
    for _ in range(25):
        await asyncio.sleep(0)


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scenario())


def smile(level: float, *, way: float = 0.4, hold: float = 0.0) -> KeyframeJson:
    return KeyframeJson({"MouthSmileLeft": level, "MouthSmileRight": level}, way, hold)


def check_events(events: list[Event]) -> None:
    """The law of events: accepted, then keyframes in order and started in any place, then exactly one final."""
    by_id: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        by_id[getattr(event, "id", "")].append(event)
    for utterance, said in by_id.items():
        kinds = Counter(type(e) for e in said)
        assert isinstance(said[0], Accepted), utterance
        assert kinds[Accepted] == 1, utterance
        assert kinds[Started] <= 1, utterance
        assert [isinstance(e, FINAL) for e in said].count(True) == 1, (utterance, said)
        final = said[-1]
        assert isinstance(final, FINAL), (utterance, said)
        indices = [e.index for e in said if isinstance(e, KeyframeEvent)]
        assert indices == list(range(len(indices))), utterance
        if isinstance(final, Done):
            assert kinds[Started] == 1
            assert final.keyframes == len(indices) > 0
        if isinstance(final, Dropped):
            assert kinds[Started] == 0
        if isinstance(final, Interrupted):
            assert kinds[Started] == 1


# --- one text


def test_a_text_is_accepted_acted_and_done_when_the_release_ends() -> None:
    async def scenario() -> None:
        async with Stage(release_seconds=0.6) as stage:
            name = await stage.say("hello")  # 4+4 smile5
            assert stage.of(name) == ["Accepted", "KeyframeEvent", "Started"]
            await stage.advance(0.4)
            assert stage.smile() == pytest.approx(0.5)
            await stage.advance(0.35)
            assert stage.smile() == pytest.approx(0.5)
            await stage.advance(0.6)
            assert stage.final(name) is None
            assert not stage.director.at_rest
            await stage.advance(0.15)
            assert stage.final(name) == Done(name, "Face", 1, 0)
            assert stage.smile() == 0.0
            assert stage.director.at_rest
            assert stage.own == stage.events

    run(scenario)


def test_keyframes_are_played_without_the_model() -> None:
    async def scenario() -> None:
        generator = OnCommand()
        async with Stage(generator) as stage:
            name = await stage.play(smile(0.8, way=0.4), smile(0.2, way=0.4), id="k")
            assert name == "k"
            await stage.advance(0.4)
            assert stage.smile() == pytest.approx(0.8)
            await stage.advance(0.4)
            assert stage.smile() == pytest.approx(0.2)
            await stage.advance(2.0)
            assert stage.final("k") == Done("k", "Face", 2, 0)
            assert generator.asked == []

    run(scenario)


def test_keyframe_events_carry_the_pose_as_acted() -> None:
    async def scenario() -> None:
        async with Stage(ScriptedGenerator(default="joy: 4+4 smile5 jaw2 mouthclose9\n")) as stage:
            await stage.say("x", intensity=2.0)
            event = next(e for e in stage.events if isinstance(e, KeyframeEvent))
            assert event.keyframe.pose == pytest.approx(
                {"JawOpen": 0.4, "MouthClose": 0.4, "MouthSmileLeft": 1.0, "MouthSmileRight": 1.0}
            )
            assert event.text == "joy: 4+4 jaw4 mouthclose4 smile10"
            await stage.advance(0.4)
            assert stage.smile() == pytest.approx(1.0)

    run(scenario)


@pytest.mark.parametrize(("intensity", "level"), [(0.0, 0.0), (0.5, 0.25), (1.0, 0.5), (2.0, 1.0)])
def test_intensity_scales_the_acted_pose(intensity: float, level: float) -> None:
    async def scenario() -> None:
        async with Stage() as stage:
            await stage.say("x", intensity=intensity)
            await stage.advance(0.4)
            assert stage.smile() == pytest.approx(level)

    run(scenario)


def test_hold_keeps_the_last_key_until_something_comes() -> None:
    async def scenario() -> None:
        async with Stage() as stage:
            name = await stage.say("x", release="hold")
            await stage.advance(0.85)
            assert stage.final(name) == Done(name, "Face", 1, 0)
            assert stage.director.at_rest
            await stage.advance(60.0, step=1.0)
            assert stage.smile() == pytest.approx(0.5)
            await stage.stop()
            await stage.advance(0.7)
            assert stage.smile() == 0.0

    run(scenario)


def test_a_held_face_goes_on_from_where_it_is() -> None:
    async def scenario() -> None:
        async with Stage() as stage:
            await stage.say("x", release="hold")
            await stage.advance(1.0)
            await stage.play(smile(1.0, way=0.4))
            levels = []
            for _ in range(8):
                levels.append(stage.smile())
                await stage.advance(0.05)
            assert levels[0] == pytest.approx(0.5)
            assert levels == sorted(levels)

    run(scenario)


# --- late keyframes


def test_a_late_keyframe_begins_at_its_arrival_and_counts_as_an_underrun() -> None:
    async def scenario() -> None:
        generator = OnCommand()
        async with Stage(generator) as stage:
            name = await stage.say("x")
            generator.give("x", "4+4 smile5\n")
            await stage.tick()
            await stage.advance(2.0)
            assert stage.smile() == pytest.approx(0.5)  # it holds, release has not begun
            generator.give("x", "4 smile10\n", None)
            await stage.tick()
            assert stage.smile() == pytest.approx(0.5)
            await stage.advance(0.2)
            assert stage.smile() == pytest.approx(0.75, abs=0.01)
            await stage.advance(0.2)
            assert stage.smile() == pytest.approx(1.0)
            await stage.advance(1.0)
            assert stage.final(name) == Done(name, "Face", 2, 1)

    run(scenario)


def test_the_release_begins_only_after_the_end_of_the_text() -> None:
    async def scenario() -> None:
        generator = OnCommand()
        async with Stage(generator, release_seconds=0.6) as stage:
            name = await stage.say("x")
            generator.give("x", "4+4 smile5\n")
            await stage.advance(5.0)
            assert stage.smile() == pytest.approx(0.5)
            generator.give("x", None)
            await stage.tick()
            assert stage.smile() == pytest.approx(0.5)
            await stage.advance(0.3)
            assert stage.smile() == pytest.approx(0.25, abs=0.01)
            await stage.advance(0.35)
            assert stage.final(name) == Done(name, "Face", 1, 0)

    run(scenario)


def test_keyframes_in_time_are_no_underrun() -> None:
    async def scenario() -> None:
        generator = OnCommand()
        async with Stage(generator) as stage:
            name = await stage.say("x")
            generator.give("x", "4+4 smile5\n")
            await stage.advance(0.3)
            generator.give("x", "4+4 smile10\n", None)
            await stage.advance(4.0)
            assert stage.final(name) == Done(name, "Face", 2, 0)

    run(scenario)


# --- modes


def test_a_queued_text_begins_after_the_last_hold_without_passing_through_neutral() -> None:
    async def scenario() -> None:
        async with Stage(rules=Rules(hold=0.0)) as stage:
            first = await stage.say("one")
            second = await stage.say("two")
            lowest = 1.0
            await stage.advance(0.4)
            for _ in range(16):  # until the second is at its own last hold
                lowest = min(lowest, stage.smile())
                await stage.advance(0.05)
            assert lowest == pytest.approx(0.5, abs=1e-3)
            assert stage.final(first) == Done(first, "Face", 1, 0)
            assert stage.of(second)[-1] == "Started"
            await stage.advance(2.0)
            assert stage.final(second) == Done(second, "Face", 1, 0)
            check_events(stage.events)

    run(scenario)


def test_the_face_waits_a_while_for_the_next_text_and_is_released_then() -> None:
    async def scenario() -> None:
        generator = OnCommand()
        async with Stage(generator, release_seconds=0.6) as stage:
            first, second = await stage.say("one"), await stage.say("two")
            generator.give("one", "4+4 smile5\n", None)
            await stage.tick()
            await stage.advance(0.8 + HOLD_FOR_NEXT - 0.1)
            assert stage.smile() == pytest.approx(0.5)
            assert stage.final(first) is None
            await stage.advance(0.9)
            assert stage.smile() == 0.0
            assert stage.final(first) == Done(first, "Face", 1, 0)
            generator.give("two", "4 smile5\n", None)
            await stage.advance(2.0)
            assert stage.final(second) == Done(second, "Face", 1, 0)

    run(scenario)


def test_the_next_queued_text_is_written_while_the_current_one_plays() -> None:
    async def scenario() -> None:
        generator = OnCommand()
        async with Stage(generator) as stage:
            for text in ("one", "two", "three"):
                await stage.say(text)
            assert generator.asked == ["one"]  # one at a time until something plays
            generator.give("one", "9+9 smile5\n")
            await stage.tick()
            assert generator.asked == ["one", "two"]

    run(scenario)


# --- the least time between two texts


def test_a_queued_text_waits_until_the_one_before_was_shown_for_a_while() -> None:
    async def scenario() -> None:
        async with Stage(rules=Rules(hold=0.8)) as stage:
            first = await stage.play(smile(0.5, way=0.2, hold=0.1))
            second = await stage.play(smile(0.9, way=0.2))
            await stage.advance(0.97)  # reached at 0.2, shown until 1.0
            assert stage.smile() == pytest.approx(0.5)
            assert (stage.final(first), stage.of(second)[-1]) == (None, "KeyframeEvent")
            await stage.advance(0.06)
            assert isinstance(stage.final(first), Done)
            assert stage.of(second)[-1] == "Started"

    run(scenario)


@pytest.mark.parametrize(("hold", "begins"), [(0.0, 0.3), (0.1, 0.3), (3.0, 3.2)])
def test_the_least_time_counts_from_the_first_keyframes_arrival(hold: float, begins: float) -> None:
    async def scenario() -> None:
        async with Stage(rules=Rules(hold=hold)) as stage:
            await stage.play(smile(0.5, way=0.2, hold=0.1))
            second = await stage.play(smile(0.9, way=0.2))
            await stage.advance(begins - 0.03)
            assert stage.of(second)[-1] == "KeyframeEvent"
            assert stage.smile() == pytest.approx(0.5)  # it is held meanwhile, however long
            await stage.advance(0.06)
            assert stage.of(second)[-1] == "Started"

    run(scenario)


def test_a_text_that_is_shown_for_longer_is_not_prolonged() -> None:
    async def scenario() -> None:
        async with Stage(rules=Rules(hold=0.8)) as stage:
            await stage.play(smile(0.5, way=0.2, hold=0.5), smile(0.6, way=0.2, hold=0.2))
            second = await stage.play(smile(0.9))
            await stage.advance(1.07)
            assert stage.of(second)[-1] == "KeyframeEvent"
            await stage.advance(0.06)
            assert stage.of(second)[-1] == "Started"

    run(scenario)


def test_a_text_that_comes_during_the_release_waits_as_well_and_one_after_it_does_not() -> None:
    async def scenario() -> None:
        async with Stage(rules=Rules(hold=0.8), release_seconds=0.4) as stage:
            await stage.play(smile(0.5, way=0.1))
            await stage.advance(0.2)
            second = await stage.play(smile(0.9, way=0.1))
            await stage.advance(0.67)
            assert stage.of(second)[-1] == "KeyframeEvent"
            await stage.advance(0.06)
            assert stage.of(second)[-1] == "Started"
            await stage.advance(2.0)
            third = await stage.play(smile(0.9, way=0.1))
            assert stage.of(third)[-1] == "Started"

    run(scenario)


@pytest.mark.parametrize("mode", ["interrupt", "replace"])
def test_what_cuts_in_is_not_held_up_nor_what_follows_a_stop(mode: str) -> None:
    async def scenario() -> None:
        async with Stage(rules=Rules(hold=5.0)) as stage:
            await stage.play(smile(0.5, way=0.1))
            waiting = await stage.play(smile(0.3, way=0.1))
            await stage.advance(0.3)
            cutting = await stage.play(smile(0.9, way=0.1), mode=mode)
            assert stage.of(cutting)[-1] == "Started"
            await stage.advance(0.5)
            if mode == "interrupt":
                assert stage.of(waiting)[-1] == "KeyframeEvent"  # it is queued, so it waits
            await stage.stop()
            for seconds in (0.05, 0.3):
                last = await stage.play(smile(0.7, way=0.1, hold=0.1))
                assert stage.of(last)[-1] == "Started"
                await stage.advance(seconds)
                await stage.stop()
            await stage.advance(10.0)
            check_events(stage.events)

    run(scenario)


def test_the_least_time_can_be_changed_while_a_text_waits_for_it() -> None:
    async def scenario() -> None:
        async with Stage(rules=Rules(hold=10.0)) as stage:
            await stage.play(smile(0.5, way=0.1))
            second = await stage.play(smile(0.9, way=0.1))
            await stage.advance(1.0)
            assert stage.of(second)[-1] == "KeyframeEvent"
            stage.director.use(
                stage.player.plan.settings, rules=Rules(hold=0.0), release_seconds=0.6, speech_rate=175.0
            )
            await stage.advance(0.05)
            assert stage.of(second)[-1] == "Started"

    run(scenario)


# --- the order


def test_a_text_that_is_overtaken_before_its_first_keyframe_lets_the_model_go_and_is_written_later() -> None:
    async def scenario() -> None:
        generator = OnCommand()
        async with Stage(generator) as stage:
            slow = await stage.say("slow. And", id="slow", more=True)
            assert generator.asked == ["slow."]
            urgent = await stage.say("urgent", priority=7)
            assert generator.cancelled == ["slow."]
            assert generator.asked == ["slow.", "urgent"]
            await stage.say(" on.", id="slow")
            generator.give("urgent", "4+4 smile5\n", None)
            await stage.tick()
            assert generator.asked[2:] == ["slow."]
            generator.give("slow.", "4 smile7\n", None)
            generator.give("And on.", "4 smile9\n", None)
            await stage.advance(5.0)
            assert isinstance(stage.final(urgent), Done)
            assert stage.final(slow) == Done("slow", "Face", 2, 0)
            check_events(stage.events)

    run(scenario)


def test_priority_decides_the_order_of_what_waits() -> None:
    async def scenario() -> None:
        async with Stage() as stage:
            playing = await stage.say("now")
            names = {}
            for priority in (5, 1, 9, 5, 0, 9):
                names[await stage.say(f"{priority}", priority=priority)] = priority
            await stage.advance(12.0)
            started = [e.id for e in stage.events if isinstance(e, Started)]
            assert started[0] == playing
            assert [names[name] for name in started[1:]] == [9, 9, 5, 5, 1, 0]
            fives = [name for name, priority in names.items() if priority == 5]
            assert [name for name in started if name in fives] == fives
            check_events(stage.events)

    run(scenario)


def test_accepted_says_how_many_wait_before_it() -> None:
    async def scenario() -> None:
        async with Stage() as stage:
            for text, priority in (("now", 5), ("a", 5), ("b", 5), ("c", 9), ("d", 0), ("e", 5)):
                await stage.say(text, priority=priority)
            waiting = [e.waiting for e in stage.events if isinstance(e, Accepted)]
            assert waiting == [0, 0, 1, 0, 3, 3]

    run(scenario)


def test_interrupt_cuts_the_current_text_and_keeps_the_queue() -> None:
    async def scenario() -> None:
        async with Stage() as stage:
            first, second = await stage.say("one"), await stage.say("two")
            await stage.advance(0.2)
            third = await stage.say("three", mode="interrupt")
            assert stage.final(first) == Interrupted(first, "Face", f"interrupt by {third}")
            assert stage.of(third)[-1] == "Started"
            await stage.advance(4.0)
            assert isinstance(stage.final(third), Done)
            assert isinstance(stage.final(second), Done)
            started = [e.id for e in stage.events if isinstance(e, Started)]
            assert started == [first, third, second]
            check_events(stage.events)

    run(scenario)


def test_nothing_overtakes_an_interrupting_text_that_is_still_being_written() -> None:
    async def scenario() -> None:
        generator = OnCommand()
        async with Stage(generator) as stage:
            await stage.say("one")
            generator.give("one", "9+9 smile5\n")
            await stage.tick()
            five = await stage.say("five", priority=5)
            zero = await stage.say("zero", priority=0, mode="interrupt")
            nine, three = await stage.say("nine", priority=9), await stage.say("three", priority=3)
            for text in ("zero", "nine", "five", "three"):
                generator.give(text, "1 smile5\n", None)
            await stage.advance(5.0)
            started = [e.id for e in stage.events if isinstance(e, Started)]
            assert started[1:] == [zero, nine, five, three]

    run(scenario)


def test_an_interrupt_cancels_the_writing_of_what_it_cuts() -> None:
    async def scenario() -> None:
        generator = OnCommand()
        async with Stage(generator) as stage:
            await stage.say("one")
            generator.give("one", "9+9 smile5\n")
            await stage.tick()
            await stage.say("two", mode="interrupt")
            assert generator.cancelled == ["one"]
            assert generator.asked == ["one", "two"]

    run(scenario)


def test_replace_cuts_the_current_text_and_empties_the_queue() -> None:
    async def scenario() -> None:
        async with Stage() as stage:
            first, second, third = [await stage.say(text) for text in ("one", "two", "three")]
            fourth = await stage.say("four", mode="replace")
            assert stage.final(first) == Interrupted(first, "Face", f"replace by {fourth}")
            assert stage.final(second) == Dropped(second, "Face", f"replaced by {fourth}")
            assert stage.final(third) == Dropped(third, "Face", f"replaced by {fourth}")
            await stage.advance(3.0)
            assert stage.final(fourth) == Done(fourth, "Face", 1, 0)
            check_events(stage.events)

    run(scenario)


def test_stop_cuts_empties_and_eases_to_neutral() -> None:
    async def scenario() -> None:
        async with Stage(release_seconds=0.6) as stage:
            first, second = await stage.say("one"), await stage.say("two")
            await stage.advance(0.4)
            await stage.stop()
            assert stage.final(first) == Interrupted(first, "Face", "stopped")
            assert stage.final(second) == Dropped(second, "Face", "stopped")
            assert stage.smile() == pytest.approx(0.5)
            await stage.advance(0.3)
            assert 0.0 < stage.smile() < 0.5
            await stage.advance(0.35)
            assert stage.smile() == 0.0
            assert stage.director.at_rest
            check_events(stage.events)

    run(scenario)


def test_stop_at_rest_does_nothing() -> None:
    async def scenario() -> None:
        async with Stage() as stage:
            plan = stage.player.plan
            await stage.stop()
            assert stage.player.plan is plan
            assert stage.events == []

    run(scenario)


def test_stop_before_the_first_keyframe_drops_the_text() -> None:
    async def scenario() -> None:
        generator = OnCommand()
        async with Stage(generator) as stage:
            name = await stage.say("one")
            await stage.stop()
            assert stage.final(name) == Dropped(name, "Face", "stopped")
            assert generator.cancelled == ["one"]
            check_events(stage.events)

    run(scenario)


def test_stop_while_the_face_is_released_lets_it_end_and_the_text_is_done() -> None:
    async def scenario() -> None:
        async with Stage(release_seconds=0.6) as stage:
            name = await stage.say("one")
            await stage.advance(1.0)
            plan = stage.player.plan
            await stage.stop()
            assert stage.player.plan is plan
            await stage.advance(0.5)
            assert isinstance(stage.final(name), Done)

    run(scenario)


def test_stop_within_a_time_also_shortens_a_slow_release() -> None:
    async def scenario() -> None:
        async with Stage(release_seconds=10.0) as stage:
            name = await stage.say("one")
            await stage.advance(1.0)
            await stage.stop(within=0.6)
            await stage.advance(0.65)
            assert stage.smile() == 0.0
            assert stage.director.at_rest
            assert isinstance(stage.final(name), Done)
            check_events(stage.events)

    run(scenario)


def test_interrupting_the_release_finishes_the_released_text() -> None:
    async def scenario() -> None:
        async with Stage(release_seconds=0.6) as stage:
            first = await stage.say("one")
            await stage.advance(1.0)
            await stage.say("two", mode="interrupt")
            assert stage.final(first) == Done(first, "Face", 1, 0)
            await stage.advance(3.0)
            check_events(stage.events)

    run(scenario)


def test_when_the_interrupting_text_fails_the_face_is_released() -> None:
    async def scenario() -> None:
        generator = OnCommand()
        async with Stage(generator, release_seconds=0.6) as stage:
            await stage.say("one")
            generator.give("one", "4+99 smile5\n")
            await stage.tick()
            await stage.advance(1.0)
            name = await stage.say("two", mode="interrupt")
            await stage.advance(0.5)
            assert stage.smile() == pytest.approx(0.5)
            generator.give("two", GeneratorError("no answer"))
            await stage.tick()
            assert stage.final(name) == Failed(name, "Face", "no answer")
            await stage.advance(0.7)
            assert stage.smile() == 0.0
            check_events(stage.events)

    run(scenario)


def test_the_end_of_the_runtime_is_a_final_event_for_everything() -> None:
    async def scenario() -> None:
        for seconds in (0.0, 0.2, 1.0):  # before, while, and after the last hold of the first
            stage = Stage(release_seconds=0.6)
            async with stage:
                await stage.say("one")
                if seconds < 1.0:
                    await stage.say("two")
                await stage.advance(seconds)
            check_events(stage.events)

    run(scenario)


# --- what is not accepted


def test_an_id_in_use_is_refused_and_free_again_after_its_end() -> None:
    async def scenario() -> None:
        async with Stage() as stage:
            await stage.say("one", id="a")
            await stage.say("two", id="b")
            for taken in ("a", "b"):
                with pytest.raises(Refused, match="is in use") as caught:
                    await stage.say("three", id=taken)
                assert caught.value.error.field == "id"
                assert caught.value.error.id == taken
            await stage.advance(4.0)
            await stage.say("three", id="a")

    run(scenario)


def test_a_full_queue_is_refused_and_replace_gets_through() -> None:
    async def scenario() -> None:
        async with Stage(OnCommand(), rules=Rules(limit=3)) as stage:
            names = [await stage.say(f"{i}") for i in range(3)]
            with pytest.raises(Refused) as caught:
                await stage.say("too many", id="x", priority=4)
            assert caught.value.error.code == "queue-full"
            assert caught.value.error.id == "x"
            assert stage.director.waiting == 3
            newer = await stage.say("newer")
            assert stage.final(names[0]) is None  # it is being written
            assert stage.final(names[1]) == Dropped(names[1], "Face", f"it gives way to {newer}, which is newer")
            urgent = await stage.say("urgent", priority=7)
            assert isinstance(stage.final(names[2]), Dropped)
            assert stage.director.waiting == 3
            assert stage.final(urgent) is None
            await stage.say("new", mode="replace")
            assert stage.director.waiting == 1

    run(scenario)


def test_own_ids_are_never_ones_in_use() -> None:
    async def scenario() -> None:
        async with Stage() as stage:
            await stage.say("one", id="Face-1")
            assert await stage.say("two") == "Face-2"

    run(scenario)


@pytest.mark.parametrize(
    ("keyframe", "field"),
    [
        (KeyframeJson({"Nose": 1.0}), "keyframes[1].pose.Nose"),
        (KeyframeJson({"JawOpen": 1.1}), "keyframes[1].pose.JawOpen"),
        (KeyframeJson({"JawOpen": float("nan")}), "keyframes[1].pose.JawOpen"),
        (KeyframeJson(way=12.1), "keyframes[1].way"),
        (KeyframeJson(hold=-1.0), "keyframes[1].hold"),
        (KeyframeJson(easing="bouncy"), "keyframes[1].easing"),
    ],
)
def test_keyframes_that_cannot_be_acted_are_refused_by_field(keyframe: KeyframeJson, field: str) -> None:
    async def scenario() -> None:
        async with Stage() as stage:
            with pytest.raises(Refused) as caught:
                await stage.play(smile(0.5), keyframe, id="k")
            assert caught.value.error.field == field
            assert caught.value.error.id == "k"
            assert stage.events == []

    run(scenario)


# --- streamed text


def test_a_streamed_text_is_acted_while_the_rest_arrives() -> None:
    async def scenario() -> None:
        generator = OnCommand()
        async with Stage(generator) as stage:
            name = await stage.say("First sentence. Sec", id="s", more=True)
            assert generator.asked == ["First sentence."]
            generator.give("First sentence.", "2 smile5\n", None)
            await stage.tick()
            assert stage.of("s")[-1] == "Started"
            assert await stage.say("ond sentence. Thi", id="s", more=True) == name
            assert generator.asked[1:] == ["Second sentence."]
            generator.give("Second sentence.", "2 smile7\n", None)
            await stage.advance(1.0)
            assert stage.smile() == pytest.approx(0.7)  # it waits for the rest
            await stage.say("rd", id="s")
            generator.give("Third", "2 smile9\n", None)
            await stage.advance(3.0)
            assert generator.asked[2:] == ["Third"]
            assert stage.final("s") == Done("s", "Face", 3, 1)
            check_events(stage.events)

    run(scenario)


def test_an_empty_last_part_ends_a_streamed_text() -> None:
    async def scenario() -> None:
        async with Stage() as stage:
            await stage.say("Hello there. ", id="s", more=True)
            await stage.say("", id="s")
            await stage.advance(2.0)
            assert isinstance(stage.final("s"), Done)

    run(scenario)


def test_an_empty_text_that_continues_nothing_is_refused() -> None:
    async def scenario() -> None:
        async with Stage() as stage:
            with pytest.raises(Refused) as caught:
                await stage.say("\0 \n", id="s")
            assert caught.value.error.field == "text"
            assert stage.events == []

    run(scenario)


def test_a_streamed_text_that_is_not_continued_is_taken_as_ended() -> None:
    async def scenario() -> None:
        async with Stage() as stage:
            await stage.say("Hello there. And th", id="s", more=True)
            await stage.advance(MORE_SECONDS - 0.5)
            assert stage.final("s") is None
            assert stage.smile() == pytest.approx(0.5)
            await stage.advance(3.0)
            final = stage.final("s")
            assert isinstance(final, Done)
            assert final.keyframes == 2  # what had come of the second sentence is acted as well

    run(scenario)


def test_every_part_prolongs_the_wait_for_the_next() -> None:
    async def scenario() -> None:
        async with Stage() as stage:
            await stage.say("One. ", id="s", more=True)
            for _ in range(3):
                await stage.advance(MORE_SECONDS - 1.0, step=0.5)
                await stage.say("More. ", id="s", more=True)
            assert stage.final("s") is None
            await stage.stop()
            check_events(stage.events)

    run(scenario)


def test_an_open_text_with_nothing_to_act_does_not_block_the_queue_for_ever() -> None:
    async def scenario() -> None:
        async with Stage() as stage:
            await stage.say("", id="s", more=True)
            other = await stage.say("hello")
            await stage.advance(MORE_SECONDS + 2.0)
            assert isinstance(stage.final("s"), Failed)
            assert isinstance(stage.final(other), Done)

    run(scenario)


def test_a_streamed_text_has_a_limit() -> None:
    async def scenario() -> None:
        async with Stage(OnCommand()) as stage:
            for _ in range(MAX_STREAMED // 2000):
                await stage.say("x" * 2000, id="s", more=True)
            with pytest.raises(Refused) as caught:
                await stage.say("x", id="s", more=True)
            assert caught.value.error.code == "too-long"
            assert stage.final("s") is None

    run(scenario)


def test_what_follows_of_a_text_that_was_cut_is_refused() -> None:
    async def scenario() -> None:
        async with Stage() as stage:
            await stage.say("It begins. And", id="s", more=True)
            stage.director.stop()
            assert stage.director.streams("s")
            for more in (True, False):
                with pytest.raises(Refused) as caught:
                    await stage.say(" it goes on.", id="s", more=more)
                assert caught.value.error.code == "ended"
            assert not stage.director.streams("s")
            await stage.say("A new one.", id="s")
            assert [type(e) for e in stage.events if isinstance(e, Interrupted | Dropped)] in ([Interrupted], [Dropped])

    run(scenario)


# --- speech


def test_a_spoken_text_starts_at_once_and_holds_its_expression_until_the_sound_ends() -> None:
    async def scenario() -> None:
        generator = OnCommand()
        async with Stage(generator) as stage:
            name = await stage.say("It is a fine day.", speech={"duration": 4.0})
            started = next(e for e in stage.events if isinstance(e, Started))
            assert started.sound == LEAD  # before the model has written anything
            assert stage.player.plan.speech is not None
            assert stage.player.plan.speech.duration == pytest.approx(4.0)
            await stage.advance(1.0)
            generator.give("It is a fine day.", "2+2 smile5\n", "2+2 smile7\n", None)
            await stage.tick()
            events = [e for e in stage.events if isinstance(e, KeyframeEvent)]
            spans = sum(e.keyframe.way + e.keyframe.hold for e in events)
            assert spans == pytest.approx(4.0 - 1.0 + LEAD, abs=0.05)  # what is left of the sound
            await stage.advance(3.0 + LEAD - 0.1)
            assert stage.final(name) is None
            assert stage.player.plan.acting
            await stage.advance(1.0)
            assert stage.final(name) == Done(name, "Face", 2, 0)

    run(scenario)


def test_keyframes_of_a_later_segment_wait_for_its_words() -> None:
    async def scenario() -> None:
        first, second = "The first sentence is here. " * 8, "The second one follows. " * 8
        async with Stage(ScriptedGenerator(default="2+2 smile5\n")) as stage:
            name = await stage.say(first + second, speech={"duration": 20.0})
            await stage.tick()
            track = stage.player.plan.track
            assert len(track) == 2
            assert track.begins[1] == pytest.approx(10.0 + LEAD, abs=2.5)
            await stage.advance(22.0)
            assert stage.final(name) == Done(name, "Face", 2, 0)

    run(scenario)


def test_the_face_follows_the_sound_and_stops_with_it() -> None:
    async def scenario() -> None:
        async with Stage(ScriptedGenerator(default="2+2 smile5\n")) as stage:
            name = await stage.say("It is a very fine day.", speech=True)
            await stage.advance(0.5)
            assert stage.director.sync(Sync(id=name, position=0.2))
            assert stage.clock.now() - stage.player.plan.speech_start == pytest.approx(0.2)
            assert not stage.director.sync(Sync(id="nobody", position=0.2))
            await stage.say("Something else, which the model takes long to write.")
            assert stage.director.sync(Sync(id=name, playing=False))
            assert stage.player.plan.speech is None
            event = stage.final(name)
            assert isinstance(event, Interrupted)
            assert event.reason == "the sound was cut"

    run(scenario)


SENTENCES = "Here is the first sentence of them. " * 6 + "And here is the second one of them. " * 6


async def speak(stage: Stage) -> str:
    """Two segments of 10 s each, whose keyframes begin with their words."""
    return await stage.say(SENTENCES, speech={"duration": 20.0})


def arrivals(stage: Stage) -> list[float]:
    """Clock times at which the keyframes of the plan are reached."""
    plan = stage.player.plan
    times: list[float] = (plan.start + plan.track.begins + plan.track.ways).tolist()
    return times


@pytest.mark.parametrize("late", [-0.2, -0.1, 0.1, 0.4, 3.0])
def test_keyframes_follow_the_sound(late: float) -> None:
    async def scenario() -> None:
        async with Stage(ScriptedGenerator(default="4+4 smile5\n4 jaw5\n")) as stage:
            name = await speak(stage)
            before = arrivals(stage)
            assert len(before) == 4
            await stage.advance(before[0] - stage.clock.now() + 0.5)  # the first is held
            position = stage.clock.now() - stage.player.plan.speech_start - late
            assert stage.director.sync(Sync(id=name, position=position))
            await stage.tick()
            assert arrivals(stage) == pytest.approx([time + late for time in before[1:]])
            assert stage.clock.now() - stage.player.plan.speech_start == pytest.approx(position)
            assert stage.frame.key == 0
            end = stage.player.plan.speech_start + 20.0
            await stage.advance(end - stage.clock.now() - 0.1)
            assert stage.frame.key == len(before) - 1
            assert stage.final(name) is None
            await stage.advance(1.5)
            assert stage.final(name) == Done(name, "Face", len(before), 0)

    run(scenario)


def test_a_sound_that_drifts_a_little_moves_the_mouth_alone_until_it_adds_up() -> None:
    async def scenario() -> None:
        async with Stage(ScriptedGenerator(default="4+4 smile5\n")) as stage:
            name = await speak(stage)
            before = arrivals(stage)
            start = stage.player.plan.speech_start
            for drift in (0.01, 0.02, 0.03):
                await stage.advance(0.1)
                stage.director.sync(Sync(id=name, position=stage.clock.now() - start - drift))
                await stage.tick()
                assert stage.player.plan.speech_start == pytest.approx(start + drift)
                assert arrivals(stage) == before
            stage.director.sync(Sync(id=name, position=stage.clock.now() - start - 0.05))
            assert arrivals(stage)[-1] == pytest.approx(before[-1] + 0.05)

    run(scenario)


def test_syncs_all_the_time_make_no_jump_anywhere() -> None:
    async def scenario(synced: bool) -> np.ndarray[Any, Any]:
        r = random.Random(5)
        shown = []
        async with Stage(ScriptedGenerator(default="3+1 smile9\n3 smile1 jaw4\n2+1 brow6\n")) as stage:
            name = await speak(stage)
            start = stage.player.plan.speech_start
            for tick in range(600):
                await stage.advance(1 / 60)
                shown.append(stage.frame.pose)
                if synced and tick % 20 == 10:
                    stage.director.sync(Sync(id=name, position=stage.clock.now() - start + r.gauss(0.0, 0.2)))
        return np.array(shown, np.float64)

    alone, followed = asyncio.run(scenario(False)), asyncio.run(scenario(True))
    assert not np.array_equal(alone, followed)
    speed, change = (np.abs(np.diff(followed, n, axis=0)).max() for n in (1, 2))
    assert speed < 2.0 * np.abs(np.diff(alone, axis=0)).max()
    assert change < 2.5 * np.abs(np.diff(alone, 2, axis=0)).max()


def test_a_sound_that_jumps_ahead_leaves_out_the_keyframes_between() -> None:
    async def scenario() -> None:
        async with Stage(ScriptedGenerator(default="4+4 smile5\n4 jaw5\n")) as stage:
            name = await speak(stage)
            await stage.advance(1.0)
            jumps = stage.player.plan.jumps
            stage.director.sync(Sync(id=name, position=10.5))
            await stage.tick()
            assert stage.player.plan.jumps == jumps + 1
            assert stage.frame.key == 2  # the first segment is over
            await stage.advance(9.4)
            assert stage.final(name) is None
            await stage.advance(2.0)
            assert isinstance(stage.final(name), Done)

    run(scenario)


def test_a_position_past_the_end_ends_the_text() -> None:
    async def scenario() -> None:
        async with Stage(ScriptedGenerator(default="4+4 smile5\n")) as stage:
            name = await speak(stage)
            await stage.advance(1.0)
            stage.director.sync(Sync(id=name, position=25.0))
            await stage.advance(3.0)
            assert isinstance(stage.final(name), Done)

    run(scenario)


def test_a_sound_that_starts_over_acts_nothing_twice() -> None:
    async def scenario() -> None:
        async with Stage(ScriptedGenerator(default="4+4 smile5\n")) as stage:
            name = await speak(stage)
            second = arrivals(stage)[1]
            await stage.advance(4.0)
            stage.director.sync(Sync(id=name, position=0.0))
            await stage.tick()
            assert arrivals(stage) == [pytest.approx(second + 4.0 - LEAD)]
            assert stage.smile() == pytest.approx(0.5)
            assert stage.frame.key == 0

    run(scenario)


def test_where_the_sound_is_cut_the_face_is_released_at_once() -> None:
    async def scenario() -> None:
        generator = OnCommand()
        async with Stage(generator, release_seconds=0.6) as stage:
            name = await stage.say("It is a fine day.", speech={"duration": 9.0})
            generator.give("It is a fine day.", "4+4 smile5\n", None)
            await stage.advance(3.0)
            assert stage.smile() > 0.2
            await stage.say("The model takes long over this one.")
            stage.director.sync(Sync(id=name, playing=False))
            await stage.tick()
            assert stage.final(name) == Interrupted(name, "Face", "the sound was cut")
            assert stage.player.plan.speech is None
            await stage.advance(0.3)
            assert 0.0 < stage.smile() < 0.3
            await stage.advance(0.35)
            assert stage.smile() == 0.0

    run(scenario)


def test_a_sound_that_is_cut_while_its_text_waits_drops_it() -> None:
    async def scenario() -> None:
        async with Stage() as stage:
            first = await stage.say("one", speech={"duration": 3.0})
            name = await stage.say("two", speech={"duration": 3.0})
            assert stage.director.sync(Sync(id=name, playing=False))
            assert stage.final(name) == Dropped(name, "Face", "the sound was cut")
            await stage.advance(3.0 + LEAD + 0.1)
            assert stage.director.sync(Sync(id=first, playing=False))  # it is on its way to neutral
            await stage.advance(1.0)
            assert isinstance(stage.final(first), Done)

    run(scenario)


def test_where_the_sound_of_a_waiting_text_is_is_kept_until_it_starts() -> None:
    async def scenario() -> None:
        async with Stage(ScriptedGenerator(default="4+4 smile5\n4 jaw5\n")) as stage:
            await stage.play(smile(0.3, hold=5.0))
            name = await speak(stage)
            assert stage.director.sync(Sync(id=name, position=5.5))
            assert stage.player.plan.speech is None
            await stage.advance(5.5)
            started = next(e for e in stage.events if isinstance(e, Started) and e.id == name)
            assert started.sound == pytest.approx(-10.9, abs=0.06)
            assert stage.clock.now() - stage.player.plan.speech_start == pytest.approx(11.0)
            assert stage.frame.key == 2  # the first segment is over
            await stage.advance(8.9)
            assert stage.final(name) is None
            await stage.advance(1.5)
            assert isinstance(stage.final(name), Done)

    run(scenario)


def test_a_sound_that_is_to_come_later_is_waited_for() -> None:
    async def scenario() -> None:
        async with Stage(ScriptedGenerator(default="4+4 smile5\n")) as stage:
            await stage.play(smile(0.3, hold=1.0))
            name = await speak(stage)
            stage.director.sync(Sync(id=name, position=-5.0))
            await stage.advance(2.0)
            started = next(e for e in stage.events if isinstance(e, Started) and e.id == name)
            assert started.sound == pytest.approx(3.6, abs=0.06)
            assert min(arrivals(stage)) > stage.clock.now() + 3.0

    run(scenario)


def test_a_text_whose_sound_is_over_before_its_turn_is_dropped() -> None:
    async def scenario() -> None:
        async with Stage() as stage:
            await stage.play(smile(0.3, hold=5.0))
            name = await stage.say("It is a fine day.", speech={"duration": 2.0})
            last = await stage.say("And then?")
            stage.director.sync(Sync(id=name, position=0.5))
            await stage.advance(6.0)
            assert stage.final(name) == Dropped(name, "Face", "its sound was over before its turn came")
            assert stage.of(last)[-1] == "Started"

    run(scenario)


def test_a_text_that_is_not_spoken_has_no_sound() -> None:
    async def scenario() -> None:
        async with Stage() as stage:
            name = await stage.say("It is a fine day.")
            assert not stage.director.sync(Sync(id=name, position=0.5))
            assert stage.final(name) is None

    run(scenario)


def test_a_streamed_text_is_spoken_sentence_by_sentence() -> None:
    async def scenario() -> None:
        async with Stage(ScriptedGenerator(default="2+2 smile5\n")) as stage:
            name = await stage.say("Here I am. And the", id="s", more=True, speech=True)
            await stage.tick()
            before = stage.player.plan.speech
            assert before is not None
            await stage.say(" rest comes later.", id="s")
            await stage.tick()
            after = stage.player.plan.speech
            assert after is not None
            assert [word.text for word in before.words] == ["Here", "I", "am"]
            assert after.word_times[: len(before.words)] == before.word_times
            assert after.duration > before.duration
            await stage.advance(after.duration + 2.0)
            assert isinstance(stage.final(name), Done)

    run(scenario)


# --- bursts


def test_of_500_lines_in_a_second_each_gets_its_final_event_and_the_newest_is_acted() -> None:
    async def scenario() -> None:
        async with Stage(ScriptedGenerator(default="2+2 smile5\n")) as stage:
            names = []
            for i in range(500):
                names.append(await stage.say(f"line {i}"))
                await stage.advance(1 / 500)
            urgent = await stage.say("interactive", priority=7)
            await stage.advance(20.0)
            finals = {name: stage.final(name) for name in names}
            assert all(finals.values())
            assert isinstance(finals[names[-1]], Done)
            assert isinstance(stage.final(urgent), Done)
            started = [e.id for e in stage.events if isinstance(e, Started)]
            assert started.index(urgent) < started.index(names[-1])
            assert len(started) < 40

    run(scenario)


@pytest.mark.parametrize("sources", [1, 500])
def test_the_face_acts_on_the_newest_whether_one_source_is_loud_or_many_are(sources: int) -> None:
    async def scenario() -> None:
        generator = OnCommand()
        async with Stage(generator) as stage:
            names = []
            for i in range(500):
                names.append(await stage.say(f"line {i}", source=f"viewer {i % sources}"))
                await stage.advance(1 / 500)
            assert stage.director.waiting <= 40
            urgent = await stage.say("interactive", priority=7)
            for text in ("interactive", *(f"line {i}" for i in range(500))):
                generator.give(text, "4+4 smile5\n", None)
            await stage.advance(120.0)
            check_events(stage.events)
            started = [e.id for e in stage.events if isinstance(e, Started)]
            assert isinstance(stage.final(urgent), Done)
            assert started[-1] == names[-1]
            assert len(started) < 40
            late = [e for e in stage.events if isinstance(e, Dropped)]
            assert all(e.reason.startswith("it gives way to ") for e in late)
            assert len(late) + len(started) == 501

    run(scenario)


def test_a_burst_that_goes_on_does_not_keep_the_model_from_writing() -> None:
    async def scenario() -> None:
        generator = OnCommand()
        async with Stage(generator) as stage:
            for i in range(1200):  # for a minute, twenty texts a second; the model takes 0.4 s to its first keyframe
                await stage.say(f"line {i}", source=f"viewer {i}")
                await stage.advance(0.05)
                if i >= 8:
                    generator.give(f"line {i - 8}", "4+4 smile5\n", None)
            started = [e.id for e in stage.events if isinstance(e, Started)]
            assert len(started) > 30
            accepted = {e.id: i for i, e in enumerate(e for e in stage.events if isinstance(e, Accepted))}
            for i, event in enumerate(stage.events):
                if isinstance(event, Started) and accepted[event.id] > 40:
                    newest = max(accepted[e.id] for e in stage.events[:i] if isinstance(e, Accepted))
                    assert newest - accepted[event.id] < 60  # no older than three seconds

    run(scenario)


def test_a_text_that_waits_too_long_is_dropped() -> None:
    async def scenario() -> None:
        async with Stage(rules=Rules(longest=5.0)) as stage:
            await stage.play(KeyframeJson({"JawOpen": 1.0}, hold=12.0))
            late = await stage.say("too late")
            await stage.advance(13.5)
            event = stage.final(late)
            assert isinstance(event, Dropped)
            assert event.reason == "it waited over 5 s"

    run(scenario)


def test_a_text_that_nothing_comes_for_is_dropped_too() -> None:
    async def scenario() -> None:
        async with Stage(OnCommand(), rules=Rules(longest=5.0)) as stage:
            late = await stage.say("the model never answers")
            await stage.advance(5.5)
            assert isinstance(stage.final(late), Dropped)

    run(scenario)


# --- the model's bad days


def test_a_text_is_tried_once_more_without_doubling_its_keyframes() -> None:
    async def scenario() -> None:
        generator = OnCommand()
        async with Stage(generator) as stage:
            name = await stage.say("x")
            generator.give("x", "2 smile3\n", "2 smile5\n", "2 smi", GeneratorDied("killed"))
            await stage.tick()
            assert generator.attempts == [0, 1]
            generator.give("x", "2 smile3\n2 smile5\n", "2 smile7\n", None)
            await stage.advance(3.0)
            assert stage.final(name) == Done(name, "Face", 3, 0)
            texts = [e.text for e in stage.events if isinstance(e, KeyframeEvent)]
            assert texts == ["2 smile3", "2 smile5", "2 smile7"]
            check_events(stage.events)

    run(scenario)


def test_a_text_that_kills_the_generator_twice_fails() -> None:
    async def scenario() -> None:
        generator = OnCommand()
        async with Stage(generator) as stage:
            name = await stage.say("x")
            generator.give("x", GeneratorDied("killed"), GeneratorDied("killed again"))
            await stage.tick()
            assert stage.final(name) == Failed(name, "Face", "killed again")
            assert generator.attempts == [0, 1]
            other = await stage.say("y")
            generator.give("y", "1 smile5\n", None)
            await stage.advance(2.0)
            assert isinstance(stage.final(other), Done)
            check_events(stage.events)

    run(scenario)


def test_a_text_that_dies_twice_in_the_middle_fails_after_what_it_has_is_acted() -> None:
    async def scenario() -> None:
        generator = OnCommand()
        async with Stage(generator, release_seconds=0.6) as stage:
            name = await stage.say("x")
            generator.give("x", "4+4 smile5\n", GeneratorDied("killed"), GeneratorDied("killed again"))
            await stage.tick()
            await stage.advance(0.4)
            assert stage.smile() == pytest.approx(0.5)
            assert stage.final(name) is None
            await stage.advance(0.5)
            assert stage.final(name) == Failed(name, "Face", "killed again")
            await stage.advance(0.7)
            assert stage.smile() == 0.0
            check_events(stage.events)

    run(scenario)


@pytest.mark.parametrize(
    "rubbish", ["", "\n\n\n", "I am sorry, I cannot do that.\n", "{" * 5000, "\0\n" * 100, "4+4 smile5", "4 grin7\n"]
)
def test_a_model_that_writes_rubbish_fails_the_text(rubbish: str) -> None:
    async def scenario() -> None:
        async with Stage(ScriptedGenerator(default=rubbish)) as stage:
            name = await stage.say("x")
            assert stage.final(name) == Failed(name, "Face", "the model wrote no keyframe")
            assert stage.director.at_rest
            check_events(stage.events)

    run(scenario)


def test_a_broken_line_costs_that_line_only() -> None:
    async def scenario() -> None:
        answer = "2 smile3\n2 grin7\n2 smile99\n2 smile5\n"
        async with Stage(ScriptedGenerator(default=answer)) as stage:
            await stage.say("x")
            assert [e.text for e in stage.events if isinstance(e, KeyframeEvent)] == ["2 smile3", "2 smile5"]

    run(scenario)


def test_a_bug_in_the_generator_is_a_final_event_too() -> None:
    async def scenario() -> None:
        generator = OnCommand()
        async with Stage(generator) as stage:
            name = await stage.say("x")
            generator.give("x", ZeroDivisionError("oops"))
            await stage.tick()
            final = stage.final(name)
            assert isinstance(final, Failed)
            assert "oops" in final.reason
            check_events(stage.events)

    run(scenario)


def test_an_answer_has_at_most_8_keyframes_and_the_model_is_stopped_there() -> None:
    async def scenario() -> None:
        generator = OnCommand()
        async with Stage(generator) as stage:
            name = await stage.say("x")
            generator.give("x", *["1 smile5\n"] * 9)
            await stage.tick()
            assert stage.of(name).count("KeyframeEvent") == 8
            assert generator.cancelled == ["x"]
            await stage.advance(3.0)
            assert stage.final(name) == Done(name, "Face", 8, 0)

    run(scenario)


@pytest.mark.parametrize(
    ("lines", "kept"), [(["50 smile5\n"] * 3, 2), (["60+60 smile5\n", "1 smile6\n"], 1), (["120+120 smile5\n"], 1)]
)
def test_an_answer_has_at_most_12_seconds_of_motion(lines: list[str], kept: int) -> None:
    async def scenario() -> None:
        generator = OnCommand()
        async with Stage(generator) as stage:
            name = await stage.say("x")
            generator.give("x", *lines, None)
            await stage.tick()
            assert stage.of(name).count("KeyframeEvent") == kept

    run(scenario)


def test_the_limits_are_a_segments_and_not_a_texts() -> None:
    async def scenario() -> None:
        sentence = "This is a sentence that goes on for a while and never seems to reach its end, does it? " * 2
        async with Stage(ScriptedGenerator(default="50+50 smile5\n" * 3)) as stage:
            name = await stage.say(sentence * 3)
            assert stage.of(name).count("KeyframeEvent") == 3

    run(scenario)


# --- everything at once


class Moody(Fake):
    """Writes, waits, dies, errs and rambles by the throw of a die."""

    def __init__(self, seed: int, pause: Callable[[float], Awaitable[None]]) -> None:
        super().__init__()
        self._random = random.Random(seed)
        self._pause = pause

    async def answer(self, text: str, attempt: int) -> AsyncGenerator[str, None]:
        r = self._random
        for _ in range(r.randrange(12)):
            throw = r.random()
            if throw < 0.04:
                raise GeneratorDied("killed")
            if throw < 0.06:
                raise GeneratorError("cannot answer")
            if throw < 0.2:
                yield "rubbish\n"
            elif throw < 0.4:
                await self._pause(r.random())
            else:
                yield f"{r.randrange(1, 9)}+{r.randrange(9)} smile{r.randrange(1, 10)}\n"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_in_a_storm_every_accepted_text_gets_exactly_one_final_event(seed: int) -> None:
    async def scenario() -> None:
        r = random.Random(seed)
        never = asyncio.Event()
        stage: Stage

        async def pause(seconds: float) -> None:
            await stage.clock.wait(never, stage.clock.now() + seconds)

        stage = Stage(Moody(seed, pause), rules=Rules(limit=6))
        accepted, refused = set(), 0
        poses = []
        async with stage:
            for i in range(300):
                throw = r.random()
                fields: dict[str, Any] = {
                    "mode": r.choice(("queue",) * 10 + ("interrupt", "interrupt", "replace")),
                    "priority": r.randrange(10),
                    "release": r.choice(("auto", "auto", "hold")),
                    "intensity": r.choice((0.0, 0.5, 1.0, 2.0)),
                }
                try:
                    if throw < 0.05:
                        stage.director.stop()
                    elif throw < 0.2:
                        keys = [smile(r.random(), way=r.random(), hold=r.random()) for _ in range(r.randrange(1, 4))]
                        accepted.add(stage.director.play(Keyframes(keyframes=keys, **fields), stage.own.append))
                    else:
                        named = f"s{r.randrange(40)}" if throw < 0.5 else None
                        message = Say(text=f"Text {i}. ", id=named, more=named is not None and throw < 0.35, **fields)
                        accepted.add(stage.director.say(message, stage.own.append))
                except Refused:
                    refused += 1
                if r.random() < 0.6:
                    await stage.advance(r.random() * 1.5, step=0.1)
                await stage.tick()
                poses.append(stage.frame.pose)
            await stage.advance(12.0, step=0.1)
            for _ in range(400):
                if stage.director.at_rest:
                    break
                await stage.advance(1.0, step=0.1)
            assert stage.director.at_rest
        assert len(accepted) > 100
        assert refused > 0
        assert np.isfinite(poses).all()
        assert sorted(map(repr, stage.own)) == sorted(map(repr, stage.events))
        # An id may be used again after its final event: cut each id's events there.
        uses: dict[str, int] = defaultdict(int)
        renamed: list[Event] = []
        for event in stage.events:
            name = getattr(event, "id", "")
            fields = {field: getattr(event, field) for field in event.__struct_fields__} | {
                "id": f"{name}#{uses[name]}"
            }
            renamed.append(type(event)(**fields))
            uses[name] += isinstance(event, FINAL)
        check_events(renamed)
        assert {e.id.rpartition("#")[0] for e in renamed if isinstance(e, Accepted)} == accepted
        kinds = Counter(type(event) for event in stage.events)
        assert all(kinds[kind] > 0 for kind in FINAL)

    run(scenario)


def test_the_latest_latency_can_be_read_from_director_and_player() -> None:
    async def scenario() -> None:
        generator = OnCommand()
        async with Stage(generator) as stage:
            await stage.say("x")
            await stage.advance(0.3)
            generator.give("x", "4 smile5\n", None)
            await stage.tick()
            cut, moved = stage.player.first_moved
            assert moved - stage.director.latencies[cut] == pytest.approx(0.3)

    run(scenario)
