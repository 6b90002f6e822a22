"""Seeded variation of scripts: the same act in other words, mirrored, weaker or stronger, badly typed.

It never invents meaning: what changes in the text and matters for the face changes in the pose with it.
"""

import random
import re
from collections.abc import Callable
from dataclasses import replace

import msgspec
import numpy as np

from kff_live.finetune.anatomy import MAX_LABEL
from kff_live.finetune.scripts import Script
from kff_live.protocols.channels import LIVELINK, SHAPES, mirror
from kff_live.protocols.keyframe_text import KeyframeJson, to_json
from kff_live.protocols.keyframes import Keyframe

_WORD = re.compile(r"[A-Za-z']+")

_SYNONYMS = (
    ("eyebrow", "brow"), ("eyebrows", "brows"), ("glances", "looks", "peeks"), ("grins", "smiles broadly"),
    ("smiles", "gives a smile"), ("stares", "gazes"), ("slowly", "gradually"), ("quickly", "swiftly", "fast"),
    ("suddenly", "all at once", "abruptly"), ("happy", "glad", "pleased"), ("sad", "unhappy", "sorrowful"),
    ("angry", "mad", "cross"), ("scared", "afraid", "frightened"), ("surprised", "taken aback"),
    ("tired", "weary", "worn out"), ("disgusted", "grossed out", "repulsed"), ("worried", "anxious", "uneasy"),
    ("child", "kid"), ("boy", "lad"), ("girl", "young girl"), ("man", "fellow", "guy"), ("woman", "lady"),
    ("mother", "mum", "mom"), ("father", "dad"), ("doctor", "physician"), ("friend", "mate", "buddy"),
    ("raise", "lift"), ("raises", "lifts"), ("lower", "drop"), ("lowers", "drops"), ("shut", "close"),
    ("shuts", "closes"), ("slightly", "a little", "a bit"), ("very", "really", "so"), ("begins", "starts"),
    ("big", "large", "huge"), ("little", "small", "tiny"), ("terrible", "awful", "dreadful"),
    ("wonderful", "marvellous", "fantastic"), ("great", "excellent"), ("then", "and then"), ("while", "as"),
    ("finally", "at last"), ("house", "home"), ("letter", "note"), ("shouts", "yells"), ("says", "remarks"),
    ("toward", "towards"), ("through", "thru"), ("because", "since"), ("maybe", "perhaps"), ("everyone", "everybody"),
)  # fmt: skip
_SAME = {word: tuple(other for other in group if other != word) for group in _SYNONYMS for word in group}
_HE = {"he": "she", "him": "her", "his": "her", "himself": "herself", "mr": "mrs", "boy": "girl", "man": "woman",
       "father": "mother", "dad": "mum", "son": "daughter", "brother": "sister", "husband": "wife", "uncle": "aunt",
       "king": "queen", "grandpa": "grandma", "grandfather": "grandmother"}  # fmt: skip
_SHE = {"she": "he", "herself": "himself", "hers": "his", "mrs": "mr", "girl": "boy", "woman": "man",
        "mother": "father", "mum": "dad", "daughter": "son", "sister": "brother", "wife": "husband", "aunt": "uncle",
        "queen": "king", "grandma": "grandpa", "grandmother": "grandfather"}  # fmt: skip
_SIDES = {"left": "right", "right": "left", "leftmost": "rightmost", "rightmost": "leftmost",
          "leftward": "rightward", "rightward": "leftward"}  # fmt: skip
_SIDE = re.compile(r"\b(?:left|right)\b", re.IGNORECASE)
_SURELY_A_SIDE = re.compile(
    r"\b(?:the|his|her|their|its|my|your|own|far|upper|lower|outer|inner|to) (?:left|right)\b"
    r"(?! (?:answer|thing|time))",
    re.IGNORECASE,
)
_NOT_A_SIDE = re.compile(
    r"\b(?:(?:all|it|that's|what's|who|is|was|are|were|you|you're|he's|she's|stood|proves \w+) right|"
    r"right (?:now|away|here|there|then|after|before|when|as|up|down|in|into|through|back|on|past|behind|answer|thing"
    r"|time)|"
    r"(?:has|have|had|he|she|they|we|i|just|be|been|got|who|which|it|what'?s|is|was|nothing|anything|any|are|one|chair"
    r"|all|someone|lips|rats|seconds|feather) left|left (?:me|him|her|it|us|them|you|the|my|his|in|behind|alone|without"
    r"|for|to|with|on|at|a|over|by|bare|hanging|wet|two))\b",
    re.IGNORECASE,
)

_CHAT_FRAMES = ('"{}"', '"{}"', "{}", "says: {}", '"{}," she says.', '"{}," he says.', "[chat] {}", "> {}")
_ACT_FRAMES = ("({})", "*{}*", "[{}]", "{}", "Act: {}", "Stage direction: {}")
_WEAKER = ("slightly", "a bit", "a little", "somewhat", "faintly", "mildly")
_STRONGER = ("very", "extremely", "deeply", "utterly", "really", "so")


def vary(script: Script, rng: random.Random) -> Script:
    """One variation; the same generator state gives the same one."""
    for change, chance in _CHANGES:
        if rng.random() < chance:
            script = change(script, rng)
    return script


def can_mirror(script: Script) -> bool:
    """Whether the face does something on one side, and the text names a side and nothing that only looks like one."""
    text = _words_of(script)
    one_sided = any(not np.array_equal(mirror(keyframe.pose), keyframe.pose) for keyframe in script.poses())
    return one_sided and bool(_SIDE.search(text)) and not _NOT_A_SIDE.search(_SURELY_A_SIDE.sub("", text))


