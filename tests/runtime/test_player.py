import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kff_live.protocols import kernels
from kff_live.protocols.channels import HIGH, INDEX, LOW, Pose, neutral, pose_from_names
from kff_live.protocols.easing import EASINGS
from kff_live.protocols.frames import FrameRate
from kff_live.protocols.keyframes import Keyframe, release
from kff_live.protocols.talk import kernels as talk_kernels
from kff_live.protocols.talk.speech import Word, speech_from_text, speech_from_words
from kff_live.protocols.track import EMPTY, Timeline, Track
from kff_live.runtime.player import Plan, Player, Settings

JAW, SMILE, YAW = INDEX["JawOpen"], INDEX["MouthSmileLeft"], INDEX["HeadYaw"]
STEP = 1e-3


def key(jaw: float = 0.0, smile: float = 0.0, yaw: float = 0.0, **fields: float | str) -> Keyframe:
    pose = pose_from_names({"JawOpen": jaw, "MouthSmileLeft": smile, "HeadYaw": yaw})
    return Keyframe(pose, **fields)  # type: ignore[arg-type]


def track(*keyframes: Keyframe) -> Track:
    timeline = Timeline()
    for keyframe in keyframes:
        timeline.append(keyframe)
    return timeline.track


def player(settings: Settings | None = None) -> Player:
    made = Player("Face", FrameRate(), settings=settings)
    made.use(kernels)
    return made


def poses(
    player: Player, begin: float, end: float, *, plans: list[tuple[float, Plan]] | None = None, step: float = STEP
) -> Pose:
    """float32[n, 61]: the poses from `begin` to `end`; each plan is handed over at its time."""
    waiting = sorted(plans or [], key=lambda item: item[0])
    found = []
    for i in range(round((end - begin) / step) + 1):
        now = begin + i * step
        while waiting and now >= waiting[0][0] - 1e-9:
            player.plan = waiting.pop(0)[1]
        found.append(player.frame(now, i, 0.0).pose)
    return np.array(found)


def test_before_any_plan_the_face_is_neutral() -> None:
    frame = player().frame(5.0, 7, 0.25)
    assert np.array_equal(frame.pose, neutral())
    assert (frame.subject, frame.number, frame.subframe, frame.utterance, frame.key) == ("Face", 7, 0.25, None, -1)
    assert frame.rate == FrameRate()


def test_an_empty_plan_keeps_the_displayed_pose() -> None:
    p = player()
    shown = poses(p, 0.0, 1.0, plans=[(0.0, Plan(track(key(jaw=0.7)), 0.0, 1))])[-1]
    p.plan = Plan(EMPTY, 1.0, 2)
    assert np.allclose(poses(p, 1.0, 3.0), shown)


def test_a_pose_cannot_be_changed_by_who_gets_it() -> None:
    frame = player().frame(0.0, 0, 0.0)
    with pytest.raises(ValueError, match="read-only"):
        frame.pose[0] = 1.0


def test_frames_tell_utterance_and_key() -> None:
    p = player()
    p.plan = Plan(track(key(jaw=0.5, way=0.4, hold=0.2), key(jaw=0.1, way=0.4)), 10.0, 1, "u")
    told = [(p.frame(t, 0, 0.0).utterance, p.frame(t, 0, 0.0).key) for t in (9.9, 10.0, 10.3, 10.5, 10.7, 99.0)]
    assert told == [("u", -1), ("u", 0), ("u", 0), ("u", 0), ("u", 1), ("u", 1)]


def test_peaks_are_reached_at_arrival_and_kept() -> None:
    p = player()
    moved = poses(
        p, 0.0, 1.2, plans=[(0.0, Plan(track(key(jaw=0.8, yaw=-0.4, way=0.5, hold=0.3), key(way=0.4)), 0.0, 1))]
    )
    assert moved[500][[JAW, YAW]] == pytest.approx([0.8, -0.4], abs=1e-6)
    assert moved[800][[JAW, YAW]] == pytest.approx([0.8, -0.4], abs=1e-6)
    assert np.allclose(moved[1200], 0.0, atol=1e-6)


CUT_AT = (0.05, 0.2, 0.25, 0.333, 0.4, 0.5, 0.65)


