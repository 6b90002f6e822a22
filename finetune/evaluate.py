"""One table of how well models, and what to compare them with, turn the test split's texts into faces."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import mean, median

import msgspec
import torch

from kff_live.finetune.base import Progress, load_model, load_tokenizer
from kff_live.finetune.expressions import Expressions
from kff_live.finetune.judge import POOL, Judge, Pair, Reader, r_precision, train_judge
from kff_live.finetune.motions import apart, play
from kff_live.finetune.records import Record, read_records
from kff_live.finetune.scripts import Script, read_scripts
from kff_live.finetune.settings import NONE
from kff_live.finetune.writers import (
    Retrieval,
    Still,
    Writer,
    Written,
    asked_text,
    engine_settings,
    model,
    named_model,
    request_text,
)
from kff_live.protocols.errors import UserError
from kff_live.protocols.keyframe_text import DIALECTS
from kff_live.protocols.prompt import PromptInput
from kff_live.runtime.model.choice import check_gguf

HZ = 10
"""Poses a second at which motions are compared."""

TRUTH = "ground truth"


@dataclass
class Row:
    """The figures of one writer; None where there is none.

    `parsed`: share of answers that are keyframe text without a grammar's help. `mse`, `mae`: between the 61 channels of
    both motions at HZ, mean over texts. `precision`: R-Precision 1, 2, 3. `distance`: between the judge's points of
    text and motion, 0 to 2. `first`: median seconds from the text to the first keyframe. `expressions`: passed and
    all, by kind, of each set of cases.
    """

    name: str
    parsed: float | None = None
    tokens_per_keyframe: float | None = None
    mse: float | None = None
    mae: float | None = None
    precision: tuple[float, ...] = ()
    distance: float | None = None
    tokens_per_second: float | None = None
    first: float | None = None
    expressions: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)


def pairs(records: list[Record]) -> list[Pair]:
    """Texts with their motions: the first record of each script, which is the script itself.

    Raises:
        UserError: the records are not in the compact dialect.
    """
    found: dict[str, Pair] = {}
    for record in records:
        parser = DIALECTS["compact"].parser()
        keyframes = parser.feed(record.answer)
        if parser.errors or not keyframes:
            raise UserError(f"--records: {record.script}: its answer is not in the compact dialect")
        if record.script not in found:
            found[record.script] = (asked_text(record), play(keyframes, HZ))
    return list(found.values())


class Evaluation:
    """What every writer is measured by: texts with their true motions, a judge, and perhaps expressions."""

    def __init__(self, scripts: list[Script], judge: Judge, expressions: Sequence[Expressions] = ()) -> None:
        self._scripts = scripts
        self._judge = judge
        self._expressions = expressions
        self._truths = [play(script.poses(), HZ) for script in scripts]
        self._texts = [request_text(script.request()) for script in scripts]

    def truth(self) -> Row:
        """The row of what the scripts themselves show: how good the judge is."""
        return self._row(TRUTH, [Written(script.poses()) for script in self._scripts])

    def row(self, name: str, writer: Writer, *, progress: Callable[[int, int], None]) -> Row:
        """The row of a writer; `progress` is told how many of how many texts are written."""
        cases = [(some, case) for some in self._expressions for case in some.cases]
        requests = [script.request() for script in self._scripts] + [PromptInput(case.text) for _, case in cases]
        written = []
        for done, request in enumerate(requests, 1):
            written.append(writer.write(request))
            progress(done, len(requests))
        row = self._row(name, written[: len(self._scripts)])
        for (some, case), answer in zip(cases, written[len(self._scripts) :], strict=True):
            kinds = row.expressions.setdefault(some.name, {})
            passed, count = kinds.get(case.kind, (0, 0))
            kinds[case.kind] = (passed + (not some.broken(case, play(answer.keyframes, 60))), count + 1)
        return row

    def _row(self, name: str, written: list[Written]) -> Row:
        motions = [play(answer.keyframes, HZ) for answer in written]
        differences = [apart(truth, motion) for truth, motion in zip(self._truths, motions, strict=True)]
        texts, points = self._judge.points(self._texts, motions)
        row = Row(
            name,
            mse=mean(square for square, _ in differences),
            mae=mean(absolute for _, absolute in differences),
            precision=r_precision(texts, points),
            distance=float((texts - points).norm(dim=1).mean()),
        )
        asked = [answer for answer in written if answer.right is not None]
        if asked:
            tokens = sum(answer.tokens for answer in asked)
            row.parsed = mean(bool(answer.right) for answer in asked)
            row.tokens_per_keyframe = tokens / max(sum(len(answer.keyframes) for answer in asked), 1)
            row.tokens_per_second = tokens / sum(answer.seconds for answer in asked)
            row.first = median(firsts) if (firsts := [answer.first for answer in asked if answer.first]) else None
        return row


def evaluate(
    records: Path,
    *,
    base: str,
    models: Sequence[str],
    vectors: Sequence[str],
    prompted: str,
    expressions: Sequence[Path],
    limit: int | None,
    progress: Progress,
) -> tuple[str, bytes]:
    """The table as Markdown, and the figures as JSON; the options are those of `kff-finetune evaluate`.

    Raises:
        UserError: an option is wrong, or a file cannot be read.
    """
    asked = [] if prompted == NONE else [("prompted base", engine_settings(prompted, examples=True), False)]
    asked += [(*named_model(text, option="--model"), False) for text in models]
    asked += [(*named_model(text, option="--vectors"), True) for text in vectors]
    for name, settings, _ in asked:
        for file in filter(None, (settings.path, settings.adapter)):
            check_gguf(name, Path(file))
    scripts, wrong = read_scripts(records / "test_scripts.jsonl")
    if wrong or not scripts:
        raise UserError(f"{records}: {wrong[0] if wrong else 'test_scripts.jsonl holds no scripts'}")
    cases = [Expressions(path) for path in dict.fromkeys(expressions)]
    training = read_records(records / "train.jsonl")
    progress("loading", 0, 1)
    known = pairs(training)
    held_out = pairs(read_records(records / "validation.jsonl", optional=True))
    reader = Reader(load_model(base, torch.float32), load_tokenizer(base))
    judge = train_judge(reader, known, held_out, progress=partial(progress, "judge"))
    evaluation = Evaluation(scripts[:limit], judge, cases)
    writers: list[tuple[str, AbstractContextManager[Writer]]] = [
        ("still face", nullcontext(Still())),
        ("nearest training text", nullcontext(Retrieval(training))),
    ]
    writers += [(name, model(settings, vectors=bare)) for name, settings, bare in asked]
    rows = [evaluation.truth()]
    for name, opened in writers:
        with opened as writer:
            rows.append(evaluation.row(name, writer, progress=partial(progress, name)))
    said = notes(len(scripts[:limit]), len(known))
    return markdown(rows, said), msgspec.json.format(msgspec.json.encode({"rows": rows, "notes": said}), indent=2)


def notes(texts: int, trained: int) -> list[str]:
    """What the figures are, for a table over `texts` texts with a judge that learned from `trained` scripts."""
    pool = min(POOL, texts)
    return [
        f"{texts} texts of the test split; no script of theirs was trained on.",
        "Parses without grammar: the share of answers that are keyframe text when the model writes what it likes.",
        f"MSE and MAE: all 61 channels of both motions, played from rest back to rest and sampled {HZ} times a second; "
        "the shorter one rests at its end; mean over texts.",
        f"R-Precision: how often a motion's own text is the nearest, or among the two or three nearest, of {pool} "
        f"(chance: {', '.join(_share(top / pool) for top in (1, 2, 3))}). Distance: between text and motion, 0 to 2.",
        f"The judge of both: a contrastive text-motion model that learned from {trained} scripts of the training split "
        "(a frozen language model's middle layer, mean over tokens; poses at 16 moments; two layers; InfoNCE). How "
        f"far it can be trusted is the row '{TRUTH}'.",
        "Tokens/s and first keyframe (median): one answer at a time on the machine that made this table, the prompt's "
        "fixed part already read, as kff-live keeps it.",
    ]


_COLUMNS: dict[str, Callable[[Row], str]] = {
    "parses without grammar": lambda row: _share(row.parsed),
    "tokens a keyframe": lambda row: _number(row.tokens_per_keyframe, ".1f"),
    "MSE": lambda row: _number(row.mse, ".5f"),
    "MAE": lambda row: _number(row.mae, ".4f"),
    "R-Precision 1 / 2 / 3": lambda row: " / ".join(map(_share, row.precision)),
    "distance": lambda row: _number(row.distance, ".3f"),
    "tokens/s": lambda row: _number(row.tokens_per_second, ".0f"),
    "first keyframe, ms": lambda row: _number(row.first and row.first * 1000, ".0f"),
}


def markdown(rows: list[Row], notes: Iterable[str]) -> str:
    """The rows as tables, the notes as a list below."""
    text = _table(["", *_COLUMNS], [[row.name, *(show(row) for show in _COLUMNS.values())] for row in rows])
    scored = [row for row in rows if row.expressions]
    for name, kinds in scored[0].expressions.items() if scored else ():
        body = []
        for row in scored:
            counts = row.expressions[name]
            body.append([row.name, *(_passed([counts[kind]]) for kind in kinds), _passed(counts.values())])
        text += "\n" + _table([f"{name}: passed", *kinds, "all"], body)
    return text + "\n" + "".join(f"* {note}\n" for note in notes)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _share(value: float | None) -> str:
    return _number(value, ".1%")


def _passed(counts: Iterable[tuple[int, int]]) -> str:
    passed, all_ = map(sum, zip(*counts, strict=True))
    return f"{passed}/{all_} = {passed / all_:.0%}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
