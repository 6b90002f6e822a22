"""The director of one subject: queues texts, has keyframes written for them, and plans what the face plays when.

Two kinds of task: one a generation (at most the current text's and the next one's), and one that plays. They meet in
`Utterance`, which collects keyframes, and in `_changed`, which wakes the player task. Every accepted text gets
exactly one final event.
"""

import asyncio
import itertools
import logging
import math
from collections.abc import Sequence
from contextlib import aclosing

from kff_live.protocols import keyframe_text
from kff_live.protocols.errors import DecodeError, GeneratorError
from kff_live.protocols.keyframes import MAX_SECONDS, Keyframe, as_acted
from kff_live.protocols.messages import (
    Accepted,
    Done,
    Dropped,
    Event,
    Failed,
    FinalEvent,
    Interrupted,
    KeyframeEvent,
    Keyframes,
    Refused,
    Say,
    Started,
    Sync,
    is_empty,
)
from kff_live.protocols.prompt import PromptInput
from kff_live.protocols.talk.field import SpeechField, decode_speech_field
from kff_live.protocols.talk.speech import DEFAULT_RATE
from kff_live.runtime.clock import Clock
from kff_live.runtime.model.generator import Generator
from kff_live.runtime.motion import Motion
from kff_live.runtime.player import Player, Settings
from kff_live.runtime.spoken import LEAD, Span, Spoken
from kff_live.runtime.utterance import Notify, Utterance
from kff_live.runtime.waiting import Rules, WaitingList
from kff_live.runtime.writing import write_keyframes

_log = logging.getLogger(__name__)

HOLD_FOR_NEXT = 2.0
"""How long a face holds its last key while the next text's first keyframe is being written; then it is released."""

MORE_SECONDS = 10.0
"""A streamed text (`more`) that is not continued for so long is taken as ended."""

MAX_CUT_STREAMS = 1000
"""Texts that were cut while more of them was to come, and are remembered so that the rest is not acted as a new one."""

MAX_STREAMED = 20_000
"""Characters of a text that is streamed in parts."""


