"""Writes a file whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from kff_live.protocols.errors import UserError


@contextmanager
def whole(path: Path, *, binary: bool = False, force: bool = False) -> Iterator[IO[Any]]:
    """A file that appears under its name when the block has ended well; text is UTF-8 with line feeds.

    What is no ordinary file, such as a pipe, is written to as it is.

    Raises:
        UserError: it exists and `force` is not set, or it cannot be written.
    """
    target = path.resolve()  # the file that a link leads to, not the link, is what is written
    special = target.exists() and not target.is_file() and not target.is_dir()
    part = target if special else target.with_name(f".{target.name}.{os.getpid()}.part")
    _refuse(path, target, force or special)
    try:
        with _open(part, "w" if special else "x", binary=binary) as file:
            yield file
        if not special:
            _refuse(path, target, force)
            part.replace(target)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        if not special:
            with suppress(OSError):
                part.unlink()


def _refuse(path: Path, target: Path, force: bool) -> None:
    if target.is_dir():
        raise UserError(f"{path}: it is a folder")
    if target.exists() and not force:
        raise UserError(f"{path}: it exists; --force overwrites it")


def _open(path: Path, mode: str, *, binary: bool) -> IO[Any]:
    if binary:
        return path.open(mode + "b")
    return path.open(mode, encoding="utf-8", newline="\n")
