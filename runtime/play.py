"""`kff-live play`: a take through the same frame thread and sinks as `run`."""

import argparse
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from kff_live.converters.reading import Reading
from kff_live.converters.takes import FORMATS, opened
from kff_live.protocols.channels import HIGH, LOW
from kff_live.protocols.easing import EASING_INDEX
from kff_live.protocols.errors import DecodeError, UserError
from kff_live.protocols.frames import Frame, FrameRate
from kff_live.protocols.keyframes import Keyframe, as_acted, release
from kff_live.protocols.track import Track
from kff_live.runtime import app
from kff_live.runtime.config import Config, Nothing
from kff_live.runtime.take_layer import Playback

Seconds = NDArray[np.float64]

SPEEDS = (0.1, 10.0)
MOST_BLEND = 10.0  # s


def play(options: argparse.Namespace, config: Config, source: str) -> int:
    """The sub-command; returns 0 when the take has ended, or was ended.

    Raises:
        UserError: an option is wrong, the take cannot be read, or the settings cannot work here.
    """
    names = [subject.name for subject in config.subjects]
    subject = options.subject or names[0]
    if subject not in names:
        raise UserError(f"--subject: there is no subject {subject!r} in the settings, but {', '.join(names)}")
    if not SPEEDS[0] <= options.speed <= SPEEDS[1]:
        raise UserError(f"--speed: {options.speed:g} is outside {SPEEDS[0]:g} to {SPEEDS[1]:g}")
    if not 0.0 <= options.blend <= MOST_BLEND:
        raise UserError(f"--blend: {options.blend:g} is outside 0 to {MOST_BLEND:g} s")
    release_seconds = None if options.loop else config.subjects[names.index(subject)].release
    track, length = _read(options, release_seconds)
    begin, end = _range(options, length)
    playback = Playback(
        name=str(options.take),
        subject=subject,
        track=at_speed(track, options.speed),
        begin=begin / options.speed,
        end=end / options.speed,
        loop=options.loop,
        blend=options.blend,
    )
    # A take takes the place of a live face, and no model has to be loaded for it.
    config = msgspec.structs.replace(
        config, model=Nothing(), capture=msgspec.structs.replace(config.capture, enabled=False)
    )
    app.run(config, source, take=playback)
    return 0


def _read(options: argparse.Namespace, release_seconds: float | None) -> tuple[Track, float]:
    """The track of a take and its length, s."""
    if options.form not in (None, *FORMATS):
        raise UserError(f"--format: {options.form!r} is not one of {', '.join(FORMATS)}")
    try:
        rate = FrameRate.parse(options.in_fps)
    except DecodeError as error:
        raise UserError(f"--in-fps: {error}") from None
    reading = Reading(options.take_subject, options.app_titles, options.by_position, rate)
    with opened(options.take, options.form, reading) as take:
        if take.format.has_frames:
            return track_of_frames(list(take.frames))
        return track_of_keyframes(list(take.to_act()), release_seconds=release_seconds)


def track_of_frames(frames: Sequence[Frame]) -> tuple[Track, float]:
    """A track that goes straight from frame to frame at their times, and its length, s."""
    if not frames:
        raise DecodeError("it holds no frame")
    at = np.array([frame.seconds for frame in frames]) - frames[0].seconds
    begins = np.concatenate([[0.0], at[:-1]])
    poses = np.clip(np.array([frame.pose for frame in frames], np.float32), LOW, HIGH)
    return _track(begins, at - begins, np.full(len(at), EASING_INDEX["linear"], np.int8), poses), float(at[-1])


def track_of_keyframes(keyframes: Sequence[Keyframe], *, release_seconds: float | None) -> tuple[Track, float]:
    """The track of keyframes as they are acted, then of a release that takes so long, if any; and its length, s."""
    acted = [as_acted(keyframe) for keyframe in keyframes]
    if release_seconds is not None:
        acted.append(release(release_seconds))
    ways, holds = np.array([k.way for k in acted]), np.array([k.hold for k in acted])
    ends = np.cumsum(ways + holds)
    easings = np.array([EASING_INDEX[k.easing] for k in acted], np.int8)
    return _track(ends - ways - holds, ways, easings, np.array([k.pose for k in acted])), float(ends[-1])


def at_speed(track: Track, speed: float) -> Track:
    """The track `speed` times as fast."""
    return _track(track.begins / speed, track.ways / speed, track.easings, track.poses)


def _track(begins: Seconds, ways: Seconds, easings: NDArray[np.int8], poses: NDArray[np.float32]) -> Track:
    for array in (begins, ways, easings, poses):
        array.setflags(write=False)
    return Track(begins, ways, easings, poses)


def _range(options: argparse.Namespace, length: float) -> tuple[float, float]:
    begin, end = options.begin, length if options.end is None else min(options.end, length)
    if not 0.0 <= begin < end:
        raise UserError(
            f"{options.take}: nothing lies between --from {begin:g} and --to {end:g}; the take is {length:.2f} s long"
        )
    return begin, end