def mirrored(script: Script) -> Script:
    """Left and right exchanged, in the words and in the poses."""
    keyframes = tuple(to_json(mirrored_keyframe(keyframe)) for keyframe in script.poses())
    return msgspec.structs.replace(_rewritten(script, other_side), keyframes=keyframes)


def mirrored_keyframe(keyframe: Keyframe) -> Keyframe:
    """Left and right exchanged, in the pose and in the label."""
    return replace(keyframe, pose=mirror(keyframe.pose), label=other_side(keyframe.label))


def other_side(text: str) -> str:
    """The text with left and right exchanged."""
    return _replace_words(text, _SIDES)


def scaled(keyframe: KeyframeJson, scale: float) -> KeyframeJson:
    """The same with its blendshapes `scale` times as strong, in whole tenths from 0.1 to 1."""
    pose = {
        name: min(max(round(value * 10 * scale), 1), 10) / 10 if name in LIVELINK[:SHAPES] else value
        for name, value in keyframe.pose.items()
    }
    return msgspec.structs.replace(keyframe, pose=pose)


def misspelt(text: str, rng: random.Random) -> str:
    """The text with one wrong letter in a long word."""
    long_words = [match for match in _WORD.finditer(text) if len(match[0]) > 5]
    if not long_words:
        return text
    match = rng.choice(long_words)
    at = match.start() + rng.randint(1, len(match[0]) - 2)
    kind = rng.randrange(3)
    if kind == 0:
        return text[:at] + text[at + 1 :]
    if kind == 1:
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    return text[:at] + text[at] + text[at:]


def _words_of(script: Script) -> str:
    return " ".join((script.text, script.background, script.emotion, *script.descriptions))


def _rewritten(script: Script, change: Callable[[str], str]) -> Script:
    return msgspec.structs.replace(
        script,
        text=change(script.text),
        background=change(script.background),
        emotion=change(script.emotion),
        descriptions=tuple(map(change, script.descriptions)),
    )


def _replace_words(text: str, words: dict[str, str]) -> str:
    def one(match: re.Match[str]) -> str:
        return _like(match[0], words.get(match[0].lower(), match[0]))

    return _WORD.sub(one, text)


def _like(old: str, new: str) -> str:
    if new == old:
        return new
    if old.isupper() and len(old) > 1:
        return new.upper()
    return new[0].upper() + new[1:] if old[0].isupper() else new


def _mirror(script: Script, rng: random.Random) -> Script:
    if not can_mirror(script) or rng.random() >= 0.5:
        return script
    changed = mirrored(script)
    # "right" is longer than "left".
    fits = all(len(keyframe.label or "") <= MAX_LABEL for keyframe in changed.keyframes)
    return changed if fits else script


def _other_person(script: Script, rng: random.Random) -> Script:
    words = set(_WORD.findall(_words_of(script).lower()))
    he, she = words & set(_HE), words & (set(_SHE) | {"her"})
    if he and not she:
        return _rewritten(script, lambda text: _replace_words(text, _HE))
    if she and not he and "her" not in words:  # "her" may be "him" or "his"
        return _rewritten(script, lambda text: _replace_words(text, _SHE))
    return script


def _synonyms(script: Script, rng: random.Random) -> Script:
    def one(match: re.Match[str]) -> str:
        others = _SAME.get(match[0].lower())
        return _like(match[0], rng.choice(others)) if others and rng.random() < 0.5 else match[0]

    if script.form == "neutral":
        return script
    return _rewritten(script, lambda text: _WORD.sub(one, text))


def _strength(script: Script, rng: random.Random) -> Script:
    """A bare word of feeling ("delighted") with a word of degree before it, and the pose to match."""
    words = script.text.rstrip(".!").split()
    if len(words) != 1 or not script.feelings or script.form == "chat" or len(script.keyframes) > 2:
        return script
    weaker = rng.random() < 0.6
    degree, scale = (rng.choice(_WEAKER), 0.6) if weaker else (rng.choice(_STRONGER), 1.25)

    text = f"{degree} {words[0][0].lower()}{words[0][1:]}"
    return msgspec.structs.replace(script, text=text, keyframes=tuple(scaled(k, scale) for k in script.keyframes))


def _framed(script: Script, rng: random.Random) -> Script:
    if script.form in ("described", "neutral"):
        return script
    frame = rng.choice(_CHAT_FRAMES if script.form == "chat" else _ACT_FRAMES)
    text = script.text.rstrip(".") if "}," in frame else script.text
    return msgspec.structs.replace(script, text=frame.format(text))


def _typing(script: Script, rng: random.Random) -> Script:
    """Capitals, missing points, and one wrong letter in a long word, as people type."""
    text = script.text
    kind = rng.random()
    if kind < 0.4:
        text = text.rstrip(".")
        text = text.lower() if rng.random() < 0.7 else text
    elif kind < 0.5:
        text = text.upper() if len(text) < 60 else text
    elif kind < 0.6 and text[-1:] in "!?.":
        text = text[:-1] + text[-1] * rng.randint(2, 4)
    else:
        text = misspelt(text, rng)
    return msgspec.structs.replace(script, text=text)


_CHANGES: tuple[tuple[Callable[[Script, random.Random], Script], float], ...] = (
    (_mirror, 1.0), (_other_person, 0.5), (_synonyms, 0.7), (_strength, 0.7), (_framed, 0.15), (_typing, 0.25),
)  # fmt: skip
