"""The choices with which a take is read, and the bounds of what can be read as a face."""

from dataclasses import dataclass

from kff_live.protocols.frames import FrameRate

FARTHEST = 10.0
"""Farthest value from 0 that is read. Coefficients reach about 1.05 in takes of the phone app, rotations 3.15 radians;
percents and degrees are a mistake that must not reach a face."""


@dataclass(frozen=True)
class Reading:
    """How a take is read.

    subject: whose frames, where a file holds those of several; None: of the only one
    app_titles: the columns MouthLeft and MouthRight hold each other's values, as in takes of the phone app
    by_position: columns stand in Unreal's order, whatever their titles say
    rate: of a format that carries no times
    """

    subject: str | None = None
    app_titles: bool = False
    by_position: bool = False
    rate: FrameRate = FrameRate()  # noqa: RUF009 - it is frozen


def is_possible(value: float) -> bool:
    """Whether a channel can have this value; not so for NaN."""
    return -FARTHEST <= value <= FARTHEST


def impossible(value: object) -> str:
    """What to say of a value that no channel can have."""
    return f"{value} is outside -{FARTHEST:g} to {FARTHEST:g}: expected a coefficient of 0 to 1, or radians"
