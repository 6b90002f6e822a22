import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

from kff_live.converters.livelink_csv import HEADER
from kff_live.protocols.channels import COUNT, INDEX, LIVELINK, Pose
from kff_live.protocols.keyframe_text import parse_file
from kff_live.runtime.cli import main
from kff_live.runtime.config import Config
from kff_live.runtime.render import Renderer

KEYFRAMES = """# kff 1
smile: 5+5 smile8 yaw-3
brows: 4+6 sine browinner7 browouterL9
# a comment

calm: 10 linear smile2
"""
RELEASE = 0.6


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder whose config.toml asks for no model."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.toml").write_text('[model]\nengine = "none"\n')
    return tmp_path


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def take(path: Path) -> Pose:
    """float32[frames, 61] in canonical order, read by title."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        assert tuple(reader.fieldnames or ()) == HEADER
        return np.array([[float(row[name]) for name in LIVELINK] for row in reader], np.float32)


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line with which the command ends in exit status 2."""
    assert main(["render", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("kff-live: ")
    assert said.err.count("\n") == 1
    return said.err.removeprefix("kff-live: ").rstrip("\n")


@pytest.mark.parametrize(("fps", "hz"), [("60", 60.0), ("30", 30.0), ("24", 24.0), ("29.97", 30000 / 1001)])
def test_a_take_of_a_keyframe_file_has_its_peaks_and_is_neutral_at_both_ends(folder: Path, fps: str, hz: float) -> None:
    source = write(folder / "k.kff", KEYFRAMES)
    assert main(["render", "--keyframes", source, "-o", "take.csv", "--fps", fps]) == 0
    x = take(folder / "take.csv")
    seconds = 1.0 + 1.0 + 1.0 + RELEASE
    assert len(x) == math.ceil(seconds * hz - 1e-6) + 1
    assert not x[0].any()
    assert not x[-1].any()
    keyframes = parse_file(KEYFRAMES)
    for keyframe, arrival in zip(keyframes, (0.5, 1.4, 3.0), strict=True):
        at = math.ceil(arrival * hz - 1e-6)
        if arrival < 3.0 or math.isclose(at, arrival * hz):  # the last one has no hold: it is passed between frames
            assert np.allclose(x[at], keyframe.pose, atol=1e-6)
    assert x.max(axis=0)[INDEX["MouthSmileLeft"]] == pytest.approx(0.8)
    assert x.min(axis=0)[INDEX["HeadYaw"]] == pytest.approx(-0.3)
    still = [i for i in range(COUNT) if not any(k.pose[i] for k in keyframes)]
    assert not x[:, still].any()


def test_timecodes_begin_at_zero_and_step_by_the_rate(folder: Path) -> None:
    main(["render", "--keyframes", write(folder / "k", KEYFRAMES), "-o", "take.csv", "--fps", "30"])
    lines = (folder / "take.csv").read_text().split("\n")
    assert [line.split(",")[0] for line in lines[1:4]] == ["00:00:00:00.000", "00:00:00:02.000", "00:00:00:04.000"]
    assert lines[-1] == ""


@pytest.mark.parametrize(("intensity", "smile"), [("0", 0.0), ("0.5", 0.4), ("1", 0.8), ("2", 1.0)])
def test_intensity(folder: Path, intensity: str, smile: float) -> None:
    source = write(folder / "k", KEYFRAMES)
    assert main(["render", "--keyframes", source, "-o", "take.csv", "--intensity", intensity]) == 0
    assert take(folder / "take.csv").max(axis=0)[INDEX["MouthSmileRight"]] == pytest.approx(smile)


def test_a_jump_at_the_very_beginning_still_starts_neutral(folder: Path) -> None:
    source = write(folder / "k", "# kff 1\n0+5 smile8\n0+5 step jaw5\n")
    assert main(["render", "--keyframes", source, "-o", "take.csv"]) == 0
    x = take(folder / "take.csv")
    assert not x[0].any()
    assert not x[-1].any()
    assert x.max(axis=0)[INDEX["MouthSmileLeft"]] == pytest.approx(0.8)


def test_the_same_keyframes_give_the_same_bytes(folder: Path) -> None:
    source = write(folder / "k", KEYFRAMES)
    for name in ("a.csv", "b.csv"):
        main(["render", "--keyframes", source, "-o", name])
    assert (folder / "a.csv").read_bytes() == (folder / "b.csv").read_bytes()


def test_print_shows_the_keyframes_as_acted_and_can_be_rendered_again(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(folder / "k", KEYFRAMES)
    assert main(["render", "--keyframes", source, "-o", "a.csv", "--print", "--intensity", "0.5"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("# kff 1\nsmile: 5+5 smile4 yaw-1.5\n")
    assert main(["render", "--keyframes", write(folder / "shown", shown), "-o", "b.csv"]) == 0
    assert np.allclose(take(folder / "a.csv"), take(folder / "b.csv"), atol=1e-4)


def test_print_needs_no_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", "What a day!", "--print"]) == 0
    assert capsys.readouterr().out == "# kff 1\n4+4 smile5\n"


def test_a_text_is_rendered(folder: Path) -> None:
    assert main(["render", "What a day!", "-o", "take.csv"]) == 0
    x = take(folder / "take.csv")
    assert len(x) == round((0.8 + RELEASE) * 60) + 1
    assert x[24][INDEX["MouthSmileLeft"]] == pytest.approx(0.5)


def test_a_long_text_is_rendered_in_segments(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", "This is a sentence of a certain length, is it not? " * 20, "--print"]) == 0
    assert capsys.readouterr().out.count("smile5") == 5


def test_the_subjects_gain_is_rendered(folder: Path) -> None:
    write(folder / "config.toml", '[model]\nengine = "none"\n[[subjects]]\nrelease = 1.0\ngain = { HeadYaw = -1.0 }\n')
    source = write(folder / "k", KEYFRAMES)
    assert main(["render", "--keyframes", source, "-o", "take.csv"]) == 0
    x = take(folder / "take.csv")
    assert x.max(axis=0)[INDEX["HeadYaw"]] == pytest.approx(0.3)
    assert len(x) == 4 * 60 + 1


def test_frames_are_numbered_from_zero() -> None:
    config = Config()
    frames = Renderer(config, config.rate).frames(parse_file(KEYFRAMES))
    assert [frame.number for frame in frames] == list(range(len(frames)))
    assert all(frame.subframe == 0.0 for frame in frames)


# --- what is wrong with one


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: expected '# kff 1', got ''"),
        ("4+4 smile5\n", "line 1: expected '# kff 1'"),
        ("# kff 1\n", "it holds no keyframe"),
        ("# kff 1\n4+4 smile5\n4+4 grin5\n", "line 3: 'grin5'"),
        ("# kff 1\n4+4 smile11\n", "line 2: 'smile11'"),
        ("# kff 1\n121 smile1\n", "line 2: '121'"),
        ("# kff 1\n4 smile1 smile2\n", "line 2: 'smile2'"),
    ],
)
def test_a_keyframe_file_that_cannot_be_read_names_its_line(
    folder: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    source = write(folder / "bad.kff", text)
    assert fails(capsys, "--keyframes", source, "-o", "take.csv").startswith(f"{source}: {said}")
    assert not (folder / "take.csv").exists()


def test_files_that_are_not_there_or_not_text(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "binary").write_bytes(b"\xff\xfe\0")
    source = write(folder / "k", KEYFRAMES)
    assert fails(capsys, "--keyframes", "missing", "-o", "t") == "missing: cannot be read: No such file or directory"
    assert fails(capsys, "--keyframes", "binary", "-o", "t") == "binary: it is not UTF-8"
    assert fails(capsys, "--keyframes", source, "-o", "no/t.csv").startswith("no/t.csv: cannot be written: ")
    assert fails(capsys, "--batch", "missing", "-o", "t") == "missing: cannot be read: No such file or directory"
    assert fails(capsys, "--batch", "binary", "-o", "t") == "binary: it is not UTF-8"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "render: expected one of TEXT, --batch FILE or --keyframes FILE"),
        (("text", "--keyframes", "k", "-o", "t"), "render: expected one of"),
        (("text",), "render: expected -o PATH or --print"),
        (("--batch", "b", "--print"), "render: expected -o PATH"),
        (("text", "-o", "t", "--fps", "abc"), "--fps: 'abc' is not a frame rate"),
        (("text", "-o", "t", "--fps", "0"), "--fps: '0' is not a frame rate"),
        (("text", "-o", "t", "--intensity", "2.5"), "--intensity: 2.5 is outside 0 to 2"),
        (("text", "-o", "t", "--intensity", "nan"), "--intensity: nan is outside 0 to 2"),
        ((" ", "-o", "t"), "text: it is empty"),
        (("x" * 2001, "-o", "t"), "text: 2001 characters, at most 2000"),
        (("caf\udce9", "-o", "t"), "text: it is not valid Unicode"),
        (("text", "-o", "t", "--emotion", "x" * 2001), "emotion: 2001 characters"),
    ],
)
def test_wrong_options(folder: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str) -> None:
    assert fails(capsys, *arguments).startswith(said)


# --- batches


def test_a_batch_writes_a_take_a_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines: list[dict[str, object]] = [
        {"id": "one", "text": "Hello"},
        {"id": 2, "text": "Hi\u2028there", "background": "b", "emotion": "e", "descriptions": ["d"], "unknown": [1]},
        {"id": "three.v1_a-b", "text": "Bye"},
    ]
    text = "\n\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    assert main(["render", "--batch", write(folder / "b.jsonl", "\ufeff" + text), "-o", "out/deep"]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "3/3" in said.err
    assert sorted(path.name for path in (folder / "out/deep").iterdir()) == ["2.csv", "one.csv", "three.v1_a-b.csv"]
    for path in (folder / "out/deep").iterdir():
        assert take(path).max() == pytest.approx(0.5)


def test_a_batch_may_be_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(folder / "b", '{"id":"a","text":"x"}\r\n{"id":"b","text":"y"}\r\n')
    assert main(["render", "--batch", source, "-o", "out", "--print"]) == 0
    assert capsys.readouterr().out == "# a\n4+4 smile5\n# b\n4+4 smile5\n"


GOOD = '{"id":"a","text":"x"}\n'


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2: "),
        ("[]", "line 2: Expected `object`"),
        ('{"text":"x"}', "line 2: Object missing required field `id`"),
        ('{"id":"b"}', "line 2: Object missing required field `text`"),
        ('{"id":"b","text":5}', "line 2: Expected `str`, got `int` - at `$.text`"),
        ('{"id":"b","text":"x","emotion":[]}', "line 2: Expected `str`, got `array` - at `$.emotion`"),
        ('{"id":"b","text":" "}', "line 2: text: it is empty"),
        ('{"id":true,"text":"x"}', "line 2: Expected `int | str`, got `bool` - at `$.id`"),
        ('{"id":"a","text":"x"}', "line 2: id: 'a' is there twice"),
        ('{"id":"A","text":"x"}', "line 2: id: 'A' is there twice"),
        ('{"id":"","text":"x"}', "line 2: id: ''"),
        ('{"id":"../a","text":"x"}', "line 2: id: '../a'"),
        ('{"id":"/etc/a","text":"x"}', "line 2: id: '/etc/a'"),
        ('{"id":"a\\\\b","text":"x"}', "line 2: id: "),
        ('{"id":".hidden","text":"x"}', "line 2: id: '.hidden'"),
        ('{"id":"a\\u0000","text":"x"}', "line 2: id: "),
        ('{"id":"a\\n","text":"x"}', "line 2: id: "),
        (json.dumps({"id": "x" * 101, "text": "x"}), "line 2: id: "),
        (json.dumps({"id": "b", "text": "x" * 2001}), "line 2: Expected `str` of length <= 2000 - at `$.text`"),
    ],
)
def test_a_batch_with_a_wrong_line_names_it_and_renders_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], line: str, said: str
) -> None:
    source = write(folder / "b.jsonl", GOOD + line + "\n")
    assert fails(capsys, "--batch", source, "-o", "out").startswith(f"{source} {said}")
    assert not (folder / "out").exists()


