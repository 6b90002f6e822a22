"""Live Link Face CSV: takes of the phone app in; out what its readers and Unreal's importer take.

Each title tells the truth about its values, since Unreal's importer goes by the title. The phone app does not: its
columns stand under the titles MouthRight, MouthLeft in Unreal's order, left first (measured on takes with lateral
motion; for the jaw the takes disagree). So they are read by title, `app_titles` exchanges the two, and `by_position`
takes Unreal's order for all columns.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from kff_live.converters.lines import Lines
from kff_live.converters.reading import Reading, impossible, is_possible
from kff_live.protocols.channels import COUNT, INDEX, LIVELINK, LIVELINK_CSV, index, neutral
from kff_live.protocols.errors import DecodeError, UserError
from kff_live.protocols.frames import TIMECODE_RATE, Frame, parse_timecode, timecode

HEADER = ("Timecode", "BlendshapeCount", *LIVELINK_CSV)
"""63 titles. Columns stand in the app's order, JawRight before JawLeft and MouthRight before MouthLeft."""

SUBJECT = "Face"
"""Of a take whose file name does not say."""

_DAY = 24 * 60 * 60 * TIMECODE_RATE.numerator  # frames
_NUMBER = re.compile(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*")
_VARIANT = re.compile(r"_(?:cal|raw|neutral)$", re.IGNORECASE)
_EXCHANGED = {"MouthLeft": "MouthRight", "MouthRight": "MouthLeft"}
_ORDER = np.array([INDEX[name] for name in LIVELINK_CSV], np.intp)
_AS_THE_APP = np.array([INDEX[_EXCHANGED.get(name, name)] for name in LIVELINK_CSV], np.intp)


def columns(titles: Sequence[str], reading: Reading) -> NDArray[np.intp]:
    """The channel of each column; `titles` are channels, each at most once, and by position they do not matter."""
    if reading.by_position:
        return np.arange(COUNT)
    names = [LIVELINK[index(title)] for title in titles]
    if reading.app_titles:
        names = [_EXCHANGED.get(name, name) for name in names]
    return np.array([INDEX[name] for name in names], np.intp)


def read(lines: Lines, reading: Reading) -> Iterator[Frame]:
    """The frames of a take, numbered by their timecodes in 60ths of a second; after midnight numbers go on rising.

    Channels without a column are neutral. A row without a face (count 0 and no values) is skipped and counted.

    Raises:
        DecodeError: what is wrong, with line, column and title.
    """
    header = _header(lines, by_position=reading.by_position)
    order = columns(header[2:], reading)
    subject = reading.subject or SUBJECT
    days, before = 0, 0
    for text in lines:
        cells = text.split(",")
        if not text.strip() or (len(cells) > 1 and cells[1].strip() == "0" and not any(map(str.strip, cells[2:]))):
            lines.skipped += bool(text.strip())
            continue
        if len(cells) != len(header):
            raise lines.error(f"{len(cells)} cells, expected {len(header)}", column=min(len(cells), len(header)))
        try:
            number, subframe = parse_timecode(cells[0].strip())
        except DecodeError as error:
            raise lines.error(str(error), column=1, name=header[0]) from None
        number += days * _DAY
        if number < before - _DAY // 2:
            days, number = days + 1, number + _DAY
        if number < before:
            raise lines.error(f"{cells[0].strip()} is before the row above", column=1, name=header[0])
        before = number
        pose = neutral()
        pose[order] = _values(lines, text, cells, header)
        pose.setflags(write=False)
        yield Frame(subject, number, subframe, TIMECODE_RATE, pose)


def _header(lines: Lines, *, by_position: bool) -> list[str]:
    titles = [title.strip() for title in next(lines, "").split(",")]
    for i, expected in enumerate(HEADER[:2]):
        got = titles[i] if i < len(titles) else ""
        if got.lower() != expected.lower():  # the app has written BlendShapeCount as well
            raise lines.error(f"expected the title {expected!r}, got {got[:40]!r}", column=i + 1)
    if by_position:
        if len(titles) != len(HEADER):
            raise lines.error(f"{len(titles)} columns: by position {len(HEADER)} are expected", column=len(titles))
        return titles
    if len(titles) < 3:
        raise lines.error("no column holds values", column=len(titles))
    seen: set[int] = set()
    for i, title in enumerate(titles[2:], 3):
        try:
            channel = index(title)
        except DecodeError as error:
            raise lines.error(str(error), column=i) from None
        if channel in seen:
            raise lines.error(f"the title {title!r} is there twice", column=i)
        seen.add(channel)
    return titles


def _values(lines: Lines, text: str, cells: list[str], titles: list[str]) -> list[float]:
    if text.isascii() and "_" not in text:  # float() takes more than a file may hold
        try:
            values = [float(cell) for cell in cells[2:]]
            if all(map(is_possible, values)):
                return values
        except ValueError:
            pass
    for i, cell in enumerate(cells[2:], 3):
        if not cell.strip():
            raise lines.error("the cell is empty", column=i, name=titles[i - 1])
        if not _NUMBER.fullmatch(cell):
            raise lines.error(f"{cell.strip()[:40]!r} is not a number", column=i, name=titles[i - 1])
        if not is_possible(float(cell)):
            raise lines.error(impossible(cell.strip()), column=i, name=titles[i - 1])
    raise AssertionError("every cell is a number")


def header() -> str:
    """The first line of a take, its line feed included."""
    return ",".join(HEADER) + "\n"


def line(frame: Frame, *, app_titles: bool = False) -> str:
    """The row of a frame: ten decimals, no empty cell.

    With `app_titles` MouthLeft and MouthRight are exchanged, for readers that expect what the phone app writes.
    """
    values = frame.pose[_AS_THE_APP if app_titles else _ORDER].tolist()
    cells = ",".join(f"{value:.10f}" for value in values)
    return f"{timecode(frame.number, frame.subframe, frame.rate)},{COUNT},{cells}\n"


def write(frames: Iterable[Frame], file: TextIO, *, app_titles: bool = False) -> int:
    """Write a take: a header, then a row a frame. Returns the rows. `file` must be open as text with newline="\\n"."""
    file.write(header())
    rows = 0
    for frame in frames:
        file.write(line(frame, app_titles=app_titles))
        rows += 1
    return rows


# --- file names ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TakeName:
    """The name of a take: Unreal's importer takes the subject from `Slate_Take_Subject.csv`."""

    slate: str
    take: int
    subject: str

    def file(self) -> str:
        """The file's name.

        Raises:
            UserError: Unreal would read another subject from it.
        """
        name = f"{self.slate}_{self.take}_{self.subject}.csv"
        if PurePath(name).name != name or not (self.slate and self.subject) or subject_of(name) != self.subject:
            raise UserError(
                f"{name!r} does not name the subject {self.subject!r} to Unreal: expected a slate without a number "
                "between underscores, a take of 0 or more, a subject that does not end with _cal, _raw or _neutral"
            )
        return name


def subject_of(path: str | PurePath) -> str:
    """The subject in `Slate_Take_Subject[_cal|_raw|_neutral].csv` as Unreal's importer finds it; empty if none.

    Of more than three parts it drops everything through the first that is a number.
    """
    parts = _VARIANT.sub("", PurePath(path).stem).split("_")
    if len(parts) > 3:
        numbers = [i for i, part in enumerate(parts) if part.isdecimal()]
        return "_".join(parts[numbers[0] + 1 :]) if numbers else ""
    return parts[2] if len(parts) == 3 else ""
