"""Thinning: what is left of a take when it is played again, as a whole track and by the player itself."""

import itertools

import numpy as np
import pytest

from kff_live.converters import thin as module
from kff_live.converters.acting import act
from kff_live.converters.thin import LEAST_ERROR, fit, held, loss, ruled, search, shares, squared, thin
from kff_live.protocols import kernels
from kff_live.protocols.channels import COUNT, INDEX, LIVELINK, pose_from_names
from kff_live.protocols.easing import EASINGS
from kff_live.protocols.errors import EncodeError
from kff_live.protocols.frames import FrameRate
from kff_live.protocols.idle.layer import Idle
from kff_live.protocols.idle.settings import IdleSettings
from kff_live.protocols.keyframe_text import format_keyframes, parse_file, quantise
from kff_live.protocols.keyframes import Keyframe, as_acted
from kff_live.protocols.track import Timeline
from kff_live.runtime.player import Plan, Player

RATE = FrameRate(60)
JAW, SMILE = INDEX["JawOpen"], INDEX["MouthSmileLeft"]


def moving(**curves: list[float]) -> module.Poses:
    """Frames of curves by channel."""
    length = len(next(iter(curves.values())))
    frames = np.zeros((length, COUNT), np.float32)
    for name, curve in curves.items():
        frames[:, INDEX[name]] = curve
    return frames


def played(keyframes: list[Keyframe], count: int, rate: FrameRate = RATE) -> module.Poses:
    """What a player shows of keyframes, read again from their text, at the times of the frames."""
    timeline = Timeline()
    for keyframe in parse_file(format_keyframes(keyframes)):
        timeline.append(as_acted(keyframe))
    player = Player("Face", rate)
    player.use(kernels)
    player.plan = Plan(timeline.track, cut=0)
    return np.array([player.frame(i * rate.period, i, 0.0).pose for i in range(count)])


@pytest.fixture(scope="module")
def performance() -> module.Poses:
    """Ten seconds of a face that acts and lives: blinks, glances, breath, two expressions."""
    timeline = Timeline()
    for names, way, hold in (
        ({"BrowInnerUp": 0.8, "JawOpen": 0.6, "EyeWideLeft": 0.7, "EyeWideRight": 0.7, "HeadPitch": 0.2}, 0.2, 1.0),
        ({"MouthSmileLeft": 0.9, "MouthSmileRight": 0.6, "CheekSquintLeft": 0.5, "HeadYaw": -0.3}, 0.6, 3.0),
        ({}, 1.0, 0.0),
    ):
        timeline.append(Keyframe(pose_from_names(names), way=way, hold=hold), at=timeline.end + 0.5)
    player = Player("Face", RATE)
    player.use(kernels, idle=Idle(IdleSettings(enabled=True, seed=3)))
    player.plan = Plan(timeline.track, cut=0)
    return np.array([player.frame(i / 60, i, 0.0).pose for i in range(600)])


@pytest.mark.parametrize("error", [0.1, 0.05, 0.02, 0.005])
def test_what_the_player_shows_stays_within_the_error(performance: module.Poses, error: float) -> None:
    keyframes = thin(performance, RATE, error=error)
    shown = played(keyframes, len(performance))
    assert np.abs(shown - ruled(performance)).max() <= error
    assert len(keyframes) < len(performance) / 5


def test_a_smaller_error_takes_more_keyframes(performance: module.Poses) -> None:
    counts = [len(thin(performance, RATE, error=error)) for error in (0.1, 0.05, 0.02, 0.005)]
    assert counts == sorted(set(counts))


def test_the_loss_that_is_told_is_what_the_player_shows(performance: module.Poses) -> None:
    keyframes = thin(performance, RATE, error=0.05)
    told = loss(performance, RATE, keyframes)
    error = np.abs(played(keyframes, len(performance)) - ruled(performance))
    assert np.allclose(told.most, error.max(axis=0), atol=1e-6)
    assert np.allclose(told.mean, error.mean(axis=0), atol=1e-6)
    assert (told.keyframes, told.seconds) == (len(keyframes), 10.0)


