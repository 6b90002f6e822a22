import math
from collections.abc import Callable

import pytest

from kff_live.protocols.easing import DEFAULT_EASING, EASING_INDEX, EASINGS, ease

BACK = 1.70158
BACK2 = BACK * 1.525


# The formulas of easings.net, in its own form (powers of -2x + 2 and so on).
REFERENCE: dict[str, Callable[[float], float]] = {
    "linear": lambda x: x,
    "quadin": lambda x: x**2,
    "quadout": lambda x: 1 - (1 - x) * (1 - x),
    "quad": lambda x: 2 * x * x if x < 0.5 else 1 - (-2 * x + 2) ** 2 / 2,
    "cubicin": lambda x: x**3,
    "cubicout": lambda x: 1 - (1 - x) ** 3,
    "cubic": lambda x: 4 * x * x * x if x < 0.5 else 1 - (-2 * x + 2) ** 3 / 2,
    "sinein": lambda x: 1 - math.cos((x * math.pi) / 2),
    "sineout": lambda x: math.sin((x * math.pi) / 2),
    "sine": lambda x: -(math.cos(math.pi * x) - 1) / 2,
    "backin": lambda x: (BACK + 1) * x * x * x - BACK * x * x,
    "backout": lambda x: 1 + (BACK + 1) * (x - 1) ** 3 + BACK * (x - 1) ** 2,
    "back": lambda x: (
        ((2 * x) ** 2 * ((BACK2 + 1) * 2 * x - BACK2)) / 2
        if x < 0.5
        else ((2 * x - 2) ** 2 * ((BACK2 + 1) * (x * 2 - 2) + BACK2) + 2) / 2
    ),
}
GRID = [i / 997 for i in range(998)]
IN_OUT = ["linear", "quad", "cubic", "sine", "back"]


def value(name: str, share: float) -> float:
    return ease(EASING_INDEX[name], share)


def test_every_easing_but_step_has_a_reference() -> None:
    assert set(REFERENCE) | {"step"} == set(EASINGS)
    assert len(set(EASINGS)) == len(EASINGS)
    assert DEFAULT_EASING in EASINGS


@pytest.mark.parametrize("name", REFERENCE)
def test_easing_follows_the_reference_formula(name: str) -> None:
    for share in GRID:
        assert value(name, share) == pytest.approx(REFERENCE[name](share), abs=1e-12)


@pytest.mark.parametrize("name", EASINGS)
def test_easing_is_exactly_0_at_0_and_1_at_1_and_stays_there_outside(name: str) -> None:
    assert [value(name, s) for s in (-1.0, 0.0, 1.0, 2.0)] == [0.0, 0.0, 1.0, 1.0]


@pytest.mark.parametrize("name", IN_OUT)
def test_in_out_easings_are_symmetric_about_their_midpoint(name: str) -> None:
    assert value(name, 0.5) == pytest.approx(0.5, abs=1e-12)
    for share in GRID:
        assert value(name, share) + value(name, 1.0 - share) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("stem", ["quad", "cubic", "sine", "back"])
def test_out_is_in_run_backwards(stem: str) -> None:
    for share in GRID:
        assert value(f"{stem}out", share) == pytest.approx(1.0 - value(f"{stem}in", 1.0 - share), abs=1e-12)


def test_step_stays_until_the_way_is_over() -> None:
    assert [value("step", s) for s in (0.001, 0.5, 0.999999)] == [0.0, 0.0, 0.0]
    assert value("step", 1.0) == 1.0


@pytest.mark.parametrize("name", [name for name in EASINGS if "back" not in name])
def test_easings_without_back_never_overshoot_or_turn_round(name: str) -> None:
    values = [value(name, share) for share in GRID]
    assert values == sorted(values)
    assert all(0.0 <= v <= 1.0 for v in values)


def test_back_overshoots_by_a_tenth() -> None:
    assert max(value("backout", share) for share in GRID) == pytest.approx(1.1, abs=1e-3)
    assert min(value("backin", share) for share in GRID) == pytest.approx(-0.1, abs=1e-3)
