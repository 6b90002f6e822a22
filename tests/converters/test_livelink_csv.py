import contextlib
import csv
import io
import locale
from collections.abc import Callable
from pathlib import Path, PurePath

import numpy as np
import pytest

from kff_live.converters import livelink_csv
from kff_live.converters.lines import Lines
from kff_live.converters.livelink_csv import TakeName
from kff_live.converters.reading import Reading
from kff_live.protocols.channels import COUNT, INDEX, LIVELINK, Pose, neutral, pose_from_names, pose_to_names
from kff_live.protocols.errors import DecodeError, UserError
from kff_live.protocols.frames import Frame, FrameRate, timecode

Read = Callable[[str | bytes], Lines]

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


# --- reading ------------------------------------------------------------------------------------------------------

PLAIN = Reading()


def take(*rows: str, header: str = APP_HEADER) -> str:
    return "".join(line + "\n" for line in (header, *rows))


def row(timecode: str = "13:13:04:31.652", count: str = "61", **values: str) -> str:
    """A row as the app writes it, under its titles; what is not named is 0."""
    return ",".join([timecode, count, *(values.get(title, "0.0000000000") for title in APP_HEADER.split(",")[2:])])


def named(frame: Frame) -> dict[str, float]:
    return pose_to_names(frame.pose)


@pytest.mark.parametrize("title", ["BlendshapeCount", "BlendShapeCount", "blendshapecount"])
def test_either_spelling_of_the_header_is_read(lines: Read, title: str) -> None:
    header = APP_HEADER.replace("BlendshapeCount", title)
    (frame,) = livelink_csv.read(lines(take(row(JawOpen="0.5"), header=header)), PLAIN)
    assert (frame.subject, frame.rate, named(frame)) == ("Face", FrameRate(60), {"JawOpen": 0.5})
    assert timecode(frame.number, frame.subframe, frame.rate) == "13:13:04:31.652"


@pytest.mark.parametrize(
    ("reading", "lateral"),
    [
        (PLAIN, {"MouthLeft": 1.0, "JawLeft": 0.5}),  # by title
        (Reading(app_titles=True), {"MouthRight": 1.0, "JawLeft": 0.5}),  # the app's mouth is the other way round
        (Reading(by_position=True), {"MouthRight": 1.0, "JawRight": 0.5}),  # Unreal's order
    ],
    ids=["by title", "app titles", "by position"],
)
def test_the_mouth_goes_to_the_side_that_the_reading_says(
    lines: Read, reading: Reading, lateral: dict[str, float]
) -> None:
    (frame,) = livelink_csv.read(lines(take(row(MouthLeft="1.0", JawLeft="0.5"))), reading)
    assert named(frame) == lateral


@pytest.mark.parametrize("name", LIVELINK)
@pytest.mark.parametrize("app_titles", [False, True])
def test_a_side_of_its_own_comes_back_as_it_went(lines: Read, name: str, app_titles: bool) -> None:
    file = io.StringIO()
    livelink_csv.write([Frame("Face", 7, 0.5, FrameRate(), pose_from_names({name: 1.0}))], file, app_titles=app_titles)
    (frame,) = livelink_csv.read(lines(file.getvalue()), Reading(app_titles=app_titles))
    assert named(frame) == {name: 1.0}


def test_a_take_for_readers_of_the_apps_files_has_the_apps_mouth() -> None:
    file = io.StringIO()
    livelink_csv.write([Frame("Face", 0, 0.0, FrameRate(), pose_from_names({"MouthLeft": 1.0}))], file, app_titles=True)
    (found,) = rows(file.getvalue())
    assert (found["MouthLeft"], found["MouthRight"]) == ("0.0000000000", "1.0000000000")
    cells = file.getvalue().split("\n")[1].split(",")
    assert cells[2 + INDEX["MouthLeft"]] == "1.0000000000"  # where Unreal's order has it, under the title MouthRight


def test_columns_may_stand_in_any_order_and_be_missing(lines: Read) -> None:
    text = "Timecode,BlendshapeCount,HeadYaw,jawOpen\n00:00:00:00.000,2,-0.25,0.5\n"
    (frame,) = livelink_csv.read(lines(text), PLAIN)
    assert named(frame) == {"JawOpen": 0.5, "HeadYaw": -0.25}


@pytest.mark.parametrize(
    "names",
    [
        # MediaPipe without its _neutral, in its order; no tongueOut.
        ["browDownLeft", "browDownRight", "browInnerUp", "jawForward", "jawLeft", "jawOpen", "jawRight", "mouthClose"],
        # Audio2Face, whose jaw has an order of its own; no head.
        ["EyeBlinkLeft", "EyeLookDownLeft", "JawForward", "JawLeft", "JawRight", "JawOpen", "MouthClose", "TongueOut"],
    ],
    ids=["MediaPipe", "Audio2Face"],
)
def test_what_other_programs_write_goes_by_its_name(lines: Read, names: list[str]) -> None:
    values = [round(0.1 * i, 1) for i in range(1, len(names) + 1)]
    text = f"Timecode,BlendshapeCount,{','.join(names)}\n00:00:00:00.000,{len(names)},{','.join(map(str, values))}\n"
    (frame,) = livelink_csv.read(lines(text), PLAIN)
    expected = {name[0].upper() + name[1:]: value for name, value in zip(names, values, strict=True)}
    assert named(frame) == pytest.approx(expected)


