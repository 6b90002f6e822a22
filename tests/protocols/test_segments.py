import random

import pytest

from kff_live.protocols.segments import LONGEST_SEGMENT, SEGMENT_CHARACTERS, Segmenter


def whole(text: str) -> list[str]:
    return Segmenter().feed(text, more=False)


def streamed(pieces: list[str]) -> list[str]:
    segmenter = Segmenter()
    segments = [segment for piece in pieces for segment in segmenter.feed(piece, more=True)]
    return segments + segmenter.feed("", more=False)


def visible(text: str) -> str:
    return "".join(text.split())


SENTENCE = "The quick brown fox jumps over the lazy dog and runs away into the woods near the river bank. "


def test_a_short_text_is_one_segment() -> None:
    assert whole("Hello. How are you? Fine!") == ["Hello. How are you? Fine!"]


@pytest.mark.parametrize("text", ["", " ", "\n\n", "\t \u3000"])
def test_nothing_visible_is_no_segment(text: str) -> None:
    assert whole(text) == []
    assert streamed(list(text)) == []


def test_a_long_text_is_cut_at_sentence_ends() -> None:
    segments = whole(SENTENCE * 5)
    assert segments == [(SENTENCE * 2).strip(), (SENTENCE * 2).strip(), SENTENCE.strip()]


@pytest.mark.parametrize("end", [".", "!", "?", "…", "...", "?!", '."', "!”", ".)", "。", "\uff01", "\uff1f", "\n"])
def test_every_kind_of_sentence_end_cuts(end: str) -> None:
    first, second = "a" * 200 + end, "b" * 200
    segments = whole(f"{first} {second}")
    assert segments == [first.strip(), second]


@pytest.mark.parametrize("text", ["version 3.14 is out", "see www.example.com/a.b today", "it costs 1.5!x"])
def test_a_mark_inside_a_word_does_not_end_a_sentence(text: str) -> None:
    assert Segmenter().feed(text, more=True) == []


def test_full_width_marks_need_no_space_after_them() -> None:
    assert Segmenter().feed("今日は。明日", more=True) == ["今日は。"]


def test_while_a_text_streams_whole_sentences_leave_at_once() -> None:
    segmenter = Segmenter()
    assert segmenter.feed("How ", more=True) == []
    assert segmenter.feed("are you?", more=True) == []  # a quote or a second mark may follow
    assert segmenter.feed(" I am", more=True) == ["How are you?"]
    assert segmenter.feed(" fine", more=False) == ["I am fine"]
    assert segmenter.feed("", more=False) == []


def test_a_sentence_without_an_end_is_cut_at_a_clause() -> None:
    clause = "and then we walked along the shore, "
    segments = whole(clause * 30)
    assert len(segments) > 1
    assert all(len(segment) <= LONGEST_SEGMENT for segment in segments)
    assert all(segment.endswith("shore,") for segment in segments)


def test_a_sentence_without_clauses_is_cut_at_a_space() -> None:
    segments = whole("word " * 300)
    assert all(len(segment) <= LONGEST_SEGMENT for segment in segments)
    assert all(set(segment.split()) == {"word"} for segment in segments)


def test_a_text_without_spaces_is_cut_somewhere() -> None:
    assert [len(s) for s in whole("x" * 1000)] == [400, 400, 200]


def test_a_streamed_sentence_that_does_not_end_is_not_kept_for_ever() -> None:
    segmenter = Segmenter()
    segments = [s for _ in range(1000) for s in segmenter.feed("ab ", more=True)]
    assert len(segments) >= 6


def random_text(seed: int) -> str:
    r = random.Random(seed)
    alphabet = [
        "a",
        "bc",
        "def",
        " ",
        " ",
        "  ",
        ".",
        ". ",
        "!",
        "? ",
        "...",
        "\n",
        ", ",
        "; ",
        '"',
        "”",
        "。",
        "é",
        "😀",
        "א",
    ]
    return "".join(r.choice(alphabet) for _ in range(r.randrange(1500)))


@pytest.mark.parametrize("seed", range(40))
def test_no_visible_character_is_lost_and_no_segment_is_too_long(seed: int) -> None:
    text = random_text(seed)
    r = random.Random(1000 + seed)
    pieces, at = [], 0
    while at < len(text):
        length = r.choice((1, 2, 7, 60))
        pieces.append(text[at : at + length])
        at += length
    for segments in (whole(text), streamed(pieces), streamed(list(text))):
        assert visible("".join(segments)) == visible(text)
        assert all(segment and segment == segment.strip() for segment in segments)
        assert all(len(segment) <= max(SEGMENT_CHARACTERS, LONGEST_SEGMENT) for segment in segments)


@pytest.mark.parametrize("text", ["!" * 100_000, "." * 50_000 + '"' * 50_000, '!"' * 50_000], ids=["!", '."', '!"'])
def test_a_run_of_marks_costs_no_more_than_its_length(text: str) -> None:
    # A regular expression that backtracks over these holds the interpreter for minutes, and the face with it.
    segments = whole(text)
    assert visible("".join(segments)) == text
