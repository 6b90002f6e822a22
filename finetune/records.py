"""Records: what a model is trained on, one a line: the chat as protocols/prompt.py makes it, and the answer."""

import random
from pathlib import Path

import msgspec
import numpy as np

from kff_live.finetune.scripts import Script
from kff_live.protocols.channels import LIVELINK, Pose, neutral
from kff_live.protocols.errors import DecodeError, EncodeError, UserError
from kff_live.protocols.keyframe_text import format_keyframe, format_keyframeface
from kff_live.protocols.keyframes import Keyframe
from kff_live.protocols.prompt import Message, messages


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A chat and what the model is to answer; `script` says where it comes from."""

    chat: list[Message]
    answer: str
    script: str = ""


def records(script: Script, *, dialect: str, labels: bool = True) -> list[Record]:
    """The records of a script: one, or one a keyframe in KeyframeFace's dialect.

    There each keyframe is asked for by its description: none where a script has more keyframes than requests.
    """
    keyframes = script.poses()
    if not labels:
        keyframes = [Keyframe(k.pose, k.way, k.hold, k.easing) for k in keyframes]
    chats = messages(
        script.request(), dialect="keyframeface" if dialect == "keyframeface" else "compact", examples=False
    )
    if dialect == "keyframeface":
        if len(chats) < len(keyframes):
            return []
        return [
            Record(chat, format_keyframeface(keyframe, number=number), script.id)
            for number, (chat, keyframe) in enumerate(zip(chats, keyframes, strict=False), 1)
        ]
    write = format_vector if dialect == "vectors" else format_keyframe
    return [Record(chats[0], "".join(map(write, keyframes)), script.id)]


def format_vector(keyframe: Keyframe) -> str:
    """The dialect to compare with: a keyframe as its times and 61 bare numbers in tenths."""
    values = " ".join(str(round(float(value) * 10)) for value in keyframe.pose)
    return f"{round(keyframe.way * 10)}+{round(keyframe.hold * 10)} {values}\n"


def parse_vector(line: str) -> Keyframe:
    """The keyframe of one line of bare numbers.

    Raises:
        DecodeError: it is not one.
    """
    try:
        time, *values = line.split()
        way, hold = (int(tenths) / 10 for tenths in time.split("+"))
        numbers = np.array([int(value) for value in values], np.float32) / 10
    except ValueError:
        raise DecodeError(f"{line[:40]!r}: expected way+hold and {len(LIVELINK)} whole numbers") from None
    if len(numbers) != len(LIVELINK):
        raise DecodeError(f"{line[:40]!r}: {len(numbers)} numbers, expected {len(LIVELINK)}")
    pose: Pose = neutral()
    pose[:] = np.clip(numbers, -1, 1)
    try:
        return Keyframe(pose, way, hold)
    except EncodeError as error:
        raise DecodeError(f"{line[:40]!r}: {error}") from None


def split(
    scripts: list[Script], shares: tuple[float, float], seed: int
) -> tuple[list[Script], list[Script], list[Script]]:
    """Scripts for training, validation and test: where they say, the others dealt by a seeded shuffle in each form."""
    parts: tuple[list[Script], list[Script], list[Script]] = (
        [],
        [script for script in scripts if script.split == "validation"],
        [script for script in scripts if script.split == "test"],
    )
    rest = [script for script in scripts if not script.split]
    for form in sorted({script.form for script in rest}):
        own = sorted((script for script in rest if script.form == form), key=lambda script: script.id)
        random.Random(f"{seed} {form}").shuffle(own)
        validation, test = (round(share * len(own)) for share in shares)
        for part, some in zip(
            parts, (own[validation + test :], own[:validation], own[validation : validation + test]), strict=True
        ):
            part += some
    return parts


def write_records(path: Path, some: list[Record]) -> None:
    """Writes a file of records, one a line."""
    path.write_bytes(b"".join(msgspec.json.encode(record) + b"\n" for record in some))


def read_records(path: Path, *, optional: bool = False) -> list[Record]:
    """The records of a file; none where an `optional` one is missing or empty.

    Raises:
        UserError: the file or a line cannot be read; the message names it.
    """
    if optional and not path.is_file():
        return []
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; run kff-finetune prepare first") from None
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(msgspec.json.decode(line, type=Record))
        except msgspec.DecodeError as error:
            raise UserError(f"{path}:{number}: {error}") from None
    if not found and not optional:
        raise UserError(f"{path}: it holds no records")
    return found
