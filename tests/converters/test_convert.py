"""`kff-convert`: any format into any other, and what it says."""

import csv
import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from kff_live.converters import livelink_csv, recording
from kff_live.converters.cli import main
from kff_live.converters.reading import Reading
from kff_live.converters.takes import FORMATS, opened
from kff_live.protocols.channels import COUNT, INDEX, pose_from_names
from kff_live.protocols.frames import Frame, FrameRate, timecode

FOLDER = Path(__file__).parent / "keyframeface"
FIRST = ((13 * 60 + 13) * 60 + 4) * 60 + 31
START = "13:13:04:31.652"
SUFFIX = {name: form.suffix for name, form in FORMATS.items()}
SUFFIX["keyframeface"], SUFFIX["keyframeface-csv"] = ".answers.jsonl", ".rows.csv"

Convert = Callable[..., str]


@pytest.fixture
def convert(capsys: pytest.CaptureFixture[str]) -> Convert:
    """Runs the command; returns what it says."""

    def run(*arguments: str | Path, status: int = 0) -> str:
        ended = main([str(argument) for argument in arguments])
        told = capsys.readouterr()
        assert (ended, told.out) == (status, ""), told
        assert "Traceback" not in told.err
        return told.err

    return run


def frames(count: int = 120, *, rate: FrameRate | None = None, subject: str = "Face") -> list[Frame]:
    """A mouth that opens and closes while it moves to its left, a head that turns."""
    made = []
    for i in range(count):
        turn = i / 60 * 3.0
        pose = pose_from_names(
            {"JawOpen": 0.4 - 0.4 * np.cos(turn), "MouthLeft": 0.5 - 0.5 * np.cos(turn), "HeadYaw": 0.3 * np.sin(turn)}
        )
        made.append(Frame(subject, FIRST + i, 0.652, rate or FrameRate(), pose))
    return made


def write_csv(path: Path, made: list[Frame], *, app_titles: bool = False) -> Path:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        livelink_csv.write(made, file, app_titles=app_titles)
    return path


def read(path: Path, name: str | None = None, **reading: object) -> list[Frame]:
    with opened(path, name, Reading(**reading)) as take:  # type: ignore[arg-type]
        return list(take.frames)


def poses(made: list[Frame]) -> NDArray[np.float32]:
    return np.array([frame.pose for frame in made], np.float32).reshape(-1, COUNT)


def codes(made: list[Frame]) -> list[str]:
    return [timecode(frame.number, frame.subframe, frame.rate) for frame in made]


@pytest.mark.parametrize(("source", "target"), list(itertools.product(FORMATS, FORMATS)), ids=lambda name: str(name))
def test_any_format_becomes_any_other(tmp_path: Path, convert: Convert, source: str, target: str) -> None:
    csv_path = write_csv(tmp_path / "first.csv", frames())
    one, two = tmp_path / f"one{SUFFIX[source]}", tmp_path / f"two{SUFFIX[target]}"
    convert(csv_path, one, "--to", source)
    convert(one, two, "--from", source, "--to", target)
    with opened(two, target) as take:
        found = list(take.frames), list(take.keyframes)
    assert bool(found[0]) == FORMATS[target].has_frames
    assert bool(found[1]) != FORMATS[target].has_frames


@pytest.mark.parametrize(("name", "most"), [("csv", 1e-9), ("jsonl", 5.1e-6), ("npy", 5e-7)])
def test_frames_come_back_within_what_the_format_carries(
    tmp_path: Path, convert: Convert, name: str, most: float
) -> None:
    made = frames()
    there, back = tmp_path / f"there{SUFFIX[name]}", tmp_path / "back.csv"
    convert(write_csv(tmp_path / "take.csv", made), there)
    convert(there, back)
    again = read(back)
    assert np.abs(poses(again) - poses(made)).max() <= most
    if FORMATS[name].has_times:
        assert codes(again) == codes(made)
    assert len(again) == len(made)


def test_thinned_frames_come_back_within_the_error_and_at_their_time(tmp_path: Path, convert: Convert) -> None:
    made = frames()
    take, text, back = write_csv(tmp_path / "take.csv", made), tmp_path / "take.kff", tmp_path / "back.csv"
    said = convert("thin", take, text, "--error", "0.05")
    assert "keyframes, 1.98 s from 13:13:04:31.652" in said
    assert "what was lost" in said
    assert "JawOpen" in said
    assert text.read_text(encoding="utf-8").startswith(f"# kff 1\n# timecode {START}\n")
    convert(text, back)
    again = read(back)
    assert codes(again) == codes(made)
    error = np.abs(poses(again) - poses(made))
    assert 0.0 < error.max() <= 0.05
    assert f"off by at most {error.max():.4f}" in said


