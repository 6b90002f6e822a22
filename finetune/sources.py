"""Other people's data as scripts: KeyframeFace's messages, and takes of a live face with a text to each."""

import re
from pathlib import Path

import msgspec
import numpy as np

from kff_live.converters import takes
from kff_live.finetune.scripts import MAX_TEXT, Script
from kff_live.protocols.errors import DecodeError, EncodeError, KffError, UserError
from kff_live.protocols.frames import Frame, FrameRate
from kff_live.protocols.keyframe_text import MAX_KEYFRAMES, ORDINALS, KeyframeFaceParser, to_json
from kff_live.protocols.keyframes import EYE_ANGLES, Keyframe

_LONGEST = 9.9  # s: the grammar for the model writes times up to 99 tenths
_COARSER = 1.3  # by what the error grows until a take fits into one answer


class _Message(msgspec.Struct):
    role: str
    content: str


class _Exchange(msgspec.Struct):
    """A line of KeyframeFace's training data: the request for one keyframe, and the answer."""

    messages: list[_Message]


class _LabelledTake(msgspec.Struct, forbid_unknown_fields=True):
    """A line of a list of takes; `take` is a path, relative to the list."""

    take: str
    text: str
    background: str = ""
    emotion: str = ""


_ASKED = re.compile(r"\s*Task Instruction:.*?Keyframe (\w+)\.?\s*$", re.DOTALL)
_DESCRIPTION = re.compile(r"^- Keyframe \w+: (.*)$", re.MULTILINE)
_FIELD = re.compile(r"^(Background|Emotion): (.*)$", re.MULTILINE)


def read_keyframeface(path: Path) -> tuple[list[Script], list[str]]:
    """A script for each request of a file in KeyframeFace's message format; then what is wrong.

    What is wrong reads `FILE:LINE: FIELD: what`.

    Lines that differ only in the keyframe asked for are one script, wherever they stand. The format has no time:
    keyframes get the parser's.

    Raises:
        UserError: the file cannot be read.
    """
    found: dict[str, dict[int, tuple[int, Keyframe]]] = {}
    wrong = []
    for number, line in _lines(path):
        try:
            exchange = msgspec.json.decode(line, type=_Exchange)
            request, ordinal, keyframe = _exchange(exchange)
            if ordinal in (known := found.setdefault(request, {})):
                raise DecodeError(f"messages: line {known[ordinal][0]} asks for the same keyframe of the same request")
        except (msgspec.DecodeError, DecodeError) as error:
            wrong.append(f"{path.name}:{number}: {error}")
            continue
        known[ordinal] = number, keyframe
    scripts = []
    for request, answers in found.items():
        lines = [answers[ordinal] for ordinal in sorted(answers)]
        if len(answers) <= max(answers):
            missing = next(i for i in range(len(answers)) if i not in answers)
            wrong.append(
                f"{path.name}:{lines[-1][0]}: messages: of the same request keyframe {ORDINALS[missing]} is missing"
            )
            continue
        fields = dict(_FIELD.findall(request))
        descriptions = tuple(_DESCRIPTION.findall(request))
        text = fields.get("Background", "") or " ".join(descriptions)
        if not text.strip():
            wrong.append(f"{path.name}:{lines[0][0]}: messages: the request holds neither background nor descriptions")
            continue
        scripts.append(
            Script(
                id=f"{path.stem}-{lines[0][0]}",
                form="described",
                text=text[:MAX_TEXT],
                keyframes=tuple(to_json(writable(keyframe)) for _, keyframe in lines[:MAX_KEYFRAMES]),
                background=fields.get("Background", ""),
                emotion=fields.get("Emotion", ""),
                descriptions=descriptions,
            )
        )
    return scripts, wrong


def _exchange(exchange: _Exchange) -> tuple[str, int, Keyframe]:
    """The request without the keyframe that it asks for, which one that is from 0 on, and the answer."""
    said = {message.role: message.content for message in exchange.messages}
    for role in ("user", "assistant"):
        if role not in said:
            raise DecodeError(f"messages: there is none of the role {role!r}")
    asked = _ASKED.search(said["user"])
    if asked is None:
        raise DecodeError("messages: the request does not end with the keyframe that it asks for")
    if asked[1].lower() not in ORDINALS:
        raise DecodeError(f"messages: Keyframe {asked[1]} is asked for: expected one of {', '.join(ORDINALS)}")
    parser = KeyframeFaceParser()
    keyframes = parser.feed(said["assistant"])
    parser.close()
    if parser.errors or len(keyframes) != 1:
        raise DecodeError(f"messages: the answer: {parser.errors[0] if parser.errors else 'expected one keyframe'}")
    return said["user"][: asked.start()], ORDINALS.index(asked[1].lower()), keyframes[0]


def read_takes(path: Path, *, error: float) -> tuple[list[Script], list[str], list[str]]:
    """A script for each take of a list, `{"take": "smile.csv", "text": "She smiles."}` a line; then what is wrong as
    `FILE:LINE: FIELD: what`, and a line on what each take lost.

    A take is any that kff-convert reads, thinned out to keyframes that stay within `error` of every frame; where those
    are more than one answer may have, the error grows until they are not.

    Raises:
        UserError: the list cannot be read.
    """
    scripts, wrong, notes = [], [], []
    for number, line in _lines(path):
        try:
            labelled = msgspec.json.decode(line, type=_LabelledTake)
            if not labelled.text.strip():
                raise DecodeError("text: it is empty")
            keyframes, reached = _thinned(path.parent / labelled.take, error)
        except (msgspec.DecodeError, KffError) as problem:
            wrong.append(f"{path.name}:{number}: {problem}")
            continue
        scripts.append(
            Script(
                id=f"{path.stem}-{number}",
                form="prose",
                text=labelled.text,
                keyframes=tuple(to_json(writable(keyframe)) for keyframe in keyframes),
                background=labelled.background,
                emotion=labelled.emotion,
            )
        )
        notes.append(f"{labelled.take}: {len(keyframes)} keyframes within {reached:.3f} of every frame")
    return scripts, wrong, notes


def _thinned(path: Path, error: float) -> tuple[list[Keyframe], float]:
    from kff_live.converters.thin import thin  # compiles when it is imported

    with takes.opened(path) as take:
        frames = list(take.frames)
    if len(frames) < 2:
        raise DecodeError("take: it holds fewer than two frames")
    poses = np.array([frame.pose for frame in frames], np.float32)
    while True:
        try:
            keyframes = thin(poses, _rate(frames), error=min(error, 1.0))
        except EncodeError as problem:
            raise DecodeError(f"take: {problem}") from None
        if len(keyframes) <= MAX_KEYFRAMES or error >= 1.0:
            return keyframes[:MAX_KEYFRAMES] or [Keyframe(poses[-1])], error
        error *= _COARSER


def _rate(frames: list[Frame]) -> FrameRate:
    return frames[0].rate


def writable(keyframe: Keyframe) -> Keyframe:
    """The nearest keyframe that the grammar for the model can write: whole tenths, eyes as EyeLook* say."""
    pose = np.round(keyframe.pose, 1).astype(np.float32)
    pose[EYE_ANGLES] = 0.0
    label = "".join(c for c in keyframe.label if c.isascii() and (c.isalpha() or c in " ,'-")).strip(" ,'-")
    way = min(max(round(keyframe.way, 1), 0.1), _LONGEST)
    return Keyframe(pose, way, min(round(keyframe.hold, 1), _LONGEST), keyframe.easing, label[:40].rstrip())


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # and not splitlines: JSON may hold U+2028
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    return [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
