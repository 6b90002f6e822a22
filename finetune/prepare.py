"""Scripts to training records: checked, split by script, varied, written in the dialect that the model is to learn."""

import json
import random
from collections.abc import Callable
from pathlib import Path

from kff_live.finetune import lint
from kff_live.finetune.records import Record, records, split, write_records
from kff_live.finetune.scripts import Script, write_scripts
from kff_live.finetune.settings import SCRIPTS, Data
from kff_live.finetune.variation import vary
from kff_live.protocols.errors import UserError

PARTS = ("train", "validation", "test")


def forbidden_texts(path: str) -> list[str]:
    """The texts of a file: one a line, or JSON objects with `text`.

    Raises:
        UserError: it cannot be read.
    """
    if not path:
        return []
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
        texts = [json.loads(line)["text"] if line.lstrip().startswith("{") else line for line in lines if line.strip()]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError) as error:
        raise UserError(f"data.forbidden: {path}: cannot be read: {error!r}") from None
    return [str(text) for text in texts]


def prepare(data: Data, out: Path, *, report: Callable[[str], None]) -> dict[str, int]:
    """Writes {train,validation,test}.jsonl as records and test_scripts.jsonl as scripts; returns the records of each.

    Raises:
        UserError: a script is wrong; every problem has been reported first.
    """
    corpus = lint.read_corpus(Path(data.scripts) if data.scripts else SCRIPTS)
    wrong = list(lint.problems(corpus, forbidden=forbidden_texts(data.forbidden), whole=not data.scripts))
    for problem in wrong:
        report(problem)
    if wrong:
        raise UserError(f"{len(wrong)} problems in the scripts; mend or remove them")
    if not corpus.scripts:
        raise UserError("data.scripts: there are no scripts")
    training, validation, test = split(corpus.scripts, (data.validation, data.test), data.seed)
    if data.limit:
        training = sorted(training, key=lambda script: script.id)
        random.Random(data.seed).shuffle(training)
        training = training[: data.limit]
    out.mkdir(parents=True, exist_ok=True)
    counts = {}
    for part, scripts, variations in zip(PARTS, (training, validation, test), (data.variations, 0, 0), strict=True):
        made = [record for script in scripts for record in _with_variations(script, variations, data)]
        write_records(out / f"{part}.jsonl", made)
        counts[part] = len(made)
    write_scripts(out / "test_scripts.jsonl", test)
    return counts


def _with_variations(script: Script, count: int, data: Data) -> list[Record]:
    made = records(script, dialect=data.dialect, labels=data.labels)
    seen = {script.text}
    for number in range(count):
        varied = vary(script, random.Random(f"{data.seed} {script.id} {number}"))
        if varied.text not in seen:
            seen.add(varied.text)
            made += records(varied, dialect=data.dialect, labels=data.labels)
    return made
