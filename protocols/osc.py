"""OSC: a frame as one message or a bundle that is built once by python-osc and then filled in place.

With `prefix` "/kff" and `naming` (docs/osc.md):
    "pose"      /kff/<subject>/pose  f x 61              one message, wire order
    "channels"  /kff/<subject>/<ChannelName>  f          a bundle of 61, longer than one Ethernet packet
    "camel"     the same with ARKit's camelCase names
    "facecap"   /W  i f                                  a bundle of 52, index and weight as the app Face Cap sends them
                /HR  fff                                 and the head's pitch, yaw, roll in degrees
"""

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from pythonosc.osc_message_builder import OscMessageBuilder

from kff_live.protocols.channels import INDEX, LIVELINK
from kff_live.protocols.errors import DecodeError, EncodeError
from kff_live.protocols.frames import Frame

DEFAULT_PORT = 9861
NAMINGS = ("pose", "channels", "camel", "facecap")

MOST_BYTES = 1472
"""Of a bundle that no network has to fragment: what an Ethernet packet of 1,500 holds besides its headers."""

BUNDLE = b"#bundle\0" + struct.pack(">Q", 1)
"""How a bundle to be acted on at once begins."""

MAX_DEPTH = 8
"""Bundles within bundles that are read."""

FACE_CAP = (
    "BrowInnerUp", "BrowDownLeft", "BrowDownRight", "BrowOuterUpLeft", "BrowOuterUpRight", "EyeLookUpLeft",
    "EyeLookUpRight", "EyeLookDownLeft", "EyeLookDownRight", "EyeLookInLeft", "EyeLookInRight", "EyeLookOutLeft",
    "EyeLookOutRight", "EyeBlinkLeft", "EyeBlinkRight", "EyeSquintLeft", "EyeSquintRight", "EyeWideLeft",
    "EyeWideRight", "CheekPuff", "CheekSquintLeft", "CheekSquintRight", "NoseSneerLeft", "NoseSneerRight", "JawOpen",
    "JawForward", "JawLeft", "JawRight", "MouthFunnel", "MouthPucker", "MouthLeft", "MouthRight", "MouthRollUpper",
    "MouthRollLower", "MouthShrugUpper", "MouthShrugLower", "MouthClose", "MouthSmileLeft", "MouthSmileRight",
    "MouthFrownLeft", "MouthFrownRight", "MouthDimpleLeft", "MouthDimpleRight", "MouthUpperUpLeft",
    "MouthUpperUpRight", "MouthLowerDownLeft", "MouthLowerDownRight", "MouthPressLeft", "MouthPressRight",
    "MouthStretchLeft", "MouthStretchRight", "TongueOut",
)  # fmt: skip
"""The blendshapes by the index that Face Cap gives them."""

_Sized = TypeVar("_Sized", "Message", bytes)

_SAFE = "!\"$&'()+-.:;<=>@\\^_`|~"
"""What an address part may hold besides letters and digits; OSC reserves space # * , / ? [ ] { }."""


def subject_address(subject: str) -> str:
    """The subject as an OSC address part: what OSC reserves or cannot carry is percent-encoded, as in a URL."""
    return quote(subject, safe=_SAFE)


def check_prefix(prefix: str) -> None:
    """Raise EncodeError unless `prefix` is empty or a whole address such as "/kff"."""
    if not re.fullmatch(r"(/[^\s#*,/?\[\]{}]+)*", prefix) or not prefix.isascii():
        raise EncodeError(f"prefix: {prefix!r} is not an OSC address such as '/kff'")


@dataclass(frozen=True)
class Message:
    """An OSC message whose last `floats` arguments are to be filled in."""

    data: bytes
    floats: int

    def __len__(self) -> int:
        return len(self.data)


def message(address: str, *fixed: str | int, floats: int = 0) -> Message:
    """A message of strings and 32-bit integers, then so many floats."""
    builder = OscMessageBuilder(address)
    for value in fixed:
        builder.add_arg(value)
    for _ in range(floats):
        builder.add_arg(0.0, OscMessageBuilder.ARG_TYPE_FLOAT)
    return Message(builder.build().dgram, floats)


