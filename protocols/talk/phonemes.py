"""English text as the phonemes it is spoken with: ARPAbet, vowels with stress 1, 2 or 0."""

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kff_live.protocols.errors import DecodeError
from kff_live.protocols.talk.irregular_words import irregular_words
from kff_live.protocols.talk.letter_sounds import VOWELS, sound_out
from kff_live.protocols.talk.spoken_text import Break, spoken_tokens

_CONSONANTS = "B CH D DH F G HH JH K L M N NG P R S SH T TH V W Y Z ZH"
CONSONANTS = frozenset(_CONSONANTS.split())

Lexicon = Mapping[str, tuple[str, ...]]
"""Phonemes by word in lower case; goes before what is known here. For names, or a whole dictionary."""

MAX_WORD = 40
"""Letters of a word that are sounded; the longest word of English dictionaries has 45, and what is longer is none."""

_SILENT: tuple[str, ...] = ()


@dataclass(frozen=True)
class SpokenWord:
    """A word of a text.

    Args:
        text: as written.
        begin, end: its place in the text, in characters.
        phonemes: ARPAbet with stress; empty if it is not spoken, as an emoji is not.
        pause: the break that follows it.
    """

    text: str
    begin: int
    end: int
    phonemes: tuple[str, ...]
    pause: Break


def speak(text: str, lexicon: Lexicon | None = None) -> list[SpokenWord]:
    """The words of a text with their phonemes."""
    return [
        SpokenWord(
            text[token.begin : token.end],
            token.begin,
            token.end,
            tuple(phoneme for word in token.words for phoneme in pronounce(word, lexicon)),
            token.pause,
        )
        for token in spoken_tokens(text)
    ]


def pronounce(word: str, lexicon: Lexicon | None = None) -> tuple[str, ...]:
    """Phonemes of one word of the letters a to z and apostrophes, in lower case; "" has none."""
    if lexicon is not None and (known := lexicon.get(word)) is not None:
        return known
    return _pronounce(word[:MAX_WORD])


