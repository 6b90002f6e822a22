"""The report on recordings whose numbers are known beforehand."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from kff_live.protocols.channels import COUNT, EYE_RADIANS, INDEX
from kff_live.protocols.idle.report import (
    Figure,
    blinks,
    breaths,
    gaze,
    identical_share,
    report,
    saccades,
    slope,
    spectrum,
)

Poses = NDArray[np.float32]
RATE = 60.0


def still(seconds: float, rate: float = RATE) -> Poses:
    return np.zeros((round(seconds * rate), COUNT), np.float32)


def with_blinks(onsets: list[float], *, closing: float = 0.1, opening: float = 0.2, rest: float = 0.0) -> Poses:
    poses = still(60)
    t = np.arange(len(poses)) / RATE
    lids = np.full(len(t), rest)
    for onset in onsets:
        shape = np.interp(t - onset, [0, closing, closing + opening], [0, 1, 0])
        lids = np.maximum(lids, rest + (1 - rest) * shape)
    poses[:, [INDEX["EyeBlinkLeft"], INDEX["EyeBlinkRight"]]] = lids[:, None]
    return poses


def looking(yaw: NDArray[np.float64], pitch: NDArray[np.float64]) -> Poses:
    """Both eyes at these degrees, the face's right and down."""
    poses = still(len(yaw) / RATE)
    poses[:, [INDEX["LeftEyeYaw"], INDEX["RightEyeYaw"]]] = np.radians(yaw)[:, None]
    poses[:, [INDEX["LeftEyePitch"], INDEX["RightEyePitch"]]] = np.radians(pitch)[:, None]
    return poses


# --- blinks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rest", [0.0, 0.25])
def test_blinks_are_found_with_their_times(rest: float) -> None:
    onsets = [2.0, 5.5, 6.0, 30.25]
    found = blinks(with_blinks(onsets, rest=rest), RATE)
    assert found.onsets == pytest.approx(onsets, abs=1.5 / RATE)
    assert found.closing == pytest.approx([0.1] * 4, abs=1.5 / RATE)
    assert found.opening == pytest.approx([0.2] * 4, abs=1.5 / RATE)


def test_a_wink_is_no_blink() -> None:
    poses = with_blinks([5.0])
    poses[:, INDEX["EyeBlinkRight"]] = 0
    assert len(blinks(poses, RATE).onsets) == 0


@pytest.mark.parametrize("onset", [-0.1, 59.95])
def test_blinks_at_the_edges_of_a_recording_do_no_harm(onset: float) -> None:
    assert len(blinks(with_blinks([onset]), RATE).onsets) <= 1


# --- gaze ---------------------------------------------------------------------------------------------------------


def test_gaze_is_the_eyes_in_the_world() -> None:
    poses = looking(np.full(10, 5.0), np.full(10, -2.0))
    assert gaze(poses)[0] == pytest.approx([5.0, -2.0], abs=1e-4)
    poses[:, INDEX["HeadYaw"]] = np.radians(5.0)  # to the face's left: what the eyes turned right is made up for
    poses[:, INDEX["HeadPitch"]] = np.radians(-2.0)  # down, as the eyes look up
    assert gaze(poses)[0] == pytest.approx([0.0, 0.0], abs=1e-4)


def test_eyes_that_only_converge_look_ahead() -> None:
    poses = still(1)
    poses[:, INDEX["LeftEyeYaw"]], poses[:, INDEX["RightEyeYaw"]] = 0.05, -0.05
    assert gaze(poses) == pytest.approx(np.zeros((60, 2)), abs=1e-6)


def test_saccades_are_found_with_their_sizes() -> None:
    t = np.arange(600) / RATE
    yaw = np.interp(t, [1.0, 1.05, 4.0, 4.03], [0.0, 10.0, 10.0, 7.0])
    pitch = np.interp(t, [7.0, 7.04], [0.0, 4.0]) + 0.5 * np.sin(t)  # and pursuit, which is none
    found = saccades(looking(yaw, pitch), RATE)
    assert found.degrees == pytest.approx([10.0, 3.0, 4.0], abs=0.1)
    assert found.onsets == pytest.approx([1.0, 4.0, 7.0], abs=1.5 / RATE)
    assert found.seconds == pytest.approx([0.05, 0.03, 0.04], abs=1.5 / RATE)


