"""A spawned kff-live: its process, its WebSocket, and its packets as somebody else's decoder reads them."""

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from websockets.sync.client import ClientConnection, connect

from tests.runtime.ports import free_ports
from tests.runtime.receiver import Receiver

DEADLINE = 60.0
FINAL = {"done", "interrupted", "dropped", "failed"}


@dataclass
class Runtime:
    """A running kff-live: its process, its WebSocket, its packets."""

    process: subprocess.Popen[str]
    url: str
    receiver: Receiver
    log: list[str] = field(default_factory=list)

    def client(self) -> ClientConnection:
        """A connection, as soon as the server listens."""
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                return connect(self.url, compression=None)
            except OSError:
                assert self.process.poll() is None, self.log
                assert time.monotonic() < deadline
                threading.Event().wait(0.02)

    def generator_process(self) -> psutil.Process:
        children: list[psutil.Process] = psutil.Process(self.process.pid).children()
        return next(child for child in children if "generator_process" in " ".join(child.cmdline()))


@contextlib.contextmanager
def running(folder: Path, *, extra: str = "", idle: bool = False) -> Iterator[Runtime]:
    """A runtime; without idle life unless asked for, so that frames hold the acted expression alone."""
    receiver = Receiver()
    port, osc = free_ports(2)
    config = folder / "config.toml"
    config.write_text(
        f"[websocket]\nport = {port}\n[osc_in]\nport = {osc}\n[idle]\nenabled = {str(idle).lower()}\n"
        f'[[sinks]]\ntype = "livelink"\ntargets = ["127.0.0.1:{receiver.port}"]\n{extra}'
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "kff_live.runtime.cli", "--config", str(config)],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    runtime = Runtime(process, f"ws://127.0.0.1:{port}", receiver)
    assert process.stderr is not None
    stderr = process.stderr
    reader = threading.Thread(target=lambda: runtime.log.extend(stderr), daemon=True)
    reader.start()
    try:
        yield runtime
    finally:
        end(process)
        reader.join()
        stderr.close()
        receiver.close()


def end(process: subprocess.Popen[str]) -> None:
    """Ask a process to end, and make it do so where it does not."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def receive(client: ClientConnection) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(client.recv(timeout=DEADLINE))
    return message


def wait_ready(client: ClientConnection) -> None:
    message = receive(client)
    assert message["type"] == "welcome"
    while message.get("model") != "ready" and message.get("state") != "ready":
        message = receive(client)
