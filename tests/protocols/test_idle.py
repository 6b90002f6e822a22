"""The idle layer: each of its rules, by statistics over minutes and by comparison with the pose that was acted."""

import subprocess
import sys
import tomllib
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from kff_live.protocols.channels import CHANNELS, COUNT, GROUPS, HIGH, INDEX, LOW, Pose, neutral, pose_from_names
from kff_live.protocols.idle import kernels as k
from kff_live.protocols.idle.events import Habits, Schedule, draw, saccade_seconds
from kff_live.protocols.idle.layer import BLEND_SECONDS, MAX_GAP, Idle
from kff_live.protocols.idle.report import IdleReport, blinks, gaze, identical_share, report, saccades, slope, spectrum
from kff_live.protocols.idle.settings import MOODS, IdleSettings
from kff_live.protocols.keyframes import EYE_ANGLES, Keyframe, as_acted, derived_eye_angles
from kff_live.protocols.layers import MODES, IdleRegions

Poses = NDArray[np.float32]
Acted = Callable[[float], Pose]

RATE = 60
START = 1000.0  # any zero of the clock
HEAD = [INDEX["HeadYaw"], INDEX["HeadPitch"], INDEX["HeadRoll"]]
LIDS = [INDEX["EyeBlinkLeft"], INDEX["EyeBlinkRight"]]
GAZE = [i for i, c in enumerate(CHANNELS) if c.name.startswith("EyeLook") or c.name.endswith(("EyeYaw", "EyePitch"))]
ROLLS = [i for i, c in enumerate(CHANNELS) if c.name.endswith("EyeRoll")]
STILL = IdleSettings(
    blink_rate=0, gaze_hold=120, saccade_interval=20, saccade_face=0, gaze_yaw=0, gaze_pitch=0, micro_rate=0, drift=0,
    breath_head=0, breath_mouth=0, head_yaw=0, head_pitch=0, head_roll=0, brow_asymmetry=0, mouth_asymmetry=0,
)  # fmt: skip
"""Nothing but what the test adds."""


def only(**changes: object) -> IdleSettings:
    return msgspec.structs.replace(STILL, **changes)


def acted(**values: float) -> Pose:
    return as_acted(Keyframe(pose_from_names(values))).pose


def play(
    settings: IdleSettings | None = None, *, seconds: float, rate: float = RATE, pose: Pose | Acted | None = None
) -> Poses:
    """What the layer makes of an acted pose, from the moment that it is fully there."""
    idle, out = Idle(settings), np.zeros((round(seconds * rate), COUNT), np.float32)
    for n in range(-round(BLEND_SECONDS * rate) - 1, len(out)):
        one = out[n] if n >= 0 else neutral()
        if pose is not None:
            one[:] = pose(max(n, 0) / rate) if callable(pose) else pose
        idle.apply(START + n / rate, one)
    return out


def regions(**blends: Mapping[str, object]) -> IdleRegions:
    return msgspec.convert(blends, IdleRegions)


def every(**blend: object) -> IdleRegions:
    return regions(**dict.fromkeys(GROUPS, blend))


@pytest.fixture(scope="module")
def calm() -> Poses:
    """Ten minutes at the defaults."""
    return play(seconds=600)


@pytest.fixture(scope="module")
def of_moods(calm: Poses) -> dict[str, IdleReport]:
    """Ten minutes of each mood, as numbers."""
    poses = {name: play(IdleSettings(mood=name), seconds=600) for name in MOODS if name != "calm"}
    return {name: report(p, RATE) for name, p in {"calm": calm, **poses}.items()}


# --- like people --------------------------------------------------------------------------------------------------


def test_ten_calm_minutes_are_human_in_every_figure(calm: Poses) -> None:
    wrong = [figure for figure in report(calm, RATE).figures if not figure.human]
    assert wrong == []


@pytest.mark.parametrize("seed", range(1, 5))
def test_other_seeds_are_human_too(seed: int) -> None:
    figures = {f.name: f for f in report(play(IdleSettings(seed=seed), seconds=300), RATE).figures}
    for name in ("blink rate", "blink interval spread", "saccade size", "looking at the viewer", "breath rate"):
        assert figures[name].human, figures[name]


def test_blinks_come_irregularly_and_close_faster_than_they_open(calm: Poses) -> None:
    found = blinks(calm, RATE)
    intervals = np.diff(found.onsets)
    assert 15 <= len(intervals) / 10 <= 20  # a minute
    assert np.median(intervals) < intervals.mean()  # skewed
    assert found.closing.mean() < 0.7 * found.opening.mean()
    assert 0.07 <= found.closing.mean() <= 0.11
    assert 0.15 <= found.opening.mean() <= 0.25


def test_now_and_then_a_blink_is_double(calm: Poses) -> None:
    assert 0.02 <= (np.diff(blinks(calm, RATE).onsets) < 0.6).mean() <= 0.12
    none = play(only(blink_rate=17, blink_double=0), seconds=300)
    assert (np.diff(blinks(none, RATE).onsets) >= 0.55).all()


def test_a_blink_is_smooth() -> None:
    lids = play(only(blink_rate=20, blink_partial=0), seconds=60, rate=480)[:, LIDS[0]].astype(float)
    jerk = np.abs(np.diff(lids, n=2)) * 480**2
    assert np.abs(np.diff(lids)).max() * 480 < 1.9 / 0.09 * 1.5  # least jerk moves at 1.875 times the mean speed
    assert jerk.max() < 5.8 / 0.09**2 * 2.0  # and bends at 5.77


