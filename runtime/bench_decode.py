"""How fast the decode loop is beside a bare one, how often the grammar refuses, and what a GPU gives."""

from statistics import median
from typing import Any

import llama_cpp as _llama
import msgspec
import numpy as np

from kff_live.protocols.prompt import PromptInput
from kff_live.runtime.bench_report import TEXTS, Row, Tell
from kff_live.runtime.clock import SystemClock
from kff_live.runtime.config import Config, Llama
from kff_live.runtime.generator_wire import EngineSettings
from kff_live.runtime.llama import Answer, Engine, supports_gpu
from kff_live.runtime.models import engine_settings

_ROUNDS = 3
_OTHERS_TEXTS = 4
_PART = "decode: the model writes"


class _Written(msgspec.Struct):
    """One answer: its text, its tokens, and seconds from its first token to its last, and to its first keyframe."""

    text: str
    tokens: int
    refused: int
    seconds: float
    keyframe_seconds: float


def decode(config: Config, *, tell: Tell) -> list[Row]:
    """The rows of the decode loop.

    Raises:
        UserError: the model cannot be loaded.
    """
    if not isinstance(config.model, Llama):
        return [Row(part=_PART, what="tokens a second", note='not measured: model.engine is not "llama"')]
    settings = engine_settings(config.model)
    clock = SystemClock()
    tell(f"decode: {_ROUNDS} x {len(TEXTS)} texts, each also through the bare loop")
    engine = Engine(settings, clock)
    try:
        return _compare(engine, clock) + _others(engine, settings, clock, tell)
    finally:
        engine.free()


def _compare(engine: Engine, clock: SystemClock) -> list[Row]:
    ours, bare, tokens, refused = [], [], 0, 0
    for number in range(_ROUNDS):
        for i, text in enumerate(TEXTS):
            # The same number of tokens from the same prompt, in turn first and second.
            if (number + i) % 2 and number:
                bare.append(_bare(engine, text, counts[i], clock))
                written = _write(engine, text, clock)
            else:
                written = _write(engine, text, clock)
                bare.append(_bare(engine, text, written.tokens, clock))
            ours.append(written.seconds / (written.tokens - 1))
    return []
