"""Scripts: a text and what one face does with it, authored by hand; one JSON object a line in scripts/*.jsonl."""

from pathlib import Path
from typing import Literal

import msgspec

from kff_live.protocols.errors import DecodeError, UserError
from kff_live.protocols.keyframe_text import KeyframeJson, from_json
from kff_live.protocols.keyframes import Keyframe
from kff_live.protocols.prompt import PromptInput

FORMS = ("action", "prose", "chat", "neutral", "sequence", "nuance", "described")
"""What a text is: a named movement, a story's sentence, a typed line, information, things in order, a mixed or masked
feeling, or descriptions of keyframes as KeyframeFace poses them."""

STRENGTHS = ("slight", "clear", "strong")

MAX_TEXT = 600
"""Longest text of a script, in characters."""


class Script(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One line of a corpus.

    `feelings`: words of anatomy.FEELINGS, empty for a pure movement or a line without feeling. `strength`: how much
    of them. `background`, `emotion` and `descriptions` are the prompt's, as in a `say` message. `split`: where it is
    kept whatever the shares are; empty: dealt by them.
    """

    id: str
    form: str
    text: str
    keyframes: tuple[KeyframeJson, ...]
    feelings: tuple[str, ...] = ()
    strength: str = "clear"
    background: str = ""
    emotion: str = ""
    descriptions: tuple[str, ...] = ()
    split: Literal["", "validation", "test"] = ""

    def request(self) -> PromptInput:
        """What the model is asked."""
        return PromptInput(self.text, self.background, self.emotion, self.descriptions)

    def poses(self) -> list[Keyframe]:
        """The keyframes it should answer with.

        Raises:
            DecodeError: a channel is unknown or a value out of range; the message names it.
        """
        return [from_json(keyframe, where=f"keyframes[{i}]") for i, keyframe in enumerate(self.keyframes)]


_DECODER = msgspec.json.Decoder(Script)
_ENCODER = msgspec.json.Encoder()


def corpus_files(path: Path) -> list[Path]:
    """The files of a corpus: `path` itself, or the *.jsonl of a folder in order of name.

    Raises:
        UserError: there are none.
    """
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise UserError(f"{path}: expected a .jsonl file or a folder that holds some")
    return files


def read_scripts(path: Path) -> tuple[list[Script], list[str]]:
    """The scripts of a file, and what is wrong with it as `FILE:LINE: FIELD: what`; a broken line gives no script."""
    scripts, wrong = [], []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # and not splitlines: JSON may hold U+2028
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            script = _DECODER.decode(line)
            _check(script)
        except (msgspec.DecodeError, DecodeError) as error:
            wrong.append(f"{path.name}:{number}: {error}")
            continue
        scripts.append(script)
    return scripts, wrong


def _check(script: Script) -> None:
    if not script.text.strip():
        raise DecodeError("text: it is empty")
    if len(script.text) > MAX_TEXT:
        raise DecodeError(f"text: {len(script.text)} characters, at most {MAX_TEXT}")
    if script.form not in FORMS:
        raise DecodeError(f"form: {script.form!r} is not one of {', '.join(FORMS)}")
    if script.strength not in STRENGTHS:
        raise DecodeError(f"strength: {script.strength!r} is not one of {', '.join(STRENGTHS)}")
    if not script.keyframes:
        raise DecodeError("keyframes: there are none")
    script.poses()


def write_scripts(path: Path, scripts: list[Script]) -> None:
    """Writes a file of scripts, one a line."""
    path.write_bytes(b"".join(_ENCODER.encode(script) + b"\n" for script in scripts))
