"""The mouth while it talks: on time, closed where it must be, smooth, at rest in silence, over an expression."""

import random
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from kff_live.protocols.channels import COUNT, GROUPS, INDEX, SHAPES, Pose, neutral
from kff_live.protocols.layers import MODES, Blend, Regions
from kff_live.protocols.talk import kernels
from kff_live.protocols.talk import speech as speech_module
from kff_live.protocols.talk.layer import KEEPS, PARTS, Talk
from kff_live.protocols.talk.speech import Speech, Word, speech_from_text, speech_from_words
from kff_live.protocols.talk.visemes import CLOSED_JAW, VISEMES

JAW, CLOSE, SMILE, BROW = (INDEX[name] for name in ("JawOpen", "MouthClose", "MouthSmileLeft", "BrowInnerUp"))
FRAME = 1 / 60
SOUNDS = """
bob mop pebble maybe imp bump amber umbrella problem obvious submit hamper rhubarb apple map cabin blame prime the
you we go see blue true wow why yes no fine five very love off vivid think this those thaw sit zoo shoe church judge
vision key gag sing red error lately until hat who are our out boy day though air ear awesome
"""
WORDS = SOUNDS.split()


def random_text(rng: random.Random, words: int = 20) -> str:
    return " ".join(rng.choice(WORDS) + rng.choice(["", "", "", "", "", ",", "."]) for _ in range(words))


def mouth(speech: Speech, t: float) -> Pose:
    out = neutral()
    kernels.talk(t, speech.apexes, speech.curves, speech.poses, out)
    return out


