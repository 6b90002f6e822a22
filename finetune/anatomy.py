"""What a face can do, and which muscles belong to which feeling: the rules by which scripts are checked.

Feelings follow EMFACS (Friesen & Ekman 1983, "EMFACS-7") where it has them, and for the rest the action units that
Ekman, Friesen & Hager's FACS manual (2002) and the production literature give; AU names are in the comments.
"""

import re
from collections.abc import Iterator
from types import MappingProxyType

from kff_live.finetune.scripts import Script
from kff_live.protocols.channels import INDEX, SHAPES
from kff_live.protocols.keyframe_text import MAX_KEYFRAMES, NAMES
from kff_live.protocols.keyframes import Keyframe

SEEN = 0.3
"""A muscle shows from here on; the same threshold for every rule."""

_WORDS = MappingProxyType({name.word: name for name in NAMES})


def level(keyframe: Keyframe, word: str) -> float:
    """The level of a word of keyframe text in a keyframe: the greater of its sides."""
    name = _WORDS[word]
    left = float(keyframe.pose[name.left])
    return left if name.right is None else max(left, float(keyframe.pose[name.right]), key=abs)


FEELINGS: MappingProxyType[str, tuple[str, str]] = MappingProxyType(
    {
        # feeling: (words of which one or more must show, in groups joined by "+"; words that must not show)
        "joy": ("smile+cheek|squint|blink|jaw|wide", "frown sneer"),  # AU6+12
        "amusement": ("smile|dimple|press|lowerroll", "frown"),
        "laughter": ("smile+jaw|cheek|squint", "frown"),  # AU6+12+25/26
        "contentment": ("smile|blink|dimple", "frown sneer browdown"),
        "affection": ("smile|pucker|browinner", "frown sneer browdown"),
        "tenderness": ("smile|browinner|roll", "frown sneer browdown"),
        "pride": ("smile|dimple|pitch|press|jawforward", "frown sneer"),
        "relief": ("blink|smile|jaw|browinner|funnel|puff", "sneer"),
        "gratitude": ("smile|browinner|press", "sneer"),
        "hope": ("browinner|smile|lookup|browouter", "frown sneer browdown"),
        "excitement": ("smile|jaw|wide|browouter", "frown sneer"),
        "triumph": ("smile|jaw|press|jawforward", "frown"),
        "glee": ("smile|dimple", "frown"),
        "playfulness": ("smile|tongue|blink|puff|pucker|dimple|browouter|sneer", "frown"),
        "flirtation": ("smile|blink|pucker|lowerroll|lookdown|browouter|dimple", "frown sneer"),
        "awe": ("jaw|wide|browouter|browinner", "frown sneer browdown"),
        "wonder": ("smile|jaw|wide|browouter|browinner", "frown sneer browdown"),
        "curiosity": ("browouter|browinner|roll|squint|wide|lookleft|lookright|lookdown|lookup", "frown sneer"),
        "surprise": ("browouter|browinner|wide+jaw|wide|funnel|browouter", "browdown sneer"),  # AU1+2+5+26
        "startle": ("wide|blink|jaw|browouter|stretch", "smile"),
        "shock": ("wide|jaw|browinner", "smile sneer"),
        "fear": ("browinner|wide|stretch", "smile sneer"),  # AU1+2+4+5+20+26
        "terror": ("wide|blink|stretch|jaw", "smile"),
        "anxiety": ("browinner|lowerroll|press|stretch|wide|lookleft|lookright|browdown", ""),
        "nervousness": ("browinner|lowerroll|press|stretch|lookleft|lookright|lookdown|smile|blink", "sneer"),
        "dread": ("browinner|wide|press|stretch|lookdown", "smile sneer"),
        "sadness": ("browinner|frown|lowershrug", "smile sneer wide"),  # AU1+4+15
        "grief": ("browinner|blink|frown", "smile sneer"),
        "crying": ("browinner|squint|blink|lowershrug", ""),
        "loneliness": ("browinner|frown|lookdown|lowershrug|lookleft|lookright|press", "sneer"),
        "disappointment": ("frown|browinner|lookdown|press|lowershrug", "smile sneer"),
        "regret": ("browinner|frown|lookdown|press|blink|lowershrug", "smile sneer"),
        "guilt": ("browinner|lookdown|frown|press|lowerroll|lookleft|lookright", "sneer wide"),
        "shame": ("lookdown|browinner|frown|blink|press|lowerroll", "sneer wide"),
        "embarrassment": ("lookdown|lookleft|lookright|press|smile|blink|lowerroll|stretch|dimple|browinner|squint",
                          "sneer"),
        "shyness": ("lookdown|smile|lowerroll|press|lookleft|lookright|browinner", "sneer"),
        "hurt": ("browinner|frown|lookdown|lowershrug|press", "smile sneer"),
        "sympathy": ("browinner", "sneer wide"),
        "longing": ("browinner|lookup|lookleft|lookright|blink|smile", "sneer"),
        "nostalgia": ("smile|browinner|lookup|lookleft|lookright|lookdown|blink", "sneer"),
        "anger": ("browdown|squint|press|jaw", "smile browouter"),  # AU4+5+7+23/24
        "rage": ("browdown", "smile browouter"),
        "irritation": ("browdown|press|squint|lookup|dimple|frown|blink|uppershrug|sneer", "wide"),
        "frustration": ("browdown|press|puff|lookup|blink|frown|squint|jaw|stretch", ""),
        "impatience": ("lookup|press|puff|browdown|lookleft|lookright|browouter|blink|mouthleft|mouthright", ""),
        "envy": ("browdown|squint|press|lookleft|lookright|frown|sneer|dimple|smile|lookdown", "wide"),
        "hatred": ("browdown|squint|sneer|upperlip|press", "browouter"),
        "contempt": ("dimple|sneer|smile|upperlip|squint|blink", "wide"),  # R12 or R14
        "disgust": ("sneer|upperlip|tongue|frown|lowershrug", "smile wide"),  # AU9/10+17
        "revulsion": ("sneer|upperlip|tongue", "smile wide"),
        "suspicion": ("squint|browdown|lookleft|lookright|browouter", "wide"),
        "doubt": ("browouter|lowershrug|frown|squint|browdown|mouthleft|mouthright|dimple|press|browinner|pucker", ""),
        "confusion": ("browdown|browouter|browinner|squint|roll", ""),
        "concentration": ("browdown|squint|press|tongue|lowerroll|lookdown|pucker|mouthleft|mouthright", ""),
        "thinking": ("lookup|lookleft|lookright|lookdown|pucker|mouthleft|mouthright|browdown|squint|press", ""),
        "determination": ("browdown|press|jawforward|squint", "frown"),
        "boredom": ("blink|lookup|lookleft|lookright|frown|puff|lookdown|jaw|dimple|press|mouthleft", "wide"),
        "sleepiness": ("blink|jaw|lookdown", "wide"),
        "exhaustion": ("blink|lookdown|frown|jaw|puff|browinner", ""),
        "pain": ("browdown|squint|cheek|blink|stretch|upperlip|browinner|press|jaw", ""),
        "cringe": ("stretch|squint|blink|sneer|press|lowerlip|cheek|upperlip", ""),
        "smugness": ("smile|dimple|blink|browouter|squint", "frown"),
        "sarcasm": ("smile|dimple|browouter|lookup|blink|squint|press|lookleft|lookright|frown|browdown|jaw", ""),
        "mischief": ("smile|dimple|browouter|lookleft|lookright|blink|squint|lowerroll", "frown"),
        "disbelief": ("browouter|browinner|wide|jaw|blink|yaw|browdown|squint", ""),
        "resignation": ("press|dimple|lowershrug|browinner|blink|lookdown|puff|frown|lookup|jaw", ""),
        "indifference": ("blink|lowershrug|lookleft|lookright|lookup|lookdown|frown|dimple|browouter|press", "wide"),
        "calm": ("", "frown sneer browdown wide"),
        "nausea": ("frown|puff|upperlip|blink|press|sneer|browinner|squint|lowershrug|tongue", "smile"),
        "strain": ("browdown|squint|press|lowerlip|cheek|blink|puff|stretch|lowerroll", ""),
        "defiance": ("browdown|jawforward|squint|press|pitch|lowershrug|tongue", ""),
        "sulk": ("lowershrug|frown|pucker|browdown|press|lookdown|uppershrug|lookleft|lookright", "wide"),
        "drunkenness": ("blink|smile|jaw|roll|lookleft|lookright|lowerlip|frown|browdown|tongue|squint", ""),
        "craving": ("tongue|lowerroll|wide|jaw|press|browinner|squint|lookdown|smile|pucker|lowershrug", ""),
        "coldness": ("press|squint|stretch|puff|lowerroll|browdown|funnel|blink|pucker|jaw|browinner", ""),
    }
)  # fmt: skip
"""The muscles of each feeling, as words of keyframe text."""

