"""Words against the phonemes a dictionary gives them, and what a text has beside words."""

import re
import time

import pytest

from kff_live.protocols.errors import DecodeError
from kff_live.protocols.talk.irregular_words import irregular_words
from kff_live.protocols.talk.phonemes import is_phoneme, pronounce, read_lexicon, speak
from kff_live.protocols.talk.spoken_text import Break, number_words, ordinal_words, spoken_tokens


def phonemes(text: str) -> str:
    """Without stress, words apart."""
    return " | ".join(re.sub(r"\d", "", " ".join(word.phonemes)) for word in speak(text))


def said(text: str) -> str:
    return " ".join(word for token in spoken_tokens(text) for word in token.words)


# By hand, as American dictionaries have them; the irregular ones are in the word list, the rest follows from rules.
DICTIONARY = """
cat K AE T; dog D AO G; ship SH IH P; chin CH IH N; thin TH IH N; this DH IH S; sing S IH NG; phone F OW N
knee N IY; write R AY T; night N AY T; name N EY M; home HH OW M; time T AY M; cute K Y UW T; rude R UW D
city S IH T IY; cell S EH L; cake K EY K; gem JH EH M; game G EY M; edge EH JH; badge B AE JH; giant JH AY AH N T
rain R EY N; day D EY; see S IY; tea T IY; boat B OW T; toe T OW; blue B L UW; new N UW; few F Y UW; saw S AO
coin K OY N; boy B OY; out AW T; cow K AW; snow S N OW; book B UH K; moon M UW N; car K AA R; her HH ER; bird B ER D
turn T ER N; corn K AO R N; hair HH EH R; deer D IH R; fire F AY ER; more M AO R; nation N EY SH AH N
vision V IH ZH AH N; mission M IH SH AH N; action AE K SH AH N; stopped S T AA P T; wanted W AA N T IH D
played P L EY D; making M EY K IH NG; running R AH N IH NG; hoped HH OW P T; cats K AE T S; dogs D AO G Z
boxes B AA K S IH Z; babies B EY B IY Z; happy HH AE P IY; little L IH T AH L; apple AE P AH L; table T EY B AH L
lamb L AE M; thumb TH AH M; quick K W IH K; box B AA K S; yes Y EH S; jump JH AH M P; zoo Z UW; match M AE CH
back B AE K; off AO F; picture P IH K CH ER; talk T AO K; walk W AO K; ball B AO L; hold HH OW L D; child CH AY L D
the DH AH; of AH V; one W AH N; two T UW; said S EH D; enough IH N AH F; through TH R UW; people P IY P AH L
women W IH M AH N; friend F R EH N D; beautiful B Y UW T AH F AH L; because B IH K AH Z; what W AH T; who HH UW
mother M AH DH ER; laugh L AE F; heart HH AA R T; great G R EY T; school S K UW L; island AY L AH N D
answer AE N S ER; daughter D AO T ER; ocean OW SH AH N; sugar SH UH G ER; question K W EH S CH AH N
probably P R AA B AH B L IY; remember R IH M EH M B ER; maybe M EY B IY; bubble B AH B AH L; member M EH M B ER
"""
PAIRS = [entry.strip().partition(" ")[::2] for line in DICTIONARY.splitlines() for entry in line.split(";") if entry]


def test_there_are_enough_words_to_compare() -> None:
    assert len(PAIRS) >= 110


@pytest.mark.parametrize(("word", "expected"), PAIRS, ids=[word for word, _ in PAIRS])
def test_words_sound_as_in_the_dictionary(word: str, expected: str) -> None:
    assert phonemes(word) == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("tomorrow", "T AH0 M AA1 R OW0"), ("water", "W AO1 T ER0"), ("nation", "N EY1 SH AH0 N"),
        ("window", "W IH1 N D OW0"), ("believe", "B IH0 L IY1 V"), ("career", "K ER0 IH1 R"), ("away", "AH0 W EY1"),
    ],
)  # fmt: skip
def test_stress_lies_where_it_is_heard(word: str, expected: str) -> None:
    assert " ".join(pronounce(word)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("don't", "D OW N T"), ("can’t", "K AE N T"), ("I'm", "AY M"), ("you'll", "Y UW L"), ("it's", "IH T S"),  # noqa: RUF001
        ("isn't", "IH Z AH N T"), ("didn't", "D IH D AH N T"), ("the dog's", "DH AH | D AO G Z"),
        ("Jess's", "JH EH S IH Z"), ("dogs' tails", "D AO G Z | T EY L Z"), ("o'clock", "AH K L AA K"),
    ],
)  # fmt: skip
def test_contractions(text: str, expected: str) -> None:
    assert phonemes(text) == expected