@pytest.mark.parametrize("cut_at", CUT_AT)
@pytest.mark.parametrize("easing", ["cubic", "sine", "linear", "quadout", "back"])
@pytest.mark.parametrize("way", [0.1, 0.4, 2.0])
def test_position_and_velocity_go_on_across_a_cut(cut_at: float, easing: str, way: float) -> None:
    p = player()
    old = track(key(jaw=0.6, smile=0.5, yaw=0.5, way=0.5, easing="sine"), key(jaw=0.3, yaw=-0.5, way=0.5))
    new = track(key(jaw=0.2, smile=0.9, yaw=0.9, way=way, easing=easing))
    x = poses(p, 0.0, 1.0, plans=[(0.0, Plan(old, 0.0, 1)), (cut_at, Plan(new, cut_at, 2))]).astype(np.float64)
    i = round(cut_at / STEP)
    # The first frame of the new plan shows what the old one would have shown.
    undisturbed = player()
    would = poses(undisturbed, 0.0, cut_at, plans=[(0.0, Plan(old, 0.0, 1))])[-1]
    assert np.allclose(x[i], would, atol=1e-6)
    # Velocity before and after: what an acceleration of 400/s^2 changes in a step and a half, and no jump.
    before, after = (x[i] - x[i - 1]) / STEP, (x[i + 1] - x[i]) / STEP
    assert np.abs(after - before).max() < 0.6


def test_the_continuity_test_would_see_a_pop() -> None:
    old, new = track(key(jaw=0.6, way=0.5)), track(key(jaw=0.2, way=0.4))
    velocity = np.diff(poses(player(), 0.0, 0.6, plans=[(0.0, Plan(old, 0.0, 1))])[:, JAW]) / STEP
    assert velocity[249] > 2.0  # a cut there without the old velocity would change it by as much
    assert len(new)


def test_a_cut_in_a_cut_goes_on_as_well() -> None:
    p = player()
    plans = []
    for i in range(12):
        at = 0.3 + 0.07 * i
        plans.append((at, Plan(track(key(jaw=float(i % 2), yaw=0.9 - 1.8 * (i % 2), way=0.3)), at, i + 2)))
    x = poses(p, 0.0, 2.0, plans=[(0.0, Plan(track(key(jaw=1.0, way=0.3)), 0.0, 1)), *plans]).astype(np.float64)
    assert np.abs(np.diff(x, axis=0)).max() < 0.03
    assert np.abs(np.diff(x, 2, axis=0)).max() < 3e-3
    assert (x >= LOW - 1e-6).all()
    assert (x <= HIGH + 1e-6).all()
    assert x[-1][JAW] == pytest.approx(1.0)


def test_at_60_frames_the_change_of_speed_at_a_cut_is_one_that_easing_makes() -> None:
    step = 1 / 60
    easing_alone = poses(player(), 0.0, 1.0, plans=[(0.0, Plan(track(key(jaw=1.0, way=0.3)), 0.0, 1))], step=step)
    allowed = np.abs(np.diff(easing_alone[:, JAW], 2)).max()
    for i in range(1, 18):
        at = i * step
        cut = Plan(track(key(jaw=0.0, way=0.3)), at, 2)
        x = poses(player(), 0.0, 1.0, plans=[(0.0, Plan(track(key(jaw=1.0, way=0.3)), 0.0, 1)), (at, cut)], step=step)
        change = np.abs(np.diff(x[:, JAW], 2))
        assert change[i - 1] < allowed
        assert change.max() < 2.5 * allowed  # a motion that turns round just before the limit brakes harder


def test_the_offset_of_a_cut_is_gone_when_the_new_key_is_reached() -> None:
    p = player()
    plans = [
        (0.0, Plan(track(key(jaw=0.9, way=0.4)), 0.0, 1)),
        (0.2, Plan(track(key(jaw=0.1, way=0.4, hold=1.0)), 0.2, 2)),
    ]
    x = poses(p, 0.0, 1.0, plans=plans)
    assert np.allclose(x[600:, JAW], 0.1, atol=1e-6)


