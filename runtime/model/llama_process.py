"""The generator that runs llama.cpp in a process beside us: starts it, talks to it, starts it again when it dies."""

import asyncio
import contextlib
import itertools
import logging
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from typing import IO, TypeVar

from kff_live.protocols.errors import DecodeError, GeneratorDied, GeneratorError, UserError
from kff_live.protocols.prompt import PromptInput, messages
from kff_live.runtime.model import generator_wire as wire
from kff_live.runtime.model.generator import ModelState
from kff_live.runtime.model.generator_wire import AnswerStats, EngineInfo, EngineSettings

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

CONNECT_SECONDS = 30.0
"""A process that has not connected by then is started again."""
LOAD_SECONDS = 600.0
"""The same for loading the model."""
BACKOFF_FIRST, BACKOFF_MOST = 0.5, 10.0
"""Seconds before the process is started again, doubled each time; a minute of life starts over."""
_STEADY_SECONDS = 60.0
_PENDING_PIECES = 4096
_STALL_LOOK_SECONDS = 0.5


class LlamaProcess:
    """A generator in a process of its own.

    Args:
        settings: what to load.
        stall_seconds: a process that owes text and has been silent that long is killed.
        on_state: called with each change of `state`.
    """

    def __init__(
        self,
        settings: EngineSettings,
        *,
        stall_seconds: float = 30.0,
        on_state: Callable[[ModelState], None] = lambda state: None,
    ) -> None:
        self.state: ModelState = "loading"
        self.info: EngineInfo | None = None
        self.last_stats: AnswerStats | None = None
        self.pid: int | None = None
        self.restarts = 0
        self.prepared: float | None = None
        self._settings = settings
        self._stall_seconds = stall_seconds
        self._on_state = on_state
        self._ids = itertools.count(1)
        self._streams: dict[int, asyncio.Queue[wire.Piece | wire.End | Exception]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._ready = asyncio.Event()
        self._gate = _Gate()
        self._loaded_once = False
        self._owed_since = 0.0

    def describe(self) -> str:
        """Model, and where its layers lie."""
        if self.info is None:
            merging = "" if self.prepared is None else f", merging its adapter once: {self.prepared:.0%}"
            return f"{os.path.basename(self._settings.path)} ({self.state}{merging})"
        where = f"{self.info.gpu_layers} layers on the GPU" if self.info.gpu_layers else "on the CPU"
        threads = "1 thread" if self.info.threads == 1 else f"{self.info.threads} threads"
        return f"{self.info.name}, {where}, {threads}"

    async def wait_ready(self) -> EngineInfo:
        """Wait until the model is loaded; `run` must be running."""
        await self._ready.wait()
        assert self.info is not None
        return self.info

    # --- answers

    async def stream(self, request: PromptInput, *, seed: int = 0, attempt: int = 0) -> AsyncGenerator[str, None]:
        """The answer in pieces; waits for the model if it is loading."""
        chats = len(messages(request, dialect=self._settings.dialect, examples=False))
        async with self._gate.enter(alone=attempt > 0):
            for number in range(chats):
                # Closed here and not by the garbage collector: a cancel is sent before the gate is left.
                async with contextlib.aclosing(self._answer(request, number, seed)) as pieces:
                    async for piece in pieces:
                        yield piece

    async def _answer(self, request: PromptInput, number: int, seed: int) -> AsyncGenerator[str, None]:
        await self._ready.wait()
        stream_id = next(self._ids)
        inbox: asyncio.Queue[wire.Piece | wire.End | Exception] = asyncio.Queue(_PENDING_PIECES)
        self._streams[stream_id] = inbox
        ended = False
        try:
            self._send(wire.Generate(stream_id, request, number, seed))
            while not ended:
                message = await inbox.get()
                if isinstance(message, wire.Piece):
                    yield message.text
                    continue
                ended = True
                if isinstance(message, Exception):
                    raise message
                self.last_stats = message.stats
                if message.reason == "error":
                    raise GeneratorError(message.error)
        finally:
            self._streams.pop(stream_id, None)
            if not ended:
                self._send(wire.Cancel(stream_id))

    def _send(self, message: wire.ToChild) -> None:
        if isinstance(message, wire.Generate):
            self._owed_since = (
                asyncio.get_running_loop().time()
            )  # it owes text from now on, and not since it last spoke
        if self._writer is not None:
            self._writer.write(wire.encode(message))

    # --- the process

    async def run(self) -> None:
        """Keep a process running until cancelled.

        Raises:
            UserError: the model cannot be loaded, at the first attempt.
        """
        backoff = BACKOFF_FIRST
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            reason = "it could not be started"
            try:
                reason = await self._live()
            finally:
                self._fail_streams(reason)
            if loop.time() - began > _STEADY_SECONDS:
                backoff = BACKOFF_FIRST
            _log.warning("the generator process ended (%s); starting it again in %.1f s", reason, backoff)
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, BACKOFF_MOST)
            self.restarts += 1

    async def _live(self) -> str:
        """One life of the process; returns why it ended."""
        secret = secrets.token_urlsafe(24)
        connected: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue(1)

        async def on_connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # Whoever connects without the secret is shut out and costs nothing but this.
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    hello = await self._receive(reader)
                if isinstance(hello, wire.Hello) and secrets.compare_digest(hello.secret, secret):
                    connected.put_nowait((reader, writer))
                    return
            except (TimeoutError, DecodeError, OSError, asyncio.IncompleteReadError, asyncio.QueueFull):
                pass
            writer.close()

        server = await asyncio.start_server(on_connect, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            with tempfile.TemporaryFile() as stderr, _started(port, secret, stderr) as process:
                self.pid = process.pid
                try:
                    return await self._serve(connected, process, stderr)
                finally:
                    self._disconnect()

    async def _serve(
        self,
        connected: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]],
        process: subprocess.Popen[bytes],
        stderr: IO[bytes],
    ) -> str:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                reader, self._writer = await _unless_exited(connected.get(), process)
            self._send(wire.Load(self._settings))
            async with asyncio.timeout(LOAD_SECONDS):
                while isinstance(loaded := await self._receive(reader), wire.Preparing):
                    self.prepared = loaded.share
        except TimeoutError:
            return "it did not answer in time"
        except (OSError, DecodeError, asyncio.IncompleteReadError, ChildProcessError) as error:
            # Told apart so that a missing package is the user's message, not an endless restart.
            said = _tail(stderr)
            if not self._loaded_once and "UserError: " in said:
                raise UserError(said.rpartition("UserError: ")[2].strip()) from None
            return f"{said or error}"
        if isinstance(loaded, wire.LoadFailed):
            if not self._loaded_once:
                raise UserError(loaded.reason)
            return loaded.reason
        if not isinstance(loaded, wire.Ready):
            return f"it said {type(loaded).__name__} when Ready was expected"
        self.info, self._loaded_once = loaded.info, True
        self._ready.set()
        self._set_state("ready")
        return await self._read(reader, process, stderr)

    async def _read(self, reader: asyncio.StreamReader, process: subprocess.Popen[bytes], stderr: IO[bytes]) -> str:
        """Hand the messages out until the connection ends or the process stalls; returns why."""
        receiving = asyncio.ensure_future(self._receive(reader))
        try:
            while True:
                self._owed_since = asyncio.get_running_loop().time()
                while not receiving.done():
                    await asyncio.wait({receiving}, timeout=min(self._stall_seconds, _STALL_LOOK_SECONDS))
                    silent = asyncio.get_running_loop().time() - self._owed_since
                    if not receiving.done() and self._streams and silent >= self._stall_seconds:
                        return f"it was silent for {self._stall_seconds:g} s"
                try:
                    message = receiving.result()
                except (OSError, DecodeError, asyncio.IncompleteReadError):
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(0.05)
                    return _tail(stderr) or f"exit status {process.poll()}"
                receiving = asyncio.ensure_future(self._receive(reader))
                inbox = self._streams.get(message.id) if isinstance(message, wire.Piece | wire.End) else None
                if inbox is not None:
                    with contextlib.suppress(asyncio.QueueFull):  # no answer has that many pieces
                        inbox.put_nowait(message)  # type: ignore[arg-type]
        finally:
            receiving.cancel()
            await asyncio.gather(receiving, return_exceptions=True)

    async def _receive(self, reader: asyncio.StreamReader) -> wire.ToParent:
        size = wire.length(await reader.readexactly(wire.LENGTH_SIZE))
        return wire.decode_to_parent(await reader.readexactly(size))

    def _disconnect(self) -> None:
        self._ready.clear()
        self.pid = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._set_state("down")

    def _fail_streams(self, reason: str) -> None:
        for inbox in self._streams.values():
            with contextlib.suppress(asyncio.QueueFull):
                inbox.put_nowait(GeneratorDied(f"the generator process ended: {reason}"))

    def _set_state(self, state: ModelState) -> None:
        if state != self.state:
            self.state = state
            self._on_state(state)


