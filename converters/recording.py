"""Our own recording, JSON lines: first the rate and the channels, then a frame a line, of one subject or of several."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TextIO

import msgspec
import numpy as np
from numpy.typing import NDArray

from kff_live.converters.lines import Lines
from kff_live.converters.reading import Reading, impossible, is_possible
from kff_live.protocols.channels import LIVELINK, index, neutral
from kff_live.protocols.errors import DecodeError
from kff_live.protocols.frames import Frame, FrameRate, timecode

FORMAT, VERSION = "kff-live recording", 1
_DIGITS = 4  # of a sub-frame


class Header(msgspec.Struct):
    """The first line."""

    format: str
    version: int
    rate: str
    channels: list[str]


class Line(msgspec.Struct):
    """A frame: `frame` and `subframe` at the header's rate are its time, `id` and `key` the text and keyframe acted."""

    subject: str
    timecode: str
    frame: int
    subframe: float
    id: str | None
    key: int
    values: list[float]


_HEADER, _LINE = msgspec.json.Decoder(Header), msgspec.json.Decoder(Line)


def header(rate: FrameRate) -> str:
    """The first line of a recording, its newline included."""
    return msgspec.json.encode(Header(FORMAT, VERSION, str(rate), list(LIVELINK))).decode() + "\n"


def line(frame: Frame) -> str:
    """The line of a frame: values with five decimals, the sub-frame with four."""
    made = Line(
        frame.subject,
        timecode(frame.number, frame.subframe, frame.rate),
        frame.number,
        min(round(frame.subframe, _DIGITS), 1.0 - 10.0**-_DIGITS),
        frame.utterance,
        frame.key,
        [round(float(value), 5) for value in frame.pose],
    )
    return msgspec.json.encode(made).decode() + "\n"


def at_rate(frame: Frame, rate: FrameRate) -> Frame:
    """The same frame with its time told at another rate: all frames of a recording have one."""
    if frame.rate == rate:
        return frame
    number, subframe = divmod(frame.seconds * rate.hz, 1.0)
    return msgspec.structs.replace(frame, number=int(number), subframe=subframe, rate=rate)


def write(frames: Iterable[Frame], file: TextIO) -> int:
    """Write a recording, at the rate of its first frame. Returns the frames.

    `file` must be open as text with newline="\\n".
    """
    coming = iter(frames)
    first = next(coming, None)
    rate = FrameRate() if first is None else first.rate
    file.write(header(rate))
    count = 0
    for frame in chain([] if first is None else [first], coming):
        file.write(line(frame))
        count += 1
    return count


def read(lines: Lines, reading: Reading) -> Iterator[Frame]:
    """The frames of one subject; those of others are skipped and counted.

    Raises:
        DecodeError: what is wrong, with line and column or the value's name; there are several subjects and the
            reading names none.
    """
    rate, order = _header(lines)
    subject, others, before = reading.subject, set[str](), -1
    for text in lines:
        if not text.strip():
            continue
        try:
            found = _LINE.decode(text)
        except msgspec.DecodeError as error:
            raise lines.json_error(error) from None
        if found.subject != (subject := subject or found.subject):
            if reading.subject is None:
                raise lines.error(f"a frame of {found.subject!r} besides those of {subject!r}: choose a subject")
            others.add(found.subject)
            lines.skipped += 1
            continue
        if len(found.values) != len(order):
            raise lines.error(f"{len(found.values)} values, expected {len(order)}", name="values")
        for i, value in enumerate(found.values):
            if not is_possible(value):
                raise lines.error(impossible(value), name=f"values[{i}], {LIVELINK[order[i]]}")
        if not 0.0 <= found.subframe < 1.0 or found.frame < max(before, 0):
            raise lines.error(f"frame {found.frame}, sub-frame {found.subframe} is not after the line above")
        before = found.frame
        pose = neutral()
        pose[order] = found.values
        pose.setflags(write=False)
        yield Frame(found.subject, found.frame, found.subframe, rate, pose, found.id, found.key)
    if others and before < 0:
        raise DecodeError(f"no frame of {subject!r}; there are those of {', '.join(sorted(others))}")


def _header(lines: Lines) -> tuple[FrameRate, NDArray[np.intp]]:
    try:
        found = _HEADER.decode(next(lines, ""))
    except msgspec.DecodeError as error:
        raise lines.json_error(error) from None
    if (found.format, found.version) != (FORMAT, VERSION):
        raise lines.error(f"expected {FORMAT!r} version {VERSION}, got {found.format[:40]!r} version {found.version}")
    try:
        rate = FrameRate.parse(found.rate)
    except DecodeError as error:
        raise lines.error(str(error), name="rate") from None
    try:
        order = [index(name) for name in found.channels]
    except DecodeError as error:
        raise lines.error(str(error), name="channels") from None
    if len(set(order)) != len(order):
        raise lines.error("a channel is there twice", name="channels")
    return rate, np.array(order, np.intp)
