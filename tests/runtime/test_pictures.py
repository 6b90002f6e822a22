"""`kff-live still` and `kff-live strip`: what is drawn, how large, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from kff_live.protocols.channels import INDEX, neutral
from kff_live.protocols.frames import FrameRate
from kff_live.protocols.keyframe_text import parse_file
from kff_live.protocols.keyframes import as_acted
from kff_live.runtime.cli import main
from kff_live.runtime.config import Config
from kff_live.runtime.drawing import draw
from kff_live.runtime.face_file import load
from kff_live.runtime.pictures import apex, spread
from kff_live.runtime.render import Renderer

TEXT = "# kff 1\nsmile: 3+4 smile8 cheek5\nwide awake: 2 wide9 jaw6 browouter8 browinner8\nsad: 5+5 frown6\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "take.kff"
    path.write_text(TEXT)
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text('[model]\nengine = "none"\n')
    return path


def read(path: Path) -> Image.Image:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return image.convert("RGB")


def pixels(image: Image.Image) -> NDArray[np.int16]:
    return np.asarray(image, np.int16)


def test_a_still_is_the_face_at_its_apex(file: Path, tmp_path: Path) -> None:
    assert main(["still", "--keyframes", str(file), "-o", str(tmp_path / "face.png"), "--size", "128"]) == 0
    apex_pose = as_acted(parse_file(TEXT)[1]).pose
    assert np.array_equal(pixels(read(tmp_path / "face.png")), pixels(draw(apex_pose, size=128)))


def test_a_text_is_written_by_the_model_and_drawn(config: Path, tmp_path: Path) -> None:
    output = tmp_path / "face.png"
    assert main(["still", "Hello there.", "-o", str(output), "--config", str(config), "--theme", "dark"]) == 0
    pose = neutral()
    pose[INDEX["MouthSmileLeft"]] = pose[INDEX["MouthSmileRight"]] = 0.5
    assert np.array_equal(pixels(read(output)), pixels(draw(pose, size=512, theme="dark")))


def test_intensity_scales_the_picture(file: Path, tmp_path: Path) -> None:
    output = tmp_path / "face.png"
    assert main(["still", "--keyframes", str(file), "-o", str(output), "--intensity", "0", "--size", "64"]) == 0
    assert np.array_equal(pixels(read(output)), pixels(draw(neutral(), size=64)))


def test_a_strip_shows_frames_over_time(file: Path, tmp_path: Path) -> None:
    output = tmp_path / "strip.png"
    assert main(["strip", "--keyframes", str(file), "-o", str(output), "--frames", "5", "--size", "96"]) == 0
    image = read(output)
    assert image.width == 5 * 96
    assert 96 < image.height < 150
    tiles = [pixels(image.crop((i * 96, 0, (i + 1) * 96, 96))) for i in range(5)]
    expected = [neutral(), *(as_acted(keyframe).pose for keyframe in parse_file(TEXT))]
    for tile, pose in zip(tiles, [*expected, expected[-1]], strict=True):  # the last hold is long
        assert np.abs(tile - pixels(draw(pose, size=96))).mean() < 2  # 256 colours
    captions = pixels(image.crop((0, 96, image.width, image.height)))
    assert (captions.min(axis=(0, 2)) < 128).reshape(5, 96).any(axis=1).all()


def test_a_strip_has_eight_frames_and_the_readme_shows_one() -> None:
    root = Path(__file__).parents[2]
    image = read(root / "docs" / "strip.png")
    assert image.width == 8 * 224
    assert (root / "docs" / "strip.png").stat().st_size < 150_000
    assert "kff-live strip --keyframes docs/example.kff -o docs/strip.png" in (root / "README.md").read_text()


def test_the_readmes_strip_is_what_the_command_draws(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    output = tmp_path / "strip.png"
    assert main(["strip", "--keyframes", str(root / "docs" / "example.kff"), "-o", str(output)]) == 0
    assert np.abs(pixels(read(output)) - pixels(read(root / "docs" / "strip.png"))).mean() < 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["still"], "still: expected either TEXT or --keyframes FILE"),
        (["strip"], "strip: expected either TEXT or --keyframes FILE"),
        (["still", "Hi", "--keyframes", "FILE"], "still: expected either TEXT or --keyframes FILE"),
        (["still", "--keyframes", "FILE", "--size", "31"], "--size: 31 is outside 32 to 2048"),
        (["strip", "--keyframes", "FILE", "--frames", "0"], "--frames: 0 is outside 1 to 32"),
        (["strip", "--keyframes", "FILE", "--frames", "33"], "--frames: 33 is outside 1 to 32"),
        (["still", "--keyframes", "FILE", "--intensity", "3"], "--intensity: 3.0 is outside 0 to 2"),
        (["still", "--keyframes", "nowhere.kff"], "nowhere.kff: cannot be read: No such file or directory"),
        (["still", ""], "text: it is empty"),
        (["still", "x" * 2001], "text: 2001 characters, at most 2000"),
    ],
)
def test_mistakes_are_told_in_one_line(
    arguments: list[str], message: str, file: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(file) if a == "FILE" else a for a in arguments]
    assert main([*arguments, "-o", str(tmp_path / "out.png"), "--config", str(config)]) == 2
    assert capsys.readouterr().err == f"kff-live: {message}\n"
    assert not (tmp_path / "out.png").exists()


def test_a_picture_that_cannot_be_written_is_a_mistake(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "no" / "such" / "folder.png"
    assert main(["still", "--keyframes", str(file), "-o", str(output), "--size", "32"]) == 2
    assert capsys.readouterr().err == f"kff-live: {output}: cannot be written: No such file or directory\n"


def test_the_apex_is_the_first_of_the_frames_furthest_from_rest() -> None:
    frames = Renderer(Config(), FrameRate()).frames(parse_file("# kff 1\n3+5 smile5\n3 smile9\n3+5 smile2 jaw3\n"))
    assert apex(frames).number == round(1.1 * 60)
    assert apex(frames[:40]).number == 18  # the hold is as far, and later


@pytest.mark.parametrize(
    ("text", "count", "numbers"),
    [
        ("10+10 smile5\n", 3, [0, 60, 120]),
        ("8+12 smile5\n", 3, [0, 48, 120]),  # on the keyframe, which is near
        ("8+12 smile5\n", 1, [48]),
        ("1 smile1\n1 smile2\n1 smile3\n", 2, [0, 18]),
        ("0 smile5\n", 4, [0, 0, 0, 0]),
    ],
)
def test_frames_of_a_strip_are_spread_evenly_but_meet_keyframes(text: str, count: int, numbers: list[int]) -> None:
    assert spread(parse_file(f"# kff 1\n{text}"), count, FrameRate()) == numbers


def test_a_take_that_ends_is_drawn_whole() -> None:
    keyframes = parse_file(TEXT)
    frames = Renderer(Config(), FrameRate()).frames(keyframes)
    assert spread(keyframes, 32, FrameRate())[-1] < len(frames)
    assert load() is load()