@pytest.mark.parametrize("easing", [name for name in EASINGS if name != "step"])
def test_a_motion_of_one_easing_becomes_one_keyframe_of_it(easing: str) -> None:
    keyframe = Keyframe(pose_from_names({"HeadPitch": 0.8, "HeadRoll": 0.4, "HeadYaw": -0.5}), 0.5, 0.5, easing)
    frames = np.array([frame.pose for frame in act([keyframe], RATE, subject="Face")])
    (found,) = thin(frames, RATE, error=LEAST_ERROR)
    assert (found.way, found.hold, found.easing) == (0.5, 0.5, easing)
    assert np.allclose(found.pose, keyframe.pose, atol=1e-4)


def test_keyframes_that_were_rendered_are_found_again() -> None:
    text = "# kff 1\n4+3 jaw5 pitch-1\n3+4 sine wide7 browinner7\n6+12 cubicout smile10 cheek8 yaw1\n"
    frames = np.array([frame.pose for frame in act(parse_file(text), RATE, subject="Face")])
    assert format_keyframes(thin(frames, RATE, error=0.01)) == text


def test_a_take_that_begins_elsewhere_begins_with_its_first_pose() -> None:
    found = thin(moving(JawOpen=[0.5] * 60), RATE, error=0.01)
    assert [(k.way, k.hold, round(float(k.pose[JAW]), 4)) for k in found] == [(0.0, 0.9833, 0.5)]


def test_a_still_take_at_rest_is_one_hold() -> None:
    assert [(k.way, k.hold, bool(k.pose.any())) for k in thin(moving(JawOpen=[0.0] * 31), RATE, error=0.01)] == [
        (0.0, 0.5, False)
    ]


def test_one_frame_is_one_keyframe() -> None:
    assert [(k.way, k.hold) for k in thin(moving(JawOpen=[0.5]), RATE, error=0.01)] == [(0.0, 0.0)]


@pytest.mark.parametrize("seconds", [13, 30, 50])
def test_holds_and_ways_longer_than_a_keyframe_can_have_are_kept(seconds: int) -> None:
    n = seconds * 60
    still = moving(JawOpen=[0.5] * n)
    slow = moving(JawOpen=np.linspace(0.0, 1.0, n).tolist())
    for frames in (still, slow):
        keyframes = thin(frames, RATE, error=0.02)
        assert max(max(k.way, k.hold) for k in keyframes) <= 12.0
        assert np.abs(played(keyframes, n) - frames).max() <= 0.02
        assert len(keyframes) <= 1 + seconds // 12


def test_a_jump_from_one_frame_to_the_next_stays_one() -> None:
    frames = moving(JawOpen=[0.0] * 50 + [0.9] * 50)
    assert np.abs(played(thin(frames, RATE, error=0.01), 100) - frames).max() <= 0.01


@pytest.mark.parametrize("rate", [FrameRate(24), FrameRate(30000, 1001), FrameRate(120), FrameRate(1)], ids=str)
def test_times_do_not_drift_whatever_the_rate(rate: FrameRate) -> None:
    n = 600
    frames = moving(JawOpen=(0.5 + 0.4 * np.sin(np.arange(n) * 0.3)).tolist())
    keyframes = thin(frames, rate, error=0.02)
    assert np.abs(played(keyframes, n, rate) - frames).max() <= 0.02
    assert sum(k.way + k.hold for k in keyframes) == pytest.approx((n - 1) * rate.period, abs=1e-3)


def test_keyframes_are_as_text_carries_them(performance: module.Poses) -> None:
    assert all(quantise(k) == k for k in thin(performance, RATE, error=0.02))


def test_frames_are_brought_under_the_rules_before_and_the_loss_says_so() -> None:
    frames = moving(JawOpen=[0.2] * 30, MouthClose=[0.5] * 30, CheekPuff=[1.05] * 30, EyeLookDownLeft=[0.5] * 30)
    keyframes = thin(frames, RATE, error=0.01)
    shown = played(keyframes, 30)
    assert np.abs(shown - ruled(frames)).max() <= 0.01
    assert shown[5, INDEX["MouthClose"]] == pytest.approx(0.2)  # closed lips need an open jaw
    assert shown[5, INDEX["LeftEyePitch"]] == pytest.approx(0.305, abs=1e-4)  # the eye follows the gaze
    told = loss(frames, RATE, keyframes).rules
    assert {LIVELINK[i]: round(float(told[i]), 3) for i in np.flatnonzero(told > 1e-4)} == {
        "MouthClose": 0.3, "CheekPuff": 0.05, "LeftEyePitch": 0.305
    }  # fmt: skip