def test_a_title_that_is_no_channel_is_refused_and_shifts_nothing(lines: Read) -> None:
    text = "Timecode,BlendshapeCount,_neutral,browDownLeft\n00:00:00:00.000,2,0.000001,0.5\n"
    with pytest.raises(DecodeError, match="line 1, column 3: unknown channel '_neutral'"):
        list(livelink_csv.read(lines(text), PLAIN))


def test_windows_line_ends_a_bom_and_blank_lines_do_no_harm(lines: Read) -> None:
    text = "\ufeff" + take(row(JawOpen="0.5"), "", row("13:13:04:33.000")).replace("\n", "\r\n")
    assert [named(frame) for frame in livelink_csv.read(lines(text), PLAIN)] == [{"JawOpen": 0.5}, {}]


def test_values_that_the_app_overshoots_are_kept(lines: Read) -> None:
    (frame,) = livelink_csv.read(lines(take(row(EyeLookInLeft="1.0500000000", JawOpen="-1e-3"))), PLAIN)
    assert frame.pose[INDEX["EyeLookInLeft"]] == np.float32(1.05)
    assert frame.pose[INDEX["JawOpen"]] == np.float32(-0.001)


@pytest.mark.parametrize("faceless", ["13:13:04:33.652,0", "13:13:04:33.652,0" + "," * 61])
def test_rows_without_a_face_are_skipped_and_counted(lines: Read, faceless: str) -> None:
    read = lines(take(row(), faceless, row("13:13:04:35.652")))
    numbers = [frame.number for frame in livelink_csv.read(read, PLAIN)]
    assert (numbers[1] - numbers[0], read.skipped) == (4, 1)


def test_a_take_of_30_frames_a_second_goes_in_steps_of_two(lines: Read) -> None:
    text = take(row("13:13:04:31.652"), row("13:13:04:33.651"), row("13:13:04:35.650"))
    seconds = [frame.seconds for frame in livelink_csv.read(lines(text), PLAIN)]
    assert np.diff(seconds) == pytest.approx([1.999 / 60] * 2)


