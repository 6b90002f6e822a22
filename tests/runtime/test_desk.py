"""The desk tells sinks what happens, and one that fails troubles nobody."""

import logging
from collections.abc import Sequence

import pytest

from kff_live.protocols.frames import Frame, FrameRate
from kff_live.protocols.messages import Dropped, Event, Model, Started
from kff_live.runtime.clock import ManualClock
from kff_live.runtime.desk import Desk
from kff_live.runtime.director import Director
from kff_live.runtime.frame_thread import Sink
from kff_live.runtime.model.generator import ScriptedGenerator
from kff_live.runtime.player import Player


class Frames:
    """A sink of frames alone."""

    def send(self, frame: Frame) -> None: ...


class Events(Frames):
    """A sink that takes events."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Event]] = []

    def event(self, subject: str, event: Event) -> None:
        self.heard.append((subject, event))


class Broken(Frames):
    def __init__(self) -> None:
        self.asked = 0

    def event(self, subject: str, event: Event) -> None:
        self.asked += 1
        raise ValueError("no broker")


def desk(sinks: dict[str, Sequence[Sink]]) -> Desk:
    clock = ManualClock()
    made = Desk({name: Director(Player(name, FrameRate()), ScriptedGenerator(), clock) for name in sinks})
    made.sinks_of = sinks.__getitem__
    return made


def test_a_sink_hears_the_events_of_its_subjects_and_of_the_model() -> None:
    ada, both = Events(), Events()
    told = desk({"Ada": [Frames(), ada, both], "Bob": [both]})
    events: list[Event] = [Started("1", "Ada"), Dropped("2", "Bob", "full"), Model("ready")]
    for event in events:
        told.tell(event)
    assert ada.heard == [("Ada", events[0]), ("", events[2])]
    assert both.heard == [("Ada", events[0]), ("Bob", events[1]), ("", events[2])]


def test_a_sink_that_fails_is_reported_once_and_silences_nobody(caplog: pytest.LogCaptureFixture) -> None:
    broken, other, heard = Broken(), Events(), list[Event]()
    told = desk({"Ada": [broken, other]})
    told.listeners.append(heard.append)
    with caplog.at_level(logging.ERROR):
        for _ in range(5):
            told.tell(Model("down"))
    assert broken.asked == len(other.heard) == len(heard) == 5
    assert [record.message for record in caplog.records] == ["Broken cannot take events: ValueError('no broker')"]


def test_sinks_may_change_while_events_are_told() -> None:
    sinks: dict[str, Sequence[Sink]] = {"Ada": []}
    told = desk(sinks)
    told.tell(Model("loading"))
    late = Events()
    sinks["Ada"] = [late]
    told.tell(Model("ready"))
    assert late.heard == [("", Model("ready"))]
