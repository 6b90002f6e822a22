"""The command `kff-convert`: takes from any format into any other, and dense ones thinned out to keyframes."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from kff_live.converters import livelink_csv
from kff_live.converters.convert import DEFAULT_ERROR, DEFAULT_RATE, Done, Wanted, convert
from kff_live.converters.livelink_csv import TakeName
from kff_live.converters.reading import Reading
from kff_live.converters.resample import METHODS
from kff_live.converters.takes import FORMATS, opened
from kff_live.protocols.channels import LIVELINK, Pose
from kff_live.protocols.errors import DecodeError, UserError
from kff_live.protocols.frames import FrameRate, timecode

if TYPE_CHECKING:
    from kff_live.converters.thin import Loss

USER_ERROR = 2
"""Exit status of a user's mistake."""

SMALL = 0.0005
"""Errors below it are not told: four decimals of a coefficient are what text carries."""

_FORMATS = "formats:\n" + "\n".join(f"  {f.name:<17}{f.suffix:<8}{f.what}" for f in FORMATS.values())
_EPILOG = f"""{_FORMATS}

A format is told by the file's name, JSON lines that are read also by their first line. From frames to keyframes a take
is thinned, as by  kff-convert thin; from keyframes to frames it is acted, from neutral to the end of the last hold.
Resampling filters nothing: motion faster than half the new rate is lost. FORMAT is a name of the first column above.

examples:
  kff-convert take.jsonl Slate_1_Face.csv        a recording for Unreal's importer
  kff-convert MySlate_3_iPhone.csv take.jsonl --app-titles
  kff-convert take.csv take.npy --fps 20         an even 20 frames a second
  kff-convert thin take.csv take.kff --error 0.05
  kff-convert answers.jsonl answers.csv --to keyframeface-csv
"""
_THIN = "Thin a dense take out to keyframes that stay within a stated error of every frame, and say what was lost."


