"""What a viewer must see in a face that acts a sentence: rules on its channels, and which of them a motion breaks."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from kff_live.converters import takes
from kff_live.finetune.motions import Motion
from kff_live.finetune.settings import BLIND
from kff_live.protocols.channels import INDEX, LIVELINK
from kff_live.protocols.errors import UserError

SEEN = 0.30
"""A group shows from here."""

STILL = 0.25
"""A group that must not show stays at or under this."""

QUIET = 0.15
"""A quiet face moves nothing past it but blinks, gaze and head."""

CROWD, CROWD_OF_ACTION = 14, 8
"""How many other shapes may stand over SEEN where a group peaks: a face that moves everything understands nothing."""

_MOVES_WHEN_QUIET = ("EyeBlink", "EyeLook", "Head", "LeftEye", "RightEye")
_NEVER_CROWDS = ("EyeLook", "Head", "LeftEye", "RightEye")
_CONTRARY = {
    "smile": ("frown", "sneer", "browDown"), "frown": ("smile",), "browIn": ("sneer",),
    "browDown": ("browOut", "browIn"), "sneer": ("wide",), "yuck": ("wide",), "wide": ("sneer", "squint"),
    "alarm": ("sneer",), "browUp": ("sneer",),
    "eyeNarrow": ("wide",),
}  # fmt: skip
"""A feeling shown by this group keeps those down."""


T = TypeVar("T")


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A sentence and its rules, in names of groups.

    `up`: must show. `down`: must not. `may`: is not counted as another shape. `order`: two groups, the first of which
    peaks before the second. `quiet`: nothing may move. Feelings and chat lines also keep down what is contrary to them.
    """

    id: int | str
    kind: str
    text: str
    up: tuple[str, ...] = ()
    down: tuple[str, ...] = ()
    may: tuple[str, ...] = ()
    order: tuple[str, ...] | None = None
    quiet: bool = False


class Expressions:
    """The cases of a .jsonl file. Its groups of channels are those of groups.json beside it, or else those of BLIND.

    Raises:
        UserError: a file cannot be read, or a case has no rule, or one of a group that is not there; the message names
            it.
    """

    def __init__(self, path: Path) -> None:
        beside = path.with_name("groups.json")
        groups = beside if beside.is_file() else BLIND.with_name("groups.json")
        self.name = path.as_posix()
        self._groups = _groups(groups)
        self.cases = _decoded(path, msgspec.json.Decoder(Case).decode_lines)
        ids: set[int | str] = set()
        for case in self.cases:
            order = case.order or ()
            if len(order) not in (0, 2):
                raise UserError(f"{path}: case {case.id}: order: {len(order)} groups, expected two or none")
            if not (case.up or case.down or order or case.quiet):
                raise UserError(f"{path}: case {case.id}: it has no rule: expected up, down, order or quiet")
            for name in (*case.up, *case.down, *case.may, *order):
                if name not in self._groups:
                    raise UserError(f"{path}: case {case.id}: {name!r} is not a group of {groups}")
            if case.id in ids:
                raise UserError(f"{path}: case {case.id} is there twice")
            ids.add(case.id)
        if not self.cases:
            raise UserError(f"{path}: it holds no cases")

    def broken(self, case: Case, motion: Motion) -> list[str]:
        """The rules of a case that a motion breaks, in words; none is a pass."""
        if not len(motion):
            return ["there are no frames"]
        return list(_too_lively(motion) if case.quiet else self._broken(case, motion))

    def _broken(self, case: Case, motion: Motion) -> Iterator[str]:
        down = (*case.down, *self._contrary(case))
        tracks = {name: motion[:, self._groups[name]].max(axis=1) for name in (*case.up, *down, *(case.order or ()))}
        own = {channel for name in (*case.up, *case.may) for channel in self._groups[name]}
        room = CROWD_OF_ACTION if case.kind == "action" else CROWD
        for name in case.up:
            apex = int(tracks[name].argmax())
            if tracks[name][apex] < SEEN:
                yield f"{name} must show from {SEEN:.2f}, and peaks at {tracks[name][apex]:.3f}"
            others = _crowd(motion[apex], own)
            if others > room:
                yield f"{others} other shapes stand over {SEEN:.2f} where {name} peaks, at most {room} may"
        for name in down:
            if tracks[name].max() > STILL:
                yield f"{name} must stay at {STILL:.2f}, and peaks at {tracks[name].max():.3f}"
        if case.order:
            first, second = (int(tracks[name].argmax()) for name in case.order)
            if first >= second:
                yield f"{case.order[0]} must peak before {case.order[1]}, not at frame {first} and {second}"

    def _contrary(self, case: Case) -> list[str]:
        """The groups that must stay down because they contradict the feeling of the case."""
        if case.kind not in ("emotion", "chat"):
            return []
        free = {channel for name in (*case.up, *case.may) for channel in self._groups[name]}
        contrary = {other for name in case.up for other in _CONTRARY.get(name, ())} - set(case.down)
        known = contrary & set(self._groups)
        return sorted(name for name in known if not free & set(self._groups[name]))


def score(folder: Path, expressions: Expressions) -> Iterator[tuple[Case, list[str]]]:
    """Each case with the rules that its take in `folder` breaks: ID.csv, rendered with the idle layer off.

    Raises:
        UserError: a take cannot be read, or there is none of any case; the message names it.
    """
    paths = {case.id: folder / f"{case.id}.csv" for case in expressions.cases}
    if not any(path.is_file() for path in paths.values()):
        raise UserError(f"{folder}: it holds no takes: expected such as {expressions.cases[0].id}.csv")
    for case in expressions.cases:
        if not paths[case.id].is_file():
            yield case, ["there is no take"]
            continue
        with takes.opened(paths[case.id]) as take:
            yield case, expressions.broken(case, np.array([frame.pose for frame in take.frames], np.float32))


def _too_lively(motion: Motion) -> Iterator[str]:
    for name, peak in zip(LIVELINK, motion.max(axis=0), strict=True):
        if peak > QUIET and not name.startswith(_MOVES_WHEN_QUIET):
            yield f"nothing may move, and {name} peaks at {peak:.3f}"


def _crowd(pose: NDArray[np.float32], own: set[int]) -> int:
    return sum(
        channel not in own and not LIVELINK[channel].startswith(_NEVER_CROWDS)
        for channel in np.flatnonzero(pose > SEEN)
    )


def _groups(path: Path) -> dict[str, list[int]]:
    named = _decoded(path, msgspec.json.Decoder(dict[str, tuple[str, ...]]).decode)
    for name, channels in named.items():
        for channel in channels:
            if channel not in INDEX:
                raise UserError(f"{path}: {name}: {channel!r} is not a channel")
        if not channels:
            raise UserError(f"{path}: {name}: it has no channels")
    return {name: [INDEX[channel] for channel in channels] for name, channels in named.items()}


def _decoded(path: Path, decode: Callable[[str], T]) -> T:
    try:
        return decode(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, msgspec.DecodeError) as error:
        raise UserError(f"{path}: {error}") from None
