"""The drawn face: turns a pose into filled polygons from page/face.json, by the rules that page/face.js follows too.

1. Each point is moved by the sum of its channels' displacements (a key such as "JawOpen&MouthClose" counts with the
   least of its channels).
2. `order` pairs: where the upper of two points has come below the lower one, both meet in between.
3. Head rotation turns every point about `pivot` (yaw, then pitch, then roll), each by its own share; large angles
   are softened towards `turn`. Then it is projected from `camera` units away.
4. Curves are Catmull-Rom splines through their points, SAMPLES lines a span; a point written "!name" is a corner.
   A stroke is a band around its curve whose width runs from its first number over the second to the third.

runtime/face_file.py reads the file and makes the mirrored half.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from kff_live.protocols.channels import INDEX, Pose
from kff_live.runtime.face_file import Face, FacePath, Points

SAMPLES = 8
"""Straight lines between two points of a curve."""

CIRCLE = 24
"""Corners of a circle."""

RINGS = 8
"""Discs of which a glow is made."""

Theme = Literal["light", "dark"]


@dataclass(frozen=True)
class Patch:
    """A polygon to fill: outline float64[n, 2] in view units (0 to 1), a palette colour, an opacity, what clips it.

    `band` says that the outline is a stroke: its first half runs along one edge, the second back along the other.
    """

    outline: Points
    colour: str
    opacity: float
    clip: Points | None = None
    band: bool = False


def patches(face: Face, pose: Pose) -> list[Patch]:
    """What to fill, in this order, for a pose: float32[61]."""
    return _Evaluation(face, [float(value) for value in pose]).patches()


_HEAD = ("HeadYaw", "HeadPitch", "HeadRoll")
_TURNS = np.arange(CIRCLE) * (2 * math.pi / CIRCLE)
_RING = np.stack([np.cos(_TURNS), np.sin(_TURNS), np.zeros(CIRCLE)], axis=1)


class _Evaluation:
    """The face at one pose."""

    def __init__(self, face: Face, values: list[float]) -> None:
        self._face = face
        self._values = values
        placed = face.rest.copy()
        for channels, displacement in face.moves:
            weight = min(values[i] for i in channels)
            if weight:
                placed += weight * displacement
        for upper, lower, share in face.order:
            if placed[upper, 1] > placed[lower, 1]:
                placed[[upper, lower], 1] = placed[lower, 1] + share * (placed[upper, 1] - placed[lower, 1])
        self._placed = placed
        self._angles = [face.turn * math.tanh(values[INDEX[name]] / face.turn) for name in _HEAD]
        self._seen = self._project(placed, face.shares)
        self._outlines: dict[str, Points] = {}

    def patches(self) -> list[Patch]:
        found: list[Patch] = []
        for path in self._face.paths:
            opacity = self._weigh(path.opacity)
            if opacity > 0.002 and (path.fill or path.stroke):
                found += self._paint(path, opacity)
        return found

    def _paint(self, path: FacePath, opacity: float) -> list[Patch]:
        clip = self._outline(self._face.clips[path.clip]) if path.clip else None
        if path.glow:
            rings = self._circle(path.glow, path.radius, *((ring + 1) / RINGS for ring in range(RINGS)))
            return [Patch(ring, path.fill, opacity / RINGS, clip) for ring in np.split(rings, RINGS)]
        if path.spokes:
            return [Patch(band, path.stroke, opacity, clip, band=True) for band in self._spokes(path)]
        line = self._outline(path)
        found = [Patch(line, path.fill, opacity, clip)] if path.fill else []
        if path.stroke:
            line = np.vstack([line, line[:1]]) if path.closed else line
            found.append(Patch(self._band(line, path.width), path.stroke, opacity, clip, band=True))
        return found

    def _weigh(self, weights: float | dict[str, float]) -> float:
        """A constant, or the sum of weighted channels ("" is the constant part), limited to [0, 1]."""
        if not isinstance(weights, dict):
            return weights
        return min(1.0, max(0.0, sum(self._term(key) * weight for key, weight in weights.items())))

    def _term(self, key: str) -> float:
        return min(self._values[INDEX[name]] for name in key.split("&")) if key else 1.0

    def _outline(self, path: FacePath) -> Points:
        if path.circle:
            return self._circle(path.circle, path.radius, 1.0)
        if path.name not in self._outlines:  # several are clipped by the same one
            corners = [name.startswith("!") for name in path.points]
            at = [self._face.names[name.lstrip("!")] for name in path.points]
            self._outlines[path.name] = curve(self._seen[at], corners, closed=path.closed)
        return self._outlines[path.name]

    def _circle(self, centre: str, radius: tuple[float, float], *scales: float) -> Points:
        """Ellipses around a point, one behind the other: [CIRCLE * len(scales), 2]."""
        ring = _RING * [*radius, 0.0]
        return self._around(centre, np.concatenate([scale * ring for scale in scales]))

    def _spokes(self, path: FacePath) -> list[Points]:
        """Lines from the first radius to the second, turned by a channel."""
        turn = sum(self._term(key) * weight for key, weight in path.channel_turn.items())
        found = []
        for degrees in path.angles:
            angle = math.radians(degrees) + turn
            ends = np.array([[r * math.cos(angle), r * math.sin(angle), 0.0] for r in path.radius])
            found.append(self._band(self._around(path.spokes, ends), path.width))
        return found

    def _around(self, centre: str, offsets: Points) -> Points:
        at = self._face.names[centre]
        return self._project(self._placed[at] + offsets, np.broadcast_to(self._face.shares[at], (len(offsets), 2)))

    def _project(self, points: Points, shares: Points) -> Points:
        """Points [n, 3] turned with the head, seen from the camera, in view units [n, 2]."""
        face = self._face
        yaw, pitch, roll = (angle * share for angle, share in zip(self._angles, shares.T[[0, 0, 1]], strict=True))
        x, y, z = (points - face.pivot).T
        x, z = x * np.cos(yaw) + z * np.sin(yaw), z * np.cos(yaw) - x * np.sin(yaw)
        y, z = y * np.cos(pitch) - z * np.sin(pitch), z * np.cos(pitch) + y * np.sin(pitch)
        x, y = x * np.cos(roll) - y * np.sin(roll), x * np.sin(roll) + y * np.cos(roll)
        scale = face.camera / (face.camera - z)
        left, top, size = face.view
        px, py = face.pivot[0] + x * scale, face.pivot[1] + y * scale
        return np.stack([(px - left) / size, (py - top) / size], axis=1)

    def _band(self, line: Points, width: tuple[float, float, float]) -> Points:
        """The outline of a stroke: along one edge and back along the other."""
        along = np.gradient(line, axis=0)
        length = np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-9)
        normal = np.stack([-along[:, 1], along[:, 0]], axis=1) / length[:, None]
        t = np.linspace(0.0, 1.0, len(line))
        first, middle, last = (w / self._face.view[2] / 2 for w in width)
        half = first * (1 - t) * (1 - 2 * t) + middle * 4 * t * (1 - t) + last * t * (2 * t - 1)
        return np.vstack([line + half[:, None] * normal, (line - half[:, None] * normal)[::-1]])


def curve(points: Points, corners: Sequence[bool], *, closed: bool) -> Points:
    """A smooth line through points [n, 2]; closed ones do not repeat their first point."""
    n = len(points)
    sharp = np.array(corners)[:, None]
    following, preceding = np.roll(points, -1, axis=0), np.roll(points, 1, axis=0)
    if not closed:  # an end has no neighbour beyond it
        following[-1], preceding[0] = points[-1], points[0]
    begin, end = points, np.roll(points, -1, axis=0)
    into = (end - np.where(sharp, begin, preceding)) / 2
    out = (np.roll(np.where(sharp, points, following), -1, axis=0) - begin) / 2
    spans = n if closed else n - 1
    line = _BASIS @ np.stack([begin, end, into, out])[:, :spans].transpose(1, 0, 2)  # [spans, SAMPLES, 2]
    line = line.reshape(-1, 2)
    return line if closed else np.vstack([line, points[-1:]])


def _basis() -> Points:
    """Shares of a span's begin, its end and the two tangents at each sample: [SAMPLES, 4]."""
    s = np.arange(SAMPLES) / SAMPLES
    h = s * s * (3 - 2 * s)
    return np.stack([1 - h, h, s * (1 - s) ** 2, -s * s * (1 - s)], axis=1)


_BASIS = _basis()
