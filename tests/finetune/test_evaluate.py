"""The evaluation: what is measured, by whom, and that each measure knows better from worse."""

import random
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from kff_live.finetune import evaluate, writers
from kff_live.finetune.base import load_model
from kff_live.finetune.evaluate import Evaluation, Row, markdown, pairs
from kff_live.finetune.expressions import Expressions
from kff_live.finetune.gguf_files import write_model
from kff_live.finetune.judge import Judge, Reader, moments, r_precision, train_judge
from kff_live.finetune.motions import apart, play
from kff_live.finetune.records import Record, format_vector, records
from kff_live.finetune.scripts import Script
from kff_live.finetune.writers import Retrieval, Still, Written, named_model
from kff_live.protocols.channels import COUNT, INDEX
from kff_live.protocols.errors import UserError
from kff_live.protocols.keyframe_text import format_keyframe, parse_line
from kff_live.protocols.prompt import PromptInput

JAW = INDEX["JawOpen"]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    """As fast for networks this small, and not ten times slower where others compute too."""
    torch.set_num_threads(1)


def test_a_motion_is_played_from_rest_to_rest() -> None:
    motion = play([parse_line("5+5 jaw8")], 10)
    assert motion.shape == (17, COUNT)  # 0.5 s, 0.5 s, 0.6 s back, and the first frame
    assert motion[[0, -1]].any() == np.False_
    np.testing.assert_allclose(motion[5:11, JAW], 0.8, atol=1e-6)
    assert not play([], 10).any()


def test_motions_that_differ_in_length_are_compared_to_the_end_of_the_longer() -> None:
    one, other = np.zeros((4, COUNT), np.float32), np.zeros((2, COUNT), np.float32)
    one[3, JAW] = 0.5
    other[1, JAW] = -0.5
    assert apart(one, other) == apart(other, one) == pytest.approx((0.5 / (4 * COUNT), 1.0 / (4 * COUNT)))
    assert apart(one, one) == (0.0, 0.0)


# --- retrieval ----------------------------------------------------------------------------------------------------


def test_the_nearest_training_text_lends_its_keyframes(scripts: list[Script], small_records: list[Record]) -> None:
    retrieval = Retrieval(small_records)
    for script in scripts:
        assert retrieval.write(script.request()).keyframes == script.poses()
    near = retrieval.write(PromptInput("the SPIDER crawls over her pillow"))
    assert near.keyframes == scripts[7].poses()
    assert retrieval.write(PromptInput("qwertz")).keyframes == []


def test_a_rare_word_counts_for_more_than_common_ones(scripts: list[Script]) -> None:
    def record(text: str, answer: str) -> Record:
        (made,) = records(Script("x", "prose", text, ()), dialect="compact")
        return Record(made.chat, answer)

    known = [record(f"the man and the {word}", "4 jaw1\n") for word in ("cat", "dog", "hen", "cow")]
    retrieval = Retrieval([*known, record("a wasp", "4 jaw9\n")])
    assert retrieval.write(PromptInput("the man and a wasp and the")).keyframes[0].pose[JAW] == pytest.approx(0.9)


# --- models -------------------------------------------------------------------------------------------------------


def test_a_trained_model_is_named_with_its_adapter() -> None:
    name, settings = named_model("ours v2=/a b/m.gguf:/c/x.gguf", option="--model")
    assert (name, settings.path, settings.adapter, settings.examples) == ("ours v2", "/a b/m.gguf", "/c/x.gguf", False)
    assert named_model("x=C:\\m.gguf", option="--model")[1].path == "C:\\m.gguf"
    assert named_model("x=embedded:a.gguf", option="--model")[1].path.endswith(".gguf")
    for wrong in ("m.gguf", "x=", "x=m.bin", "=m.gguf", "x=m.gguf:a.bin"):
        with pytest.raises(UserError, match="--model: "):
            named_model(wrong, option="--model")


def test_the_untrained_model_is_measured(smollm2_path: Path) -> None:
    with writers.model(writers.engine_settings(str(smollm2_path), examples=True)) as model:
        written = [model.write(PromptInput(text)) for text in ("He wins the cup!", "An onion. " * 40)]
    for answer in written:
        assert answer.keyframes
        assert answer.tokens > 4 * len(answer.keyframes)
        assert answer.seconds > 0
        assert answer.first is not None
        assert answer.first > 0
        assert isinstance(answer.right, bool)


VECTOR = parse_line("3+12 smileL7 jaw10 yaw-4")


