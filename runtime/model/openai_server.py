"""The generator that asks a server which speaks OpenAI's chat completions, streaming.

Whether user text can become prompt structure there is up to the server's template; template markers in it lose their
brackets, which is a best effort. The guarantee holds for the local engine only.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import msgspec

from kff_live.protocols.errors import GeneratorDied, GeneratorError, UserError
from kff_live.protocols.keyframe_text import DIALECTS
from kff_live.protocols.prompt import Message, PromptInput, messages, neutralise
from kff_live.runtime.config import OpenAI
from kff_live.runtime.model.generator import ModelState
from kff_live.runtime.model.generator_wire import AnswerStats

try:
    import httpx
except ImportError as error:
    raise UserError("httpx is not installed: type  pip install 'kff-live[openai]'") from error

PROBE_SECONDS = 5.0
"""How often a server that is down is asked whether it is back."""

MAX_LINE = 1 << 20
"""Bytes of one line of a streamed answer."""

MAX_STREAM = 1 << 25
"""Bytes of a streamed answer in all; a token is some 300 of them."""

MAX_BODY = 4096
"""Bytes that are read of an answer that is no stream."""

_MAX_ANSWER = 64_000  # characters
_MAX_SAID = 300  # characters of a server's own words


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    error: Any = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode


class OpenAIServer:
    """Asks the server in `settings`; the key is read from the environment variable that they name."""

    def __init__(self, settings: OpenAI, *, on_state: Callable[[ModelState], None] = lambda state: None) -> None:
        self.state: ModelState = "loading"
        self.last_stats: AnswerStats | None = None
        self._settings = settings
        self._on_state = on_state
        key = os.environ.get(settings.key_variable, "")
        try:
            self._client = httpx.AsyncClient(
                base_url=settings.base_url.rstrip("/") + "/",
                headers={"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {key}"} if key else {}),
                timeout=httpx.Timeout(settings.stall, connect=5.0),
            )
        except httpx.InvalidURL as error:
            raise UserError(
                f"model.base_url: {settings.base_url!r}: {error}; expected such as 'http://127.0.0.1:8000/v1'"
            ) from None

    def describe(self) -> str:
        """Model and server."""
        return f"{self._settings.model} at {self._settings.base_url} ({self.state})"

    async def run(self) -> None:
        """Ask every few seconds whether the server is there, until cancelled."""
        try:
            while True:
                try:
                    async with self._client.stream("GET", "models") as response:
                        await _body(response)  # or the connection could not be used again
                    self._set_state("ready")
                except httpx.HTTPError:
                    self._set_state("down")
                await asyncio.sleep(PROBE_SECONDS)
        finally:
            await self._client.aclose()

    def _set_state(self, state: ModelState) -> None:
        if state != self.state:
            self.state = state
            self._on_state(state)

    async def stream(self, request: PromptInput, *, seed: int = 0, attempt: int = 0) -> AsyncGenerator[str, None]:
        """The answer in pieces; one request for `compact`, one a keyframe for `keyframeface`."""
        for chat in messages(request, dialect=self._settings.dialect, examples=bool(self._settings.examples)):
            async with aclosing(self._answer(chat, seed)) as pieces:  # a cancel ends the request at once
                async for piece in pieces:
                    yield piece

    async def _answer(self, chat: list[Message], seed: int) -> AsyncGenerator[str, None]:
        body: dict[str, Any] = {
            "model": self._settings.model,
            "messages": [{"role": m.role, "content": _content(m)} for m in chat],
            "stream": True,
            "temperature": self._settings.temperature,
            "max_tokens": self._settings.max_tokens or DIALECTS[self._settings.dialect].max_tokens,
            "seed": seed,
        }
        if self._settings.grammar:
            body["grammar"] = DIALECTS[self._settings.dialect].grammar
        try:
            async with self._client.stream("POST", "chat/completions", json=body) as response:
                if response.status_code != 200:
                    said = (await _body(response)).decode("utf-8", "replace")[:_MAX_SAID]
                    raise GeneratorError(f"{self._settings.base_url} answered {response.status_code}: {said}")
                total = 0
                complete = False
                async with aclosing(_lines(response)) as lines:
                    async for line in lines:
                        if not line.startswith("data:") or line.endswith("[DONE]"):
                            continue
                        piece, ended = _read(line[5:])
                        complete |= ended
                        total += len(piece)
                        if total > _MAX_ANSWER:
                            return
                        if piece:
                            yield piece
                if complete:  # and not cut at max_tokens; the last line of such an answer often lacks its newline
                    yield "\n"
        except httpx.HTTPError as error:
            raise GeneratorDied(f"{self._settings.base_url}: {str(error) or type(error).__name__}") from None


def _content(message: Message) -> str:
    return "".join(neutralise(text) if is_user else text for text, is_user in message.pieces)


async def _body(response: httpx.Response) -> bytes:
    """The beginning of an answer, MAX_BODY bytes at the most."""
    read = b""
    async for chunk in response.aiter_raw():
        read += chunk
        if len(read) >= MAX_BODY:
            break
    return read[:MAX_BODY]


async def _lines(response: httpx.Response) -> AsyncGenerator[str, None]:
    """The lines of a streamed answer.

    Raises:
        GeneratorError: a line is over MAX_LINE or the whole over MAX_STREAM.
    """
    total, rest = 0, b""
    async for chunk in response.aiter_raw():
        total += len(chunk)
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.rstrip(b"\r").decode("utf-8", "replace")
        if len(rest) > MAX_LINE or total > MAX_STREAM:
            what, most = ("a line", MAX_LINE) if len(rest) > MAX_LINE else ("an answer", MAX_STREAM)
            raise GeneratorError(f"the server sent {what} of over {most} bytes")
    if rest:
        yield rest.decode("utf-8", "replace")


def _read(data: str) -> tuple[str, bool]:
    """The text in one event of the stream, and whether the model ended its answer with it.

    Raises:
        GeneratorError: the event says that the server failed.
    """
    try:
        chunk = _decode_chunk(data)
    except msgspec.DecodeError:
        return "", False
    if chunk.error is not None:
        said = chunk.error.get("message") if isinstance(chunk.error, dict) else chunk.error
        raise GeneratorError(f"the server failed: {str(said)[:_MAX_SAID]}")
    text = "".join(choice.delta.content or "" for choice in chunk.choices)
    return text, any(choice.finish_reason == "stop" for choice in chunk.choices)
