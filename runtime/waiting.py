"""The texts that wait for one face: who is next, who must give way in a burst, who has waited too long."""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from kff_live.protocols.messages import Mode, Refused

INTERACTIVE = 7
"""From this priority on somebody waits for an answer: never coalesced, never dropped for having waited."""

MAX_SOURCES = 1000
"""Sources whose rate is remembered; the one silent for longest is forgotten."""


class Waits(Protocol):
    """What the rules look at."""

    @property
    def mode(self) -> Mode:
        """`queue`, or a mode that cuts in."""

    @property
    def priority(self) -> int:
        """0 to 9."""

    @property
    def source(self) -> str:
        """Who said it."""

    @property
    def accepted_at(self) -> float:
        """Clock time, s."""

    @property
    def begun(self) -> bool:
        """Whether its keyframes are being written and none is there yet. In a burst it keeps its place: else each new
        text would put an end to the writing of the one before, and none would ever be acted.
        """


@dataclass(frozen=True)
class Rules:
    """The rules; config.toml's [queue] explains each.

    Args:
        hold: least seconds from a text's first keyframe to the queued text after it.
        limit: most texts that wait.
        ageing: seconds of waiting that count as one level of priority; 0 for none.
        burst: texts of one source within `burst_seconds` from which on only its newest is kept; 0 for never.
        crowd: the same for the texts of all sources together.
        longest: seconds after which a text that still waits is dropped; 0 for never.
        rate: texts a second that one source may send, in the long run; 0 for any number.
    """

    hold: float = 0.8
    limit: int = 64
    ageing: float = 10.0
    burst: int = 16
    crowd: int = 32
    burst_seconds: float = 2.0
    longest: float = 120.0
    rate: float = 0.0


T = TypeVar("T", bound=Waits)


class WaitingList(Generic[T]):
    """Texts in the order in which they will be acted: what cuts in, then by priority and age, then as they came."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._texts: list[T] = []
        self._heard: dict[str, deque[float]] = {}
        self._heard_of_all: list[float] = []

    def __len__(self) -> int:
        return len(self._texts)

    def __iter__(self) -> Iterator[T]:
        return iter(self._texts)

    def __bool__(self) -> bool:
        return bool(self._texts)

    @property
    def head(self) -> T | None:
        """Who is next."""
        return self._texts[0] if self._texts else None

    def admit(self, text: T, now: float) -> None:
        """Count a text that is about to be added.

        Raises:
            Refused: `too-many`, or `queue-full`: the list is full and nobody gives way.
        """
        self._count(text, now)
        staying = self._staying(text, now)
        # `replace` empties the list before it is added.
        if len(staying) >= self.rules.limit and text.mode != "replace" and self._least(staying, text) is None:
            raise Refused("queue-full", f"{self.rules.limit} texts wait already")

    def add(self, text: T, now: float) -> list[T]:
        """Put a text in its place; returns those that give way to it, of which none is interactive.

        These are: to one that cuts in, those that would have cut in; in a burst, the older ones; where the list is
        full, the oldest of the least priority. In a full list none gives way to a text of lower priority, nor one that
        has begun, unless that text is interactive or cuts in.
        """
        before, staying = self._texts, self._staying(text, now)
        if len(staying) >= self.rules.limit and (least := self._least(staying, text)) is not None:
            staying.remove(least)
        self._texts = [text, *staying] if text.mode != "queue" else [*staying, text]
        self.sort(now)
        return [other for other in before if other not in staying]

    def _count(self, text: T, now: float) -> None:
        kept = max(self.rules.burst, math.ceil(self.rules.rate), 1)
        heard = deque(self._heard.pop(text.source, ()), maxlen=kept)
        allowed = math.ceil(self.rules.rate)
        if allowed and len(heard) >= allowed and now - heard[-allowed] < allowed / self.rules.rate:
            self._heard[text.source] = heard
            raise Refused("too-many", f"more than {self.rules.rate:g} texts a second from {text.source!r}")
        heard.append(now)
        self._heard[text.source] = heard  # last in the dict: heard last
        if len(self._heard) > MAX_SOURCES:
            del self._heard[next(iter(self._heard))]
        if text.priority < INTERACTIVE and not self._is_hot(text.source, now):
            self._heard_of_all = [*self._heard_of_all, now][-max(self.rules.crowd, 1) :]

    def _least(self, staying: Sequence[T], text: T) -> T | None:
        """Who gives way to a text in a full list."""
        others = [other for other in staying if other.priority < INTERACTIVE]
        if text.priority < INTERACTIVE and text.mode == "queue":
            others = [other for other in others if other.priority <= text.priority and not other.begun]
        return min(others, key=lambda other: (other.begun, other.priority, other.accepted_at), default=None)

    def _staying(self, text: T, now: float) -> list[T]:
        """Those that a text does not oust, however many may wait."""
        return [other for other in self._texts if other.priority >= INTERACTIVE or not self._ousts(text, other, now)]

    def _ousts(self, text: T, other: T, now: float) -> bool:
        if text.mode != "queue":
            return other.mode != "queue"
        if text.priority >= INTERACTIVE or other.begun:
            return False
        if self._is_hot(text.source, now):
            return other.source == text.source  # a single loud one is no crowd
        return other.priority <= text.priority and self._in_burst(self._heard_of_all, self.rules.crowd, now)

    def _is_hot(self, source: str, now: float) -> bool:
        return self._in_burst(self._heard.get(source, ()), self.rules.burst, now)

    def sort(self, now: float) -> None:
        """Bring age into the order."""
        self._texts.sort(key=lambda text: self._place(text, now))

    def place(self, text: T) -> int:
        """How many are before a text."""
        return self._texts.index(text)

    def take(self, text: T) -> None:
        """Remove a text."""
        self._texts.remove(text)

    def clear(self) -> list[T]:
        """Remove and return all."""
        texts, self._texts = self._texts, []
        return texts

    @property
    def next_expiry(self) -> float | None:
        """When the first of them will have waited too long."""
        if not self.rules.longest:
            return None
        return min((t.accepted_at + self.rules.longest for t in self._texts if t.priority < INTERACTIVE), default=None)

    def expire(self, now: float) -> list[T]:
        """Remove and return those that have waited too long."""
        if not self.rules.longest:
            return []
        late = [t for t in self._texts if t.priority < INTERACTIVE and now - t.accepted_at >= self.rules.longest]
        self._texts = [t for t in self._texts if t not in late]
        return late

    def _in_burst(self, heard: Sequence[float], many: int, now: float) -> bool:
        return 0 < many <= len(heard) and now - heard[-many] <= self.rules.burst_seconds

    def _place(self, text: T, now: float) -> tuple[float, float]:
        if text.mode != "queue":
            return -math.inf, -text.accepted_at  # the latest that cuts in is first
        levels = int((now - text.accepted_at) / self.rules.ageing) if self.rules.ageing else 0
        return -(text.priority + levels), text.accepted_at
