"""`kff-live still` and `kff-live strip`: a text acted offline, drawn as one picture or as frames over time."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kff_live.protocols.errors import UserError
from kff_live.protocols.frames import Frame, FrameRate
from kff_live.protocols.keyframes import Keyframe
from kff_live.runtime.config import Config
from kff_live.runtime.drawing import draw
from kff_live.runtime.face import Theme
from kff_live.runtime.face_file import load
from kff_live.runtime.render import Renderer, check_options, read_keyframes, write_one

SIZES = (32, 2048)
"""Smallest and largest face, in pixels."""

MAX_FRAMES = 32
"""Most frames of a strip."""

_INK = {"light": ("#2a2420", "#6a5f56"), "dark": ("#e8e4dd", "#a9a59d")}  # of the time, of the label
_COLOURS = 256  # of a strip: flat colours lose nothing one could see, and the file is a third as large


def picture(options: argparse.Namespace, config: Config) -> int:
    """Either sub-command; returns 0, or 1 when the model failed on the text.

    Raises:
        UserError: the options or a file are wrong.
    """
    if (options.text is None) == (options.keyframes is None):
        raise UserError(f"{options.command}: expected either TEXT or --keyframes FILE")
    if not SIZES[0] <= options.size <= SIZES[1]:
        raise UserError(f"--size: {options.size} is outside {SIZES[0]} to {SIZES[1]}")
    if options.command == "strip" and not 1 <= options.frames <= MAX_FRAMES:
        raise UserError(f"--frames: {options.frames} is outside 1 to {MAX_FRAMES}")
    check_options(options)
    keyframes = read_keyframes(Path(options.keyframes)) if options.keyframes else write_one(options, config)
    if keyframes is None:
        return 1
    frames = Renderer(config, config.rate).frames(keyframes, intensity=options.intensity)
    if options.command == "still":
        image = draw(apex(frames).pose, size=options.size, theme=options.theme)
    else:
        chosen = spread(keyframes, options.frames, config.rate)
        image = strip([frames[i] for i in chosen], keyframes, size=options.size, theme=options.theme)
    try:
        image.save(options.output, format="PNG", optimize=True)
    except OSError as error:
        raise UserError(f"{options.output}: cannot be written: {error.strerror}") from None
    return 0


def apex(frames: Sequence[Frame]) -> Frame:
    """The frame furthest from the first one, which is at rest: by the sum of 61 |differences|; the first of equals."""
    poses = np.stack([frame.pose for frame in frames])
    return frames[int(np.abs(poses - poses[0]).sum(axis=1).round(4).argmax())]


def spread(keyframes: Sequence[Keyframe], count: int, rate: FrameRate) -> list[int]:
    """Numbers of `count` frames from the start to the end of the last hold.

    They are evenly spaced, but one that has the arrival at a keyframe nearer than half the spacing is put there.
    """
    ends = np.cumsum([keyframe.way + keyframe.hold for keyframe in keyframes])
    arrivals = ends - [keyframe.hold for keyframe in keyframes]
    times = np.linspace(0.0, ends[-1], count) if count > 1 else arrivals[-1:]
    spacing = ends[-1] / max(count - 1, 1)
    for arrival in arrivals:
        nearest = int(np.abs(times - arrival).argmin())
        if nearest > 0 and times[nearest] not in arrivals and abs(times[nearest] - arrival) <= spacing / 2:
            times[nearest] = arrival
    return [round(time * rate.hz) for time in times]


def strip(frames: Sequence[Frame], keyframes: Sequence[Keyframe], *, size: int, theme: Theme) -> Image.Image:
    """Frames side by side, each with its time and its keyframe's label beneath."""
    letters = max(9, size // 16)
    font = ImageFont.load_default(letters)
    image = Image.new("RGB", (size * len(frames), size + 3 * letters), load().palette[theme]["background"])
    pen = ImageDraw.Draw(image)
    for i, frame in enumerate(frames):
        image.paste(draw(frame.pose, size=size, theme=theme), (i * size, 0))
        middle = (i + 0.5) * size
        time, label = _INK[theme]
        pen.text((middle, size + 0.9 * letters), f"{frame.number / frame.rate.hz:.2f} s", time, font, anchor="mm")
        text = keyframes[min(frame.key, len(keyframes) - 1)].label  # the end of the last hold begins the way back
        pen.text((middle, size + 2.1 * letters), _fit(text, font, size - letters), label, font, anchor="mm")
    return image.quantize(_COLOURS, dither=Image.Dither.NONE)


def _fit(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """The text, cut so that it is no wider than `width` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text.rstrip() + "..."
