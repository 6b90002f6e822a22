import numpy as np
import pytest

from kff_live.protocols import kernels
from kff_live.protocols.channels import COUNT, INDEX, Pose, neutral, pose_from_names
from kff_live.protocols.easing import EASINGS
from kff_live.protocols.keyframes import Keyframe
from kff_live.protocols.track import EMPTY, Timeline, Track

JAW = INDEX["JawOpen"]
START = pose_from_names({"JawOpen": 0.2, "MouthFunnel": 0.5})


def jaw(level: float, *, way: float = 1.0, hold: float = 0.0, easing: str = "linear") -> Keyframe:
    return Keyframe(pose_from_names({"JawOpen": level}), way=way, hold=hold, easing=easing)


def sample(track: Track, t: float, start: Pose = START) -> tuple[int, Pose]:
    out = neutral()
    return kernels.sample(t, track.begins, track.ways, track.easings, track.poses, start, out), out


def two_keys() -> Track:
    """From 0.2 to 1.0 in [0, 1], hold until 3, to 0.0 in [3, 4]."""
    timeline = Timeline()
    timeline.append(jaw(1.0, hold=2.0))
    return timeline.append(jaw(0.0))


def test_empty_track_keeps_the_pose_it_started_from() -> None:
    for t in (-1.0, 0.0, 100.0):
        key, pose = sample(EMPTY, t)
        assert key == -1
        assert np.array_equal(pose, START)
    assert len(EMPTY) == 0


@pytest.mark.parametrize("t", [-10.0, -1e-9])
def test_before_the_first_key_the_start_is_kept(t: float) -> None:
    key, pose = sample(two_keys(), t)
    assert key == -1
    assert np.array_equal(pose, START)


def test_before_a_first_key_that_came_late_the_start_is_kept() -> None:
    timeline = Timeline()
    track = timeline.append(jaw(1.0), at=5.0)
    assert [sample(track, t)[0] for t in (0.0, 4.999, 5.0)] == [-1, -1, 0]
    assert np.array_equal(sample(track, 4.999)[1], START)


@pytest.mark.parametrize(
    ("t", "key", "level"),
    [
        (0.0, 0, 0.2),  # at the beginning of the first way
        (0.5, 0, 0.6),  # on the way
        (1.0, 0, 1.0),  # arrived
        (2.0, 0, 1.0),  # on hold
        (3.0, 1, 1.0),  # the next way begins where the last pose was
        (3.25, 1, 0.75),  # between keys
        (4.0, 1, 0.0),  # arrived at the last
        (1000.0, 1, 0.0),  # kept for ever
    ],
)
def test_on_a_key_between_keys_and_after_the_last(t: float, key: int, level: float) -> None:
    reached, pose = sample(two_keys(), t)
    assert reached == key
    assert pose[JAW] == pytest.approx(level, abs=1e-6)


def test_on_a_key_the_pose_is_exactly_the_keyframes() -> None:
    for t, index in ((1.0, 0), (2.999, 0), (4.0, 1), (9.0, 1)):
        track = two_keys()
        assert np.array_equal(sample(track, t)[1], track.poses[index])


def test_every_channel_travels_from_the_start_to_its_own_value() -> None:
    _, pose = sample(two_keys(), 0.5)
    expected = (START + two_keys().poses[0]) / 2
    assert pose == pytest.approx(expected)


def test_a_way_of_no_time_jumps_at_its_beginning() -> None:
    track = Timeline().append(jaw(1.0, way=0.0))
    assert [sample(track, t)[1][JAW] for t in (-0.001, 0.0, 0.001)] == pytest.approx([0.2, 1.0, 1.0])


def test_a_step_jumps_at_the_end_of_its_way() -> None:
    track = Timeline().append(jaw(1.0, easing="step"))
    assert [sample(track, t)[1][JAW] for t in (0.0, 0.999, 1.0)] == pytest.approx([0.2, 0.2, 1.0])


@pytest.mark.parametrize("easing", EASINGS)
def test_easing_belongs_to_the_arrival(easing: str) -> None:
    timeline = Timeline()
    timeline.append(jaw(1.0, easing="linear"))
    track = timeline.append(jaw(0.0, easing=easing))
    assert sample(track, 0.25)[1][JAW] == pytest.approx(0.4)  # not changed by the next key's easing
    assert sample(track, 1.25)[1][JAW] == pytest.approx(1.0 - kernels.ease(EASINGS.index(easing), 0.25), abs=1e-6)


