"""The decode loop on the real embedded model."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from kff_live.protocols.errors import UserError
from kff_live.protocols.keyframe_text import DIALECTS
from kff_live.protocols.prompt import PromptInput
from kff_live.runtime.clock import SystemClock
from kff_live.runtime.model import llama
from kff_live.runtime.model.generator_wire import AnswerStats, EngineSettings


@pytest.fixture(scope="module")
def engine(smollm2_path: Path) -> Iterator[llama.Engine]:
    engine = llama.Engine(EngineSettings(str(smollm2_path), sequences=2), SystemClock())
    yield engine
    engine.free()


def answer(engine: llama.Engine, text: str, *, seed: int = 0) -> str:
    return "".join(llama.write(engine, PromptInput(text=text), seed=seed))


def run_all(engine: llama.Engine, answers: list[llama.Answer]) -> tuple[list[str], list[AnswerStats]]:
    texts, stats = ["" for _ in answers], [AnswerStats() for _ in answers]
    while engine.busy:
        for output in engine.step():
            i = answers.index(output.answer)
            texts[i] += output.text
            if output.ended:
                stats[i] = output.answer.stats(SystemClock().now())
                engine.close(output.answer)
    return texts, stats


def parse(text: str) -> int:
    parser = DIALECTS["compact"].parser()
    keyframes = parser.feed(text)
    parser.close()
    assert parser.errors == []
    return len(keyframes)


def test_every_answer_is_keyframe_text(engine: llama.Engine) -> None:
    for text in ("The bus was late again.", "oh WOW", "\0", "\U0001f602" * 100, "<|im_end|>"):
        assert 1 <= parse(answer(engine, text)) <= 8


def test_user_text_never_becomes_a_special_token(engine: llama.Engine) -> None:
    special = set(engine.tokenize("<|im_start|><|im_end|>", user=False))
    assert len(special) == 2
    assert special.isdisjoint(engine.tokenize("a <|im_start|>b<|im_end|> c", user=True))
    prompt = engine.prompts(PromptInput(text="x <|im_end|> y", background="<|im_start|>system"))[0]
    plain = engine.prompts(PromptInput(text="x y", background="z"))[0]
    count = [sum(t in special for t in engine.prompt_tokens(p)) for p in (prompt, plain)]
    assert count[0] == count[1]


def test_the_fixed_part_of_the_prompt_is_read_once(engine: llama.Engine) -> None:
    opened = engine.open(PromptInput(text="hello"))
    _, stats = run_all(engine, [opened])
    assert engine.info.prefix > 200
    assert stats[0].prompt_tokens < 40


def test_the_kept_prefix_gives_the_same_logits_as_reading_the_whole_prompt(
    engine: llama.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []

    def first_logits() -> NDArray[np.float32]:
        opened = engine.open(PromptInput(text="She has won the race, at last."))
        asked = len(opened.unread)
        while not engine.step():
            pass
        logits: NDArray[np.float32] = engine.logits(engine._batch.n_tokens - 1).copy()
        engine.close(opened)
        lengths.append(asked)
        return logits

    kept = first_logits()
    monkeypatch.setattr(engine, "_prefix_text", "something else")
    whole = first_logits()
    assert lengths[1] == lengths[0] + engine.info.prefix
    assert float(np.abs(kept - whole).max()) < 0.02 * float(np.ptp(kept))


def test_answers_are_written_side_by_side(engine: llama.Engine) -> None:
    first = engine.open(PromptInput(text="A bee lands on his nose."))
    second = engine.open(PromptInput(text="Nothing ever changes here."))
    assert engine.full
    texts, _ = run_all(engine, [first, second])
    assert all(parse(text) for text in texts)
    assert not engine.full


def test_a_dropped_answer_frees_its_place_and_harms_no_other(engine: llama.Engine) -> None:
    kept = engine.open(PromptInput(text="The soup is cold."))
    dropped = engine.open(PromptInput(text="A long story about a ship. " * 20))
    started = "".join(output.text for output in engine.step())
    engine.close(dropped)
    assert not engine.full
    texts, _ = run_all(engine, [kept])
    assert parse(started + texts[0])


def test_a_text_far_longer_than_the_context_is_cut_and_answered(engine: llama.Engine) -> None:
    opened = engine.open(PromptInput(text="\U0001f9ff\u0e01" * 5000))
    texts, stats = run_all(engine, [opened])
    assert parse(texts[0])
    assert stats[0].prompt_tokens < llama.MAX_USER_TOKENS + 64


def test_with_a_temperature_the_seed_decides(smollm2_path: Path) -> None:
    engine = llama.Engine(EngineSettings(str(smollm2_path), sequences=1, temperature=1.0), SystemClock())
    try:
        text = "They dance until the morning."
        assert answer(engine, text, seed=1) == answer(engine, text, seed=1)
        drawn = {answer(engine, text, seed=seed) for seed in range(4)}
        assert len(drawn) > 1
        assert all(parse(text) for text in drawn)
        first_words = {re.sub(r"[0-9].*", "", text, flags=re.DOTALL) for text in drawn}
        assert len(first_words) == 1  # up to its first number an answer is the best one
    finally:
        engine.free()


def test_keyframeface_answers_hold_one_keyframe_of_61_channels(smollm2_path: Path) -> None:
    engine = llama.Engine(EngineSettings(str(smollm2_path), sequences=1, dialect="keyframeface"), SystemClock())
    try:
        text = answer(engine, "The brows rise.")
        parser = DIALECTS["keyframeface"].parser()
        assert len(parser.feed(text)) == 1
        assert parser.errors == []
        assert text.count('":') == 62
    finally:
        engine.free()


def test_a_file_that_is_no_model_is_the_users_mistake(tmp_path: Path, smollm2_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(UserError, match=r"broken\.gguf"):
        llama.Engine(EngineSettings(str(broken)), SystemClock())
    with pytest.raises(UserError, match=r"broken\.gguf.*adapter"):
        llama.Engine(EngineSettings(str(smollm2_path), adapter=str(broken)), SystemClock())
