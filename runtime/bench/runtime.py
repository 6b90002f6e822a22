"""A real `kff-live run` in a process of its own, with clients that keep it busy, for benchmarks."""

import asyncio
import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from kff_live.protocols.errors import UserError
from kff_live.protocols.messages import Say, Subscribe, encode
from kff_live.runtime.bench.report import TEXTS
from kff_live.runtime.bench.usage import Usage, child, usage
from kff_live.runtime.clock import SystemClock
from kff_live.runtime.config import Config

_READY_SECONDS = 120.0
_END_SECONDS = 5.0
_FLOOD_PERIOD = 0.01  # s between two bursts of texts


class Runtime:
    """A running `kff-live run`; `url` is its WebSocket."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.url = url
        self._process = process
        self._log = log

    def usage(self) -> tuple[Usage | None, Usage | None]:
        """What the runtime uses, and what its generator process does."""
        generator = child(self._process.pid)
        return usage(self._process.pid), usage(generator) if generator is not None else None

    def check(self) -> None:
        """See whether it is still there.

        Raises:
            UserError: it has ended; carries its last words.
        """
        if self._process.poll() is not None:
            lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise UserError(f"kff-live run ended: {lines[-1] if lines else f'exit status {self._process.returncode}'}")

    async def ready(self) -> None:
        """Wait until the model is loaded.

        Raises:
            UserError: it ended, or took too long.
        """
        clock = SystemClock()
        deadline = clock.now() + _READY_SECONDS
        while clock.now() < deadline:
            self.check()
            # A new connection each time: its `welcome` says how the model is.
            with contextlib.suppress(OSError, ConnectionClosed, TimeoutError):
                async with connect(self.url, compression=None, open_timeout=2) as connection:
                    if json.loads(await connection.recv())["model"] == "ready":
                        return
            await asyncio.sleep(0.2)
        raise UserError(f"kff-live run: the model was not ready within {_READY_SECONDS:g} s")


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _settings(config: Config, port: int, targets: Sequence[int]) -> str:
    """A config.toml: the model of `config`, one subject, Live Link to ports of this machine."""
    # The JSON of a string, number or truth is its TOML as well.
    model = {key: json.dumps(value) for key, value in msgspec.to_builtins(config.model).items()}
    return "\n".join(
        [
            *("[model]", *(f"{key} = {value}" for key, value in model.items())),
            *("[websocket]", f"port = {port}"),
            *("[osc_in]", "enabled = false"),
            *("[[sinks]]", 'type = "livelink"', f"targets = {json.dumps([f'127.0.0.1:{t}' for t in targets])}", ""),
        ]
    )


@contextlib.contextmanager
def running(config: Config, targets: Sequence[int]) -> Iterator[Runtime]:
    """Start the runtime with the model of `config`, sending to these UDP ports; at the end stop it."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        settings, log = Path(folder, "config.toml"), Path(folder, "stderr.txt")
        settings.write_text(_settings(config, port, targets), encoding="utf-8")
        with log.open("wb") as stderr, python("kff_live.runtime.cli", "--config", settings, stderr=stderr) as process:
            yield Runtime(process, f"ws://127.0.0.1:{port}", log)


@contextlib.contextmanager
def python(
    module: str, *arguments: object, piped: bool = False, stderr: IO[bytes] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a module as a process of its own, with pipes to and from it if `piped`; at the end stop it."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    stream = subprocess.PIPE if piped else subprocess.DEVNULL
    with subprocess.Popen(command, stdin=stream, stdout=stream, stderr=stderr) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


@contextlib.contextmanager
def busy_cores() -> Iterator[None]:
    """Keep every core busy at normal priority."""
    with contextlib.ExitStack() as stack:
        for _ in range(os.cpu_count() or 1):
            stack.enter_context(python("timeit", "-n", "1000000000000", "pass"))
        yield


# --- clients


@contextlib.asynccontextmanager
async def at_work(*clients: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run clients beside the block.

    Raises:
        UserError: one ended before the block did.
    """
    tasks = [asyncio.create_task(client, name="bench client") for client in clients]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()
    except (OSError, ConnectionClosed) as error:
        raise UserError(f"kff-live run: a client lost its connection: {error}") from None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def keep_generating(url: str) -> None:
    """Have the model write without pause: each text is replaced by the next when its first keyframe is there."""
    async with connect(url, compression=None) as connection:
        for number, text in enumerate(itertools.cycle(TEXTS)):
            await connection.send(encode(Say(text=text, id=f"bench-{number}", mode="replace")))
            await _until_keyframe(connection, f"bench-{number}")


async def _until_keyframe(connection: ClientConnection, text_id: str) -> None:
    async for data in connection:
        event = json.loads(data)
        if event["type"] == "error":
            raise UserError(f"kff-live run: {event['message']}")
        if event.get("id") == text_id and event["type"] in ("keyframe", "failed", "dropped", "interrupted"):
            return


async def flood(url: str, *, texts_per_second: float) -> None:
    """Send texts at a rate, whether they are accepted or not, and read what comes back."""

    async def read(connection: ClientConnection) -> None:
        async for _ in connection:
            pass

    clock, texts = SystemClock(), itertools.cycle(TEXTS)
    async with connect(url, compression=None) as connection, at_work(read(connection)):
        start, sent = clock.now(), 0
        while True:
            due = round((clock.now() - start) * texts_per_second)
            for text in itertools.islice(texts, due - sent):
                await connection.send(encode(Say(text=text)))
            sent = due
            await asyncio.sleep(_FLOOD_PERIOD)


async def watch(url: str, *, form: str = "json", read: bool = True) -> None:
    """Subscribe to frames as "json" or "livelink", and read them, or never read anything."""
    async with connect(url, compression=None) as connection:
        await connection.send(encode(Subscribe(frames=True, format=form)))  # type: ignore[arg-type]
        if not read:
            await asyncio.Event().wait()
        async for _ in connection:
            pass
