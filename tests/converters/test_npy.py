import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from kff_live.converters import npy
from kff_live.converters.reading import Reading
from kff_live.protocols.channels import COUNT, INDEX, LIVELINK, LIVELINK_CSV, pose_from_names, pose_to_names
from kff_live.protocols.errors import DecodeError
from kff_live.protocols.frames import Frame, FrameRate

PLAIN = Reading()


def saved(folder: Path, array: NDArray[np.generic]) -> npy.Rows:
    path = folder / "take.npy"
    np.save(path, array)
    return npy.Rows(path)


def columns(**values: float) -> NDArray[np.float32]:
    """A frame as Express4D keeps it: the columns of the app's CSV, in their order."""
    return np.array([[values.get(title, 0.0) for title in LIVELINK_CSV]], np.float32)


def test_a_row_is_a_frame_in_the_order_of_the_apps_titles(tmp_path: Path) -> None:
    rows = saved(tmp_path, np.repeat(columns(MouthLeft=1.0, JawRight=0.5, HeadYaw=-0.25), 3, axis=0))
    frames = list(npy.read(rows, Reading(rate=FrameRate(20))))
    assert [(f.number, f.subframe, f.rate, f.subject) for f in frames] == [
        (number, 0.0, FrameRate(20), "Face") for number in range(3)
    ]
    assert pose_to_names(frames[2].pose) == {"MouthLeft": 1.0, "JawRight": 0.5, "HeadYaw": -0.25}
    assert rows.share == 1.0


@pytest.mark.parametrize(
    ("reading", "found"),
    [(Reading(app_titles=True), {"MouthRight": 1.0, "JawLeft": 0.5}),
     (Reading(by_position=True), {"MouthRight": 1.0, "JawRight": 0.5})],
    ids=["app titles", "by position"],
)  # fmt: skip
def test_the_sides_are_read_as_they_are_asked_for(tmp_path: Path, reading: Reading, found: dict[str, float]) -> None:
    (frame,) = npy.read(saved(tmp_path, columns(MouthLeft=1.0, JawLeft=0.5)), reading)
    assert pose_to_names(frame.pose) == found


def test_52_columns_have_a_head_at_rest_and_eyes_that_follow(tmp_path: Path) -> None:
    (frame,) = npy.read(saved(tmp_path, columns(JawOpen=0.5, EyeLookDownLeft=1.0)[:, :52]), PLAIN)
    assert pose_to_names(frame.pose) == {"JawOpen": 0.5, "EyeLookDownLeft": 1.0, "LeftEyePitch": 0.61}


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ">f4", np.int8])
def test_numbers_of_any_kind_are_read(tmp_path: Path, dtype: str) -> None:
    (frame,) = npy.read(saved(tmp_path, columns(JawOpen=1.0).astype(dtype)), PLAIN)
    assert (frame.pose.dtype, pose_to_names(frame.pose)) == (np.float32, {"JawOpen": 1.0})


def test_what_is_written_is_what_numpy_reads() -> None:
    frames = [Frame("Face", i, 0.0, FrameRate(), pose_from_names({name: 1.0})) for i, name in enumerate(LIVELINK)]
    file = io.BytesIO()
    assert npy.write(frames, file) == COUNT
    file.seek(0)
    array = np.load(file)
    assert (array.shape, array.dtype) == ((COUNT, COUNT), np.float32)
    assert {LIVELINK[i]: LIVELINK_CSV[int(row.argmax())] for i, row in enumerate(array)} == {n: n for n in LIVELINK}
    assert LIVELINK_CSV.index("MouthLeft") != INDEX["MouthLeft"]


def test_an_empty_take_is_an_array_of_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "take.npy"
    with path.open("wb") as file:
        assert npy.write([], file) == 0
    assert np.load(path).shape == (0, COUNT)
    assert list(npy.read(npy.Rows(path), PLAIN)) == []


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((2, 60), np.float32), "60 columns: expected 61 or 52"),
        (np.zeros(61, np.float32), "expected numbers of [frames, 61] or [frames, 52]"),
        (np.zeros((2, 61, 1), np.float32), "expected numbers of"),
        (np.zeros((2, 61), "U3"), "expected numbers of"),
        (np.zeros((2, 61), bool), "expected numbers of"),
        (np.array([{"pickled": 1}], object), "not a NumPy array: "),
    ],
)
def test_what_is_no_take_is_refused(tmp_path: Path, array: NDArray[np.generic], said: str) -> None:
    with pytest.raises(DecodeError) as found:
        saved(tmp_path, array)
    assert str(found.value).startswith(said)


@pytest.mark.parametrize("data", [b"", b"Timecode,BlendshapeCount\n", b"\x93NUMPY\x01\x00"])
def test_what_is_no_array_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "take.npy"
    path.write_bytes(data)
    with pytest.raises(DecodeError, match=r"^not a NumPy array: "):
        npy.Rows(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, 37.5])
def test_a_value_no_channel_can_have_is_told_with_row_column_and_title(tmp_path: Path, value: float) -> None:
    array = np.zeros((3, COUNT), np.float32)
    array[1, LIVELINK_CSV.index("MouthLeft")] = value
    with pytest.raises(DecodeError, match=rf"^row 2, column 23 \(MouthLeft\): {value} is outside -10 to 10"):
        list(npy.read(saved(tmp_path, array), PLAIN))
