"""Reads a take's file a line at a time: with a limit, the number of the line for errors, and the share that is read."""

import os
import re
from typing import BinaryIO

import msgspec

from kff_live.protocols.errors import DecodeError

MAX_LINE = 1 << 20
"""Longest line, in bytes; a frame has about 900, an answer of KeyframeFace about 1,500."""

_BYTE = re.compile(r" \(byte (\d+)\)$")
_PATH = re.compile(r" - at `\$\.?(.*)`$")
_QUOTED = re.compile(r"'([^']+)'")


class Lines:
    """The lines of a file, without their ends.

    Iterating raises:
        DecodeError: a line is longer than MAX_LINE, or not UTF-8.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.number = 0
        """Of the line read last, from 1."""
        self.skipped = 0
        """Lines that hold no frame of this take, as readers count them."""
        self._file = file
        self._size = os.fstat(file.fileno()).st_size
        self._read = 0

    @property
    def share(self) -> float:
        """How much of the file is read, 0 to 1; 0 where its size is not known."""
        return self._read / self._size if self._size else 0.0

    def __iter__(self) -> "Lines":
        return self

    def __next__(self) -> str:
        data = self._file.readline(MAX_LINE + 1)
        if not data:
            raise StopIteration
        self._read += len(data)
        self.number += 1
        if len(data) > MAX_LINE:
            raise self.error(f"longer than {MAX_LINE} bytes")
        try:
            text = data.decode("utf-8-sig" if self.number == 1 else "utf-8")  # some editors write a BOM
        except UnicodeDecodeError as error:
            raise self.error("not UTF-8", column=error.start + 1) from None
        return text.rstrip("\r\n")

    def error(self, message: str, *, column: int = 0, name: str = "") -> DecodeError:
        """What is wrong in the line read last; `column` counts from 1, cells in a CSV and characters elsewhere."""
        place = (
            f"line {max(self.number, 1)}" + (f", column {column}" if column else "") + (f" ({name})" if name else "")
        )
        return DecodeError(f"{place}: {message}")

    def error_at_word(self, message: str, text: str) -> DecodeError:
        """The same, at the word of the line's `text` with which the message begins; else at its end."""
        word = _QUOTED.match(message)
        return self.error(message, column=(text.find(word[1]) if word else -1) + 1 or len(text))

    def json_error(self, error: msgspec.DecodeError) -> DecodeError:
        """The same, where msgspec says `... (byte 12)` or names the value."""
        message = str(error)
        if at := _BYTE.search(message):
            return self.error(message[: at.start()], column=int(at[1]) + 1)
        if at := _PATH.search(message):
            return self.error(message[: at.start()], name=at[1])
        return self.error(message, column=1)
