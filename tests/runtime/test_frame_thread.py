import logging
import threading

import numpy as np
import pytest

from kff_live.protocols import kernels
from kff_live.protocols.channels import Pose
from kff_live.protocols.frames import Frame, FrameRate
from kff_live.runtime.clock import ManualClock, SystemClock
from kff_live.runtime.frame_thread import FrameThread, Lane
from kff_live.runtime.player import Player

RATES = [FrameRate(60), FrameRate(30000, 1001), FrameRate(24), FrameRate(1000)]


class Keep:
    def __init__(self) -> None:
        self.frames: list[Frame] = []

    def send(self, frame: Frame) -> None:
        self.frames.append(frame)


class Troubled(ManualClock):
    """A clock on which at some ticks something goes wrong: `trouble[tick]` seconds pass besides, or come back."""

    def __init__(self, trouble: dict[int, float], start: float = 50.0) -> None:
        super().__init__(start)
        self._trouble = trouble
        self.sleeps: list[float] = []

    def sleep_until(self, deadline: float) -> None:
        self.sleeps.append(deadline - self.now())
        super().sleep_until(deadline)
        self.advance(self._trouble.pop(len(self.sleeps) - 1, 0.0))


def frames(
    trouble: dict[int, float], ticks: int, *, rate: FrameRate | None = None, start_seconds: float = 0.0
) -> tuple[list[Frame], FrameThread, Troubled]:
    keep, clock, rate = Keep(), Troubled(trouble), rate or FrameRate()
    thread = FrameThread(clock, rate, [Lane(Player("Face", rate), [keep])], start_seconds=start_seconds)
    thread.run(ticks)
    return keep.frames, thread, clock


def numbers(found: list[Frame]) -> list[int]:
    return [frame.number for frame in found]


@pytest.mark.parametrize("rate", RATES, ids=str)
def test_on_time_every_number_comes_once(rate: FrameRate) -> None:
    found, thread, clock = frames({}, 5000, rate=rate)
    assert numbers(found) == list(range(5000))
    assert all(frame.subframe == pytest.approx(0.0, abs=1e-6) for frame in found)
    assert thread.stats.skipped == 0
    assert clock.now() == pytest.approx(50.0 + 4999 * rate.period)
    assert found[0].rate == rate


@pytest.mark.parametrize("rate", RATES, ids=str)
def test_the_first_number_is_the_time_of_day(rate: FrameRate) -> None:
    found, _, _ = frames({}, 1, rate=rate, start_seconds=86399.9)
    assert found[0].number == int(86399.9 * rate.hz)


def test_a_little_late_is_told_by_the_sub_frame() -> None:
    found, thread, _ = frames({3: 0.25 / 60}, 6)
    assert numbers(found) == [0, 1, 2, 3, 4, 5]
    assert [frame.subframe for frame in found] == pytest.approx([0, 0, 0, 0.25, 0, 0], abs=1e-6)
    assert thread.stats.skipped == 0
    assert thread.stats.take_worst_late() == pytest.approx(0.25 / 60)
    assert thread.stats.take_worst_late() == 0.0


def test_after_a_stall_frames_are_skipped_and_counted_and_none_comes_in_a_burst() -> None:
    found, thread, clock = frames({3: 0.5 + 0.4 / 60}, 10)
    assert numbers(found) == [0, 1, 2, 33, 34, 35, 36, 37, 38, 39]
    assert thread.stats.skipped == 30
    assert found[3].subframe == pytest.approx(0.4, abs=1e-5)
    assert clock.sleeps[4] == pytest.approx(0.6 / 60)  # the next tick is waited for
    assert all(sleep == pytest.approx(1 / 60) for sleep in clock.sleeps[5:])


@pytest.mark.parametrize("late", [1.0, 2.0, 0.9999999, 1.9999999, 59.5])
def test_sub_frames_are_below_1_at_every_lateness(late: float) -> None:
    found, _, _ = frames({i: late / 60 for i in range(1, 100, 3)}, 200)
    assert all(0.0 <= frame.subframe < 1.0 for frame in found)
    assert all(np.float32(frame.subframe) < 1.0 for frame in found)
    assert (np.diff(numbers(found)) > 0).all()