class _Gate:
    """Lets any number of answers in together, or one alone; who wants to be alone goes before those that come later."""

    def __init__(self) -> None:
        self._inside = 0
        self._alone = 0  # inside or waiting
        self._left = asyncio.Event()

    @contextlib.asynccontextmanager
    async def enter(self, *, alone: bool) -> AsyncIterator[None]:
        self._alone += alone
        try:
            while self._inside if alone else self._alone:
                self._left.clear()
                await self._left.wait()
            self._inside += 1
            try:
                yield
            finally:
                self._inside -= 1
        finally:
            self._alone -= alone
            self._left.set()


@contextlib.contextmanager
def _started(port: int, secret: str, stderr: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """The process; killed at the end if it has not left by itself once its connection is closed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kff_live.runtime.model.generator_process", str(port)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        env=os.environ | {wire.SECRET_VARIABLE: secret},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def _unless_exited(awaitable: Awaitable[_T], process: subprocess.Popen[bytes]) -> _T:
    """Wait for something that the process owes us.

    Raises:
        ChildProcessError: the process has exited instead.
    """
    task = asyncio.ensure_future(awaitable)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=0.1)
            if not task.done() and process.poll() is not None:
                raise ChildProcessError(f"exit status {process.returncode}")
        return task.result()
    finally:
        task.cancel()


def _tail(stderr: IO[bytes]) -> str:
    """The last line the process wrote to its standard error."""
    stderr.seek(0)
    lines = stderr.read()[-4000:].decode("utf-8", "replace").strip().splitlines()
    return lines[-1].strip() if lines else ""
