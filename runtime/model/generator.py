"""What a generator is: a text in, the model's text out in pieces; and a scripted one that needs no model."""

from collections.abc import AsyncGenerator, Mapping
from typing import Literal, Protocol

from kff_live.protocols.prompt import PromptInput
from kff_live.runtime.model.generator_wire import AnswerStats

ModelState = Literal["loading", "ready", "down"]


class Generator(Protocol):
    """Writes keyframe text for a text.

    `stream` is an async generator: closing it cancels the answer between two decodes. `attempt` counts from 0; a
    retry is answered alone, so that a text which kills the model takes no other with it.
    """

    state: ModelState
    last_stats: AnswerStats | None

    def stream(self, request: PromptInput, *, seed: int = 0, attempt: int = 0) -> AsyncGenerator[str, None]:
        """The answer in pieces.

        Raises:
            GeneratorDied: the model went away; the same text may be tried once more.
            GeneratorError: this text cannot be answered.
        """

    async def run(self) -> None:
        """Serve until cancelled."""

    def describe(self) -> str:
        """The model in a few words, for the start screen."""


class ScriptedGenerator:
    """Answers from a table; a text that is not in it gets `default`. For tests and for trying a set-up."""

    def __init__(self, answers: Mapping[str, str] | None = None, *, default: str = "4+4 smile5\n") -> None:
        self.state: ModelState = "ready"
        self.last_stats: AnswerStats | None = None
        self._answers = dict(answers or {})
        self._default = default

    async def stream(self, request: PromptInput, *, seed: int = 0, attempt: int = 0) -> AsyncGenerator[str, None]:
        """The scripted answer, line by line."""
        for line in self._answers.get(request.text, self._default).splitlines(keepends=True):
            yield line

    async def run(self) -> None:
        """Nothing to serve."""

    def describe(self) -> str:
        """Says that there is no model."""
        return "no model: every text gets the same smile"
