"""The texts that wait for one face: who is next, who must give way in a burst, who has waited too long."""

import math
from collections import deque
from collections.abc import Iterator
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


@dataclass(frozen=True)
class Rules:
    """The rules; config.toml's [queue] explains each.

    Args:
        limit: most texts that wait.
        ageing: seconds of waiting that count as one level of priority; 0 for none.
        burst: texts of one source within `burst_seconds` from which on only its newest is kept; 0 for never.
        longest: seconds after which a text that still waits is dropped; 0 for never.
        rate: texts a second that one source may send, in the long run; 0 for any number.
    """

    limit: int = 64
    ageing: float = 10.0
    burst: int = 16
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

    def admit(self, source: str, *, makes_room: bool = False, urgent: bool = False, now: float) -> T | None:
        """Count a text of `source` that is about to be added; returns the one that has to give way to it.

        `makes_room` when it empties the list first. An `urgent` one, interactive or cutting in, takes the place of the
        last that is not interactive when the list is full.

        Raises:
            Refused: `queue-full` or `too-many`.
        """
        full = len(self._texts) >= self.rules.limit and not makes_room
        last = next((t for t in reversed(self._texts) if t.priority < INTERACTIVE), None) if urgent else None
        if full and last is None:
            raise Refused("queue-full", f"{self.rules.limit} texts wait already")
        kept = max(self.rules.burst, math.ceil(self.rules.rate), 1)
        heard = deque(self._heard.pop(source, ()), maxlen=kept)
        allowed = math.ceil(self.rules.rate)
        if allowed and len(heard) >= allowed and now - heard[-allowed] < allowed / self.rules.rate:
            self._heard[source] = heard
            raise Refused("too-many", f"more than {self.rules.rate:g} texts a second from {source!r}")
        heard.append(now)
        self._heard[source] = heard  # last in the dict: heard last
        if len(self._heard) > MAX_SOURCES:
            del self._heard[next(iter(self._heard))]
        if not full or last is None:
            return None
        self._texts.remove(last)
        return last

    def add(self, text: T, now: float) -> list[T]:
        """Put a text in its place; returns those that give way to it: older ones of a source that runs hot."""
        given_way = []
        if text.mode == "queue" and text.priority < INTERACTIVE and self._hot(text.source, now):
            given_way = [t for t in self._texts if t.source == text.source and t.priority < INTERACTIVE]
            self._texts = [t for t in self._texts if t not in given_way]
        self._texts.insert(0 if text.mode != "queue" else len(self._texts), text)
        self.sort(now)
        return given_way

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

    def _hot(self, source: str, now: float) -> bool:
        heard = self._heard.get(source, ())
        burst = self.rules.burst
        return 0 < burst <= len(heard) and now - heard[-burst] <= self.rules.burst_seconds

    def _place(self, text: T, now: float) -> tuple[float, float]:
        if text.mode != "queue":
            return -math.inf, -text.accepted_at  # the latest that cuts in is first
        levels = int((now - text.accepted_at) / self.rules.ageing) if self.rules.ageing else 0
        return -(text.priority + levels), text.accepted_at
