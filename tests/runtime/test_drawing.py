"""The drawn face, offline: what each channel changes, left and right, the rules of its geometry."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from kff_live.protocols.channels import CHANNELS, COUNT, INDEX, LIVELINK, Pose, mirror, neutral
from kff_live.runtime.drawing import draw
from kff_live.runtime.face import curve, patches
from kff_live.runtime.face_file import load

SIZE = 192
VISIBLE = 24
"""A pixel that differs by more in any colour is seen to differ."""


def posed(**values: float) -> Pose:
    pose = neutral()
    for name, value in values.items():
        pose[INDEX[name]] = value
    return pose


def pixels(pose: Pose, *, size: int = SIZE) -> NDArray[np.int16]:
    return np.asarray(draw(pose, size=size), np.int16)


def changed(a: NDArray[np.int16], b: NDArray[np.int16]) -> NDArray[np.bool_]:
    return np.asarray(np.abs(a - b).max(axis=2) > VISIBLE)


@pytest.fixture(scope="module")
def rest() -> NDArray[np.int16]:
    return pixels(neutral())


@pytest.fixture(scope="module")
def full() -> dict[str, NDArray[np.int16]]:
    """Each channel at 1, alone."""
    return {name: pixels(posed(**{name: 1.0})) for name in LIVELINK}


def test_each_channel_can_be_seen_and_told_from_every_other(
    rest: NDArray[np.int16], full: dict[str, NDArray[np.int16]]
) -> None:
    pictures = {"neutral": rest} | full
    names = list(pictures)
    alike = [
        (a, b, int(seen))
        for i, a in enumerate(names)
        for b in names[i + 1 :]
        if (seen := changed(pictures[a], pictures[b]).sum()) < 20
    ]
    assert alike == []
    assert len(full) == COUNT


@pytest.mark.parametrize("name", [c.name for c in CHANNELS if c.unit == "radian"])
def test_a_rotation_turns_the_other_way_where_it_is_negative(name: str, full: dict[str, NDArray[np.int16]]) -> None:
    assert changed(full[name], pixels(posed(**{name: -1.0}))).sum() >= 20


def test_a_mirrored_pose_is_the_mirrored_picture(full: dict[str, NDArray[np.int16]]) -> None:
    for name, picture in full.items():
        mirrored = pixels(mirror(posed(**{name: 1.0})))
        assert np.abs(mirrored - picture[:, ::-1]).mean() < 0.1, name
        assert changed(mirrored, picture[:, ::-1]).sum() == 0, name


def test_the_faces_left_is_the_viewers_right(rest: NDArray[np.int16], full: dict[str, NDArray[np.int16]]) -> None:
    for name in ("EyeBlinkLeft", "EyeSquintLeft", "BrowOuterUpLeft", "CheekSquintLeft", "LeftEyeYaw", "LeftEyeRoll"):
        seen = changed(full[name], rest)
        assert not seen[:, : SIZE // 2].any(), name
        assert seen[:, SIZE // 2 :].any(), name
    for name in ("JawLeft", "MouthLeft", "MouthSmileLeft", "MouthFrownLeft", "NoseSneerLeft"):
        seen = changed(full[name], rest)
        assert seen[:, SIZE // 2 :].sum() > seen[:, : SIZE // 2].sum(), name


@pytest.mark.parametrize(
    ("values", "direction"),
    [
        ({"HeadYaw": 0.3}, (1, 0)), ({"HeadYaw": -0.3}, (-1, 0)), ({"HeadPitch": 0.3}, (0, -1)),
        ({"HeadPitch": -0.3}, (0, 1)),
    ],
)  # fmt: skip
def test_the_nose_goes_where_the_head_turns(values: dict[str, float], direction: tuple[int, int]) -> None:
    moved = _centre(values, "shine") - _centre({}, "shine")
    assert np.dot(moved, direction) > 0.02


def test_roll_brings_the_left_ear_down() -> None:
    assert _centre({"HeadRoll": 0.3}, "ear")[1] > _centre({}, "ear")[1] + 0.02


@pytest.mark.parametrize(
    ("values", "direction"),
    [
        ({"EyeLookOutLeft": 1}, (1, 0)), ({"EyeLookInLeft": 1}, (-1, 0)), ({"EyeLookUpLeft": 1}, (0, -1)),
        ({"EyeLookDownLeft": 1}, (0, 1)), ({"LeftEyeYaw": 1}, (-1, 0)), ({"LeftEyePitch": 1}, (0, 1)),
    ],
)  # fmt: skip
def test_the_left_pupil_goes_where_the_eye_looks(values: dict[str, float], direction: tuple[int, int]) -> None:
    moved = _centre(values, "pupil") - _centre({}, "pupil")
    assert np.dot(moved, direction) > 0.01


def _centre(values: dict[str, float], colour: str) -> NDArray[np.float64]:
    """The middle of the first patch of a colour: of the pair, the face's left one."""
    first = next(patch for patch in patches(load(), posed(**values)) if patch.colour == colour)
    return np.asarray(first.outline.mean(axis=0))


def test_the_lips_meet_over_an_open_jaw_and_the_chin_stays_down() -> None:
    def inside(**values: float) -> float:
        outline = next(p.outline for p in patches(load(), posed(**values)) if p.colour == "inside")
        return float(np.ptp(outline[:, 1]))

    assert inside(JawOpen=0.6) > 0.04
    assert inside(JawOpen=0.6, MouthClose=0.6) < inside(JawOpen=0.6) / 2.5


def test_lids_and_lips_never_cross() -> None:
    random = np.random.default_rng(1)
    for _ in range(50):
        pose = neutral()
        pose[:52] = random.random(52) * (random.random(52) < 0.4)
        white, inside = (
            next(p.outline for p in patches(load(), pose) if p.colour == colour) for colour in ("white", "inside")
        )
        for outline in (white, inside):
            following = np.roll(outline, -1, axis=0)
            area = (outline[:, 0] * following[:, 1] - following[:, 0] * outline[:, 1]).sum() / 2
            assert area > -2e-4


def test_both_themes_have_all_colours() -> None:
    face = load()
    used = {path.fill for path in face.paths} | {path.stroke for path in face.paths} | {"background"}
    assert used - {""} == set(face.palette["light"]) == set(face.palette["dark"])


def test_every_name_in_the_geometry_is_known() -> None:
    face = load()
    for path in face.paths:
        points = [*(name.lstrip("!") for name in path.points), path.circle, path.spokes, path.glow]
        assert all(name in face.names for name in points if name), path.name
        assert not path.clip or path.clip in face.clips
        assert sum(map(bool, (path.points, path.circle, path.spokes, path.glow))) == 1, path.name


def test_a_curve_passes_its_points_and_is_straight_between_corners() -> None:
    square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    sharp = curve(square, [True] * 4, closed=True)
    assert sharp.shape == (32, 2)
    assert np.all((sharp == 0) | (sharp == 1), axis=1).sum() == 4
    assert np.all(np.isclose(sharp, np.clip(sharp, 0, 1)))
    smooth = curve(square, [False] * 4, closed=False)
    assert smooth.shape == (25, 2)
    assert np.array_equal(smooth[::8], square)


def test_a_picture_has_the_size_and_theme_asked_for() -> None:
    light, dark = draw(neutral(), size=64), draw(neutral(), size=64, theme="dark")
    assert light.size == dark.size == (64, 64)
    assert isinstance(light, Image.Image)
    assert light.mode == "RGB"
    assert sum(light.getpixel((0, 0))) > 600 > 150 > sum(dark.getpixel((0, 0)))  # type: ignore[arg-type]
