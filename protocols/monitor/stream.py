"""Streams of frames as they arrive: rate, jitter, missing frames, and what is wrong from one frame to the next.

Nothing here reads a clock: every time is passed in, in seconds on any scale that never goes back.
"""

import collections
import math
import statistics
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
import numpy as np

from kff_live.protocols.frames import FrameRate, timecode

WINDOW = 5.0
"""Seconds over which rate, jitter and the longest interval are taken."""

MAX_STREAMS = 64
"""Subjects that are followed; one more takes the place of that which has been silent longest."""

MAX_VALUES = 256
"""Values that are kept for one subject: a sender of OSC can name anything."""

LEAST_HZ = 30.0
"""Below it a face looks choppy."""

_MAX_TIMES = 5000  # a window at 1000 frames a second
_LATE_STEPS = 8  # a frame that comes so many steps after its turn is late; one from further back is a restart
_JUMP_SECONDS = 10.0
_SILENT_SECONDS = 1.0
_STILL_SECONDS = 3.0
_SETTLED_SECONDS = 2.0  # before that a rate says little
_RATE_OFF = 0.1
_BURST_SHARE, _BURST_INTERVAL = 0.25, 0.2  # a quarter of the intervals shorter than a fifth of the mean


class Finding(msgspec.Struct, frozen=True):
    """What is wrong with a datagram.

    Args:
        rule: short name of the rule, always the same, such as "count".
        rejected: whether a strict receiver drops the datagram; else it is accepted and does harm.
        reason: what was seen and what was expected, for a person.
    """

    rule: str
    rejected: bool
    reason: str


class Arrival(msgspec.Struct, frozen=True):
    """One frame, or a part of one, as it came out of a datagram.

    `values` are by channel or by whatever name the sender gives; None where the sender says that it sees no face.
    `number` and `rate` are None in formats that have none.
    """

    subject: str
    values: Mapping[str, float] | None
    device: str = ""
    number: int | None = None
    subframe: float = 0.0
    rate: FrameRate | None = None


class Judged(msgspec.Struct, frozen=True):
    """What one datagram held, and what is wrong with it."""

    arrivals: tuple[Arrival, ...] = ()
    findings: tuple[Finding, ...] = ()


Judge = Callable[[bytes, str], Judged]
"""Judges one datagram, given with the address of its sender."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """How a stream runs. Times in ms are over the last WINDOW seconds, counts since its first frame."""

    subject: str
    device: str
    sender: str
    frames: int
    hz: float
    declared: str | None
    jitter_ms: float
    longest_ms: float
    missing: int | None
    repeated: int
    backward: int
    number: int | None
    timecode: str | None
    silent_s: float
    face: bool
    remarks: tuple[str, ...]
    values: dict[str, float]


class Tally(msgspec.Struct):
    """How many datagrams broke a rule, and the latest reason."""

    rejected: bool
    count: int
    reason: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All streams and all findings since the start."""

    packets: int
    rejected: int
    subjects: tuple[Figures, ...]
    findings: dict[str, Tally]