def _parser(*, thin: bool) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kff-convert thin" if thin else "kff-convert",
        usage=None if thin else "kff-convert [thin] IN OUT [options]",
        description=_THIN if thin else "Convert a take from any format into any other.",
        epilog=_FORMATS if thin else _EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("source", metavar="IN", type=Path, help="the take to read")
    parser.add_argument("target", metavar="OUT", type=Path, help="the file to write; with --slate its folder")
    parser.add_argument("--from", dest="source_form", choices=FORMATS, metavar="FORMAT", help="of IN")
    parser.add_argument("--to", dest="target_form", choices=FORMATS, metavar="FORMAT", help="of OUT")
    parser.add_argument("--force", action="store_true", help="overwrite OUT")
    parser.add_argument(
        "--error", type=float, default=DEFAULT_ERROR, metavar="E",
        help="how far a channel may be off when frames become keyframes (default %(default)s)",
    )  # fmt: skip

    times = parser.add_argument_group("times")
    times.add_argument(
        "--fps", metavar="RATE",
        help="resample to this rate, such as 60, 29.97 or 30000/1001 (default: frames keep their own times; "
        f"{DEFAULT_RATE} where they must be even: into .npy and keyframes, and from keyframes)",
    )  # fmt: skip
    times.add_argument(
        "--method", choices=METHODS, default=METHODS[0],
        help="resampling: linear goes straight from frame to frame, hold keeps the frame before (default %(default)s)",
    )  # fmt: skip
    times.add_argument(
        "--in-fps",
        metavar="RATE",
        default=str(DEFAULT_RATE),
        help="of an IN without times, .npy (%(default)s)",
    )

    columns = parser.add_argument_group("columns and names")
    which = columns.add_mutually_exclusive_group()
    which.add_argument(
        "--app-titles", action="store_true",
        help="IN is of the phone app: MouthLeft and MouthRight hold each other's values (default: titles are right)",
    )  # fmt: skip
    which.add_argument(
        "--by-position",
        action="store_true",
        help="the columns of IN stand in Unreal's order, whatever the titles",
    )
    columns.add_argument(
        "--app-titles-out",
        action="store_true",
        help="write a CSV as the app does, MouthLeft and MouthRight exchanged",
    )
    columns.add_argument("--subject", metavar="NAME", help="whose frames, where IN holds several; of the take in OUT")
    columns.add_argument(
        "--slate",
        metavar="NAME",
        help="OUT is a folder, the file NAME_TAKE_SUBJECT.csv: so Unreal knows the subject",
    )
    columns.add_argument("--take", type=int, default=1, metavar="N", help="with --slate (default %(default)s)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    thin = words[:1] == ["thin"]
    options = _parser(thin=thin).parse_args(words[thin:])
    console = Console(stderr=True)
    try:
        _run(options, console, thin=thin)
    except UserError as error:
        console.print(f"kff-convert: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        return USER_ERROR
    except KeyboardInterrupt:
        return 130
    return 0


def _run(options: argparse.Namespace, console: Console, *, thin: bool) -> None:
    wanted = Wanted(
        form=options.target_form,
        rate=_rate("--fps", options.fps) if options.fps else None,
        method=options.method,
        error=options.error,
        app_titles=options.app_titles_out,
        force=options.force,
        thin=thin,
    )
    reading = Reading(options.subject, options.app_titles, options.by_position, _rate("--in-fps", options.in_fps))
    target = options.target
    if options.slate is not None:
        subject = options.subject or _subject(options.source, options.source_form)
        target /= TakeName(options.slate, options.take, subject).file()
    columns = (TextColumn("converting"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("converting", total=1.0)
        done = convert(
            options.source,
            target,
            wanted,
            form=options.source_form,
            reading=reading,
            tell=lambda share: progress.update(bar, completed=share),
        )
    for line in _summary(done, target):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if thin and done.loss is not None:
        console.print(_table(done.loss))


def _rate(option: str, text: str) -> FrameRate:
    try:
        return FrameRate.parse(text)
    except DecodeError as error:
        raise UserError(f"{option}: {error}") from None


def _subject(source: Path, form: str | None) -> str:
    """The subject that a take names itself."""
    with opened(source, form) as take:
        first = next(take.frames, None)
    return first.subject if first is not None else livelink_csv.SUBJECT


def _summary(done: Done, target: Path) -> Iterator[str]:
    what = "frames" if done.target.has_frames else "keyframes"
    span = ""
    if done.first is not None and done.last is not None:
        first = timecode(done.first.number, done.first.subframe, done.first.rate)
        span = f", {done.last.seconds - done.first.seconds:.2f} s from {first}"
    yield f"{target}: {done.count} {what}{span}"
    if done.skipped:
        which = "frames of other subjects" if done.source.name == "jsonl" else "rows without a face"
        yield f"skipped: {done.skipped} {which}"
    if done.loss is not None:
        lost = done.loss
        yield f"{lost.keyframes / lost.seconds:.2f} keyframes a second; " + _worst("off by at most", lost.most)
        if lost.rules.max() >= SMALL:
            yield _worst("before, the rules of keyframes moved frames by at most", lost.rules)
    if not done.target.has_times and done.first is not None and done.first.rate != DEFAULT_RATE:
        yield f"the file carries no times: --in-fps {done.first.rate} reads it again"
    if done.target.name == "csv" and not livelink_csv.subject_of(target):
        yield "note: Unreal takes the subject from a name like Slate_1_Face.csv, as --slate gives; this one has none"


def _worst(what: str, values: Pose) -> str:
    return f"{what} {values.max():.4f} ({LIVELINK[int(values.argmax())]})"


def _table(loss: "Loss") -> Table:
    table = Table("channel", "at most", "on average", "by rules", title="what was lost")
    for name, most, mean, rules in zip(LIVELINK, loss.most, loss.mean, loss.rules, strict=True):
        if max(most, rules) >= SMALL:
            table.add_row(name, f"{most:.4f}", f"{mean:.4f}", f"{rules:.4f}")
    table.add_section()
    table.add_row("all", f"{loss.most.max():.4f}", f"{loss.mean.mean():.4f}", f"{loss.rules.max():.4f}")
    return table


if __name__ == "__main__":
    sys.exit(main())
