from collections.abc import Iterator

import numpy as np
import pytest

from kff_live.converters.resample import Method, resample
from kff_live.protocols.channels import INDEX, pose_from_names
from kff_live.protocols.frames import Frame, FrameRate

JAW = INDEX["JawOpen"]


def frames(*values: float, rate: FrameRate, first: int = 0, subframe: float = 0.0, step: int = 1) -> list[Frame]:
    return [
        Frame("Face", first + i * step, subframe, rate, pose_from_names({"JawOpen": value}), f"u{i}", i)
        for i, value in enumerate(values)
    ]


def jaws(found: list[Frame]) -> list[float]:
    return [round(float(frame.pose[JAW]), 6) for frame in found]


@pytest.mark.parametrize(
    ("method", "expected"),
    [("linear", [0.0, 0.25, 0.5, 0.5, 0.5]), ("hold", [0.0, 0.0, 0.5, 0.5, 0.5])],
)
def test_twice_as_many_frames(method: Method, expected: list[float]) -> None:
    made = list(resample(frames(0.0, 0.5, 0.5, rate=FrameRate(30)), FrameRate(60), method))
    assert jaws(made) == expected
    assert [(f.number, f.subframe, f.rate) for f in made] == [(i, 0.0, FrameRate(60)) for i in range(5)]


def test_half_as_many_frames_are_every_other_one() -> None:
    made = list(resample(frames(0.0, 0.9, 0.2, 0.9, 0.4, rate=FrameRate(60)), FrameRate(30)))
    assert jaws(made) == [0.0, 0.2, 0.4]


def test_each_time_has_the_value_on_the_line_between_its_neighbours() -> None:
    rng = np.random.default_rng(7)
    numbers = np.cumsum(rng.integers(1, 5, 200))  # uneven, as of a phone that drops frames
    values = rng.random(200)
    source = [
        Frame("Face", int(n), 0.25, FrameRate(60), pose_from_names({"JawOpen": float(v)}))
        for n, v in zip(numbers, values, strict=True)
    ]
    made = list(resample(source, FrameRate(30000, 1001)))
    at = np.array([frame.seconds for frame in made])
    assert np.diff(at) == pytest.approx(1001 / 30000)
    assert at[0] == pytest.approx(source[0].seconds)
    assert source[-1].seconds - at[-1] < 1001 / 30000
    wanted = np.interp(at, [frame.seconds for frame in source], values)
    assert np.allclose([frame.pose[JAW] for frame in made], wanted, atol=1e-5)


def test_the_first_frame_keeps_its_time() -> None:
    source = frames(0.1, 0.2, 0.3, rate=FrameRate(60), first=2855071, subframe=0.652)
    made = list(resample(source, FrameRate(60)))
    assert [(f.number, round(f.subframe, 6)) for f in made] == [(2855071 + i, 0.652) for i in range(3)]
    assert jaws(made) == [0.1, 0.2, 0.3]


def test_a_gap_is_crossed_or_held() -> None:
    source = frames(0.0, 0.6, rate=FrameRate(60), step=6)
    assert jaws(list(resample(source, FrameRate(60)))) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert jaws(list(resample(source, FrameRate(60), "hold"))) == [0.0] * 6 + [0.6]


def test_of_two_frames_at_one_time_the_later_one_counts() -> None:
    made = list(
        resample(frames(0.0, 0.9, rate=FrameRate(60), step=0) + frames(0.5, rate=FrameRate(60), first=2), FrameRate(60))
    )
    assert jaws(made) == [0.0, 0.7, 0.5]


def test_a_frame_between_two_belongs_to_the_keyframe_of_the_first() -> None:
    made = list(resample(frames(0.0, 0.5, rate=FrameRate(30)), FrameRate(60)))
    assert [(f.utterance, f.key) for f in made] == [("u0", 0), ("u0", 0), ("u1", 1)]


def test_nothing_and_one_frame() -> None:
    assert list(resample([], FrameRate(60))) == []
    assert jaws(list(resample(frames(0.5, rate=FrameRate(24)), FrameRate(60)))) == [0.5]


def test_frames_come_while_the_take_is_still_being_read() -> None:
    read = []

    def source() -> Iterator[Frame]:
        for frame in frames(0.0, 0.1, 0.2, 0.3, rate=FrameRate(60)):
            read.append(frame.number)
            yield frame

    made = resample(source(), FrameRate(60))
    next(made), next(made)
    assert read == [0, 1]