FORBIDDEN_PAIRS: tuple[tuple[str, float, str, float], ...] = (
    ("blink", 0.6, "wide", 0.3), ("blink", 0.7, "lookup", 0.5), ("squint", 0.4, "wide", 0.4),
    ("smile", 0.4, "frown", 0.4), ("browdown", 0.5, "browouter", 0.5), ("lookup", 0.1, "lookdown", 0.1),
    ("lookleft", 0.1, "lookright", 0.1), ("jawleft", 0.1, "jawright", 0.1), ("mouthleft", 0.1, "mouthright", 0.1),
    ("puff", 0.3, "jaw", 0.3), ("press", 0.4, "jaw", 0.3), ("funnel", 0.5, "pucker", 0.5),
)  # fmt: skip
"""Words and levels that no face reaches together on one side."""

_PARTS = (
    (r"eye|eyelid|lid|peeper", "blink squint wide lookleft lookright lookup lookdown"),
    (r"brow|eyebrow", "browouter browdown"),
    (r"corner|dimple", "smile frown dimple stretch press upperlip lowerlip"),
    (r"cheek", "cheek smile dimple puff"),
    (r"nostril", "sneer upperlip"),
)
_SIDE = re.compile(r"\b(left|right)(?:-hand)?(?: (?:upper|lower|outer|inner|mouth))? (\w+)", re.IGNORECASE)
_MAX_SLIGHT = 0.6
_MIN_STRONG = 0.6
_QUIET = 0.15
_FREE_WHEN_QUIET = ("blink", "lookdown", "lookright", "lookleft", "lookup", "yaw", "pitch", "roll")
MAX_LABEL = 40
"""Longest label that the grammar for the model can write, in characters."""
_LABEL = re.compile(rf"[a-zA-Z][a-zA-Z ,'-]{{0,{MAX_LABEL - 1}}}")


