"""KeyframeFace's files, in the form in which the released project writes them (keyframeface/, made by hand)."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kff_live.converters import keyframeface
from kff_live.converters.lines import Lines
from kff_live.converters.reading import Reading
from kff_live.protocols.channels import INDEX, pose_from_names
from kff_live.protocols.errors import DecodeError
from kff_live.protocols.keyframes import Keyframe

Read = Callable[[str | bytes], Lines]
FOLDER = Path(__file__).parent / "keyframeface"
REQUESTS = (FOLDER / "requests.jsonl").read_text(encoding="utf-8")


def values(keyframe: Keyframe) -> dict[str, float]:
    return {name: round(float(keyframe.pose[i]), 4) for name, i in INDEX.items()}


def as_written() -> list[dict[str, float]]:
    """All 61 values of both keyframes, read from the CSV by Python's own reader."""
    with (FOLDER / "answers.csv").open(encoding="utf-8", newline="") as file:
        return [{name: float(row[name]) for name in INDEX} for row in csv.DictReader(file)]


@pytest.mark.parametrize("name", ["answers.jsonl", "conversations.jsonl", "bare.jsonl"])
def test_answers_are_read_without_loss(lines: Read, name: str) -> None:
    keyframes = list(keyframeface.read(lines((FOLDER / name).read_bytes())))
    assert [values(k) for k in keyframes] == as_written()
    assert [(k.way, k.hold) for k in keyframes] == [(0.6, 0.4)] * 2
    assert values(keyframes[0])["LeftEyePitch"] == 0.3  # as it stands, though Live Link's has the other sign


def test_the_rows_of_its_csv_are_the_same_keyframes(lines: Read) -> None:
    keyframes = list(keyframeface.read_rows(lines((FOLDER / "answers.csv").read_bytes()), Reading()))
    assert [values(k) for k in keyframes] == as_written()


def test_answers_become_the_csv_of_the_released_converter(lines: Read) -> None:
    file = io.StringIO()
    assert keyframeface.write_rows(keyframeface.read(lines((FOLDER / "answers.jsonl").read_bytes())), file) == 2
    made = list(csv.reader(io.StringIO(file.getvalue())))
    with (FOLDER / "answers.csv").open(encoding="utf-8", newline="") as expected:
        wanted = list(csv.reader(expected))
    assert made[0] == wanted[0]
    for ours, theirs in zip(made[1:], wanted[1:], strict=True):
        assert ours[:2] == theirs[:2]
        assert np.allclose(np.array(ours[2:], float), np.array(theirs[2:], float), atol=1e-8)


def test_descriptions_become_labels(lines: Read) -> None:
    labels = [k.label for k in keyframeface.read(lines((FOLDER / "conversations.jsonl").read_bytes()))]
    assert labels == [
        "The eyes open wide and the mouth falls open a little to...",
        "The gaze sinks and the corners of the mouth go down.",
    ]


def test_answers_are_written_as_the_model_gives_them(lines: Read) -> None:
    text = (FOLDER / "answers.jsonl").read_text(encoding="utf-8")
    file = io.StringIO()
    assert keyframeface.write(keyframeface.read(lines(text)), file) == 2
    assert file.getvalue() == text


def test_keyframes_beyond_the_eighth_are_numbered(lines: Read) -> None:
    file = io.StringIO()
    keyframes = [Keyframe(pose_from_names({"MouthLeft": i / 10})) for i in range(10)]
    keyframeface.write(keyframes, file)
    names = [next(iter(json.loads(json.loads(line)["response"]))) for line in file.getvalue().splitlines()]
    assert names[6:] == ["Keyframe_seven", "Keyframe_eight", "Keyframe_9", "Keyframe_10"]
    again = list(keyframeface.read(lines(file.getvalue())))
    assert [values(k) for k in again] == [values(k) for k in keyframes]


def test_several_keyframes_in_one_answer_follow_each_other(lines: Read) -> None:
    answer = '{"Keyframe_one": {"JawOpen": 0.1}, "Keyframe_two": {"JawOpen": 0.2}}'
    found = keyframeface.read(lines(json.dumps({"response": answer}) + "\n\n"))
    assert [round(float(k.pose[INDEX["JawOpen"]]), 4) for k in found] == [0.1, 0.2]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (REQUESTS, "line 1, column 1: it holds a request without an answer"),
        ("{\n", "line 1, column 1: Input data was truncated"),
        ('\n{"response": 1}\n', "line 2 (response): Expected `str | null`, got `int`"),
        ('{"messages": {}}\n', "line 1 (messages): Expected `array`, got `object`"),
        ('{"response": "no face today"}\n', "line 1, column 1: it holds no keyframe"),
        ('{"a": 1}\n', "line 1, column 3: 'a' is not a channel with a number"),
        (r'{"response": "{\"JawOpen\": \"wide\"}"}', "line 1, column 18: 'JawOpen' is not a channel with a number"),
        (r'{"response": "{\"Keyframe_one\": {\"JawOpen\": 0"}', "line 1, column 50: the JSON object is not closed"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(lines: Read, text: str, said: str) -> None:
    with pytest.raises(DecodeError) as found:
        list(keyframeface.read(lines(text)))
    assert str(found.value).startswith(said), found.value