def sampled(speech: Speech, *, phase: float = 0.0) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Times and mouths at 60 fps over the whole speech."""
    times = np.arange(speech.opens - 0.1, speech.closes + 0.1, FRAME) + phase * FRAME
    return times, np.stack([mouth(speech, float(t)) for t in times])


def openness(pose: Pose) -> float:
    return float(pose[JAW] - pose[CLOSE])


# --- compiled and plain are one -----------------------------------------------------------------------------------


def test_every_kernel_is_compared_with_its_plain_self() -> None:
    compiled = {name for name, value in vars(kernels).items() if hasattr(value, "py_func")}
    shared = {"meet", "shown"}  # compared in test_kernels
    assert compiled == shared | {"smooth", "bump", "talk", "lead", "talk_over"}


def test_the_window_is_the_one_the_arrays_are_made_for() -> None:
    assert kernels.WINDOW == speech_module.WINDOW


def test_smooth_and_bump_equal_their_plain_selves() -> None:
    for x in np.linspace(-0.2, 1.3, 100):
        assert kernels.smooth(x) == pytest.approx(kernels.smooth.py_func(x))
        assert kernels.bump(abs(x), 0.9) == pytest.approx(kernels.bump.py_func(abs(x), 0.9))


@pytest.mark.parametrize("seed", range(5))
def test_talk_equals_its_plain_self(seed: int) -> None:
    rng = random.Random(seed)
    for text in (random_text(rng, 6), ""):
        speech = speech_from_text(text)
        for t in [*np.linspace(-0.3, speech.duration + 0.3, 40), *speech.apexes]:
            plain = neutral()
            kernels.talk.py_func(t, speech.apexes, speech.curves, speech.poses, plain)
            assert mouth(speech, t) == pytest.approx(plain, abs=1e-6)


@pytest.mark.parametrize("seed", range(10))
def test_lead_and_talk_over_equal_their_plain_selves(seed: int) -> None:
    rng = np.random.default_rng(seed)
    spoken = speech_from_text("my lips")
    pose, said = (rng.uniform(0, 1, COUNT).astype(np.float32) for _ in range(2))
    said[CLOSE] = rng.uniform(0, CLOSED_JAW)
    weight = float(rng.uniform(0, 1))
    mix = rng.dirichlet(np.ones(3), COUNT).T.astype(np.float32).copy()
    fast, plain = pose.copy(), pose.copy()
    kernels.lead(said, KEEPS, PARTS, mix, weight, fast)
    kernels.lead.py_func(said, KEEPS, PARTS, mix, weight, plain)
    assert fast == pytest.approx(plain, abs=1e-6)
    fast, plain = pose.copy(), pose.copy()
    arguments = (0.1, spoken.apexes, spoken.curves, spoken.poses, KEEPS, PARTS, mix, weight)
    kernels.talk_over(*arguments, neutral(), fast)
    kernels.talk_over.py_func(*arguments, neutral(), plain)
    assert fast == pytest.approx(plain, abs=1e-6)


# --- on time ------------------------------------------------------------------------------------------------------

ENOUGH = 0.05
"""A sound stands out where in some channel it is this much above, or below, both sounds beside it."""
SAME = 0.005
"""Within this of the peak is the peak: held sounds have a flat top."""


def peaks(speech: Speech, times: NDArray[np.float64], mouths: NDArray[np.float32]) -> list[tuple[float, float]]:
    """(apex, how far the peak lies from it in s) of every sound that stands out from its neighbours."""
    found = []
    n = len(speech.apexes)
    for i, apex in enumerate(speech.apexes):
        before = speech.apexes[i - 1] if i and not speech.curves[i - 1, kernels.PAUSE] else apex - 0.1
        after = speech.apexes[i + 1] if i + 1 < n and not speech.curves[i, kernels.PAUSE] else apex + 0.1
        left, own, right = (mouth(speech, float(t)) for t in (before, apex, after))
        above, below = own - np.maximum(left, right), np.minimum(left, right) - own
        sign, gain = (1.0, above) if above.max() >= below.max() else (-1.0, below)
        channel = int(gain.argmax())
        between = np.flatnonzero((times >= before) & (times <= after))
        if gain[channel] < ENOUGH or not len(between):
            continue
        values = sign * mouths[between, channel]
        at_peak = times[between[values >= values.max() - SAME]]
        found.append((float(apex), float(np.abs(at_peak - apex).min())))
    return found


@pytest.mark.parametrize("seed", range(12))
def test_visemes_of_a_text_peak_within_one_frame_of_their_apex(seed: int) -> None:
    rng = random.Random(seed)
    speech = speech_from_text(random_text(rng), rate=rng.choice([90, 130, 175, 250, 330]))
    found = peaks(speech, *sampled(speech, phase=rng.random()))
    assert len(found) > 20
    assert max(off for _, off in found) <= FRAME + 1e-9


@pytest.mark.parametrize("seed", range(12))
def test_visemes_of_word_times_lie_in_their_words_and_peak_within_one_frame(seed: int) -> None:
    rng = random.Random(seed)
    words, at = [], 0.3
    for _ in range(20):
        text = rng.choice(WORDS)
        length = len(text) * rng.uniform(0.04, 0.12)
        words.append(Word(text, at, at + length))
        at += length + rng.choice([0.0, 0.0, 0.02, 0.3, 1.5])
    speech = speech_from_words(words)
    for sound, apex in zip(speech.sounds, speech.apexes, strict=True):
        assert words[sound.word].start <= apex <= words[sound.word].end
    found = peaks(speech, *sampled(speech, phase=rng.random()))
    assert len(found) > 20
    assert max(off for _, off in found) <= FRAME + 1e-9


# --- closed lips --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [60, 175, 300, 500])
@pytest.mark.parametrize("seed", range(8))
def test_lips_close_on_p_b_and_m_whatever_stands_beside_them(seed: int, rate: float) -> None:
    speech = speech_from_text(random_text(random.Random(seed)), rate=rate)
    closures = [sound for sound in speech.sounds if sound.phoneme in ("P", "B", "M")]
    assert closures
    for sound in closures:
        pose = mouth(speech, sound.apex)
        assert openness(pose) <= 1e-3
        assert pose[CLOSE] >= 0.99 * CLOSED_JAW
        assert pose[INDEX["MouthPressLeft"]] >= 0.4
        nearest = min((mouth(speech, round(sound.apex / FRAME) * FRAME + k * FRAME) for k in (-1, 0, 1)), key=openness)
        assert openness(nearest) <= (0.02 if rate < 250 else 0.08)


def test_the_mouth_opens_between_closures() -> None:
    speech = speech_from_text("papa mama bob", rate=300)
    for sound in speech.sounds:
        if sound.phoneme.startswith("AA"):
            assert openness(mouth(speech, sound.apex)) > 0.2


def test_lip_and_teeth_meet_on_f_and_v() -> None:
    speech = speech_from_text("five very vivid waves of love", rate=350)
    for sound in speech.sounds:
        if sound.viseme == "ff":
            pose = mouth(speech, sound.apex)
            assert pose[INDEX["MouthRollLower"]] >= 0.6
            assert pose[JAW] <= 0.1


def test_faster_vowels_fall_short_of_slow_ones() -> None:
    opened = []
    for rate in (80, 175, 400):
        speech = speech_from_text("papa", rate=rate)
        opened.append(max(openness(mouth(speech, sound.apex)) for sound in speech.sounds))
    assert opened[0] > opened[1] > opened[2] > 0.3 * opened[0]


def test_a_consonant_takes_the_rounding_of_its_neighbours() -> None:
    def pucker(text: str) -> float:
        speech = speech_from_text(text)
        return float(mouth(speech, speech.sounds[0].apex)[INDEX["MouthPucker"]])

    assert pucker("too") > 0.4
    assert pucker("tea") < 0.05


# --- smooth, in range, at rest ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_position_and_velocity_are_continuous(seed: int) -> None:
    rng = random.Random(seed)
    speech = speech_from_text(random_text(rng, 8), rate=rng.choice([100, 175, 300]))
    h = 2e-4
    times = np.arange(speech.opens - 0.05, speech.closes + 0.05, h)
    mouths = np.stack([mouth(speech, float(t)) for t in times]).astype(np.float64)
    velocity = np.diff(mouths, axis=0) / h
    jump = np.abs(np.diff(velocity, axis=0)).max()
    finer = np.stack([mouth(speech, float(t)) for t in np.arange(times[0], times[0] + 2.0, h / 2)]).astype(np.float64)
    finer_jump = np.abs(np.diff(finer, 2, axis=0)).max() / (h / 2)
    assert np.abs(np.diff(mouths, axis=0)).max() < 0.02
    assert jump < 10.0  # per second, within 0.2 ms: bounded acceleration
    assert finer_jump < 0.7 * jump + 0.5  # halves with the step, as a corner would not


@pytest.mark.parametrize("seed", range(6))
def test_the_mouth_stays_in_range_and_never_closes_further_than_the_jaw_is_open(seed: int) -> None:
    rng = random.Random(100 + seed)
    speech = speech_from_text(random_text(rng, 30), rate=rng.choice([50, 175, 500]))
    _, mouths = sampled(speech)
    assert np.all(mouths[:, CLOSE] <= mouths[:, JAW] + 1e-6)
    assert np.all(mouths >= 0.0)
    assert np.all(mouths <= 1.0)
    assert np.all(mouths[:, SHAPES:] == 0.0)


def test_the_mouth_rests_before_after_and_in_pauses() -> None:
    speech = speech_from_words([Word("mama", 0.5, 1.0), Word("😀", 1.0, 2.0), Word("papa", 3.0, 3.5)])
    for t in (-100.0, 0.0, speech.opens, 2.0, speech.closes, 5.0, 1e6):
        assert not mouth(speech, t).any()
    assert mouth(speech, 0.75).any()


def test_silence_is_rest() -> None:
    for t in (-1.0, 0.0, 0.5, 2.0):
        assert not mouth(speech_from_text("", duration=1.0), t).any()


# --- over an expression -------------------------------------------------------------------------------------------


def expression(**levels: float) -> Pose:
    pose = neutral()
    for name, level in levels.items():
        pose[INDEX[name]] = level
    return pose


def apply(speech: Speech, t: float, acted: Pose, weight: float = 1.0, regions: Regions | None = None) -> Pose:
    pose = acted.copy()
    Talk(speech, kernels).apply(t, pose, weight, (regions or Regions()).mix())
    return pose


def every(mode: str) -> Regions:
    return msgspec.convert({group: {"mode": mode} for group in GROUPS}, Regions)


def test_the_expression_shows_through() -> None:
    speech = speech_from_text("what a beautiful morning")
    acted = expression(MouthSmileLeft=0.8, BrowInnerUp=0.5, EyeBlinkLeft=0.3, HeadYaw=-0.4, JawOpen=0.6)
    for t in np.linspace(0, speech.duration, 50):
        pose = apply(speech, float(t), acted)
        assert 0.48 <= pose[SMILE] <= 0.7
        for name in ("BrowInnerUp", "EyeBlinkLeft", "HeadYaw", "NoseSneerLeft"):
            assert pose[INDEX[name]] == acted[INDEX[name]]


def test_weight_0_changes_nothing_and_weights_between_blend() -> None:
    speech = speech_from_text("papa")
    acted = expression(JawOpen=0.7, MouthSmileLeft=0.5, MouthClose=0.2)
    t = speech.sounds[1].apex
    assert np.array_equal(apply(speech, t, acted, 0.0), acted)
    assert apply(speech, t, acted, 1e-6) == pytest.approx(acted, abs=1e-5)
    steps = [apply(speech, t, acted, float(weight)) for weight in np.linspace(0, 1, 101)]
    assert max(float(np.abs(b - a).max()) for a, b in pairwise(steps)) < 0.02
    assert np.array_equal(apply(speech, t, acted, 2.0), steps[-1])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", range(20))
def test_lips_close_over_any_expression_and_every_rule_holds(seed: int, mode: str) -> None:
    rng = np.random.default_rng(seed)
    speech = speech_from_text("Bob may map an amber problem, maybe.", rate=float(rng.uniform(80, 400)))
    acted = neutral()
    acted[:SHAPES] = rng.uniform(0, 1, SHAPES)
    acted[CLOSE] = min(acted[CLOSE], acted[JAW])
    for t in np.linspace(-0.3, speech.duration + 0.3, 100):
        pose = apply(speech, float(t), acted, float(rng.uniform(0, 1)), every(mode))
        assert pose[CLOSE] <= pose[JAW]
        assert np.all(pose[:SHAPES] >= 0.0)
        assert np.all(pose[:SHAPES] <= 1.0)
    for sound in speech.sounds:
        if sound.viseme == "pp":
            pose = apply(speech, sound.apex, acted, regions=every(mode))
            assert openness(pose) <= 2e-3
            assert pose[INDEX["MouthLowerDownLeft"]] <= 2e-3
            assert pose[INDEX["TongueOut"]] <= 2e-3


def test_a_region_without_weight_is_left_to_the_expression_and_lips_still_close() -> None:
    speech = speech_from_text("Bob may map an amber problem, maybe.")
    acted = expression(JawOpen=0.3, MouthSmileLeft=0.8, MouthPucker=0.2, TongueOut=0.4, BrowInnerUp=0.5)
    for sound in speech.sounds:
        jaw = apply(speech, sound.apex, acted, regions=Regions(jaw=Blend(weight=0.0)))
        assert jaw[JAW] == acted[JAW]
        if sound.viseme == "pp":
            assert openness(jaw) <= 2e-3
        tongue = apply(speech, sound.apex, acted, regions=Regions(tongue=Blend(weight=0.0)))
        assert tongue[INDEX["TongueOut"]] == acted[INDEX["TongueOut"]]
        mouth_ = apply(speech, sound.apex, acted, regions=Regions(mouth=Blend(weight=0.0)))
        assert np.array_equal(mouth_[list(GROUPS["mouth"])], acted[list(GROUPS["mouth"])])


def test_modes_meet_the_expression() -> None:
    speech = speech_from_text("what a beautiful morning")
    acted = expression(MouthSmileLeft=0.8, JawOpen=0.2, BrowInnerUp=0.5, HeadYaw=-0.4)
    for t in np.linspace(0, speech.duration, 50):
        said = mouth(speech, float(t))
        added, greater = (apply(speech, float(t), acted, regions=every(mode)) for mode in ("add", "max"))
        for c in (SMILE, JAW):
            assert added[c] == pytest.approx(acted[c] + said[c] * (1 - acted[c]), abs=1e-6)
            assert greater[c] == pytest.approx(max(acted[c], said[c]), abs=1e-6)
        for pose in (added, greater):
            assert pose[[INDEX["BrowInnerUp"], INDEX["HeadYaw"]]] == pytest.approx([0.5, -0.4])


def test_before_and_after_the_speech_what_is_kept_of_the_expression_shows() -> None:
    speech = speech_from_text("papa")
    acted = expression(JawOpen=0.8, MouthSmileLeft=0.5, BrowInnerUp=0.5)
    for t in (-5.0, 50.0):
        assert apply(speech, t, acted) == pytest.approx(acted * KEEPS)


def test_speech_channels_are_those_that_the_expression_gives_up() -> None:
    moved = np.any(np.stack([viseme.pose for viseme in VISEMES.values()]) > 0.0, axis=0)
    assert np.all(KEEPS[moved] < 1.0)
    assert np.all(KEEPS[SHAPES:] == 1.0)