def test_an_appended_keyframe_keeps_every_earlier_sample() -> None:
    first, second = key(jaw=0.6, way=0.4, hold=0.2), key(jaw=0.2, way=0.4)
    alone = poses(player(), 0.0, 1.2, plans=[(0.0, Plan(track(first), 0.0, 1))])
    both = poses(
        player(), 0.0, 1.2, plans=[(0.0, Plan(track(first), 0.0, 1)), (0.5, Plan(track(first, second), 0.0, 1))]
    )
    assert np.array_equal(alone[:601], both[:601])
    assert both[1000, JAW] == pytest.approx(0.2, abs=1e-6)


def test_a_plan_that_was_never_displayed_leaves_no_trace() -> None:
    def way(plans: Callable[[float], list[tuple[float, Plan]]]) -> Pose:
        return poses(player(), 0.0, 1.0, plans=[(0.0, Plan(track(key(jaw=0.5, way=0.4)), 0.0, 1)), *plans(0.3)])

    skipped = way(lambda t: [(t, Plan(track(key(jaw=1.0)), t, 2)), (t, Plan(track(release(0.4)), t, 3))])
    direct = way(lambda t: [(t, Plan(track(release(0.4)), t, 3))])
    assert np.array_equal(skipped, direct)


def test_without_kernels_frames_are_neutral_and_the_motion_is_joined_when_they_come() -> None:
    p = Player("Face", FrameRate())
    p.plan = Plan(track(key(jaw=0.8, way=0.4, hold=5.0)), 0.0, 1)
    assert not poses(p, 0.0, 1.0).any()
    p.use(kernels)
    x = poses(p, 1.0, 1.5)[:, JAW]
    assert x[0] == pytest.approx(0.0, abs=1e-6)
    assert np.abs(np.diff(x)).max() < 0.02
    assert x[-1] == pytest.approx(0.8)


def test_without_kernels_a_face_that_will_live_shows_no_frame_twice() -> None:
    p = Player("Face", FrameRate(), alive=True)
    shown = [p.frame(number / 60, number, 0.0).pose for number in (0, 1, 3, 5, 6, 8, 10)]  # some were skipped
    assert not any(np.array_equal(a, b) for a, b in itertools.pairwise(shown))
    assert np.abs(shown).max() <= 1e-5


def test_without_kernels_offset_and_limits_hold_already() -> None:
    offset, high = neutral(), HIGH.copy()
    offset[JAW], offset[SMILE], high[SMILE] = 0.1, 0.9, 0.5
    p = Player("Face", FrameRate(), settings=Settings(offset=offset, high=high))
    pose = p.frame(0.0, 0, 0.0).pose
    assert pose[[JAW, SMILE]] == pytest.approx([0.1, 0.5])
    p.use(kernels)
    assert np.array_equal(p.frame(0.1, 1, 0.0).pose, pose)


def test_gain_offset_and_limits_are_the_subjects() -> None:
    gain, offset, low, high = np.ones(61, np.float32), neutral(), LOW.copy(), HIGH.copy()
    gain[JAW], gain[YAW], offset[SMILE], high[SMILE], low[YAW] = 0.5, -1.0, 0.2, 0.6, -0.3
    s = Settings(gain, offset, low, high)
    p = player(s)
    x = poses(p, 0.0, 0.5, plans=[(0.0, Plan(track(key(jaw=0.8, smile=0.5, yaw=0.5, way=0.4)), 0.0, 1, settings=s))])
    assert x[0][SMILE] == pytest.approx(0.2)
    assert x[-1][[JAW, SMILE, YAW]] == pytest.approx([0.4, 0.6, -0.3])


def test_the_first_changed_frame_of_a_cut_is_remembered() -> None:
    p = player()
    p.plan = Plan(track(key(jaw=0.5)), 2.0, 1)
    for t in (1.0, 1.9):
        p.frame(t, 0, 0.0)
        assert p.first_moved == (0, 0.0)
    for t in (2.1, 2.2):
        p.frame(t, 0, 0.0)
        assert p.first_moved == (1, 2.1)


