"""Composed scripts say what their keyframes show: grammar, order, sides, manner; the seed decides."""

import random
import re
from pathlib import Path

import numpy as np
import pytest

from kff_live.finetune import phrases, variation
from kff_live.finetune.anatomy import problems
from kff_live.finetune.phrases import Phrase, compose, read_phrases
from kff_live.finetune.scripts import Script
from kff_live.finetune.settings import PHRASES
from kff_live.protocols.channels import INDEX
from kff_live.protocols.errors import UserError

PUCKER, TONGUE, WINK = INDEX["MouthPucker"], INDEX["TongueOut"], (INDEX["EyeBlinkLeft"], INDEX["EyeBlinkRight"])

KISS = Phrase(("kiss: 3+10 pucker7",), do=("blow a kiss",), see=("pursed lips",), clause=("{their} lips purse",))
POKE = Phrase(
    ("tongue out: 2+10 jaw2 tongue8",), do=("stick out {their} tongue",), see=("tongue out",),
    clause=("out comes {their} tongue",),
)  # fmt: skip
RIGHT_WINK = Phrase(("right eye shut: 2+5 blinkR9",), do=("shut the right eye",), see=("right eye shut",))
FURIOUS = Phrase(
    ("furious: 4+14 squint4 browdown7 press5",), be=("furious",), do=("glare",), see=("a glare",), feelings=("anger",)
)


def composed(*some: Phrase, count: int = 300) -> list[Script]:
    found = compose(list(some), count, 1)
    assert len(found) > 20
    return found


def test_the_wordings_that_come_along_can_be_read_and_say_each_channel() -> None:
    found = read_phrases(PHRASES)
    assert len(found) > 400
    for first in {words.split()[0] for phrase in found for words in phrase.do}:  # a verb that takes an ending
        assert first.replace("-", "").isalpha(), first
        assert not first.endswith("ly") or first == "fly", first
    moved = np.max([np.abs(keyframe.pose) for script in compose(found, 3000, 1) for keyframe in script.poses()], axis=0)
    rotations_of_the_eyes = [
        INDEX[f"{side}Eye{axis}"] for side in ("Left", "Right") for axis in ("Yaw", "Pitch", "Roll")
    ]
    assert set(np.flatnonzero(moved < 0.2)) <= set(rotations_of_the_eyes)


def test_the_seed_decides_and_no_text_comes_twice() -> None:
    found = read_phrases(PHRASES)
    once, again, other = compose(found, 200, 5), compose(found, 200, 5), compose(found, 200, 6)
    assert once == again
    assert once != other
    assert len({script.text.lower() for script in once}) == len(once) == 200


def test_all_that_is_composed_keeps_the_rules_of_anatomy() -> None:
    for script in compose(read_phrases(PHRASES), 1000, 2):
        assert list(problems(script)) == [], script.text


def test_what_is_said_first_is_done_first() -> None:
    in_order = [script for script in composed(KISS, POKE) if script.form == "sequence" and len(script.keyframes) == 2]
    assert len(in_order) > 20
    backwards = 0
    for script in in_order:
        text = script.text.lower()
        kiss, tongue = re.search("kiss|purse", text), re.search("tongue", text)
        if kiss is None or tongue is None:  # a letter was mistyped
            continue
        first, second = (keyframe.pose for keyframe in script.poses())
        said_first = PUCKER if kiss.start() < tongue.start() else TONGUE
        if re.match(r"b(?!low)", text):  # Before (perhaps mistyped) she sticks out her tongue, she blows a kiss.
            backwards += 1
            first, second = second, first
        assert first[said_first] > 0.5 > second[said_first], script.text
    assert backwards


def test_things_at_once_are_one_keyframe_with_both() -> None:
    at_once = [script for script in composed(KISS, RIGHT_WINK) if script.form == "nuance"]
    assert at_once
    for script in at_once:
        (keyframe,) = script.poses()
        assert keyframe.pose[PUCKER] > 0.5 and max(keyframe.pose[list(WINK)]) > 0.5
        label = keyframe.label.split(", ")
        assert set(label) <= {"kiss", "right eye shut", "left eye shut"}
        text = script.text.lower()
        kiss, wink = re.search("kiss|purse", text), re.search("wink|eye", text)
        if kiss and wink:  # no letter was mistyped
            assert (label[0] == "kiss") == (kiss.start() < wink.start()), script.text


