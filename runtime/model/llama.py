"""The decode loop on llama.cpp: the one module that imports llama_cpp for generation.

Several answers are written at a time as parallel sequences of one batch. `step` decodes once; between two steps a
sequence can be added or dropped. The grammar is applied lazily: the best token is taken, the grammar is asked about
that one token, and only if it refuses are more looked at, first the 64 best and then the whole vocabulary.
"""

import codecs
import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from kff_live.protocols import prompt
from kff_live.protocols.errors import GeneratorError, UserError
from kff_live.protocols.keyframe_text import DIALECTS
from kff_live.protocols.prompt import Prompt, PromptInput
from kff_live.runtime.clock import Clock
from kff_live.runtime.model.generator_wire import AnswerStats, Ending, EngineInfo, EngineSettings

try:
    import llama_cpp as _llama
except ImportError as error:
    raise UserError("llama-cpp-python is not installed: type  pip install 'kff-live[embedded]'") from error

CHUNK = 64
"""Most tokens in one decode: a cancel is seen between decodes, and more than n_batch would end the process."""

MAX_USER_TOKENS = 512
"""Tokens of user text in one prompt; the rest is cut."""

_NEAR = 64  # candidates looked at when the best token is refused
_STRUCTURE_TOKENS = 256  # room for what surrounds the user's text in the prompt


class Log:
    """Keeps llama.cpp's last messages, to be shown when it fails."""

    def __init__(self) -> None:
        self.lines: list[str] = []

        @_llama.llama_log_callback  # type: ignore[untyped-decorator]  # ctypes
        def callback(level: int, text: bytes, _data: object) -> None:
            self.lines = [*self.lines[-20:], text.decode("utf-8", "replace").rstrip()]

        self._callback = callback  # the C side keeps a bare pointer to it
        _llama.llama_log_set(callback, ctypes.c_void_p(0))

    def tail(self) -> str:
        """The last lines that say something of an error, on one line."""
        said = [line for line in self.lines if any(word in line.lower() for word in ("error", "fail", "invalid"))]
        return "; ".join(said[-2:])


LOG = Log()
"""One for the process, as llama.cpp has one; an engine's own would be called when the engine has gone."""


class Answer:
    """One answer in the making: what is still to be read, the grammar's state, and what has been counted."""

    def __init__(self, sequence: int, tokens: list[int], position: int, grammar: Any, seed: int) -> None:
        self.sequence = sequence
        self.unread = tokens
        self.position = position
        self.grammar = grammar
        self.random = np.random.default_rng(seed)
        self.text = codecs.getincrementaldecoder("utf-8")("replace")
        self.prompt_tokens = len(tokens)
        self.tokens = 0
        self.refused = 0
        self.started = 0.0
        self.prompt_read = 0.0

    def stats(self, now: float) -> AnswerStats:
        """The figures so far."""
        read = self.prompt_read or now
        return AnswerStats(
            prompt_tokens=self.prompt_tokens,
            prompt_seconds=read - self.started,
            tokens=self.tokens,
            seconds=now - read,
            refused=self.refused,
        )


class Output(msgspec.Struct):
    """What one step gave for one answer: a token and its text (perhaps none), and whether and why it has ended.

    `ended` is "end", "length", or "error"; then `text` is what went wrong, and there is no token.
    """

    answer: Answer
    text: str = ""
    ended: Ending | None = None
    token: int = -1