def test_numbers_rise_over_midnight_and_come_out_as_the_same_timecodes(lines: Read) -> None:
    codes = ["23:59:59:59.500", "00:00:00:00.500", "00:00:00:01.500"]
    frames = list(livelink_csv.read(lines(take(*map(row, codes))), PLAIN))
    assert np.diff([frame.number for frame in frames]).tolist() == [1, 1]
    assert [timecode(frame.number, frame.subframe, frame.rate) for frame in frames] == codes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1, column 1: expected the title 'Timecode', got ''"),
        ("EyeBlinkLeft,JawOpen\n", "line 1, column 1: expected the title 'Timecode', got 'EyeBlinkLeft'"),
        # The engine's own iOS writer, which its importer does not read either.
        ("Timecode, FrameRate, JawOpen\n", "line 1, column 2: expected the title 'BlendshapeCount', got 'FrameRate'"),
        ("Timecode,BlendshapeCount\n", "line 1, column 2: no column holds values"),
        ("Timecode,BlendshapeCount,JawOpn\n", "line 1, column 3: unknown channel 'JawOpn': expected one of the 61"),
        ("Timecode,BlendshapeCount,JawOpen,JawOpen\n", "line 1, column 4: the title 'JawOpen' is there twice"),
        ("Timecode;BlendshapeCount;JawOpen\n", "line 1, column 1: expected the title 'Timecode', got 'Timecode;Bl"),
        (take(row() + ",0.0"), "line 2, column 63: 64 cells, expected 63"),
        (take(row(), row()[: -len(",0.0000000000")]), "line 3, column 62: 62 cells, expected 63"),
        (take(row(JawOpen="")), "line 2, column 20 (JawOpen): the cell is empty"),
        (take(row(JawOpen="0,5")), "line 2, column 63: 64 cells, expected 63"),  # a decimal comma
        (take(row(JawOpen="half")), "line 2, column 20 (JawOpen): 'half' is not a number"),
        (take(row(JawOpen="nan")), "line 2, column 20 (JawOpen): 'nan' is not a number"),
        (take(row(JawOpen="inf")), "line 2, column 20 (JawOpen): 'inf' is not a number"),
        (take(row(JawOpen="1_0")), "line 2, column 20 (JawOpen): '1_0' is not a number"),
        (take(row(JawOpen="\u0661")), "line 2, column 20 (JawOpen): '\u0661' is not a number"),
        (take(row(JawOpen="37.5")), "line 2, column 20 (JawOpen): 37.5 is outside -10 to 10: expected a coefficient"),
        (take(row("13:13:04")), "line 2, column 1 (Timecode): '13:13:04' is not a timecode: expected HH:MM:SS:FF.mmm"),
        (take(row("13:13:04:60.000")), "line 2, column 1 (Timecode): '13:13:04:60.000' is not a timecode"),
        (take(row("00:00:02:00"), row("00:00:01:59")), "line 3, column 1 (Timecode): 00:00:01:59 is before the"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_line_column_and_title(lines: Read, text: str, said: str) -> None:
    with pytest.raises(DecodeError) as found:
        list(livelink_csv.read(lines(text), PLAIN))
    assert str(found.value).startswith(said)


def test_by_position_there_must_be_61_columns_of_any_title(lines: Read) -> None:
    header = "Timecode,BlendshapeCount," + ",".join(f"c{i}" for i in range(COUNT))
    (frame,) = livelink_csv.read(lines(take(row(), header=header)), Reading(by_position=True))
    assert named(frame) == {}
    with pytest.raises(DecodeError, match=r"^line 1, column 62: 62 columns: by position 63 are expected"):
        list(livelink_csv.read(lines(take(header=header.rpartition(",")[0])), Reading(by_position=True)))


def test_a_locale_with_a_decimal_comma_changes_nothing() -> None:
    before = locale.setlocale(locale.LC_ALL)
    try:
        for name in ("de_DE.UTF-8", "fr_FR.UTF-8", "German_Germany.1252"):  # whichever is installed
            with contextlib.suppress(locale.Error):
                locale.setlocale(locale.LC_ALL, name)
        (found,) = rows(written(pose_from_names({"JawOpen": 0.5})))
        assert found["JawOpen"] == "0.5000000000"
    finally:
        locale.setlocale(locale.LC_ALL, before)


# --- Unreal's importer --------------------------------------------------------------------------------------------


def unreal(name: str, text: str) -> tuple[str, list[float], dict[str, list[float]]]:
    """What Unreal's importer makes of a file, by its source: subject, seconds, and values by property."""
    cut = [[cell for cell in line.split(",") if cell] for line in text.split("\n") if line]  # it drops empty cells
    titles = cut[0]
    assert [title.lower() for title in titles[:2]] == ["timecode", "blendshapecount"]
    assert len(titles) >= 3
    seconds = []
    for cells in cut[1:]:
        assert len(cells) == len(titles)
        hours, minutes, whole, frames = cells[0].split(":")
        seconds.append(3600 * int(hours) + 60 * int(minutes) + int(whole) + float(frames) / 60)
    stem = name.removesuffix(".csv")
    for variant in ("_cal", "_raw", "_neutral"):
        stem = stem.removesuffix(variant)
    parts = stem.split("_")
    if len(parts) > 3:
        parts = ["", "", "_".join(parts[next(i for i, part in enumerate(parts) if part.isdigit()) + 1 :])]
    values = {title: [float(cells[i]) for cells in cut[1:]] for i, title in enumerate(titles) if i >= 2}
    return parts[2], seconds, values


def test_unreals_importer_takes_what_is_written() -> None:
    poses = [pose_from_names({"MouthLeft": 1.0, "HeadYaw": -0.5}), neutral()]
    name = TakeName("Kff", 12, "Anna").file()
    subject, seconds, values = unreal(name, written(*poses, rate=FrameRate(30), first=90))
    assert (name, subject) == ("Kff_12_Anna.csv", "Anna")
    assert seconds == pytest.approx([3.0, 3.0 + 1 / 30])
    assert sorted(values) == sorted(LIVELINK)
    assert {title for title, column in values.items() if column[0]} == {"MouthLeft", "HeadYaw"}


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        ("MySlate_3_iPhone.csv", "iPhone"),
        ("MySlate_3_iPhone_cal.csv", "iPhone"),
        ("MySlate_3_iPhone_raw.csv", "iPhone"),
        ("MySlate_3_iPhone_neutral.csv", "iPhone"),
        ("My_Slate_3_My_iPhone.csv", "My_iPhone"),
        ("take.csv", ""),
        ("take_1.csv", ""),
        ("a_b_c_d.csv", ""),
    ],
)
def test_the_subject_is_in_the_name_of_the_file(name: str, subject: str) -> None:
    assert livelink_csv.subject_of(PurePath("folder") / name) == subject
    if subject:
        assert unreal(name, APP_HEADER)[0] == subject


@pytest.mark.parametrize(
    "name",
    [
        TakeName("My_2_Slate", 3, "Face"), TakeName("", 1, "Face"), TakeName("Kff", 1, "Face_cal"),
        TakeName("Kff", -1, "A_B"), TakeName("../Kff", 1, "Face"), TakeName("Kff", 1, "a/b"), TakeName("Kff", 1, ""),
    ],
)  # fmt: skip
def test_a_name_from_which_unreal_reads_another_subject_is_refused(name: TakeName) -> None:
    with pytest.raises(UserError, match="does not name the subject"):
        name.file()
