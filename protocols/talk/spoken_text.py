"""Written English as it is read aloud: numbers, abbreviations and signs as words, the rest silent."""

import re
import unicodedata
from dataclasses import dataclass
from enum import IntEnum

SPELLED_DIGITS = 10
"""A number with more digits than this, or with a leading zero, is read digit by digit."""


class Break(IntEnum):
    """What follows a word: nothing, a comma's pause, a sentence's, a paragraph's."""

    NONE = 0
    COMMA = 1
    SENTENCE = 2
    PARAGRAPH = 3


@dataclass(frozen=True)
class Token:
    """Characters `begin` to `end` of a text, the words in which they are said (letters a to z, '), the break after."""

    begin: int
    end: int
    words: tuple[str, ...]
    pause: Break


# --- numbers ------------------------------------------------------------------------------------------------------

_UP_TO_19 = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_ONES = _UP_TO_19.split()
_TENS = [".", ".", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SCALES = (("billion", 10**9), ("million", 10**6), ("thousand", 10**3), ("hundred", 100))
_IRREGULAR_ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth",
    "twelve": "twelfth",
}  # fmt: skip


def number_words(number: int) -> list[str]:
    """An integer from 0 to 10**12 - 1 in words."""
    if number < 20:
        return [_ONES[number]]
    if number < 100:
        return [_TENS[number // 10], *([_ONES[number % 10]] if number % 10 else [])]
    name, scale = next(entry for entry in _SCALES if number >= entry[1])
    rest = number_words(number % scale) if number % scale else []
    return [*number_words(number // scale), name, *rest]


def ordinal_words(number: int) -> list[str]:
    """An integer as an ordinal: 22 is twenty second."""
    *first, last = number_words(number)
    if last in _IRREGULAR_ORDINALS:
        return [*first, _IRREGULAR_ORDINALS[last]]
    return [*first, last[:-1] + "ieth" if last.endswith("y") else last + "th"]


def _year_words(year: int) -> list[str]:
    hundreds, rest = divmod(year, 100)
    if rest == 0:
        return [*number_words(hundreds), "hundred"]
    return [*number_words(hundreds), *(["oh"] if rest < 10 else []), *number_words(rest)]


def _digits(text: str) -> list[str]:
    return [_ONES[int(digit)] for digit in text if digit.isdigit()]


def _integer(text: str) -> list[str]:
    digits = text.replace(",", "")
    if len(digits) > SPELLED_DIGITS or (len(digits) > 1 and digits[0] == "0"):
        return _digits(digits)
    if len(text) == 4 and (1100 <= int(digits) < 2000 or 2010 <= int(digits) < 2100):
        return _year_words(int(digits))
    return number_words(int(digits))


def _decimal(text: str) -> list[str]:
    whole, _, fraction = text.partition(".")
    words = _integer(whole) if whole.strip(",") else []
    return [*words, "point", *_digits(fraction)] if fraction else words


_MONEY = {"$": ("dollar", "cent"), "€": ("euro", "cent"), "£": ("pound", "penny"), "¥": ("yen", "sen"),
          "₹": ("rupee", "paisa")}  # fmt: skip
_UNITS = {
    "km": "kilometers", "m": "meters", "cm": "centimeters", "mm": "millimeters", "kg": "kilos", "g": "grams",
    "mg": "milligrams", "ms": "milliseconds", "s": "seconds", "h": "hours", "min": "minutes", "hz": "hertz",
    "khz": "kilohertz", "ghz": "gigahertz", "mb": "megabytes", "gb": "gigabytes", "tb": "terabytes", "kb": "kilobytes",
    "fps": "frames per second", "mph": "miles per hour", "k": "thousand", "am": "ay em", "pm": "pee em", "x": "times",
    "c": "cee", "f": "eff", "ft": "feet", "lb": "pounds", "lbs": "pounds", "v": "volts", "w": "watts", "d": "dee",
}  # fmt: skip


def _number(found: re.Match[str]) -> list[str]:
    sign, money, number = found["sign"], found["money"], found["number"]
    words = _decimal(number)
    if found["minutes"] is not None:
        minutes = found["minutes"]
        words += [] if minutes == "00" else (["oh"] if minutes[0] == "0" else []) + number_words(int(minutes))
    elif found["ordinal"]:
        words = ordinal_words(int(number.replace(",", "")))
    elif money:
        words = _money_words(money, number)
    if found["decade"]:
        words[-1] = words[-1][:-1] + "ies" if words[-1].endswith("y") else words[-1] + "s"
    unit = found["unit"] or ""
    words += (
        ["percent"] if "%" in unit else ["degrees"] if "°" in unit else _UNITS.get(unit.strip().lower(), "").split()
    )
    return (["minus"] if sign else []) + words


def _money_words(money: str, number: str) -> list[str]:
    name, part = _MONEY[money]
    whole, _, cents = number.partition(".")
    words = _integer(whole)
    words.append(name if whole == "1" else name + "s")
    if len(cents) == 2 and int(cents):
        words += [*number_words(int(cents)), part if int(cents) == 1 else "cents" if part == "cent" else "pence"]
    return words


# --- words --------------------------------------------------------------------------------------------------------

_ABBREVIATIONS = {
    "mr.": "mister", "mrs.": "missus", "ms.": "miz", "dr.": "doctor", "prof.": "professor", "st.": "saint",
    "jr.": "junior", "sr.": "senior", "vs.": "versus", "vs": "versus", "etc.": "et cetera", "etc": "et cetera",
    "e.g.": "for example", "i.e.": "that is", "approx.": "approximately", "no.": "number", "a.m.": "ay em",
    "p.m.": "pee em", "u.s.": "you ess", "u.k.": "you kay", "w/": "with", "mr": "mister", "mrs": "missus",
    "phd": "pee aitch dee",
}  # fmt: skip
_MAY_END = frozenset({"etc.", "a.m.", "p.m.", "u.s.", "u.k."})
"""A text may end with these."""

_SIGNS = {"&": "and", "+": "plus", "=": "equals", "%": "percent", "@": "at", "°": "degrees"}
_NAMES = "ay bee cee dee ee eff jee aitch i jay kay ell em en oh pee cue are ess tee you vee doubleyou eks why zee"
_LETTERS = dict(zip("abcdefghijklmnopqrstuvwxyz", _NAMES.split(), strict=True))
_LETTERS_TOO = {"ß": "ss", "æ": "ae", "Æ": "ae", "ø": "o", "Ø": "o", "ł": "l", "Ł": "l", "đ": "d", "Đ": "d", "þ": "th",
                "Þ": "th", "ð": "th", "Ð": "th", "œ": "oe", "Œ": "oe", "ı": "i"}  # noqa: RUF001  # fmt: skip
_APOSTROPHES = str.maketrans("’‘ʼ`", "''''")  # noqa: RUF001 - typographic ones are meant

_TOKEN = re.compile(
    r"""
    (?P<tag></?[A-Za-z][^<>\n]{0,80}>|:[a-z0-9_+-]{2,30}:)
    |(?P<url>(?:https?://|www\.)\S+|(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,4}
      |(?<![\w.-])[A-Za-z][\w-]{0,62}(?:\.[A-Za-z][\w-]{0,62}){0,3}\.(?:com|org|net|io|dev|ai|gg|tv|edu|gov)\b)
    |(?P<abbreviation>(?:[Mm]r|[Mm]rs|[Mm]s|[Dd]r|[Pp]rof|[Ss]t|[Jj]r|[Ss]r|[Vv]s|[Ee]tc|[Aa]pprox|No(?=\.\s*\d))\.|\b(?:e\.g|i\.e|[ap]\.m|U\.S|U\.K)\.|\bw/)
    |(?P<numeral>(?:(?<![\w.])(?P<sign>[-−]))?(?P<money>[$€£¥₹])?(?P<number>(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)
      (?:(?::(?P<minutes>[0-5]\d)(?!\d))|(?P<ordinal>st|nd|rd|th)\b|(?P<decade>'?s)\b)?
      (?P<unit>\s?[%°]|\s?(?:km|cm|mm|kg|mg|ms|min|[kKMG]?[Hh]z|[kKMGT]B|fps|mph|[ap]m|AM|PM|ft|lbs?)\b|[kmghsxKCFVWD]\b)?)
    |(?P<word>[^\W\d_](?:[^\W\d_]|['’ʼ](?=[^\W\d_])|[\u00ad\u0300-\u036f])*)
    |(?P<sign2>[&+=%@°](?=\s|\w|$))
    |(?P<pause>(?:\n\s*\n)|[.!?…。！？]+|[,;:)(\]\[—–、，；：]|\s-+\s|\n)
    """,  # noqa: RUF001 - full-width marks are meant
    re.VERBOSE,
)


def spoken_tokens(text: str) -> list[Token]:
    """The tokens of a text that are spoken, in their order, and the breaks between them."""
    tokens: list[Token] = []
    shouted = text.isupper() and len(text.split()) > 1
    for found in _TOKEN.finditer(text):
        if found["pause"] is not None:
            _set_pause(tokens, _break(found[0]))
            continue
        words = _words(found, shouted)
        if words:
            tokens.append(Token(found.start(), found.end(), tuple(words), Break.NONE))
        if found["abbreviation"] and found[0].lower() in _MAY_END and not text[found.end() :].strip():
            _set_pause(tokens, Break.SENTENCE)
    return tokens


def _set_pause(tokens: list[Token], pause: Break) -> None:
    if tokens and tokens[-1].pause < pause:
        last = tokens[-1]
        tokens[-1] = Token(last.begin, last.end, last.words, pause)


def _break(mark: str) -> Break:
    if mark.count("\n") > 1:
        return Break.PARAGRAPH
    return Break.SENTENCE if mark.strip(" ")[0] in ".!?…。！？\n" else Break.COMMA  # noqa: RUF001 - meant


def _words(found: re.Match[str], shouted: bool) -> list[str]:
    if found["numeral"] is not None:
        return _number(found)
    if found["url"] is not None:
        return _address(found[0])
    if found["abbreviation"] is not None:
        return _ABBREVIATIONS[found[0].lower()].split()
    if found["sign2"] is not None:
        return [_SIGNS[found[0]]]
    if found["word"] is not None:
        return _word(found[0], shouted)
    return []


def _address(url: str) -> list[str]:
    """An address as it is read out: its host, or user at host; the path is not read."""
    host = re.sub(r"^(?:https?://)?(?:www\.)?", "", url.lower()).split("/")[0].rstrip(".,;:!?)'\"")
    words: list[str] = []
    for part in re.findall(r"[a-z]+|\d+|[.@]", _latin(host)):
        words += ["dot"] if part == "." else ["at"] if part == "@" else _integer(part) if part.isdigit() else [part]
    return words


def _latin(word: str) -> str:
    """Latin letters with diacritics as their base letters; other characters stay."""
    word = "".join(_LETTERS_TOO.get(letter, letter) for letter in word)
    return "".join(c for c in unicodedata.normalize("NFKD", word) if not unicodedata.combining(c))


def _word(written: str, shouted: bool) -> list[str]:
    word = _latin(written.replace("\u00ad", "").translate(_APOSTROPHES))
    folded = word.lower()
    if folded in _ABBREVIATIONS:
        return _ABBREVIATIONS[folded].split()
    if not re.fullmatch(r"[a-z']+", folded):
        return _other_script(written)
    if (len(folded) == 1 and folded not in "ai") or folded in _SPELLED_TOO or _is_spelled(word, shouted):
        return _spell(folded)
    return [_LENGTHENED.sub(lambda run: run[1] * 2 if run[1] in "eo" and run.end() < len(folded) else run[1], folded)]


_LENGTHENED = re.compile(r"([a-z])\1{2,}")
"""Soooo, yesss: such a run is read as one letter, inside a word ee and oo as two."""


def _is_spelled(word: str, shouted: bool) -> bool:
    """Whether letters are read one by one: HTTP and USA, not NASA, nor a text all in capitals."""
    letters = word.removesuffix("'s").removesuffix("s") if word[-1:] == "s" else word
    if not letters.isupper() or not 2 <= len(letters) <= 5:
        return False
    no_vowel = not re.search("[AEIOUY]", letters)
    return no_vowel or (not shouted and letters in _INITIALS)


_ACRONYMS = "USA UK EU UN AI API CIA FBI UFO FAQ DIY ETA VIP AKA URL UI UX IQ EQ IP IT OS USB CEO OMG IMO AFK GPU CPU"
_INITIALS = frozenset(_ACRONYMS.split())
_CHAT = "tv pc btw idk omg wtf brb gg dm dj vr tbh imo irl afk smh gpu cpu"
_SPELLED_TOO = frozenset(_CHAT.split())
"""Read letter by letter in small letters too."""


def _spell(folded: str) -> list[str]:
    plural = len(folded) > 2 and folded.endswith("s") and folded not in _SPELLED_TOO and folded != "os"
    names = [_LETTERS[letter] for letter in folded.removesuffix("s" if plural else "").rstrip("'") if letter != "'"]
    return [*names[:-1], names[-1] + "'s"] if plural else names


def _other_script(word: str) -> list[str]:
    """An estimate for letters that are not Latin: a syllable for each where they write syllables, else for two."""
    halves = 0
    for letter in word:
        if letter.isalpha():
            name = unicodedata.name(letter, "")
            halves += 2 if name.startswith(("CJK", "HIRAGANA", "KATAKANA", "HANGUL SYLLABLE")) else 1
    return ["duh"] * ((halves + 1) // 2)
