"""How fast the decode loop is beside a bare one, how often the grammar refuses, and what a GPU gives."""

from typing import Any

import msgspec
import numpy as np

from kff_live.protocols.keyframe_text import DIALECTS
from kff_live.protocols.prompt import PromptInput
from kff_live.runtime.bench.report import TEXTS, Row, Tell
from kff_live.runtime.clock import SystemClock
from kff_live.runtime.config import Config, Llama
from kff_live.runtime.model.choice import engine_settings
from kff_live.runtime.model.generator_wire import EngineSettings
from kff_live.runtime.model.merging import prepared

_ROUNDS = 3
_THEIR_TEXTS = 4
_RATIO = 0.95
_PART = "decode: tokens of the model, CPU"
_GPU_PART = "gpu: all layers offloaded"


class _Written(msgspec.Struct, frozen=True):
    """One answer: its text, and seconds from its opening to its first line, and from its first token to its last."""

    text: str
    tokens: int
    refused: int
    line_seconds: float
    seconds: float


class _Bench:
    """An engine with the ways to have it write."""

    def __init__(self, settings: EngineSettings) -> None:
        # Here and not above: an installation without llama.cpp has other parts to measure.
        import llama_cpp

        from kff_live.runtime.model.llama import Engine

        self.settings = settings
        self.clock = SystemClock()
        self.engine = Engine(settings, self.clock)
        self._llama = llama_cpp

    def write(self, text: str) -> _Written:
        """Our loop: the grammar's guarantee, several sequences, detokenised text."""
        clock, engine = self.clock, self.engine
        answer = engine.open(PromptInput(text))
        written, first, line = "", 0.0, 0.0
        try:
            while True:
                for output in engine.step():
                    first = first or clock.now()
                    written += output.text
                    if not line and "\n" in output.text:
                        line = clock.now()
                    if output.ended:
                        now = clock.now()
                        return _Written(written, answer.tokens, answer.refused, line - answer.started, now - first)
        finally:
            engine.close(answer)

    def bare(self, text: str, tokens: int) -> float:
        """The reference: nothing but `llama_decode` and the best logit, same context, sequence and length; seconds."""
        clock, engine = self.clock, self.engine
        answer = engine.open(PromptInput(text))
        try:
            while not engine.step():
                pass
            token, position = answer.unread[0], answer.position
            context, batch = engine._context, engine._batch
            batch.n_tokens = 1
            batch.n_seq_id[0] = 1
            batch.seq_id[0][0] = answer.sequence
            batch.logits[0] = True
            begin = clock.now()
            for _ in range(tokens - 1):
                batch.token[0] = token
                batch.pos[0] = position
                self._llama.llama_decode(context, batch)
                token = int(engine.logits(0).argmax())
                position += 1
            return clock.now() - begin
        finally:
            engine.close(answer)

    def theirs(self, texts: tuple[str, ...]) -> list[tuple[str, int, float]]:
        """llama-cpp-python's own grammar path: text, tokens, and seconds from the first to the last."""
        info, clock, found = self.engine.info, self.clock, []
        model = self._llama.Llama(
            self.settings.path,
            n_gpu_layers=self.settings.gpu_layers,
            n_ctx=info.context,
            n_threads=info.threads,
            n_threads_batch=info.threads,
            verbose=False,
        )
        try:
            for text in texts:
                grammar = self._llama.LlamaGrammar.from_string(DIALECTS[self.settings.dialect].grammar, verbose=False)
                prompt = [t for pieces in self.engine.prompts(PromptInput(text)) for t in self._tokens(pieces)]
                times: list[float] = []
                for token in model.generate(prompt, temp=0.0, grammar=grammar):
                    times.append(clock.now())
                    if token == model.token_eos() or len(times) >= 400:
                        break
                found.append((text, len(times), times[-1] - times[0]))
        finally:
            model.close()
        return found

    def _tokens(self, pieces: Any) -> list[int]:
        return self.engine.prompt_tokens(pieces)


def decode(config: Config, *, tell: Tell) -> list[Row]:
    """The rows of the decode loop.

    Raises:
        UserError: the model cannot be loaded.
    """
    if not isinstance(config.model, Llama):
        return [Row(part=_PART, what="tokens a second", note='not measured: model.engine is not "llama"')]
    asked = engine_settings(config.model)
    bench = _Bench(prepared(asked))
    try:
        tell(f"decode: {_ROUNDS} x {len(TEXTS)} texts, each also through the bare loop")
        rows = _compare(bench)
        if asked.merge:
            tell(f"decode: {len(TEXTS)} texts with the adapter merged and beside its base")
            rows += _merged_rows(bench, msgspec.structs.replace(asked, merge=""))
        tell(f"decode: {_THEIR_TEXTS} texts through llama-cpp-python's own grammar path")
        return [*rows, _their_row(bench)]
    finally:
        bench.engine.free()


