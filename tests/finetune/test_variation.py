"""Variations say the same act in other words: text and pose change together, and the seed decides."""

import random

import numpy as np
import pytest

from kff_live.finetune import variation
from kff_live.finetune.anatomy import MAX_LABEL, problems
from kff_live.finetune.lint import read_corpus
from kff_live.finetune.scripts import Script
from kff_live.finetune.settings import SCRIPTS
from kff_live.protocols.channels import INDEX, mirror
from kff_live.protocols.keyframe_text import format_keyframe, parse_line, to_json


def make(text: str, lines: str, *, form: str = "action", feelings: tuple[str, ...] = ()) -> Script:
    return Script("x", form, text, tuple(to_json(parse_line(line)) for line in lines.splitlines()), feelings=feelings)


def shown(script: Script) -> str:
    return "".join(map(format_keyframe, script.poses()))


def words(script: Script) -> set[str]:
    return set(script.text.lower().replace(".", "").split())


def test_a_mirrored_text_and_its_pose_agree() -> None:
    script = make("Wink the LEFT eye; Right brow up.", "left wink: 2+3 blinkL9 browouterR4 lookleft3 yaw-2 pitch1")
    turned = variation.mirrored(script)
    assert turned.text == "Wink the RIGHT eye; Left brow up."
    assert turned.keyframes[0].label == "right wink"
    (before,), (after,) = script.poses(), turned.poses()
    assert after.pose[INDEX["EyeBlinkRight"]] == before.pose[INDEX["EyeBlinkLeft"]] > 0
    assert after.pose[INDEX["EyeBlinkLeft"]] == 0
    np.testing.assert_array_equal(after.pose, mirror(before.pose))


def corpus() -> list[Script]:
    return read_corpus(SCRIPTS).scripts


def test_mirrored_twice_is_the_same_and_still_right() -> None:
    turned = [script for script in corpus() if variation.can_mirror(script)]
    assert len(turned) > 100
    both = {side for script in turned for side in ("left", "right") if side in words(script)}
    assert both == {"left", "right"}  # either side is turned into the other
    for script in turned:
        once = variation.mirrored(script)
        assert shown(once) != shown(script)
        assert [problem for problem in problems(once) if "names the" in problem] == []
        twice = variation.mirrored(once)
        assert (twice.text, twice.descriptions, shown(twice)) == (script.text, script.descriptions, shown(script))


@pytest.mark.parametrize(
    ("text", "turns"),
    [
        ("Wink the right eye.", True),
        ("Look to your left, with a grin.", True),
        ("Only the right one goes up.", True),
        ("right eye shut, left one open", True),
        ("You were right about that wink.", False),
        ("She left the room with a wink.", False),
        ("A wink, right now!", False),
        ("There is one left, wink.", False),
        ("Just wink.", False),
    ],
)
def test_only_a_side_is_turned(text: str, turns: bool) -> None:
    assert variation.can_mirror(make(text, "wink: 2 blinkL9")) == turns


def test_a_side_is_not_turned_where_the_label_would_become_too_long() -> None:
    label = "left squint, left brow down, left lip up"
    assert len(label) == MAX_LABEL
    script = make("Squint the left eye.", f"{label}: 3+12 squintL7 upperlipL5 browdownL6")
    assert variation.can_mirror(script)
    texts = set()
    for seed in range(40):
        varied = variation.vary(script, random.Random(seed))
        assert varied.keyframes == script.keyframes
        texts.add(varied.text)
    assert len(texts) > 1  # in other ways it varies


def test_a_face_that_is_the_same_on_both_sides_is_not_turned() -> None:
    assert not variation.can_mirror(make("Mud on the left shoe, a frown.", "frown: 2 frown5"))


def varied(script: Script, count: int = 300) -> list[Script]:
    return [variation.vary(script, random.Random(seed)) for seed in range(count)]


def test_her_is_left_alone() -> None:
    script = make("She gave her brother her best frown.", "frown: 2 frown5")
    for other in varied(script):
        assert {"she", "her"} <= set(variation._WORD.findall(other.text.lower()))


def test_he_and_she_change_as_a_whole() -> None:
    texts = {other.text.lower() for other in varied(make("He shut his mouth himself.", "shut: 2 press5"))}
    assert any("she" in text for text in texts)
    for text in texts:
        said = set(variation._WORD.findall(text))
        assert not (said & {"he", "his", "himself"} and said & {"she", "her", "herself"})


def test_strength_changes_word_and_muscle_together() -> None:
    script = make("Furious.", "fury: 2+5 browdown6 press4 yaw-2", form="prose", feelings=("anger",))
    seen = set()
    for other in varied(script):
        word = other.text.lower().strip("(*[]) .").split()[0]
        level = float(other.poses()[0].pose[INDEX["BrowDownLeft"]])
        assert float(other.poses()[0].pose[INDEX["HeadYaw"]]) == pytest.approx(-0.2)
        weaker, stronger = word in variation._WEAKER or word == "a", word in variation._STRONGER
        if weaker or stronger:
            seen.add(weaker)
            assert level == pytest.approx(0.4 if weaker else 0.8)
    assert seen == {True, False}


def test_the_seed_decides() -> None:
    script = make("The child slowly raises the left eyebrow.", "brow: 3+5 browouterL7")
    assert varied(script, 20) == varied(script, 20)
    assert len({other.text for other in varied(script, 20)}) > 5


def test_a_variation_keeps_the_number_of_keyframes_and_their_times() -> None:
    for script in corpus()[::10]:
        other = variation.vary(script, random.Random(1))
        assert [(k.way, k.hold, k.easing) for k in other.poses()] == [(k.way, k.hold, k.easing) for k in script.poses()]
        assert (other.id, other.form, other.feelings) == (script.id, script.form, script.feelings)


def test_a_neutral_line_keeps_its_words() -> None:
    others = {"physician", "remarks", "home", "large", "huge"}
    neutral, prose = (
        make("The doctor says the house is big.", "calm: 4+6", form=form) for form in ("neutral", "prose")
    )
    assert not any(others & words(other) for other in varied(neutral))
    assert any(others & words(other) for other in varied(prose))