@pytest.mark.parametrize("rate", ["30", "24", "29.97", "120"])
def test_a_rate_is_resampled_to_by_a_line_between_frames(tmp_path: Path, convert: Convert, rate: str) -> None:
    made = frames()
    out = tmp_path / "out.jsonl"
    convert(write_csv(tmp_path / "take.csv", made), out, "--fps", rate)
    again = read(out)
    assert again[0].rate == FrameRate.parse(rate)
    assert codes(again)[0] == START
    wanted = np.array([np.interp([f.seconds for f in again], [f.seconds for f in made], c) for c in poses(made).T]).T
    assert np.abs(poses(again) - wanted).max() < 1e-3  # a sub-frame of four digits is up to 0.8 us off


def test_a_held_frame_is_one_of_the_take(tmp_path: Path, convert: Convert) -> None:
    made = frames(20)
    out = tmp_path / "out.csv"
    convert(write_csv(tmp_path / "take.csv", made), out, "--fps", "240", "--method", "hold")
    held = poses(read(out))
    assert len(held) == 77
    assert np.abs(held - poses(made)[np.arange(77) // 4]).max() < 1e-9


def test_an_array_has_even_times_and_says_which(tmp_path: Path, convert: Convert) -> None:
    take = write_csv(tmp_path / "take.csv", frames(61))
    out, back = tmp_path / "take.npy", tmp_path / "back.csv"
    assert "--in-fps 20 reads it again" in convert(take, out, "--fps", "20")
    assert np.load(out).shape == (21, COUNT)
    convert(out, back, "--in-fps", "20")
    assert codes(read(back))[:2] == ["00:00:00:00.000", "00:00:00:03.000"]


def test_the_mouth_of_the_phone_app_is_put_right(tmp_path: Path, convert: Convert) -> None:
    made = [Frame("Face", 0, 0.0, FrameRate(), pose_from_names({"MouthLeft": 1.0}))]
    phone = write_csv(tmp_path / "MySlate_1_iPhone.csv", made, app_titles=True)
    with phone.open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["MouthLeft"], row["MouthRight"]) == ("0.0000000000", "1.0000000000")  # its titles lie
    right, again = tmp_path / "right.csv", tmp_path / "again.csv"
    convert(phone, right, "--app-titles")
    assert poses(read(right))[0, INDEX["MouthLeft"]] == 1.0
    convert(right, again, "--app-titles-out")
    assert again.read_bytes() == phone.read_bytes()
    convert(phone, tmp_path / "position.csv", "--by-position")
    assert poses(read(tmp_path / "position.csv"))[0, INDEX["MouthLeft"]] == 1.0


def test_the_subject_is_that_of_the_name_of_the_file(tmp_path: Path, convert: Convert) -> None:
    take = write_csv(tmp_path / "MySlate_3_Anna_cal.csv", frames(3))
    said = convert(take, tmp_path / "out.jsonl")
    assert {frame.subject for frame in read(tmp_path / "out.jsonl")} == {"Anna"}
    assert "note" not in said
    convert(tmp_path / "out.jsonl", tmp_path, "--slate", "Kff", "--take", "7")
    assert (tmp_path / "Kff_7_Anna.csv").exists()
    assert "Slate_1_Face.csv" in convert(take, tmp_path / "take.csv")


def test_one_of_several_subjects_is_chosen(tmp_path: Path, convert: Convert) -> None:
    source, out = tmp_path / "both.jsonl", tmp_path / "bo.csv"
    both = [frame for pair in zip(frames(9, subject="Anna"), frames(9, subject="Bo"), strict=True) for frame in pair]
    with source.open("w", encoding="utf-8", newline="\n") as file:
        recording.write(both, file)
    said = convert(source, out, status=2)
    assert said.startswith(f"kff-convert: {source}: line 3: a frame of 'Bo' besides those of 'Anna': choose a subject")
    assert not out.exists()
    assert "skipped: 9 frames of other subjects" in convert(source, out, "--subject", "Bo")
    assert len(read(out)) == 9


def test_rows_without_a_face_are_told(tmp_path: Path, convert: Convert) -> None:
    take = write_csv(tmp_path / "take.csv", frames(3))
    take.write_text(take.read_text() + "13:13:04:40.000,0\n" * 2)
    assert "skipped: 2 rows without a face" in convert(take, tmp_path / "out.jsonl")


def test_answers_of_keyframeface_become_their_csv_and_are_acted(tmp_path: Path, convert: Convert) -> None:
    rows, text, acted = tmp_path / "rows.csv", tmp_path / "take.kff", tmp_path / "acted.csv"
    convert(FOLDER / "answers.jsonl", rows, "--to", "keyframeface-csv")
    assert np.array_equal(poses(read(rows)), poses(read(FOLDER / "answers.csv")))
    assert codes(read(rows)) == ["00:00:00:00.000", "00:00:01:00.000"]
    convert(FOLDER / "conversations.jsonl", text)
    assert "The eyes open wide and the mouth falls open a little to...: " in text.read_text(encoding="utf-8")
    assert "eyepitch" not in text.read_text(encoding="utf-8")  # its sign is not Live Link's: eyes follow the gaze
    convert(FOLDER / "answers.jsonl", acted)
    assert len(read(acted)) == 121
    assert poses(read(acted))[60, INDEX["LeftEyePitch"]] == pytest.approx(-0.183, abs=1e-4)


def test_what_exists_is_kept_unless_forced(tmp_path: Path, convert: Convert) -> None:
    take, out = write_csv(tmp_path / "take.csv", frames(3)), tmp_path / "out.jsonl"
    out.write_text("precious")
    assert convert(take, out, status=2) == f"kff-convert: {out}: it exists; --force overwrites it\n"
    assert out.read_text() == "precious"
    convert(take, out, "--force")
    assert len(read(out)) == 3


def test_a_take_may_be_written_over_itself(tmp_path: Path, convert: Convert) -> None:
    take = write_csv(tmp_path / "take.csv", frames(61))
    convert(take, take, "--fps", "30", "--force")
    assert len(read(take)) == 31


def test_a_take_that_is_wrong_in_its_last_line_leaves_nothing(tmp_path: Path, convert: Convert) -> None:
    take = write_csv(tmp_path / "take.csv", frames(50))
    take.write_text(take.read_text() + "13:13:05:40.000,61,oops\n")
    said = convert(take, tmp_path / "out.jsonl", status=2)
    assert said == f"kff-convert: {take}: line 52, column 3: 3 cells, expected 63\n"
    assert [path.name for path in tmp_path.iterdir()] == ["take.csv"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("no.csv", "out.csv"), "no.csv: cannot be read: No such file"),
        (
            ("take.csv", "take"),
            "take: which format? Expected a name that ends with .csv, .jsonl, .npy, .kff, or",
        ),
        (("take.csv", "no/out.csv"), "cannot be written: No such file"),
        (("take.csv", "out.csv", "--fps", "fast"), "--fps: 'fast' is not a frame rate"),
        (("take.csv", "out.csv", "--in-fps", "0"), "--in-fps: '0' is not a frame rate"),
        (("take.csv", "out.kff", "--error", "2"), "take.csv: error: 2.0 is outside 0.001 to 1"),
        (("take.csv", ".", "--slate", "A_1_B"), "does not name the subject 'Face' to Unreal"),
        (("thin", "take.csv", "out.csv"), "thin: expected frames to keyframes, got csv to csv"),
        (("thin", "text.kff", "out.kff"), "thin: expected frames to keyframes, got kff to kff"),
        (("text.kff", "out.jsonl", "--to", "keyframeface", "--fps", "30"), "--fps: keyframes have no frames a second"),
        (("empty.csv", "out.kff"), "empty.csv: it holds no frame"),
        (("take.csv", "out.csv", "--from", "kff"), "take.csv: line 1, column 1: expected '# kff 1', got 'Timecode"),
        (("take.csv", "out.csv", "--from", "npy"), "take.csv: not a NumPy array: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_mistake_is_told_in_one_line(
    tmp_path: Path, convert: Convert, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_csv(Path("take.csv"), frames(3))
    write_csv(Path("empty.csv"), [])
    Path("text.kff").write_text("# kff 1\n4 jaw5\n")
    told = convert(*arguments, status=2)
    assert said in told
    assert told.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.csv", "take.csv", "text.kff"]


@pytest.mark.parametrize("arguments", [(), ("thin",)], ids=["convert", "thin"])
def test_the_help_names_every_format_and_imports_nothing_that_compiles(arguments: tuple[str, ...]) -> None:
    code = (
        f"import sys; from kff_live.converters.cli import main\ntry: main({[*arguments, '--help']!r})\n"
        "except SystemExit as ended: assert ended.code == 0\nassert 'numba' not in sys.modules"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert all(name in ended.stdout for name in FORMATS)
