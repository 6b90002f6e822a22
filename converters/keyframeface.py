"""KeyframeFace's files: answers as JSON lines, with or without the messages they answer, and rows a second apart."""

import re
import textwrap
from collections.abc import Iterable, Iterator
from typing import TextIO

import msgspec

from kff_live.converters import livelink_csv
from kff_live.converters.lines import Lines
from kff_live.converters.reading import Reading
from kff_live.protocols.channels import INDEX, LIVELINK_CSV
from kff_live.protocols.frames import TIMECODE_RATE, Frame
from kff_live.protocols.keyframe_text import KEYFRAMEFACE_HOLD, KEYFRAMEFACE_WAY, ORDINALS, KeyframeFaceParser
from kff_live.protocols.keyframes import MAX_LABEL, Keyframe

_DIGITS = 4


class _Message(msgspec.Struct):
    role: str
    content: str = ""


class _Line(msgspec.Struct):
    """A line of a request with its answer; other keys are ignored."""

    messages: list[_Message] = []
    response: str | None = None


_DECODER = msgspec.json.Decoder(_Line)
_ASKED = re.compile(r"for Keyframe (\w+)\.\s*$")


def read(lines: Lines) -> Iterator[Keyframe]:
    """A keyframe an answer, every value as it stands, KEYFRAMEFACE_WAY and KEYFRAMEFACE_HOLD long.

    A line is `{"response": ...}`, `{"messages": [...]}` with the assistant's answer in it, or the answer's own object.
    Where the messages describe the keyframe, the description is its label.

    Raises:
        DecodeError: a line is none of these, or its answer holds no keyframe; with line and column.
    """
    for text in lines:
        if not text.strip():
            continue
        try:
            found = _DECODER.decode(text)
        except msgspec.DecodeError as error:
            raise lines.json_error(error) from None
        answers = [message.content for message in found.messages if message.role == "assistant"]
        if found.response is not None:
            answers.append(found.response)
        if found.messages and not answers:
            raise lines.error("it holds a request without an answer", column=1)
        parser = KeyframeFaceParser(eye_angles=True)
        keyframes = parser.feed(answers[-1] if answers else text)
        parser.close()
        if parser.errors:
            raise lines.error_at_word(parser.errors[0], text)
        if not keyframes:
            raise lines.error("it holds no keyframe", column=1)
        label = _description(found.messages) if len(keyframes) == 1 else ""
        for keyframe in keyframes:
            yield Keyframe(keyframe.pose, KEYFRAMEFACE_WAY, KEYFRAMEFACE_HOLD, label=label)


def _description(messages: list[_Message]) -> str:
    """What the request says of the keyframe that it asks for, as long as a label may be; empty if nothing."""
    request = next((message.content for message in messages if message.role == "user"), "")
    asked = _ASKED.search(request)
    if asked is None:
        return ""
    described = re.search(rf"^- Keyframe {asked[1]}: (.*)$", request, re.MULTILINE)
    return textwrap.shorten(described[1], MAX_LABEL, placeholder="...") if described else ""


def write(keyframes: Iterable[Keyframe], file: TextIO) -> int:
    """Write an answer a line, as the released model gives them; times, easings and labels are lost. Returns the
    keyframes. `file` must be open as text with newline="\\n".
    """
    count = 0
    for count, keyframe in enumerate(keyframes, 1):
        values = {name: round(float(keyframe.pose[INDEX[name]]), _DIGITS) + 0.0 for name in LIVELINK_CSV}
        name = ORDINALS[count - 1] if count <= len(ORDINALS) else str(count)
        answer = msgspec.json.encode({f"Keyframe_{name}": values}).decode()
        file.write(msgspec.json.encode({"response": answer}).decode() + "\n")
    return count


def read_rows(lines: Lines, reading: Reading) -> Iterator[Keyframe]:
    """A keyframe a row of a CSV, whatever the time between them.

    Raises:
        DecodeError: as livelink_csv.read.
    """
    for frame in livelink_csv.read(lines, reading):
        yield Keyframe(frame.pose, KEYFRAMEFACE_WAY, KEYFRAMEFACE_HOLD)


def write_rows(keyframes: Iterable[Keyframe], file: TextIO) -> int:
    """Write a row a keyframe, a second apart, as the released converter does. Returns the rows."""
    frames = (
        Frame("", second * TIMECODE_RATE.numerator, 0.0, TIMECODE_RATE, keyframe.pose)
        for second, keyframe in enumerate(keyframes)
    )
    return livelink_csv.write(frames, file)
