"""Other people's data: KeyframeFace's messages and labelled takes become scripts, and mistakes are named."""

import json
import re
from pathlib import Path

import pytest

from kff_live.converters import livelink_csv
from kff_live.converters.acting import act
from kff_live.finetune.sources import read_keyframeface, read_takes, writable
from kff_live.protocols.errors import UserError
from kff_live.protocols.frames import FrameRate
from kff_live.protocols.keyframe_text import format_keyframe, parse_line

REQUEST = """Keyframe Description Sequence:
- Keyframe One: The gaze is lowered.
- Keyframe Two: Both mouth corners rise.

Background: A student waits.
Emotion: Hidden anxiety.

Task Instruction: Generate the facial expression parameters for Keyframe {}."""


def exchange(asked: str, answer: dict[str, float] | str | None) -> str:
    """A line as KeyframeFace's data has them."""
    messages = [{"role": "system", "content": "You animate."}, {"role": "user", "content": REQUEST.format(asked)}]
    if answer is not None:
        content = answer if isinstance(answer, str) else json.dumps({"Keyframe_x": answer})
        messages.append({"role": "assistant", "content": content})
    return json.dumps({"messages": messages}) + "\n"


def test_the_lines_of_one_request_are_one_script(tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text(exchange("One", {"EyeLookDownLeft": 0.52}) + exchange("Two", {"MouthSmileLeft": 0.68}))
    (script,), wrong = read_keyframeface(file)
    assert wrong == []
    assert (script.text, script.background, script.emotion) == (
        "A student waits.",
        "A student waits.",
        "Hidden anxiety.",
    )
    assert script.descriptions == ("The gaze is lowered.", "Both mouth corners rise.")
    assert [keyframe.pose for keyframe in script.keyframes] == [{"EyeLookDownLeft": 0.5}, {"MouthSmileLeft": 0.7}]


def test_the_lines_of_a_request_may_stand_in_any_order(tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    other = exchange("One", {"JawOpen": 0.3}).replace("A student waits.", "A teacher waits.")
    file.write_text(exchange("Two", {"MouthSmileLeft": 0.68}) + other + exchange("One", {"EyeLookDownLeft": 0.52}))
    scripts, wrong = read_keyframeface(file)
    assert wrong == []
    found = {script.text: [keyframe.pose for keyframe in script.keyframes] for script in scripts}
    assert found["A student waits."] == [{"EyeLookDownLeft": 0.5}, {"MouthSmileLeft": 0.7}]
    assert found["A teacher waits."] == [{"JawOpen": 0.3}]


def test_a_keyframe_without_those_before_it_is_named(tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text(exchange("Two", {"MouthSmileLeft": 0.68}))
    assert read_keyframeface(file) == ([], ["data.jsonl:1: messages: of the same request keyframe one is missing"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (exchange("One", {"JawOpen": 0.4}), "line 1 asks for the same keyframe of the same request"),
        (exchange("Twelve", {"JawOpen": 0.4}), "Keyframe Twelve is asked for: expected one of one, two"),
        (exchange("One", None), "none of the role 'assistant'"),
        (exchange("One", {"MouthGrin": 0.5}), "'MouthGrin' is not a channel"),
        (exchange("One", "no JSON at all"), "expected one keyframe"),
        ('{"messages": 3}\n', r"\$\.messages"),
        ("not JSON\n", "malformed"),
    ],
)
def test_a_line_that_cannot_be_used_is_named_and_costs_only_itself(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text(exchange("One", {"JawOpen": 0.5}) + line)
    scripts, (wrong,) = read_keyframeface(file)
    assert len(scripts) == 1
    assert wrong.startswith("data.jsonl:2: ")
    assert re.search(message, wrong)


def take(path: Path, *lines: str) -> None:
    keyframes = [parse_line(line) for line in lines]
    with path.open("w", encoding="utf-8", newline="\n") as file:
        livelink_csv.write(act(keyframes, FrameRate.parse(60), subject="Face"), file)


def test_a_labelled_take_becomes_its_keyframes(tmp_path: Path) -> None:
    take(tmp_path / "smile.csv", "5+10 smile8 cheek5", "4+8 sine browinner6 frown5")
    (tmp_path / "takes.jsonl").write_text(
        '{"take": "smile.csv", "text": "A smile that dies.", "emotion": "let down"}\n'
    )
    (script,), wrong, (note,) = read_takes(tmp_path / "takes.jsonl", error=0.1)
    assert wrong == []
    assert (script.text, script.emotion) == ("A smile that dies.", "let down")
    assert "within 0.1" in note
    keyframes = script.poses()
    assert max(k.pose.max() for k in keyframes) == pytest.approx(0.8, abs=0.11)
    smiles = [k for k in script.keyframes if k.pose.get("MouthSmileLeft", 0) > 0.5]
    frowns = [k for k in script.keyframes if k.pose.get("MouthFrownLeft", 0) > 0.3]
    assert smiles
    assert frowns
    assert script.keyframes.index(smiles[0]) < script.keyframes.index(frowns[0])
    for keyframe in keyframes:
        assert parse_line(format_keyframe(keyframe).strip()) == keyframe


def test_a_take_of_many_poses_is_thinned_until_one_answer_holds_it(tmp_path: Path) -> None:
    take(tmp_path / "busy.csv", *(f"2+2 {'smile' if i % 2 else 'frown'}{2 + i % 7}" for i in range(24)))
    (tmp_path / "takes.jsonl").write_text('{"take": "busy.csv", "text": "Busy."}\n')
    (script,), _, (note,) = read_takes(tmp_path / "takes.jsonl", error=0.02)
    assert len(script.keyframes) <= 8
    assert float(note.split("within ")[1].split()[0]) > 0.02


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"take": "no.csv", "text": "x"}', "no.csv: cannot be read"),
        ('{"take": "no.csv", "text": " "}', "text: it is empty"),
        ('{"take": "no.csv"}', "missing required field `text`"),
        ('{"take": "no.csv", "text": "x", "mood": "y"}', "unknown field `mood`"),
    ],
)
def test_a_line_of_the_list_that_cannot_be_used_is_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "takes.jsonl").write_text(f"\n{line}\n")
    scripts, (wrong,), notes = read_takes(tmp_path / "takes.jsonl", error=0.1)
    assert (scripts, notes) == ([], [])
    assert wrong.startswith("takes.jsonl:2: ")
    assert message in wrong


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.jsonl: cannot be read"):
        read_takes(tmp_path / "none.jsonl", error=0.1)


def test_writable_keeps_to_the_grammar() -> None:
    line = "sm1le (half), it's: 0+120 smile6.66 yaw-0.4"
    assert format_keyframe(writable(parse_line(line))) == "smle half, it's: 1+99 smile7\n"
