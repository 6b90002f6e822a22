"""The Frame that goes on the wire, and the frame rate and timecode that date it."""

import re
from fractions import Fraction
from typing import Any

import msgspec

from kff_live.protocols.errors import DecodeError, EncodeError


class FrameRate(msgspec.Struct, frozen=True):
    """A rational frame rate, such as 60/1 or 30000/1001; both parts positive 32-bit integers."""

    numerator: int = 60
    denominator: int = 1

    def __post_init__(self) -> None:
        for field, value in (("numerator", self.numerator), ("denominator", self.denominator)):
            if not 1 <= value < 2**31:
                raise EncodeError(f"frame rate {field}: {value} is outside 1 to 2147483647")

    @property
    def hz(self) -> float:
        """Frames a second."""
        return self.numerator / self.denominator

    @property
    def period(self) -> float:
        """Seconds a frame."""
        return self.denominator / self.numerator

    def __str__(self) -> str:
        return str(self.numerator) if self.denominator == 1 else f"{self.numerator}/{self.denominator}"

    @classmethod
    def parse(cls, value: float | str) -> "FrameRate":
        """The rate of 60, "60", "30000/1001", or a decimal near an NTSC rate such as 29.97.

        Raises:
            DecodeError: not a positive rate up to 1000.
        """
        try:
            exact = Fraction(str(value))
        except (ValueError, ZeroDivisionError):
            raise DecodeError(f"{value!r} is not a frame rate: expected such as 60, 29.97 or 30000/1001") from None
        if not 0 < exact <= 1000:
            raise DecodeError(f"{value!r} is not a frame rate: expected more than 0 and at most 1000")
        if exact.denominator not in (1, 1001):
            ntsc = Fraction(round(exact * 1001 / 1000) * 1000, 1001)
            if ntsc and abs(ntsc - exact) < Fraction(1, 100):
                exact = ntsc
        try:
            return cls(exact.numerator, exact.denominator)
        except EncodeError as error:
            raise DecodeError(f"{value!r} is not a frame rate: {error}") from None


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One pose of one subject at one time.

    `number` counts frames at the rate, `subframe` is the share of a frame in [0, 1) by which it is later; together
    they are the time at which the pose was taken. `utterance` and `key` tell which keyframe the face is travelling
    to or holding; None and -1 at rest.
    """

    subject: str
    number: int
    subframe: float
    rate: FrameRate
    pose: Any  # channels.Pose; msgspec would otherwise try to validate the array type
    utterance: str | None = None
    key: int = -1

    @property
    def seconds(self) -> float:
        """The time at which the pose was taken, s."""
        return (self.number + self.subframe) * self.rate.period


class Thinning:
    """Picks so many frames a second of each subject, at even distances; every one where they come no faster."""

    def __init__(self, wanted: FrameRate) -> None:
        self._wanted = wanted
        self._slots: dict[str, int] = {}

    def picks(self, frame: Frame) -> bool:
        """Whether this frame is one of them; each is to be asked about once, in order."""
        sent = self._wanted.numerator * frame.rate.denominator
        of = self._wanted.denominator * frame.rate.numerator
        if sent >= of:
            return True
        slot = frame.number * sent // of
        if self._slots.get(frame.subject) == slot:
            return False
        self._slots[frame.subject] = slot
        return True


TIMECODE_RATE = FrameRate(60)
"""What a timecode counts, whatever the rate of the frames."""

_TIMECODE = re.compile(r"([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(?:\.([0-9]{1,6}))?")


def timecode(number: int, subframe: float, rate: FrameRate) -> str:
    """`HH:MM:SS:FF.mmm` as the Live Link Face app writes it: FF in 60ths of a second whatever the rate.

    Wraps at 24 hours.
    """
    milli_60ths = round((number + subframe) * rate.denominator * 60_000 / rate.numerator)
    sixtieths, milli = divmod(milli_60ths, 1000)
    seconds, frame = divmod(sixtieths, 60)
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours % 24:02d}:{minute:02d}:{second:02d}:{frame:02d}.{milli:03d}"


def parse_timecode(text: str) -> tuple[int, float]:
    """Frame number and sub-frame, at TIMECODE_RATE, of a timecode as `timecode` writes it.

    Raises:
        DecodeError: it is not one.
    """
    match = _TIMECODE.fullmatch(text)
    if match is None:
        raise DecodeError(f"{text[:40]!r} is not a timecode: expected HH:MM:SS:FF.mmm, with FF in 60ths of a second")
    hour, minute, second, frame = map(int, match.groups()[:4])
    if hour > 23 or max(minute, second, frame) > 59:
        raise DecodeError(f"{text!r} is not a timecode: expected at most 23:59:59:59.999, with FF in 60ths of a second")
    number = ((hour * 60 + minute) * 60 + second) * 60 + frame
    return number, float(f"0.{match[5] or 0}")
