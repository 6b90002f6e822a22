"""Checks a corpus: every script by itself, and that no two are alike."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kff_live.finetune import anatomy
from kff_live.finetune.scripts import Script, corpus_files, read_scripts
from kff_live.finetune.settings import BLIND
from kff_live.protocols.channels import LIVELINK
from kff_live.protocols.errors import UserError
from kff_live.protocols.keyframe_text import format_keyframe

GRAM = 5
MAX_GRAM_SHARE = 0.005
"""A run of GRAM words may stand in this share of the scripts, and in at least MIN_GRAM_COUNT of them."""
MIN_GRAM_COUNT = 3
MAX_JACCARD = 0.6
MIN_POSES = 1500

_TOKEN = re.compile(r"[a-z0-9']+|[^\sa-z0-9']")


def tokens(text: str) -> list[str]:
    """Words and signs, in lower case."""
    return _TOKEN.findall(text.lower())


def grams(text: str) -> set[tuple[str, ...]]:
    """The runs of GRAM tokens of a text."""
    words = tokens(text)
    return {tuple(words[i : i + GRAM]) for i in range(len(words) - GRAM + 1)}


def similar(texts: list[str], others: list[str] | None = None) -> Iterator[tuple[int, int, float]]:
    """The pairs (i, j, Jaccard of their token sets) above MAX_JACCARD, of `texts` among themselves or with `others`.

    Exact: two sets above the threshold share one of the rarest (1 - threshold) of the smaller's tokens.
    """
    sets = [frozenset(tokens(text)) for text in texts]
    other_sets = sets if others is None else [frozenset(tokens(text)) for text in others]
    counts = Counter(token for group in (sets, other_sets) for found in group for token in found)

    def prefix(found: frozenset[str]) -> list[str]:
        ordered = sorted(found, key=lambda token: (counts[token], token))
        return ordered[: len(ordered) - int(MAX_JACCARD * len(ordered)) + 1]

    where = defaultdict(list)
    for j, found in enumerate(other_sets):
        for token in prefix(found):
            where[token].append(j)
    for i, found in enumerate(sets):
        candidates = {j for token in prefix(found) for j in where[token] if others is not None or j < i}
        for j in sorted(candidates):
            union = len(found | other_sets[j])
            share = len(found & other_sets[j]) / union if union else 1.0
            if share > MAX_JACCARD:
                yield i, j, share


@dataclass
class Corpus:
    """Every script of a corpus, and where each comes from (`FILE:id`)."""

    scripts: list[Script]
    places: list[str]
    wrong: list[str]

    def add(self, file: str, scripts: list[Script], wrong: list[str]) -> None:
        """Take in what a file holds."""
        self.scripts += scripts
        self.places += [f"{file}:{script.id}" for script in scripts]
        self.wrong += wrong


def read_corpus(path: Path) -> Corpus:
    """All scripts below `path`; what cannot be read is in `wrong`."""
    corpus = Corpus([], [], [])
    for file in corpus_files(path):
        corpus.add(file.name, *read_scripts(file))
    return corpus


def forbidden_texts(path: str) -> list[str]:
    """The texts of BLIND and of a file: one a line, or JSON objects with `text`.

    Raises:
        UserError: it cannot be read.
    """
    try:
        lines = [line for file in (BLIND, path) if file for line in Path(file).read_text(encoding="utf-8").split("\n")]
        texts = [json.loads(line)["text"] if line.lstrip().startswith("{") else line for line in lines if line.strip()]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError) as error:
        raise UserError(f"data.forbidden: {path}: cannot be read: {error!r}") from None
    return [str(text) for text in texts]


def problems(corpus: Corpus, *, forbidden: list[str] | None = None, whole: bool = True) -> Iterator[str]:
    """Everything wrong with a corpus, one line each. `whole`: also ask for the number of poses of a finished corpus.

    `forbidden`: texts of which no script may be a copy or a close paraphrase.
    """
    yield from corpus.wrong
    for place, script in zip(corpus.places, corpus.scripts, strict=True):
        for problem in anatomy.problems(script):
            yield f"{place}: {problem}"
    yield from _equal(corpus, "id", [script.id for script in corpus.scripts])
    yield from _equal(corpus, "keyframes", ["".join(map(format_keyframe, s.poses())) for s in corpus.scripts])
    texts = [_whole_text(script) for script in corpus.scripts]
    for i, j, share in similar(texts):
        yield f"{corpus.places[i]}: text: {share:.2f} alike with {corpus.places[j]}"
    yield from _repeated_grams(corpus, texts)
    yield from leaks(corpus, forbidden or [])
    if whole:
        poses = {keyframe.pose.tobytes() for script in corpus.scripts for keyframe in script.poses()}
        if len(poses) < MIN_POSES:
            yield f"corpus: {len(poses)} distinct poses, at least {MIN_POSES}"


def leaks(corpus: Corpus, forbidden: list[str]) -> Iterator[str]:
    """The scripts whose text is `leaking`, or of which the background or a description is too much alike."""
    for i, why in sorted(leaking([script.text for script in corpus.scripts], forbidden).items()):
        yield f"{corpus.places[i]}: text: {why}"
    said = [
        (f"{place}: {field}", text)
        for place, script in zip(corpus.places, corpus.scripts, strict=True)
        for field, texts in (("background", (script.background,)), ("descriptions", script.descriptions))
        for text in texts
    ]
    for i, j, share in similar([text for _, text in said], forbidden):
        yield f"{said[i][0]}: {share:.2f} alike with forbidden text {j + 1}"


def leaking(texts: list[str], forbidden: list[str]) -> dict[int, str]:
    """Which texts are a forbidden one, too much alike with one, or share GRAM tokens in a row with one; and why."""
    banned = {gram for text in forbidden for gram in grams(text)}
    shared = {i: grams(text) & banned for i, text in enumerate(texts)}
    found = {i: f"{' '.join(min(some))!r} stands in a forbidden text" for i, some in shared.items() if some}
    return found | {i: f"{share:.2f} alike with forbidden text {j + 1}" for i, j, share in similar(texts, forbidden)}


def _whole_text(script: Script) -> str:
    return "\n".join([script.text, script.background, script.emotion, *script.descriptions]).strip()


def _equal(corpus: Corpus, field: str, values: list[str]) -> Iterator[str]:
    first: dict[str, str] = {}
    for place, value in zip(corpus.places, values, strict=True):
        if value in first:
            yield f"{place}: {field}: equal to that of {first[value]}"
        first.setdefault(value, place)


def _repeated_grams(corpus: Corpus, texts: list[str]) -> Iterator[str]:
    where = defaultdict(list)
    for place, text in zip(corpus.places, texts, strict=True):
        for gram in grams(text):
            where[gram].append(place)
    limit = max(MAX_GRAM_SHARE * len(texts), MIN_GRAM_COUNT - 1)
    for gram, places in sorted(where.items()):
        if len(places) > limit:
            yield f"{places[0]}: text: {' '.join(gram)!r} stands in {len(places)} scripts"


def counts(corpus: Corpus) -> dict[str, Counter[str]]:
    """How many scripts there are by form, by feeling, by strength, and by channel that one of its keyframes moves."""
    scripts = corpus.scripts
    channels: Counter[str] = Counter()
    for script in scripts:
        channels.update({name for keyframe in script.keyframes for name in keyframe.pose})
    return {
        "form": Counter(script.form for script in scripts),
        "strength": Counter(script.strength for script in scripts),
        "keyframes": Counter(str(len(script.keyframes)) for script in scripts),
        "feeling": Counter(feeling for script in scripts for feeling in script.feelings or ("none",)),
        "channel": Counter({name: channels[name] for name in LIVELINK}),
    }
