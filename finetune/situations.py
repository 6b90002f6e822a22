"""What people say and what is told of them, by feeling (situations/*.toml), each given one of the feeling's faces.

The scripts of the corpus act each text by itself; situations show a small model far more of what makes people feel.
"""

import random
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from kff_live.finetune import anatomy
from kff_live.finetune.scripts import Script
from kff_live.protocols.errors import DecodeError, UserError
from kff_live.protocols.keyframe_text import parse_line, to_json

NEUTRAL = "neutral"
"""The section of texts without feeling."""


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One feeling in one file, as Feeling."""

    faces: tuple[str, ...] = ()
    say: tuple[str, ...] = ()
    tell: tuple[str, ...] = ()


@dataclass
class Feeling:
    """A feeling's texts and faces, of all files.

    `faces`: the keyframe lines of each, every face showing the feeling plainly. `say`: what somebody says or types who
    feels it. `tell`: what is told of somebody who does.
    """

    faces: list[list[str]] = field(default_factory=list)
    say: list[str] = field(default_factory=list)
    tell: list[str] = field(default_factory=list)


def read_situations(folder: Path) -> dict[str, Feeling]:
    """The feelings of a folder's *.toml by name, NEUTRAL among them.

    Raises:
        UserError: a file cannot be read, a feeling is unknown or has no face, or a face is not keyframe text or against
            the rules of anatomy.py; the message names it.
    """
    found: dict[str, Feeling] = {}
    for path in sorted(folder.glob("*.toml")):
        try:
            sections = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), dict[str, _Section])
            for name, section in sections.items():
                feeling = found.setdefault(name, Feeling())
                feeling.faces += [_checked(face, name) for face in section.faces]
                feeling.say += section.say
                feeling.tell += section.tell
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError, DecodeError) as error:
            raise UserError(f"{path}: {error}") from None
    if not found:
        raise UserError(f"{folder}: there are no situations (*.toml with a section for each feeling)")
    for name, feeling in found.items():
        if not feeling.faces:
            raise UserError(f"{folder}: {name}: it has no faces")
    return found


def act(feelings: dict[str, Feeling], seed: int) -> list[Script]:
    """A script of every text, its face drawn by the seed; in order of feeling."""
    rng = random.Random(f"{seed} situations")
    return [
        _script(f"{name}-{form}-{number:04d}", form if name != NEUTRAL else "neutral", text, name, rng.choice(faces))
        for name, faces, texts in ((name, feelings[name].faces, feelings[name]) for name in sorted(feelings))
        for form, some in (("chat", texts.say), ("prose", texts.tell))
        for number, text in enumerate(some, 1)
    ]


def _script(id: str, form: str, text: str, feeling: str, face: list[str]) -> Script:
    feelings = () if feeling == NEUTRAL else (feeling,)
    return Script(id, form, text, tuple(to_json(parse_line(line)) for line in face), feelings)


def _checked(face: str, feeling: str) -> list[str]:
    lines = face.splitlines()
    script = _script("", "neutral" if feeling == NEUTRAL else "prose", "x", feeling, lines)
    for problem in anatomy.problems(script):
        raise DecodeError(f"{feeling}: {face!r}: {problem}")
    return lines
