import csv
import io
from pathlib import Path

import numpy as np
import pytest

from kff_live.converters import livelink_csv
from kff_live.protocols.channels import COUNT, INDEX, LIVELINK, Pose, neutral, pose_from_names
from kff_live.protocols.frames import Frame, FrameRate

# The first line of a take of the Live Link Face app, as the app writes it.
APP_HEADER = (
    "Timecode,BlendshapeCount,EyeBlinkLeft,EyeLookDownLeft,EyeLookInLeft,EyeLookOutLeft,EyeLookUpLeft,EyeSquintLeft,"
    "EyeWideLeft,EyeBlinkRight,EyeLookDownRight,EyeLookInRight,EyeLookOutRight,EyeLookUpRight,EyeSquintRight,"
    "EyeWideRight,JawForward,JawRight,JawLeft,JawOpen,MouthClose,MouthFunnel,MouthPucker,MouthRight,MouthLeft,"
    "MouthSmileLeft,MouthSmileRight,MouthFrownLeft,MouthFrownRight,MouthDimpleLeft,MouthDimpleRight,MouthStretchLeft,"
    "MouthStretchRight,MouthRollLower,MouthRollUpper,MouthShrugLower,MouthShrugUpper,MouthPressLeft,MouthPressRight,"
    "MouthLowerDownLeft,MouthLowerDownRight,MouthUpperUpLeft,MouthUpperUpRight,BrowDownLeft,BrowDownRight,BrowInnerUp,"
    "BrowOuterUpLeft,BrowOuterUpRight,CheekPuff,CheekSquintLeft,CheekSquintRight,NoseSneerLeft,NoseSneerRight,"
    "TongueOut,HeadYaw,HeadPitch,HeadRoll,LeftEyeYaw,LeftEyePitch,LeftEyeRoll,RightEyeYaw,RightEyePitch,RightEyeRoll"
)


def written(*poses: Pose, rate: FrameRate | None = None, first: int = 0, subframe: float = 0.0) -> str:
    file = io.StringIO()
    frames = [Frame("Face", first + i, subframe, rate or FrameRate(), pose) for i, pose in enumerate(poses)]
    assert livelink_csv.write(frames, file) == len(poses)
    return file.getvalue()


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_header_is_the_apps() -> None:
    assert written() == APP_HEADER + "\n"
    assert len(livelink_csv.HEADER) == 63
    assert sorted(livelink_csv.HEADER[2:]) == sorted(LIVELINK)


def test_a_row_is_timecode_count_and_61_values_of_ten_decimals() -> None:
    pose = neutral()
    pose[:4] = (1.0, 0.5, 1 / 3, 1e-6)
    pose[INDEX["HeadYaw"]] = -0.25
    text = written(pose, first=90061)
    line = text.split("\n")[1]
    cells = line.split(",")
    assert len(cells) == 63
    assert cells[:6] == ["00:25:01:01.000", "61", "1.0000000000", "0.5000000000", "0.3333333433", "0.0000010000"]
    assert cells[2 + INDEX["HeadYaw"]] == "-0.2500000000"
    assert all(len(cell.partition(".")[2]) == 10 for cell in cells[2:])


def test_lines_end_with_a_line_feed_and_no_cell_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "take.csv"
    with path.open("w", encoding="utf-8", newline="\n") as file:
        livelink_csv.write([Frame("Face", i, 0.0, FrameRate(), neutral()) for i in range(5)], file)
    data = path.read_bytes()
    assert data.endswith(b"\n")
    assert b"\r" not in data
    assert b" " not in data
    assert b'"' not in data
    lines = data.decode().split("\n")
    assert len(lines) == 7
    assert all(cell for line in lines[:-1] for cell in line.split(","))


@pytest.mark.parametrize("name", LIVELINK)
def test_every_value_stands_under_its_own_title(name: str) -> None:
    (row,) = rows(written(pose_from_names({name: 1.0})))
    assert {title for title, cell in row.items() if cell == "1.0000000000"} == {name}


def test_mouth_left_stands_where_the_app_has_it() -> None:
    cells = written(pose_from_names({"MouthLeft": 1.0, "JawRight": 0.5})).split("\n")[1].split(",")
    assert (cells[23], cells[24]) == ("0.0000000000", "1.0000000000")
    assert (cells[17], cells[18]) == ("0.5000000000", "0.0000000000")


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (FrameRate(60), ["00:00:00:00.000", "00:00:00:01.000", "00:00:00:02.000"]),
        (FrameRate(30), ["00:00:00:00.000", "00:00:00:02.000", "00:00:00:04.000"]),
        (FrameRate(24), ["00:00:00:00.000", "00:00:00:02.500", "00:00:00:05.000"]),
        (FrameRate(30000, 1001), ["00:00:00:00.000", "00:00:00:02.002", "00:00:00:04.004"]),
    ],
    ids=str,
)
def test_timecodes_count_60ths_of_a_second_at_every_rate(rate: FrameRate, expected: list[str]) -> None:
    assert [row["Timecode"] for row in rows(written(*[neutral()] * 3, rate=rate))] == expected


def test_timecodes_carry_the_sub_frame_and_the_time_of_day() -> None:
    (row,) = rows(written(neutral(), first=47584 * 60 + 31, subframe=0.652))
    assert row["Timecode"] == "13:13:04:31.652"


def test_unreals_importer_reads_the_times_back() -> None:
    # It splits at ':' and takes the last part as 60ths of a second, whatever the rate.
    rate = FrameRate(30000, 1001)
    times = []
    for row in rows(written(*[neutral()] * 2000, rate=rate)):
        hours, minutes, seconds, sixtieths = row["Timecode"].split(":")
        times.append(3600 * int(hours) + 60 * int(minutes) + int(seconds) + float(sixtieths) / 60)
    assert np.allclose(times, np.arange(2000) * rate.period, atol=1e-5)


def test_the_count_is_61_in_every_row() -> None:
    assert {row["BlendshapeCount"] for row in rows(written(*[neutral()] * 3))} == {str(COUNT)}
