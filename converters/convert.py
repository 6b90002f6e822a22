"""Converts a take from any format into any other, item by item."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from kff_live.converters.files import whole
from kff_live.converters.keyframe_file import Start
from kff_live.converters.livelink_csv import SUBJECT
from kff_live.converters.reading import Reading
from kff_live.converters.resample import Method, resample
from kff_live.converters.takes import FORMATS, Format, Take, opened, recognised, write_frames, write_keyframes
from kff_live.protocols.channels import COUNT
from kff_live.protocols.errors import EncodeError, UserError
from kff_live.protocols.frames import TIMECODE_RATE, Frame, FrameRate
from kff_live.protocols.keyframes import Keyframe

if TYPE_CHECKING:
    from kff_live.converters.thin import Loss

_T = TypeVar("_T")

DEFAULT_RATE = FrameRate()
"""Of frames made from keyframes, of frames that are thinned, and of frames in a format that carries no times."""

DEFAULT_ERROR = 0.02
"""To which frames are thinned where nothing is said."""


@dataclass(frozen=True)
class Wanted:
    """How a take is written.

    form: the format's name; None: by the file's name
    rate: frames a second; None: as they come, or DEFAULT_RATE where they have to be even
    error: to which frames are thinned to keyframes
    app_titles: exchange MouthLeft and MouthRight in a CSV, as the phone app does
    thin: refuse what is not from frames to keyframes
    """

    form: str | None = None
    rate: FrameRate | None = None
    method: Method = "linear"
    error: float = DEFAULT_ERROR
    app_titles: bool = False
    force: bool = False
    thin: bool = False


@dataclass
class Done:
    """What was converted: the number of frames or keyframes written, what was skipped, what thinning lost."""

    source: Format
    target: Format
    count: int = 0
    skipped: int = 0
    first: Frame | None = None
    last: Frame | None = None
    loss: "Loss | None" = None


def convert(
    source: Path,
    target: Path,
    wanted: Wanted,
    *,
    form: str | None = None,
    reading: Reading = Reading(),  # noqa: B008 - frozen
    tell: Callable[[float], None] = lambda share: None,
) -> Done:
    """Convert the take at `source`, of the format `form`, into one at `target`; `tell` hears the share that is read.

    Raises:
        UserError: a file cannot be read or written, or what is wanted cannot be; nothing is written then.
    """
    with opened(source, form, reading) as take:
        done = Done(take.format, FORMATS[wanted.form] if wanted.form else recognised(target))
        if wanted.thin and (done.target.has_frames or not take.format.has_frames):
            raise UserError(f"thin: expected frames to keyframes, got {take.format.name} to {done.target.name}")
        if wanted.rate and not (take.format.has_frames or done.target.has_frames):
            raise UserError("--fps: keyframes have no frames a second")
        with whole(target, binary=done.target.name == "npy", force=wanted.force) as file:
            try:
                if done.target.has_frames:
                    frames = _counted(_frames(take, wanted, done, reading.subject or SUBJECT), take, tell)
                    done.count = write_frames(_noted(frames, done), file, done.target, app_titles=wanted.app_titles)
                elif take.format.has_frames:
                    keyframes, start = _thinned(take, wanted, done, tell)
                    done.count = write_keyframes(keyframes, file, done.target, start=start)
                else:
                    counted = _counted(_keyframes(take, done.target), take, tell)
                    done.count = write_keyframes(counted, file, done.target, start=take.start)
            except EncodeError as error:
                raise UserError(f"{source}: {error}") from None
        done.skipped = take.source.skipped
    return done


def _frames(take: Take, wanted: Wanted, done: Done, subject: str) -> Iterator[Frame]:
    if not take.format.has_frames:
        from kff_live.converters.acting import act  # compiles, for which other conversions need not wait

        rate = wanted.rate or DEFAULT_RATE
        number, subframe = take.start
        start = (number + subframe) * rate.hz / TIMECODE_RATE.hz
        return act(take.to_act(), rate, subject=subject, start=start)
    even = wanted.rate or (DEFAULT_RATE if take.format.has_times and not done.target.has_times else None)
    return resample(take.frames, even, wanted.method) if even else take.frames


def _keyframes(take: Take, target: Format) -> Iterator[Keyframe]:
    return take.to_act() if target.name == "kff" else take.keyframes


def _thinned(take: Take, wanted: Wanted, done: Done, tell: Callable[[float], None]) -> tuple[list[Keyframe], Start]:
    from kff_live.converters.thin import loss, thin

    rate = wanted.rate or DEFAULT_RATE
    frames = list(_noted(resample(_counted(take.frames, take, tell), rate, wanted.method), done))
    if done.first is None:
        raise EncodeError("it holds no frame")
    poses = np.array([frame.pose for frame in frames], np.float32).reshape(-1, COUNT)
    keyframes = thin(poses, rate, error=wanted.error)
    done.loss = loss(poses, rate, keyframes)
    sixtieths = done.first.seconds * TIMECODE_RATE.hz
    return keyframes, (int(sixtieths), sixtieths - int(sixtieths))


def _counted(items: Iterator[_T], take: Take, tell: Callable[[float], None]) -> Iterator[_T]:
    for item in items:
        tell(take.source.share)
        yield item


def _noted(frames: Iterator[Frame], done: Done) -> Iterator[Frame]:
    for frame in frames:
        done.first = done.first or frame
        done.last = frame
        yield frame
