"""VRChat: the avatar parameters that VRCFaceTracking made usual ("v2", Unified Expressions), and native eye tracking.

Names, formulas and the table from ARKit are those of VRCFaceTracking (UnifiedExpressionsParameters.cs,
UnifiedSimpleExpressions.cs, its documentation's arkit.mdx). Parameters that ARKit cannot move, such as NasalDilation,
are left to the avatar. VRChat ignores what the avatar does not have.
"""

import math
import re
import struct
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from kff_live.protocols import osc
from kff_live.protocols.channels import COUNT, INDEX, LIVELINK, Pose
from kff_live.protocols.errors import EncodeError
from kff_live.protocols.frames import Frame

DEFAULT_PORT = 9000
DEFAULT_LISTEN_PORT = 9001
"""Where VRChat reports to, the change of an avatar among other things."""

RESEND_SECONDS = 1.0
"""After so long everything is sent again: an avatar may have been loaded unnoticed."""

STEP = 1e-3
"""Smallest change of a value that is sent; for the native gaze, in degrees, a hundred times as much."""

MOST_BITS = 8
"""Of a parameter as bits."""

_CHANGE = b"/avatar/change\0"
_FLAGS = ("EyeTrackingActive", "ExpressionTrackingActive", "LipTrackingActive")
_SIDES = ("Left", "Right")

# Unified name -> ARKit channel; {} is the side.
_ONE = {
    "JawOpen": "JawOpen", "JawLeft": "JawLeft", "JawRight": "JawRight", "JawForward": "JawForward",
    "MouthClosed": "MouthClose", "MouthRaiserUpper": "MouthShrugUpper", "MouthRaiserLower": "MouthShrugLower",
    "TongueOut": "TongueOut",
}  # fmt: skip
_EACH_SIDE = {
    "EyeSquint": "EyeSquint{}", "EyeWide": "EyeWide{}", "BrowPinch": "BrowDown{}", "BrowLowerer": "BrowDown{}",
    "BrowDown": "BrowDown{}", "BrowInnerUp": "BrowInnerUp", "BrowOuterUp": "BrowOuterUp{}",
    "CheekSquint": "CheekSquint{}", "CheekPuff": "CheekPuff", "CheekPuffSuck": "CheekPuff",
    "NoseSneer": "NoseSneer{}", "LipSuckUpper": "MouthRollUpper", "LipSuckLower": "MouthRollLower",
    "LipFunnelUpper": "MouthFunnel", "LipFunnelLower": "MouthFunnel", "LipPuckerUpper": "MouthPucker",
    "LipPuckerLower": "MouthPucker", "LipPucker": "MouthPucker", "MouthUpperUp": "MouthUpperUp{}",
    "MouthUpperDeepen": "MouthUpperUp{}", "MouthLowerDown": "MouthLowerDown{}", "MouthUpper": "Mouth{}",
    "MouthLower": "Mouth{}", "MouthCornerPull": "MouthSmile{}", "MouthCornerSlant": "MouthSmile{}",
    "MouthSmile": "MouthSmile{}", "MouthFrown": "MouthFrown{}", "MouthStretch": "MouthStretch{}",
    "MouthDimple": "MouthDimple{}", "MouthPress": "MouthPress{}",
}  # fmt: skip

# Combined name -> what is added and what is taken away.
_DIFFERENCES = {
    "JawX": ("JawRight", "JawLeft"), "MouthUpperX": ("MouthUpperRight", "MouthUpperLeft"),
    "MouthLowerX": ("MouthLowerRight", "MouthLowerLeft"), "MouthX": ("MouthUpperRight", "MouthUpperLeft"),
    **{f"LipSuckFunnel{lip}{side}": (f"LipSuck{lip}{side}", f"LipFunnel{lip}{side}")
       for lip in ("Upper", "Lower") for side in _SIDES},
    **{f"{name}{side}": (f"MouthSmile{side}", f"MouthFrown{side}")
       for name in ("SmileFrown", "MouthCornerY") for side in _SIDES},
    **{f"BrowExpression{side}": (f"_BrowRaised{side}", f"BrowDown{side}") for side in _SIDES},
}  # fmt: skip

# Combined name -> the mean of both sides of it.
_MEANS = (
    "BrowUp", "BrowDown", "BrowInnerUp", "BrowOuterUp", "BrowExpression", "CheekSquint", "CheekPuffSuck",
    "LipSuckUpper", "LipSuckLower", "LipFunnelUpper", "LipFunnelLower", "LipPuckerUpper", "LipPuckerLower", "LipPucker",
    "LipSuckFunnelUpper", "LipSuckFunnelLower", "MouthUpperUp", "MouthLowerDown", "MouthStretch", "MouthPress",
    "MouthDimple", "MouthTightenerStretch", "MouthCornerY", "NoseSneer", "SmileFrown",
)  # fmt: skip


