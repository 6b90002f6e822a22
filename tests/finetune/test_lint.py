"""The linter: each rule with an example that breaks it, and its search for likeness against brute force."""

import random
import re
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from kff_live.finetune import lint
from kff_live.finetune.anatomy import FEELINGS, FORBIDDEN_PAIRS, problems
from kff_live.finetune.lint import Corpus, read_corpus
from kff_live.finetune.scripts import FORMS, STRENGTHS, Script, read_scripts
from kff_live.finetune.settings import SCRIPTS
from kff_live.protocols.keyframe_text import NAMES, KeyframeJson, parse_line, to_json


def make(lines: str, *, text: str = "Something happens.", form: str = "prose", **fields: object) -> Script:
    keyframes = tuple(to_json(parse_line(line)) for line in lines.splitlines())
    return Script("x", form, text, keyframes, **fields)  # type: ignore[arg-type]


def corpus(*scripts: Script) -> Corpus:
    return Corpus(list(scripts), [script.id for script in scripts], [])


def test_nothing_is_wrong_with_the_small_corpus(scripts: list[Script]) -> None:
    assert list(lint.problems(corpus(*scripts), whole=False)) == []


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        (make("\n".join(f"a: {n}+1 jaw1" for n in range(1, 10))), "keyframes: 9, at most 8"),
        (make("4 jaw5"), r"keyframes\[0\].label: ''"),
        (make("step 2: 4 jaw5"), r"label: 'step 2'"),
        (make("open: 0.5 jaw5"), r"keyframes\[0\].way: 0.05 s"),
        (make("open: 4+100 jaw5"), r"keyframes\[0\].hold: 10.0 s"),
        (make("open: 4 jaw5.5"), "pose: 0.5500: expected whole tenths"),
        (make("open: 4 jaw2 mouthclose5"), "mouthclose over jaw"),
        (make("tongue: 4 tongue5"), "tongue without jaw"),
        (make("grin: 4 smile5", feelings=("smirkiness",)), "feelings: smirkiness not known"),
        (make("blank: 4 jaw5", feelings=("joy",)), "joy shows none of smile"),
        (make("grin: 4 smile6 cheek4 frown3", feelings=("joy",)), "frown contradicts joy"),
        (make("grin: 4 smile5", form="neutral"), "smile moves in a neutral line"),
        (make("gaze: 4 lookup5", form="neutral"), "lookup moves in a neutral line"),
        (make("grin: 4 smile8 cheek5", feelings=("joy",), strength="slight"), "slight, but a muscle stands at 8"),
        (make("grin: 4 smile4 cheek4", feelings=("joy",), strength="strong"), "strong, but no muscle is over 4"),
        (make("wink: 4 blinkR9", text="A wink of the left eye.", form="action"), "names the left"),
        (make("wink: 4 blink9", text="Shut your right eyelid.", form="action"), "names the right"),
    ],
)
def test_each_rule_of_anatomy_finds_its_example(script: Script, problem: str) -> None:
    assert any(re.search(problem, found) for found in problems(script)), list(problems(script))


@pytest.mark.parametrize("pair", FORBIDDEN_PAIRS, ids=lambda pair: f"{pair[0]}-{pair[2]}")
@pytest.mark.parametrize("side", ["", "L", "R"])
def test_no_face_does_both_at_once(pair: tuple[str, float, str, float], side: str) -> None:
    sided = {name.word for name in NAMES if name.right is not None}
    words = [(word, round(level * 10)) for word, level in (pair[:2], pair[2:])]
    both = " ".join(f"{word}{side if word in sided else ''}{level}" for word, level in words)
    assert f"keyframes[0].pose: {pair[0]} and {pair[2]} together" in list(problems(make(f"both: 4 {both}")))
    (one, high), (other, low) = words
    less = f"{one}{side if one in sided else ''}{high} {other}{side if other in sided else ''}{low - 1}".replace(
        f" {other}{side if other in sided else ''}0", ""
    )
    assert not any("together" in found for found in problems(make(f"less: 4 {less}")))