def read_lexicon(lines: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """A lexicon from lines `word PH ON EME1 S`, the format of the CMU Pronouncing Dictionary; of variants the first.

    Raises:
        DecodeError: a phoneme that is not ARPAbet; the message names the line.
    """
    lexicon: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(lines, 1):
        word, *phonemes = line.split("#", 1)[0].split() or [""]
        if not word or word.startswith(";;;"):
            continue
        for phoneme in phonemes:
            if not is_phoneme(phoneme):
                raise DecodeError(f"line {number}: {phoneme!r} is not a phoneme of ARPAbet")
        lexicon.setdefault(re.sub(r"\(\d+\)$", "", word).lower(), tuple(phonemes))
    return lexicon


def is_phoneme(name: str) -> bool:
    """Whether it is an ARPAbet consonant, or a vowel with its stress."""
    return name in CONSONANTS or (name[:-1] in VOWELS and name[-1:] in "012")


def is_vowel(phoneme: str) -> bool:
    """Whether a phoneme is a vowel: with its stress digit."""
    return phoneme[-1:].isdigit()


@functools.lru_cache(4096)
def _pronounce(word: str) -> tuple[str, ...]:
    known = irregular_words().get(word)
    if known is not None:
        return known
    if "'" in word:
        return _contracted(word)
    inflected = _inflected(word)
    return inflected if inflected is not None else _stressed(word, sound_out(word))


# --- endings ------------------------------------------------------------------------------------------------------

_CONTRACTIONS = {
    "n't": ("N", "T"), "'ll": ("L",), "'re": ("R",), "'ve": ("V",), "'d": ("D",), "'m": ("M",), "'em": ("AH0", "M"),
}  # fmt: skip
_VOICELESS = frozenset({"P", "T", "K", "F", "TH"})
_HISSING = frozenset({"S", "Z", "SH", "ZH", "CH", "JH"})


def _contracted(word: str) -> tuple[str, ...]:
    for ending, phonemes in _CONTRACTIONS.items():
        if word.endswith(ending) and len(word) > len(ending):
            base = _pronounce(word[: -len(ending)])
            after_stop = ending == "n't" and base and not is_vowel(base[-1]) and base[-1] != "R"
            return base + (("AH0", *phonemes) if after_stop else phonemes)
    base_word, _, ending = word.rpartition("'")
    if ending in ("s", "") and base_word:
        base = _pronounce(base_word.replace("'", ""))
        return _plural(base) if ending else base
    return _pronounce(word.replace("'", ""))


def _plural(base: tuple[str, ...]) -> tuple[str, ...]:
    last = base[-1] if base else ""
    return base + (("IH0", "Z") if last in _HISSING else ("S",) if last in _VOICELESS else ("Z",))


def _past(base: tuple[str, ...]) -> tuple[str, ...]:
    last = base[-1] if base else ""
    unvoiced = last in _VOICELESS or last in ("S", "SH", "CH")
    return base + (("IH0", "D") if last in ("T", "D") else ("T",) if unvoiced else ("D",))


_ENDINGS = {
    "ing": ("IH0", "NG"), "ings": ("IH0", "NG", "Z"), "er": ("ER0",), "ers": ("ER0", "Z"), "est": ("AH0", "S", "T"),
    "ly": ("L", "IY0"), "ness": ("N", "AH0", "S"), "less": ("L", "AH0", "S"), "ful": ("F", "AH0", "L"),
    "fully": ("F", "AH0", "L", "IY0"), "ment": ("M", "AH0", "N", "T"), "ments": ("M", "AH0", "N", "T", "S"),
    "able": ("AH0", "B", "AH0", "L"), "ward": ("W", "ER0", "D"), "ship": ("SH", "IH0", "P"), "hood": ("HH", "UH0", "D"),
    "some": ("S", "AH0", "M"), "thing": ("TH", "IH0", "NG"), "body": ("B", "AA0", "D", "IY0"), "man": ("M", "AH0", "N"),
    "men": ("M", "EH0", "N"), "self": ("S", "EH1", "L", "F"), "selves": ("S", "EH1", "L", "V", "Z"),
}  # fmt: skip
_FULL_ENDINGS = {"ly", "ness", "less", "ful", "fully", "ment", "ments", "ward", "ship", "hood", "some", "thing", "body",
                 "man", "men", "self", "selves"}  # fmt: skip
"""These begin with a consonant: the word before them keeps its own e."""

_LOST_E = re.compile(
    r"[^aeiou]*[aiouy][bcdfgklmnpstvz]"
    r"|.*[^aeiou](?:[au]t|[aio]s|[iou]d|[aiou]k|[aiu]r|[aiu]m|i[ln]|[ay]p|ag)"
    r"|.*(?:(?:pl|gn|st|sc)or|[mv]ot|plet|elet|mpet|quot|qui[rt]|crib|(?:f|cc|b|xc)us|vad|llaps|grad)"
    r"|.*[aeiou]{2}[csz]|.*[aeiou][uvz]|.*[^aeiou][aeiou]c|.*[rnl][csv]|.*[bcdfgkptz]l|.*stl|.*[rd]g|.*u"
    r"|.*(?:ch|rr|st?r|^r)ang|.*eng|.*(?:cre|nci|soci|[ld]u|[nlt]i)at|(?:t|w|p|h)ast|(?:.*[vc]|un)it|b[ao]th"
)
"""What is left of a word that lost its final e to -ing, -ed or -er: mak-, breath-, creat-, realiz-, danc-, struggl-."""


def _inflected(word: str) -> tuple[str, ...] | None:
    """The word as a shorter one with a regular ending, or None."""
    if word.endswith("s") and not word.endswith(("ss", "us", "is", "ous")) and len(word) > 3:
        base = _plural_base(word)
        if base is not None:
            return _plural(base)
    if word.endswith("ed") and len(word) > 4 and not word.endswith("eed"):
        return _past(_base(word[:-2]))
    for ending, phonemes in _ENDINGS.items():
        stem = word.removesuffix(ending)
        if len(stem) < 3 or stem == word or not re.search("[aeiouy]", stem) or word.endswith(("eer", "eers")):
            continue
        if ending in _FULL_ENDINGS:
            base = _pronounce(stem[:-1] + "y" if stem.endswith("i") else stem)
        elif ending == "able" and stem not in irregular_words() and len(stem) < 4:
            continue
        else:
            base = _base(stem)
        return (base[:-1] if base[-1:] == phonemes[:1] else base) + phonemes
    return None


def _plural_base(word: str) -> tuple[str, ...] | None:
    if word.endswith("ies") and len(word) > 4:
        return _pronounce(word[:-3] + "y")
    if word.endswith(("sses", "shes", "ches", "xes", "zzes", "oes")):
        return _pronounce(word[:-2])
    return _pronounce(word[:-1]) if re.search("[aeiouy]", word[:-1]) else None


def _base(stem: str) -> tuple[str, ...]:
    """The phonemes of what stands before -ing, -ed or -er, with the e or the y it lost, without what was doubled."""
    for whole in (stem, stem + "e"):
        if whole in irregular_words():
            return irregular_words()[whole]
    if len(stem) > 3 and stem[-1] == stem[-2] and stem[-1] not in "lsfz":
        return _pronounce(stem[:-1])
    if stem.endswith("i"):
        return _pronounce(stem[:-1] + "y")
    return _pronounce(stem + "e" if _LOST_E.fullmatch(stem) else stem)


# --- stress -------------------------------------------------------------------------------------------------------

_STRESS_BEFORE = re.compile(
    r"(?:tion|sion|cian|tial|cial|ic|ics|ical|ically|ify|ity|ious|eous|ian|ial|ient|ience|ogy|aphy|eter|ular|uous)s?$"
)
_STRESS_LAST = re.compile(r"(?:ee|eer|ese|ette|ique|oon|esque|ain|aire)s?$")
_A_AS_PREFIX = (
    "a(?=b[oi]|ch[ie]|cr|cc[oru]|d[jom]|ff|fr|g[aor]|h|l[oai]|ll[oa]|m[aou]|n[no]|pp(?!le)[elra]|rr|ss|tt|w|v|s[lkhi]"
    "|r[io])"
)
_PREFIX = re.compile(
    f"(?:{_A_AS_PREFIX}|be|re|de|dis|ex|en|in(?!k|n)|im|con|com|pre|pro|per|un|mis|ob|sub|sur|for(?!m|t|c|k)"
    "|to(?=day|n))[^aeiou]*[aeiou]"
)
_ONE_SYLLABLE = frozenset({"tion", "sion", "cian", "tial", "cial"})
_REDUCED = {"AE": "AH", "AA": "AH", "OW": "AH"}


def _stressed(word: str, phonemes: list[str]) -> tuple[str, ...]:
    """Puts the stress where the word's ending, prefix or length suggests, and weakens what is left without."""
    vowels = [i for i, phoneme in enumerate(phonemes) if phoneme in VOWELS]
    if not vowels:
        return tuple(phonemes)
    stressed = vowels[_stressed_syllable(word, len(vowels))]
    result = list(phonemes)
    for i in vowels:
        if i == stressed:
            result[i] += "1"
        else:
            weak = i > stressed or i != vowels[0] or _PREFIX.match(word) is not None
            result[i] = (_REDUCED.get(phonemes[i], phonemes[i]) if weak else phonemes[i]) + "0"
    return tuple(result)


def _stressed_syllable(word: str, count: int) -> int:
    if count == 1:
        return 0
    if _STRESS_LAST.search(word):
        return count - 1
    if found := _STRESS_BEFORE.search(word):
        syllables = 1 if found[0].rstrip("s") in _ONE_SYLLABLE else len(re.findall("[aeiouy]+", found[0]))
        return max(count - 1 - syllables, 0)
    if count == 2:
        return 1 if _PREFIX.match(word) else 0
    return count - 3 if count > 3 else (1 if _PREFIX.match(word) else 0)