def _rows() -> dict[str, NDArray[np.float64]]:
    """Parameters that are weighted sums of channels, each as its weights, float64[61]."""
    arkit = dict(zip(LIVELINK, np.eye(COUNT), strict=True))
    rows = {name: arkit[channel] for name, channel in _ONE.items()}
    for side in _SIDES:
        rows |= {f"{name}{side}": arkit[channel.format(side)] for name, channel in _EACH_SIDE.items()}
        inner, outer = rows[f"BrowInnerUp{side}"], rows[f"BrowOuterUp{side}"]
        rows[f"BrowUp{side}"] = 0.6 * outer + 0.4 * inner
        rows[f"_BrowRaised{side}"] = 0.5 * outer + 0.5 * inner
        rows[f"MouthTightenerStretch{side}"] = -rows[f"MouthStretch{side}"]
    rows |= {name: rows[more] - rows[less] for name, (more, less) in _DIFFERENCES.items()}
    rows |= {name: (rows[f"{name}Left"] + rows[f"{name}Right"]) / 2 for name in _MEANS}
    rows["LipSuck"] = (rows["LipSuckUpper"] + rows["LipSuckLower"]) / 2
    rows["LipFunnel"] = (rows["LipFunnelUpper"] + rows["LipFunnelLower"]) / 2
    rows["MouthOpen"] = (rows["MouthUpperUp"] + rows["MouthLowerDown"]) / 2
    rows["JawZ"] = rows["JawForward"]
    for axis, sign in (("Yaw", -1), ("Pitch", -1), ("Roll", 1)):
        rows[f"Head/{axis}"] = sign * 2 / math.pi * arkit[f"Head{axis}"]  # 1 is a quarter turn
    return {name: row for name, row in rows.items() if not name.startswith("_")}


_ROWS = _rows()
_MATRIX = np.stack(list(_ROWS.values())).astype(np.float32)
_BENT = (
    "EyeLeftX", "EyeLeftY", "EyeRightX", "EyeRightY", "EyeX", "EyeY", "EyeOpenLeft", "EyeOpenRight", "EyeOpen",
    "EyeClosedLeft", "EyeClosedRight", "EyeClosed", "EyeLidLeft", "EyeLidRight", "EyeLid", "EyeWide", "EyeSquint",
    "EyesSquint", "MouthSadLeft", "MouthSadRight", "SmileSadLeft", "SmileSadRight", "SmileSad",
)  # fmt: skip

PARAMETERS: tuple[str, ...] = (*_ROWS, *_BENT)
"""Names of all parameters, as they follow "v2/", in the order of `parameters`."""

_CLOSED = PARAMETERS.index("EyeClosed")
_GAZE = [INDEX[name] for name in ("LeftEyePitch", "LeftEyeYaw", "RightEyePitch", "RightEyeYaw")]


def parameters(pose: Pose) -> NDArray[np.float32]:
    """The value of each of PARAMETERS, -1 to 1."""
    values: NDArray[np.float32] = np.concatenate([_MATRIX @ pose, list(_bent(pose))]).astype(np.float32)
    return np.clip(values, -1.0, 1.0, out=values)


def _bent(pose: Pose) -> Iterator[float]:
    """Those that are no weighted sums, in the order of _BENT."""

    def both(name: str) -> tuple[float, float]:
        return float(pose[INDEX[name.format("Left")]]), float(pose[INDEX[name.format("Right")]])

    (left_x, right_x), (down_left, down_right) = both("{}EyeYaw"), both("{}EyePitch")
    x = math.tan(left_x), math.tan(right_x)
    y = -math.tan(down_left), -math.tan(down_right)
    yield from (x[0], y[0], x[1], y[1], sum(x) / 2, sum(y) / 2)
    blink, squint, wide = both("EyeBlink{}"), both("EyeSquint{}"), both("EyeWide{}")
    opened = [1.0 - min(max(b * (1.0 + s), 0.0), 1.0) for b, s in zip(blink, squint, strict=True)]
    opened.append(sum(opened) / 2)
    lids = (*wide, sum(wide) / 2)
    yield from opened
    yield from (1.0 - o for o in opened)
    yield from (0.75 * o + 0.25 * w for o, w in zip(opened, lids, strict=True))
    yield from (max(wide), max(squint), max(squint))
    sad = [max(pair) for pair in zip(both("MouthFrown{}"), both("MouthStretch{}"), strict=True)]
    smile_sad = [smile - s for smile, s in zip(both("MouthSmile{}"), sad, strict=True)]
    yield from (*sad, *smile_sad, sum(smile_sad) / 2)