def test_a_recording_without_jumps_has_none() -> None:
    found = saccades(still(2), RATE)
    assert [len(found.onsets), len(found.degrees), len(found.seconds)] == [0, 0, 0]


# --- the rest -----------------------------------------------------------------------------------------------------


def test_identical_share_counts_bits() -> None:
    poses = still(1)
    assert identical_share(poses) == 1
    poses[30:, 7] = 1e-30
    assert identical_share(poses) == pytest.approx(58 / 59)
    poses[:, 60] = np.arange(60)
    assert identical_share(poses) == 0
    assert math.isnan(identical_share(poses[:1]))


def test_spectrum_holds_the_power_of_a_sine() -> None:
    t = np.arange(36_000) / RATE
    frequencies, power = spectrum(3.0 * np.sin(2 * np.pi * 1.5 * t) + 7.0, RATE)
    assert frequencies[np.argmax(power)] == pytest.approx(1.5, abs=0.03)
    assert power.sum() * (frequencies[1] - frequencies[0]) == pytest.approx(4.5, rel=0.02)  # amplitude^2 / 2


@pytest.mark.parametrize("exponent", [0.0, -1.0, -1.5, -2.0])
def test_slope_of_noise_of_a_known_spectrum(exponent: float) -> None:
    rng, n = np.random.default_rng(1), 72_000
    frequencies = np.fft.rfftfreq(n, 1 / RATE)
    lines = rng.normal(size=len(frequencies)) + 1j * rng.normal(size=len(frequencies))
    lines[1:] *= frequencies[1:] ** (exponent / 2)
    lines[0] = 0
    assert slope(np.fft.irfft(lines, n), RATE) == pytest.approx(exponent, abs=0.1)


def test_slope_of_nothing_is_not_a_number() -> None:
    assert math.isnan(slope(np.zeros(6000), RATE))


def test_breaths_are_counted() -> None:
    poses = still(60)
    poses[:, INDEX["JawOpen"]] = 0.01 * np.clip(np.sin(2 * np.pi * np.arange(3600) / RATE / 4), 0, 1)
    assert breaths(poses) == 15


def test_report_of_a_made_up_minute() -> None:
    poses = with_blinks([float(second) for second in range(3, 60, 4)])
    t = np.arange(3600) / RATE
    yaw = np.where(t % 4 < 3, 0.0, 8.0)
    poses += looking(yaw, np.zeros(3600))
    made = report(poses, RATE)
    assert (made.seconds, made.rate) == (60.0, 60.0)
    assert made["blink rate"].value == pytest.approx(15)
    assert made["blink rate"].human
    assert made["blink interval"].value == pytest.approx(4)
    assert made["blink interval spread"].value == pytest.approx(0, abs=1e-6)
    assert not made["blink interval spread"].human  # like clockwork
    assert made["saccade size"].value == pytest.approx(8, abs=0.1)
    assert made["looking at the viewer"].value == pytest.approx(0.75, abs=0.01)
    assert made["identical frames"].value > 0.5
    assert not made["identical frames"].human
    with pytest.raises(KeyError, match="blonk"):
        made["blonk"]


def test_eyes_that_diverge_are_told() -> None:
    poses = still(10)
    poses[:300, INDEX["LeftEyeYaw"]] = -0.1 * EYE_RADIANS
    assert report(poses, RATE)["eyes diverge"].value == pytest.approx(0.5)


def test_a_still_recording_has_figures_that_are_no_numbers_and_not_human() -> None:
    made = report(still(2), RATE)
    assert math.isnan(made["saccade size"].value)
    assert not made["saccade size"].human


def test_every_figure_names_its_source_and_has_a_range() -> None:
    figures = report(still(10), RATE).figures
    assert len({figure.name for figure in figures}) == len(figures)
    for figure in figures:
        assert figure.source
        assert figure.low <= figure.high


@pytest.mark.parametrize(
    ("value", "human"), [(1.0, True), (2.0, True), (0.99, False), (2.01, False), (math.nan, False)]
)
def test_a_range_includes_its_ends(value: float, human: bool) -> None:
    assert Figure("n", "u", value, 1.0, 2.0, "s").human is human