@pytest.mark.parametrize("word", ["cat", "CAT", "Cat", "caaaaat", "càt", "cáţ", "c\u00adat", "ca\u0301t"])
def test_spelling_of_a_word_may_vary(word: str) -> None:
    assert phonemes(word) == "K AE T"


def test_lengthened_letters_are_said_once() -> None:
    assert said("soooo yesss noooo") == "so yes no"
    assert said("sooooon freeeeze") == "soon freeze"
    assert said("good egg") == "good egg"


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, "zero"), (7, "seven"), (13, "thirteen"), (20, "twenty"), (42, "forty two"), (100, "one hundred"),
        (999, "nine hundred ninety nine"), (1000, "one thousand"), (12_345, "twelve thousand three hundred forty five"),
        (10**6, "one million"), (2 * 10**9 + 1, "two billion one"),
    ],
)  # fmt: skip
def test_numbers_in_words(number: int, expected: str) -> None:
    assert " ".join(number_words(number)) == expected


@pytest.mark.parametrize(
    ("number", "expected"),
    [(1, "first"), (2, "second"), (12, "twelfth"), (20, "twentieth"), (23, "twenty third"), (100, "one hundredth")],
)
def test_ordinals_in_words(number: int, expected: str) -> None:
    assert " ".join(ordinal_words(number)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7", "seven"), ("1,234", "one thousand two hundred thirty four"), ("3.14", "three point one four"),
        ("-5", "minus five"), ("1984", "nineteen eighty four"), ("1905", "nineteen oh five"), ("2000", "two thousand"),
        ("2024", "twenty twenty four"), ("1990s", "nineteen nineties"), ("3rd", "third"), ("50%", "fifty percent"),
        ("20°", "twenty degrees"), ("$5", "five dollars"), ("$1", "one dollar"),
        ("$5.99", "five dollars ninety nine cents"), ("10:30", "ten thirty"), ("9:05", "nine oh five"),
        ("12:00", "twelve"), ("5km", "five kilometers"), ("60 fps", "sixty frames per second"),
        ("007", "zero zero seven"),
        ("5, 6", "five six"), ("3-4", "three four"), ("v2.0", "vee two point zero"),
        ("1+1=2", "one plus one equals two"),
        ("٣", "three"), ("12345678901", "one two three four five six seven eight nine zero one"), (".5", "point five"),
    ],
)  # fmt: skip
def test_numerals_are_read_out(text: str, expected: str) -> None:
    assert said(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mr. Smith", "mister smith"), ("Dr. Who vs. Prof. X", "doctor who versus professor eks"),
        ("etc.", "et cetera"), ("e.g. this", "for example this"), ("R&B", "are and bee"), ("USA", "you ess ay"),
        ("HTTP and NASA", "aitch tee tee pee and nasa"), ("TV", "tee vee"), ("PCs", "pee cee's"),
        ("https://www.example.com/a?b=c", "example dot com"), ("see kff.dev now", "see kff dot dev now"),
        ("me@example.org", "me at example dot org"), ("HELLO YOU", "hello you"), ("plan B", "plan bee"),
        ("**bold** _it_ `code`", "bold it code"), ("<b>fat</b>", "fat"), ("wave :waving_hand: bye", "wave bye"),
        ("well-known", "well known"), ("#tag", "tag"), ("Müller & Søn", "muller and son"), ("Straße", "strasse"),
    ],
)  # fmt: skip
def test_abbreviations_addresses_and_markup(text: str, expected: str) -> None:
    assert said(text) == expected


