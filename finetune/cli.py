"""The command `kff-finetune`: from scripts to a model that kff-live runs, one sub-command a step."""

import argparse
import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from kff_live.finetune import settings
from kff_live.protocols.errors import UserError

USER_ERROR = 2
"""Exit status of a user's mistake."""

_LINES = 20
"""Lines that a training prints where there is no terminal for a bar."""

_INSTALL = "type  pip install 'kff-live[finetune]'"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kff-finetune",
        description="Train a language model to write keyframe text: lint scripts, build a model of them, evaluate it.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    lint = commands.add_parser(
        "lint",
        help="check scripts, and count what they cover",
        description="Check scripts: notation, anatomy, named sides, feelings, and that no two are alike.",
    )
    lint.add_argument("scripts", nargs="?", metavar="PATH", help="a .jsonl file or a folder (default: our corpus)")
    lint.add_argument("--forbidden", default="", metavar="FILE", help="texts that may not occur, one a line or JSONL")
    lint.add_argument("--counts", action="store_true", help="print the scripts by form, strength, feeling and channel")

    prepare = commands.add_parser(
        "prepare",
        help="scripts to training records",
        description="Check the scripts, split them, vary those for training, and write records.",
    )
    train = commands.add_parser(
        "train",
        help="train a LoRA adapter on the records",
        description="Train a LoRA adapter with transformers and peft. Stopped, it goes on where it was. Several GPUs: "
        "accelerate launch -m kff_live.finetune.cli train ...",
    )
    export = commands.add_parser(
        "export",
        help="an adapter to a GGUF that kff-live runs",
        description="Merge an adapter of peft into its base and write it as a GGUF, or the adapter alone; then compare "
        "the answers with those of the merged model in transformers. Ours and any other plain LoRA adapter.",
    )
    export.add_argument("adapter", nargs="?", type=Path, default=Path("adapter"), metavar="DIR", help="(%(default)s)")
    export.add_argument("--base", default="", metavar="MODEL", help="folder, name or GGUF (default: as trained)")
    evaluate = commands.add_parser(
        "evaluate",
        help="models side by side in one table",
        description="Have models, an untrained one and the nearest training text act the texts of the test split, and "
        "measure all in one table. The records must be in the compact dialect.",
    )
    named = "NAME=MODEL.gguf[:ADAPTER.gguf]"
    evaluate.add_argument("--model", action="append", default=[], metavar=named, help="a trained model; repeatable")
    evaluate.add_argument("--vectors", action="append", default=[], metavar=named, help="one that writes bare numbers")
    evaluate.add_argument(
        "--prompted", default="embedded", metavar="MODEL.gguf", help="an untrained model, or none (%(default)s)"
    )
    evaluate.add_argument(
        "--expressions",
        type=Path,
        action="append",
        default=[],
        metavar="CASES.jsonl",
        help="also act these sentences, and score the faces as `score` does; repeatable",
    )
    evaluate.add_argument("--limit", type=int, metavar="N", help="only so many texts of the test split")
    evaluate.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("evaluation"),
        metavar="NAME",
        help="NAME.md and NAME.json (%(default)s)",
    )
    score = commands.add_parser(
        "score",
        help="rendered takes by what a viewer must see",
        description="Score the takes of a folder, ID.csv, as `kff-live render --batch` writes them with the idle layer "
        "off, by the rules of their cases: by kind, and what each broke.",
    )
    score.add_argument("takes", type=Path, metavar="DIR", help="a folder of takes")
    score.add_argument(
        "--cases", type=Path, default=settings.BLIND, metavar="CASES.jsonl", help="(default: the blind set)"
    )
    build = commands.add_parser(
        "build",
        help="prepare, train and export, one after the other",
        description="From scripts to a GGUF. Stopped, it goes on where it was. Without --settings: the recipe of the "
        "adapter that comes with kff-live; on two CPU cores that takes some five hours.",
    )
    build.add_argument(
        "folder",
        nargs="?",
        type=Path,
        default=Path("build"),
        metavar="DIR",
        help="for records and adapter (%(default)s)",
    )
    build.add_argument(
        "--settings",
        type=Path,
        action="append",
        metavar="FILE.toml",
        help="(our recipe); repeatable: each training goes on from the adapter of the one before",
    )
    for command in (export, build):
        command.add_argument(
            "--adapter-only", action="store_true", help="the adapter by itself, to be loaded beside its base"
        )
        command.add_argument("--quantization", choices=get_args(settings.Quantization), help="(default: the settings')")
        command.add_argument("--prompts", type=int, metavar="N", help="answers to compare (default: the settings')")
        command.add_argument("-o", "--output", type=Path, metavar="FILE.gguf", help="(model.gguf, or adapter.gguf)")
    for command in (prepare, train, export, evaluate):
        command.add_argument("--settings", type=Path, metavar="FILE.toml", help="(default: built-in)")
        command.add_argument("--records", type=Path, default=Path("records"), metavar="DIR", help="(%(default)s)")
    train.add_argument("-o", "--output", type=Path, default=Path("adapter"), metavar="DIR", help="(%(default)s)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # on Windows a file may not take an emoji
    console = Console(stderr=True)
    try:
        return int(_COMMANDS[options.command](options, console))
    except UserError as error:
        console.print(f"kff-finetune: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        return USER_ERROR
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "transformers", "peft", "accelerate", "gguf", "conversion", "llama_cpp"):
            raise
        console.print(f"kff-finetune: {error.name} is not installed: {_INSTALL}", markup=False, highlight=False)
        return USER_ERROR
    except KeyboardInterrupt:
        return 130


def _lint(options: argparse.Namespace, console: Console) -> int:
    from kff_live.finetune import lint

    corpus = lint.read_corpus(Path(options.scripts) if options.scripts else settings.SCRIPTS)
    wrong = list(lint.problems(corpus, forbidden=lint.forbidden_texts(options.forbidden), whole=not options.scripts))
    for problem in wrong:
        console.print(problem, markup=False, highlight=False, soft_wrap=True)
    if options.counts:
        out = Console()
        for title, counter in lint.counts(corpus).items():
            table = Table(title, "scripts")
            for name, count in counter.items() if title == "channel" else counter.most_common():
                table.add_row(name, str(count))
            out.print(table)
    poses = {keyframe.pose.tobytes() for script in corpus.scripts for keyframe in script.poses()}
    console.print(f"{len(corpus.scripts)} scripts, {len(poses)} distinct poses, {len(wrong)} problems")
    return 1 if wrong else 0


def _prepare(options: argparse.Namespace, console: Console) -> int:
    _prepare_with(settings.load(options.settings), options.records, console)
    return 0


def _prepare_with(wanted: settings.Settings, records: Path, console: Console) -> None:
    from kff_live.finetune.prepare import prepare

    counts = prepare(
        wanted.data,
        records,
        base=wanted.train.base,
        report=lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True),
    )
    console.print(f"{records}: " + ", ".join(f"{count} {part}" for part, count in counts.items()))


