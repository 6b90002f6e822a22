"""A take that is played: what the player shows of it tick by tick on a manual clock."""

import numpy as np
import pytest
from numpy.typing import NDArray

from kff_live.protocols import kernels
from kff_live.protocols.channels import HIGH, INDEX, LOW, pose_from_names
from kff_live.protocols.errors import DecodeError
from kff_live.protocols.frames import Frame, FrameRate
from kff_live.protocols.idle.layer import Idle
from kff_live.protocols.idle.settings import IdleSettings
from kff_live.protocols.keyframe_text import parse_file
from kff_live.protocols.keyframes import Keyframe
from kff_live.protocols.track import Timeline, Track
from kff_live.runtime.play import at_speed, track_of_frames, track_of_keyframes
from kff_live.runtime.player import LEAVE_SECONDS, Plan, Player
from kff_live.runtime.take_layer import Playback, TakeLayer

RATE = FrameRate(60)
JAW, YAW = INDEX["JawOpen"], INDEX["HeadYaw"]
Poses = NDArray[np.float32]


def swinging(seconds: float = 4.0, *, rate: FrameRate = RATE, phase: float = 1.0) -> list[Frame]:
    """A jaw and a head in motion from the first frame to the last, nowhere at rest."""
    at = np.arange(round(seconds * rate.hz) + 1) * rate.period
    return [
        Frame(
            "Face",
            1000 + i,
            0.0,
            rate,
            pose_from_names({"JawOpen": 0.5 + 0.4 * np.sin(3 * t + phase), "HeadYaw": 0.6 * np.cos(2 * t)}),
        )
        for i, t in enumerate(at)
    ]


def wanted(frames: list[Frame]) -> Poses:
    return np.array([frame.pose for frame in frames])


class Stage:
    """A player with a take below the acted face, ticked at 60 Hz."""

    def __init__(self, track: Track, end: float, *, idle: bool = False, begin: float = 0.0, **options: object) -> None:
        self.layer = TakeLayer(Playback("take", "Face", track, begin, end, **options), kernels)  # type: ignore[arg-type]
        self.player = Player("Face", RATE)
        life = Idle(IdleSettings(enabled=True)) if idle else None
        self.player.use(kernels, live=self.layer, idle=life)
        self.tick = 0

    def play(self, ticks: int) -> Poses:
        poses = []
        for _ in range(ticks):
            poses.append(self.player.frame(50.0 + self.tick / 60, self.tick, 0.0).pose)
            self.tick += 1
        return np.array(poses)


def jerk(poses: Poses) -> float:
    """The greatest second difference of any channel, of a tick: what an eye sees as a pop."""
    return float(np.abs(np.diff(poses, 2, axis=0)).max())


def own_jerk(frames: list[Frame], speed: float = 1.0) -> float:
    return jerk(wanted(frames)) * speed**2


def test_between_its_blends_every_frame_is_the_takes_own() -> None:
    frames = swinging()
    track, end = track_of_frames(frames)
    assert end == pytest.approx(4.0)
    shown = Stage(track, end).play(241)
    assert np.abs(shown[18:223] - wanted(frames)[18:223]).max() < 1e-6


def test_the_face_goes_from_rest_into_the_take_and_back_without_a_pop() -> None:
    frames = swinging()
    stage = Stage(*track_of_frames(frames), blend=0.3)
    shown = stage.play(300)
    assert not shown[0].any()
    assert not shown[240:].any()
    whole = np.concatenate([np.zeros((2, 61), np.float32), shown])
    # Smoothstep over 18 ticks bends by 6 / 18^2 of at most 0.9, besides what the take does by itself.
    assert jerk(whole) < 6 / 18**2 * 0.9 + 3 * own_jerk(frames)
    assert stage.layer.ended


@pytest.mark.parametrize("blend", [0.1, 0.3, 1.0])
def test_over_the_seam_of_a_loop_pose_and_velocity_go_on(blend: float) -> None:
    frames = swinging()
    track, end = track_of_frames(frames)
    stage = Stage(track, end, loop=True, blend=blend)
    shown = stage.play(4 * 240)
    jump = np.abs(frames[-1].pose - frames[0].pose).max()
    assert jump > 0.3  # or there would be nothing to bridge
    ticks = blend * 60
    for turn in (1, 2, 3):
        seam = 240 * turn
        near = shown[seam - 5 : seam + round(ticks) + 5]
        # A quintic from 1 to 0 bends by at most 5.8 / ticks^2; the velocity that decays adds its own.
        assert jerk(near) < 5.8 / ticks**2 * jump + 10 / ticks * 0.03 + own_jerk(frames)
        later = shown[seam + round(ticks) + 1 : seam + 230]
        assert np.abs(later - wanted(frames)[round(ticks) + 1 : 230]).max() < 1e-5
    assert not stage.layer.ended
    assert ((shown >= LOW) & (shown <= HIGH)).all()


def test_a_loop_without_blend_is_the_take_again_and_again() -> None:
    frames = swinging(1.0)
    shown = Stage(*track_of_frames(frames), loop=True, blend=0.0).play(180)
    assert np.abs(shown - wanted(frames)[np.arange(180) % 60]).max() < 1e-5