@pytest.mark.parametrize("text", ["", " ", "\n", "😀", "👩‍👩‍👧 ❤️", "!?", "...", "***", "—", "\0", "~^_|", "½½"])
def test_what_is_not_spoken_is_silent(text: str) -> None:
    assert phonemes(text).replace("|", "").strip() in ("", "AH")


def test_emoji_beside_words_change_nothing() -> None:
    assert phonemes("hi 😀 there") == phonemes("hi there")


@pytest.mark.parametrize(("text", "syllables"), [("你好", 2), ("こんにちは", 5), ("안녕", 2), ("привет", 3)])
def test_other_scripts_open_and_close_the_mouth_for_as_long(text: str, syllables: int) -> None:
    assert phonemes(text).split().count("AH") == syllables


@pytest.mark.parametrize(
    ("text", "pauses"),
    [
        ("a, b", [Break.COMMA, Break.NONE]), ("a. b!", [Break.SENTENCE, Break.SENTENCE]),
        ("a... b", [Break.SENTENCE, Break.NONE]), ("a — b", [Break.COMMA, Break.NONE]),
        ("a\n\nb", [Break.PARAGRAPH, Break.NONE]), ("a (b) c", [Break.COMMA, Break.COMMA, Break.NONE]),
        ("a! ?, b", [Break.SENTENCE, Break.NONE]), ("Mr. b", [Break.NONE, Break.NONE]), ("3.5 b", [Break.NONE] * 2),
        ("1,000 b", [Break.NONE] * 2), ("a - b", [Break.COMMA, Break.NONE]), ("a-b", [Break.NONE] * 2),
        ("at 5 p.m.", [Break.NONE, Break.NONE, Break.SENTENCE]),
    ],
)  # fmt: skip
def test_pauses_follow_the_punctuation(text: str, pauses: list[Break]) -> None:
    assert [word.pause for word in speak(text)] == pauses


def test_words_know_their_place_in_the_text() -> None:
    text = "Well, it's $5.99 (e.g.) today 😀!"
    assert [word.text for word in speak(text)] == ["Well", "it's", "$5.99", "e.g.", "today"]
    assert all(text[word.begin : word.end] == word.text for word in speak(text))


def test_a_lexicon_goes_first() -> None:
    lexicon = read_lexicon(
        ["# names", ";;; old comment", "", "Siobhan SH AH0 V AO1 N", "siobhan(2) S IH1 B", "the DH IY0"]
    )
    assert lexicon == {"siobhan": ("SH", "AH0", "V", "AO1", "N"), "the": ("DH", "IY0")}
    assert [word.phonemes for word in speak("The Siobhan", lexicon)] == [lexicon["the"], lexicon["siobhan"]]


@pytest.mark.parametrize("line", ["bad XX1", "bad AA", "bad aa1", "bad B1"])
def test_a_lexicon_holds_phonemes_only(line: str) -> None:
    with pytest.raises(DecodeError, match=r"^line 2: .* is not a phoneme"):
        read_lexicon(["fine F AY1 N", line])


def test_every_word_of_the_list_is_made_of_phonemes() -> None:
    assert len(irregular_words()) > 700
    for word, sounds in irregular_words().items():
        assert sounds, word
        assert all(map(is_phoneme, sounds)), word


@pytest.mark.parametrize(
    "word", ["", "'", "''", "x", "qqq", "zzz", "hmmm", "rhythms", "aeiou", "'tis", "a" * 1000, "s" * 50]
)
def test_any_word_gives_phonemes(word: str) -> None:
    assert all(map(is_phoneme, pronounce(word)))


def test_a_text_of_2000_characters_is_quick() -> None:
    text = " ".join(f"antidisestablish{i}mentarian" for i in range(100))[:2000]
    began = time.perf_counter()
    speak(text)
    speak("!" * 2000)
    speak("1" * 2000)
    speak("a" * 2000)
    speak("<a" * 1000)
    assert time.perf_counter() - began < 1.0
