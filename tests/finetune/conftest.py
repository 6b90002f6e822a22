"""Fixtures of the fine-tuning tests: a corpus of a few lines, and models so small that they learn it by heart."""

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kff_live.finetune.records import Record, records
from kff_live.finetune.scripts import Script
from kff_live.protocols.keyframe_text import parse_line, to_json

if importlib.util.find_spec("torch") is None and os.environ.get("KFF_TESTS_STRICT") != "1":
    collect_ignore = ["test_evaluate.py", "test_export.py", "test_small_run.py", "test_train.py"]

LINES: tuple[tuple[str, str, tuple[str, ...], str], ...] = (
    ("action", "Wink with the left eye.", (), "wink: 2+3 blinkL10 cheekL4"),
    ("action", "Raise the right brow, please.", (), "brow up: 3+9 browouterR7"),
    ("action", "Open your mouth as wide as it goes!", (), "jaw drop: 4+12 jaw10"),
    ("action", "Stick out your tongue at the judge.", (), "tongue: 3+8 jaw4 tongue9"),
    ("action", "Look up at the ceiling fan.", (), "look up: 4+10 lookup7 pitch2"),
    ("prose", "Grandmother unwrapped the parcel and beamed.", ("joy",), "beam: 4+12 squint4 smile9 cheek7"),
    ("prose", "Nobody had come to the old man's funeral.", ("sadness",), "sorrow: 10+20 sine frown6 browinner7"),
    ("prose", "The spider was on her pillow.", ("fear",), "fear: 2+9 wide9 stretch6 browinner7"),
    ("prose", "Milk, three weeks past its date.", ("disgust",), "disgust: 3+10 squint4 upperlip6 sneer8"),
    ("chat", "you scratched my car AGAIN", ("anger",), "anger: 2+12 squint6 press6 browdown9"),
    ("chat", "wait, what, no way", ("surprise",), "surprise: 2+8 wide8 jaw5 browinner6 browouter7"),
    ("chat", "got the ticket for friday", ("joy",), "glad: 3+10 smile7 cheek5"),
    ("sequence", "He frowns, and at last he grins.", (), "frown: 4+6 frown6 browdown5\ngrin: 3+8 smile8 cheek5"),
    ("nuance", "\"How lovely,\" she said, and did not mean it.", ("contempt",), "polite: 5+12 smile3 dimpleL5 squint3"),
    ("neutral", "The library closes at six.", (), "calm: 4+6"),
    ("neutral", "Platform two is for trains to the north.", (), "even look: 5+8 lookleft1"),
)  # fmt: skip
"""Form, text, feelings and keyframes of scripts on which the linter finds nothing."""


def make_script(name: str, form: str, text: str, feelings: tuple[str, ...], lines: str) -> Script:
    """A script from keyframe text."""
    keyframes = tuple(to_json(parse_line(line)) for line in lines.splitlines())
    return Script(name, form, text, keyframes, feelings=feelings)


@pytest.fixture(scope="session")
def scripts() -> list[Script]:
    """A small corpus."""
    return [make_script(f"small-{i}", *line) for i, line in enumerate(LINES)]


@pytest.fixture(scope="session")
def small_records(scripts: list[Script]) -> list[Record]:
    """Its records in the compact dialect."""
    return [record for script in scripts for record in records(script, dialect="compact")]


Teach = Callable[..., None]


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """The tokenizer of the embedded model."""
    from kff_live.finetune.base import load_tokenizer

    return load_tokenizer("embedded")


@pytest.fixture(scope="session")
def teach(tokenizer: Any) -> Teach:
    """Trains a model on some records until it knows them by heart, so that no rounding changes what it says."""

    def run(model: Any, learned: list[Record]) -> None:
        import torch

        from kff_live.finetune.train import AnswerLoss, collate, encode

        torch.set_num_threads(1)  # as fast for models this small, and not ten times slower where others compute too
        batch = collate([encode(tokenizer, record) for record in learned], 0, 0, torch.device("cpu"))
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
        model.train()
        for _ in range(300):
            loss = AnswerLoss(model)(**batch)
            if float(loss.detach()) < 0.01:
                return
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        raise AssertionError(f"not learned by heart: {float(loss.detach())}")

    return run


@pytest.fixture(scope="session")
def tiny(
    tokenizer: Any, teach: Teach, small_records: list[Record], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Folders of tiny models by family ("llama", "qwen3"), which know four records by heart."""
    made: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in made:
            made[family] = tmp_path_factory.mktemp(family)
            model = _tiny_model(family, len(tokenizer))
            teach(model, small_records[:4])
            model.save_pretrained(made[family])
            tokenizer.save_pretrained(made[family])
        return made[family]

    return folder


def _tiny_model(family: str, vocabulary: int) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(1)
    shape: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    return Qwen3ForCausalLM(Qwen3Config(**shape)) if family == "qwen3" else LlamaForCausalLM(LlamaConfig(**shape))
