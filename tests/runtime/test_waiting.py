"""The order of waiting texts, bursts, ageing, rates."""

from dataclasses import dataclass, replace

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
    begun: bool = False


def say(waiting: WaitingList[Text], text: Text) -> list[str]:
    """Admits and adds; returns the names of those that gave way."""
    waiting.admit(text, text.accepted_at)
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


def test_the_latest_that_cuts_in_takes_the_place_of_those_before_that_are_not_interactive() -> None:
    waiting: WaitingList[Text] = WaitingList(Rules())
    say(waiting, Text("queued"))
    say(waiting, Text("first", mode="interrupt", begun=True))
    assert say(waiting, Text("second", mode="interrupt", priority=7, accepted_at=1.0)) == ["first"]
    assert say(waiting, Text("third", mode="interrupt", accepted_at=2.0)) == []
    assert names(waiting) == ["third", "second", "queued"]


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


def test_of_a_burst_of_many_sources_only_the_newest_is_kept() -> None:
    waiting: WaitingList[Text] = WaitingList(Rules(crowd=10, burst_seconds=2.0))
    gone = [name for i in range(500) for name in say(waiting, Text(str(i), accepted_at=i / 500, source=f"viewer {i}"))]
    assert names(waiting) == ["499"]
    assert gone == [str(i) for i in range(499)]


def test_in_a_crowd_nothing_gives_way_to_a_text_of_lower_priority_nor_to_an_interactive_one() -> None:
    waiting: WaitingList[Text] = WaitingList(Rules(crowd=2))
    for i, (name, priority) in enumerate([("five", 5), ("six", 6), ("seven", 7), ("host", 9), ("another", 5)]):
        gone = say(waiting, Text(name, priority=priority, source=name, accepted_at=i / 100))
        assert gone == {"six": ["five"]}.get(name, [])
    assert names(waiting) == ["host", "seven", "six", "another"]


@pytest.mark.parametrize("source", ["chat", "another"])
def test_a_text_that_is_being_written_keeps_its_place_in_a_burst(source: str) -> None:
    waiting: WaitingList[Text] = WaitingList(Rules(burst=2, crowd=2))
    writing = Text("writing", begun=True)
    say(waiting, writing)
    for i in range(5):
        say(waiting, Text(str(i), source=source if source == "chat" else f"{i}", accepted_at=i / 100))
    assert names(waiting) == ["writing", "4"]
    writing.begun = False
    assert say(waiting, Text("5", source=source, accepted_at=0.05)) == ["writing", "4"]


def test_one_loud_source_is_no_crowd_and_takes_no_place_of_others() -> None:
    waiting: WaitingList[Text] = WaitingList(Rules(limit=3, crowd=32))
    for name in ("a", "b"):
        say(waiting, Text(name, source=name))
    gone = {name for i in range(500) for name in say(waiting, Text(str(i), source="loud", accepted_at=0.5 + i / 500))}
    assert "499" in names(waiting)
    assert gone == {"a", "b"} | {str(i) for i in range(499)}
    for name in ("c", "d"):
        say(waiting, Text(name, source=name, accepted_at=1.6))
    gone = {name for i in range(500) for name in say(waiting, Text(f"+{i}", source="loud", accepted_at=1.6 + i / 500))}
    assert names(waiting) == ["c", "d", "+499"]


def test_many_sources_that_take_their_time_are_all_kept() -> None:
    waiting: WaitingList[Text] = WaitingList(Rules(crowd=10, burst_seconds=2.0))
    for i in range(40):
        assert say(waiting, Text(str(i), accepted_at=0.25 * i, source=f"viewer {i}")) == []


def test_a_crowd_of_0_never_gives_way() -> None:
    waiting: WaitingList[Text] = WaitingList(Rules(crowd=0, burst=0))
    for i in range(64):
        assert say(waiting, Text(str(i), source=f"viewer {i}")) == []


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


def test_in_a_full_list_the_oldest_of_the_least_priority_gives_way() -> None:
    waiting: WaitingList[Text] = WaitingList(Rules(limit=4))
    for i, (name, priority) in enumerate([("six", 6), ("old", 4), ("young", 4), ("seven", 7)]):
        say(waiting, Text(name, priority=priority, accepted_at=float(i)))
    gone = [say(waiting, Text(str(i), priority=5, accepted_at=4.0 + i)) for i in range(4)]
    assert gone == [["old"], ["young"], ["0"], ["1"]]
    assert names(waiting) == ["seven", "six", "2", "3"]


@pytest.mark.parametrize(
    "other", [Text("higher", priority=6), Text("interactive", priority=7), Text("writing", begun=True)]
)
def test_a_full_list_refuses_where_nobody_gives_way_unless_it_is_being_emptied(other: Text) -> None:
    waiting: WaitingList[Text] = WaitingList(Rules(limit=1))
    say(waiting, other)
    with pytest.raises(Refused, match="1 texts wait already") as caught:
        say(waiting, Text("b"))
    assert caught.value.error.code == "queue-full"
    waiting.admit(Text("c", mode="replace"), 0.0)


def test_a_refused_text_displaces_nobody() -> None:
    waiting: WaitingList[Text] = WaitingList(Rules(limit=1, rate=1.0))
    say(waiting, Text("a"))
    with pytest.raises(Refused, match="more than 1 texts a second"):
        say(waiting, Text("b"))
    assert names(waiting) == ["a"]


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
        waiting.admit(Text("x", source=f"source {i}"), float(i))
    assert len(waiting._heard) == MAX_SOURCES
    assert len(waiting._heard_of_all) == Rules().crowd


@pytest.mark.parametrize("urgent", [Text("host", priority=7), Text("host", priority=7, mode="interrupt")])
def test_an_urgent_text_takes_the_place_of_any_that_is_not_interactive(urgent: Text) -> None:
    waiting: WaitingList[Text] = WaitingList(Rules(limit=3))
    for text in (Text("interactive", priority=8), Text("writing", priority=5, begun=True), Text("last", priority=6)):
        say(waiting, text)
    assert [say(waiting, replace(urgent, name=name)) for name in ("a", "b")] == [["last"], ["writing"]]
    assert len(waiting) == 3
    only: WaitingList[Text] = WaitingList(Rules(limit=1))
    say(only, Text("interactive", priority=7))
    with pytest.raises(Refused):
        say(only, urgent)


def test_a_text_that_cuts_in_gets_into_a_full_list_whatever_its_priority() -> None:
    waiting: WaitingList[Text] = WaitingList(Rules(limit=1))
    say(waiting, Text("six", priority=6))
    assert say(waiting, Text("cut", priority=0, mode="interrupt")) == ["six"]