def test_blinks_gather_at_large_gaze_shifts_at_the_same_rate() -> None:
    def share(blink_gaze: float) -> tuple[float, int]:
        poses = play(IdleSettings(blink_gaze=blink_gaze, blink_double=0), seconds=600)
        jumps, found = saccades(poses, RATE), blinks(poses, RATE)
        large = jumps.onsets[jumps.degrees > 8]
        near = np.abs(large[:, None] - found.onsets[None]).min(axis=1) < 0.06
        return float(near.mean()), len(found.onsets)

    (with_pull, some), (without, as_many) = share(1.0), share(0.0)
    assert with_pull > 0.2 > 0.1 > without
    assert some == pytest.approx(as_many, rel=0.15)


def test_saccades_are_small_mostly_and_last_one_to_five_frames(calm: Poses) -> None:
    jumps = saccades(calm, RATE)
    sizes = jumps.degrees[jumps.degrees >= 1]
    assert np.median(sizes) < sizes.mean()
    assert jumps.seconds.max() <= 5.5 / RATE
    assert saccade_seconds(10) == pytest.approx(0.043)


def test_glances_follow_an_exponential_cut_at_the_range() -> None:
    settings = IdleSettings(gaze_yaw=30, gaze_pitch=25, saccade_face=0, micro_rate=0, drift=0, head_yaw=0,
                            head_pitch=0, head_roll=0, breath_head=0)  # fmt: skip
    jumps = saccades(play(settings, seconds=1200), RATE).degrees
    sizes = jumps[jumps > 4.2] - 4.2
    assert sizes.mean() == pytest.approx(6.9, rel=0.25)
    assert sizes.std() == pytest.approx(sizes.mean(), rel=0.35)  # as an exponential's


def test_gaze_stays_in_its_range(calm: Poses) -> None:
    yaw = np.degrees(0.5 * (calm[:, INDEX["LeftEyeYaw"]] + calm[:, INDEX["RightEyeYaw"]]))
    pitch = np.degrees(calm[:, INDEX["LeftEyePitch"]])
    assert 10 < np.abs(yaw).max() < 15 + 3  # a point on the face, micro-saccade, drift and head come on top
    assert 6 < np.abs(pitch).max() < 10 + 3


def test_fixations_drift_and_hold_micro_saccades() -> None:
    poses = play(only(micro_rate=1.5, micro_size=0.4, drift=0.1), seconds=120, rate=240)
    jumps = saccades(poses, 240)
    assert 1.0 < len(jumps.onsets) / 120 < 1.6
    assert jumps.degrees.max() < 1.0
    drift = gaze(play(only(drift=0.1), seconds=120))[:, 0]  # degrees
    assert drift.std() == pytest.approx(0.1, rel=0.25)


def test_head_motion_is_noise_of_a_falling_spectrum_without_a_peak(calm: Poses) -> None:
    for channel in HEAD[::2]:
        angle = np.degrees(calm[:, channel].astype(float))
        assert -2.0 < slope(angle, RATE) < -1.6
        frequencies, power = spectrum(angle, RATE)
        band = (frequencies > 0.2) & (frequencies < 2.0)
        level = power[band] * frequencies[band] ** 1.75
        assert level.max() < 3 * np.median(level)  # no sine stands out
        assert slope(angle, RATE, band=(4.0, 10.0)) < -4  # nothing faster
        assert 0.2 < angle.std() < 0.7
        assert np.abs(angle).max() < 2.5


def test_head_band_is_a_setting() -> None:
    slow = play(only(head_yaw=1.0, head_high=0.5), seconds=120)[:, HEAD[0]]
    fast = play(only(head_yaw=1.0, head_high=6.0, head_low=1.0), seconds=120)[:, HEAD[0]]
    assert np.abs(np.diff(slow)).mean() < 0.3 * np.abs(np.diff(fast)).mean()
    assert np.degrees(fast.std()) == pytest.approx(1.0, rel=0.3)


def test_breath_is_slow_irregular_and_small() -> None:
    poses = play(only(breath_rate=15, breath_head=0.25, breath_mouth=0.01), seconds=300)
    jaw = poses[:, INDEX["JawOpen"]]
    begins = np.flatnonzero((jaw[1:] > 0.004) & (jaw[:-1] <= 0.004)) / RATE
    assert 60 / np.diff(begins).mean() == pytest.approx(15, rel=0.1)
    assert 0.1 < np.diff(begins).std() / np.diff(begins).mean() < 0.3
    assert jaw.max() < 0.03
    pitch = np.degrees(poses[:, INDEX["HeadPitch"]])
    assert pitch.min() > -0.01
    assert pitch.max() < 0.75
    assert np.corrcoef(pitch, jaw)[0, 1] > 0.99


# --- left and right, shapes and angles ----------------------------------------------------------------------------