def test_either_side_alone_may_do_what_both_together_may_not() -> None:
    assert list(problems(make("wink: 4 blinkL9 wideR5"))) == []


def test_every_word_of_a_feeling_is_a_word_of_keyframe_text() -> None:
    known = {name.word for name in NAMES}
    for feeling, (must, never) in FEELINGS.items():
        assert {word for group in must.split("+") for word in group.split("|") if word} <= known, feeling
        assert set(never.split()) <= known, feeling
    assert {word for pair in FORBIDDEN_PAIRS for word in (pair[0], pair[2])} <= known


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"id": "a", "form": "prose", "text": "x"}', "keyframes"),
        ('{"id": "a", "form": "prose", "text": " ", "keyframes": [{}]}', "text: it is empty"),
        (f'{{"id": "a", "form": "prose", "text": "{"x" * 601}", "keyframes": [{{}}]}}', "text: 601 characters"),
        ('{"id": "a", "form": "poem", "text": "x", "keyframes": [{}]}', "form: 'poem'"),
        ('{"id": "a", "form": "prose", "text": "x", "strength": "mild", "keyframes": [{}]}', "strength: 'mild'"),
        ('{"id": "a", "form": "prose", "text": "x", "keyframes": []}', "keyframes: there are none"),
        ('{"id": "a", "form": "prose", "text": "x", "keyframes": [{"pose": {"Grin": 1}}]}', r"\[0\].pose.Grin"),
        ('{"id": "a", "form": "prose", "text": "x", "keyframes": [{"pose": {"JawOpen": 2}}]}', "JawOpen: 2"),
        ('{"id": "a", "form": "prose", "text": "x", "keyframes": [{"easing": "bounce"}]}', r"keyframes\[0\].easing"),
        ('{"id": "a", "form": "prose", "text": "x", "mood": 1, "keyframes": [{}]}', "mood"),
        ('{"id": "a", ', "truncated"),
    ],
)  # fmt: skip
def test_a_line_that_is_no_script_is_named(tmp_path: Path, line: str, problem: str) -> None:
    path = tmp_path / "s.jsonl"
    good = '{"id": "b", "form": "prose", "text": "x", "keyframes": [{}]}'
    path.write_text(f"{good}\n\n{line}\n", encoding="utf-8")
    scripts, (wrong,) = read_scripts(path)
    assert [script.id for script in scripts] == ["b"]
    assert wrong.startswith("s.jsonl:3: ")
    assert re.search(problem, wrong)


def different(count: int) -> list[Script]:
    """Scripts that have nothing in common."""
    rng = random.Random(1)

    def word() -> str:
        return "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=9))

    return [
        Script(
            f"s{i}", "prose", " ".join(word() for _ in range(8)), (KeyframeJson(way=(i % 98 + 1) / 10, label=word()),)
        )
        for i in range(count)
    ]


def test_ids_keyframes_and_texts_may_not_be_alike() -> None:
    a, b, *_ = different(2)
    assert list(lint.problems(corpus(a, b), whole=False)) == []
    for changed, problem in (
        (msgspec.structs.replace(b, id=a.id), f"{a.id}: id: equal to that of {a.id}"),
        (msgspec.structs.replace(b, keyframes=a.keyframes), f"{b.id}: keyframes: equal to that of {a.id}"),
        (msgspec.structs.replace(b, text=f"{a.text} more"), f"{b.id}: text: 0.89 alike with {a.id}"),
    ):
        assert list(lint.problems(corpus(a, changed), whole=False)) == [problem]


