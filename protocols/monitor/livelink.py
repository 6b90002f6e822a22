"""Live Link Face datagrams, judged as Unreal and the other receivers of the format do.

What `livelink.decode` refuses is rejected, with a guess at the sender's mistake where the bytes betray it. What is
accepted but does harm is a warning. Sizes and rules were read from Unreal 5.8's AppleARKitLiveLinkSource.
"""

import math
import struct

import numpy as np

from kff_live.protocols import livelink
from kff_live.protocols.channels import COUNT, LIVELINK, SHAPES, Pose
from kff_live.protocols.errors import DecodeError
from kff_live.protocols.monitor.stream import Arrival, Finding, Judged

BUFFER = 1286
"""Bytes of Unreal's receive buffer; what is longer is cut."""

LOWEST, HIGHEST = -0.01, 1.1
"""A blendshape outside is worth a word; the phone app itself reaches 1.05."""

IDENTICAL = "one frame was sent twice, or a sender has stopped making new ones"

_VALUES = 4 * COUNT
_HEAD = 9  # version and two lengths
_TIME = 16  # frame number, sub-frame, rate
_MAX_KNOWN = 1000
_LOWEST = np.array([LOWEST] * SHAPES + [-math.pi] * (COUNT - SHAPES))
_HIGHEST = np.array([HIGHEST] * SHAPES + [math.pi] * (COUNT - SHAPES))

_OTHERS = (
    (b"#bundle", "this is OSC: try --format vmc or --format osc"),
    (b"/", "this is OSC: try --format vmc or --format osc"),
    (b"{", "this is JSON"),
    (b"trackingStatus", "this is iFacialMocap: try --format ifacialmocap"),
)


class LiveLinkJudge:
    """Judges datagrams; remembers which device sends which subject."""

    def __init__(self) -> None:
        self._subjects: dict[str, str] = {}
        self._devices: dict[str, str] = {}

    def __call__(self, data: bytes, sender: str) -> Judged:
        """What `data` holds and what is wrong with it."""
        if len(data) > BUFFER:
            return _rejected("length", f"length: {len(data)} bytes, Unreal's buffer ends at {BUFFER}")
        try:
            packet = livelink.decode(data)
        except DecodeError as error:
            return _rejected(str(error).partition(":")[0].replace(" ", "-"), f"{error}{_guess(data)}")
        pose: Pose | None = packet.pose  # type: ignore[assignment]
        found = [*_accepted(data, packet), *self._names(packet.device, packet.subject)]
        values = None if pose is None else dict(zip(LIVELINK, pose.tolist(), strict=True))
        arrival = Arrival(packet.subject, values, packet.device, packet.number, packet.subframe, packet.rate)
        return Judged((arrival,), tuple(found))

    def _names(self, device: str, subject: str) -> list[Finding]:
        """One device has one subject and the other way round; Unreal compares both without case."""
        if len(self._subjects) > _MAX_KNOWN:
            self._subjects, self._devices = {}, {}
        found = []
        known, owner = device.lower(), subject.lower()
        before = self._subjects.setdefault(known, subject)
        if before.lower() != owner:
            found.append(
                Finding(
                    "two-subjects", False,
                    f"the device {device!r} was {before!r} and is now {subject!r}: Unreal removes one for the other",
                )
            )  # fmt: skip
        other = self._devices.setdefault(owner, device)
        if other.lower() != known:
            found.append(
                Finding(
                    "two-devices", False,
                    f"the subject {subject!r} comes from {other!r} and from {device!r}: their values alternate",
                )
            )  # fmt: skip
        self._subjects[known], self._devices[owner] = subject, device
        return found


def _rejected(rule: str, reason: str) -> Judged:
    return Judged((), (Finding(rule, True, reason),))


def _accepted(data: bytes, packet: livelink.Packet) -> list[Finding]:
    """What a datagram that decodes may still do wrong."""
    found = []
    if "\0" in packet.device + packet.subject or not packet.device or not packet.subject:
        names = f"{packet.device!r} and {packet.subject!r}"
        found.append(Finding("names", False, f"device and subject are {names}: Unreal ends a name at NUL"))
    if not isinstance(packet.pose, np.ndarray):
        return [*found, Finding("no-face", False, "no face in view: Unreal drops it and keeps the last pose")]
    size = _HEAD + _TIME + 1 + _VALUES + len(packet.device.encode()) + len(packet.subject.encode())
    if len(data) > size:
        reason = f"{len(data) - size} bytes after the last value: VRCFaceTracking reads the last {_VALUES} bytes"
        found.append(Finding("trailing", False, reason))
    pose: Pose = packet.pose
    wrong = np.flatnonzero((pose < _LOWEST) | (pose > _HIGHEST)).tolist()
    shapes, angles = [i for i in wrong if i < SHAPES], [i for i in wrong if i >= SHAPES]
    if shapes:
        found.append(Finding("range", False, f"{_named(pose, shapes)}: a blendshape goes from 0 to 1"))
    if angles:
        found.append(Finding("angle", False, f"{_named(pose, angles)}: rotations are radians; are these degrees?"))
    return found


def _named(pose: Pose, indices: list[int]) -> str:
    first = f"{LIVELINK[indices[0]]} is {pose[indices[0]]:.3g}"
    return f"{first} (and {len(indices) - 1} more)" if len(indices) > 1 else first


def _guess(data: bytes) -> str:
    """What the sender of an undecodable datagram seems to have done."""
    for start, guess in _OTHERS:
        if data.startswith(start):
            return f"; {guess}"
    if len(data) < _HEAD or data[0] != livelink.VERSION:
        return ""
    (big,), (little,) = struct.unpack_from(">i", data, 1), struct.unpack_from("<i", data, 1)
    if not 0 <= big <= len(data) and 0 <= little <= len(data):
        return "; the length is little-endian, every field must be big-endian"
    at = 5 + big
    if not 0 <= big <= len(data) - 4 - at:
        return ""
    (announced,) = struct.unpack_from(">i", data, at)
    actual = len(data) - _VALUES - 1 - _TIME - at - 4  # if the datagram is whole, seen from its end
    if actual > announced >= 0 and data[-_VALUES - 1] == COUNT:
        return f"; the subject has {actual} bytes and its length says {announced}: are characters counted, not bytes?"
    counted = at + 4 + announced + _TIME
    if announced < 0 or counted >= len(data):
        return ""
    if data[counted] == SHAPES:
        return "; the nine rotations are missing"
    return "; int(fps / 60) is 0 below 60 fps: send 1" if data[counted - 4 : counted] == bytes(4) else ""