def _train(options: argparse.Namespace, console: Console) -> int:
    _train_with(settings.load(options.settings), options.records, options.output, console)
    return 0


def _train_with(wanted: settings.Settings, records: Path, out: Path, console: Console) -> None:
    from kff_live.finetune.train import train

    with progress_bar(console) as bar:
        task: Any = bar.add_task("training", total=None, note="loading")

        def show(step: int, steps: int, measured: dict[str, float]) -> None:
            note = ", ".join(f"{name} {value:.4g}" for name, value in measured.items())
            bar.update(task, completed=step, total=steps, note=note)
            if not console.is_terminal and step * _LINES // steps > (step - 1) * _LINES // steps:
                console.print(f"step {step} of {steps}: {note}", highlight=False, soft_wrap=True)

        losses = train(wanted, records, out, progress=show)
    console.print(f"adapter in {out}" + ("" if losses else ", complete already"))


def _export(options: argparse.Namespace, console: Console) -> int:
    from kff_live.finetune import export

    _check_export(options)
    adapter = export.Adapter.find(options.adapter, options.base)
    trained = None if options.settings else export.trained_with(options.adapter)
    wanted = (trained or settings.load(options.settings)).export
    records = _compared(options, wanted, options.records)
    out = options.output or Path("adapter.gguf" if options.adapter_only else "model.gguf")
    with progress_bar(console) as bar:
        agreement = export.export(
            adapter,
            out,
            records,
            quantization=options.quantization or wanted.quantization,
            alone=options.adapter_only,
            progress=_part_by_part(console, bar, "export"),
        )
    console.print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")
    if agreement:
        print(agreement)  # noqa: T201 - standard output is the data
    return 0


