"""Long or streamed text in segments: cut at sentence ends, so that the first is acted while the rest arrives."""

import re

SEGMENT_CHARACTERS = 240
"""Sentences are gathered up to this length; a text that is shorter is one segment."""

LONGEST_SEGMENT = 400
"""A sentence longer than this is cut, at a clause or a space where there is one."""

# Possessive, and only from the first mark of a run: 2,000 exclamation marks took 0.1 s of the GIL otherwise.
_SENTENCE_END = re.compile(r"(?:(?<![.!?…])[.!?…]++[\"'”’)\]]*+(?=\s)|[。！？]+|\n)\s*")  # noqa: RUF001 - full-width marks are meant


class Segmenter:
    """Text in, segments out. While `feed` is called with `more`, whole sentences leave at once."""

    def __init__(self) -> None:
        self._rest = ""

    def feed(self, text: str, *, more: bool) -> list[str]:
        """The segments that are complete; without `more` all that is left."""
        self._rest += text
        sentences = []
        start = 0
        for match in _SENTENCE_END.finditer(self._rest):
            sentences.append(self._rest[start : match.end()])
            start = match.end()
        self._rest = self._rest[start:]
        if not more:
            sentences.append(self._rest)
            self._rest = ""
        elif len(self._rest) > LONGEST_SEGMENT:
            pieces = _split(self._rest)
            sentences += pieces[:-1]
            self._rest = pieces[-1]
        return _gather([piece for sentence in sentences for piece in _split(sentence)])


def _split(sentence: str) -> list[str]:
    pieces = []
    while len(sentence) > LONGEST_SEGMENT:
        cut = max(sentence.rfind(mark, 0, LONGEST_SEGMENT) for mark in (", ", "; ", ": "))
        if cut < LONGEST_SEGMENT // 4:
            cut = sentence.rfind(" ", 0, LONGEST_SEGMENT)
        cut = LONGEST_SEGMENT if cut <= 0 else cut + 1
        pieces.append(sentence[:cut])
        sentence = sentence[cut:]
    return [*pieces, sentence]


def _gather(sentences: list[str]) -> list[str]:
    segments: list[str] = []
    for sentence in sentences:
        if segments and len(segments[-1]) + len(sentence) <= SEGMENT_CHARACTERS:
            segments[-1] += sentence
        else:
            segments.append(sentence)
    return [segment.strip() for segment in segments if segment.strip()]
