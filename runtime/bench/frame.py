"""What one frame of one subject costs: sample, cut, rules, limits and packet, without the system call."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Protocol

import numpy as np

from kff_live.protocols import kernels, livelink
from kff_live.protocols.channels import COUNT, HIGH, LOW, Pose, neutral
from kff_live.protocols.easing import EASINGS
from kff_live.protocols.errors import KffError
from kff_live.protocols.frames import Frame, FrameRate
from kff_live.protocols.idle.layer import Idle
from kff_live.protocols.keyframes import Keyframe
from kff_live.protocols.talk import kernels as talk_kernels
from kff_live.protocols.talk.speech import speech_from_text
from kff_live.protocols.track import Timeline
from kff_live.runtime.bench import plain_numpy
from kff_live.runtime.bench.report import Row, Tell
from kff_live.runtime.capture import CaptureLayer, CaptureSource, Tracked
from kff_live.runtime.clock import SystemClock, cpu_seconds
from kff_live.runtime.config import Capture
from kff_live.runtime.frame_thread import FrameThread, Lane
from kff_live.runtime.player import Plan, Player
from kff_live.runtime.sinks.making import device_id

TOLERANCE = 2e-4
"""Largest difference between a compiled and a plain value: velocities are differences of 32-bit floats over 1 ms."""

_RATE = FrameRate()
_TICKS_A_CUT = 240  # a cut every four seconds
_CUTS = 10
_ROUNDS = 5
_SUBJECTS = 64
_SUBJECT_SECONDS = 4.0
_PART = "frame: one subject-frame, without the system call"


class _Encoder(Protocol):
    def encode(self, frame: Frame) -> bytes: ...


def plans(seed: int, *, cuts: int = _CUTS) -> list[Plan]:
    """Tracks of random keyframes, each begun by a cut `_TICKS_A_CUT` after the one before."""
    random = np.random.default_rng(seed)
    made = []
    for cut in range(cuts):
        timeline = Timeline()
        for _ in range(8):
            pose = np.where(random.random(COUNT) < 0.25, random.uniform(LOW, HIGH), 0.0).astype(np.float32)
            way, hold = random.uniform(0.2, 0.8), random.uniform(0.0, 0.5)
            timeline.append(Keyframe(pose, way, hold, EASINGS[random.integers(len(EASINGS))]))
        made.append(Plan(timeline.track, start=cut * _TICKS_A_CUT * _RATE.period, cut=cut + 1))
    return made


def compiled(subject: str = "Face") -> tuple[Player, livelink.Encoder]:
    """A player and an encoder as the runtime has them."""
    return _player(subject, kernels), livelink.Encoder(device_id(subject), subject, _RATE)


def plain(subject: str = "Face") -> tuple[Player, plain_numpy.Encoder]:
    """The same in plain numpy."""
    return _player(subject, plain_numpy), plain_numpy.Encoder(device_id(subject), subject)


def layered(subject: str = "Face", *, live: bool) -> tuple[Player, livelink.Encoder]:
    """A player with every layer on: idle life, a voice, and perhaps a live face that is always in view."""
    player = Player(subject, _RATE)
    source = CaptureSource(Capture(enabled=True), SystemClock())
    pose = neutral()
    pose[: COUNT // 2] = 0.3
    source.latest = Tracked(pose, math.inf)
    layer = CaptureLayer(source, kernels) if live else None
    player.use(kernels, idle=Idle(), live=layer, talk=talk_kernels)
    return player, livelink.Encoder(device_id(subject), subject, _RATE)


def spoken(script: Sequence[Plan]) -> list[Plan]:
    """The same plans with a text spoken over each."""
    speech = speech_from_text("What a remarkable morning it is, my dear, to go out and pick apples.")
    return [replace(plan, utterance="u", acting=True, speech=speech, speech_start=plan.start) for plan in script]


def _player(subject: str, its_kernels: ModuleType) -> Player:
    player = Player(subject, _RATE)
    player.use(its_kernels)
    return player


def play(player: Player, encoder: _Encoder, script: Sequence[Plan]) -> Iterator[tuple[Pose, bytes]]:
    """Play the plans one after the other; pose and packet of each frame."""
    for tick in range(len(script) * _TICKS_A_CUT):
        player.plan = script[tick // _TICKS_A_CUT]
        frame = player.frame(tick * _RATE.period, tick, 0.0)
        yield frame.pose, encoder.encode(frame)


def _time(player: Player, encoder: _Encoder, script: Sequence[Plan]) -> list[float]:
    """The same against a clock, s a frame. Nothing is kept: fresh memory costs more than a frame does."""
    clock = SystemClock()
    seconds = []
    for tick in range(len(script) * _TICKS_A_CUT):
        player.plan = script[tick // _TICKS_A_CUT]
        begin = clock.now()
        encoder.encode(player.frame(tick * _RATE.period, tick, 0.0))
        seconds.append(clock.now() - begin)
    return seconds


def difference(script: Sequence[Plan]) -> float:
    """Largest difference between a compiled and a plain value, in poses and in packets."""
    worst = 0.0
    for (ours, packet), (other, other_packet) in zip(play(*compiled(), script), play(*plain(), script), strict=True):
        sent, other_sent = livelink.decode(packet), livelink.decode(other_packet)
        if (sent.device, sent.number, sent.rate) != (other_sent.device, other_sent.number, other_sent.rate):
            raise KffError("frame: compiled and plain packets differ in their heads")
        worst = max(worst, float(np.abs(ours - other).max()), float(np.abs(sent.pose - other_sent.pose).max()))  # type: ignore[operator]
    return worst


def frame(*, tell: Tell) -> list[Row]:
    """The rows of one frame, and of many subjects.

    Raises:
        KffError: compiled and plain results differ, so that the comparison would mean nothing.
    """
    tell(f"frame: {4 * _ROUNDS * _CUTS * _TICKS_A_CUT} frames")
    fast, slow = [], []
    full: dict[bool, list[list[float]]] = {False: [], True: []}
    for seed in range(_ROUNDS):  # alternating, so that a busy moment of the machine hits both
        script = plans(seed)
        if not seed:
            worst = difference(script)
            if worst > TOLERANCE:
                raise KffError(f"frame: compiled and plain poses differ by {worst}")
        fast.append(_time(*compiled(), script))
        slow.append(_time(*plain(), script))
        for live, times in full.items():
            times.append(_time(*layered(live=live), spoken(script)))
    ours, other = 1e6 * np.array(fast), 1e6 * np.array(slow)
    cuts = slice(0, None, _TICKS_A_CUT)

    def row(what: str, value: float, reference: float, target: str = "", met: bool | None = None) -> Row:
        return Row(
            part=_PART, what=what, value=float(value), unit="us", reference=float(reference),
            reference_is="plain numpy", target=target, met=met,
        )  # fmt: skip

    median = float(np.median(ours))
    layers = {live: 1e6 * float(np.median(times)) for live, times in full.items()}
    return [
        row("median", median, np.median(other), "<= 10 us", median <= 10.0),
        row("p99", np.percentile(ours, 99), np.percentile(other, 99)),
        row("a frame that cuts, median", np.median(ours[:, cuts]), np.median(other[:, cuts])),
        *(
            Row(
                part=_PART, what=what, value=layers[live], unit="us",
                reference=median, reference_is="the acted expression alone",
                target="<= 15 us", met=layers[live] <= 15.0,
            )
            for live, what in (
                (False, "idle life and a voice, median"),
                (True, "the same and a live face in view, median"),
            )
        ),
        *_many(tell),
    ]  # fmt: skip


class _Packets:
    """A sink that encodes and lets go."""

    def __init__(self, encoder: _Encoder) -> None:
        self._encoder = encoder

    def send(self, frame: Frame) -> None:
        self._encoder.encode(frame)


def _many(tell: Tell) -> list[Row]:
    """Many subjects played in real time: CPU time a second, and frames that were skipped."""
    tell(f"frame: {_SUBJECTS} subjects, {2 * _SUBJECT_SECONDS:g} s")
    share, skipped = _share(compiled)
    plain_share, plain_skipped = _share(plain)
    what = f"{_SUBJECTS} subjects at {_RATE.hz:g} Hz"
    return [
        Row(
            part=_PART, what=f"{what}: share of a core", value=share, reference=plain_share,
            reference_is="plain numpy", target="<= 1", met=share <= 1.0,
        ),
        Row(
            part=_PART, what=f"{what}: frames skipped", value=skipped, reference=plain_skipped,
            reference_is="plain numpy", target="0", met=skipped == 0,
        ),
    ]  # fmt: skip


def _share(make: Callable[[str], tuple[Player, _Encoder]]) -> tuple[float, int]:
    lanes = []
    clock = SystemClock()
    for i in range(_SUBJECTS):
        player, encoder = make(f"Face {i}")
        (plan,) = plans(i, cuts=1)
        player.plan = Plan(plan.track, start=clock.now(), cut=1)
        lanes.append(Lane(player, [_Packets(encoder)]))
    thread = FrameThread(clock, _RATE, lanes)
    began, used = clock.now(), cpu_seconds()
    thread.run(round(_SUBJECT_SECONDS * _RATE.hz))
    return (cpu_seconds() - used) / (clock.now() - began), thread.stats.skipped
