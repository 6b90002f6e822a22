"""The monitor on a terminal: subjects, findings, and the channels as bars."""

from collections.abc import Mapping, Sequence

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from kff_live.protocols.channels import INDEX, LIVELINK, SHAPES
from kff_live.protocols.monitor.stream import Figures, Report

# Widths in characters: two columns of channels fit into 80.
_TITLE, _BAR, _CELL = 15, 6, 11
_NAMED = 26  # a value that is no channel


class View:
    """Shows reports in place; where standard output is no terminal only the last one."""

    period = 0.1

    def __init__(self, where: str, console: Console | None = None) -> None:
        self._where = where
        self._console = console or Console(highlight=False)
        self._live = Live(console=self._console, auto_refresh=False)

    def reject(self, *_: object) -> None:
        """What is rejected stands among the findings."""

    def update(self, report: Report, at: float) -> None:
        """Draw."""
        if not self._live.is_started:
            self._live.start()
        block = "█" if self._console.encoding.startswith("utf") else "#"
        self._live.update(screen(report, self._where, at, block=block), refresh=True)

    def end(self, report: Report, at: float) -> None:
        """Draw for the last time."""
        self.update(report, at)
        self._live.stop()
        if not self._console.is_terminal:
            self._console.line()


def screen(report: Report, where: str, seconds: float, *, block: str = "█") -> RenderableType:
    """Everything on one screen; `block` is what bars are made of."""
    head = f"{where}: {report.packets} packets in {seconds:.0f} s, {report.rejected} rejected"
    parts: list[RenderableType] = [Text(head, "bold")]
    if not report.packets:
        parts.append(
            Text("Nothing has come. Does the sender run, is its target this address and port, is a firewall between?")
        )
    if report.subjects:
        parts.append(_subjects(report.subjects))
    parts += [
        Text(f"  {_printable(figures.subject)}: {remark}") for figures in report.subjects for remark in figures.remarks
    ]
    for tally in report.findings.values():
        kind = Text("rejected ", "bold red") if tally.rejected else Text("warning  ", "yellow")
        parts.append(kind + Text(f"{tally.count:>6} x  {_printable(tally.reason)}", "default"))
    parts += [part for figures in report.subjects for part in _bars(figures, block)]
    return Group(*parts)


def _subjects(subjects: Sequence[Figures]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("subject", "from", "Hz", "says", "jitter", "longest", "missing", "timecode"):
        table.add_column(title, justify="left" if title in ("subject", "from") else "right", no_wrap=True)
    for figures in subjects:
        table.add_row(
            _printable(figures.subject), figures.sender, f"{figures.hz:.1f}", figures.declared or "-",
            f"{figures.jitter_ms:.1f} ms", f"{figures.longest_ms:.1f} ms",
            "-" if figures.missing is None else str(figures.missing),
            (figures.timecode or "-").partition(".")[0],
        )  # fmt: skip
    return table


def _bars(figures: Figures, block: str) -> list[RenderableType]:
    """A line a channel, left and right of a pair side by side; what is no channel by its name."""
    lines = []
    for title, names in _pairs(figures.values).items():
        cells = [_cell(name, figures.values[name], block) if name else " " * _CELL for name in names]
        lines.append(Text(f"{title:<{_TITLE}} " + " ".join(cells), no_wrap=True))
    for name, value in figures.values.items():
        if name not in INDEX:
            lines.append(Text(f"{_printable(name)[-_NAMED:]:<{_NAMED}} {value:8.3f}", no_wrap=True))
    head = Text(f"\n{_printable(figures.subject)}; of a pair first the face's left", "dim")
    return [head, Columns(lines, column_first=True, padding=(0, 1))]


def _pairs(values: Mapping[str, float]) -> dict[str, list[str]]:
    """Channels that have a value, by their name without the side: [left, right], or [the one]."""
    found: dict[str, list[str]] = {}
    for name in LIVELINK:
        if name in values:
            title = name.replace("Left", "").replace("Right", "")
            pair = found.setdefault(title, [""] if title == name else ["", ""])
            pair["Right" in name] = name
    return found


def _cell(name: str, value: float, block: str) -> str:
    """The bar of a value and its number; that of a rotation begins in the middle, where 0 is."""
    value = round(value, 2) + 0.0  # no -0.00
    if INDEX[name] < SHAPES:
        return f"{block * round(_BAR * min(max(value, 0.0), 1.0)):<{_BAR}}{value:5.2f}"
    half = _BAR // 2
    size = round(half * min(abs(value), 1.0))
    bar = f"{block * size:>{half}}{'':{half}}" if value < 0 else f"{'':{half}}{block * size:<{half}}"
    return f"{bar}{value:5.2f}"


def _printable(text: str) -> str:
    """What others sent must not steer the terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)
