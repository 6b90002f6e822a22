"""Plain wordings of single movements and feelings (phrases/*.toml), and seeded scripts composed of them.

The scripts of the corpus say what faces do in situations; phrases say which words name which muscles. Composed, they
show one thing, things in order, and things at once.
"""

import itertools
import random
import re
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from kff_live.finetune import anatomy
from kff_live.finetune.scripts import Script
from kff_live.finetune.variation import mirrored_keyframe, misspelt, other_side, scaled
from kff_live.protocols.channels import GROUPS
from kff_live.protocols.errors import DecodeError, UserError
from kff_live.protocols.keyframe_text import from_json, parse_line, to_json
from kff_live.protocols.keyframes import Keyframe


class Phrase(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One movement or feeling.

    `lines`: keyframe lines that show it equally well. The others are ways to say it, `{their}` for a possessive: `do`
    a verb phrase in its base form, with a `+` before each verb but the first ("nod and +smile"), `see` words without a
    verb, `clause` in the present tense, `be` after "is". What has a side is worded for the right one.
    """

    lines: tuple[str, ...]
    do: tuple[str, ...] = ()
    see: tuple[str, ...] = ()
    clause: tuple[str, ...] = ()
    be: tuple[str, ...] = ()
    feelings: tuple[str, ...] = ()


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    phrase: tuple[Phrase, ...]


def read_phrases(folder: Path) -> list[Phrase]:
    """The phrases of a folder's *.toml.

    Raises:
        UserError: a file cannot be read or a line is not one of keyframe text; the message names it.
    """
    found: list[Phrase] = []
    for path in sorted(folder.glob("*.toml")):
        try:
            phrases = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _File).phrase
            for phrase in phrases:
                for line in phrase.lines:
                    parse_line(line)
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError, DecodeError) as error:
            raise UserError(f"{path}: {error}") from None
        found += phrases
    if not found:
        raise UserError(f"{folder}: there are no phrases (*.toml with [[phrase]])")
    return found


def compose(phrases: list[Phrase], count: int, seed: int) -> list[Script]:
    """Up to `count` scripts with different texts, each within the rules of anatomy.py; the seed decides."""
    rng = random.Random(f"{seed} phrases")
    found: dict[str, Script] = {}
    for number in range(count * 4):
        if len(found) == count:
            break
        (make,) = rng.choices([make for make, _ in _WAYS], [weight for _, weight in _WAYS])
        script = make(phrases, rng)
        if script is None or next(anatomy.problems(script), None):
            continue
        text = _typed(script.text, rng)
        found.setdefault(text.lower(), msgspec.structs.replace(script, id=f"composed-{number:05d}", text=text))
    return list(found.values())


class _Person(msgspec.Struct, frozen=True):
    """Who does it: the subject of a sentence, the possessive, and whether the verb takes an s."""

    subject: str
    their: str
    third: bool = True
    be: str = "is"


class _Part(msgspec.Struct, frozen=True):
    """One phrase as chosen: its keyframe and the phrase, both on the side that is meant."""

    phrase: Phrase
    keyframe: Keyframe

    def has(self, kind: str) -> bool:
        return bool(getattr(self.phrase, kind))


def _choose(phrases: list[Phrase], rng: random.Random) -> _Part:
    phrase = rng.choice(phrases)
    keyframe = parse_line(rng.choice(phrase.lines))
    wordings = {kind: getattr(phrase, kind) for kind in ("do", "see", "clause", "be")}
    sided = any(re.search(r"\bright\b", words) for some in wordings.values() for words in some)
    if sided and rng.random() < 0.5:
        keyframe = mirrored_keyframe(keyframe)
        phrase = msgspec.structs.replace(
            phrase, **{kind: tuple(map(other_side, some)) for kind, some in wordings.items()}
        )
    return _Part(phrase, keyframe)


def _person(rng: random.Random) -> _Person:
    kind = rng.random()
    if kind < 0.15:
        return _Person("I", "my", third=False, be="am")
    if kind < 0.2:
        return _Person("they", "their", third=False, be="are")
    female = rng.random() < 0.5
    subject = "she" if female else "he"
    if kind > 0.5:
        subject = rng.choice(_WOMEN if female else _MEN)
    return _Person(subject, "her" if female else "his")


def _one(phrases: list[Phrase], rng: random.Random) -> Script | None:
    part = _choose(phrases, rng)
    who = _person(rng)
    kind = rng.choice([kind for kind in ("do", "see", "clause", "be") if part.has(kind)])
    words = rng.choice(getattr(part.phrase, kind))
    adverb, scale, speed = rng.choice(_MANNERS) if rng.random() < 0.25 else ("", 1.0, 1.0)
    if kind in ("see", "clause") or (kind == "be" and scale == 1.0):
        degree = kind == "be" and not adverb and rng.random() < 0.15
        adverb, scale, speed = (rng.choice(_DEGREES), 1.2, 1.0) if degree else ("", 1.0, 1.0)
    text = rng.choice(_ALONE[kind]).format_map(_fields(who, [words], f"{adverb} ".lstrip()))
    return _script("prose" if part.phrase.feelings else "action", text, [_in_manner(part.keyframe, scale, speed)])


def _in_order(phrases: list[Phrase], rng: random.Random) -> Script | None:
    parts = [_choose(phrases, rng) for _ in range(2 if rng.random() < 0.8 else 3)]
    for one, other in itertools.pairwise(parts):
        if np.any((np.abs(one.keyframe.pose) > 0.25) & (np.abs(other.keyframe.pose) > 0.25)):
            return None
    who = _person(rng)
    kinds = [kind for kind in ("do", "do", "see", "clause", "be") if all(part.has(kind) for part in parts)]
    if not kinds:
        return None
    kind = rng.choice(kinds)
    words = [rng.choice(getattr(part.phrase, kind)) for part in parts]
    text = rng.choice(_ORDERED[kind, len(parts)]).format_map(_fields(who, words))
    return _script("sequence", text, [part.keyframe for part in parts])


def _at_once(phrases: list[Phrase], rng: random.Random) -> Script | None:
    count = 2 if rng.random() < 0.6 else 3
    for _ in range(_TRIES):
        parts = [_choose(phrases, rng) for _ in range(count)]
        keyframe = _merged([part.keyframe for part in parts])
        if keyframe is not None and sum(bool(part.phrase.feelings) for part in parts) <= 1:
            break
    else:
        return None
    who = _person(rng)
    options: list[str] = []
    for kinds, forms in _TOGETHER:
        if len(kinds) in (1, len(parts)):
            kinds = kinds * len(parts) if len(kinds) == 1 else kinds
            if all(part.has(kind) for part, kind in zip(parts, kinds, strict=True)):
                words = [rng.choice(getattr(part.phrase, kind)) for part, kind in zip(parts, kinds, strict=True)]
                fields = _fields(who, words)
                options += [form.format_map(fields) for form in forms[len(parts)]]
    return _script("nuance", rng.choice(options), [keyframe]) if options else None


def _merged(keyframes: list[Keyframe]) -> Keyframe | None:
    """All of them at once.

    Returns: None where two move the same channel or lids, three the same region, or their labels are too long together.
    """
    poses = np.array([keyframe.pose for keyframe in keyframes])
    moved = np.abs(poses) > 0.01
    apart = GROUPS.values() if len(keyframes) > 2 else [GROUPS["lids"]]
    label = ", ".join(keyframe.label for keyframe in keyframes)
    if moved.sum(axis=0).max() > 1 or any(moved[:, group].any(axis=1).sum() > 1 for group in apart):
        return None
    if len(label) > anatomy.MAX_LABEL:
        return None
    way, hold = (max(getattr(keyframe, name) for keyframe in keyframes) for name in ("way", "hold"))
    return Keyframe(poses.sum(axis=0, dtype=np.float32), way, hold, keyframes[0].easing, label)


_TRIES = 60
"""How often parts are drawn anew; about two in three pairs may stand together, and one in thirty of three."""

_WAYS: tuple[tuple[Callable[[list[Phrase], random.Random], Script | None], float], ...] = (
    (_one, 0.25), (_in_order, 0.35), (_at_once, 0.4),
)  # fmt: skip
"""How scripts are composed, and how often each is tried."""

_MANNERS = (
    ("slightly", 0.6, 1.0), ("a little", 0.6, 1.0), ("faintly", 0.5, 1.2), ("slowly", 1.0, 2.5),
    ("gradually", 1.0, 3.0), ("quickly", 1.0, 0.6), ("suddenly", 1.0, 0.5), ("briefly", 1.0, 0.8),
)  # fmt: skip
"""Adverbs, what they make of the levels, and of the time on the way."""

_DEGREES = ("very", "really", "so", "extremely")

_ALONE = {
    "be": (
        "{who} {is} {adverb}{a}", "{who} {looks} {adverb}{a}", "{who} {feels} {adverb}{a}", "{who} {seems} {adverb}{a}",
        "{adverb}{a}", "{adverb}{a}", "be {adverb}{a}", "look {adverb}{a}", "{who}, {adverb}{a}", "act {adverb}{a}",
        "now {who} {is} {adverb}{a}", "emotion: {adverb}{a}", "so {adverb}{a} right now",
    ),
    "do": (
        "{adverb}{do_a}", "{adverb}{do_a}, please", "now {adverb}{do_a}", "can you {adverb}{do_a}?",
        "{who} {adverb}{does_a}", "{who} {adverb}{does_a}", "{who} {adverb}{does_a}", "{who} {is} {adverb}{doing_a}",
        "{adverb}{doing_a}", "*{adverb}{she_does_a}*", "({adverb}{he_does_a})", "{who} {begins} to {adverb}{a}",
        "make the face {adverb}{its_a}",
    ),
    "see": (
        "{a}", "{a}", "{a}", "{who}, {a}", "{who}: {a}", "give me {a}", "show {a}", "just {a}", "face with {a}",
        "we see {a}",
    ),
    "clause": ("{a}", "{a}", "and {a}", "{a} as {who} {listens}"),
}  # fmt: skip
"""Sentences of one phrase, by the kind of its wording; see _fields for the names."""

_ORDERED = {
    ("do", 2): (
        "{who} {does_a}, then {does_b}", "{who} {does_a} and then {does_b}", "{do_a}, then {do_b}",
        "first {do_a}, then {do_b}", "{who} {does_a} before {doing_b}", "after {doing_a}, {who} {does_b}",
        "{do_a}. Now {do_b}", "before {who} {does_b}, {they} {does_a}",
        "{who} {does_a}; a moment later {they} {does_b}", "{doing_a}, then {doing_b}",
        "{who} {does_a}. Then {they} {does_b}",
    ),
    ("do", 3): (
        "{who} {does_a}, {does_b}, then {does_c}", "first {do_a}, then {do_b}, finally {do_c}",
        "{do_a}, {do_b} and after that {do_c}", "{who} first {does_a}, next {does_b}, at last {does_c}",
    ),
    ("see", 2): (
        "{a}, then {b}", "from {a} to {b}", "{a} gives way to {b}", "first {a}, and then {b}",
        "{a} at first, {b} in the end", "{a} becomes {b}", "{who}: {a}, and after a beat {b}",
    ),
    ("see", 3): ("{a}, {b}, {c}", "first {a}, next {b}, finally {c}", "{a}; {b}; {c}"),
    ("clause", 2): ("{a}, then {b}", "{a}; {b}", "first {a}, then {b}"),
    ("clause", 3): ("{a}, then {b}, then {c}", "{a}; {b}; {c}", "first {a}, then {b} and then {c}"),
    ("be", 2): (
        "at first {a}, then {b}", "{who} {goes} from {a} to {b}", "{who} {is} {a} at first, but soon {b}",
        "{a}, then {b}", "first {a}, now {b}", "{a} one moment, {b} the next",
    ),
    ("be", 3): (
        "at first {a}, then {b}, then {c}", "{who} {goes} from {a} to {b} to {c}",
        "{who} {is} {a} at first, but soon {b} and then {c}", "{a}, then {b}, then {c}", "first {a}, now {b}, now {c}",
        "{a}, {b}, {c}",
    ),
}  # fmt: skip
"""Sentences of phrases one after the other, by kind and count."""

_TOGETHER: tuple[tuple[tuple[str, ...], dict[int, tuple[str, ...]]], ...] = (
    (("see",), {
        2: ("{a}, {b}", "{a} and {b}", "{who}, {a}, {b}", "{a} with {b}"),
        3: ("{a}, {b}, {c}", "{a}, {b} and {c}", "{who}, {a}, {b}, {c}", "{a} with {b}, {c}"),
    }),
    (("do",), {
        2: ("{who} {does_a} and {does_b}", "{do_a} and {do_b}", "{do_a} while {your_doing_b}",
            "{who} {does_a} while {doing_b}", "{doing_a}, {who} {does_b}"),
        3: ("{who} {does_a}, {does_b} and {does_c}", "{do_a}, {do_b} and {do_c}", "{do_a}, {do_b} while {your_doing_c}",
            "{who} {does_a}, {does_b} while {doing_c}", "{doing_a}, {who} {does_b} and {does_c}"),
    }),
    (("clause",), {2: ("{a} and {b}", "{a} while {b}"), 3: ("{a}, {b} and {c}", "{a}, {b} while {c}")}),
    (("do", "see"), {2: ("{who} {does_a}, {b}",)}),
    (("see", "clause"), {2: ("{a}; {b}",)}),
    (("be", "do"), {2: ("{who}, {a}, {does_b}",)}),
)  # fmt: skip
"""Sentences of phrases at once: the kinds of their wordings (one kind stands for all), and the forms by count."""

_WOMEN = (
    "Mara", "Ines", "the nurse", "the old woman", "the girl", "the queen", "my aunt", "Tess", "the pilot", "Yuki",
    "the witch", "Leila", "grandma", "the streamer", "Anna", "the teacher", "the actress", "the detective",
)  # fmt: skip
_MEN = (
    "Tom", "Omar", "the guard", "the old man", "the boy", "the king", "my brother", "Felix", "the baker", "Kenji",
    "the clown", "Paulo", "grandpa", "the captain", "Sam", "the waiter", "the goalkeeper", "the barber",
)  # fmt: skip
_HERSELF, _HIMSELF = _Person("she", "her"), _Person("he", "his")
_YOU = _Person("you", "your", third=False, be="are")


def _fields(who: _Person, words: list[str], adverb: str = "") -> dict[str, str]:
    """What the forms may name.

    {who}, {they} for who is taken up again, some verbs that go with them ({looks}), the {adverb}; and for each wording,
    {a}, {b}, {c}, also with its verb in another form ({does_a}) or for another person ({she_does_a}, {its_a}).
    """
    fields = {"who": who.subject, "they": _again(who), "is": who.be, "adverb": adverb}
    fields |= {f"{_verb(verb, _HERSELF)}": _verb(verb, who) for verb in _VERBS}
    for letter, some in zip("abc", words, strict=False):
        fields |= {
            letter: _plain(some, who.their),
            f"do_{letter}": _plain(some, "your"),
            f"its_{letter}": _plain(some, "its"),
            f"does_{letter}": _does(some, who),
            f"she_does_{letter}": _does(some, _HERSELF),
            f"he_does_{letter}": _does(some, _HIMSELF),
            f"doing_{letter}": _doing(some, who),
            f"your_doing_{letter}": _doing(some, _YOU),
        }
    return fields


_VERBS = ("look", "feel", "seem", "begin", "listen", "go")


def _script(form: str, text: str, keyframes: list[Keyframe]) -> Script:
    return Script("", form, text, tuple(map(to_json, keyframes)))


def _in_manner(keyframe: Keyframe, scale: float, speed: float) -> Keyframe:
    way = min(max(round(keyframe.way * speed, 1), 0.1), 9.9)
    return replace(from_json(scaled(to_json(keyframe), scale), where="keyframe"), way=way)


def _again(who: _Person) -> str:
    """The pronoun that takes a subject up again."""
    return who.subject if not who.third else "she" if who.their == "her" else "he"


def _verb(verb: str, who: _Person) -> str:
    if not who.third:
        return verb
    if re.search(r"(?:s|x|z|ch|sh|o)$", verb):
        return verb + "es"
    return verb[:-1] + "ies" if re.search(r"[^aeiou]y$", verb) else verb + "s"


def _does(words: str, who: _Person) -> str:
    return _each_verb(words, who, lambda verb: _verb(verb, who))


def _doing(words: str, who: _Person) -> str:
    return _each_verb(words, who, _with_ing)


def _each_verb(words: str, who: _Person, change: Callable[[str], str]) -> str:
    return re.sub(r"(?:^|\+)([^ ]+)", lambda match: change(match[1]), words.replace("{their}", who.their))


def _plain(words: str, their: str) -> str:
    return words.replace("{their}", their).replace("+", "")


def _with_ing(verb: str) -> str:
    if verb.endswith("ie"):
        verb = verb[:-2] + "y"
    elif re.search(r"[^eoy]e$", verb):
        verb = verb[:-1]
    elif re.fullmatch(r"[^aeiou]*(?:qu)?[aeiou][bdglmnprt]", verb):
        verb += verb[-1]
    return f"{verb}ing"


def _typed(text: str, rng: random.Random) -> str:
    """As people type: mostly a sentence, often without capitals and full stop, now and then badly."""
    kind = rng.random()
    if kind < 0.6:
        text = text[0].upper() + text[1:] + ("" if text[-1] in "?*)" else ".")
    elif kind < 0.65:
        text = text.upper()
    elif kind < 0.72:
        text = misspelt(text, rng)
    return text