def _compare(bench: _Bench) -> list[Row]:
    first = [bench.write(text) for text in TEXTS]  # a warm-up, and how many tokens each text has
    ours, bare = [], []
    for number in range(_ROUNDS):
        for i, (text, known) in enumerate(zip(TEXTS, first, strict=True)):
            steps = known.tokens - 1
            if steps < 1:
                continue
            turns = [
                lambda text=text, n=steps: ours.append(n / bench.write(text).seconds),
                lambda text=text, n=steps: bare.append(n / bench.bare(text, n + 1)),
            ]
            for turn in turns if (number + i) % 2 else reversed(turns):
                turn()
    ratio = float(np.median(np.array(ours) / np.array(bare)))
    tokens, refused = sum(w.tokens for w in first), sum(w.refused for w in first)
    return [
        Row(
            part=_PART, what="with the grammar's guarantee", value=float(np.median(ours)), unit="tokens/s",
            reference=float(np.median(bare)), reference_is="bare llama_decode",
        ),
        Row(
            part=_PART, what="ratio of the two, median of pairs", value=ratio, target=f">= {_RATIO}",
            met=ratio >= _RATIO, note=f"{len(ours)} pairs",
        ),
        Row(
            part=_PART, what="best tokens that the grammar refused", value=100 * refused / tokens, unit="%",
            note=f"{refused} of {tokens}",
        ),
    ]  # fmt: skip


def _merged_rows(bench: _Bench, beside: EngineSettings) -> list[Row]:
    other = _Bench(beside)
    try:
        both = [(bench.write(text), other.write(text)) for text in TEXTS for _ in range(2)]
    finally:
        other.engine.free()
    speeds = [[(w.tokens - 1) / w.seconds for w in pair] for pair in both if min(w.tokens for w in pair) > 1]
    merged, alone = np.median(speeds, axis=0)
    line, line_alone = np.median([[w.line_seconds for w in pair] for pair in both], axis=0)
    reference = "the adapter beside its base"
    return [
        Row(
            part=_PART, what="with the adapter merged", value=float(merged), unit="tokens/s",
            reference=float(alone), reference_is=reference,
        ),
        Row(
            part=_PART, what="first line, with the adapter merged", value=1000 * float(line), unit="ms",
            reference=1000 * float(line_alone), reference_is=reference,
        ),
    ]  # fmt: skip


def _their_row(bench: _Bench) -> Row:
    theirs, bare = [], []
    for text, tokens, seconds in bench.theirs(TEXTS[:_THEIR_TEXTS]):
        if tokens > 1:
            theirs.append((tokens - 1) / seconds)
            bare.append((tokens - 1) / bench.bare(text, tokens))
    return Row(
        part=_PART, what="llama-cpp-python's grammar path", value=float(np.median(theirs)), unit="tokens/s",
        reference=float(np.median(bare)), reference_is="bare llama_decode",
    )  # fmt: skip


# --- GPU


def gpu(config: Config, *, tell: Tell) -> list[Row]:
    """All layers on the GPU beside none: agreement of greedy text, speed, first keyframe.

    Raises:
        UserError: the model cannot be loaded.
    """
    reason = _no_gpu(config)
    if reason:
        return [Row(part=_GPU_PART, what="GPU not tried", note=reason)]
    assert isinstance(config.model, Llama)
    model = msgspec.structs.replace(config.model, temperature=0.0)
    written = []
    for layers in (-1, 0):
        tell(f"gpu: {len(TEXTS)} texts with {'all' if layers else 'no'} layers on the GPU")
        bench = _Bench(prepared(engine_settings(msgspec.structs.replace(model, gpu_layers=layers))))
        bench.write(TEXTS[0])  # the first decode of each shape prepares the device
        written.append([bench.write(text) for text in TEXTS])
        bench.engine.free()
    return _gpu_rows(*written)


def _no_gpu(config: Config) -> str:
    if not isinstance(config.model, Llama):
        return 'model.engine is not "llama"'
    from kff_live.runtime.model.llama import supports_gpu

    return "" if supports_gpu() else "llama.cpp was built without GPU support"


def _gpu_rows(device: list[_Written], host: list[_Written]) -> list[Row]:
    same = sum(a.text == b.text for a, b in zip(device, host, strict=True))

    def speed(written: list[_Written]) -> float:
        return float(np.median([(w.tokens - 1) / w.seconds for w in written if w.tokens > 1]))

    def line(written: list[_Written]) -> float:
        return 1000 * float(np.median([w.line_seconds for w in written]))

    part, cpu = _GPU_PART, "CPU"
    return [
        Row(part=part, what="greedy texts equal to the CPU's", value=same, reference=len(host), reference_is="texts"),
        Row(
            part=part, what="tokens a second, median", value=speed(device), unit="tokens/s", reference=speed(host),
            reference_is=cpu,
        ),
        Row(
            part=part, what="text to first keyframe, median", value=line(device), unit="ms", reference=line(host),
            reference_is=cpu,
        ),
    ]  # fmt: skip