def test_an_empty_batch(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fails(capsys, "--batch", write(folder / "b", "\n \n"), "-o", "out").endswith("b: it holds no line")


def test_a_batch_into_what_is_no_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(folder / "b", GOOD)
    assert fails(capsys, "--batch", source, "-o", source).startswith(f"{source}: cannot be used as a folder: ")


def test_rendering_a_text_without_a_model_file_is_the_users_error(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder / "config.toml", '[model]\npath = "missing.gguf"\n')
    assert fails(capsys, "Hello", "-o", "t.csv").startswith("model.path: missing.gguf: ")


def test_idle_life_is_left_out_unless_asked_for(tmp_path: Path) -> None:
    keyframes = tmp_path / "k.kff"
    keyframes.write_text("# kff 1\n4+80 smile5\n")
    takes = []
    for name, extra in (("without.csv", []), ("with.csv", ["--idle"])):
        assert main(["render", "--keyframes", str(keyframes), "-o", str(tmp_path / name), *extra]) == 0
        takes.append((tmp_path / name).read_text().splitlines())
    held = [line.split(",", 1)[1] for line in takes[0][61:400]]
    assert len(set(held)) == 1
    alive = [line.split(",", 1)[1] for line in takes[1][61:400]]
    assert len(set(alive)) == len(alive)
