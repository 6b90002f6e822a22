"""OSC datagrams with the values of a face, judged: our own addresses, Face Cap's, VRChat's, and any other number."""

import math
from urllib.parse import unquote

from kff_live.protocols.channels import COUNT, INDEX, LIVELINK, SHAPES
from kff_live.protocols.errors import DecodeError
from kff_live.protocols.monitor.livelink import HIGHEST, LOWEST
from kff_live.protocols.monitor.osc_packet import UNREAL_TAGS, Message, read
from kff_live.protocols.monitor.stream import Arrival, Finding, Judged
from kff_live.protocols.osc import FACE_CAP, MOST_BYTES

_FOLDED = {name.lower(): name for name in LIVELINK}
_NUMBERS = "ifdhtTF"
_KINDS = {"i": "an integer", "d": "a double", "h": "a 64-bit integer", "t": "a time", "T": "true", "F": "false"}


class OscJudge:
    """Judges datagrams: `/<subject>/pose`, `/<subject>/<channel>`, VRChat's parameters, any other number by address."""

    def __call__(self, data: bytes, sender: str) -> Judged:
        """What `data` holds and what is wrong with it."""
        try:
            messages = read(data)
        except DecodeError as error:
            return Judged((), (Finding("osc", True, str(error)),))
        found = packet_findings(data, messages)
        subjects: dict[str, dict[str, float]] = {}
        for message in messages:
            subject, values = _values(message, sender)
            found += value_findings(message, values)
            if message.address.endswith("/pose") and len(values) != COUNT:
                reason = f"{message.address}: {len(values)} numbers, a pose has {COUNT}"
                found.append(Finding("count", True, reason))
            subjects.setdefault(subject, {}).update(values)
        arrivals = tuple(Arrival(subject, values) for subject, values in subjects.items() if values)
        return Judged(arrivals, tuple(found))


def _values(message: Message, sender: str) -> tuple[str, dict[str, float]]:
    """The subject of a message, and its numbers by name."""
    numbers = [float(value) for tag, value in zip(message.tags, message.values, strict=True) if tag in _NUMBERS]
    *path, last = message.address.strip("/").split("/")
    if path[:2] == ["avatar", "parameters"]:
        return "VRChat", dict(zip(["/".join([*path[2:], last])], numbers, strict=False))
    if message.address == "/W" and message.tags == "if" and 0 <= message.values[0] < len(FACE_CAP):
        return "Face Cap", {FACE_CAP[message.values[0]]: message.values[1]}
    if message.address == "/HR" and message.tags == "fff":
        pitch, yaw, roll = (math.radians(degrees) for degrees in message.values)
        return "Face Cap", {"HeadPitch": -pitch, "HeadYaw": yaw, "HeadRoll": roll}
    if last == "pose" and len(numbers) == COUNT and path:
        return unquote(path[-1]), dict(zip(LIVELINK, numbers, strict=True))
    if last.lower() in _FOLDED and len(numbers) == 1 and path:
        return unquote(path[-1]), {_FOLDED[last.lower()]: numbers[0]}
    if len(numbers) == 1:
        return sender, {message.address: numbers[0]}
    return sender, {f"{message.address}[{i}]": number for i, number in enumerate(numbers)}


def packet_findings(data: bytes, messages: list[Message]) -> list[Finding]:
    """What is wrong with a whole datagram: its size, and types that Unreal does not know."""
    found = []
    if len(data) > MOST_BYTES:
        reason = (
            f"{len(data)} bytes do not fit into one packet, which holds {MOST_BYTES}: no harm on one machine, "
            "but on Wi-Fi a lost part loses them all"
        )
        found.append(Finding("size", False, reason))
    for message in messages:
        unknown = [tag for tag in message.tags if tag not in UNREAL_TAGS]
        if unknown:
            reason = f"{message.address}: the type {unknown[0]!r} stops Unreal's OSC plugin"
            found.append(Finding("tag", True, reason))
    return found


def value_findings(message: Message, values: dict[str, float]) -> list[Finding]:
    """What is wrong with the numbers of a message."""
    found = []
    wrong = [tag for tag in message.tags if tag in _KINDS]
    if message.address != "/W" and wrong and not INDEX.keys().isdisjoint(values):
        kind = f"{_KINDS[wrong[0]]} where a float belongs"
        reason = f"{message.address}: {kind}: receivers ignore it or read 0"
        found.append(Finding("type", True, reason))
    for name, value in values.items():
        found += range_finding(name, value)
    return found


def range_finding(name: str, value: float) -> list[Finding]:
    """What is wrong with a value of a channel, or of anything else."""
    if not math.isfinite(value):
        return [Finding("values", True, f"{name} is not a finite number")]
    place = INDEX.get(name)
    if place is not None and place < SHAPES and not LOWEST <= value <= HIGHEST:
        return [Finding("range", False, f"{name} is {value:.3g}: a blendshape goes from 0 to 1")]
    if place is not None and place >= SHAPES and abs(value) > math.pi:
        return [Finding("angle", False, f"{name} is {value:.3g}: rotations are radians; are these degrees?")]
    return []