def avatar_changed(data: bytes) -> bool:
    """Whether a datagram of VRChat says that another avatar was loaded. Cheap: VRChat reports every parameter."""
    return _CHANGE in data


class Encoder:
    """Writes what has changed, and everything at least once in RESEND_SECONDS.

    Args:
        prefix: of the parameters on the avatar, such as "FT"; "" for none.
        native_eyes: also send VRChat's own eye tracking, which needs no parameters on the avatar.
        binary: parameters that the avatar has as bits (`JawOpen1`, `JawOpen2`, `JawOpen4`, `JawOpenNegative`), and how
            many; they are sent as floats too.

    Raises:
        EncodeError: `prefix` cannot stand in an address, or `binary` names what is not one of PARAMETERS.
    """

    def __init__(self, *, prefix: str = "", native_eyes: bool = True, binary: Mapping[str, int] | None = None) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_.\-]+(/[A-Za-z0-9_.\-]+)*|", prefix):
            raise EncodeError(f"prefix: {prefix!r} is not the beginning of a parameter's name such as 'FT'")
        for name, bits in (binary or {}).items():
            if name not in PARAMETERS or not 1 <= bits <= MOST_BITS:
                raise EncodeError(f"binary: {name} = {bits} is not a parameter such as JawOpen and 1 to {MOST_BITS}")
        base = "/avatar/parameters/" + (f"{prefix}/" if prefix else "")
        self._heads = [_head(f"{base}v2/{name}", ",f") for name in PARAMETERS]
        self._bits = {
            PARAMETERS.index(name): [
                *(_switch(f"{base}v2/{name}{1 << bit}") for bit in range(bits)),
                _switch(f"{base}v2/{name}Negative"),
            ]
            for name, bits in (binary or {}).items()
        }
        flags = [address for flag in _FLAGS for address in {f"/avatar/parameters/{flag}", f"{base}{flag}"}]
        self._flags = [_switch(address) for address in sorted(flags)]
        self._gaze = _head("/tracking/eye/LeftRightPitchYaw", ",ffff") if native_eyes else b""
        self._closed = _head("/tracking/eye/EyesClosedAmount", ",f")
        self._sent = np.full(len(PARAMETERS) + len(_GAZE), np.nan)
        self._due: float = -math.inf

    def resend(self) -> None:
        """Send everything with the next frame."""
        self._due = -math.inf

    def farewell(self) -> list[bytes]:
        """The bundles that tell the avatar that nobody moves its face any more."""
        return _bundles([off for off, _ in self._flags])

    def encode(self, frame: Frame) -> list[bytes]:
        """The bundles of what has changed; none where nothing has."""
        elements: list[bytes] = []
        if frame.number >= self._due:
            self._due = frame.number + math.floor(RESEND_SECONDS * frame.rate.hz)
            self._sent[:] = np.nan
            elements += [on for _, on in self._flags]
        values = parameters(frame.pose)
        gaze = np.degrees(frame.pose[_GAZE])
        now = np.rint(np.concatenate([values, gaze / 100.0]) / STEP)
        changed = now != self._sent  # NaN, of what is not sent yet, differs from everything
        self._sent = now
        floats = values.tolist()
        for i in np.flatnonzero(changed[: len(PARAMETERS)]).tolist():
            elements.append(self._heads[i] + struct.pack(">f", floats[i]))
            if i in self._bits:
                elements += _bits(floats[i], self._bits[i])
        if self._gaze:
            if changed[len(PARAMETERS) :].any():
                elements.append(self._gaze + struct.pack(">4f", *gaze.tolist()))
            if changed[_CLOSED]:
                elements.append(self._closed + struct.pack(">f", floats[_CLOSED]))
        return _bundles(elements)


def _head(address: str, tags: str) -> bytes:
    """A message up to its arguments."""
    return b"".join(part.encode() + bytes(4 - len(part) % 4) for part in (address, tags))


def _switch(address: str) -> tuple[bytes, bytes]:
    """The messages of a bool: off, on."""
    return _head(address, ",F"), _head(address, ",T")


def _bits(value: float, switches: list[tuple[bytes, bytes]]) -> Iterator[bytes]:
    """The messages of a value in [-1, 1] as bits, lowest first, and its sign."""
    most = 1 << (len(switches) - 1)
    level = min(int(abs(value) * most), most - 1) | most * (value < 0)
    return (switch[level >> bit & 1] for bit, switch in enumerate(switches))


def _bundles(elements: list[bytes]) -> list[bytes]:
    return [
        b"".join([osc.BUNDLE, *(struct.pack(">i", len(element)) + element for element in run)])
        for run in osc.split(elements, osc.MOST_BYTES)
    ]