class Template:
    """A bundle that is built once and filled in place, or a packet of one bare message.

    Args:
        messages: `floats` counts those of all of them.
    """

    def __init__(self, messages: Sequence[Message], *, bundle: bool = True) -> None:
        packet, positions = bytearray(BUNDLE if bundle else b""), []
        for part in messages:
            if bundle:
                packet += struct.pack(">i", len(part.data))
            packet += part.data
            positions += [len(packet) - 4 * (part.floats - i) for i in range(part.floats)]
        self.floats = len(positions)
        self._packet = np.frombuffer(packet, np.uint8)
        # Four byte positions a float: one fancy assignment moves all without a Python loop.
        self._bytes: NDArray[np.intp] = (np.array(positions, np.intp)[:, None] + np.arange(4)).ravel()
        self._floats = np.empty(self.floats, ">f4")
        self._float_bytes = self._floats.view(np.uint8)

    def fill(self, values: NDArray[np.float32]) -> bytes:
        """The packet with `values`, float32[floats], in the order of the messages."""
        self._floats[:] = values
        self._packet[self._bytes] = self._float_bytes
        return self._packet.tobytes()


def split(messages: Sequence[_Sized], most: int) -> list[list[_Sized]]:
    """The messages in as few runs as make bundles of at most `most` bytes; one that is longer has its own."""
    runs: list[list[_Sized]] = []
    size = most
    for part in messages:
        size += 4 + len(part)
        if size > most:
            runs.append([])
            size = len(BUNDLE) + 4 + len(part)
        runs[-1].append(part)
    return runs


def elements(packet: bytes, depth: int = 0) -> Iterator[bytes]:
    """The messages in a packet, also those of bundles within bundles.

    Raises:
        DecodeError: a bundle whose lengths do not fit, or that is deeper than MAX_DEPTH.
    """
    if not packet.startswith(b"#bundle\0"):
        yield packet
        return
    if depth >= MAX_DEPTH:
        raise DecodeError(f"bundle: deeper than {MAX_DEPTH}")
    at = len(BUNDLE)
    while at < len(packet):
        end = at + 4 + int.from_bytes(packet[at : at + 4], "big", signed=True)
        if not at + 4 <= end <= len(packet):
            raise DecodeError(f"bundle: an element at byte {at} does not fit into {len(packet)} bytes")
        yield from elements(packet[at + 4 : end], depth + 1)
        at = end


class Encoder:
    """Writes the frames of one subject into one packet built beforehand.

    Raises:
        EncodeError: `prefix` is no OSC address, or `naming` is not one of NAMINGS.
    """

    def __init__(self, subject: str, *, prefix: str = "/kff", naming: str = "pose") -> None:
        check_prefix(prefix)
        if naming not in NAMINGS:
            raise EncodeError(f"naming: {naming!r} is not one of {', '.join(NAMINGS)}")
        base = f"{prefix}/{subject_address(subject)}"
        sent: Sequence[str] = LIVELINK
        self._scale = np.ones(len(LIVELINK), np.float32)
        if naming == "pose":
            self._template = Template([message(f"{base}/pose", floats=len(LIVELINK))], bundle=False)
        elif naming == "facecap":
            sent = (*FACE_CAP, "HeadPitch", "HeadYaw", "HeadRoll")
            degrees = np.degrees(1.0)
            self._scale = np.array([*[1.0] * len(FACE_CAP), -degrees, degrees, degrees], np.float32)
            weights = [message("/W", i, floats=1) for i in range(len(FACE_CAP))]
            self._template = Template([*weights, message("/HR", floats=3)])
        else:
            names = LIVELINK if naming == "channels" else [name[0].lower() + name[1:] for name in LIVELINK]
            self._template = Template([message(f"{base}/{name}", floats=1) for name in names])
        self._order = np.array([INDEX[name] for name in sent], np.intp)

    def encode(self, frame: Frame) -> bytes:
        """The datagram of `frame`."""
        return self._template.fill(frame.pose[self._order] * self._scale)