class Director:
    """Plans for one subject.

    Args:
        player: gets the plans.
        notify: gets every event of the subject, besides the utterance's own listener.
        rules: of the texts that wait.
        release_seconds: way back to neutral.
        speech_rate: words a minute of a spoken text whose timing is not known.
    """

    def __init__(
        self,
        player: Player,
        generator: Generator,
        clock: Clock,
        *,
        notify: Notify = lambda event: None,
        dialect: str = "compact",
        rules: Rules | None = None,
        release_seconds: float = 0.6,
        settings: Settings | None = None,
        seed: int = 0,
        speech_rate: float = DEFAULT_RATE,
    ) -> None:
        self.subject = player.subject
        self.latencies: dict[int, float] = {}
        """Clock time at which the text behind a cut was accepted; compare with `Player.first_moved`."""
        self._motion = Motion(player, clock, settings or player.plan.settings)
        self._generator = generator
        self._clock = clock
        self._notify = notify
        self._dialect = dialect
        self._release_seconds = release_seconds
        self._seeds = itertools.count(seed)
        self._speech_rate = speech_rate
        self._waiting: WaitingList[Utterance] = WaitingList(rules or Rules())
        self._current: Utterance | None = None
        self._finishing: Utterance | None = None  # acted to its last hold; `done` when the release ends
        self._underruns = 0
        self._face = "neutral"  # or "up", "held", "releasing"
        self._ids = itertools.count(1)
        self._cut_streams: dict[str, None] = {}  # cut while more was to come; in order of age
        self._speaking: Spoken | None = None
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def use(self, settings: Settings, *, rules: Rules, release_seconds: float, speech_rate: float) -> None:
        """Take over new settings while everything goes on; a text that is in already keeps its rate of speech."""
        self._release_seconds, self._waiting.rules, self._speech_rate = release_seconds, rules, speech_rate
        self._motion.use(settings)
        self._wake()

    # --- what comes in

    @property
    def waiting(self) -> int:
        """Texts in the queue."""
        return len(self._waiting)

    @property
    def at_rest(self) -> bool:
        """Whether nothing is acted, queued or on its way to neutral."""
        return not self._waiting and self._current is None and self._face in ("neutral", "held")

    def say(self, message: Say, notify: Notify, *, source: str = "") -> str:
        """Queue a text, or continue one that is open; returns its id. `source` is who sends where none is named.

        Raises:
            Refused: the queue is full, the id is in use, the text is empty, or goes on with one that was cut.
        """
        running = self._find(message.id) if message.id is not None else None
        if running is not None and running.open:
            self._continue(running, message)
            return running.id
        if message.id in self._cut_streams:
            if not message.more:
                del self._cut_streams[message.id]
            raise Refused("ended", "the text was cut; what follows of it is not acted", field="id", id=message.id)
        if not message.more and is_empty(message.text):
            raise Refused("bad-field", "text: it is empty", field="text", id=message.id)
        request = PromptInput(message.text, message.background, message.emotion, tuple(message.descriptions))
        return self._accept(message, notify, source, request=request, speech=decode_speech_field(message.speech))

    def streams(self, utterance_id: str) -> bool:
        """Whether more of this text is expected, or comes for nothing since it was cut."""
        running = self._find(utterance_id)
        return utterance_id in self._cut_streams or (running is not None and running.open)

    def play(self, message: Keyframes, notify: Notify, *, source: str = "") -> str:
        """Queue keyframes; returns the utterance's id.

        Raises:
            Refused: the queue is full, the id is in use, or a keyframe cannot be acted.
        """
        try:
            keyframes = [keyframe_text.from_json(k, where=f"keyframes[{i}]") for i, k in enumerate(message.keyframes)]
        except DecodeError as error:
            field_path = str(error).partition(":")[0]
            raise Refused("bad-field", str(error), field=field_path, id=message.id) from None
        return self._accept(message, notify, source, keyframes=keyframes)

    def _accept(
        self,
        message: Say | Keyframes,
        notify: Notify,
        source: str,
        *,
        request: PromptInput | None = None,
        speech: SpeechField | None = None,
        keyframes: Sequence[Keyframe] = (),
    ) -> str:
        if message.id is not None and self._find(message.id) is not None:
            raise Refused("bad-field", f"id: {message.id!r} is in use", field="id", id=message.id)
        now = self._clock.now()
        utterance = Utterance(
            id=message.id if message.id is not None else self._new_id(),
            notify=notify,
            source=message.source or source,
            mode=message.mode,
            priority=message.priority,
            intensity=message.intensity,
            release=message.release,
            request=request,
            accepted_at=now,
            spoken=Spoken(speech, rate=self._speech_rate) if speech is not None else None,
        )
        try:
            self._waiting.admit(utterance, now)
        except Refused as refused:
            refused.error.id = message.id
            raise
        self._make_room(utterance)
        given_way = self._waiting.add(utterance, now)
        self._emit(utterance, Accepted(utterance.id, self.subject, self._waiting.place(utterance)))
        for other in given_way:
            self._drop(other, f"it gives way to {utterance.id}, which is newer")
        if isinstance(message, Say):
            self._continue(utterance, message)
        for keyframe in keyframes:
            self._add_keyframe(utterance, keyframe)
        utterance.written = request is None
        self._wake()
        return utterance.id

    def _make_room(self, utterance: Utterance) -> None:
        """Cut the current one for `interrupt`, and empty the queue as well for `replace`."""
        if utterance.mode == "queue":
            return
        if utterance.mode == "replace":
            self._drop_queue(f"replaced by {utterance.id}")
        self._cut_current(f"{utterance.mode} by {utterance.id}")

    def stop(self, reason: str = "stopped", *, within: float = MAX_SECONDS) -> None:
        """Cut what plays, empty the queue, ease to neutral, in at most `within` seconds."""
        self._drop_queue(reason)
        self._cut_current(reason)
        self._motion.reached = -math.inf
        slow = self._face == "releasing" and self._motion.end > self._clock.now() + within
        if self._face in ("up", "held") or slow:
            self._release_now(min(self._release_seconds, within))
        self._wake()

    def _continue(self, utterance: Utterance, message: Say) -> None:
        utterance.characters += len(message.text)
        if utterance.characters > MAX_STREAMED:
            raise Refused("too-long", f"text: over {MAX_STREAMED} characters in all", field="text", id=utterance.id)
        self._take_segments(utterance, message.text, more=message.more)
        utterance.open = message.more
        utterance.continued_at = self._clock.now()
        utterance.arrived.set()

    def _take_segments(self, utterance: Utterance, text: str, *, more: bool) -> None:
        segments = utterance.segmenter.feed(text, more=more)
        spoken = utterance.spoken
        spans: Sequence[Span] = ()
        if spoken is not None and segments:
            whole = not more and spoken.speech is None and len(text) == utterance.characters
            start = spoken.start if utterance is self._current else spoken.kept
            heard = self._clock.now() - start if start is not None else 0.0
            spans = spoken.add(text if whole else " ".join(segments), segments, heard=heard)
            if utterance is self._current:
                self._publish(utterance.id)
        utterance.segments += itertools.zip_longest(segments, spans)

    def sync(self, message: Sync) -> bool:
        """Follow the sound of a spoken text, or keep where it is while the text waits; False if there is none."""
        utterance = self._find(message.id)
        if utterance is None or utterance.spoken is None:
            return False
        start = self._clock.now() - message.position
        if not message.playing:
            self._silence(utterance)
        elif utterance is self._current:
            self._motion.follow(utterance.spoken, start)
            self._publish(utterance.id)
        else:
            utterance.spoken.kept = start
        self._wake()
        return True

    def _silence(self, utterance: Utterance) -> None:
        """The sound of a text was cut: it is not acted any further, and the face is released."""
        if utterance is self._current:
            self._cut_current("the sound was cut")
            self._release_now(self._release_seconds)
        elif utterance is not self._finishing:
            self._waiting.take(utterance)
            self._drop(utterance, "the sound was cut")

    def _find(self, utterance_id: str) -> Utterance | None:
        known = [self._current, self._finishing, *self._waiting]
        return next((u for u in known if u is not None and u.id == utterance_id and not u.final), None)

    def _new_id(self) -> str:
        while True:
            new = f"{self.subject}-{next(self._ids)}"
            if self._find(new) is None:
                return new

    # --- writing keyframes

    def _schedule(self) -> None:
        """Have the current text written, and the next one while the current plays; one that is overtaken waits."""
        for utterance in self._waiting:
            if utterance.begun and utterance is not self._waiting.head and utterance.task is not None:
                task, utterance.task = utterance.task, None
                task.cancel()
        for utterance in filter(None, (self._current, self._waiting.head)):
            if utterance.request is not None and utterance.task is None and not utterance.final:
                task = asyncio.create_task(self._write(utterance), name=f"write {utterance.id}")
                utterance.task = task
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _write(self, utterance: Utterance) -> None:
        try:
            while True:
                while utterance.segments:
                    await self._write_segment(utterance, *utterance.segments[0])
                    del utterance.segments[0]
                if not utterance.open:
                    break
                utterance.arrived.clear()
                await self._clock.wait(utterance.arrived, utterance.continued_at + MORE_SECONDS)
                if not utterance.arrived.is_set():
                    utterance.open = False
                    self._take_segments(utterance, "", more=False)
            if not utterance.keyframes:
                utterance.failure = "the model wrote no keyframe"
        except GeneratorError as error:
            utterance.failure = str(error)
        except Exception as error:  # noqa: BLE001 - a generator's bug must not leave a text without its final event
            _log.error("%s: the generator failed: %r", utterance.id, error)
            utterance.failure = f"the generator failed: {error!r}"
        finally:
            if utterance.task is asyncio.current_task():  # else it was put off, and is written again later
                self._forget_rest(utterance)  # still open only where the writing failed
                utterance.open = False
                utterance.written = True
                self._wake()

    async def _write_segment(self, utterance: Utterance, text: str, span: Span | None) -> None:
        """Keyframes for one segment; those of a spoken one together, since they share its time."""
        assert utterance.request is not None
        request = PromptInput(
            text, utterance.request.background, utterance.request.emotion, utterance.request.descriptions
        )
        kept: list[Keyframe] = []
        written = write_keyframes(self._generator, request, dialect=self._dialect, seed=next(self._seeds))
        async with aclosing(written) as keyframes:
            async for keyframe in keyframes:
                if span is not None:
                    kept.append(keyframe)
                    continue
                self._add_keyframe(utterance, keyframe)
                self._wake()
        self._add_spoken(utterance, kept, span)

    def _add_spoken(self, utterance: Utterance, keyframes: Sequence[Keyframe], span: Span | None) -> None:
        if span is None or utterance.spoken is None:
            return
        begun = utterance is self._current
        for i, keyframe in enumerate(utterance.spoken.fit(keyframes, span, now=self._clock.now(), begun=begun)):
            self._add_keyframe(utterance, keyframe, begin=span[0] if i == 0 else None)
        self._wake()

    def _add_keyframe(self, utterance: Utterance, keyframe: Keyframe, *, begin: float | None = None) -> None:
        acted = as_acted(keyframe, intensity=utterance.intensity)
        utterance.keyframes.append(acted)
        utterance.begins.append(begin)
        self._emit(
            utterance,
            KeyframeEvent(
                utterance.id,
                self.subject,
                len(utterance.keyframes) - 1,
                keyframe_text.to_json(acted),
                keyframe_text.format_keyframe(acted).rstrip("\n"),
            ),
        )

    # --- playing them

    async def run(self) -> None:
        """Play until cancelled; then whatever is unfinished gets its final event."""
        try:
            while True:
                self._current = await self._next()
                await self._act(self._current)
                self._current = None
        finally:
            self._drop_queue("the runtime ended")
            self._cut_current("the runtime ended")
            if self._finishing is not None:
                self._end(self._finishing, Interrupted(self._finishing.id, self.subject, "the runtime ended"))
            self._current = self._finishing = None
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _next(self) -> Utterance:
        """The next utterance that has something to act. Meanwhile the face is released, unless one is on its way."""
        since = self._clock.now()
        while True:
            now = self._clock.now()
            self._sift()
            head = self._waiting.head
            turn: float | None = None
            if head is not None and head.ready:
                turn = self._motion.reached + self._waiting.rules.hold
                if now >= turn or head.mode != "queue":
                    self._waiting.take(head)
                    self._finish(self._finishing)
                    return head
            until: float | None = None
            if self._face == "up":
                until = max(since + HOLD_FOR_NEXT, turn or now) if self._waiting else now
                if now >= until:
                    self._release_now(self._release_seconds)
                    continue
            elif self._face == "releasing":
                until = self._motion.end
                if now >= until:
                    self._finish(self._finishing)
                    self._rest()
                    continue
            await self._wait(_earlier(_earlier(until, turn), self._waiting.next_expiry))

    def _sift(self) -> None:
        """Bring age into the order of the texts that wait, and let go of those that will not be acted."""
        now = self._clock.now()
        for utterance in self._waiting.expire(now):
            self._drop(utterance, f"it waited over {self._waiting.rules.longest:g} s")
        for utterance in [u for u in self._waiting if u.spoken is not None and not u.open and u.spoken.over(now)]:
            self._waiting.take(utterance)
            self._drop(utterance, "its sound was over before its turn came")
        self._waiting.sort(now)
        while (head := self._waiting.head) is not None and head.written and not head.ready:
            self._waiting.take(head)
            self._end(head, Failed(head.id, self.subject, head.failure))
        self._schedule()

    async def _act(self, utterance: Utterance) -> None:
        """Play an utterance up to the end of its last hold, or until it is cut."""
        self._new_track()
        self.latencies = {self._motion.cut: utterance.accepted_at}
        spoken = self._speaking = utterance.spoken
        placed = 0
        if spoken is not None:
            spoken.start = spoken.keys_start = self._motion.start + LEAD
            placed = self._place_from(utterance, placed)
            if spoken.kept is not None:
                self._motion.follow(spoken, spoken.kept)
            self._publish(utterance.id)  # the mouth does not wait for the model
        sound = round(spoken.start - self._motion.start, 3) if spoken is not None else None
        self._emit(utterance, Started(utterance.id, self.subject, sound))
        while not utterance.final:
            placed = self._place_from(utterance, placed)
            self._schedule()
            end = max(self._motion.end, spoken.end if spoken else 0.0)
            holding = self._clock.now() >= end
            if holding and utterance.written and placed == len(utterance.keyframes):
                self._leave(utterance)
                break
            await self._wait(_earlier(None if holding else end, self._waiting.next_expiry))
            self._sift()
        self._speaking = None

    def _place_from(self, utterance: Utterance, placed: int) -> int:
        """Put the keyframes from the `placed`-th on into the track, each when its words are spoken; returns how many
        there are then.
        """
        count = len(utterance.keyframes)
        for keyframe, begin in zip(utterance.keyframes[placed:], utterance.begins[placed:], strict=True):
            spoken = None if begin is None else utterance.spoken
            self._motion.place(keyframe, begin=None if spoken is None or begin is None else spoken.start + begin)
        if count > placed:
            self._publish(utterance.id)
        return count

    def _leave(self, utterance: Utterance) -> None:
        """An utterance has been acted up to its last hold."""
        self._underruns = self._motion.underruns
        if utterance.failure:
            self._end(utterance, Failed(utterance.id, self.subject, utterance.failure))
        elif utterance.release == "hold":
            self._face = "held"
            self._finish(utterance)
        else:
            self._finishing = utterance

    def _new_track(self) -> None:
        self._motion.begin()
        self._face = "up"

    def _publish(self, utterance_id: str | None) -> None:
        acting = utterance_id is not None and self._face == "up"
        self._motion.publish(utterance_id, acting=acting, spoken=self._speaking if acting else None)

    def _release_now(self, seconds: float) -> None:
        """Ease to neutral from wherever the face is: continue the track after its last hold, else cut."""
        finishing = self._finishing
        if finishing is None or self._face == "releasing":
            self._new_track()
        self._motion.release(seconds)
        self._face = "releasing"
        self._publish(finishing.id if finishing else None)

    def _rest(self) -> None:
        """Nothing is acted: frames carry no utterance, and the finished track can be forgotten."""
        self._new_track()
        self._publish(None)
        self._face = "neutral"

    def _finish(self, utterance: Utterance | None) -> None:
        if utterance is not None:
            self._end(utterance, Done(utterance.id, self.subject, len(utterance.keyframes), self._underruns))
        self._finishing = None

    def _cut_current(self, reason: str) -> None:
        utterance = self._current
        if utterance is not None and not utterance.final and utterance is not self._finishing:
            self._speaking = None
            self._motion.reached = -math.inf
            self._motion.silence()
            self._end(utterance, Interrupted(utterance.id, self.subject, reason))

    def _drop_queue(self, reason: str) -> None:
        for utterance in self._waiting.clear():
            self._drop(utterance, reason)

    def _drop(self, utterance: Utterance, reason: str) -> None:
        self._end(utterance, Dropped(utterance.id, self.subject, reason))

    def _end(self, utterance: Utterance, event: FinalEvent) -> None:
        if utterance.final is None:
            self._forget_rest(utterance)
            utterance.final = event
            utterance.open = False
            if utterance.task is not None:
                utterance.task.cancel()
            self._emit(utterance, event)

    def _forget_rest(self, utterance: Utterance) -> None:
        """What may still come of this text is not to be acted as a new one."""
        if utterance.open:
            self._cut_streams[utterance.id] = None
            if len(self._cut_streams) > MAX_CUT_STREAMS:
                del self._cut_streams[next(iter(self._cut_streams))]

    def _emit(self, utterance: Utterance, event: Event) -> None:
        utterance.notify(event)
        self._notify(event)

    def _wake(self) -> None:
        self._schedule()
        self._changed.set()

    async def _wait(self, until: float | None) -> None:
        self._changed.clear()
        await self._clock.wait(self._changed, until)


def _earlier(a: float | None, b: float | None) -> float | None:
    """The earlier of two times, of which either may be none."""
    return b if a is None else a if b is None else min(a, b)
