"""What llama.cpp may write: its own grammar sampler over the default model's vocabulary, driven without the model."""

import ctypes
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kff_live.protocols.channels import COUNT, LIVELINK_CSV, SHAPES, neutral
from kff_live.protocols.easing import EASINGS
from kff_live.protocols.keyframe_text import (
    DIALECTS,
    MAX_KEYFRAMES,
    NAMES,
    format_keyframe,
    format_keyframeface,
)
from kff_live.protocols.keyframes import EYE_ANGLES, Keyframe
from kff_live.protocols.prompt import PromptInput, messages

Ids = NDArray[np.int32]
_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])

MAX_TOKENS = 2000
"""No answer may be longer: a line has at most 40 characters of label and 40 names, a token at least one character."""


class Vocabulary:
    """The tokens of a model, and samplers over them."""

    def __init__(self, llama: ModuleType, path: Path) -> None:
        self.llama = llama
        self._model = llama.Llama(str(path), vocab_only=True, verbose=False)
        self.vocab = llama.llama_model_get_vocab(self._model.model)
        self.size: int = llama.llama_vocab_n_tokens(self.vocab)
        self.texts = [self._text(token) for token in range(self.size)]
        ends = [token for token in range(self.size) if llama.llama_vocab_is_eog(self.vocab, token)]
        self.ends: Ids = np.array(ends, np.int32)
        self.everything: Ids = np.arange(self.size, dtype=np.int32)

    def _text(self, token: int) -> bytes:
        buffer = ctypes.create_string_buffer(256)
        length = self.llama.llama_token_to_piece(self.vocab, token, buffer, 256, 0, False)
        return buffer.raw[: max(length, 0)]

    def tokens(self, text: str) -> list[int]:
        ids: list[int] = self._model.tokenize(text.encode(), add_bos=False, special=False)
        return ids

    def like(self, pattern: bytes) -> Ids:
        """The tokens whose text matches as a whole."""
        matches = re.compile(pattern)
        return np.array([i for i, text in enumerate(self.texts) if text and matches.fullmatch(text)], np.int32)

    def close(self) -> None:
        self._model.close()


class Sampler:
    """A grammar's state after some tokens."""

    def __init__(self, vocabulary: Vocabulary, grammar: str) -> None:
        self._llama = vocabulary.llama
        self._pointer = self._llama.llama_sampler_init_grammar(vocabulary.vocab, grammar.encode(), b"root")
        assert self._pointer, "llama.cpp does not understand the grammar"
        self._blank = self._llama.llama_sampler_clone(self._pointer)

    def allowed(self, ids: Ids) -> Ids:
        """Those of `ids` that may come next."""
        candidates = np.zeros(len(ids), _CANDIDATE)
        candidates["id"] = ids
        data = candidates.ctypes.data_as(ctypes.POINTER(self._llama.llama_token_data))
        array = self._llama.llama_token_data_array(data, len(ids), -1, False)
        self._llama.llama_sampler_apply(self._pointer, ctypes.byref(array))
        kept: Ids = ids[np.isfinite(candidates["logit"])]
        return kept

    def accept(self, token: int) -> None:
        """Only for a token that was just allowed: llama.cpp ends the process over any other."""
        self._llama.llama_sampler_accept(self._pointer, token)

    def restart(self) -> None:
        self._llama.llama_sampler_free(self._pointer)
        self._pointer = self._llama.llama_sampler_clone(self._blank)

    def accepts(self, tokens: list[int]) -> bool:
        """Whether all tokens are allowed one after the other, from the start."""
        self.restart()
        for token in tokens:
            if not len(self.allowed(np.array([token], np.int32))):
                return False
            self.accept(token)
        return True

    def close(self) -> None:
        for pointer in (self._pointer, self._blank):
            self._llama.llama_sampler_free(pointer)


@pytest.fixture(scope="module")
def vocabulary(require: Callable[[str], ModuleType], smollm2_path: Path) -> Iterator[Vocabulary]:
    made = Vocabulary(require("llama_cpp"), smollm2_path)
    yield made
    made.close()


@pytest.fixture
def compact(vocabulary: Vocabulary) -> Iterator[Sampler]:
    sampler = Sampler(vocabulary, DIALECTS["compact"].grammar)
    yield sampler
    sampler.close()


@pytest.fixture
def keyframeface(vocabulary: Vocabulary) -> Iterator[Sampler]:
    sampler = Sampler(vocabulary, DIALECTS["keyframeface"].grammar)
    yield sampler
    sampler.close()


def read(dialect: str, text: str) -> tuple[list[Keyframe], list[str]]:
    parser = DIALECTS[dialect].parser()
    keyframes = parser.feed(text)
    parser.close()
    return keyframes, parser.errors


# --- random answers -----------------------------------------------------------------------------------------------


