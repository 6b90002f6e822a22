"""Live Link Face over UDP, packet version 6: encode and decode.

One datagram a frame, big-endian throughout: u8 version, device id and subject as i32 byte length and UTF-8, i32 frame
number, f32 sub-frame, i32 numerator, i32 denominator, u8 count, 61 x f32 in wire order. Read from Unreal 5.8's
AppleARKitLiveLinkSource; Unreal drops what does not fit without a message, therefore every field is checked here.
"""

import struct

import msgspec
import numpy as np

from kff_live.protocols.channels import COUNT, Pose
from kff_live.protocols.errors import DecodeError, EncodeError
from kff_live.protocols.frames import Frame, FrameRate

VERSION = 6
DEFAULT_PORT = 11111
MAX_NAMES = 200
"""Most bytes of device id and subject together; Unreal's buffer ends at 1016."""

_TIME = struct.Struct(">ifiiB")
_TIME_HEAD = struct.Struct(">if")
_LAST_SUBFRAME = 1.0 - 2.0**-24  # the largest 32-bit float below 1; a later one would be sent as 1


class Packet(msgspec.Struct, frozen=True):
    """A decoded datagram. `pose` is None in a "no face" packet, which ends after the frame rate."""

    device: str
    subject: str
    number: int
    subframe: float
    rate: FrameRate
    pose: object | None  # channels.Pose


def _name(field: str, value: str) -> bytes:
    if not value or "\0" in value:
        raise EncodeError(f"{field}: {value!r} must not be empty or hold NUL")
    try:
        data = value.encode()
    except UnicodeEncodeError:
        raise EncodeError(f"{field}: {value!r} is not valid Unicode") from None
    return struct.pack(">i", len(data)) + data


class Encoder:
    """Writes the frames of one subject into one packet built beforehand.

    Raises:
        EncodeError: device or subject empty, with NUL, or together longer than MAX_NAMES bytes.
    """

    def __init__(self, device: str, subject: str, rate: FrameRate) -> None:
        names = _name("device", device) + _name("subject", subject)
        if len(names) - 8 > MAX_NAMES:
            raise EncodeError(f"subject: device id and subject have {len(names) - 8} bytes, at most {MAX_NAMES}")
        head = bytes([VERSION]) + names
        self._time_at = len(head)
        self._packet = bytearray(head + _TIME.pack(0, 0.0, rate.numerator, rate.denominator, COUNT) + bytes(4 * COUNT))
        self._floats = np.ndarray(COUNT, ">f4", self._packet, self._time_at + _TIME.size)

    def encode(self, frame: Frame) -> bytes:
        """The datagram of `frame`: 270 + device + subject bytes."""
        _TIME_HEAD.pack_into(self._packet, self._time_at, frame.number, min(frame.subframe, _LAST_SUBFRAME))
        self._floats[:] = frame.pose
        return bytes(self._packet)


def decode(data: bytes) -> Packet:
    """The packet in a datagram; bytes after the last float are ignored, as Unreal does.

    Raises:
        DecodeError: what a strict receiver would drop, and why.
    """
    if not data or data[0] != VERSION:
        raise DecodeError(f"version: expected {VERSION}, got {data[0] if data else 'an empty datagram'}")
    device, at = _read_name(data, 1, "device")
    subject, at = _read_name(data, at, "subject")
    if len(data) < at + 16:
        raise DecodeError(f"length: {len(data)} bytes end inside the frame time")
    number, subframe, numerator, denominator = struct.unpack_from(">ifii", data, at)
    try:
        rate = FrameRate(numerator, denominator)
    except EncodeError as error:
        raise DecodeError(str(error)) from None
    if not 0.0 <= subframe < 1.0:
        raise DecodeError(f"sub-frame: {subframe} is outside 0 to 1")
    at += 16
    if len(data) == at:
        return Packet(device, subject, number, subframe, rate, None)
    if data[at] != COUNT:
        raise DecodeError(f"count: expected {COUNT}, got {data[at]}")
    if len(data) < at + 1 + 4 * COUNT:
        raise DecodeError(f"length: {len(data)} bytes end inside the {COUNT} values")
    pose: Pose = np.frombuffer(data, ">f4", COUNT, at + 1).astype(np.float32)
    if not np.isfinite(pose).all():
        raise DecodeError("values: one is not a finite number")
    return Packet(device, subject, number, subframe, rate, pose)


def _read_name(data: bytes, at: int, field: str) -> tuple[str, int]:
    if len(data) < at + 4:
        raise DecodeError(f"length: {len(data)} bytes end inside the {field} length")
    (length,) = struct.unpack_from(">i", data, at)
    end = at + 4 + length
    if length < 0 or end > len(data):
        raise DecodeError(f"{field} length: {length} does not fit into {len(data)} bytes")
    try:
        return data[at + 4 : end].decode(), end
    except UnicodeDecodeError:
        raise DecodeError(f"{field}: not valid UTF-8") from None
