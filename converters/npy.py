"""NumPy arrays as Express4D keeps its takes: a row a frame, float32, in the order of the app's CSV, without times."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy_format

from kff_live.converters.livelink_csv import SUBJECT, columns
from kff_live.converters.reading import Reading, impossible, is_possible
from kff_live.protocols.channels import COUNT, INDEX, LIVELINK, LIVELINK_CSV, SHAPES
from kff_live.protocols.errors import DecodeError
from kff_live.protocols.frames import Frame
from kff_live.protocols.keyframes import EYE_ANGLES, derived_eye_angles

_ORDER = np.array([INDEX[name] for name in LIVELINK_CSV], np.intp)


class Rows:
    """The rows of a file, read as they are needed.

    Raises:
        DecodeError: it is no array of 52 or 61 columns of numbers.
    """

    def __init__(self, path: Path) -> None:
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise DecodeError(f"not a NumPy array: {error}") from None
        if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind not in "fiu":
            raise DecodeError(f"expected numbers of [frames, {COUNT}] or [frames, {SHAPES}]")
        if array.shape[1] not in (SHAPES, COUNT):
            raise DecodeError(f"{array.shape[1]} columns: expected {COUNT} or {SHAPES}")
        self.array = array
        self.number = 0
        """Of the row read last, from 1."""
        self.skipped = 0

    @property
    def share(self) -> float:
        """How much is read, 0 to 1."""
        return self.number / len(self.array) if len(self.array) else 0.0


def read(rows: Rows, reading: Reading) -> Iterator[Frame]:
    """The frames of a take, numbered from 0. Of 52 columns the head rests, and eye angles follow EyeLook*.

    Raises:
        DecodeError: a value no channel can have, with row, column and title.
    """
    width = rows.array.shape[1]
    order = columns(LIVELINK[:width] if reading.by_position else LIVELINK_CSV[:width], reading)[:width]
    for number, row in enumerate(rows.array):
        rows.number = number + 1
        for i, value in enumerate(row.tolist()):
            if not is_possible(value):
                name = LIVELINK[order[i]]
                raise DecodeError(f"row {rows.number}, column {i + 1} ({name}): {impossible(value)}")
        pose = np.zeros(COUNT, np.float32)
        pose[order] = row
        if width == SHAPES:
            pose[EYE_ANGLES] = derived_eye_angles(pose)
        pose.setflags(write=False)
        yield Frame(reading.subject or SUBJECT, number, 0.0, reading.rate, pose)


def write(frames: Iterable[Frame], file: BinaryIO) -> int:
    """Write a take as float32[frames, 61]; its times are lost. Returns the frames. `file` must be seekable."""
    _write_header(file, 0)
    begin, count = file.tell(), 0
    for frame in frames:
        file.write(frame.pose[_ORDER].astype("<f4").tobytes())
        count += 1
    file.seek(0)
    _write_header(file, count)
    assert file.tell() == begin, "numpy leaves room for the count to grow"
    return count


def _write_header(file: BinaryIO, count: int) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": (count, COUNT)}
    npy_format.write_array_header_1_0(file, header)