@pytest.mark.parametrize("pose", [None, acted(EyeLookInLeft=0.1, EyeLookOutRight=0.1, EyeBlinkLeft=0.3)])
def test_eye_angles_and_shapes_agree(pose: Pose | None) -> None:
    poses = play(IdleSettings(mood="sad"), seconds=60, pose=pose)
    for one in poses:
        assert one[EYE_ANGLES] == pytest.approx(derived_eye_angles(one), abs=2e-5)  # rolls stir by 1e-5
        for side in ("Left", "Right"):
            assert min(one[INDEX[f"EyeLookIn{side}"]], one[INDEX[f"EyeLookOut{side}"]]) == 0
            assert min(one[INDEX[f"EyeLookUp{side}"]], one[INDEX[f"EyeLookDown{side}"]]) == 0


def test_eyes_converge_and_more_so_the_nearer_the_viewer(calm: Poses) -> None:
    def inwards(poses: Poses) -> Poses:
        return poses[:, INDEX["LeftEyeYaw"]] - poses[:, INDEX["RightEyeYaw"]]

    assert inwards(calm).min() > 0.01
    assert np.degrees(np.median(inwards(calm))) == pytest.approx(np.degrees(0.063), rel=0.1)  # 63 mm at a metre
    assert inwards(play(only(viewer_distance=0.4), seconds=2)).min() > 2 * inwards(play(STILL, seconds=2)).max()


def test_both_eyes_look_up_and_down_together(calm: Poses) -> None:
    assert calm[:, INDEX["LeftEyePitch"]] == pytest.approx(calm[:, INDEX["RightEyePitch"]], abs=1e-6)


def test_lids_follow_vertical_gaze() -> None:
    down, up = (play(only(viewer_pitch=angle), seconds=2)[-1] for angle in (10.0, -10.0))
    for side in ("Left", "Right"):
        assert down[INDEX[f"EyeBlink{side}"]] == pytest.approx(0.7 * 10 / 45, rel=0.02)
        assert down[INDEX[f"EyeWide{side}"]] == 0
        assert up[INDEX[f"EyeBlink{side}"]] == 0
        assert 0.02 < up[INDEX[f"EyeWide{side}"]] < 0.15


def test_viewer_to_the_faces_right_is_looked_at_by_the_outer_right_and_inner_left() -> None:
    pose = play(only(viewer_yaw=10), seconds=2)[-1]
    assert pose[INDEX["EyeLookOutRight"]] > 0.2 < pose[INDEX["EyeLookInLeft"]]
    assert pose[INDEX["RightEyeYaw"]] > 0 < pose[INDEX["LeftEyeYaw"]]  # + = the face's right


def test_eyes_make_up_for_head_motion() -> None:
    poses = play(only(head_yaw=1, head_pitch=1, vor=0.9), seconds=30).astype(float)
    for head, eye in (("HeadYaw", "LeftEyeYaw"), ("HeadPitch", "RightEyePitch")):
        # head yaw + is left and eye yaw + right, head pitch + is up and eye pitch + down
        share = np.polyfit(poses[:, INDEX[head]], poses[:, INDEX[eye]], 1)[0]
        assert share == pytest.approx(0.9, abs=0.01)


def test_brows_and_mouth_corners_differ_a_little_between_the_sides(calm: Poses) -> None:
    for name in ("BrowOuterUp", "MouthSmile"):
        difference = calm[:, INDEX[f"{name}Left"]] - calm[:, INDEX[f"{name}Right"]]
        assert 0.003 < np.abs(difference).mean() < 0.05
        assert np.abs(difference.mean()) > 0.5 * np.abs(difference).mean()  # mostly one side's
        assert difference.std() > 0.001  # but not for ever the same


# --- with an expression -------------------------------------------------------------------------------------------

WINK = acted(EyeBlinkLeft=1.0)


def test_a_wink_is_not_fought() -> None:
    poses = play(seconds=120, pose=WINK)
    assert (poses[:, LIDS[0]] == 1).all()
    assert (poses[:, LIDS[1]] == 0).all()


def test_a_wink_that_comes_and_goes_stays_smooth() -> None:
    def winking(t: float) -> Pose:
        return acted(EyeBlinkRight=0.5 - 0.5 * np.cos(2 * np.pi * t / 2.0))

    poses = play(IdleSettings(blink_rate=60), seconds=30, rate=480, pose=winking)
    assert np.abs(np.diff(poses[:, LIDS], axis=0)).max() * 480 < 40  # a blink's own speed is 30 at most


