"""Each kernel against its plain Python self, and what a cut must keep: position, velocity and range."""

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from kff_live.protocols import kernels
from kff_live.protocols.channels import COUNT, HIGH, INDEX, LOW, Pose, neutral, pose_to_names
from kff_live.protocols.easing import EASINGS, ease
from kff_live.protocols.keyframes import Keyframe, as_acted
from kff_live.protocols.layers import MODES, Mix
from kff_live.protocols.track import EMPTY, Timeline, Track

OVERSHOOTING = ("backin", "backout", "back")
SMOOTH = [name for name in EASINGS if name not in (*OVERSHOOTING, "step")]
AT_SPEED = ("linear", "quadin", "cubicin", "sinein")  # arrive without slowing down
GENTLE = [name for name in SMOOTH if name not in AT_SPEED]
JAW, SMILE = INDEX["JawOpen"], INDEX["MouthSmileLeft"]
LENGTH = 0.4  # seconds that an offset takes to decay


def random_pose(rng: np.random.Generator) -> Pose:
    pose = rng.uniform(LOW, HIGH)
    pose[rng.random(COUNT) < 0.2] = 0.0
    at_limit = rng.random(COUNT) < 0.2
    pose[at_limit] = HIGH[at_limit]
    return pose.astype(np.float32)


def random_track(rng: np.random.Generator, *, easings: list[str] | None = None, keys: int = 4) -> Track:
    timeline = Timeline()
    for _ in range(keys):
        keyframe = Keyframe(
            random_pose(rng),
            way=rng.uniform(0.2, 1.0),
            hold=rng.choice([0.0, rng.uniform(0.0, 0.5)]),
            easing=str(rng.choice(easings or list(EASINGS))),
        )
        timeline.append(as_acted(keyframe))
    return timeline.track


def sample(track: Track, t: float, start: Pose) -> Pose:
    out = neutral()
    kernels.sample(t, track.begins, track.ways, track.easings, track.poses, start, out)
    return out


@dataclass
class Cut:
    """A cut onto a track at its time `at`, from a displayed pose; sampled `u` seconds later."""

    track: Track
    at: float
    start: Pose
    offset: Pose
    velocity: Pose
    span: Pose

    def act(self, u: float) -> Pose:
        track, out = self.track, neutral()
        kernels.act(
            self.at + u, track.begins, track.ways, track.easings, track.poses, self.start,
            u, self.offset, self.velocity, self.span, out,
        )  # fmt: skip
        return out


def cut(track: Track, at: float, displayed: Pose, velocity: Pose, *, length: float = LENGTH) -> Cut:
    velocity, offset, span = velocity.copy(), neutral(), neutral()
    kernels.fit_cut(
        at, track.begins, track.ways, track.easings, track.poses, displayed, length, LOW, HIGH,
        velocity, offset, span, neutral(),
    )  # fmt: skip
    return Cut(track, at, displayed, offset, velocity, span)


# --- compiled and plain are one -----------------------------------------------------------------------------------


def test_every_kernel_is_compared_with_its_plain_self() -> None:
    compiled = {name for name, value in vars(kernels).items() if hasattr(value, "py_func")}
    motion = {"ease", "sample", "decay", "act", "fit_cut", "finish"}
    assert compiled == motion | {"follow", "fade", "meet", "shown", "overlay"}


@pytest.mark.parametrize("kind", range(len(EASINGS)))
def test_ease_equals_its_plain_self(kind: int) -> None:
    assert kernels.ease.py_func is ease
    for share in np.linspace(-0.1, 1.1, 241):
        assert kernels.ease(kind, share) == pytest.approx(ease(kind, share), abs=1e-15)


@pytest.mark.parametrize("seed", range(10))
def test_sample_equals_its_plain_self(seed: int) -> None:
    rng = np.random.default_rng(seed)
    start = random_pose(rng)
    for track in (random_track(rng), EMPTY):
        for t in (*rng.uniform(-0.5, 6.0, 30), *track.begins, *(track.begins + track.ways)):
            arguments = (t, track.begins, track.ways, track.easings, track.poses, start)
            fast, plain = neutral(), neutral()
            assert kernels.sample(*arguments, fast) == kernels.sample.py_func(*arguments, plain)
            assert fast == pytest.approx(plain, abs=1e-6)