def _check_export(options: argparse.Namespace) -> None:
    if options.adapter_only and options.quantization:
        raise UserError("--quantization: an adapter by itself is not quantized")
    if options.prompts is not None and options.prompts < 0:
        raise UserError(f"--prompts: {options.prompts} is less than 0")


def _compared(options: argparse.Namespace, wanted: settings.Export, records: Path) -> list[Any]:
    """The records whose answers are compared."""
    from kff_live.finetune.records import read_records

    count = wanted.prompts if options.prompts is None else options.prompts
    return read_records(records / "test.jsonl")[:count] if count else []


def _build(options: argparse.Namespace, console: Console) -> int:
    stages = [settings.load(path) for path in options.settings or settings.SHIPPED]
    _check_splits(stages)
    _check_export(options)
    adapter = records = None
    for number, wanted in enumerate(stages, 1):
        records = options.folder / str(number) / "records"
        if adapter:
            wanted = msgspec.structs.replace(wanted, train=msgspec.structs.replace(wanted.train, start=str(adapter)))
        adapter = options.folder / str(number) / "adapter"
        _prepare_with(wanted, records, console)
        if number == len(stages):
            _compared(options, wanted.export, records)  # before hours of training rather than after
        _train_with(wanted, records, adapter, console)
    named = {"records": records, "adapter": adapter, "base": "", "settings": None}
    return _export(argparse.Namespace(**vars(options) | named), console)


def _check_splits(stages: list[settings.Settings]) -> None:
    """A later training must not keep out for its tests what an earlier one has seen."""
    names = ("scripts", "keyframeface", "takes", "validation", "test", "seed")
    splits = {tuple(getattr(one.data, name) for name in names) for one in stages}
    if len(splits) > 1 and any(one.data.validation or one.data.test for one in stages):
        raise UserError(f"--settings: {', '.join(names)} must be the same where shares are kept out")


def _evaluate(options: argparse.Namespace, console: Console) -> int:
    from kff_live.finetune import evaluate

    if options.limit is not None and options.limit < 1:
        raise UserError(f"--limit: {options.limit} is less than 1")
    base = settings.load(options.settings).train.base
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with progress_bar(console) as bar:
        table, figures = evaluate.evaluate(
            options.records,
            base=base,
            models=options.model,
            vectors=options.vectors,
            prompted=options.prompted,
            expressions=options.expressions,
            limit=options.limit,
            progress=_part_by_part(console, bar, "evaluate"),
        )
    print(table, end="")  # noqa: T201 - standard output is the data
    for suffix, data in ((".md", table.encode()), (".json", figures)):
        part = Path(f"{options.output}{suffix}.part")
        part.write_bytes(data)
        part.replace(f"{options.output}{suffix}")
    return 0


def _score(options: argparse.Namespace, console: Console) -> int:
    from kff_live.finetune.expressions import Expressions, score

    found = list(score(options.takes, Expressions(options.cases)))
    kinds: dict[str, list[bool]] = {}
    for case, broken in found:
        kinds.setdefault(case.kind, []).append(not broken)
        if broken:
            print(f"{case.id} [{case.kind}] {case.text}", *broken, sep="\n    ")  # noqa: T201 - standard output is the data
    for kind, passed in (*kinds.items(), ("all", [not broken for _, broken in found])):
        print(f"{kind}: {sum(passed)}/{len(passed)} = {sum(passed) / len(passed):.1%}")  # noqa: T201 - as above
    return 0


def progress_bar(console: Console) -> Progress:
    """A bar with counts, times and a note."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )


def _part_by_part(console: Console, bar: Progress, command: str) -> Callable[[str, int, int], None]:
    """What shows how far each part of a command is: in the bar, or by a line a part where there is no terminal."""
    task = bar.add_task(command, total=None, note="")
    told = ""

    def show(part: str, done: int, of: int) -> None:
        nonlocal told
        bar.update(task, description=part, completed=done, total=of)
        if not console.is_terminal and part != told:
            console.print(f"{command}: {part}", highlight=False, soft_wrap=True)
        told = part

    return show


_COMMANDS = {
    "lint": _lint,
    "prepare": _prepare,
    "train": _train,
    "export": _export,
    "build": _build,
    "evaluate": _evaluate,
    "score": _score,
}

if __name__ == "__main__":
    sys.exit(main())