class RandomModel:
    """A model with independent random logits for every token, and a liking for the end of text.

    The order of such logits over the vocabulary is a random permutation, so its best candidates are drawn directly.
    Where none of them is allowed, the grammar is asked about `likely`, and then about the whole vocabulary.
    """

    def __init__(self, vocabulary: Vocabulary, *, likely: Ids, seed: int) -> None:
        self._vocabulary, self._likely = vocabulary, likely
        self._random = np.random.default_rng(seed)

    def answer(self, sampler: Sampler, *, end: float) -> tuple[str, bool]:
        """Its text, and whether it ended by itself; `end` is how likely it ends where it may."""
        sampler.restart()
        written = b""
        for _ in range(MAX_TOKENS):
            token = self._next(sampler, written, end)
            sampler.accept(token)
            if token in self._vocabulary.ends:
                return written.decode(), True
            written += self._vocabulary.texts[token]
        return written.decode(), False

    def _next(self, sampler: Sampler, written: bytes, end: float) -> int:
        if self._random.random() < end and len(ends := sampler.allowed(self._vocabulary.ends)):
            return int(self._random.choice(ends))
        # In a label thousands of tokens are allowed, elsewhere a few hundred.
        in_label = written[written.rfind(b"\n") + 1 :].rstrip(b" ,'-").isalpha() or written[-1:] in (b"", b"\n")
        for ids in ([self._random.integers(0, self._vocabulary.size, 64).astype(np.int32)] if in_label else []) + [
            self._likely,
            self._vocabulary.everything,
        ]:
            allowed = sampler.allowed(ids)
            if len(allowed):
                return int(allowed[0] if len(ids) == 64 else self._random.choice(allowed))
        raise AssertionError(f"nothing may follow {written[-100:]!r}")


def pieces(words: list[str]) -> bytes:
    """A pattern of every part of every word."""
    parts = {word[i:j] for word in words for i in range(len(word)) for j in range(i + 1, len(word) + 1)}
    return "|".join(sorted(parts)).encode()


def likely_compact_tokens(vocabulary: Vocabulary) -> Ids:
    """Tokens made of pieces of the notation's words, and of its numbers and signs; and all the shortest."""
    letters = pieces([*(name.word for name in NAMES), *EASINGS])
    return vocabulary.like(
        rb"[a-zA-Z ,'-]|:? ?|:|[0-9]*\n?|-?[0-9]*|\+|[0-9]* ?(" + letters + rb")?[LR]?-?|[LR]-?[0-9]*"
    )


def test_1000_answers_from_random_logits_all_parse_and_all_end(vocabulary: Vocabulary, compact: Sampler) -> None:
    model = RandomModel(vocabulary, likely=likely_compact_tokens(vocabulary), seed=1)
    counts, used = [], set()
    for number in range(1000):
        # Every fourth answer is by a model that never wants to end; the grammar has to make it.
        text, ended = model.answer(compact, end=0.0 if number % 4 == 0 else 0.5)
        keyframes, errors = read("compact", text)
        assert ended, text
        assert errors == [], text
        assert len(keyframes) == text.count("\n"), text
        assert 1 <= len(keyframes) <= MAX_KEYFRAMES
        counts.append(len(keyframes))
        used |= set(re.findall(r"(?<= )[a-z]+(?=[LR]?-?\d)", text))
    assert {1, MAX_KEYFRAMES} <= set(counts)
    assert used == {name.word for name in NAMES}  # the draw reached all of the notation


def test_20_answers_in_keyframefaces_grammar_all_parse_and_all_end(
    vocabulary: Vocabulary, keyframeface: Sampler
) -> None:
    letters = pieces([*LIVELINK_CSV, "Keyframe", "one", "two", "three", "four", "five", "six", "seven", "eight"])
    likely = vocabulary.like(rb'[0-9.,:"{}_-]+|"?(' + letters + rb')[_"]?')
    model = RandomModel(vocabulary, likely=likely, seed=2)
    for _ in range(20):
        text, ended = model.answer(keyframeface, end=0.5)
        keyframes, errors = read("keyframeface", text)
        assert ended, text
        assert (len(keyframes), errors) == (1, []), text
        assert re.findall(r'"(\w+)":-?\d', text) == list(LIVELINK_CSV)


# --- where an answer may end --------------------------------------------------------------------------------------


def walk(sampler: Sampler, tokens: list[int]) -> Iterator[int]:
    """Accepts the tokens from the start, each of which must be allowed; yields before each and at the end."""
    sampler.restart()
    for place, token in enumerate(tokens):
        yield place
        assert len(sampler.allowed(np.array([token], np.int32))), f"token {place} is refused"
        sampler.accept(token)
    yield len(tokens)


def test_an_answer_may_end_after_a_newline_and_nowhere_else(vocabulary: Vocabulary, compact: Sampler) -> None:
    text = "glad: 2 wide8 jaw4\n6+12 sine smileL7 smileR10 yaw-1\n"
    shortest = vocabulary.like(rb"[ -~\n]")
    by_character = [vocabulary.tokens(character)[0] for character in text]
    for place in walk(compact, by_character):
        may_end = place > 0 and text[place - 1] == "\n"
        assert len(compact.allowed(vocabulary.ends)) == (len(vocabulary.ends) if may_end else 0), text[:place]
        assert len(compact.allowed(shortest)) > 0, text[:place]  # or it goes on