def test_without_blend_the_first_tick_is_the_first_frame_and_the_last_the_last() -> None:
    frames = swinging(1.0)
    shown = Stage(*track_of_frames(frames), blend=0.0).play(70)
    assert np.abs(shown[:61] - wanted(frames)).max() < 1e-5
    assert not shown[62:].any()


def test_a_part_is_played() -> None:
    frames = swinging()
    stage = Stage(track_of_frames(frames)[0], 3.0, begin=1.0, blend=0.0)
    shown = stage.play(125)
    assert np.abs(shown[:121] - wanted(frames)[60:181]).max() < 1e-5
    assert not shown[122:].any()


@pytest.mark.parametrize("speed", [0.5, 2.0])
def test_a_take_may_be_faster_or_slower(speed: float) -> None:
    frames = swinging()
    track, end = track_of_frames(frames)
    shown = Stage(at_speed(track, speed), end / speed, blend=0.0).play(round(240 / speed) + 1)
    at = np.arange(len(shown)) * speed / 60
    curve = np.interp(at, np.arange(241) / 60, wanted(frames)[:, JAW])
    assert np.abs(shown[:, JAW] - curve).max() < 1e-5


def test_a_take_of_another_rate_is_played_in_its_time() -> None:
    frames = swinging(rate=FrameRate(24))
    shown = Stage(*track_of_frames(frames), blend=0.0).play(241)
    curve = np.interp(np.arange(241) / 60, np.arange(97) / 24, wanted(frames)[:, YAW])
    assert np.abs(shown[:, YAW] - curve).max() < 1e-5


def test_a_gap_in_the_take_is_crossed() -> None:
    frames = swinging(1.0)
    track, end = track_of_frames([*frames[:10], *frames[50:]])
    assert end == pytest.approx(1.0)
    shown = Stage(track, end, blend=0.0).play(61)
    between = np.interp(np.arange(61) / 60, [9 / 60, 50 / 60], wanted(frames)[[9, 50], JAW])
    assert np.abs(shown[10:50, JAW] - between[10:50]).max() < 1e-5


def test_values_beyond_a_channels_range_are_brought_back() -> None:
    pose = pose_from_names({})
    pose[JAW] = 1.05
    frames = [Frame("Face", i, 0.0, RATE, pose) for i in range(60)]
    assert Stage(*track_of_frames(frames), blend=0.0).play(30)[:, JAW].max() == 1.0


def test_keyframes_are_played_as_they_are_acted_and_released() -> None:
    keyframes = parse_file("# kff 1\n4+3 jaw5\n3+2 sine yaw5\n")
    track, end = track_of_keyframes(keyframes, release_seconds=0.6)
    assert end == pytest.approx(1.8)
    timeline = Timeline()
    for keyframe in [*keyframes, Keyframe(pose_from_names({}), way=0.6)]:
        timeline.append(keyframe)
    plain = Player("Face", RATE)
    plain.use(kernels)
    plain.plan = Plan(timeline.track, cut=0)
    shown = Stage(track, end, blend=0.3).play(115)
    assert np.abs(shown - [plain.frame(i / 60, i, 0.0).pose for i in range(115)]).max() < 1e-6


def test_keyframes_in_a_loop_go_on_from_the_last_to_the_first() -> None:
    track, end = track_of_keyframes(parse_file("# kff 1\n6+4 jaw8\n6+4 yaw5\n"), release_seconds=None)
    shown = Stage(track, end, loop=True, blend=0.3).play(400)
    assert shown[120 + 18, YAW] > 0.2  # on its way from the last pose, not from neutral
    assert shown[120 + 18, JAW] == pytest.approx(0.4, abs=0.02)
    assert jerk(shown) < 0.8 * 12 / 36**2 * 1.05  # what the easing itself does in 36 ticks


def test_an_expression_is_acted_over_a_take() -> None:
    frames = swinging()
    stage = Stage(*track_of_frames(frames), blend=0.0)
    track = Timeline().append(Keyframe(pose_from_names({"CheekPuff": 0.7}), way=0.2))
    stage.player.plan = Plan(track, 50.0, 1, "u", True)
    shown = stage.play(120)
    assert shown[60:, INDEX["CheekPuff"]] == pytest.approx(0.7)
    assert np.abs(shown[60:, JAW] - wanted(frames)[60:120, JAW]).max() < 1e-5


def test_idle_life_rests_while_the_take_shows_and_is_there_before_and_after() -> None:
    frames = swinging()
    shown = Stage(*track_of_frames(frames), idle=True, blend=0.5).play(600)
    assert np.abs(shown[40:200] - wanted(frames)[40:200]).max() < 1e-3
    assert shown[260:].any(axis=1).all()


def test_when_the_program_ends_the_take_fades_out_while_it_moves_on() -> None:
    frames = swinging()
    stage = Stage(*track_of_frames(frames), loop=True)
    before = stage.play(120)
    stage.player.leave(50.0 + 2.0)
    shown = stage.play(round(LEAVE_SECONDS * 60) + 2)
    assert not shown[-1].any()
    assert jerk(np.concatenate([before[-10:], shown])) < 6 / 36**2 * 0.9 + 3 * own_jerk(frames)


def test_a_take_of_no_frames_is_refused() -> None:
    with pytest.raises(DecodeError, match="it holds no frame"):
        track_of_frames([])