def problems(script: Script) -> Iterator[str]:
    """What is wrong with a script's anatomy and notation, each as `FIELD: what`."""
    keyframes = script.poses()
    if len(keyframes) > MAX_KEYFRAMES:
        yield f"keyframes: {len(keyframes)}, at most {MAX_KEYFRAMES}"
    for i, keyframe in enumerate(keyframes):
        for problem in (*_notation(keyframe), *_impossible(keyframe)):
            yield f"keyframes[{i}].{problem}"
    unknown = [feeling for feeling in script.feelings if feeling not in FEELINGS]
    if unknown:
        yield f"feelings: {', '.join(unknown)} not known"
    elif script.form == "neutral":
        yield from _quiet(keyframes)
    else:
        yield from _feelings(script, keyframes)
        yield from _strength(script, keyframes)
    yield from _sides(script.text, keyframes)


def _notation(keyframe: Keyframe) -> Iterator[str]:
    """What the grammar for the model cannot write (protocols/keyframe_text.py)."""
    if not _LABEL.fullmatch(keyframe.label):
        yield f"label: {keyframe.label!r}: expected up to {MAX_LABEL} letters, spaces, commas, apostrophes, hyphens"
    for field, seconds, low in (("way", keyframe.way, 1), ("hold", keyframe.hold, 0)):
        if not (low <= round(seconds * 10, 6) <= 99 and round(seconds * 10, 6).is_integer()):
            yield f"{field}: {seconds} s: expected whole tenths from {low / 10} to 9.9"
    for value in keyframe.pose:
        if abs(float(value) * 10 - round(float(value) * 10)) > 1e-4:
            yield f"pose: {float(value):.4f}: expected whole tenths"
            break