def test_a_clock_that_jumps_forward_skips() -> None:
    found, thread, clock = frames({5: 3600.0}, 20)
    assert (np.diff(numbers(found)) > 0).all()
    assert found[5].number == 5 + 216000
    assert thread.stats.skipped == 216000
    assert max(clock.sleeps[6:]) <= 1.01 / 60


@pytest.mark.parametrize("back", [0.001, 0.02, 0.05, 1.0, 3600.0])
def test_a_clock_that_jumps_back_neither_stops_nor_repeats(back: float) -> None:
    found, _, clock = frames({5: -back}, 60)
    assert numbers(found) == list(range(60))
    assert max(clock.sleeps) < 4 / 60  # never waits for the lost time
    assert all(0.0 <= frame.subframe < 1.0 for frame in found)


def test_numbers_rise_strictly_whatever_the_clock_does() -> None:
    r = np.random.default_rng(7)
    trouble = {int(i): float(x) for i, x in zip(r.integers(0, 3000, 300), r.normal(0, 0.3, 300), strict=True)}
    found, thread, _ = frames(trouble, 3000, rate=FrameRate(30000, 1001))
    assert (np.diff(numbers(found)) > 0).all()
    assert all(0.0 <= frame.subframe < 1.0 for frame in found)
    assert found[-1].number == 2999 + thread.stats.skipped


class Broken:
    def __init__(self) -> None:
        self.calls = 0

    def send(self, frame: Frame) -> None:
        self.calls += 1
        raise RuntimeError("the cable is loose")


def test_a_sink_that_raises_stops_no_other_and_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    before, broken, after, other = Keep(), Broken(), Keep(), Keep()
    rate = FrameRate()
    lanes = [Lane(Player("A", rate), [before, broken, after]), Lane(Player("B", rate), [other])]
    thread = FrameThread(ManualClock(), rate, lanes)
    with caplog.at_level(logging.WARNING):
        thread.run(100)
    assert len(before.frames) == len(after.frames) == len(other.frames) == broken.calls == 100
    assert thread.stats.sink_errors == 100
    assert [record.getMessage() for record in caplog.records] == ["Broken cannot send: the cable is loose"]


def test_every_subject_gets_its_own_frames_at_the_same_tick() -> None:
    keep, rate = Keep(), FrameRate()
    lanes = [Lane(Player(name, rate), [keep]) for name in ("A", "B", "C")]
    FrameThread(ManualClock(), rate, lanes).run(3)
    assert [(f.subject, f.number) for f in keep.frames] == [(s, n) for n in range(3) for s in "ABC"]


class Until:
    """A sink that sets an event at the n-th frame."""

    def __init__(self, count: int) -> None:
        self.reached = threading.Event()
        self.frames: list[Frame] = []
        self._count = count

    def send(self, frame: Frame) -> None:
        self.frames.append(frame)
        if len(self.frames) == self._count:
            self.reached.set()


def test_in_a_thread_of_its_own_it_ticks_until_stopped() -> None:
    sink, rate = Until(10), FrameRate(200)
    thread = FrameThread(SystemClock(), rate, [Lane(Player("Face", rate), [sink])])
    thread.start()
    try:
        assert sink.reached.wait(10.0)
    finally:
        thread.stop()
    count = len(sink.frames)
    assert not [t for t in threading.enumerate() if t.name == "frames"]
    assert len(sink.frames) == count
    assert (np.diff(numbers(sink.frames)) > 0).all()


def test_stopping_what_never_started_is_no_error() -> None:
    FrameThread(SystemClock(), FrameRate(), []).stop()


def test_a_bug_in_a_layer_costs_the_layer_and_not_the_face(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def apply(self, now: float, pose: Pose) -> None:
            if now > 50.1:
                raise ZeroDivisionError("idle")

    clock, keep, other = Troubled({}), Keep(), Keep()
    player = Player("Face", FrameRate())
    player.use(kernels, idle=Broken())
    thread = FrameThread(
        clock, FrameRate(), [Lane(player, [keep]), Lane(Player("Second", FrameRate()), [other])], start_seconds=0.0
    )
    thread.run(30)
    assert numbers(keep.frames) == numbers(other.frames) == list(range(30))
    assert [record.message for record in caplog.records] == [
        "Face goes on without idle and live layers: ZeroDivisionError('idle')"
    ]
