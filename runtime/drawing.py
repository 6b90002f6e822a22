"""Draws the face offline, with Pillow: the same polygons that the preview page fills on its canvas."""

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from kff_live.protocols.channels import Pose
from kff_live.runtime.face import Patch, Theme, patches
from kff_live.runtime.face_file import Points, load

OVERSAMPLING = 4
"""Pixels are drawn so many times finer each way, then averaged."""


def draw(pose: Pose, *, size: int = 512, theme: Theme = "light") -> Image.Image:
    """A square RGB picture of the pose, `size` pixels wide."""
    face = load()
    palette = face.palette[theme]
    fine = size * OVERSAMPLING
    image = Image.new("RGB", (fine, fine), palette["background"])
    for patch in patches(face, pose):
        _fill(image, patch, palette[patch.colour], fine)
    return image.reduce(OVERSAMPLING)


def _fill(image: Image.Image, patch: Patch, colour: str, fine: int) -> None:
    outline = patch.outline * fine
    box = _box(outline, fine)
    if box is None:
        return
    mask = _mask(outline, box, round(255 * patch.opacity), band=patch.band)
    if patch.clip is not None:
        mask = ImageChops.multiply(mask, _mask(patch.clip * fine, box, 255))
    image.paste(colour, box, mask)


def _box(outline: Points, fine: int) -> tuple[int, int, int, int] | None:
    """The pixels that an outline touches, within the picture."""
    left, top = np.maximum(np.floor(outline.min(axis=0)).astype(int) - 1, 0)
    right, bottom = np.minimum(np.ceil(outline.max(axis=0)).astype(int) + 2, fine)
    return (int(left), int(top), int(right), int(bottom)) if left < right and top < bottom else None


def _mask(outline: Points, box: tuple[int, int, int, int], level: int, *, band: bool = False) -> Image.Image:
    mask = Image.new("L", (box[2] - box[0], box[3] - box[1]), 0)
    pen = ImageDraw.Draw(mask)
    corners = outline - (box[0], box[1])
    if band:  # piece by piece: where it overlaps itself it must not become a hole
        half = len(corners) // 2
        edge, back = corners[:half], corners[: half - 1 : -1]
        for piece in np.hstack([edge[:-1], edge[1:], back[1:], back[:-1]]).tolist():
            pen.polygon(piece, fill=level)
    else:
        pen.polygon(corners.ravel().tolist(), fill=level)
    return mask