@pytest.mark.parametrize("pitch", [0.0, 0.2, 0.3, 0.3099, 0.31001, 0.32])
def test_eyes_of_their_own_stay_their_own(pitch: float) -> None:
    frames = moving(EyeLookDownLeft=[0.5] * 30, LeftEyePitch=np.linspace(pitch, 0.4, 30).tolist())
    shown = played(thin(frames, RATE, error=LEAST_ERROR), 30)
    assert np.abs(shown - ruled(frames)).max() <= LEAST_ERROR
    assert np.abs(shown - frames)[1:].max() <= 0.007  # nearer than 0.005 to where the gaze says they follow it


def test_what_moves_as_fast_as_can_be_is_kept() -> None:
    frames = moving(JawOpen=[0.0, 1.0, 0.3] * 20, HeadYaw=[-1.0, 1.0] * 30)
    assert np.abs(played(thin(frames, RATE, error=LEAST_ERROR), 60) - frames).max() <= LEAST_ERROR


@pytest.mark.parametrize(
    ("frames", "error", "said"),
    [
        (np.zeros((0, COUNT), np.float32), 0.02, "there are no frames"),
        (np.zeros((3, COUNT), np.float32), 0.0001, "error: 0.0001 is outside 0.001 to 1"),
        (np.zeros((3, COUNT), np.float32), float("nan"), "error: nan is outside 0.001 to 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_thinned_is_refused(frames: module.Poses, error: float, said: str) -> None:
    with pytest.raises(EncodeError) as found:
        thin(frames, RATE, error=error)
    assert str(found.value) == said


def test_a_rate_of_less_than_a_frame_in_twelve_seconds_is_refused() -> None:
    with pytest.raises(EncodeError, match=r"^frame rate: 1/13 is less than a frame in 12 s$"):
        thin(np.zeros((3, COUNT), np.float32), FrameRate(1, 13), error=0.02)


def test_the_kernels_do_as_they_do_in_plain_python() -> None:
    rng = np.random.default_rng(5)
    frames = np.cumsum(rng.normal(0.0, 0.02, (40, 6)), axis=0).astype(np.float32)
    keys = frames.round(4)
    at = np.arange(40) / 60
    key_at = at.round(4)
    for p, q in itertools.product(range(0, 30, 7), (3, 9)):
        assert held(p, 0.1, keys, frames) == held.py_func(p, 0.1, keys, frames)
        assert squared(p, p + 3, keys, frames) == pytest.approx(squared.py_func(p, p + 3, keys, frames))
        one, other = (f(p + 1, p, p + q, 0.1, keys, frames) for f in (shares, shares.py_func))
        assert np.allclose(one, other)
        one, other = (f(p, p + 1, p + q, 0.1, keys, frames, at, key_at, np.zeros((5, 40))) for f in (fit, fit.py_func))
        assert one == pytest.approx(other)
    ends, tables = [], []
    for function in (search, search.py_func):
        found, cost = np.zeros((41, 3), np.int64), np.zeros((2, 40))
        ends.append(function(0.1, False, 30, keys, frames, at, key_at, np.zeros((5, 40)), found, cost))
        tables.append((found, cost))
    assert ends[0] == ends[1] >= 0
    assert np.array_equal(tables[0][0], tables[1][0])
    assert np.allclose(tables[0][1], tables[1][1])


def test_no_path_of_fewer_keyframes_was_overlooked() -> None:
    """All choices of key frames of a short take are tried, without holds."""
    rng = np.random.default_rng(11)
    curve = np.cumsum(rng.normal(0.0, 0.08, 12)) + 0.5
    frames = moving(JawOpen=np.clip(curve, 0.0, 1.0).tolist())
    found = thin(frames, RATE, error=0.05)
    keys, at = ruled(frames), np.arange(12) / 60

    def possible(path: tuple[int, ...]) -> bool:
        steps = itertools.pairwise(path)
        return all(fit(p, p, q, 0.05, keys, frames, at, at.round(4), np.zeros((5, 12)))[0] >= 0 for p, q in steps)

    for count in range(1, len(found) - 1):
        for inner in itertools.combinations(range(1, 11), count - 1):
            assert not possible((0, *inner, 11))


def test_the_neutral_pose_is_where_a_player_begins() -> None:
    frames = moving(JawOpen=[0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    (only,) = thin(frames, RATE, error=0.01)
    assert only.way == pytest.approx(5 / 60, abs=1e-4)
    assert only.easing == "linear"
