"""Who writes the keyframes of a text in an evaluation: a model under the runtime's engine, or a plain stand-in."""

import asyncio
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec

from kff_live.finetune.lint import tokens
from kff_live.finetune.records import Record, parse_vector
from kff_live.protocols.errors import DecodeError, GeneratorError, UserError
from kff_live.protocols.keyframe_text import DIALECTS, format_keyframe
from kff_live.protocols.keyframes import Keyframe
from kff_live.protocols.prompt import PromptInput, messages
from kff_live.protocols.segments import Segmenter
from kff_live.runtime.clock import SystemClock
from kff_live.runtime.config import EMBEDDED
from kff_live.runtime.model.choice import embedded_path
from kff_live.runtime.model.generator import ScriptedGenerator
from kff_live.runtime.model.generator_wire import EngineSettings
from kff_live.runtime.model.llama import Answer, Engine, outputs
from kff_live.runtime.render import write_all

_NAMED = re.compile(rf"([^=]+)=({EMBEDDED}|.+?\.gguf)(?::(.+\.gguf))?")
_VECTOR_TOKENS = 1200  # eight keyframes of 61 bare numbers


@dataclass
class Written:
    """The keyframes of a text, and what a model needed for them.

    `right`: whether its text was keyframe text without any grammar's help. `tokens`: written ones, each end included.
    `seconds`: from the first token to the last. `first`: seconds from the text to the end of the first keyframe.
    """

    keyframes: list[Keyframe] = field(default_factory=list)
    right: bool | None = None
    tokens: int = 0
    seconds: float = 0.0
    first: float | None = None


class Writer(Protocol):
    """Answers texts, one at a time."""

    def write(self, request: PromptInput) -> Written:
        """The keyframes of a text; none where it cannot be answered."""


class Still:
    """A face that never moves."""

    def write(self, request: PromptInput) -> Written:
        """No keyframe."""
        return Written()


def asked_text(record: Record) -> str:
    """What the user says in a record's chat: the text, and what stands around it."""
    return "".join(text for text, _ in record.chat[-1].pieces)


def request_text(request: PromptInput) -> str:
    """The same of a request."""
    return "".join(text for text, _ in messages(request, examples=False)[0][-1].pieces)


class Retrieval:
    """Copies the keyframes of the nearest training text: cosine of TF-IDF over words and signs."""

    def __init__(self, records: list[Record]) -> None:
        self._answers = [record.answer for record in records]
        counts = [Counter(tokens(asked_text(record))) for record in records]
        spread = Counter(token for count in counts for token in count)
        self._rarity = {token: math.log(len(records) / n) + 1.0 for token, n in spread.items()}
        self._where: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for number, count in enumerate(counts):
            for token, weight in self._weights(count).items():
                self._where[token].append((number, weight))

    def _weights(self, count: Counter[str]) -> dict[str, float]:
        weights = {token: n * self._rarity[token] for token, n in count.items() if token in self._rarity}
        length = math.sqrt(sum(weight * weight for weight in weights.values()))
        return {token: weight / length for token, weight in weights.items()}

    def write(self, request: PromptInput) -> Written:
        """The keyframes of the nearest text; none where no word is known."""
        near: dict[int, float] = defaultdict(float)
        for token, weight in self._weights(Counter(tokens(request_text(request)))).items():
            for number, other in self._where[token]:
                near[number] += weight * other
        if not near:
            return Written()
        best = min(near, key=lambda number: (-near[number], number))
        return Written(DIALECTS["compact"].parser().feed(self._answers[best]))


class Model:
    """A GGUF under the runtime's engine, asked and cut as kff-live does it: in segments, within its limits.

    Args:
        vectors: it was trained to write bare numbers (records.py); it is asked without a grammar.
    """

    def __init__(self, settings: EngineSettings, *, vectors: bool = False) -> None:
        self._clock = SystemClock()
        if vectors:
            settings = msgspec.structs.replace(settings, max_tokens=_VECTOR_TOKENS)
        self._engine = Engine(settings, self._clock)
        self._vectors = vectors

    def write(self, request: PromptInput) -> Written:
        """The keyframes that the face would act, and the figures of all segments together."""
        written = Written(right=True)
        try:
            texts = {
                segment: self._answer(msgspec.structs.replace(request, text=segment), written)
                for segment in Segmenter().feed(request.text, more=False)
            }
            written.keyframes = asyncio.run(write_all(ScriptedGenerator(texts), request, dialect="compact", seed=0))
        except GeneratorError:  # no keyframe in it: an answer like any other
            written.right = False
        return written

    def _answer(self, request: PromptInput, written: Written) -> str:
        """The compact text of one segment."""
        (prompt,) = self._engine.prompts(request)
        answer = self._engine.begin(prompt, grammar=not self._vectors)
        text, ended = self._read(answer, written)
        stats = answer.stats(self._clock.now())
        written.tokens += stats.tokens
        written.seconds += stats.seconds
        if self._vectors:
            text, right = _compact(text)
        elif right := ended and not stats.refused:
            pass  # the grammar never had to say no: the same text would have come without it
        else:
            text_alone, ended = self._read(self._engine.begin(prompt, grammar=False), Written())
            right = _parses(text_alone)
        written.right = bool(written.right and right and ended)
        return text

    def _read(self, answer: Answer, written: Written) -> tuple[str, bool]:
        """The whole text of an answer, and whether the model ended it by itself."""
        text, ended = "", None
        for output in outputs(self._engine, answer):
            text, ended = text + output.text, output.ended
            if written.first is None and "\n" in output.text:
                written.first = self._clock.now() - answer.started
        return text, ended == "end"

    def free(self) -> None:
        """Give back what llama.cpp holds."""
        self._engine.free()


@contextmanager
def model(settings: EngineSettings, *, vectors: bool = False) -> Iterator[Model]:
    """A Model, loaded and given back.

    Raises:
        UserError: llama.cpp cannot load it.
    """
    opened = Model(settings, vectors=vectors)
    try:
        yield opened
    finally:
        opened.free()


def named_model(text: str, *, option: str) -> tuple[str, EngineSettings]:
    """Name and settings of `NAME=PATH.gguf` or `NAME=PATH.gguf:ADAPTER.gguf`; the path may be `embedded`.

    Raises:
        UserError: it is neither; the message begins with `option`.
    """
    match = _NAMED.fullmatch(text)
    if match is None:
        raise UserError(f"{option}: {text!r}: expected NAME=MODEL.gguf or NAME=MODEL.gguf:ADAPTER.gguf")
    name, path, adapter = match.groups()
    return name, engine_settings(path, adapter=adapter or "")


def engine_settings(path: str, *, adapter: str = "", examples: bool = False) -> EngineSettings:
    """A model that answers one text at a time."""
    found = embedded_path() if path == EMBEDDED else Path(path).expanduser()
    found_adapter = str(Path(adapter).expanduser()) if adapter else ""
    return EngineSettings(str(found), adapter=found_adapter, sequences=1, examples=examples)


def _parses(text: str) -> bool:
    parser = DIALECTS["compact"].parser()
    found = parser.feed(text)
    parser.close()
    return bool(found) and not parser.errors


def _compact(text: str) -> tuple[str, bool]:
    """Lines of bare numbers in compact notation, without those that are none; and whether there were only such."""
    *lines, rest = text.split("\n")
    found = ""
    right = bool(lines) and not rest
    for line in lines:
        try:
            found += format_keyframe(parse_vector(line))
        except DecodeError:
            right = False
    return found, right