class Stream:
    """The frames of one subject from one device.

    Args:
        identical: why two equal datagrams in a row are wrong in this format; "" where they are not.
    """

    def __init__(self, first: Arrival, sender: str, at: float, *, identical: str = "") -> None:
        self.latest = first
        self.sender = sender
        self.values: dict[str, float] = {}
        self.frames = self.missing = self.repeated = self.backward = 0
        self._identical = identical
        self._first_at = self.last_at = self._changed_at = at
        self._times: collections.deque[float] = collections.deque(maxlen=_MAX_TIMES)
        self._steps: collections.deque[int] = collections.deque(maxlen=60)
        self._number: int | None = None
        self._data = b""

    def take(self, arrival: Arrival, data: bytes, sender: str, at: float) -> list[Finding]:
        """Take over one frame; what is wrong with it after the one before."""
        if self._identical and data == self._data:
            found = [Finding("identical", False, f"two equal datagrams in a row; {self._identical}")]
        else:
            found = self._count(arrival)
        self._data, self.latest, self.sender = data, arrival, sender
        self.frames += 1
        self.last_at = at
        self._times.append(at)
        for name, value in (arrival.values or {}).items():
            if math.isfinite(value) and (name in self.values or len(self.values) < MAX_VALUES):
                if round(value, 3) != round(self.values.get(name, 0.0), 3):
                    self._changed_at = at
                self.values[name] = value
        return found

    def _count(self, arrival: Arrival) -> list[Finding]:
        number, last = arrival.number, self._number
        if number is None or last is None:
            self._number = number
            return []
        step = number - last
        usual = statistics.median_low(self._steps) if self._steps else max(1, step)
        if step == 0:
            self.repeated += 1
            return [Finding("repeated", False, f"frame {number} came twice with different contents")]
        if step < 0:
            self.backward += 1
            if -step <= _LATE_STEPS * usual:
                self.missing = max(0, self.missing - 1)  # it was late, not lost
            else:
                self._number = number
            return [Finding("backward", False, f"frame {number} came after frame {last}")]
        self._number = number
        if step > _JUMP_SECONDS * (arrival.rate.hz if arrival.rate else 60.0):
            return [Finding("jump", False, f"frame {number} came after frame {last}")]
        self.missing += max(0, round(step / usual) - 1)
        self._steps.append(step)
        return []

    def figures(self, now: float) -> Figures:
        """The stream at time `now`."""
        while self._times and self._times[0] < now - WINDOW:
            self._times.popleft()
        intervals = np.diff(np.array(self._times))
        mean = float(intervals.mean()) if len(intervals) else 0.0
        latest, silent = self.latest, now - self.last_at
        dated = latest.number is not None and latest.rate is not None
        return Figures(
            subject=latest.subject,
            device=latest.device,
            sender=self.sender,
            frames=self.frames,
            hz=round(1.0 / mean, 2) if mean > 0.0 and silent <= _SILENT_SECONDS else 0.0,
            declared=str(latest.rate) if latest.rate else None,
            jitter_ms=round(1000 * float(intervals.std()), 2) if len(intervals) else 0.0,
            longest_ms=round(1000 * float(intervals.max()), 2) if len(intervals) else 0.0,
            missing=None if latest.number is None else self.missing,
            repeated=self.repeated,
            backward=self.backward,
            number=latest.number,
            timecode=timecode(latest.number, latest.subframe, latest.rate) if dated else None,  # type: ignore[arg-type]
            silent_s=round(silent, 2),
            face=latest.values is not None,
            remarks=tuple(self._remarks(now, intervals, mean)),
            values={name: round(value, 4) for name, value in self.values.items()},
        )

    def _remarks(self, now: float, intervals: "np.ndarray[Any, Any]", mean: float) -> Iterable[str]:
        if now - self.last_at > _SILENT_SECONDS:
            yield f"nothing has come for {now - self.last_at:.1f} s"
            return
        if self.latest.values is None:
            yield "the sender sees no face: Unreal drops such packets and keeps the last pose"
        if mean > 0.0 and now - self._first_at >= _SETTLED_SECONDS:
            hz, declared = 1.0 / mean, self.latest.rate.hz if self.latest.rate else None
            if declared is not None and abs(hz - declared) > _RATE_OFF * declared:
                yield f"{hz:.1f} frames a second arrive, the sender says {self.latest.rate}"
            elif hz < LEAST_HZ:
                yield f"{hz:.1f} frames a second: below {LEAST_HZ:g} a face looks choppy"
            if float((intervals < _BURST_INTERVAL * mean).mean()) > _BURST_SHARE:
                yield "frames come in bursts: Unreal shows only the last of each"
        if self.latest.values is not None and now - max(self._changed_at, self._first_at) >= _STILL_SECONDS:
            still = "every value is 0: a face at rest" if not any(self.values.values()) else "no value changes"
            yield f"{still}, for {now - self._changed_at:.0f} s"


class Monitor:
    """Every stream that arrives at one port, judged.

    Args:
        judge: of the format.
        identical: as of `Stream`.
    """

    def __init__(self, judge: Judge, *, identical: str = "") -> None:
        self.packets = self.rejected = 0
        self.findings: dict[str, Tally] = {}
        self.streams: dict[tuple[str, str], Stream] = {}
        self._judge = judge
        self._identical = identical

    def take(self, data: bytes, sender: str, at: float) -> list[Finding]:
        """Judge one datagram that came at time `at`; what is wrong with it, at most once a rule."""
        judged = self._judge(data, sender)
        found = list(judged.findings)
        for arrival in judged.arrivals:
            found += self._stream(arrival, sender, at).take(arrival, data, sender, at)
        self.packets += 1
        self.rejected += any(finding.rejected for finding in found)
        by_rule = {finding.rule: finding for finding in reversed(found)}
        for finding in by_rule.values():
            tally = self.findings.setdefault(finding.rule, Tally(finding.rejected, 0, ""))
            tally.count += 1
            tally.reason = finding.reason
        return list(reversed(by_rule.values()))

    def _stream(self, arrival: Arrival, sender: str, at: float) -> Stream:
        key = (arrival.device, arrival.subject)
        if key not in self.streams:
            if len(self.streams) == MAX_STREAMS:
                del self.streams[min(self.streams, key=lambda known: self.streams[known].last_at)]
            self.streams[key] = Stream(arrival, sender, at, identical=self._identical)
        return self.streams[key]

    def report(self, now: float) -> Report:
        """Everything at time `now`."""
        return Report(
            packets=self.packets,
            rejected=self.rejected,
            subjects=tuple(stream.figures(now) for stream in self.streams.values()),
            findings=self.findings,
        )
