"""The `speech` field of a message, decoded: spoken or not, how long it sounds, when its words come (docs/speech.md)."""

import math
from dataclasses import dataclass

from kff_live.protocols.errors import DecodeError
from kff_live.protocols.talk.phonemes import Lexicon
from kff_live.protocols.talk.speech import DEFAULT_RATE, Speech, Word, speech_from_text, speech_from_words

MAX_SPEECH_SECONDS = 600.0
"""Longest sound of one text."""

MAX_SPEECH_WORDS = 1000
MAX_WORD_CHARACTERS = 100

TIMING_SLACK = 0.001
"""Seconds by which a word may begin before the last one ends: word times are rounded."""


@dataclass(frozen=True)
class SpeechField:
    """A text that is spoken; `duration` and `words` where the sender knows them."""

    duration: float | None = None
    words: tuple[Word, ...] | None = None

    def speech(self, text: str, *, rate: float = DEFAULT_RATE, lexicon: Lexicon | None = None) -> Speech:
        """The speech of `text`, by word times where known, else by the duration, else by `rate`, words a minute."""
        if self.words is not None:
            return speech_from_words(self.words, duration=self.duration, lexicon=lexicon)
        return speech_from_text(text, rate=rate, duration=self.duration, lexicon=lexicon)


def decode_speech_field(value: object, *, where: str = "speech") -> SpeechField | None:
    """The field's meaning; None for a text that is not spoken: null or false.

    Raises:
        DecodeError: the message begins with the path of what is wrong, as `speech.words[2].end`.
    """
    if value is None or value is False:
        return None
    if value is True:
        return SpeechField()
    fields = _object(value, where, ("duration", "words"))
    if not fields:
        raise DecodeError(f"{where}: expected true, or an object with duration or words")
    duration = _seconds(fields["duration"], f"{where}.duration") if "duration" in fields else None
    if duration == 0.0:
        raise DecodeError(f"{where}.duration: it is 0")
    words = _words(fields["words"], f"{where}.words") if "words" in fields else None
    return SpeechField(duration, words)


def _words(value: object, where: str) -> tuple[Word, ...]:
    if not isinstance(value, list):
        raise DecodeError(f"{where}: expected a list of words")
    if not 1 <= len(value) <= MAX_SPEECH_WORDS:
        raise DecodeError(f"{where}: {len(value)} words, expected 1 to {MAX_SPEECH_WORDS}")
    words: list[Word] = []
    at = 0.0
    for i, entry in enumerate(value):
        word = _word(entry, f"{where}[{i}]")
        if word.start < at - TIMING_SLACK:
            raise DecodeError(f"{where}[{i}].start: {word.start:g} is before the end of the word before it, {at:g}")
        at = max(at, word.end)
        words.append(Word(word.text, max(word.start, words[-1].end if words else 0.0), at))
    return tuple(words)


def _word(value: object, where: str) -> Word:
    fields = _object(value, where, ("text", "start", "end"))
    for name in ("text", "start", "end"):
        if name not in fields:
            raise DecodeError(f"{where}.{name}: it is missing")
    text = fields["text"]
    if not isinstance(text, str):
        raise DecodeError(f"{where}.text: expected a string")
    if len(text) > MAX_WORD_CHARACTERS:
        raise DecodeError(f"{where}.text: {len(text)} characters, at most {MAX_WORD_CHARACTERS}")
    start, end = (_seconds(fields[name], f"{where}.{name}") for name in ("start", "end"))
    if end < start:
        raise DecodeError(f"{where}.end: {end:g} is before its start {start:g}")
    return Word(text, start, end)


def _object(value: object, where: str, known: tuple[str, ...]) -> dict[str, object]:
    if not isinstance(value, dict):
        raise DecodeError(f"{where}: expected an object")
    for name in value:
        if name not in known:
            raise DecodeError(f"{where}.{name}: unknown field, expected {' or '.join(known)}")
    return value


def _seconds(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DecodeError(f"{where}: expected seconds, a number")
    if not (0.0 <= value <= MAX_SPEECH_SECONDS and math.isfinite(value)):
        raise DecodeError(f"{where}: {value} is outside 0 to {MAX_SPEECH_SECONDS:g} s")
    return float(value)
