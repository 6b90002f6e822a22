"""The order of waiting texts, bursts, ageing, rates."""

from dataclasses import dataclass

import pytest

from kff_live.protocols.messages import Mode, Refused
from kff_live.runtime.waiting import MAX_SOURCES, Rules, WaitingList


@dataclass(eq=False)
class Text:
    name: str
    accepted_at: float = 0.0
    priority: int = 5
    source: str = "chat"
    mode: Mode = "queue"


def say(waiting: WaitingList[Text], text: Text) -> list[str]:
    """Admits and adds; returns the names of those that gave way."""
    waiting.admit(text.source, makes_room=False, now=text.accepted_at)
    return [t.name for t in waiting.add(text, text.accepted_at)]


def names(waiting: WaitingList[Text]) -> list[str]:
    return [text.name for text in waiting]


def test_texts_of_one_priority_keep_their_order() -> None:
    waiting: WaitingList[Text] = WaitingList(Rules())
    for i in range(5):
        say(waiting, Text(str(i), accepted_at=i * 0.01))
    assert names(waiting) == ["0", "1", "2", "3", "4"]


def test_higher_priority_goes_first_and_what_cuts_in_goes_before_all() -> None:
    waiting: WaitingList[Text] = WaitingList(Rules())
    for text in (Text("low", priority=1), Text("high", priority=9), Text("cut", priority=0, mode="interrupt")):
        say(waiting, text)
    assert names(waiting) == ["cut", "high", "low"]


def test_the_latest_that_cuts_in_is_first() -> None:
    waiting: WaitingList[Text] = WaitingList(Rules())
    for name in ("first", "second"):
        say(waiting, Text(name, mode="interrupt"))
    assert names(waiting) == ["second", "first"]


def test_age_lifts_a_text_above_newer_ones_of_higher_priority() -> None:
    waiting: WaitingList[Text] = WaitingList(Rules(ageing=10.0))
    say(waiting, Text("old", accepted_at=0.0, priority=3))
    say(waiting, Text("new", accepted_at=19.0, priority=5))
    assert names(waiting) == ["new", "old"]
    waiting.sort(20.5)
    assert names(waiting) == ["old", "new"]


def test_of_a_burst_of_one_source_only_the_newest_is_kept() -> None:
    waiting: WaitingList[Text] = WaitingList(Rules(burst=10, burst_seconds=2.0))
    say(waiting, Text("other", source="somebody else"))
    gone = [name for i in range(500) for name in say(waiting, Text(str(i), accepted_at=i / 500))]
    assert names(waiting) == ["other", "499"]
    assert gone == [str(i) for i in range(499)]


def test_slow_texts_of_one_source_are_all_kept() -> None:
    waiting: WaitingList[Text] = WaitingList(Rules(burst=10, burst_seconds=2.0))
    for i in range(40):
        assert say(waiting, Text(str(i), accepted_at=0.25 * i)) == []
    assert len(waiting) == 40


def test_interactive_texts_neither_give_way_nor_push_others_out() -> None:
    waiting: WaitingList[Text] = WaitingList(Rules(burst=2))
    for i in range(20):
        assert say(waiting, Text(str(i), accepted_at=i / 1000, priority=7)) == []
    say(waiting, Text("a", accepted_at=0.1))
    assert say(waiting, Text("b", accepted_at=0.1)) == ["a"]
    assert len(waiting) == 21


def test_a_full_list_refuses_unless_it_is_being_emptied() -> None:
    waiting: WaitingList[Text] = WaitingList(Rules(limit=2))
    say(waiting, Text("a"))
    say(waiting, Text("b"))
    with pytest.raises(Refused, match="2 texts wait already"):
        waiting.admit("chat", makes_room=False, now=0.0)
    waiting.admit("chat", makes_room=True, now=0.0)


def test_a_text_that_has_waited_too_long_is_dropped_unless_somebody_waits_for_it() -> None:
    waiting: WaitingList[Text] = WaitingList(Rules(longest=30.0))
    say(waiting, Text("old"))
    say(waiting, Text("interactive", priority=7))
    say(waiting, Text("young", accepted_at=20.0))
    assert [text.name for text in waiting.expire(31.0)] == ["old"]
    assert names(waiting) == ["interactive", "young"]


def test_a_source_that_exceeds_its_rate_is_refused_and_others_are_not() -> None:
    waiting: WaitingList[Text] = WaitingList(Rules(rate=5.0, burst=0))
    accepted = 0
    for i in range(100):
        try:
            say(waiting, Text(str(i), accepted_at=i / 50))
            accepted += 1
        except Refused as refused:
            assert refused.error.code == "too-many"
    assert 5 <= accepted <= 15  # two seconds at five a second
    say(waiting, Text("other", source="another", accepted_at=1.99))


def test_the_memory_of_sources_is_bounded() -> None:
    waiting: WaitingList[Text] = WaitingList(Rules(limit=10**6))
    for i in range(3 * MAX_SOURCES):
        waiting.admit(f"source {i}", makes_room=False, now=float(i))
    assert len(waiting._heard) == MAX_SOURCES


def test_an_urgent_text_takes_the_place_of_the_last_that_is_not_interactive() -> None:
    waiting: WaitingList[Text] = WaitingList(Rules(limit=3))
    for text in (Text("interactive", priority=8), Text("first"), Text("last", accepted_at=1.0)):
        say(waiting, text)
    displaced = waiting.admit("host", urgent=True, now=2.0)
    assert displaced is not None
    assert displaced.name == "last"
    assert names(waiting) == ["interactive", "first"]
    only: WaitingList[Text] = WaitingList(Rules(limit=1))
    say(only, Text("interactive", priority=7))
    with pytest.raises(Refused):
        only.admit("host", urgent=True, now=2.0)