def test_three_things_at_once_come_often_enough_to_be_learned() -> None:
    labels = [script.poses()[0].label for script in compose(read_phrases(PHRASES), 1000, 1) if script.form == "nuance"]
    assert sum(label.count(",") == 2 for label in labels) > 80


def test_a_named_side_is_the_side_that_moves() -> None:
    sides = set()
    for script in composed(RIGHT_WINK, count=100):
        text = script.text.lower()
        for keyframe in script.poses():
            left, right = keyframe.pose[list(WINK)]
            side, other = ("left", "right") if left > right else ("right", "left")
            assert side in text or other not in text, script.text
            sides.add(side)
    assert sides == {"left", "right"}


def test_an_adverb_changes_level_or_time() -> None:
    seen = set()
    for script in composed(FURIOUS):
        (keyframe,) = script.poses()
        text, level = script.text.lower(), keyframe.pose[INDEX["BrowDownLeft"]]
        if "slightly" in text or "a little" in text or "faintly" in text:
            seen.add("weaker")
            assert level < 0.5
        elif "very " in text or "extremely " in text:
            seen.add("stronger")
            assert level == np.float32(0.8)
        elif "suddenly" in text:
            seen.add("faster")
            assert keyframe.way < 0.4
        elif "slowly" in text or "gradually" in text:
            seen.add("slower")
            assert keyframe.way > 0.4
    assert seen == {"weaker", "stronger", "faster", "slower"}


@pytest.mark.parametrize(
    ("words", "does", "doing"),
    [
        ("stick out {their} tongue", "sticks out her tongue", "sticking out her tongue"),
        ("purse {their} lips", "purses her lips", "pursing her lips"),
        ("grin", "grins", "grinning"),
        ("close {their} eyes and +smile", "closes her eyes and smiles", "closing her eyes and smiling"),
        ("widen {their} eyes", "widens her eyes", "widening her eyes"),
        ("cry", "cries", "crying"),
        ("lie low", "lies low", "lying low"),
        ("go pale", "goes pale", "going pale"),
        ("press {their} lips", "presses her lips", "pressing her lips"),
        ("squint", "squints", "squinting"),
        ("chew", "chews", "chewing"),
        ("see red", "sees red", "seeing red"),
        ("say ah", "says ah", "saying ah"),
    ],
)
def test_verbs_take_their_endings(words: str, does: str, doing: str) -> None:
    she = phrases._Person("she", "her")
    assert phrases._does(words, she) == does
    assert phrases._doing(words, she) == doing


def test_no_placeholder_is_left_and_no_one_is_mixed_up() -> None:
    for script in composed(KISS, POKE, FURIOUS, count=500):
        assert "{" not in script.text
        assert not re.search(r"\b(he|Tom|Omar) .*\bher\b", script.text)
        assert not re.search(r"\bI .*\b(his|her)\b", script.text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[phrase]]\nlines = ["x: 3+4 nosuch5"]', "nosuch"),
        ('[[phrase]]\nlines = ["x: 3+4 jaw5"]\nsay = ["a"]', "say"),
        ("[[phrase]]", "lines"),
        ("[[phrase", "phrases"),
        ("", "phrase"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "phrases.toml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=said) as raised:
        read_phrases(tmp_path)
    assert "phrases.toml" in str(raised.value)
    (tmp_path / "phrases.toml").unlink()
    with pytest.raises(UserError, match="there are no phrases"):
        read_phrases(tmp_path)


def test_mistyping_changes_one_letter() -> None:
    rng = random.Random(3)
    found = {variation.misspelt("pursed", rng) for _ in range(50)} - {"pursed"}
    assert len(found) > 5
    for word in found:
        swapped = {"pursed"[:i] + "pursed"[i + 1] + "pursed"[i] + "pursed"[i + 2 :] for i in range(5)}
        doubled = {"pursed"[: i + 1] + "pursed"[i:] for i in range(6)}
        dropped = {"pursed"[:i] + "pursed"[i + 1 :] for i in range(6)}
        assert word in swapped | doubled | dropped
