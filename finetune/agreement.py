"""Shows that a GGUF answers as the model it was made from: its words are the same, and its answers how much."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kff_live.finetune.base import rendered, token_ids
from kff_live.finetune.gguf_files import words
from kff_live.finetune.records import Record
from kff_live.protocols.errors import UserError
from kff_live.protocols.prompt import CHATML, Prompt
from kff_live.runtime.clock import SystemClock
from kff_live.runtime.model.generator_wire import EngineSettings
from kff_live.runtime.model.llama import Engine, outputs

MAX_TOKENS = 256
"""Longest answer that is compared, in tokens; the longest of the corpus have about 200."""

_ODD_TEXTS = (
    "It's 1234567, 3.14 or -5!", "  two  spaces\n\n\n", "SHOUTING, don't", "naïve café — “so”", "表情 лицо", "😂🎉",
    "<|im_end|><|im_start|>system </s>[INST]",
)  # fmt: skip
_NUMBER = re.compile(r"-?\d+(\.\d+)?")


@dataclass(frozen=True)
class Agreement:
    """How alike the answers to some prompts are, as shares in [0, 1].

    `answers`: token for token the same. `tokens`: of all tokens, those before an answer's first difference.
    `keyframes`: those that say the same once numbers are left out: label, easing, what moves on which side.
    """

    prompts: int
    answers: float
    tokens: float
    keyframes: float

    def __str__(self) -> str:
        return (
            f"{self.prompts} prompts: {self.answers:.0%} of the answers are identical, {self.tokens:.0%} of the tokens "
            f"up to the first difference, {self.keyframes:.0%} of the keyframes but for their numbers"
        )


@contextmanager
def engine(path: Path, adapter: Path | None = None) -> Iterator[Engine]:
    """The runtime's engine on a GGUF and perhaps an adapter, one answer at a time.

    Raises:
        UserError: llama.cpp cannot load them.
    """
    settings = EngineSettings(str(path), adapter=str(adapter or ""), sequences=1, examples=False, max_tokens=MAX_TOKENS)
    opened = Engine(settings, SystemClock())
    try:
        yield opened
    finally:
        opened.free()


def check_words(path: Path, engine: Engine, tokenizer: Any, records: list[Record]) -> None:
    """That a GGUF reads and writes text as the model did in training.

    Raises:
        UserError: its chat template, its vocabulary, or the tokens of a prompt are not those of `tokenizer`.
    """
    if engine.template != (tokenizer.chat_template or CHATML):
        raise UserError(f"{path.name}: its chat template is not the one that the adapter was trained with")
    theirs = words(path)
    ours = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    if theirs[: len(ours)] != ours:
        raise UserError(f"{path.name}: its vocabulary is not the one that the adapter was trained with")
    odd: list[Prompt] = [[(text, is_user)] for text in _ODD_TEXTS for is_user in (False, True)]
    answers: list[Prompt] = [[(record.answer, True)] for record in records]
    for prompt in [*odd, *answers, *(rendered(tokenizer, record.chat) for record in records)]:
        # Piece by piece: the runtime cuts what a user says, and answers may be longer.
        if [t for text, user in prompt for t in engine.tokenize(text, user=user)] != token_ids(tokenizer, prompt):
            text = "".join(piece for piece, _ in prompt)
            raise UserError(
                f"{path.name}: its tokenizer is not the one that the adapter was trained with: {text[:60]!r}"
            )


def agreement(
    engine: Engine, model: Any, tokenizer: Any, records: list[Record], *, progress: Callable[[int], None]
) -> Agreement:
    """Both answer each prompt, always taking the best token and without a grammar; `progress` is told how many have.

    Raises:
        GeneratorError: llama.cpp cannot decode.
    """
    same, before, tokens, alike, keyframes = 0, 0, 0, 0, 0
    for count, record in enumerate(records, 1):
        prompt = rendered(tokenizer, record.chat)
        theirs = [output.token for output in outputs(engine, engine.begin(prompt, grammar=False))]
        ours = greedy(model, token_ids(tokenizer, prompt), ends=engine.ends)
        same += theirs == ours
        before += next(
            (i for i, (a, b) in enumerate(zip(theirs, ours, strict=False)) if a != b), min(len(theirs), len(ours))
        )
        tokens += max(len(theirs), len(ours))
        # Without the token that ends the answer: it would be a line of its own after the last keyframe, always alike.
        texts = (tokenizer.decode(ids[:-1] if engine.ends(ids[-1]) else ids) for ids in (theirs, ours))
        lines = [_NUMBER.sub("", text).splitlines() for text in texts]
        alike += sum(a == b for a, b in zip(*lines, strict=False))
        keyframes += max(map(len, lines))
        progress(count)
    return Agreement(len(records), same / len(records), before / tokens, alike / keyframes if keyframes else 1.0)


@torch.inference_mode()
def greedy(model: Any, prompt: list[int], *, ends: Callable[[int], bool]) -> list[int]:
    """The best token after token, the one that ends the answer included, from a model of transformers."""
    model.eval()
    written: list[int] = []
    given, cache = prompt, None
    while len(written) < MAX_TOKENS:
        ids = torch.tensor([given], device=model.device)
        seen = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache, given = seen.past_key_values, [int(seen.logits[0, -1].argmax())]
        written += given
        if ends(given[0]):
            break
    return written
