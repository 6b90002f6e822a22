"""Scripts to training records: checked, split by script, varied, written in the dialect that the model is to learn."""

import random
from collections.abc import Callable
from pathlib import Path

from kff_live.finetune import lint, overlap
from kff_live.finetune.base import load_model, load_tokenizer
from kff_live.finetune.phrases import compose, read_phrases
from kff_live.finetune.records import records, split, write_records
from kff_live.finetune.scripts import Script, write_scripts
from kff_live.finetune.settings import NONE, PHRASES, SCRIPTS, SITUATIONS, Data
from kff_live.finetune.situations import act, read_situations
from kff_live.finetune.sources import read_keyframeface, read_takes
from kff_live.finetune.variation import vary
from kff_live.protocols.errors import UserError
from kff_live.runtime.config import EMBEDDED

PARTS = ("train", "validation", "test")


def prepare(data: Data, out: Path, *, base: str = EMBEDDED, report: Callable[[str], None]) -> dict[str, int]:
    """Writes {train,validation,test}.jsonl as records and test_scripts.jsonl as scripts; returns the records of each.

    With a file of forbidden texts, `base` tells which scripts are too near to one in meaning: none of them is trained
    on, and they and the nearest of the others are reported.

    Raises:
        UserError: a script is wrong; every problem has been reported first.
    """
    forbidden = lint.forbidden_texts(data.forbidden)
    scripts = _checked(data, forbidden, report)
    training, validation, test = split(scripts, (data.validation, data.test), data.seed)
    if data.limit:
        training = sorted(training, key=lambda script: script.id)
        random.Random(data.seed).shuffle(training)
        training = training[: data.limit]
    out.mkdir(parents=True, exist_ok=True)
    counts = {}
    generated = _without_leaks(_variations(training, data) + _generated(data), forbidden)
    training += _unlike(generated, validation + test)
    if data.forbidden:
        training = _apart(training, forbidden, base, report)
    for part, scripts in zip(PARTS, (training, validation, test), strict=True):
        found = [records(script, dialect=data.dialect, labels=data.labels) for script in scripts]
        if without := found.count([]):
            report(f"{part}: {without} scripts left out: they have more keyframes than descriptions to ask for them by")
        made = [record for some in found for record in some]
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


def _variations(scripts: list[Script], data: Data) -> list[Script]:
    """Up to `data.variations` of each, without those that say what they vary."""
    found = []
    for script in scripts:
        seen = {script.text}
        for number in range(data.variations):
            varied = vary(script, random.Random(f"{data.seed} {script.id} {number}"))
            if varied.text not in seen:
                seen.add(varied.text)
                found.append(varied)
    return found


def _generated(data: Data) -> list[Script]:
    """What phrases and situations make."""
    found = compose(read_phrases(PHRASES), data.composed, data.seed) if data.composed else []
    if data.situations:
        acted = act(read_situations(SITUATIONS, data.situation_files), data.seed)
        found += random.Random(f"{data.seed} which").sample(acted, min(data.situations, len(acted)))
    return found


def _apart(scripts: list[Script], forbidden: list[str], base: str, report: Callable[[str], None]) -> list[Script]:
    """The scripts that are not too near to a forbidden text in meaning."""
    texts, ours = ([script.text for script in some] for some in (scripts, lint.read_corpus(SCRIPTS).scripts))
    found = overlap.nearest(texts, forbidden, ours, load_model(base, "float32"), load_tokenizer(base))
    order = sorted(range(len(scripts)), key=lambda i: -found[i][0])
    near = sum(cosine > overlap.LIMIT for cosine, _ in found)
    for i in order[: near + 1]:
        cosine, other = found[i]
        what = "left out" if cosine > overlap.LIMIT else "the nearest that is trained on"
        report(f"{what}: {scripts[i].text!r}, {cosine:.2f} like {forbidden[other]!r}")
    return [script for script, (cosine, _) in zip(scripts, found, strict=True) if cosine <= overlap.LIMIT]


def _unlike(scripts: list[Script], held_out: list[Script]) -> list[Script]:
    """The scripts that are not nearly one that is kept out."""
    pairs = lint.similar([script.text for script in scripts], [script.text for script in held_out])
    alike = {i for i, _, _ in pairs}
    return [script for i, script in enumerate(scripts) if i not in alike]


def _without_leaks(scripts: list[Script], forbidden: list[str]) -> list[Script]:
    leaks = lint.leaking([script.text for script in scripts], forbidden)
    return [script for i, script in enumerate(scripts) if i not in leaks]