@pytest.mark.parametrize("easing", EASINGS)
def test_every_sample_stays_within_its_range(easing: str) -> None:
    p = player()
    plans = [(0.0, Plan(track(key(jaw=1.0, smile=1.0, yaw=-1.0, way=0.3, easing=easing)), 0.0, 1))]
    for i, at in enumerate(itertools.takewhile(lambda t: t < 1.0, itertools.count(0.11, 0.13))):
        level = float(i % 2)
        plans.append(
            (at, Plan(track(key(jaw=level, smile=1 - level, yaw=2 * level - 1, way=0.2, easing=easing)), at, i + 2))
        )
    x = poses(p, 0.0, 1.5, plans=plans)
    assert np.isfinite(x).all()
    assert (x >= LOW).all()
    assert (x <= HIGH).all()


def test_time_that_goes_back_is_no_error() -> None:
    p = player()
    p.plan = Plan(track(key(jaw=0.5, way=0.4)), 10.0, 1)
    for t in (10.0, 10.4, 9.0, -1e6, 10.2, 1e9):
        assert np.isfinite(p.frame(t, 0, 0.0).pose).all()


# --- keys that are moved in time


@pytest.mark.parametrize("easing", ["cubic", "sine", "quadout"])
@pytest.mark.parametrize("by", [-2.0, -0.3, -0.1, 0.1, 0.3, 2.0])
@pytest.mark.parametrize("at", [0.05, 0.25, 0.45, 0.6, 0.9, 1.2])
def test_position_and_velocity_go_on_where_keys_are_moved(at: float, by: float, easing: str) -> None:
    timeline = Timeline()
    for keyframe in (key(jaw=0.9, way=0.5, hold=0.2), key(yaw=0.5, smile=0.8, way=0.4), key(jaw=0.4, way=0.6)):
        timeline.append(replace(keyframe, easing=easing))
    before = Plan(timeline.track, 0.0, 1, "u")
    left = timeline.retime(by, now=at)
    after = replace(before, track=timeline.track, retimed=1, first=left)
    p = player()
    x = poses(p, 0.0, 5.0, plans=[(0.0, before), (at, after)]).astype(np.float64)
    i = round(at / STEP)
    assert np.allclose(x[i], poses(player(), 0.0, at, plans=[(0.0, before)])[-1], atol=1e-6)
    velocity = np.diff(x, axis=0) / STEP
    assert np.abs(velocity[i] - velocity[i - 1]).max() < 0.6
    # Each key that is left is shown at its new time.
    for begin, way, pose in zip(timeline.track.begins, timeline.track.ways, timeline.track.poses, strict=True):
        assert x[round((begin + way) / STEP)] == pytest.approx(pose, abs=0.02)
    assert p.frame(5.0, 0, 0.0).key == 2
    assert p.first_moved == (1, 0.0)


def test_the_key_before_a_moved_track_is_the_one_that_was_reached() -> None:
    timeline = Timeline()
    for level in (0.5, 0.7):
        timeline.append(key(jaw=level, way=0.4, hold=0.4))
    p = player()
    poses(p, 0.0, 0.6, plans=[(0.0, Plan(timeline.track, 0.0, 1, "u"))])
    left = timeline.retime(1.0, now=0.6)
    p.plan = replace(p.plan, track=timeline.track, retimed=1, first=left)
    assert [p.frame(t, 0, 0.0).key for t in (0.6, 1.7, 1.8, 9.0)] == [0, 0, 1, 1]
    assert p.frame(1.79, 0, 0.0).pose[JAW] == pytest.approx(0.5)


# --- the voice


def spoken(p: Player, plans: list[tuple[float, Plan]], seconds: float) -> Any:
    made, waiting = [], list(plans)
    for tick in range(round(seconds * 60)):
        now = tick / 60
        while waiting and waiting[0][0] <= now:
            p.plan = waiting.pop(0)[1]
        made.append(p.frame(now, tick, 0.0).pose)
    return np.array(made)