# --- Timeline -----------------------------------------------------------------------------------------------------


def test_keyframes_follow_each_other_hold_after_way() -> None:
    timeline = Timeline()
    assert (timeline.end, timeline.underruns, timeline.track) == (0.0, 0, EMPTY)
    timeline.append(jaw(1.0, way=0.5, hold=2.0))
    assert timeline.end == 2.5
    timeline.append(jaw(0.0, way=0.25))
    assert timeline.end == 2.75
    assert timeline.track.begins.tolist() == [0.0, 2.5]
    assert timeline.track.ways.tolist() == [0.5, 0.25]
    assert timeline.underruns == 0


def test_keyframe_in_time_waits_for_the_hold_and_counts_no_underrun() -> None:
    timeline = Timeline()
    timeline.append(jaw(1.0, way=0.5, hold=0.5))
    for at in (0.1, 1.0):  # the second arrives just as the hold ends
        fresh = Timeline(timeline.track, timeline.end)
        assert fresh.append(jaw(0.0), at=at).begins.tolist() == [0.0, 1.0]
        assert fresh.underruns == 0


def test_late_keyframe_begins_at_its_arrival_and_counts_an_underrun() -> None:
    timeline = Timeline()
    timeline.append(jaw(1.0, way=0.5, hold=0.5))
    timeline.append(jaw(0.0, way=0.5), at=1.75)
    assert timeline.track.begins.tolist() == [0.0, 1.75]
    assert (timeline.end, timeline.underruns) == (2.25, 1)
    assert sample(timeline.track, 1.7)[1][JAW] == 1.0  # holds meanwhile
    timeline.append(jaw(1.0), at=2.0)
    assert (timeline.track.begins[2], timeline.underruns) == (2.25, 1)


def test_first_keyframe_is_never_an_underrun() -> None:
    timeline = Timeline()
    timeline.append(jaw(1.0), at=3.0)
    assert (timeline.track.begins.tolist(), timeline.end, timeline.underruns) == ([3.0], 4.0, 0)


@pytest.mark.parametrize("seed", range(20))
def test_appending_keeps_every_earlier_sample(seed: int) -> None:
    rng = np.random.default_rng(seed)
    timeline, now = Timeline(), 0.0
    for _ in range(8):
        before, old_end = timeline.track, max(timeline.end, now)
        times = [*rng.uniform(-0.5, old_end, 20), now, np.nextafter(old_end, -1.0)]
        expected = [sample(before, t) for t in times if t < old_end]
        pose = rng.random(COUNT).astype(np.float32)
        easing = EASINGS[rng.integers(len(EASINGS))]
        after = timeline.append(Keyframe(pose, way=rng.uniform(0, 1), hold=rng.uniform(0, 1), easing=easing), at=now)
        for (key, old), (new_key, new) in zip(expected, [sample(after, t) for t in times if t < old_end], strict=True):
            assert key == new_key
            assert np.array_equal(old, new)
        now += rng.uniform(0, 2)


def test_track_cannot_be_written_to_and_is_not_changed_by_appending() -> None:
    timeline = Timeline()
    first = timeline.append(jaw(1.0))
    timeline.append(jaw(0.0))
    assert (len(first), len(timeline.track), len(EMPTY)) == (1, 2, 0)
    for track in (EMPTY, first, timeline.track):
        for array in (track.begins, track.ways, track.easings, track.poses):
            assert not array.flags.writeable
            assert array.flags.c_contiguous


def test_arrays_have_the_types_that_the_kernels_are_compiled_for() -> None:
    for track in (EMPTY, two_keys()):
        assert [array.dtype for array in (track.begins, track.ways, track.easings, track.poses)] == [
            np.float64, np.float64, np.int8, np.float32,
        ]  # fmt: skip
        assert track.poses.shape == (len(track), COUNT)


# --- moving keys in time ------------------------------------------------------------------------------------------


def four_keys() -> Timeline:
    """Arrivals at 1, 3, 5 and 7, each after a way of 1 and before a hold of 1."""
    timeline = Timeline()
    for level in (0.2, 0.4, 0.6, 0.8):
        timeline.append(jaw(level, hold=1.0))
    return timeline


