"""OSC out: a frame as one message or a bundle, built once by python-osc and then filled in place.

Addresses, with `prefix` "/kff" and `naming` "pose" (docs/osc.md):
    /kff/<subject>/pose  f x 61                          one message, wire order
`naming` "channels" sends one bundle of 61 messages instead, which is longer than one Ethernet packet:
    /kff/<subject>/<ChannelName>  f
and "camel" the same with ARKit's camelCase names.
"""

import re
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
from pythonosc.osc_message_builder import OscMessageBuilder

from kff_live.protocols.channels import COUNT, LIVELINK
from kff_live.protocols.errors import EncodeError
from kff_live.protocols.frames import Frame

DEFAULT_PORT = 9861
NAMINGS = ("pose", "channels", "camel")

_SAFE = "!\"$&'()+-.:;<=>@\\^_`|~"
"""What an address part may hold besides letters and digits; OSC reserves space # * , / ? [ ] { }."""


def subject_address(subject: str) -> str:
    """The subject as an OSC address part: what OSC reserves or cannot carry is percent-encoded, as in a URL."""
    return quote(subject, safe=_SAFE)


def _build(address: str, count: int) -> OscMessageBuilder:
    message = OscMessageBuilder(address)
    for _ in range(count):
        message.add_arg(0.0, OscMessageBuilder.ARG_TYPE_FLOAT)
    return message


class Encoder:
    """Writes the frames of one subject into one packet built beforehand.

    Raises:
        EncodeError: `prefix` is no OSC address, or `naming` is not one of NAMINGS.
    """

    def __init__(self, subject: str, *, prefix: str = "/kff", naming: str = "pose") -> None:
        if not re.fullmatch(r"(/[^\s#*,/?\[\]{}]+)*", prefix) or not prefix.isascii():
            raise EncodeError(f"prefix: {prefix!r} is not an OSC address such as '/kff'")
        if naming not in NAMINGS:
            raise EncodeError(f"naming: {naming!r} is not one of {', '.join(NAMINGS)}")
        base = f"{prefix}/{subject_address(subject)}"
        if naming == "pose":
            packet = _build(f"{base}/pose", COUNT).build().dgram
            positions = [len(packet) - 4 * COUNT + 4 * i for i in range(COUNT)]
        else:
            bundle = OscBundleBuilder(IMMEDIATELY)
            sizes = []
            for name in LIVELINK:
                shown = name if naming == "channels" else name[0].lower() + name[1:]
                message = _build(f"{base}/{shown}", 1).build()
                bundle.add_content(message)
                sizes.append(4 + message.size)
            packet = bundle.build().dgram
            first = len(packet) - sum(sizes)
            positions = [first + int(end) - 4 for end in np.cumsum(sizes)]
        self._packet = np.frombuffer(packet, np.uint8).copy()
        # Four byte positions a float: one fancy assignment moves all 61 without a Python loop.
        self._bytes: NDArray[np.intp] = (np.array(positions)[:, None] + np.arange(4)).ravel()
        self._floats = np.empty(COUNT, ">f4")
        self._float_bytes = self._floats.view(np.uint8)

    def encode(self, frame: Frame) -> bytes:
        """The datagram of `frame`."""
        self._floats[:] = frame.pose
        self._packet[self._bytes] = self._float_bytes
        return self._packet.tobytes()
