"""The geometry of the drawn face: reads page/face.json and makes the mirrored half.

What is named with a final L is the face's own left and on the viewer's right (x > 0); its mirror image is made here.
"""

import importlib.resources
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import msgspec
import numpy as np
from numpy.typing import NDArray

from kff_live.protocols.channels import CHANNELS, INDEX

Points = NDArray[np.float64]


class FacePath(msgspec.Struct, forbid_unknown_fields=True, rename={"channel_turn": "turn"}):
    """One thing to paint; exactly one of points, half, circle, spokes and glow says what."""

    name: str
    points: list[str] = []
    half: list[str] = []
    circle: str = ""
    spokes: str = ""
    glow: str = ""
    closed: bool = True
    radius: tuple[float, float] = (0.0, 0.0)
    angles: list[float] = []
    channel_turn: dict[str, float] = {}
    fill: str = ""
    stroke: str = ""
    width: tuple[float, float, float] = (1.0, 1.0, 1.0)
    opacity: float | dict[str, float] = 1.0
    clip: str = ""


class _File(msgspec.Struct, forbid_unknown_fields=True):
    about: list[str]
    view: tuple[float, float, float]
    camera: float
    pivot: tuple[float, float, float]
    turn: float
    palette: dict[str, dict[str, str]]
    points: dict[str, list[float]]
    moves: dict[str, dict[str, list[float]]]
    order: list[tuple[str, str, float]]
    paths: list[FacePath]


@dataclass(frozen=True)
class Face:
    """The geometry of one file, mirrored and indexed."""

    view: tuple[float, float, float]
    camera: float
    pivot: Points
    turn: float
    palette: Mapping[str, Mapping[str, str]]
    names: Mapping[str, int]
    rest: Points  # [n, 3]
    shares: Points  # [n, 2]: of yaw and pitch, of roll
    moves: Sequence[tuple[tuple[int, ...], Points]]  # channels, displacements [n, 3]
    order: Sequence[tuple[int, int, float]]
    paths: Sequence[FacePath]
    clips: Mapping[str, FacePath] = field(default_factory=dict)


def _other(name: str) -> str:
    """The partner's name of a point or path; "!" and all else stays."""
    return f"{name[:-1]}R" if name.endswith("L") else f"{name[:-1]}L" if name.endswith("R") else name


def _mirrored_key(key: str) -> tuple[str, float]:
    """The mirrored channels of a key, and the sign that it takes."""
    channels = [CHANNELS[INDEX[name]] for name in key.split("&")]
    turned = [c for c in channels if c.unit == "radian" and c.name.endswith(("Yaw", "Roll"))]
    return "&".join(c.partner or c.name for c in channels), -1.0 if len(turned) % 2 else 1.0


def _mirrored_weights(weights: float | dict[str, float]) -> float | dict[str, float]:
    if not isinstance(weights, dict):
        return weights
    found = {"": weights[""]} if "" in weights else {}
    for key, value in weights.items():
        if key:
            other, sign = _mirrored_key(key)
            found[other] = sign * value
    return found


def _mirrored_path(path: FacePath) -> FacePath:
    turn = _mirrored_weights(path.channel_turn)
    assert isinstance(turn, dict)
    return msgspec.structs.replace(
        path,
        name=_other(path.name),
        points=[_other(name) for name in path.points],
        circle=_other(path.circle),
        spokes=_other(path.spokes),
        glow=_other(path.glow),
        angles=[180.0 - angle for angle in path.angles],
        channel_turn={key: -value for key, value in turn.items()},
        opacity=_mirrored_weights(path.opacity),
        clip=_other(path.clip),
    )


def _whole(path: FacePath) -> FacePath:
    """A path given by its left half continues with the mirrored half, back to where it began."""
    if not path.half:
        return path
    back = [_other(name) for name in reversed(path.half) if _other(name) != name]
    return msgspec.structs.replace(path, points=path.half + back, half=[])


def _all_moves(given: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, list[float]]]:
    """Moves of a left channel also make those of its partner; moves of a middle channel are the same on both sides."""
    found: dict[str, dict[str, list[float]]] = {}
    for key, moves in given.items():
        other, sign = _mirrored_key(key)
        mirrored = {_other(point): [-sign * x, sign * y, sign * z] for point, (x, y, z) in moves.items()}
        if other == key:
            found[key] = mirrored | moves
        else:
            found[key], found[other] = moves, mirrored
    return found


@cache
def load() -> Face:
    """The face of the package."""
    data = importlib.resources.files("kff_live.runtime").joinpath("page", "face.json").read_bytes()
    file = msgspec.json.decode(data, type=_File)
    points = dict(file.points)
    for name, values in file.points.items():
        if name.endswith("L"):
            points[_other(name)] = [-values[0], *values[1:]]
    names = {name: i for i, name in enumerate(points)}
    moves = []
    for key, moved in _all_moves(file.moves).items():
        displacement = np.zeros((len(names), 3))
        for point, by in moved.items():
            displacement[names[point]] = by
        moves.append((tuple(INDEX[channel] for channel in key.split("&")), displacement))
    order = [(names[a], names[b], share) for a, b, share in file.order]
    order += [(names[_other(a)], names[_other(b)], share) for a, b, share in file.order if a.endswith("L")]
    paths = []
    for path in file.paths:
        paths.append(_whole(path))
        if path.name.endswith("L"):
            paths.append(_mirrored_path(path))
    return Face(
        file.view,
        file.camera,
        np.array(file.pivot),
        file.turn,
        file.palette,
        names,
        np.array([values[:3] for values in points.values()], np.float64),
        np.array([[*values[3:], 1.0, 1.0][:2] for values in points.values()], np.float64),
        moves,
        order,
        paths,
        {path.name: path for path in paths},
    )
