"""The generator process: connects back to the runtime, loads the model, answers texts until the connection ends."""

import contextlib
import os
import queue
import signal
import socket
import sys
import threading

from kff_live.runtime.priority import lower_process

if __name__ == "__main__":
    lower_process()  # before the heavy imports: the frame thread goes first from here on

from kff_live.protocols.errors import GeneratorError, KffError
from kff_live.runtime.clock import SystemClock
from kff_live.runtime.model import generator_wire as wire
from kff_live.runtime.model.llama import Answer, Engine
from kff_live.runtime.model.merging import prepared


class _Connection:
    """Messages over a blocking socket; None from `receive` when the runtime has gone."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._socket.settimeout(None)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")

    def send(self, *messages: object) -> None:
        self._socket.sendall(b"".join(wire.encode(m) for m in messages))  # type: ignore[arg-type]

    def receive(self) -> wire.ToChild | None:
        try:
            prefix = self._file.read(wire.LENGTH_SIZE)
            body = self._file.read(wire.length(prefix)) if len(prefix) == wire.LENGTH_SIZE else b""
        except OSError:
            return None
        return wire.decode_to_child(body) if body else None


class _Worker:
    """Runs the engine; commands come in through a queue that a reader thread fills."""

    def __init__(self, connection: _Connection, engine: Engine, clock: SystemClock) -> None:
        self._connection = connection
        self._engine = engine
        self._clock = clock
        self._waiting: list[wire.Generate] = []
        self._open: dict[int, Answer] = {}

    def handle(self, command: wire.ToChild) -> None:
        if isinstance(command, wire.Generate):
            self._waiting.append(command)
        elif isinstance(command, wire.Cancel):
            self._waiting = [waiting for waiting in self._waiting if waiting.id != command.id]
            answer = self._open.pop(command.id, None)
            if answer is not None:
                self._engine.close(answer)

    @property
    def idle(self) -> bool:
        return not self._open and not self._waiting

    def step(self) -> None:
        while self._waiting and not self._engine.full:
            command = self._waiting.pop(0)
            try:
                answer = self._engine.open(command.request, number=command.number, seed=command.seed)
            except KffError as error:
                self._connection.send(wire.End(command.id, "error", wire.AnswerStats(), str(error)))
            else:
                self._open[command.id] = answer
        if not self._open:
            return
        try:
            outputs = self._engine.step()
        except GeneratorError as error:
            self._fail_all(str(error))
            return
        ids = {id(answer): number for number, answer in self._open.items()}
        messages: list[wire.Piece | wire.End] = []
        for output in outputs:
            number = ids[id(output.answer)]
            failed = output.ended == "error"
            if output.text and not failed:
                messages.append(wire.Piece(number, output.text))
            if output.ended:
                stats = output.answer.stats(self._clock.now())
                messages.append(wire.End(number, output.ended, stats, output.text if failed else ""))
                self._engine.close(self._open.pop(number))
        if messages:
            self._connection.send(*messages)

    def _fail_all(self, reason: str) -> None:
        for number, answer in self._open.items():
            self._engine.close(answer)
            self._connection.send(wire.End(number, "error", answer.stats(self._clock.now()), reason))
        self._open.clear()


def main(port: int) -> None:
    """Serve one runtime; returns when it has gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the runtime's to handle; it will close the connection
    connection = _Connection(port)
    connection.send(wire.Hello(os.environ.get(wire.SECRET_VARIABLE, "")))
    load = connection.receive()
    if not isinstance(load, wire.Load):
        return
    clock = SystemClock()
    try:
        settings = prepared(load.settings, progress=lambda share: connection.send(wire.Preparing(share)))
        engine = Engine(settings, clock)
    except KffError as error:
        connection.send(wire.LoadFailed(str(error)))
        return
    connection.send(wire.Ready(engine.info))

    commands: queue.SimpleQueue[wire.ToChild | None] = queue.SimpleQueue()

    def read() -> None:
        command = connection.receive()
        while command is not None:
            commands.put(command)
            command = connection.receive()
        commands.put(None)

    threading.Thread(target=read, name="commands", daemon=True).start()
    worker = _Worker(connection, engine, clock)
    while True:
        try:
            command = commands.get(block=worker.idle)
        except queue.Empty:
            worker.step()
            continue
        if command is None:
            break
        worker.handle(command)
    engine.free()


if __name__ == "__main__":
    with contextlib.suppress(ConnectionError):  # the runtime has gone; so do we
        main(int(sys.argv[1]))
