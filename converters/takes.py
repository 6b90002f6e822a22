"""The formats of takes, and the one way in which any of them is opened and any is written."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import BufferedReader
from pathlib import Path
from types import MappingProxyType
from typing import Any

from kff_live.converters import keyframe_file, keyframeface, livelink_csv, npy, recording
from kff_live.converters.keyframe_file import Start
from kff_live.converters.lines import Lines
from kff_live.converters.reading import Reading
from kff_live.protocols.errors import DecodeError, UserError
from kff_live.protocols.frames import Frame
from kff_live.protocols.keyframes import EYE_ANGLES, Keyframe


@dataclass(frozen=True)
class Format:
    """A way in which takes are kept.

    has_frames: it holds frames; else keyframes
    has_times: frames carry their times; else they follow each other at an even rate
    """

    name: str
    suffix: str
    what: str
    has_frames: bool = True
    has_times: bool = True


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        f.name: f
        for f in (
            Format("csv", ".csv", "CSV of the Live Link Face app, of Unreal's importer, of most tools"),
            Format("jsonl", ".jsonl", "our recording, JSON lines"),
            Format("npy", ".npy", "NumPy array, 61 or 52 columns, as of Express4D", has_times=False),
            Format("kff", ".kff", "keyframe text", has_frames=False),
            Format("keyframeface", ".jsonl", "KeyframeFace's answers, JSON lines", has_frames=False),
            Format("keyframeface-csv", ".csv", "KeyframeFace's CSV, a keyframe a row", has_frames=False),
        )
    }
)


@dataclass
class Take:
    """A take that is being read: either its frames or its keyframes, each to be iterated once.

    start: when its keyframes begin
    own_eyes: whether eye angles are Live Link's; else they are to follow EyeLook* when the face acts
    """

    format: Format
    source: Lines | npy.Rows
    frames: Iterator[Frame] = field(default_factory=lambda: iter(()))
    keyframes: Iterator[Keyframe] = field(default_factory=lambda: iter(()))
    start: Start = (0, 0.0)
    own_eyes: bool = True

    def to_act(self) -> Iterator[Keyframe]:
        """The keyframes as a face is to act them."""
        return self.keyframes if self.own_eyes else map(_eyes_follow, self.keyframes)


def _eyes_follow(keyframe: Keyframe) -> Keyframe:
    pose = keyframe.pose.copy()
    pose[EYE_ANGLES] = 0.0
    return replace(keyframe, pose=pose)


@contextmanager
def opened(path: Path, name: str | None = None, reading: Reading = Reading()) -> Iterator[Take]:  # noqa: B008 - frozen
    """A take on disk; `name` is of FORMATS, None to tell by the file's name and first line.

    Raises:
        UserError: it cannot be read; while it is iterated as well, with line and column.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    with file:
        try:
            yield _take(path, file, FORMATS[name] if name else recognised(path, file), reading)
        except DecodeError as error:
            raise UserError(f"{path}: {error}") from None


def _take(path: Path, file: BufferedReader, form: Format, reading: Reading) -> Take:
    if form.name == "npy":
        rows = npy.Rows(path)
        return Take(form, rows, frames=npy.read(rows, reading))
    lines = Lines(file)
    if form.name == "csv":
        named = replace(reading, subject=reading.subject or livelink_csv.subject_of(path))
        return Take(form, lines, frames=livelink_csv.read(lines, named))
    if form.name == "jsonl":
        return Take(form, lines, frames=recording.read(lines, reading))
    if form.name == "kff":
        start, keyframes = keyframe_file.read(lines)
        return Take(form, lines, keyframes=keyframes, start=start)
    keyframes = keyframeface.read(lines) if form.name == "keyframeface" else keyframeface.read_rows(lines, reading)
    return Take(form, lines, keyframes=keyframes, own_eyes=False)


def recognised(path: Path, file: BufferedReader | None = None) -> Format:
    """The format by a file's name; JSON lines that exist by their beginning as well.

    Raises:
        UserError: the name says nothing.
    """
    suffix = path.suffix.lower()
    if suffix == ".jsonl" and file is not None and recording.FORMAT.encode() not in file.peek(1000)[:1000]:
        return FORMATS["keyframeface"]
    found = next((form for form in FORMATS.values() if form.suffix == suffix), None)
    if found is None:
        known = ", ".join(dict.fromkeys(form.suffix for form in FORMATS.values()))
        raise UserError(f"{path}: which format? Expected a name that ends with {known}, or --from and --to")
    return found


def write_frames(frames: Iterable[Frame], file: Any, form: Format, *, app_titles: bool = False) -> int:
    """Write frames in a format that has them, to a file as `files.whole` opens it; returns their number."""
    if form.name == "csv":
        return livelink_csv.write(frames, file, app_titles=app_titles)
    return recording.write(frames, file) if form.name == "jsonl" else npy.write(frames, file)


def write_keyframes(keyframes: Iterable[Keyframe], file: Any, form: Format, *, start: Start = (0, 0.0)) -> int:
    """Write keyframes in a format that has them, to such a file; returns their number."""
    if form.name == "kff":
        return keyframe_file.write(keyframes, file, start=start)
    return (keyframeface.write if form.name == "keyframeface" else keyframeface.write_rows)(keyframes, file)
