from fractions import Fraction

import numpy as np
import pytest

from kff_live.protocols.channels import neutral
from kff_live.protocols.errors import DecodeError, EncodeError
from kff_live.protocols.frames import TIMECODE_RATE, Frame, FrameRate, parse_timecode, timecode


@pytest.mark.parametrize(
    ("value", "numerator", "denominator"),
    [
        (60, 60, 1), (60.0, 60, 1), ("60", 60, 1), (" 60 ", 60, 1), ("60/1", 60, 1), ("120/2", 60, 1), (1000, 1000, 1),
        ("30000/1001", 30000, 1001), (29.97, 30000, 1001), ("29.97", 30000, 1001), (59.94, 60000, 1001),
        (23.976, 24000, 1001), (23.98, 24000, 1001), (119.88, 120000, 1001),
        (12.5, 25, 2), ("1/2", 1, 2), ("0.001", 1, 1000), (29.5, 59, 2),
    ],
)  # fmt: skip
def test_rate_is_parsed_exactly(value: float | str, numerator: int, denominator: int) -> None:
    rate = FrameRate.parse(value)
    assert (rate.numerator, rate.denominator) == (numerator, denominator)
    assert FrameRate.parse(str(rate)) == rate


@pytest.mark.parametrize(
    "value",
    ["", "fast", "60fps", "60,5", "1/0", "0", 0, 0.0, -1, "-60", 1000.1, "1001", "nan", float("nan"), float("inf"),
     "1e999", "60/1/1", "0.333333333333", "1e-12"],
)  # fmt: skip
def test_what_is_no_rate_is_refused_by_value(value: float | str) -> None:
    with pytest.raises(DecodeError, match="is not a frame rate"):
        FrameRate.parse(value)


@pytest.mark.parametrize(
    ("numerator", "denominator", "field"),
    [(0, 1, "numerator"), (-60, 1, "numerator"), (2**31, 1, "numerator"), (60, 0, "denominator"),
     (60, -1, "denominator")],
)  # fmt: skip
def test_rate_of_impossible_parts_is_refused(numerator: int, denominator: int, field: str) -> None:
    with pytest.raises(EncodeError, match=f"frame rate {field}: "):
        FrameRate(numerator, denominator)


def test_hz_and_period_are_each_others_inverse() -> None:
    rate = FrameRate(30000, 1001)
    assert rate.hz == pytest.approx(29.97002997)
    assert rate.period == pytest.approx(0.0333666666)
    assert (str(rate), str(FrameRate(60))) == ("30000/1001", "60")


@pytest.mark.parametrize(
    ("number", "subframe", "rate", "text"),
    [
        (0, 0.0, (60, 1), "00:00:00:00.000"),
        (59, 0.0, (60, 1), "00:00:00:59.000"),
        (60, 0.0, (60, 1), "00:00:01:00.000"),
        (3600, 0.25, (60, 1), "00:01:00:00.250"),
        (((13 * 60 + 13) * 60 + 4) * 60 + 31, 0.652, (60, 1), "13:13:04:31.652"),  # as in a take of the app
        (59, 0.9999, (60, 1), "00:00:01:00.000"),  # rounding carries
        (3599, 0.9996, (60, 1), "00:01:00:00.000"),
        # FF counts 60ths whatever the rate: 30 fps goes in steps of two, 120 fps in halves, 25 fps in 2.4.
        (1, 0.0, (30, 1), "00:00:00:02.000"),
        (31, 0.5, (30, 1), "00:00:01:03.000"),
        (1, 0.0, (120, 1), "00:00:00:00.500"),
        (3, 0.0, (25, 1), "00:00:00:07.200"),
        # NTSC: 30 frames take 1.001 s, 30000 take 1001 s.
        (30, 0.0, (30000, 1001), "00:00:01:00.060"),
        (30000, 0.0, (30000, 1001), "00:16:41:00.000"),
        (60000, 0.75, (60000, 1001), "00:16:41:00.751"),
        # A day wraps.
        (24 * 3600 * 60 - 1, 0.0, (60, 1), "23:59:59:59.000"),
        (24 * 3600 * 60, 0.0, (60, 1), "00:00:00:00.000"),
        (24 * 3600 * 60 - 1, 0.9999, (60, 1), "00:00:00:00.000"),
        (5375735, 0.1219, (60, 1), "00:53:15:35.122"),  # 24 h 53 min, the app's first frame in one capture
    ],
)
def test_timecode(number: int, subframe: float, rate: tuple[int, int], text: str) -> None:
    assert timecode(number, subframe, FrameRate(*rate)) == text


@pytest.mark.parametrize("rate", [FrameRate(60), FrameRate(30000, 1001), FrameRate(24000, 1001), FrameRate(25)])
def test_timecode_says_the_exact_time_to_a_thousandth_of_a_60th(rate: FrameRate) -> None:
    for number in range(0, 5_000_000, 49_999):
        hours, minutes, seconds, frame = timecode(number, 0.0, rate).split(":")
        said = (int(hours) * 60 + int(minutes)) * 60 + int(seconds) + Fraction(frame) / 60
        exact = Fraction(number * rate.denominator, rate.numerator) % 86_400
        assert abs(said - exact) <= Fraction(1, 120_000)


@pytest.mark.parametrize(
    ("text", "number", "subframe"),
    [
        ("00:00:00:00.000", 0, 0.0),
        ("13:13:04:31.652", ((13 * 60 + 13) * 60 + 4) * 60 + 31, 0.652),  # as in a take of the app
        ("23:59:59:59.999", 24 * 3600 * 60 - 1, 0.999),
        ("1:2:3:4", ((1 * 60 + 2) * 60 + 3) * 60 + 4, 0.0),
        ("00:00:00:00.5", 0, 0.5),
    ],
)
def test_a_timecode_is_read(text: str, number: int, subframe: float) -> None:
    assert parse_timecode(text) == (number, subframe)


@pytest.mark.parametrize(
    "text",
    ["", "12:00:00", "24:00:00:00", "00:60:00:00", "00:00:60:00", "00:00:00:60", "00:00:00:00,5", "-1:00:00:00",
     "00:00:00:00.", " 00:00:00:00", "00:00:00:00.000 ", "00:00:00:0\u0660", "00:00:00;00", "a:b:c:d"],
)  # fmt: skip
def test_what_is_no_timecode_is_refused_by_value(text: str) -> None:
    with pytest.raises(DecodeError, match="is not a timecode: expected "):
        parse_timecode(text)


def test_timecodes_that_are_written_are_read_back() -> None:
    for number in range(0, 24 * 3600 * 60, 7_777):
        assert parse_timecode(timecode(number, 0.125, TIMECODE_RATE)) == (number, 0.125)


def test_a_frame_tells_its_time_in_seconds() -> None:
    assert Frame("Face", 90, 0.5, FrameRate(30), neutral()).seconds == pytest.approx(3.0 + 0.5 / 30)


def test_frame_at_rest_belongs_to_no_utterance() -> None:
    frame = Frame("Face", 1, 0.0, FrameRate(), neutral())
    assert (frame.utterance, frame.key) == (None, -1)
    assert isinstance(frame.pose, np.ndarray)
