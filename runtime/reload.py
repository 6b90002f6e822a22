"""Hot reload: watches config.toml and applies a good edit while the face goes on; a bad one changes nothing."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from kff_live.protocols.errors import UserError
from kff_live.runtime.clock import Clock
from kff_live.runtime.config import Config, check, load

_log = logging.getLogger(__name__)
_Struct = TypeVar("_Struct", bound=msgspec.Struct)

LOOK_SECONDS = 0.5
"""How often the file is looked at."""

LIVE = ("queue", "sinks", "idle", "talk", "capture", "subjects")
"""Tables that are applied at once; within `subjects` and `capture` not all keys are."""

_LIVE_SUBJECT = ("release", "gain", "offset", "limit")
_LIVE_CAPTURE = ("fade", "timeout", "smooth", "regions")


def needs_restart(old: Config, new: Config) -> list[str]:
    """Paths of changed keys that cannot be applied while running."""
    found = [key for key in old.__struct_fields__ if key not in LIVE and getattr(old, key) != getattr(new, key)]
    found += _changed("capture", old.capture, new.capture, besides=_LIVE_CAPTURE)
    if [subject.name for subject in old.subjects] != [subject.name for subject in new.subjects]:
        found.append("subjects")
    else:
        for i, (before, after) in enumerate(zip(old.subjects, new.subjects, strict=True)):
            found += _changed(f"subjects[{i}]", before, after, besides=_LIVE_SUBJECT)
    return found


def _changed(path: str, old: msgspec.Struct, new: msgspec.Struct, *, besides: tuple[str, ...]) -> list[str]:
    return [
        f"{path}.{key}"
        for key in old.__struct_fields__
        if key not in besides and getattr(old, key) != getattr(new, key)
    ]


def applicable(old: Config, new: Config) -> Config:
    """The old settings with all of the new ones that can be applied while running."""
    changes = {key: getattr(new, key) for key in LIVE if key not in ("subjects", "capture")}
    changes["capture"] = _replaced(old.capture, new.capture, _LIVE_CAPTURE)
    if len(old.subjects) == len(new.subjects):
        changes["subjects"] = tuple(
            _replaced(before, after, _LIVE_SUBJECT)
            for before, after in zip(old.subjects, new.subjects, strict=True)
            if before.name == after.name
        )
        if len(changes["subjects"]) != len(old.subjects):
            del changes["subjects"]
    return msgspec.structs.replace(old, **changes)


def _replaced(old: _Struct, new: _Struct, keys: Sequence[str]) -> _Struct:
    """`old` with some of the values of `new`."""
    return msgspec.structs.replace(old, **{key: getattr(new, key) for key in keys})


class Reloader:
    """Watches one file.

    Args:
        path: the file that the settings came from.
        config: returns the settings in force.
        apply: applies new settings; a UserError leaves the old ones in force.
    """

    def __init__(
        self, path: Path, clock: Clock, *, config: Callable[[], Config], apply: Callable[[Config], None]
    ) -> None:
        self._path = path
        self._clock = clock
        self._config = config
        self._apply = apply
        self._seen = self._state()

    async def run(self) -> None:
        """Watch until cancelled."""
        never = asyncio.Event()
        while True:
            await self._clock.wait(never, self._clock.now() + LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        """Read the file if it has changed."""
        state = self._state()
        if state is None or state == self._seen:  # an editor may remove a file for a moment while it saves
            return
        self._seen = state
        try:
            new, _ = load(str(self._path))
            old = self._config()
            now = applicable(old, new)
            check(now)  # a sink for a subject that is not there yet, for example
            self._apply(now)
        except UserError as error:
            _log.error("the settings stay as they were: %s", error)
            return
        later = needs_restart(old, new)
        _log.warning("settings read again%s", f"; these need a restart: {', '.join(later)}" if later else "")

    def _state(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size