@pytest.mark.parametrize("level", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_lids_never_open_beyond_what_is_acted_nor_close_beyond_closed(level: float) -> None:
    pose = acted(EyeBlinkLeft=level, EyeBlinkRight=level)
    poses = play(IdleSettings(blink_rate=60, mood="sleepy"), seconds=60, pose=pose)
    lids = poses[:, LIDS]
    assert lids.min() >= np.float32(level)
    assert lids.max() <= 1
    assert (lids[:, 0] == lids[:, 1]).all()
    if level < 1:
        assert lids.max() > level + 0.8 * (1 - level)  # and blinks go on


def test_gaze_that_is_acted_wins() -> None:
    pose = acted(EyeLookInLeft=0.5, EyeLookOutRight=0.5, EyeLookUpLeft=0.3, EyeLookUpRight=0.3)
    poses = play(seconds=60, pose=pose)
    assert (poses[:, GAZE] == pose[GAZE]).all()


def test_gaze_set_by_angles_alone_wins() -> None:
    pose = neutral()
    pose[[INDEX["LeftEyeYaw"], INDEX["RightEyeYaw"]]] = 0.3
    assert (play(seconds=20, pose=pose)[:, GAZE] == pose[GAZE]).all()


def test_idle_gaze_fades_as_acted_gaze_and_closed_lids_rise() -> None:
    def spread(**values: float) -> float:
        return float(play(IdleSettings(gaze_hold=0.5), seconds=60, pose=acted(**values))[:, INDEX["LeftEyeYaw"]].std())

    by_gaze = [spread(EyeLookInLeft=v, EyeLookOutRight=v) for v in (0.0, 0.08, 0.14, 0.25)]
    by_lids = [spread(EyeBlinkLeft=v, EyeBlinkRight=v) for v in (0.0, 0.65, 0.8, 1.0)]
    for values in (by_gaze, by_lids):
        assert values == sorted(values, reverse=True)
        assert values[-1] < 1e-6
        assert values[1] > 0.3 * values[0]


def smile_until(t: float) -> Pose:
    """A smile of 3 s that eases back to neutral within 0.6 s."""
    level = 1.0 - k.glide((t - 3.0) / 0.6)
    return acted(MouthSmileLeft=0.8 * level, BrowInnerUp=0.5 * level, JawOpen=0.5 * level, EyeBlinkLeft=0.3 * level)


def test_the_last_expression_leaves_a_trace_that_fades() -> None:
    smile = play(only(trace=0.06, trace_fade=6), seconds=20, pose=smile_until)
    mouth = smile[:, INDEX["MouthSmileLeft"]]
    at = {second: mouth[int(second * RATE)] for second in (3.7, 6.7, 9.7, 15.0)}
    assert 0.6 * 0.06 * 0.8 < at[3.7] < 0.06 * 0.8  # it fades while the smile does
    assert at[6.7] < 0.5 * at[3.7]
    assert at[9.7] < 0.08 * at[3.7]
    assert at[15.0] < 0.01 * at[3.7]
    assert smile[int(3.7 * RATE), INDEX["BrowInnerUp"]] > 0.02
    assert smile[int(3.7 * RATE), INDEX["JawOpen"]] == 0  # only what is read as a mood
    assert smile[int(3.7 * RATE), LIDS[0]] == 0
    assert np.diff(mouth[3 * RATE :]).max() < 1e-4  # it fades, it does not come back


def test_a_trace_vanishes_while_something_is_acted() -> None:
    def then_frown(t: float) -> Pose:
        return smile_until(t) if t < 4 else acted(MouthFrownLeft=0.6 * k.glide((t - 4) / 0.5))

    mouth = play(only(trace=0.06), seconds=8, pose=then_frown)[:, INDEX["MouthSmileLeft"]]
    assert mouth[int(3.9 * RATE)] > 0.03
    assert (mouth[int(4.6 * RATE) :] == 0).all()


def test_a_moods_face_steps_back_while_something_is_acted() -> None:
    happy = only(mood="happy")
    assert play(happy, seconds=2)[-1, INDEX["MouthSmileRight"]] == pytest.approx(MOODS["happy"].smile)
    assert play(happy, seconds=2, pose=acted(MouthFrownLeft=0.5))[-1, INDEX["MouthSmileRight"]] == 0


@pytest.mark.parametrize("mode", MODES)
def test_everything_stays_in_range_over_poses_at_their_limits(mode: str) -> None:
    rng = np.random.default_rng(3)
    for seed in range(12):
        pose = rng.choice([0.0, 0.0, 1.0, 0.7], COUNT).astype(np.float32)
        pose[52:] = rng.choice([-1.0, 1.0, 0.0], 9)
        settings = IdleSettings(seed=seed, mood="tense", head_yaw=5, regions=every(mode=mode))
        poses = play(settings, seconds=5, pose=pose)
        assert (poses >= LOW).all()
        assert (poses <= HIGH).all()


def test_no_channel_jumps() -> None:
    rate = 960

    def talking(t: float) -> Pose:
        return acted(JawOpen=0.3 + 0.3 * np.sin(3 * t), EyeLookUpLeft=max(0.2 * np.sin(t), 0), HeadYaw=0.2 * np.sin(t))

    poses = play(IdleSettings(blink_rate=40, mood="tense"), seconds=20, rate=rate, pose=talking)
    steps = np.abs(np.diff(poses, axis=0)).max(axis=0)
    fast = {*LIDS, *GAZE}
    assert steps[LIDS].max() < 40 / rate  # per second: a blink in 0.08 s peaks at 25
    assert steps[GAZE].max() < 25 / rate  # a saccade of 20 degrees peaks at 0.35 x 1.9 / 0.065 s / 0.61
    others = [c for c in range(COUNT) if c not in fast]
    assert steps[others].max() < 4 / rate


# --- regions ------------------------------------------------------------------------------------------------------

FULL = {"lid_rest": 0.1, "gaze_down": 4.0, "head_pitch": -3.0, "brow_inner": 0.1, "smile": 0.1, "cheek": 0.1}
LIVELY = IdleSettings(
    blink_rate=60, breath_mouth=0.1, brow_asymmetry=0.3, mouth_asymmetry=0.2, mood="full", moods={"full": FULL}
)
"""Something in every region but the tongue."""


def changed(**values: object) -> IdleSettings:
    return msgspec.structs.replace(LIVELY, **values)


@pytest.mark.parametrize("region", ["brows", "lids", "cheeks", "nose", "jaw", "mouth", "head"])
def test_a_regions_weight_scales_that_region(region: str) -> None:
    still = {"vor": 0.0}  # or the eyes would make up for less of the head
    whole, half = (
        play(changed(regions=regions(**{region: {"weight": weight}}), **still), seconds=10) for weight in (1.0, 0.5)
    )
    mine = list(GROUPS[region])
    assert np.abs(whole[:, mine]).max() > 0.01
    assert half[:, mine] == pytest.approx(0.5 * whole[:, mine], abs=1e-5)
    others = [c for c in range(COUNT) if c not in mine]
    assert np.array_equal(half[:, others], whole[:, others])


def test_the_overall_weight_scales_every_region() -> None:
    both, other = changed(weight=0.5, regions=every(weight=0.5)), changed(weight=0.25)
    shapes = [c for c in range(52) if c not in GROUPS["gaze"]]
    quarter = 0.25 * play(changed(regions=every()), seconds=10)[:, shapes]
    assert play(other, seconds=10)[:, shapes] == pytest.approx(quarter, abs=1e-5)
    free = [c for c in shapes if c not in GROUPS["lids"]]  # which follow half of the gaze besides
    assert play(both, seconds=10)[:, free] == pytest.approx(play(other, seconds=10)[:, free], abs=1e-5)


def test_eyes_make_up_for_the_head_and_lids_follow_the_eyes_as_far_as_they_are_shown() -> None:
    headless = play(changed(regions=regions(head={"weight": 0.0})), seconds=10)
    assert not headless[:, HEAD[:2]].any()
    assert headless[:, GAZE] == pytest.approx(play(changed(vor=0.0), seconds=10)[:, GAZE], abs=1e-6)
    sightless = play(changed(regions=regions(gaze={"weight": 0.0})), seconds=10)
    assert not sightless[:, GAZE].any()
    assert sightless[:, LIDS] == pytest.approx(play(changed(lid_follow=0.0), seconds=10)[:, LIDS], abs=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_its_rules_hold_in_every_mode(mode: str) -> None:
    for pose in (WINK, acted(EyeBlinkLeft=1.0, EyeBlinkRight=1.0)):
        assert (play(changed(regions=every(mode=mode)), seconds=20, pose=pose)[:, LIDS] == pose[LIDS]).all()
    half = acted(EyeBlinkLeft=0.5, EyeBlinkRight=0.5)
    assert play(changed(regions=every(mode=mode)), seconds=20, pose=half)[:, LIDS].min() == 0.5
    pose = acted(EyeLookInLeft=0.5, EyeLookOutRight=0.5, EyeLookUpLeft=0.3, EyeLookUpRight=0.3)
    assert play(changed(regions=every(mode=mode)), seconds=20, pose=pose)[:, GAZE] == pytest.approx(
        np.broadcast_to(pose[GAZE], (20 * RATE, len(GAZE))), abs=1e-6
    )


@pytest.mark.parametrize("mode", MODES)
def test_look_shapes_and_eye_angles_agree_in_every_mode(mode: str) -> None:
    for pose in play(changed(regions=every(mode=mode)), seconds=10, pose=acted(EyeLookInLeft=0.08, JawOpen=0.1)):
        assert pose[EYE_ANGLES] == pytest.approx(derived_eye_angles(pose), abs=2e-5)  # rolls stir by 1e-5


def test_modes_meet_what_is_acted() -> None:
    brow, outer = INDEX["BrowOuterUpRight"], acted(BrowOuterUpRight=0.1, HeadYaw=0.5)
    own = play(LIVELY, seconds=10, pose=acted(HeadYaw=0.5))[:, brow]  # a mood's face steps back for either
    assert own.min() < 0.1 < own.max()
    added, greater, instead = (
        play(changed(regions=every(mode=mode)), seconds=10, pose=outer)[:, [brow, HEAD[0]]] for mode in MODES
    )
    assert added[:, 0] == pytest.approx(0.1 + 0.9 * own, abs=1e-5)
    assert greater[:, 0] == pytest.approx(np.maximum(own, 0.1), abs=1e-5)
    assert instead[:, 0] == pytest.approx(own, abs=1e-5)
    assert np.abs(added[:, 1] - 0.5).max() < 0.1
    assert np.abs(instead[:, 1]).max() < 0.1


# --- never the same frame twice -----------------------------------------------------------------------------------


def test_two_frames_are_never_identical(calm: Poses) -> None:
    assert identical_share(calm) == 0


@pytest.mark.parametrize("weight", [0.0, 1e-6, 1.0])
@pytest.mark.parametrize("pose", [neutral(), acted(HeadRoll=1.0, JawOpen=1.0), acted(HeadRoll=-1.0)])
def test_not_even_at_rest_and_with_hardly_any_weight(weight: float, pose: Pose) -> None:
    poses = play(only(weight=weight), seconds=5, pose=pose)
    assert identical_share(poses) == 0
    assert np.abs(poses - pose).max() < (3e-5 if weight < 1 else 0.1)


def test_not_even_at_the_same_time() -> None:
    idle, one, two = Idle(STILL), neutral(), neutral()
    idle.apply(START, one)
    idle.apply(START, two)
    assert not np.array_equal(one, two)


def test_disabled_touches_nothing() -> None:
    idle = Idle(IdleSettings(enabled=False))
    for n in range(300):
        pose = WINK.copy()
        idle.apply(START + n / RATE, pose)
        assert np.array_equal(pose, WINK)


# --- time and seeds -----------------------------------------------------------------------------------------------


def test_same_seed_same_face_and_another_seed_another() -> None:
    assert np.array_equal(play(seconds=30), play(seconds=30))
    assert not np.allclose(play(seconds=30), play(IdleSettings(seed=1), seconds=30), atol=0.05)


@pytest.mark.parametrize("rate", [24, 30, 60])
def test_frame_rate_changes_nothing(rate: int) -> None:
    def whole(hz: int) -> Poses:
        idle, out = Idle(), np.zeros((60 * hz, COUNT), np.float32)
        for n in range(len(out)):
            idle.apply(START + n / hz, out[n])
        return out

    assert np.abs(whole(rate) - whole(120)[:: 120 // rate]).max() < 5e-5  # which is what the frames stir by


def test_skipped_ticks_change_nothing_that_comes_after() -> None:
    every, some = Idle(), Idle()
    rng = np.random.default_rng(5)
    for n in range(60 * RATE):
        a, b = neutral(), neutral()
        every.apply(START + n / RATE, a)
        if rng.random() < 0.3 and n % RATE:
            continue
        some.apply(START + n / RATE, b)
        assert a == pytest.approx(b, abs=5e-5)


@pytest.mark.parametrize("gap", [MAX_GAP + 1, 3600.0, 1e7, -5.0])
def test_after_a_jump_of_the_clock_the_face_goes_on_where_it_was(gap: float) -> None:
    idle, out = Idle(only(head_yaw=0.5, brow_asymmetry=0.03, breath_head=0.3)), np.zeros((400, COUNT), np.float32)
    for n in range(400):
        idle.apply(START + n / RATE + (gap if n >= 200 else 0.0), out[n])
    assert np.abs(np.diff(out[100:], axis=0)).max() < 0.003
    assert identical_share(out) == 0


def test_memory_does_not_grow() -> None:
    idle, pose = Idle(IdleSettings(blink_rate=60, micro_rate=3)), neutral()

    def tick(begin: int, end: int) -> None:
        for n in range(begin, end):
            pose.fill(0)
            idle.apply(n / RATE, pose)

    tick(0, 2000)
    tracemalloc.start()
    try:
        tick(2000, 4000)
        before = tracemalloc.get_traced_memory()[0]
        tick(4000, 12000)
        assert tracemalloc.get_traced_memory()[0] - before < 4096
    finally:
        tracemalloc.stop()


# --- moods and settings -------------------------------------------------------------------------------------------


def test_moods_shift_the_numbers_as_they_say(of_moods: dict[str, IdleReport]) -> None:
    def ratio(mood: str, name: str) -> float:
        return of_moods[mood][name].value / of_moods["calm"][name].value

    assert 1.35 < ratio("tense", "blink rate") < 1.9
    assert ratio("tense", "saccade interval") < 0.8
    assert ratio("tense", "breath rate") > 1.2
    assert ratio("sleepy", "blink closing") > 1.4
    assert ratio("sleepy", "blink opening") > 1.4
    assert ratio("sleepy", "saccade interval") > 1.5
    assert ratio("sleepy", "breath rate") < 0.9
    assert ratio("sad", "looking at the viewer") < 0.8
    assert ratio("sad", "HeadYaw motion") < 0.85
    assert ratio("happy", "HeadYaw motion") > 1.15
    assert ratio("happy", "looking at the viewer") > 1.02


def test_moods_show_in_the_resting_face() -> None:
    rest = {name: play(only(mood=name), seconds=2)[-1] for name in MOODS}
    assert rest["happy"][INDEX["MouthSmileLeft"]] > 0.05
    assert rest["sad"][INDEX["BrowInnerUp"]] > 0.1
    assert rest["sad"][INDEX["HeadPitch"]] < -0.03
    assert rest["tense"][INDEX["BrowDownRight"]] > 0.05
    assert rest["sleepy"][LIDS[1]] > 0.2
    shapes = [i for i in range(52) if i not in GAZE]
    assert np.abs(rest["calm"][shapes]).max() == 0


def test_a_mood_comes_in_smoothly_within_a_second() -> None:
    idle, out = Idle(only()), np.zeros((400, COUNT), np.float32)
    for n in range(400):
        if n == 200:
            idle.set_mood("happy")
        idle.apply(START + n / RATE, out[n])
    smile = out[:, INDEX["MouthSmileLeft"]]
    assert smile[200] == 0
    assert 0.3 < smile[230] / MOODS["happy"].smile < 0.7
    assert smile[200 + RATE + 1 :] == pytest.approx(MOODS["happy"].smile)
    assert np.abs(np.diff(out[70:], axis=0)).max() < 0.005
    assert idle.settings.mood == "happy"


def test_changes_while_changes_come_in_do_not_jump() -> None:
    idle, out = Idle(IdleSettings(blink_rate=0)), np.zeros((600, COUNT), np.float32)
    for n in range(600):
        if 100 <= n < 500 and n % 17 == 0:
            idle.set_mood(list(MOODS)[n % 5])
        if n == 300:
            idle.update(msgspec.structs.replace(idle.settings, weight=0.2, head_yaw=2.0, trace=0.0))
        if n == 500:
            idle.update(msgspec.structs.replace(idle.settings, enabled=False))
        idle.apply(START + n / RATE, out[n])
    others = [c for c in range(COUNT) if c not in (*GAZE, *LIDS)]  # which saccades move
    assert np.abs(np.diff(out[:, others], axis=0)).max() < 0.02
    assert out[:, LIDS].max() < 0.4  # no blink at a rate of 0, only lids that follow a sad or sleepy gaze
    assert not out[500 + 2 * RATE + 2 :].any()  # once the change on its way was done


def test_the_first_second_fades_in() -> None:
    idle, out = Idle(IdleSettings(mood="sad")), np.zeros((90, COUNT), np.float32)
    for n in range(90):
        idle.apply(START + n / RATE, out[n])
    assert np.abs(out[0]).max() <= 1e-5
    assert np.abs(out[:5]).max() < 0.01
    assert out[80, INDEX["BrowInnerUp"]] > 0.1


def test_blinks_begin_again_when_the_rate_was_zero() -> None:
    idle, out = Idle(only()), np.zeros((60 * RATE, COUNT), np.float32)
    for n in range(len(out)):
        if n == 10 * RATE:
            idle.update(only(blink_rate=20))
        idle.apply(START + n / RATE, out[n])
    assert not out[: 10 * RATE, LIDS].any()
    assert 8 < len(blinks(out, RATE).onsets) < 30


def test_every_number_has_a_range_that_its_default_is_within() -> None:
    info = msgspec.inspect.type_info(IdleSettings)
    assert isinstance(info, msgspec.inspect.StructType)
    for field in info.fields:
        if isinstance(field.type, msgspec.inspect.FloatType | msgspec.inspect.IntType):
            assert field.type.ge is not None, field.name
            assert field.type.le is not None, field.name
            assert field.type.ge <= field.default <= field.type.le, field.name


def settings_of(text: str) -> IdleSettings:
    return msgspec.convert(tomllib.loads(text), IdleSettings)


def test_settings_stand_in_toml() -> None:
    settings = settings_of(
        'mood = "grumpy"\nblink_rate = 12\n[moods.grumpy]\nbrow_down = 0.2\n[moods.sad]\nfrown = 0.3'
    )
    assert settings.mood_named("grumpy").brow_down == 0.2
    assert settings.mood_named("grumpy").blink_rate == 1.0
    assert settings.mood_named("sad").frown == 0.3
    assert settings.mood_named("sad").gaze_down == MOODS["sad"].gaze_down


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("blink_rate = 90", "<= 60.0 - at `$.blink_rate`"),
        ("blnk_rate = 9", "unknown field `blnk_rate`"),
        ('mood = "angry"', "mood: 'angry' is not one of calm, happy, sad, tense, sleepy"),
        ("[moods.sad]\nfrwn = 0.3", "moods.sad: .*frwn"),
        ("[moods.sad]\nfrown = 3", "moods.sad: .*frown"),
        ("head_low = 1.0\nhead_high = 0.5", "head_low: 1 Hz is not below head_high, 0.5 Hz"),
    ],
)
def test_wrong_settings_are_refused_by_name(text: str, complaint: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=complaint.replace("$", r"\$").replace("(", r"\(")):
        settings_of(text)


def test_an_unknown_mood_changes_nothing() -> None:
    idle = Idle()
    with pytest.raises(ValueError, match="'angry' is not one of"):
        idle.set_mood("angry")
    assert idle.settings.mood == "calm"


def rows_of(page: str, heading: str) -> dict[str, list[str]]:
    """First cell, without its backticks, to the other cells, of the tables under a heading."""
    section = page.split(f"## {heading}")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return {first.strip("`"): rest for first, *rest in rows}


PAGE = (Path(__file__).parents[2] / "docs" / "idle.md").read_text(encoding="utf-8")


def test_the_page_has_every_setting_with_its_default_and_range() -> None:
    info, rows = msgspec.inspect.type_info(IdleSettings), rows_of(PAGE, "Settings")
    assert isinstance(info, msgspec.inspect.StructType)
    for field in info.fields:
        default, limits = rows[field.name][:2]
        if isinstance(field.type, msgspec.inspect.FloatType | msgspec.inspect.IntType):
            assert float(default) == field.default, field.name
            assert [float(limit) for limit in limits.split(" to ")] == [field.type.ge, field.type.le], field.name
    assert set(rows) - {field.name for field in info.fields} == {"[idle]", "---"}


def test_the_page_has_every_mood() -> None:
    rows = rows_of(PAGE, "Moods")
    assert rows[""] == list(MOODS)
    for name in msgspec.structs.asdict(MOODS["calm"]):
        assert [float(cell) for cell in rows[name]] == [getattr(mood, name) for mood in MOODS.values()], name


def test_settings_do_without_numba() -> None:
    script = "import sys, kff_live.protocols.idle.settings; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


# --- events -------------------------------------------------------------------------------------------------------


def habits(**changes: object) -> Habits:
    settings = msgspec.structs.replace(IdleSettings(), **changes)
    return Habits.of(settings, settings.mood_named(settings.mood))


def test_draws_have_the_mean_and_spread_they_are_asked_for() -> None:
    random = Random(1)
    numbers = np.array([draw(random, 3.0, 0.5) for _ in range(20_000)])
    assert numbers.mean() == pytest.approx(3.0, rel=0.02)
    assert numbers.std() / numbers.mean() == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("rate", [5, 17, 26, 60])
def test_blink_rate_is_kept_whatever_else_happens(rate: float) -> None:
    now = habits(blink_rate=rate, blink_gaze=2.0, blink_double=0.2)
    schedule, onsets = Schedule(1, now), set()
    while schedule.due < 3600:
        schedule.advance(schedule.due, now)
        onsets.add(float(schedule.state[k.BLINK_AT]))
    assert len(onsets) / 60 == pytest.approx(rate, rel=0.12)


def test_advancing_at_once_or_step_by_step_is_the_same() -> None:
    now = habits()
    whole, steps = Schedule(4, now), Schedule(4, now)
    whole.advance(100.0, now)
    for t in np.linspace(0, 100, 3001):
        steps.advance(float(t), now)
    assert np.array_equal(whole.state, steps.state)


# --- compiled and plain are one -----------------------------------------------------------------------------------


def test_every_kernel_is_compared_with_its_plain_self() -> None:
    compiled = {name for name, value in vars(k).items() if hasattr(value, "py_func")}
    numbers, poses = {"glide", "below", "spline", "breath", "lid"}, {"add", "rotate", "turn", "looks", "lay", "lean"}
    shared = {"meet", "shown"}  # compared in test_kernels
    assert compiled == numbers | poses | shared | {"leave_trace", "rest", "step_noise", "enliven"}


ANY_MIX = np.random.default_rng(5).dirichlet(np.ones(3), COUNT).T.astype(np.float32).copy()


def pair() -> tuple[Pose, Pose]:
    rng = np.random.default_rng(9)
    pose = rng.uniform(0, 0.3, COUNT).astype(np.float32)
    return pose, pose.copy()


def test_numbers_equal_their_plain_selves() -> None:
    rng = np.random.default_rng(1)
    events, noise = Schedule(1, habits()).state, rng.normal(size=(k.NOISES, 4))
    for x in rng.uniform(-0.2, 1.2, 50):
        assert k.glide(x) == pytest.approx(k.glide.py_func(x))
        assert k.below(0.1, 0.7, x) == pytest.approx(k.below.py_func(0.1, 0.7, x))
        assert k.spline(noise, 3, x) == pytest.approx(k.spline.py_func(noise, 3, x))
        assert k.breath(abs(3 * x), events) == pytest.approx(k.breath.py_func(abs(3 * x), events))
        events[k.BLINK_AT : k.BLINK_DEPTH + 1] = 0.1, 0.1, 0.02, 0.2, 0.3, 0.9
        assert k.lid(x, events) == pytest.approx(k.lid.py_func(x, events))


def test_changes_of_a_pose_equal_their_plain_selves() -> None:
    rng = np.random.default_rng(2)
    numbers = Idle(IdleSettings(mood="tense"))._way.numbers
    noise = rng.normal(size=(k.NOISES, 4))
    for x in rng.uniform(-1.5, 1.5, 20):
        fast, plain = pair()
        trace_fast, trace_plain = pair()
        for pose, trace, plainly in ((fast, trace_fast, False), (plain, trace_plain, True)):
            kernels = (k.add, k.rotate, k.turn, k.looks, k.lay, k.lean, k.leave_trace, k.rest)
            add, rotate, turn, looks, lay, lean, leave_trace, rest = (f.py_func if plainly else f for f in kernels)
            add(3, x, pose)
            rotate(HEAD[1], x, pose)
            turn(2, 3, INDEX["LeftEyeYaw"], x, pose)
            pose[0] = looks(pose)
            lay(5, abs(x) / 2, 0.3, 0.8, ANY_MIX, pose)
            pose[HEAD[2]] += lean(HEAD[2], x, 0.3, ANY_MIX, pose)
            leave_trace(0.02, 0.5, numbers, pose.copy(), trace, pose)
            rest(0.5, numbers, noise, 0.3, pose)
        assert fast == pytest.approx(plain, abs=1e-6)
        assert trace_fast == pytest.approx(trace_plain, abs=1e-6)


def test_noise_steps_equal_their_plain_selves() -> None:
    rng = np.random.default_rng(3)
    normals, coefficients = rng.normal(size=(4, k.NOISES, 2)), rng.uniform(0, 0.9, (k.NOISES, 5))
    results = []
    for step in (k.step_noise, k.step_noise.py_func):
        filters, noise = np.ones((k.NOISES, 4)), np.zeros((k.NOISES, 4))
        for row in range(4):
            step(normals, row, coefficients, filters, noise)
        results.append(np.stack([filters, noise]))
    assert results[0] == pytest.approx(results[1])


@pytest.mark.parametrize("seed", range(10))
def test_enliven_equals_its_plain_self(seed: int) -> None:
    rng = np.random.default_rng(seed)
    idle = Idle(IdleSettings(seed=seed, mood=list(MOODS)[seed % 5]))
    way, state = idle._way, idle._schedule.state
    noise = rng.normal(size=(k.NOISES, 4))
    for t in rng.uniform(0, 2, 10):
        fast, plain = pair()
        trace_fast, trace_plain = pair()
        for mix in (way.mix, ANY_MIX):
            k.enliven(t, 0.02, 1.0, way.numbers, state, noise, mix, trace_fast, neutral(), fast)
            k.enliven.py_func(t, 0.02, 1.0, way.numbers, state, noise, mix, trace_plain, neutral(), plain)
        assert fast == pytest.approx(plain, abs=1e-6)
        assert trace_fast == pytest.approx(trace_plain, abs=1e-6)
