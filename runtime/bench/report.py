"""What a benchmark reports: rows of a value beside its reference, and rates of sinks, as tables and as JSON."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import numpy as np

Tell = Callable[[str], None]
"""Prints one line of progress."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One figure: its value and its reference, both in `unit` and from the same run; `met` is None without a target.

    A row without a value says in `note` why there is none.
    """

    part: str
    what: str
    value: float | None = None
    unit: str = ""
    reference: float | None = None
    reference_is: str = ""
    target: str = ""
    met: bool | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Value over reference."""
        return self.value / self.reference if self.value is not None and self.reference else None


class Intervals(msgspec.Struct, frozen=True):
    """How evenly packets came: `rate` in Hz over the whole span, intervals in seconds, `gaps` over two periods."""

    packets: int = 0
    rate: float = 0.0
    p50: float = 0.0
    p99: float = 0.0
    longest: float = 0.0
    gaps: int = 0
    missing: int = 0
    """Frame numbers that never came."""


def intervals(times: Sequence[float], numbers: Sequence[int], *, period: float) -> Intervals:
    """Statistics of packets with frame `numbers` that came at `times` (s), where one is due every `period` (s)."""
    if len(times) < 2:
        return Intervals(packets=len(times))
    between = np.diff(np.asarray(times, np.float64))
    steps = np.diff(np.asarray(numbers, np.int64))
    p50, p99 = np.percentile(between, [50, 99])
    return Intervals(
        packets=len(times),
        rate=len(between) / (times[-1] - times[0]),
        p50=float(p50),
        p99=float(p99),
        longest=float(between.max()),
        gaps=int((between > 2 * period).sum()),
        missing=int(np.maximum(steps - 1, 0).sum()),
    )


def table(rows: Iterable[Row]) -> str:
    """The rows as aligned text, a heading for each part."""
    listed = list(rows)
    heads = ("", "value", "reference, same run", "ratio", "target", "")
    head, *texts = aligned([heads, *map(_cells, listed)])
    lines = [head]
    part = ""
    for row, text in zip(listed, texts, strict=True):
        if row.part != part:
            part = row.part
            lines += ["", part]
        lines.append(text)
        if row.note:
            lines[-1] += f"  ({row.note})" if row.value is not None else ""
    return "\n".join(lines)


def aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Lines of cells as text in columns."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def _cells(row: Row) -> tuple[str, ...]:
    verdict = "" if row.met is None else "met" if row.met else "MISSED"
    if row.value is None:
        return (f"  {row.what}", row.note, "", "", row.target, verdict)
    reference = "" if row.reference is None else f"{_number(row.reference)} {row.unit}".rstrip()
    return (
        f"  {row.what}",
        f"{_number(row.value)} {row.unit}".rstrip(),
        f"{reference} {row.reference_is}".strip(),
        "" if row.ratio is None else f"{row.ratio:.3f}",
        row.target,
        verdict,
    )


def _number(value: float) -> str:
    """Enough digits to judge by, no more."""
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}"


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the frames of a sink; `longest` is the worst gap between two that arrived, ms.

    `healthy`: its receiver is in order, so it must lose none. Without `sent` it was not measured.
    """

    sink: str
    hz: float
    target: str = ""
    sent: int | None = None
    received: int | None = None
    lost: int | None = None
    longest: float | None = None
    healthy: bool = True
    note: str = ""

    @property
    def failed(self) -> bool:
        """Whether a healthy sink lost frames."""
        return self.healthy and (self.lost or 0) > 0


def rate_table(rates: Iterable[Rate]) -> str:
    """The rates as aligned text."""
    heads = ("sink", "target", "wanted", "sent", "received", "lost", "worst gap", "state")
    return "\n".join(aligned([heads, *map(_rate_cells, rates)]))


def _rate_cells(rate: Rate) -> tuple[str, ...]:
    counts = ["-" if count is None else str(count) for count in (rate.sent, rate.received, rate.lost)]
    gap = "-" if rate.longest is None else f"{rate.longest:.1f} ms"
    state = "LOST FRAMES" if rate.failed else "in order" if rate.healthy else ""
    return (rate.sink, rate.target, f"{rate.hz:g} Hz", *counts, gap, "; ".join(filter(None, (state, rate.note))))


def to_json(rows: Iterable[Row], machine: dict[str, Any], **more: Any) -> bytes:
    """The rows as JSON, each with its ratio."""
    entries = [msgspec.to_builtins(row) | {"ratio": row.ratio} for row in rows]
    return msgspec.json.format(msgspec.json.encode({"machine": machine, "rows": entries, **more}), indent=1) + b"\n"


TEXTS = (
    "The postman brought a letter from my sister at last!",
    "Who ate the whole cake and left me the plate?",
    "I dropped my phone into the lake.",
    "Wait, did you hear that scratching behind the wall?",
    "The bus comes at nine.",
    "Ugh, this milk has turned into cheese.",
    "We won the match in the very last minute!",
    "My old dog fell asleep for good this morning.",
    "You promised, and you lied to me again.",
    "Maybe. I would have to think about it for a while.",
    "There is a spider on your shoulder, do not move.",
    "That was the silliest joke I have heard all year.",
    "I am so proud of you, little one.",
    "She blinks slowly and yawns over her books.",
    "He winks with his left eye and smirks.",
    "Nobody told me the exam was today!",
    "It rained, so we stayed inside and counted buttons.",
    "Please, please let it be the green envelope.",
    "Get out of my kitchen, all of you!",
    "A lemon, whole, on a dare; his lips pucker.",
)
"""What the measured model is asked to act on."""