@pytest.fixture(scope="module")
def knowing(tiny: Any, teach: Any, tokenizer: Any, small_records: list[Record], tmp_path_factory: Any) -> Any:
    """Models as GGUF that give the first of the small records such answers."""

    def make(*answers: str) -> Path:
        model = load_model(str(tiny("llama")), torch.float32)
        asked = zip(small_records, answers, strict=False)
        teach(model, [msgspec.structs.replace(record, answer=answer) for record, answer in asked])
        path: Path = tmp_path_factory.mktemp("knowing") / "model.gguf"
        write_model(model, tokenizer, path, quantization="F16")
        return path

    return make


def test_what_is_right_without_a_grammar(knowing: Any, scripts: list[Script]) -> None:
    path = knowing("wink: 2+3 blinkL10\n", "brow up: 3+9 browouterR7.5\n", "hello\n4 jaw1\n")
    with writers.model(writers.engine_settings(str(path))) as model:
        exact, decimal, prose = (model.write(script.request()) for script in scripts[:3])
    assert exact.right
    assert exact.keyframes == [parse_line("wink: 2+3 blinkL10")]
    assert decimal.right  # the grammar refuses a decimal, and still it is keyframe text
    assert decimal.keyframes[0] == parse_line("brow up: 3+9 browouterR7")
    assert prose.right is False
    assert prose.keyframes  # but under the grammar every answer has one
    with writers.model(writers.engine_settings(str(path)), vectors=True) as model:
        written = model.write(scripts[0].request())
    assert (written.right, written.keyframes) == (False, [])


def test_a_model_of_bare_numbers_is_read_in_its_own_dialect(knowing: Any, scripts: list[Script]) -> None:
    with writers.model(writers.engine_settings(str(knowing(format_vector(VECTOR)))), vectors=True) as model:
        written = model.write(scripts[0].request())
    assert (written.right, written.keyframes) == (True, [VECTOR])
    assert written.tokens > COUNT
    assert written.first is not None


def test_bare_numbers_become_keyframes_and_broken_lines_are_left_out() -> None:
    keyframes = [parse_line("3+12 smileL7"), parse_line("4 yaw-3")]
    lines = "".join(map(format_vector, keyframes))
    assert writers._compact(lines) == ("".join(map(format_keyframe, keyframes)), True)
    assert writers._compact(lines + "5+5 0 0") == ("".join(map(format_keyframe, keyframes)), False)
    assert writers._compact("hello\n" + lines)[0] == "".join(map(format_keyframe, keyframes))
    assert writers._compact("hello\n" + lines)[1] is False
    assert writers._compact("") == ("", False)


# --- the judge ----------------------------------------------------------------------------------------------------


def test_r_precision_of_what_fits_and_of_what_does_not() -> None:
    rng = torch.Generator().manual_seed(1)
    points = torch.nn.functional.normalize(torch.randn(200, 16, generator=rng), dim=1)
    others = torch.nn.functional.normalize(torch.randn(200, 16, generator=rng), dim=1)
    assert r_precision(points, points) == (1.0, 1.0, 1.0)
    by_chance = r_precision(points, others)
    np.testing.assert_allclose(by_chance, [1 / 32, 2 / 32, 3 / 32], atol=0.06)
    assert r_precision(points, others) == by_chance
    assert r_precision(points[:3], others[:3])[2] == 1.0  # fewer texts than a pool


class Bag:
    """A reader of words alone."""

    def __init__(self, words: list[str]) -> None:
        self._words = words

    def read(self, texts: list[str], *, progress: Any = None) -> torch.Tensor:
        return torch.tensor([[float(word in text.split()) for word in self._words] for text in texts])


def test_a_judge_learns_which_motion_fits() -> None:
    names = ["jaw", "smile", "frown", "wide", "blink", "sneer", "puff", "lookup"]
    rng = random.Random(1)

    def make(count: int) -> list[tuple[str, Any]]:
        some = []
        for _ in range(count):
            words = rng.sample(names, 2)
            line = f"{rng.randint(2, 9)}+5 " + " ".join(f"{word}{rng.randint(5, 9)}" for word in words)
            some.append((" ".join(words), play([parse_line(line)], 10)))
        return some

    seen: list[tuple[int, int]] = []
    reader: Any = Bag(names)
    judge = train_judge(reader, make(400), make(60), progress=lambda done, of: seen.append((done, of)))
    texts, motions = zip(*make(100), strict=True)
    points = judge.points(list(texts), list(motions))
    torch.testing.assert_close(points[0].norm(dim=1), torch.ones(100))
    good, bad = r_precision(*points), r_precision(points[0], points[1].roll(1, 0))
    assert good[2] > 0.6
    assert bad[2] < 0.3
    again = train_judge(reader, make(20), [], progress=lambda done, of: None)
    assert isinstance(again, Judge)