def placed(timeline: Timeline) -> list[tuple[float, float, float]]:
    """Begin, arrival and level of each key."""
    track = timeline.track
    levels = [round(float(pose[JAW]), 6) for pose in track.poses]
    return list(zip(track.begins.tolist(), (track.begins + track.ways).tolist(), levels, strict=True))


@pytest.mark.parametrize(
    ("now", "by", "left", "expected", "end"),
    [
        # before the first key: all of them
        (-1.0, 0.5, 0, [(0.5, 1.5, 0.2), (2.5, 3.5, 0.4), (4.5, 5.5, 0.6), (6.5, 7.5, 0.8)], 8.5),
        (-1.0, -0.5, 0, [(-0.5, 0.5, 0.2), (1.5, 2.5, 0.4), (3.5, 4.5, 0.6), (5.5, 6.5, 0.8)], 7.5),
        # on the way: it arrives later or earlier, from now on
        (2.5, 0.25, 1, [(2.5, 3.25, 0.4), (4.25, 5.25, 0.6), (6.25, 7.25, 0.8)], 8.25),
        (2.5, -0.25, 1, [(2.5, 2.75, 0.4), (3.75, 4.75, 0.6), (5.75, 6.75, 0.8)], 7.75),
        # not in more than twice its way, nor in less than half of what is left of it
        (2.5, 9.0, 1, [(2.5, 4.5, 0.4), (13.0, 14.0, 0.6), (15.0, 16.0, 0.8)], 17.0),
        (2.5, -1.0, 1, [(2.5, 2.75, 0.4), (3.0, 4.0, 0.6), (5.0, 6.0, 0.8)], 7.0),
        # on hold: what is reached stays reached
        (3.5, 0.25, 2, [(4.25, 5.25, 0.6), (6.25, 7.25, 0.8)], 8.25),
        (3.5, -0.75, 2, [(3.5, 4.25, 0.6), (5.25, 6.25, 0.8)], 7.25),
        (3.5, 4.0, 2, [(8.0, 9.0, 0.6), (10.0, 11.0, 0.8)], 12.0),
        # the sound is far ahead: keys that it has passed are left out, never the last
        (2.5, -3.5, 3, [(2.5, 3.5, 0.8)], 4.5),
        (0.5, -100.0, 3, [(0.5, 1.0, 0.8)], 1.0),
    ],
)
def test_keys_that_are_not_reached_are_moved(
    now: float, by: float, left: int, expected: list[tuple[float, float, float]], end: float
) -> None:
    timeline = four_keys()
    assert timeline.retime(by, now=now) == left
    assert placed(timeline) == [pytest.approx(key) for key in expected]
    assert timeline.end == pytest.approx(end)
    timeline.append(jaw(1.0))
    assert placed(timeline)[-1] == pytest.approx((end, end + 1.0, 1.0))


@pytest.mark.parametrize(("by", "end"), [(1.5, 9.5), (-0.5, 7.5), (-3.0, 7.0)])
def test_where_all_is_reached_only_the_last_hold_is_moved(by: float, end: float) -> None:
    timeline = four_keys()
    track = timeline.track
    assert timeline.retime(by, now=7.25) == 0
    assert timeline.track is track
    assert timeline.end == end


def test_an_empty_track_has_nothing_to_move() -> None:
    timeline = Timeline()
    assert timeline.retime(-1.0, now=5.0) == 0
    assert (timeline.track, timeline.end) == (EMPTY, 0.0)


@pytest.mark.parametrize("seed", range(30))
def test_a_moved_track_keeps_the_laws_of_tracks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    timeline = Timeline()
    for _ in range(rng.integers(1, 7)):
        timeline.append(jaw(rng.random(), way=rng.uniform(0, 1), hold=rng.uniform(0, 1)), at=rng.uniform(0, 4))
    now = 0.0
    for _ in range(8):
        count = len(timeline.track)
        left = timeline.retime(rng.normal(), now=now)
        track = timeline.track
        assert len(track) == count - left > 0
        assert (track.begins[1:] >= (track.begins + track.ways)[:-1] - 1e-12).all()
        assert timeline.end >= track.begins[-1] + track.ways[-1] - 1e-12
        assert (track.ways >= 0.0).all()
        for array in (track.begins, track.ways, track.easings, track.poses):
            assert not array.flags.writeable
            assert array.flags.c_contiguous
        now += rng.uniform(0, 0.5)
