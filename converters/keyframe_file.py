"""Files of keyframe text: read and written a keyframe at a time, with the timecode of their start in a comment."""

import re
from collections.abc import Iterable, Iterator
from typing import TextIO

from kff_live.converters.lines import Lines
from kff_live.protocols.errors import DecodeError
from kff_live.protocols.frames import TIMECODE_RATE, parse_timecode, timecode
from kff_live.protocols.keyframe_text import HEADER, MAX_LINE, format_keyframe, parse_line
from kff_live.protocols.keyframes import Keyframe

_START = re.compile(r"# timecode ([0-9:.]+)")

Start = tuple[int, float]
"""Frame number and sub-frame at which a take begins, at TIMECODE_RATE."""


def read(lines: Lines) -> tuple[Start, Iterator[Keyframe]]:
    """Where the take begins (0 where nothing is said), and its keyframes.

    Raises:
        DecodeError: what is wrong, with line and column; the first line is not HEADER.
    """
    first = next(lines, "").strip()
    if first != HEADER:
        raise lines.error(f"expected {HEADER!r}, got {first[:40]!r}", column=1)
    second = next(lines, "")
    match = _START.fullmatch(second.strip())
    if match is None:
        return (0, 0.0), _keyframes(second, lines)
    try:
        return parse_timecode(match[1]), _keyframes("", lines)
    except DecodeError as error:
        raise lines.error(str(error), column=second.index(match[1]) + 1) from None


def _keyframes(text: str, lines: Lines) -> Iterator[Keyframe]:
    found = False
    while True:
        if len(text) > MAX_LINE:
            raise lines.error(f"longer than {MAX_LINE} characters", column=MAX_LINE + 1)
        if text.strip() and not text.lstrip().startswith("#"):
            try:
                yield parse_line(text.strip())
            except DecodeError as error:
                raise lines.error_at_word(str(error), text) from None
            found = True
        following = next(lines, None)
        if following is None:
            break
        text = following
    if not found:
        raise DecodeError("it holds no keyframe")


def write(keyframes: Iterable[Keyframe], file: TextIO, *, start: Start = (0, 0.0)) -> int:
    """Write a file of keyframe text; returns the keyframes. `file` must be open as text with newline="\\n"."""
    file.write(f"{HEADER}\n")
    if start != (0, 0.0):
        file.write(f"# timecode {timecode(*start, TIMECODE_RATE)}\n")
    count = 0
    for keyframe in keyframes:
        file.write(format_keyframe(keyframe))
        count += 1
    return count