def test_after_eight_lines_an_answer_must_end(vocabulary: Vocabulary, compact: Sampler) -> None:
    for place in walk(compact, vocabulary.tokens("4 smile1\n") * MAX_KEYFRAMES):
        last = place
    assert last > 0
    assert compact.allowed(vocabulary.everything).tolist() == vocabulary.ends.tolist()


def test_after_the_last_brace_an_answer_must_end(vocabulary: Vocabulary, keyframeface: Sampler) -> None:
    text = format_keyframeface(Keyframe(neutral()))
    for place in walk(keyframeface, vocabulary.tokens(text)):
        ends = keyframeface.allowed(vocabulary.ends)
        if place == 0:
            assert len(ends) == 0
    assert keyframeface.allowed(vocabulary.everything).tolist() == vocabulary.ends.tolist()


# --- what is written elsewhere is accepted ------------------------------------------------------------------------


def random_integer_keyframe(rng: np.random.Generator) -> Keyframe:
    """As the corpus holds them: whole levels, whole tenths from 1 to 99, a plain label."""
    pose = neutral()
    for name in NAMES:
        if rng.random() < 0.3:
            level = rng.integers(-10 if name.signed else 0, 11) / 10
            pose[name.left] = level
            if name.right is not None:
                pose[name.right] = [level, 0.0, rng.integers(0, 11) / 10][rng.integers(3)]
    return Keyframe(
        pose,
        way=float(rng.integers(1, 100) / 10),
        hold=float(rng.integers(0, 100) / 10),
        easing=EASINGS[rng.integers(len(EASINGS))],
        label=["", "warm smile", "it's fine, well-meant", "A", "x" * 40][rng.integers(5)],
    )


@pytest.mark.parametrize("seed", range(10))
def test_formatted_integer_keyframes_are_accepted_with_their_end(
    seed: int, vocabulary: Vocabulary, compact: Sampler
) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(5):
        keyframes = [random_integer_keyframe(rng) for _ in range(rng.integers(1, MAX_KEYFRAMES + 1))]
        text = "".join(map(format_keyframe, keyframes))
        for end in vocabulary.ends.tolist():
            assert compact.accepts([*vocabulary.tokens(text), end]), text


@pytest.mark.parametrize("name", NAMES, ids=[name.word for name in NAMES])
def test_every_word_side_and_level_is_accepted(name: Any, vocabulary: Vocabulary, compact: Sampler) -> None:
    levels = [*range(1, 11), *(range(-10, 0) if name.signed else [])]
    sides = [""] if name.right is None else ["", "L", "R"]
    end = vocabulary.ends.tolist()[0]
    for line in [f"4 {name.word}{side}{level}\n" for side in sides for level in levels]:
        assert compact.accepts([*vocabulary.tokens(line), end]), line
        assert read("compact", line)[1] == []


def test_answers_of_the_worked_examples_are_accepted(vocabulary: Vocabulary, compact: Sampler) -> None:
    answers = [message.pieces[0][0] for message in messages(PromptInput("hi"))[0] if message.role == "assistant"]
    assert answers
    for answer in answers:
        assert compact.accepts([*vocabulary.tokens(answer), vocabulary.ends.tolist()[0]]), answer


@pytest.mark.parametrize("seed", range(5))
def test_keyframeface_objects_on_the_grid_are_accepted(
    seed: int, vocabulary: Vocabulary, keyframeface: Sampler
) -> None:
    rng = np.random.default_rng(seed)
    pose = (rng.integers(0, 11, COUNT) / 10).astype(np.float32)
    pose[SHAPES:] *= rng.choice([-1, 1], COUNT - SHAPES)
    pose[EYE_ANGLES] = 0.0
    text = format_keyframeface(Keyframe(pose), number=seed + 1)
    assert keyframeface.accepts([*vocabulary.tokens(text), vocabulary.ends.tolist()[0]]), text


@pytest.mark.parametrize(
    "text",
    [
        "smile7\n", " 4\n", "0\n", "100\n", "4+0\n", "4 smile0\n", "4 smile11\n", "4 smile-1\n", "4 smile1.5\n",
        "4 jawL1\n", "4 grin1\n", "4 smile1 smile1\n", "4 smile1 blink1\n", "4 cubic\n", "4 smile1 sine\n",
        "4  smile1\n", "# kff 1\n", "\n", "é: 4\n", "a: b: 4\n", "x" * 41 + ": 4\n", "4 smileR1 smileL1\n", "Sure! 4\n",
    ],
)  # fmt: skip
def test_what_is_not_the_models_notation_is_refused(text: str, vocabulary: Vocabulary, compact: Sampler) -> None:
    assert not compact.accepts(vocabulary.tokens(text))
