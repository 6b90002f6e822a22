import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kff_live.converters import recording
from kff_live.converters.lines import Lines
from kff_live.converters.reading import Reading
from kff_live.protocols.channels import COUNT, LIVELINK, LIVELINK_CSV, neutral, pose_from_names, pose_to_names
from kff_live.protocols.errors import DecodeError
from kff_live.protocols.frames import Frame, FrameRate

Read = Callable[[str | bytes], Lines]
PLAIN = Reading()
NTSC = FrameRate(30000, 1001)

# Two frames of a recording, as text.
HEADER = json.dumps(
    {"format": "kff-live recording", "version": 1, "rate": "30000/1001", "channels": list(LIVELINK)},
    separators=(",", ":"),
)


def line(number: int = 10, subject: str = "Face", **changed: Any) -> str:
    made: dict[str, Any] = {
        "subject": subject, "timecode": "00:00:00:20.020", "frame": number, "subframe": 0.25, "id": "u-1", "key": 2,
        "values": [0.0] * COUNT,
    }  # fmt: skip
    return json.dumps(made | changed, separators=(",", ":"))


def take(*texts: str, header: str = HEADER) -> str:
    return "".join(text + "\n" for text in (header, *texts))


def test_what_is_written_is_read_again(lines: Read) -> None:
    frames = [
        Frame("Anna", 47, 0.0, NTSC, pose_from_names({"MouthLeft": 1.0, "HeadYaw": -0.25}), "u-1", 3),
        Frame("Anna", 49, 0.98765, NTSC, pose_from_names({"JawOpen": 0.123456789})),
    ]
    file = io.StringIO()
    assert recording.write(frames, file) == 2
    one, two = recording.read(lines(file.getvalue()), PLAIN)
    assert (one.subject, one.number, one.subframe, one.rate, one.utterance, one.key) == (
        "Anna",
        47,
        0.0,
        NTSC,
        "u-1",
        3,
    )
    assert pose_to_names(one.pose) == {"MouthLeft": 1.0, "HeadYaw": -0.25}
    assert (two.number, two.subframe, two.utterance, two.key) == (49, 0.9877, None, -1)
    assert np.abs(two.pose - frames[1].pose).max() <= 5e-6


def test_a_line_is_what_it_says(lines: Read) -> None:
    (frame,) = recording.read(lines(take(line())), PLAIN)
    assert recording.header(NTSC) == HEADER + "\n"
    assert json.loads(recording.line(frame)) == json.loads(line()) | {"timecode": "00:00:00:20.520"}


def test_a_sub_frame_that_rounds_to_a_whole_frame_stays_below(lines: Read) -> None:
    file = io.StringIO()
    recording.write([Frame("Face", 1, 0.99999, FrameRate(), neutral())], file)
    (frame,) = recording.read(lines(file.getvalue()), PLAIN)
    assert (frame.number, frame.subframe) == (1, 0.9999)


def test_an_empty_recording_is_one_of_no_frames(lines: Read) -> None:
    file = io.StringIO()
    assert recording.write([], file) == 0
    assert list(recording.read(lines(file.getvalue()), PLAIN)) == []


def test_channels_are_read_by_name(lines: Read) -> None:
    header = HEADER.replace(json.dumps(list(LIVELINK), separators=(",", ":")), json.dumps(list(LIVELINK_CSV)))
    values = [1.0 if name == "MouthLeft" else 0.0 for name in LIVELINK_CSV]
    (frame,) = recording.read(lines(take(line(values=values), header=header)), PLAIN)
    assert pose_to_names(frame.pose) == {"MouthLeft": 1.0}


def test_one_of_several_subjects_is_read(lines: Read) -> None:
    text = take(line(1, "Anna"), line(1, "Bo"), line(2, "Anna"), line(2, "Bo"))
    read = lines(text)
    assert [(f.subject, f.number) for f in recording.read(read, Reading(subject="Bo"))] == [("Bo", 1), ("Bo", 2)]
    assert read.skipped == 2
    with pytest.raises(DecodeError, match=r"^line 3: a frame of 'Bo' besides those of 'Anna': choose a subject$"):
        list(recording.read(lines(text), PLAIN))
    with pytest.raises(DecodeError, match=r"^no frame of 'Cy'; there are those of Anna, Bo$"):
        list(recording.read(lines(text), Reading(subject="Cy")))


def test_a_time_is_told_at_another_rate() -> None:
    frame = Frame("Face", 30, 0.5, FrameRate(30), neutral())
    other = recording.at_rate(frame, FrameRate(120))
    assert (other.number, other.subframe, other.rate) == (122, 0.0, FrameRate(120))
    assert recording.at_rate(frame, FrameRate(30)) is frame


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1, column 1: Input data was truncated"),
        ("{}\n", "line 1, column 1: Object missing required field `format`"),
        ("[1]\n", "line 1, column 1: Expected `object`, got `array`"),
        ('{"format": "kff-live recording", "version" 1}\n', "line 1, column 44: JSON is malformed"),
        (HEADER.replace("recording", "film") + "\n", "line 1: expected 'kff-live recording' version 1, got 'kff-liv"),
        (HEADER.replace('"version":1', '"version":2') + "\n", "line 1: expected 'kff-live recording' version 1, got "),
        (HEADER.replace("30000/1001", "0") + "\n", "line 1 (rate): '0' is not a frame rate"),
        (HEADER.replace("JawOpen", "JawOpn") + "\n", "line 1 (channels): unknown channel 'JawOpn'"),
        (HEADER.replace("JawOpen", "JawLeft") + "\n", "line 1 (channels): a channel is there twice"),
        (take(line(), "{"), "line 3, column 1: Input data was truncated"),
        (take(line(), line()[:300]), "line 3, column 1: Input data was truncated"),
        (take(line() + "}"), "line 2, column 350: JSON is malformed: trailing"),
        (take(line(frame="x")), "line 2 (frame): Expected `int`, got `str`"),
        (take(line(values=[0.0] * 16 + ["x"])), "line 2 (values[16]): Expected `float`, got `str`"),
        (take(line(values=[0.0] * 60)), "line 2 (values): 60 values, expected 61"),
        (take(line(values=[0.0] * 17 + [37.5] + [0.0] * 43)), "line 2 (values[17], JawOpen): 37.5 is outside "),
        (take(line(subframe=1.0)), "line 2: frame 10, sub-frame 1.0 is not after the line above"),
        (take(line(10), line(9)), "line 3: frame 9, sub-frame 0.25 is not after the line above"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place(lines: Read, text: str, said: str) -> None:
    with pytest.raises(DecodeError) as found:
        list(recording.read(lines(text), PLAIN))
    assert str(found.value).startswith(said), found.value