def _impossible(keyframe: Keyframe) -> Iterator[str]:
    for first, first_level, second, second_level in FORBIDDEN_PAIRS:
        for one, other in zip(_sides_of(first), _sides_of(second), strict=True):
            if keyframe.pose[one] >= first_level - 1e-4 and keyframe.pose[other] >= second_level - 1e-4:
                yield f"pose: {first} and {second} together"
                break
    if keyframe.pose[INDEX["MouthClose"]] > keyframe.pose[INDEX["JawOpen"]] + 1e-4:
        yield "pose: mouthclose over jaw"
    if keyframe.pose[INDEX["TongueOut"]] > 0.2 and keyframe.pose[INDEX["JawOpen"]] < 0.1 - 1e-4:
        yield "pose: tongue without jaw"


def _sides_of(word: str) -> tuple[int, int]:
    name = _WORDS[word]
    return name.left, name.left if name.right is None else name.right


def _quiet(keyframes: list[Keyframe]) -> Iterator[str]:
    for i, keyframe in enumerate(keyframes):
        for name in NAMES:
            limit = 0.31 if name.word in _FREE_WHEN_QUIET[1:] else _QUIET
            if name.word != "blink" and abs(level(keyframe, name.word)) > limit:
                yield f"keyframes[{i}].pose: {name.word} moves in a neutral line"


def _feelings(script: Script, keyframes: list[Keyframe]) -> Iterator[str]:
    for feeling in script.feelings:
        must, never = FEELINGS[feeling]
        if script.form == "nuance":  # masked or mixed: any part of it will do
            must = must.replace("+", "|")
        for group in must.split("+") if must else ():
            words = group.split("|")
            least = 0.1 if script.strength == "slight" else SEEN - 1e-4
            if not any(
                abs(level(k, word)) >= (0.1 if _WORDS[word].signed else least) for k in keyframes for word in words
            ):
                yield f"keyframes: {feeling} shows none of {', '.join(words)}"
        if len(script.feelings) == 1 and script.form in ("prose", "chat", "described"):
            for word in never.split():
                if any(level(k, word) > 0.25 for k in keyframes):
                    yield f"keyframes: {word} contradicts {feeling}"


def _strength(script: Script, keyframes: list[Keyframe]) -> Iterator[str]:
    words = [name.word for name in NAMES if not name.signed and name.word not in _FREE_WHEN_QUIET]
    peak = max(level(k, word) for k in keyframes for word in words)
    if script.strength == "slight" and peak > _MAX_SLIGHT + 1e-4:
        yield f"strength: slight, but a muscle stands at {peak * 10:.0f}"
    if script.strength == "strong" and script.feelings:
        shapes = max(float(k.pose[:SHAPES].max()) for k in keyframes)
        if shapes < _MIN_STRONG - 1e-4:
            yield f"strength: strong, but no muscle is over {shapes * 10:.0f}"


def _sides(text: str, keyframes: list[Keyframe]) -> Iterator[str]:
    """A side named before a part of the face moves that side more than the other."""
    sides: dict[str, set[str]] = {}
    for side, noun in _SIDE.findall(text):
        for pattern, words in _PARTS:
            if re.fullmatch(pattern, noun.lower().removesuffix("s")):
                sides.setdefault(words, set()).add(side.lower())
    for words, named in sides.items():
        if len(named) != 1:
            continue
        side = named.pop()
        moved = False
        for keyframe in keyframes:
            for word in words.split():
                left, right = _sides_of(word)
                mine, others = (left, right) if side == "left" else (right, left)
                moved |= bool(
                    keyframe.pose[mine] >= 0.2 and (left == right or keyframe.pose[mine] > keyframe.pose[others])
                )
        if not moved:
            yield f"keyframes: the text names the {side}, but it does not move more than the other"
