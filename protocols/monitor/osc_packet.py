"""OSC read strictly and with its type tags, which other readers drop: an integer where a float belongs is what to find.

Open Sound Control 1.0: everything big-endian and padded to 4 bytes; a bundle is "#bundle", a time tag, and elements of
i32 size and contents.
"""

import struct
from typing import Any

import msgspec

from kff_live.protocols import osc
from kff_live.protocols.errors import DecodeError

UNREAL_TAGS = "cifdhtsbrTFNI"
"""Type tags that Unreal's OSC plugin knows; another one stops it at an assertion."""

_FORMS = {"i": ">i", "f": ">f", "h": ">q", "d": ">d", "t": ">Q", "c": ">I", "r": ">I", "m": ">I", "b": ">i"}
_CONSTANTS = {"T": True, "F": False, "N": None, "I": None, "[": None, "]": None}


class Message(msgspec.Struct, frozen=True):
    """One message: address, type tags without the comma, and a value a tag."""

    address: str
    tags: str
    values: tuple[Any, ...]


def read(data: bytes) -> list[Message]:
    """The messages of a datagram in order, also of bundles within bundles.

    Raises:
        DecodeError: it is not OSC.
    """
    if len(data) % 4:
        raise DecodeError(f"osc: {len(data)} bytes are not a multiple of 4")
    if data.startswith(b"#bundle\0") and len(data) < len(osc.BUNDLE):
        raise DecodeError("osc: the bundle ends inside its time tag")
    return [_message(element) for element in osc.elements(data)]


def _message(data: bytes) -> Message:
    if not data.startswith(b"/"):
        raise DecodeError(f"osc: expected an address that begins with '/', got {data[:8]!r}")
    address, at = _string(data, 0)
    if at == len(data):
        return Message(address, "", ())  # without type tags, as old senders do
    tags, at = _string(data, at)
    if not tags.startswith(","):
        raise DecodeError(f"osc: {address}: the type tags {tags!r} do not begin with a comma")
    values = []
    for tag in tags[1:]:
        value, at = _value(data, at, tag, address)
        values.append(value)
    if at != len(data):
        raise DecodeError(f"osc: {address}: {len(data) - at} bytes after the last value")
    return Message(address, tags[1:], tuple(values))


def _value(data: bytes, at: int, tag: str, address: str) -> tuple[Any, int]:
    if tag in _CONSTANTS:
        return _CONSTANTS[tag], at
    if tag in "sS":
        return _string(data, at)
    if tag not in _FORMS:
        raise DecodeError(f"osc: {address}: unknown type tag {tag!r}")
    form = struct.Struct(_FORMS[tag])
    end = at + form.size
    if end <= len(data):
        (value,) = form.unpack_from(data, at)
        if tag != "b":
            return value, end
        if 0 <= value <= len(data) - end:
            return data[end : end + value], end + value + -value % 4
    raise DecodeError(f"osc: {address}: ends inside a value of type {tag!r}")


def _string(data: bytes, at: int) -> tuple[str, int]:
    end = data.find(b"\0", at)
    if end < 0:
        raise DecodeError("osc: a string without its NUL")
    padded = end + 4 - (end - at) % 4
    if padded > len(data) or any(data[end:padded]):
        raise DecodeError("osc: a string is not padded with NUL to 4 bytes")
    try:
        return data[at:end].decode(), padded
    except UnicodeDecodeError:
        raise DecodeError("osc: a string is not UTF-8") from None
