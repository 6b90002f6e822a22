"""VMC datagrams, judged by the specification v3.1 and by what its receivers are known to need."""

import math

from kff_live.protocols import vmc
from kff_live.protocols.channels import COUNT, LIVELINK, SHAPES
from kff_live.protocols.errors import DecodeError
from kff_live.protocols.monitor.osc import packet_findings, range_finding
from kff_live.protocols.monitor.osc_packet import Message, read
from kff_live.protocols.monitor.stream import MAX_STREAMS, Arrival, Finding, Judged

_TAGS = {"/VMC/Ext/Blend/Val": "sf", "/VMC/Ext/Bone/Pos": "sfffffff", "/VMC/Ext/T": "f", "/VMC/Ext/Blend/Apply": ""}
_VAL, _BONE, _APPLY, _OK = "/VMC/Ext/Blend/Val", "/VMC/Ext/Bone/Pos", "/VMC/Ext/Blend/Apply", "/VMC/Ext/OK"
_CHANNELS = {name.lower(): name for name in LIVELINK[:SHAPES]}
_PRESETS = {*vmc.VRM0, *vmc.VRM1}
_PATIENCE = 60  # packets without Apply, or frames without OK, before that is told
_UNIT = 0.01


class VmcJudge:
    """Judges the datagrams of any number of senders; a frame is what lies before an Apply."""

    def __init__(self) -> None:
        self._senders: dict[str, _Sender] = {}

    def __call__(self, data: bytes, sender: str) -> Judged:
        """The frames that `data` completes, and what is wrong with it."""
        if sender not in self._senders and len(self._senders) == MAX_STREAMS:
            self._senders.clear()
        return self._senders.setdefault(sender, _Sender(sender)).judge(data)


class _Sender:
    """What one sender has sent since its last Apply, and ever."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._decoder = vmc.Decoder()
        self._clips: dict[str, float] = {}  # since the last Apply
        self._known: set[str] = set()
        self._packets = 0  # with values, since the last Apply
        self._frames = 0  # since the last OK

    def judge(self, data: bytes) -> Judged:
        try:
            messages = read(data)
        except DecodeError as error:
            return Judged((), (Finding("osc", True, str(error)),))
        try:
            poses = self._decoder.feed(data)
        except DecodeError as error:
            return Judged((), (Finding("value", True, str(error)),))
        found = packet_findings(data, messages)
        arrivals: list[Arrival] = []
        for message in messages:
            found += _message_findings(message)
            if message.address == _VAL and message.tags == "sf":
                self._clips[message.values[0]] = message.values[1]
            elif message.address == _OK:
                self._frames = 0
            elif message.address == _APPLY and len(arrivals) < len(poses):
                found += self._frame_findings()
                pose = dict(zip(LIVELINK, poses[len(arrivals)].tolist(), strict=True))
                others = {name: value for name, value in self._clips.items() if name.lower() not in _CHANNELS}
                arrivals.append(Arrival(f"VMC from {self._name}", pose | others))
                self._clips = {}
                self._packets = 0
        if self._clips:
            self._packets += 1
            if self._packets > _PATIENCE:
                reason = f"{self._packets} packets with values and no /VMC/Ext/Blend/Apply: receivers show nothing"
                found.append(Finding("apply", True, reason))
        return Judged(tuple(arrivals), tuple(found))

    def _frame_findings(self) -> list[Finding]:
        """What is wrong with what lies before an Apply."""
        found = []
        clips = set(self._clips)
        self._frames += 1
        if self._frames > _PATIENCE:
            found.append(Finding("ok", False, "no /VMC/Ext/OK: by the specification no model is loaded yet"))
        if len(self._known) < COUNT + len(_PRESETS):
            self._known |= clips
        missing = self._known - clips
        shapes = {name.lower() for name in clips} & _CHANNELS.keys()
        if missing:
            reason = f"{len(missing)} clips are not sent again, such as {min(missing)}: some receivers forget them"
            found.append(Finding("partial", False, reason))
        elif 0 < len(shapes) < SHAPES:
            reason = f"{len(shapes)} of the {SHAPES} ARKit clips are sent: VSeeFace wants all"
            found.append(Finding("clips", False, reason))
        return found


def _message_findings(message: Message) -> list[Finding]:
    """What is wrong with one message by itself."""
    expected = _TAGS.get(message.address)
    if expected is not None and message.tags != expected:
        reason = f"{message.address}: the types are {message.tags!r}, receivers want {expected!r}"
        return [Finding("type", True, reason)]
    if message.address == _OK and message.values[:1] != (1,):
        return [Finding("ok", False, f"/VMC/Ext/OK is {message.values[:1]}: receivers wait for (1,)")]
    if message.address == _VAL:
        return _clip_findings(*message.values)
    if message.address == _BONE:
        name, *_, x, y, z, w = message.values
        length = math.sqrt(x * x + y * y + z * z + w * w)
        if abs(length - 1.0) > _UNIT:
            return [Finding("unit", False, f"{name}: the quaternion's length is {length:.3g}, expected 1")]
    return []


def _clip_findings(name: str, value: float) -> list[Finding]:
    known = _CHANNELS.get(name.lower())
    if known is not None and known != name:
        reason = f"the clip is called {name!r}: models mostly have {known!r}, and many receivers mind the case"
        return [Finding("case", False, reason), *range_finding(name, value)]
    return range_finding(name, value)
