"""iFacialMocap datagrams, judged by the strictest of its receivers: each depends on something else in the text."""

import re

from kff_live.protocols import ifacialmocap
from kff_live.protocols.channels import LIVELINK, SHAPES
from kff_live.protocols.errors import DecodeError
from kff_live.protocols.monitor.stream import Arrival, Finding, Judged

IDENTICAL = "VMagicMirror takes that for lost tracking"

_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE]-?\d+)?")
_EXTRA = {"trackingStatus", "hapihapi"}


def judge(data: bytes, sender: str) -> Judged:
    """What `data` holds and what is wrong with it."""
    if ifacialmocap.asked_version(data) is not None:
        reason = f"a receiver at {sender} asks for data: that is what a sender listens for, it sends none itself"
        return Judged((), (Finding("handshake", False, reason),))
    try:
        text = data.decode("ascii")
        pose = ifacialmocap.decode(data)
    except UnicodeDecodeError:
        return Judged((), (Finding("ascii", True, "a character is not ASCII"),))
    except DecodeError as error:
        return Judged((), (Finding("packet", True, str(error)),))
    shapes, _, angles = text.partition("=")
    found = [*_frame_findings(text), *_shape_findings(shapes), *_angle_findings(angles)]
    values = None if pose is None else dict(zip(LIVELINK, pose.tolist(), strict=True))
    if values is None:
        found.append(Finding("no-face", False, "trackingStatus is 0: the sender sees no face"))
    arrival = Arrival(f"iFacialMocap from {sender.rpartition(':')[0]}", values)
    return Judged((arrival,), tuple(found))


def _frame_findings(text: str) -> list[Finding]:
    found = []
    if not text.startswith("trackingStatus"):
        reason = "it does not begin with trackingStatus: VRCFaceTracking's module loses the first value, a relay all"
        found.append(Finding("status", True, reason))
    if not text.endswith("|"):
        found.append(Finding("end", True, "it does not end with '|': receivers that drop the last part lose an eye"))
    if "=head#" not in text:
        found.append(Finding("head", True, "'=' is not followed by 'head#'"))
    return found


def _shape_findings(text: str) -> list[Finding]:
    """Names and whole numbers, 0 to 100."""
    found, known = [], set()
    for part in filter(None, text.split("|")):
        name, _, value = part.partition("&" if "&" in part else "-")
        if name in ifacialmocap.NAMES:
            known.add(name)
        elif name not in _EXTRA:
            reason = f"{name!r} is no name of iFacialMocap, such as {ifacialmocap.NAMES[0]!r}"
            found.append(Finding("name", False, reason))
        if not re.fullmatch(r"-?\d+", value):
            reason = f"{part!r}: most receivers read whole numbers only and lose the value"
            found.append(Finding("integer", True, reason))
        elif name in known and not 0 <= int(value) <= 100:
            found.append(Finding("range", False, f"{part!r}: a blendshape goes from 0 to 100"))
    if len(known) < SHAPES:
        found.append(Finding("names", False, f"{len(known)} of the {SHAPES} blendshapes are there"))
    return found


def _angle_findings(text: str) -> list[Finding]:
    found = []
    for part in filter(None, text.split("|")):
        name, _, values = part.partition("#")
        numbers, expected = values.split(","), 6 if name == "head" else 3
        if len(numbers) != expected or not all(_NUMBER.fullmatch(number) for number in numbers):
            reason = f"{name}: expected {expected} numbers with a point, got {values[:60]!r}"
            found.append(Finding("angles", True, reason))
    return found
