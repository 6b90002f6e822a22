"""Scripts to training records: checked, split by script, varied, written in the dialect that the model is to learn."""

import json
import random
from collections.abc import Callable
from pathlib import Path

from kff_live.finetune import lint
from kff_live.finetune.records import records, split, write_records
from kff_live.finetune.scripts import Script, write_scripts
from kff_live.finetune.settings import NONE, SCRIPTS, Data
from kff_live.finetune.sources import read_keyframeface, read_takes
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
        lines = Path(path).read_text(encoding="utf-8").split("\n")
        texts = [json.loads(line)["text"] if line.lstrip().startswith("{") else line for line in lines if line.strip()]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError) as error:
        raise UserError(f"data.forbidden: {path}: cannot be read: {error!r}") from None
    return [str(text) for text in texts]


def prepare(data: Data, out: Path, *, report: Callable[[str], None]) -> dict[str, int]:
    """Writes {train,validation,test}.jsonl as records and test_scripts.jsonl as scripts; returns the records of each.

    Raises:
        UserError: a script is wrong; every problem has been reported first.
    """
    forbidden = forbidden_texts(data.forbidden)
    scripts = _checked(data, forbidden, report)
    training, validation, test = split(scripts, (data.validation, data.test), data.seed)
    if data.limit:
        training = sorted(training, key=lambda script: script.id)
        random.Random(data.seed).shuffle(training)
        training = training[: data.limit]
    out.mkdir(parents=True, exist_ok=True)
    counts = {}
    training += _variations(training, data, forbidden)
    for part, scripts in zip(PARTS, (training, validation, test), strict=True):
        made = [record for script in scripts for record in records(script, dialect=data.dialect, labels=data.labels)]
        write_records(out / f"{part}.jsonl", made)
        counts[part] = len(made)
    write_scripts(out / "test_scripts.jsonl", test)
    return counts


def _checked(data: Data, forbidden: list[str], report: Callable[[str], None]) -> list[Script]:
    """All scripts that the settings name, ours checked by every rule, other people's by those for any data."""
    authored = lint.Corpus([], [], [])
    if data.scripts != NONE:
        authored = lint.read_corpus(Path(data.scripts) if data.scripts else SCRIPTS)
    wrong = list(lint.problems(authored, forbidden=forbidden, whole=not data.scripts))
    others = lint.Corpus([], [], [])
    for path in map(Path, data.keyframeface):
        others.add(path.name, *read_keyframeface(path))
    for path in map(Path, data.takes):
        scripts, mistakes, notes = read_takes(path, error=data.take_error)
        others.add(path.name, scripts, mistakes)
        for note in notes:
            report(note)
    wrong += lint.leaks(others, forbidden)
    for problem in (*others.wrong, *wrong):
        report(problem)
    if wrong or others.wrong:
        raise UserError(f"{len(wrong) + len(others.wrong)} problems in the data; mend or remove them")
    if not authored.scripts and not others.scripts:
        raise UserError("data: there are no scripts")
    return authored.scripts + others.scripts


def _variations(scripts: list[Script], data: Data, forbidden: list[str]) -> list[Script]:
    """Up to `data.variations` of each, without those that say what they vary or what is forbidden."""
    found = []
    for script in scripts:
        seen = {script.text}
        for number in range(data.variations):
            varied = vary(script, random.Random(f"{data.seed} {script.id} {number}"))
            if varied.text not in seen:
                seen.add(varied.text)
                found.append(varied)
    wrong = lint.leaking([script.text for script in found], forbidden)
    return [script for i, script in enumerate(found) if i not in wrong]
