"""What people say and what is told of them, by feeling (situations/*.toml), each given one of the feeling's faces.

The scripts of the corpus act each text by itself; situations show a small model far more of what makes people feel. A
section is a feeling, two or three that follow one another ("hope > relief"), or a mixture with faces of its own.
"""

import random
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from kff_live.finetune import anatomy
from kff_live.finetune.scripts import Script
from kff_live.protocols.errors import DecodeError, UserError
from kff_live.protocols.keyframe_text import MAX_KEYFRAMES, parse_line, to_json

NEUTRAL = "neutral"
"""The section of texts without feeling."""

THEN = " > "
"""Between the feelings of a section in which one follows another."""

_FACE_LINES = 4
"""Keyframes at most, all together, where feelings follow one another."""


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One feeling in one file, as Feeling."""

    mixed: tuple[str, ...] = ()
    faces: tuple[str, ...] = ()
    say: tuple[str, ...] = ()
    tell: tuple[str, ...] = ()


@dataclass
class Feeling:
    """A feeling's texts and faces, of all files.

    `mixed`: the feelings that are felt at once, or masked; empty for a single one. `faces`: the keyframe lines of each,
    every face showing the feeling plainly. `say`: what somebody says or types who feels it. `tell`: what is told of
    somebody who does.
    """

    mixed: tuple[str, ...] = ()
    faces: list[list[str]] = field(default_factory=list)
    say: list[str] = field(default_factory=list)
    tell: list[str] = field(default_factory=list)


def read_situations(folder: Path, files: Sequence[str] = ()) -> dict[str, Feeling]:
    """The sections of a folder's *.toml by name, with the faces of all and the texts of `files` (named without .toml).

    Without `files`, the texts of all. What a section mixes is said once, in the first of its files by name.

    Raises:
        UserError: a file is not there or cannot be read, a feeling is unknown or has no face, or a face is not keyframe
            text or against the rules of anatomy.py; the message names it.
    """
    found: dict[str, Feeling] = {}
    for name in files:
        if not (folder / f"{name}.toml").is_file():
            raise UserError(f"data.situation_files: there is no {name}.toml in {folder}")
    for path in sorted(folder.glob("*.toml")):
        try:
            sections = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), dict[str, _Section])
            for name, section in sections.items():
                feeling = found.setdefault(name, Feeling())
                if THEN in name and (section.faces or section.mixed):
                    raise DecodeError(f"{name}: feelings that follow one another have no faces of their own")
                if section.mixed and feeling.mixed:
                    raise DecodeError(f"{name}: what is mixed is said twice")
                feeling.mixed += section.mixed
                feeling.faces += [_checked(face, name, feeling.mixed) for face in section.faces]
                if not files or path.stem in files:
                    feeling.say += section.say
                    feeling.tell += section.tell
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError, DecodeError) as error:
            raise UserError(f"{path}: {error}") from None
    if not found:
        raise UserError(f"{folder}: there are no situations (*.toml with a section for each feeling)")
    for name in found:
        for part, faces in _faces(found, name):
            if not faces:
                raise UserError(f"{folder}: {name}: {part} has no face that is short enough")
    return found


def act(feelings: dict[str, Feeling], seed: int) -> list[Script]:
    """A script of every text, its face drawn by the seed; in order of feeling."""
    rng = random.Random(f"{seed} situations")
    scripts = []
    for name in sorted(feelings):
        for form, texts in (("chat", feelings[name].say), ("prose", feelings[name].tell)):
            for number, text in enumerate(texts, 1):
                face = [line for _, faces in _faces(feelings, name) for line in rng.choice(faces)]
                id = f"{name}-{form}-{number:04d}".replace(" ", "-")
                scripts.append(_script(id, form, text, name, feelings[name].mixed, face))
    return scripts


def _faces(feelings: dict[str, Feeling], name: str) -> list[tuple[str, list[list[str]]]]:
    """The feelings of a section in order, each with the faces that may show it there."""
    parts = name.split(THEN)
    most = MAX_KEYFRAMES if len(parts) == 1 else _FACE_LINES // len(parts)
    return [
        (part, [face for face in feelings[part].faces if len(face) <= most] if part in feelings else [])
        for part in parts
    ]


def _script(id: str, form: str, text: str, name: str, mixed: tuple[str, ...], face: list[str]) -> Script:
    """A text of section `name`, acted by the lines of `face`; `form` is that of a text of a single feeling."""
    names = mixed or tuple(part for part in name.split(THEN) if part != NEUTRAL)
    form = "neutral" if not names else "nuance" if mixed else "sequence" if THEN in name else form
    return Script(id, form, text, tuple(to_json(parse_line(line)) for line in face), names)


def _checked(face: str, name: str, mixed: tuple[str, ...]) -> list[str]:
    lines = face.splitlines()
    for problem in anatomy.problems(_script("", "prose", "x", name, mixed, lines)):
        raise DecodeError(f"{name}: {face!r}: {problem}")
    return lines