class Engine:
    """A loaded model with the fixed part of its prompt read.

    Raises:
        UserError: the model, the adapter or the chat template cannot be used; the message says why.
    """

    def __init__(self, settings: EngineSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._closing = contextlib.ExitStack()
        LOG.lines.clear()
        _llama.llama_backend_init()
        self._model = self._load_model()
        self._vocab = _llama.llama_model_get_vocab(self._model)
        self._n_vocab = _llama.llama_vocab_n_tokens(self._vocab)
        self.template = self._chat_template()
        """The chat template of the file, in Jinja; prompt.CHATML where it has none."""
        self._dialect = DIALECTS[settings.dialect]
        self._max_tokens = settings.max_tokens or self._dialect.max_tokens
        self._pieces: dict[int, bytes] = {}
        self._prefix_text, self._prefix = self._fixed_part()
        cores = os.cpu_count() or 1
        threads = settings.threads or min(cores, max(2, min(4, cores // 2)))
        self._context = self._new_context(threads)
        self._load_adapter()
        self._memory = _llama.llama_get_memory(self._context)
        self._grammar = self._new_grammar()
        self._batch = _llama.llama_batch_init(CHUNK, 0, 1)
        self._closing.callback(_llama.llama_batch_free, self._batch)
        self._free = list(range(settings.sequences))
        self._answers: list[Answer] = []
        self._numbers = self._number_tokens() if settings.temperature > 0.0 else np.array([], np.intp)
        self._candidates = np.zeros(self._n_vocab, [("id", np.int32), ("logit", np.float32), ("p", np.float32)])
        self._read_prefix()
        gpu = bool(_llama.llama_supports_gpu_offload())
        layers = _llama.llama_model_n_layer(self._model) + 1
        wanted = settings.gpu_layers
        self.info = EngineInfo(
            name=Path(settings.path).name,
            gpu=gpu,
            gpu_layers=(layers if wanted < 0 else min(wanted, layers)) if gpu else 0,
            threads=threads,
            context=_llama.llama_n_ctx(self._context),
            prefix=len(self._prefix),
        )

    # --- loading

    def _load_model(self) -> Any:
        if not Path(self._settings.path).is_file():
            raise UserError(f"{self._settings.path}: there is no such model file")
        params = _llama.llama_model_default_params()
        params.n_gpu_layers = self._settings.gpu_layers if self._settings.gpu_layers >= 0 else 999
        model = _llama.llama_model_load_from_file(os.fsencode(self._settings.path), params)
        if not model:
            raise UserError(f"{self._settings.path}: llama.cpp cannot load it: {LOG.tail() or 'no reason given'}")
        self._closing.callback(_llama.llama_model_free, model)
        return model

    def _new_context(self, threads: int) -> Any:
        room = MAX_USER_TOKENS + _STRUCTURE_TOKENS + self._max_tokens
        trained = _llama.llama_model_n_ctx_train(self._model)
        if len(self._prefix) + room > trained:
            raise UserError(
                f"{self._settings.path}: its context of {trained} tokens is too short; "
                f"{len(self._prefix) + room} are needed"
            )
        params = _llama.llama_context_default_params()
        params.n_ctx = len(self._prefix) + self._settings.sequences * room
        params.n_batch = params.n_ubatch = CHUNK
        params.n_seq_max = self._settings.sequences + 1
        params.kv_unified = True  # without it a partial sequence copy ends the process
        params.n_threads = params.n_threads_batch = threads
        params.no_perf = True
        context = _llama.llama_init_from_model(self._model, params)
        if not context:
            raise UserError(f"{self._settings.path}: no context of {params.n_ctx} tokens: {LOG.tail()}")
        self._closing.callback(_llama.llama_free, context)
        return context

    def _load_adapter(self) -> None:
        path = self._settings.adapter
        if not path:
            return
        adapter = _llama.llama_adapter_lora_init(self._model, os.fsencode(path)) if Path(path).is_file() else None
        if not adapter:
            raise UserError(f"{path}: not a LoRA adapter for this model: {LOG.tail() or 'there is no such file'}")
        adapters = (_llama.llama_adapter_lora_p_ctypes * 1)(adapter)
        scales = (ctypes.c_float * 1)(self._settings.adapter_scale)
        if _llama.llama_set_adapters_lora(self._context, adapters, 1, scales) != 0:
            raise UserError(f"{path}: the adapter cannot be applied: {LOG.tail()}")

    def _chat_template(self) -> str:
        template = _llama.llama_model_chat_template(self._model, None)
        return template.decode("utf-8", "replace") if template else prompt.CHATML

    def _new_grammar(self) -> Any:
        grammar = _llama.llama_sampler_init_grammar(self._vocab, self._dialect.grammar.encode(), b"root")
        if not grammar:
            raise GeneratorError(f"llama.cpp refuses the {self._settings.dialect} grammar")
        self._closing.callback(_llama.llama_sampler_free, grammar)
        return grammar

    # --- the prompt

    def prompts(self, request: PromptInput) -> list[Prompt]:
        """The prompts of a request: one, or one a keyframe."""
        chats = prompt.messages(request, dialect=self._settings.dialect, examples=self._settings.examples)
        return [self.prompt(chat) for chat in chats]

    def prompt(self, chat: list[prompt.Message]) -> Prompt:
        """The prompt of a chat, through the model's own template."""
        bos, eos = (
            self._piece(token).decode("utf-8", "replace") if token >= 0 else ""
            for token in (_llama.llama_vocab_bos(self._vocab), _llama.llama_vocab_eos(self._vocab))
        )
        return prompt.render(chat, self.template, bos=bos, eos=eos)

    def tokenize(self, text: str, *, user: bool) -> list[int]:
        """Token ids of one piece of a prompt; in the user's text nothing is a special token."""
        data = text.encode("utf-8", "replace")
        room = len(data) + 8
        tokens = (_llama.llama_token * room)()
        count = _llama.llama_tokenize(self._vocab, data, len(data), tokens, room, False, not user)
        if count < 0:
            raise GeneratorError(f"a text of {len(data)} bytes cannot be tokenised")
        return list(tokens[:count])

    def _fixed_part(self) -> tuple[str, list[int]]:
        # Everything before the first user text is the same for every request.
        first = self.prompts(PromptInput(text="x"))[0][0]
        return (first[0], self.tokenize(first[0], user=False)) if not first[1] else ("", [])

    def prompt_tokens(self, pieces: Prompt) -> list[int]:
        """Token ids of a prompt, the user's share cut at MAX_USER_TOKENS."""
        tokens: list[int] = []
        budget = MAX_USER_TOKENS
        for text, is_user in pieces:
            new = self.tokenize(text, user=is_user)
            if is_user:
                new = new[:budget]
                budget -= len(new)
            tokens += new
        return tokens

    def _read_prefix(self) -> None:
        home = self._settings.sequences  # the sequence that keeps the fixed part
        for start in range(0, len(self._prefix), CHUNK):
            chunk = self._prefix[start : start + CHUNK]
            self._batch.n_tokens = 0
            for i, token in enumerate(chunk):
                self._add(token, start + i, home, logits=False)
            self._decode()

    # --- answers

    @property
    def busy(self) -> bool:
        """Whether a step has anything to do."""
        return bool(self._answers)

    @property
    def full(self) -> bool:
        """Whether another answer has to wait."""
        return not self._free

    def open(self, request: PromptInput, *, number: int = 0, seed: int = 0) -> Answer:
        """Begin an answer; `full` must be False.

        Raises:
            GeneratorError: the prompt is too long for the model's context.
        """
        return self.begin(self.prompts(request)[number], seed=seed)

    def begin(self, pieces: Prompt, *, seed: int = 0, grammar: bool = True) -> Answer:
        """The same for a prompt; without `grammar` the model may write what it likes.

        Raises:
            GeneratorError: the prompt is too long for the model's context.
        """
        known = bool(pieces) and pieces[0] == (self._prefix_text, False)
        tokens = self.prompt_tokens(pieces[1:] if known else pieces)
        position = len(self._prefix) if known else 0
        if len(tokens) > (MAX_USER_TOKENS + _STRUCTURE_TOKENS) + (0 if known else len(self._prefix)):
            raise GeneratorError(f"the prompt has {len(tokens)} tokens")
        sequence = self._free.pop()
        _llama.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        if known:
            _llama.llama_memory_seq_cp(self._memory, self._settings.sequences, sequence, -1, -1)
        sampler = _llama.llama_sampler_clone(self._grammar) if grammar else None
        answer = Answer(sequence, tokens, position, sampler, seed)
        answer.started = self._clock.now()
        self._answers.append(answer)
        return answer

    def close(self, answer: Answer) -> None:
        """Forget an answer, finished or not."""
        if answer in self._answers:
            self._answers.remove(answer)
            if answer.grammar is not None:
                _llama.llama_sampler_free(answer.grammar)
            _llama.llama_memory_seq_rm(self._memory, answer.sequence, -1, -1)
            self._free.append(answer.sequence)

    def step(self) -> list[Output]:
        """Decode once: a token of every answer that is being written, a chunk of those being read.

        Raises:
            GeneratorError: llama.cpp cannot decode; every open answer is lost.
        """
        self._batch.n_tokens = 0
        asked: list[tuple[int, Answer]] = []
        # Answers in the writing first: they have one token each, and their reader waits for it.
        for answer in sorted(self._answers, key=lambda a: len(a.unread)):
            take = min(len(answer.unread), CHUNK - self._batch.n_tokens)
            for i in range(take):
                last = i == len(answer.unread) - 1
                self._add(answer.unread[i], answer.position, answer.sequence, logits=last)
                answer.position += 1
                if last:
                    asked.append((self._batch.n_tokens - 1, answer))
            del answer.unread[:take]
        self._decode()
        return [self._written(answer, index) for index, answer in asked]

    def _written(self, answer: Answer, index: int) -> Output:
        """The next token of one answer; where there is none only this answer fails."""
        try:
            return self._next(answer, index)
        except GeneratorError as error:
            return Output(answer, str(error), "error")

    def _next(self, answer: Answer, index: int) -> Output:
        if not answer.prompt_read:
            answer.prompt_read = self._clock.now()
        token = self._choose(answer, self.logits(index))
        if answer.grammar is not None:
            _llama.llama_sampler_accept(answer.grammar, token)
        answer.tokens += 1
        if self.ends(token):
            return Output(answer, answer.text.decode(b"", final=True), "end", token)
        text = answer.text.decode(self._piece(token))
        if answer.tokens >= self._max_tokens:
            return Output(answer, text, "length", token)
        answer.unread.append(token)
        return Output(answer, text, token=token)

    def ends(self, token: int) -> bool:
        """Whether a token ends an answer."""
        return bool(_llama.llama_vocab_is_eog(self._vocab, token))

    def _add(self, token: int, position: int, sequence: int, *, logits: bool) -> None:
        batch, i = self._batch, self._batch.n_tokens
        batch.token[i] = token
        batch.pos[i] = position
        batch.n_seq_id[i] = 1
        batch.seq_id[i][0] = sequence
        batch.logits[i] = logits
        batch.n_tokens = i + 1

    def _decode(self) -> None:
        result = _llama.llama_decode(self._context, self._batch)
        if result != 0:
            raise GeneratorError(f"llama_decode gave {result}: {LOG.tail() or 'no reason given'}")

    def logits(self, index: int) -> NDArray[np.float32]:
        """The logits of batch entry `index`: float32[vocabulary], valid until the next decode."""
        pointer = _llama.llama_get_logits_ith(self._context, index)
        address = ctypes.cast(pointer, ctypes.c_void_p).value
        if not address:
            raise GeneratorError("llama.cpp gave no logits")
        return np.frombuffer((ctypes.c_float * self._n_vocab).from_address(address), np.float32)

    # --- choosing a token

    def _number_tokens(self) -> NDArray[np.intp]:
        return np.array([token for token in range(self._n_vocab) if self._piece(token).isdigit()], np.intp)

    def _choose(self, answer: Answer, logits: NDArray[np.float32]) -> int:
        """The best token that the grammar allows. A temperature varies numbers, which are times and levels: where the
        best token is a number, another one is drawn by its probability. Which muscles move stays as it is.
        """
        token = self._best(answer, logits)
        if self._settings.temperature > 0.0 and token in self._numbers:
            # Gumbel's trick: the best after adding -log(exponential noise) is a draw from the softmax.
            noise = answer.random.standard_exponential(len(self._numbers), dtype=np.float32)
            drawn = np.full(self._n_vocab, -np.inf, np.float32)
            drawn[self._numbers] = logits[self._numbers] / np.float32(self._settings.temperature) - np.log(
                np.maximum(noise, np.float32(1e-30))
            )
            number = self._allowed(answer, self._numbers, drawn)
            return token if number is None else number
        return token

    def _best(self, answer: Answer, logits: NDArray[np.float32]) -> int:
        best = int(logits.argmax())
        if answer.grammar is None or self._allowed(answer, np.array([best]), logits) == best:
            return best
        answer.refused += 1
        near = np.argpartition(logits, -_NEAR)[-_NEAR:] if self._n_vocab > _NEAR else np.arange(self._n_vocab)
        token = self._allowed(answer, near, logits)
        if token is None:
            token = self._allowed(answer, np.arange(self._n_vocab), logits)
        if token is None:
            raise GeneratorError("the grammar allows no token")
        return token

    def _allowed(self, answer: Answer, tokens: NDArray[np.intp], logits: NDArray[np.float32]) -> int | None:
        candidates = self._candidates[: len(tokens)]
        candidates["id"] = tokens
        candidates["logit"] = logits[tokens]
        array = _llama.llama_token_data_array(
            data=candidates.ctypes.data_as(_llama.llama_token_data_p), size=len(tokens), selected=-1, sorted=False
        )
        _llama.llama_sampler_apply(answer.grammar, ctypes.byref(array))
        best = int(candidates["logit"].argmax())
        return int(candidates["id"][best]) if candidates["logit"][best] > -np.inf else None

    def _piece(self, token: int) -> bytes:
        piece = self._pieces.get(token)
        if piece is None:
            buffer = ctypes.create_string_buffer(256)
            length = _llama.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, True)
            piece = self._pieces[token] = buffer.raw[: max(0, length)]
        return piece

    def free(self) -> None:
        """Give back what llama.cpp holds."""
        for answer in list(self._answers):
            self.close(answer)
        self._closing.close()


def outputs(engine: Engine, answer: Answer) -> Iterator[Output]:
    """What an answer gives until it ends, for use without a process; closes it.

    Raises:
        GeneratorError: it failed.
    """
    try:
        while True:
            for output in engine.step():
                if output.ended == "error":
                    raise GeneratorError(output.text)
                yield output
                if output.ended:
                    return
    finally:
        engine.close(answer)


def write(engine: Engine, request: PromptInput, *, number: int = 0, seed: int = 0) -> Iterator[str]:
    """The pieces of one answer, for use without a process: tests and benchmarks."""
    for output in outputs(engine, engine.open(request, number=number, seed=seed)):
        yield output.text


def supports_gpu() -> bool:
    """Whether the installed llama.cpp was built for a GPU."""
    return bool(_llama.llama_supports_gpu_offload())
