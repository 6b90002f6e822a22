"""The "Live Link Face" source of Unreal 5.6 and later without the wire: control frames, data packets, discovery.

Nothing in common with livelink.py: the device is a TCP server, little-endian, and Unreal speaks first. What is known
was read from the MetaHumanLiveLink and CaptureProtocolStack plugins of Unreal 5.8. Three numbers are compiled into
Unreal and not known: the version of control frames, which Unreal's own first frame carries; that of data packets, which
it does not check; and that of the list of controls. Nor is the unit of the head's rotation.
"""

import struct
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from kff_live.protocols.channels import INDEX, LIVELINK, SHAPES
from kff_live.protocols.errors import DecodeError, EncodeError
from kff_live.protocols.frames import Frame, FrameRate

DEFAULT_PORT = 14785
DISCOVERY_GROUP, DISCOVERY_PORT = "239.255.137.139", 27838
HANDSHAKE = "handshake"
"""The session id of messages before there is a session."""

CONTROLS: tuple[str, ...] = LIVELINK[:SHAPES]
"""What we announce: the blendshapes. Values travel as 0 to 1, so eye rotations cannot; EyeLook* carries the gaze."""

MAX_CONTROL = 1 << 16
"""Bytes of a control message's JSON."""

_MAGIC = b"CPSCONTROL\0"
_HEAD = struct.Struct("<HI")
HEAD_SIZE = len(_MAGIC) + _HEAD.size
_FOUND = b"CPSDISCOVER\0"
_FOUND_HEAD = struct.Struct("<HB")
_REQUEST, _RESPONSE = 0, 1
_TIME = struct.Struct("<ifiiH")
_HEAD_CHANNELS = [INDEX[name] for name in ("HeadRoll", "HeadPitch", "HeadYaw")]
_LAST_SUBFRAME = 1.0 - 2.0**-24


class Request(msgspec.Struct):
    """A control message from Unreal."""

    addressPath: str
    transactionId: int
    type: str = ""
    sessionId: str = ""
    body: dict[str, Any] = {}


def decode_head(data: bytes) -> tuple[int, int]:
    """Version and size of the JSON that follows the head of a control frame.

    Raises:
        DecodeError: it is no control frame, or longer than MAX_CONTROL.
    """
    if len(data) != HEAD_SIZE or not data.startswith(_MAGIC):
        raise DecodeError("control frame: it does not begin with CPSCONTROL")
    version, size = _HEAD.unpack_from(data, len(_MAGIC))
    if size > MAX_CONTROL:
        raise DecodeError(f"control frame: {size} bytes, at most {MAX_CONTROL}")
    return version, size


def decode_request(data: bytes) -> Request:
    """The request in a control frame's JSON.

    Raises:
        DecodeError: it is no request.
    """
    try:
        request = msgspec.json.decode(data, type=Request)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise DecodeError(f"control frame: {error}") from None
    if request.type != "request":
        raise DecodeError(f"control frame: expected a request, got {request.type!r}")
    return request


def response(
    request: Request,
    *,
    version: int,
    session: str,
    milliseconds: int,
    body: Mapping[str, Any] | None = None,
    error: str = "",
) -> bytes:
    """The control frame that answers a request; without a body where there is nothing to say."""
    message: dict[str, Any] = {
        "sessionId": session or HANDSHAKE,
        "addressPath": request.addressPath,
        "transactionId": request.transactionId,
        "timestamp": milliseconds,
        "type": "response",
    }
    if body:
        message["body"] = body
    if error:
        message["error"] = {"name": "Refused", "description": error}
    data = msgspec.json.encode(message)
    return _MAGIC + _HEAD.pack(version, len(data)) + data


def subjects_body(subject_id: str, name: str, *, metadata_version: int) -> dict[str, Any]:
    """The body of the answer to /stream/subjects: the one subject and its controls."""
    metadata = {"type": "arkit", "version": metadata_version, "controls": CONTROLS}
    return {"subjects": [{"id": subject_id, "name": name, "animationMetadata": metadata}]}


def stream_port(request: Request) -> int:
    """The UDP port that /stream/start names.

    Raises:
        DecodeError: it names none.
    """
    port = request.body.get("streamPort")
    if not isinstance(port, int) or not 1 <= port <= 65535:
        raise DecodeError(f"streamPort: {port!r} is not a port")
    return port


class Encoder:
    """Writes the frames of one subject into one data packet built beforehand.

    Args:
        head_scale: what the head's radians are multiplied by.

    Raises:
        EncodeError: the subject's id is longer than the format can say.
    """

    def __init__(self, subject_id: str, rate: FrameRate, *, packet_version: int, head_scale: float) -> None:
        name = subject_id.encode()
        if not 0 < len(name) < 1 << 16:
            raise EncodeError(f"subject id: {len(name)} bytes")
        start = struct.pack("<HH", packet_version, len(name)) + name
        self._time_at = len(start)
        self._rate = rate
        size = self._time_at + _TIME.size + 2 * SHAPES + 4 * 6
        self._packet = bytearray(start + bytes(size - len(start)))
        self._values = np.ndarray(SHAPES, "<u2", self._packet, self._time_at + _TIME.size)
        self._head = np.ndarray(3, "<f4", self._packet, size - 4 * 6)  # the place, x y z, stays 0
        self._head_scale = head_scale

    def encode(self, frame: Frame) -> bytes:
        """The datagram of `frame`."""
        subframe = min(frame.subframe, _LAST_SUBFRAME)
        rate = self._rate
        _TIME.pack_into(self._packet, self._time_at, frame.number, subframe, rate.numerator, rate.denominator, SHAPES)
        np.rint(np.clip(frame.pose[:SHAPES], 0.0, 1.0) * 65535.0, out=self._values, casting="unsafe")
        self._head[:] = frame.pose[_HEAD_CHANNELS] * self._head_scale
        return bytes(self._packet)


def is_discovery_request(data: bytes, *, version: int) -> bool:
    """Whether a datagram asks for devices, in this version of discovery."""
    return data[: len(_FOUND) + _FOUND_HEAD.size] == _FOUND + _FOUND_HEAD.pack(version, _REQUEST)


def discovery_response(server_id: bytes, name: str, port: int, *, version: int) -> bytes:
    """The datagram that says who we are.

    Args:
        server_id: 16 bytes.
        name: at most 255 bytes.
    """
    encoded = name.encode()
    if len(server_id) != 16 or len(encoded) > 255:
        raise EncodeError(f"name: {len(encoded)} bytes, at most 255; or an id of {len(server_id)}, expected 16")
    head = _FOUND + _FOUND_HEAD.pack(version, _RESPONSE)
    return head + server_id + bytes([len(encoded)]) + encoded + struct.pack("<H", port)