@pytest.mark.parametrize("seed", range(10))
def test_decay_equals_its_plain_self(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for offset, velocity, span, u in rng.uniform([-1, -5, 0.1, 0.0], [1, 5, 1.0, 1.1], (50, 4)):
        assert kernels.decay(offset, velocity, span, u) == pytest.approx(
            kernels.decay.py_func(offset, velocity, span, u)
        )


@pytest.mark.parametrize("seed", range(10))
def test_act_equals_its_plain_self(seed: int) -> None:
    rng = np.random.default_rng(seed)
    track, start = random_track(rng), random_pose(rng)
    offset, velocity = (rng.uniform(-1, 1, COUNT).astype(np.float32) for _ in range(2))
    span = rng.choice([0.0, 0.1, 0.4], COUNT).astype(np.float32)
    for u in rng.uniform(0.0, 0.6, 20):
        arguments = (u + 0.3, track.begins, track.ways, track.easings, track.poses, start, u, offset, velocity, span)
        fast, plain = neutral(), neutral()
        assert kernels.act(*arguments, fast) == kernels.act.py_func(*arguments, plain)
        assert fast == pytest.approx(plain, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_fit_cut_equals_its_plain_self(seed: int) -> None:
    rng = np.random.default_rng(seed)
    track, displayed, speed = random_track(rng, keys=2), random_pose(rng), rng.normal(0, 2, COUNT).astype(np.float32)
    results: list[list[Pose]] = []
    for kernel in (kernels.fit_cut, kernels.fit_cut.py_func):
        velocity, offset, span = speed.copy(), neutral(), neutral()
        kernel(
            0.1, track.begins, track.ways, track.easings, track.poses, displayed, LENGTH, LOW, HIGH,
            velocity, offset, span, neutral(),
        )  # fmt: skip
        results.append([velocity, offset, span])
    for fast, plain in zip(*results, strict=True):
        assert fast == pytest.approx(plain, abs=2e-3)  # velocities are differences over 1 ms
    assert (results[0][2] == results[1][2]).mean() > 0.95


@pytest.mark.parametrize("seed", range(10))
def test_finish_equals_its_plain_self(seed: int) -> None:
    rng = np.random.default_rng(seed)
    acted, gain, offset = (rng.uniform(-1.5, 1.5, COUNT).astype(np.float32) for _ in range(3))
    fast, plain = neutral(), neutral()
    kernels.finish(acted, gain, offset, LOW, HIGH, fast)
    kernels.finish.py_func(acted, gain, offset, LOW, HIGH, plain)
    assert fast == pytest.approx(plain, abs=1e-6)


# --- decay --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "velocity", "span"), [(1.0, 0.0, 0.4), (0.0, 2.0, 0.4), (-0.5, 3.0, 1.0), (0.3, -4.0, 0.1)]
)
def test_decay_begins_with_offset_and_velocity_and_ends_at_rest(offset: float, velocity: float, span: float) -> None:
    def at(u: float) -> float:
        value: float = kernels.decay(offset, velocity, span, u)
        return value

    h = 1e-5 * span
    assert at(0.0) == pytest.approx(offset)
    assert (at(h) - at(0.0)) / h == pytest.approx(velocity, abs=1e-3)
    assert (at(2 * h) - 2 * at(h) + at(0.0)) / h**2 == pytest.approx(0.0, abs=5e-2 / span**2)
    assert [at(span), at(span * 2)] == [0.0, 0.0]
    assert (at(span) - at(span - h)) / h == pytest.approx(0.0, abs=1e-6)
    assert at(span * 0.999) == pytest.approx(0.0, abs=1e-6)


# --- cuts ---------------------------------------------------------------------------------------------------------


def displayed_on(track: Track, t: float, start: Pose, tick: float = 1 / 60) -> tuple[Pose, Pose]:
    """Pose and velocity of a motion as a frame thread knows them: two displayed frames."""
    now, before = sample(track, t, start), sample(track, t - tick, start)
    return now, ((now - before) / np.float32(tick)).astype(np.float32)


def derivative(motion: Cut, u: float, h: float) -> NDArray[np.float64]:
    return (motion.act(u + h).astype(np.float64) - motion.act(u).astype(np.float64)) / h


@pytest.mark.parametrize("seed", range(300))
def test_position_and_velocity_go_on_at_a_cut(seed: int) -> None:
    rng = np.random.default_rng(seed)
    old, new = random_track(rng, easings=SMOOTH), random_track(rng, easings=SMOOTH)
    displayed, speed = displayed_on(old, rng.uniform(0.05, 3.0), random_pose(rng))
    motion = cut(new, float(rng.choice([0.0, rng.uniform(0.0, 1.5)])), displayed, speed)
    assert motion.act(0.0) == pytest.approx(displayed, abs=1e-6)
    # Over a millisecond, so that float32 does not drown the difference; a shortened span bends within it.
    bend = 60.0 * (np.abs(motion.offset) + np.abs(motion.velocity) * motion.span) / motion.span**2
    at_a_limit = ((displayed >= HIGH) & (speed > 0.0)) | ((displayed <= LOW) & (speed < 0.0))  # nowhere to go
    near = np.abs(derivative(motion, 0.0, 1e-3) - speed) <= 2e-3 + 0.5e-3 * bend
    assert np.all(near | at_a_limit)


def worst_overshoot(motion: Cut) -> float:
    poses = np.stack([motion.act(u) for u in np.linspace(0.0, LENGTH * 1.1, 200)])
    return float(np.maximum(poses - HIGH, LOW - poses).max())


@pytest.mark.parametrize("seed", range(300))
def test_a_cut_between_motions_in_range_stays_in_range(seed: int) -> None:
    rng = np.random.default_rng(10_000 + seed)
    old, new = random_track(rng, easings=GENTLE), random_track(rng, easings=GENTLE)
    displayed, speed = displayed_on(old, rng.uniform(0.05, 3.0), random_pose(rng))
    assert worst_overshoot(cut(new, 0.0, displayed, speed)) <= 1e-3


@pytest.mark.parametrize("seed", range(100))
def test_a_cut_where_a_motion_runs_into_its_limit_at_full_speed_hardly_leaves_the_range(seed: int) -> None:
    rng = np.random.default_rng(20_000 + seed)
    old, new = random_track(rng, easings=SMOOTH), random_track(rng, easings=SMOOTH)
    displayed, speed = displayed_on(old, rng.uniform(0.05, 3.0), random_pose(rng))
    assert worst_overshoot(cut(new, 0.0, displayed, speed)) <= 5e-3


@pytest.mark.parametrize("length", [0.1, 0.3, 0.4, 0.5, 0.7])
def test_a_value_that_rushes_to_its_limit_is_braked_sooner_and_others_are_not(length: float) -> None:
    displayed, speed = neutral(), neutral()
    displayed[[JAW, SMILE]] = 0.9, 0.5
    speed[[JAW, SMILE]] = 15.0, 0.25
    motion = cut(Timeline().append(Keyframe(displayed.copy(), way=1.0)), 0.0, displayed, speed, length=length)
    assert motion.span[JAW] < length / 2
    assert motion.span[SMILE] == pytest.approx(length)
    assert worst_overshoot(motion) <= 1e-3


def test_a_cut_at_rest_onto_a_track_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    track, start = random_track(rng), random_pose(rng)
    motion = cut(track, 0.0, start, neutral())
    for u in (0.0, 0.1, 0.3, 2.0):
        assert motion.act(u) == pytest.approx(sample(track, u, start), abs=2e-2)
    assert np.array_equal(motion.act(LENGTH), sample(track, LENGTH, start))


def test_a_cut_onto_an_empty_track_comes_to_rest_where_it_was() -> None:
    displayed, speed = neutral(), neutral()
    displayed[JAW], speed[JAW] = 0.5, 1.0
    motion = cut(EMPTY, 0.0, displayed, speed)
    assert motion.act(0.05)[JAW] > 0.52
    assert np.array_equal(motion.act(LENGTH), displayed)


# --- finish -------------------------------------------------------------------------------------------------------

ONES, ZEROS = np.ones(COUNT, np.float32), neutral()


def finish(named: dict[str, float], *, gain: Pose = ONES, offset: Pose = ZEROS) -> dict[str, float]:
    acted, out = neutral(), neutral()
    for name, value in named.items():
        acted[INDEX[name]] = value
    kernels.finish(acted, gain, offset, LOW, HIGH, out)
    return pose_to_names(out)


def only(name: str, value: float, *, rest: float) -> Pose:
    pose = np.full(COUNT, rest, np.float32)
    pose[INDEX[name]] = value
    return pose


@pytest.mark.parametrize(
    ("acted", "sent"),
    [
        ({}, {}),
        ({"JawOpen": 0.5, "HeadYaw": -0.5}, {"JawOpen": 0.5, "HeadYaw": -0.5}),
        ({"MouthClose": 0.5, "JawOpen": 0.25}, {"MouthClose": 0.25, "JawOpen": 0.25}),
        ({"MouthClose": 0.25, "JawOpen": 0.5}, {"MouthClose": 0.25, "JawOpen": 0.5}),
        ({"MouthClose": 0.5, "JawOpen": -0.25}, {}),
        ({"EyeBlinkLeft": 0.75, "EyeWideLeft": 1, "EyeWideRight": 1},
         {"EyeBlinkLeft": 0.75, "EyeWideLeft": 0.25, "EyeWideRight": 1}),
        ({"EyeBlinkRight": 1.5, "EyeWideRight": 1}, {"EyeBlinkRight": 1}),
        ({"JawOpen": 1.5, "HeadYaw": -1.5, "HeadRoll": 1.5}, {"JawOpen": 1, "HeadYaw": -1, "HeadRoll": 1}),
        ({"JawOpen": -0.1, "TongueOut": -5}, {}),
    ],
)  # fmt: skip
def test_finish_keeps_the_rules_and_the_limits(acted: dict[str, float], sent: dict[str, float]) -> None:
    assert finish(acted) == pytest.approx(sent)


@pytest.mark.parametrize(
    ("gain", "offset", "acted", "sent"),
    [
        (only("HeadYaw", -1.0, rest=1.0), ZEROS, {"HeadYaw": 0.5, "HeadRoll": 0.5}, {"HeadYaw": -0.5, "HeadRoll": 0.5}),
        (only("JawOpen", 2.0, rest=1.0), ZEROS, {"JawOpen": 0.25}, {"JawOpen": 0.5}),
        (only("JawOpen", 2.0, rest=1.0), ZEROS, {"JawOpen": 0.75}, {"JawOpen": 1.0}),
        (only("JawOpen", 0.0, rest=1.0), ZEROS, {"JawOpen": 0.75}, {}),
        (ONES, only("HeadPitch", -0.25, rest=0.0), {"HeadPitch": 0.5}, {"HeadPitch": 0.25}),
        (ONES, only("JawOpen", 0.25, rest=0.0), {"JawOpen": 1.0}, {"JawOpen": 1.0}),
        (only("JawOpen", 2.0, rest=1.0), only("JawOpen", -0.25, rest=0.0), {"JawOpen": 0.5}, {"JawOpen": 0.75}),
    ],
)
def test_finish_applies_the_subjects_gain_then_its_offset_then_the_limits(
    gain: Pose, offset: Pose, acted: dict[str, float], sent: dict[str, float]
) -> None:
    assert finish(acted, gain=gain, offset=offset) == pytest.approx(sent)


@pytest.mark.parametrize("seed", range(50))
def test_finished_pose_keeps_every_rule_whatever_comes_in(seed: int) -> None:
    acted, out = np.random.default_rng(seed).uniform(-2, 2, COUNT).astype(np.float32), neutral()
    kernels.finish(acted, ONES, ZEROS, LOW, HIGH, out)
    assert out[INDEX["MouthClose"]] <= out[JAW]
    for side in ("Left", "Right"):
        assert out[INDEX[f"EyeWide{side}"]] <= 1.0 - out[INDEX[f"EyeBlink{side}"]]
    assert np.all(out >= LOW)
    assert np.all(out <= HIGH)
    assert np.array_equal(acted, np.random.default_rng(seed).uniform(-2, 2, COUNT).astype(np.float32))


# --- layers


def one_mode(mode: str, weight: float = 1.0) -> Mix:
    mix = np.zeros((len(MODES), COUNT), np.float32)
    mix[MODES.index(mode)] = weight
    return mix


@pytest.mark.parametrize("seed", range(10))
def test_follow_fade_meet_and_overlay_equal_their_plain_selves(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b, c, d = (random_pose(rng) for _ in range(4))
    mix = rng.dirichlet(np.ones(len(MODES)), COUNT).T.astype(np.float32).copy()
    share, left = (float(x) for x in rng.random(2))
    results = []
    for kernel in ("follow", "fade", "overlay"):
        for function in (getattr(kernels, kernel), getattr(kernels, kernel).py_func):
            first, out = c.copy(), d.copy()
            if kernel == "follow":
                function(a, b, left, share, first, out)
            elif kernel == "fade":
                function(a, share, out)
            else:
                function(a, b, mix, share, left, out)
            results.append(np.concatenate([first, out]))
    for compiled, plain in zip(results[::2], results[1::2], strict=True):
        assert compiled == pytest.approx(plain, abs=1e-6)
    for i in range(COUNT):
        assert kernels.meet(i, a[i], b[i], share, mix) == pytest.approx(
            kernels.meet.py_func(i, a[i], b[i], share, mix), abs=1e-6
        )
        assert kernels.shown(i, mix) == pytest.approx(kernels.shown.py_func(i, mix)) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("mode", "channel", "below", "own", "keeps", "met"),
    [
        ("add", "JawOpen", 0.0, 0.4, 0.0, 0.4),
        ("add", "JawOpen", 0.5, 0.4, 0.0, 0.7),  # 0.4 of what 0.5 has left
        ("add", "JawOpen", 1.0, 0.4, 0.0, 1.0),
        ("add", "HeadYaw", 0.5, -0.4, 0.0, 0.1),
        ("max", "JawOpen", 0.5, 0.4, 0.0, 0.5),
        ("max", "JawOpen", 0.3, 0.4, 0.0, 0.4),
        ("max", "HeadYaw", -0.5, -0.4, 0.0, -0.5),
        ("max", "HeadYaw", -0.5, 0.4, 0.0, -0.1),
        ("override", "JawOpen", 0.5, 0.4, 0.0, 0.4),
        ("override", "JawOpen", 0.5, 0.4, 0.5, 0.55),
        ("override", "JawOpen", 0.5, 0.0, 1.0, 0.5),
        ("override", "HeadYaw", 0.5, -0.4, 0.0, -0.4),
        ("override", "HeadYaw", 0.5, -0.4, 0.5, -0.15),
    ],
)
def test_meet(mode: str, channel: str, below: float, own: float, keeps: float, met: float) -> None:
    for weight in (0.0, 0.25, 1.0):
        found = kernels.meet(INDEX[channel], below, own, keeps, one_mode(mode, weight))
        assert found == pytest.approx(below + weight * (met - below), abs=1e-7)


def test_a_mix_between_two_modes_is_between_what_they_make() -> None:
    mix = 0.25 * one_mode("max") + 0.75 * one_mode("override")
    assert kernels.meet(JAW, 0.6, 0.2, 0.0, mix) == pytest.approx(0.25 * 0.6 + 0.75 * 0.2)


def test_overlay_of_opposite_rotations_does_not_jump() -> None:
    greater = one_mode("max")
    yaw, out = INDEX["HeadYaw"], neutral()
    shown = []
    for value in np.linspace(-0.4, 0.4, 801):
        acted, live = neutral(), neutral()
        acted[yaw], live[yaw] = value, 0.2
        kernels.overlay(acted, live, greater, 1.0, 1.0, out)
        shown.append(float(out[yaw]))
    assert np.abs(np.diff(shown)).max() <= 0.0011
    assert shown[0] == pytest.approx(-0.2)
    assert shown[-1] == pytest.approx(0.4)