def test_visemes_line_up_with_word_times_and_lips_close_on_p_b_m() -> None:
    words = [Word("Bob", 0.3, 0.7), Word("may", 0.75, 1.1), Word("pay", 1.3, 1.7), Word("you", 1.75, 2.1)]
    speech = speech_from_words(words)
    p = Player("Face", FrameRate())
    p.use(kernels, talk=talk_kernels)
    start = 0.5
    smile = Plan(
        track(key(smile=0.5, jaw=0.3, way=0.2, hold=5.0)), 0.0, 1, "u", True, speech=speech, speech_start=start
    )
    poses_ = spoken(p, [(0.0, smile)], 3.2)
    openness = poses_[:, JAW] - poses_[:, INDEX["MouthClose"]]
    bilabials = [s for s in speech.sounds if s.phoneme in ("P", "B", "M")]
    assert len(bilabials) == 4
    for sound in bilabials:
        frame = round((start + sound.apex) * 60)
        assert openness[frame - 1 : frame + 2].min() < 0.03
    vowels = [s for s in speech.sounds if s.phoneme in ("AA1", "EY1")]
    for sound in vowels:
        frame = round((start + sound.apex) * 60)
        assert openness[frame] > 0.1
    assert poses_[:, SMILE].max() > 0.2  # the expression shows through
    assert np.all(poses_[:, INDEX["MouthClose"]] <= poses_[:, JAW] + 1e-6)


def test_a_cut_voice_fades_without_a_jump() -> None:
    speech = speech_from_text("Mama and papa bought a big banana boat.")
    p = Player("Face", FrameRate())
    p.use(kernels, talk=talk_kernels)
    talking = Plan(EMPTY, 0.0, 1, "u", True, speech=speech, speech_start=0.2)
    x = spoken(p, [(0.0, talking), (1.0, Plan(EMPTY, 1.0, 2))], 2.0)
    untouched = Player("Face", FrameRate())
    untouched.use(kernels, talk=talk_kernels)
    alone = spoken(untouched, [(0.0, talking)], 2.0)
    assert np.array_equal(x[:60], alone[:60])
    assert np.abs(np.diff(x, axis=0)).max() <= 1.3 * np.abs(np.diff(alone, axis=0)).max()
    assert np.abs(x[-1]).max() < 1e-3


def test_a_correction_of_the_sounds_position_is_followed_smoothly() -> None:
    speech = speech_from_text("one two three four five six seven eight nine ten")
    p = Player("Face", FrameRate())
    p.use(kernels, talk=talk_kernels)
    early = Plan(EMPTY, 0.0, 1, "u", True, speech=speech, speech_start=0.5)
    x = spoken(p, [(0.0, early), (1.0, replace(early, speech_start=0.4))], 2.5)
    reference = Player("Face", FrameRate())
    reference.use(kernels, talk=talk_kernels)
    right = spoken(reference, [(0.0, replace(early, speech_start=0.4))], 2.5)
    assert np.abs(x[100:] - right[100:]).max() < 0.05
    assert np.abs(np.diff(x, axis=0)).max() <= 2.0 * np.abs(np.diff(right, axis=0)).max()


def voiced() -> Player:
    made = Player("Face", FrameRate())
    made.use(kernels, talk=talk_kernels)
    return made


def test_a_sound_that_jumps_is_taken_up_at_its_new_place_without_hurrying_there() -> None:
    speech = speech_from_text("one two three four five six seven eight nine ten eleven twelve thirteen fourteen")
    first = Plan(EMPTY, 0.0, 1, "u", True, speech=speech, speech_start=0.2)
    later = replace(first, speech_start=-2.5, jumps=1)
    x = spoken(voiced(), [(0.0, first), (1.0, later)], 2.5)
    right = spoken(voiced(), [(0.0, later)], 2.5)
    before = spoken(voiced(), [(0.0, first)], 2.5)
    assert np.array_equal(x[:60], before[:60])
    assert np.abs(x[75:] - right[75:]).max() < 0.01  # within a quarter of a second
    usual = max(np.abs(np.diff(x_, axis=0)).max() for x_ in (right, before))
    assert np.abs(np.diff(x, axis=0)).max() <= 1.5 * usual
    hurried = spoken(voiced(), [(0.0, first), (1.0, replace(later, jumps=0))], 2.5)
    assert np.abs(np.diff(x[:, JAW], 2)).max() < np.abs(np.diff(hurried[:, JAW], 2)).max()


def test_keys_that_are_moved_leave_the_mouth_alone() -> None:
    speech = speech_from_text("Mama and papa bought a big banana boat.")
    talking = Plan(EMPTY, 0.0, 1, "u", True, speech=speech, speech_start=0.2)
    moved = spoken(voiced(), [(0.0, talking), (1.0, replace(talking, retimed=1))], 2.0)
    assert np.array_equal(moved, spoken(voiced(), [(0.0, talking)], 2.0))