def test_five_words_in_a_row_may_not_stand_in_many_scripts() -> None:
    scripts = different(1000)
    for allowed, i in enumerate((10, 20, 30, 40, 50)):
        scripts[i] = msgspec.structs.replace(scripts[i], text=f"{scripts[i].text} once upon a time there")
        assert list(lint.problems(corpus(*scripts), whole=False)) == [], allowed
    scripts[60] = msgspec.structs.replace(scripts[60], text=f"{scripts[60].text} Once upon a time there")
    assert list(lint.problems(corpus(*scripts), whole=False)) == [
        "s10: text: 'once upon a time there' stands in 6 scripts"
    ]


def test_a_finished_corpus_has_many_poses(scripts: list[Script]) -> None:
    assert any("distinct poses, at least 1500" in found for found in lint.problems(corpus(*scripts), whole=True))


def test_forbidden_sentences_are_found_in_text_background_and_descriptions(scripts: list[Script]) -> None:
    forbidden = ["The kettle sings on the stove tonight."]
    leaked = "Tonight the kettle sings on the stove."
    assert list(lint.leaks(corpus(*scripts), forbidden)) == []
    for changed, field in (
        (msgspec.structs.replace(scripts[0], text=leaked), "text"),
        (msgspec.structs.replace(scripts[0], background=leaked), "background"),
        (msgspec.structs.replace(scripts[0], descriptions=("A smile.", leaked)), "descriptions"),
    ):
        (found,) = lint.leaks(corpus(changed, *scripts[1:]), forbidden)
        assert found.startswith(f"{scripts[0].id}: {field}: 1.00 alike with forbidden text 1") or "stands in" in found


# --- likeness, against brute force --------------------------------------------------------------------------------


def random_texts(rng: random.Random, count: int) -> list[str]:
    words = list("abcdefghijklm.,")
    return [" ".join(rng.choices(words, k=rng.randint(1, 9))) for _ in range(count)]


def jaccard(one: str, other: str) -> float:
    a, b = set(lint.tokens(one)), set(lint.tokens(other))
    return len(a & b) / len(a | b)


@pytest.mark.parametrize("seed", range(5))
def test_similar_finds_exactly_what_brute_force_finds(seed: int) -> None:
    rng = random.Random(seed)
    texts, others = random_texts(rng, 120), random_texts(rng, 60)
    alone = {(i, j): jaccard(texts[i], texts[j]) for i in range(len(texts)) for j in range(i)}
    between = {(i, j): jaccard(text, other) for i, text in enumerate(texts) for j, other in enumerate(others)}
    for found, pairs in ((lint.similar(texts), alone), (lint.similar(texts, others), between)):
        expected = {pair: share for pair, share in pairs.items() if share > lint.MAX_JACCARD}
        assert expected
        assert {(i, j): share for i, j, share in found} == expected


@pytest.mark.parametrize("seed", range(5))
def test_grams_are_every_run_of_five(seed: int) -> None:
    for text in random_texts(random.Random(seed), 50):
        words = lint.tokens(text)
        runs = {tuple(words[i : i + 5]) for i in range(len(words)) if i + 5 <= len(words)}
        assert lint.grams(text) == runs


# --- the corpus that comes with kff-live --------------------------------------------------------------------------


def test_nothing_is_wrong_with_the_corpus() -> None:
    assert list(lint.problems(read_corpus(SCRIPTS))) == []


def test_the_corpus_covers_every_form_strength_feeling_and_channel() -> None:
    counts = lint.counts(read_corpus(SCRIPTS))
    assert sum(counts["form"].values()) >= 2100
    assert set(counts["form"]) == set(FORMS)
    assert set(counts["strength"]) == set(STRENGTHS)
    assert set(FEELINGS) <= set(counts["feeling"])
    derived = ("LeftEye", "RightEye")  # they follow EyeLook*
    assert [name for name, count in counts["channel"].items() if count < 5 and not name.startswith(derived)] == []
    numbers = sorted(map(int, counts["keyframes"]))
    assert all(after == before + 1 for before, after in pairwise(numbers))