def test_moments_hold_the_beginning_the_end_and_the_peak() -> None:
    short, long = play([parse_line("2+3 jaw7")], 10), play([parse_line("20+60 jaw7")], 10)
    rows = moments([short, long])
    assert rows.shape == (2, 16 * COUNT + 3 * COUNT + 1)
    np.testing.assert_allclose(rows[:, 17 * COUNT + JAW], 0.7, atol=1e-6)
    assert rows[1, -1] > rows[0, -1]


def test_a_text_is_read_the_same_alone_and_in_a_batch(tiny: Any, tokenizer: Any) -> None:
    reader = Reader(load_model(str(tiny("llama")), torch.float32), tokenizer)
    texts = ["short", "a much longer text, with more of everything in it", "middling, say"]
    together = reader.read(texts)
    assert together.shape == (3, 64)
    for i, text in enumerate(texts):
        torch.testing.assert_close(reader.read([text])[0], together[i], rtol=0.1, atol=0.1)  # in bfloat16
    assert (together[0] - together[1]).norm() > 1


# --- the table ----------------------------------------------------------------------------------------------------


class Mirror:
    """A judge to whom all is alike."""

    def points(self, texts: list[str], motions: list[Any]) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.ones(len(texts), 1), torch.ones(len(motions), 1)


class Known:
    """Writes what a script holds, and says what it took."""

    def __init__(self, scripts: list[Script]) -> None:
        self._scripts = {script.text: script for script in scripts}

    def write(self, request: PromptInput) -> Written:
        script = self._scripts.get(request.text)
        keyframes = script.poses() if script else []
        return Written(keyframes, right=bool(keyframes), tokens=10 * len(keyframes), seconds=0.1, first=0.05)


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    path = tmp_path / "wishes.jsonl"
    path.write_text(
        '{"id": 1, "kind": "k1", "text": "wait, what, no way", "up": ["browIn"]}\n'
        '{"id": 2, "kind": "k2", "text": "nothing", "up": ["browIn"]}\n'
    )
    return path


def test_a_row_holds_what_was_written(scripts: list[Script], cases: Path) -> None:
    judge: Any = Mirror()
    evaluation = Evaluation(scripts, judge, [Expressions(cases)])
    truth = evaluation.truth()
    assert (truth.mse, truth.mae, truth.parsed) == (0.0, 0.0, None)
    still = evaluation.row("still", Still(), progress=lambda done, of: None)
    assert still.mse is not None
    assert still.mse > 0
    assert still.expressions == {cases.as_posix(): {"k1": (0, 1), "k2": (0, 1)}}
    seen: list[tuple[int, int]] = []
    row = evaluation.row("known", Known(scripts[1:]), progress=lambda done, of: seen.append((done, of)))
    assert seen[-1] == (len(scripts) + 2, len(scripts) + 2)
    count = sum(len(script.keyframes) for script in scripts[1:]) + 0
    assert row.parsed == (len(scripts) - 1) / len(scripts)
    assert row.tokens_per_keyframe == 10.0
    assert row.tokens_per_second == pytest.approx(10 * count / (0.1 * len(scripts)))
    assert row.first == 0.05
    assert row.mse == pytest.approx(apart(play(scripts[0].poses(), 10), play([], 10))[0] / len(scripts))
    assert row.expressions == {cases.as_posix(): {"k1": (1, 1), "k2": (0, 1)}}
    table = markdown([truth, still, row], ["a note"])
    assert "| known | 93.8% | 10.0 |" in table
    assert f"| {cases.as_posix()}: passed | k1 | k2 | all |" in table
    assert "| known | 1/1 = 100% | 0/1 = 0% | 1/2 = 50% |" in table
    assert table.endswith("\n* a note\n")
    assert "| known | 50.0% |" in markdown([Row("known", parsed=0.5)], [])


def test_only_compact_records_are_evaluated(scripts: list[Script], small_records: list[Record]) -> None:
    assert [text for text, _ in pairs(small_records * 2)] == [script.text for script in scripts]
    for dialect in ("vectors", "keyframeface"):
        with pytest.raises(UserError, match="compact dialect"):
            pairs(records(scripts[0], dialect=dialect))


def test_notes_say_how_many(scripts: list[Script]) -> None:
    few, many = ("\n".join(evaluate.notes(texts, 2000)) for texts in (10, 300))
    assert "10 texts" in few
    assert "of 10 (chance: 10.0%" in few
    assert "of 32 (chance: 3.1%" in many
