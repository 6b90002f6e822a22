"""A process that receives Live Link packets on several ports and reports how evenly they came.

Started as `python -m kff_live.runtime.bench.receiver SECONDS PORTS SETTLE`: prints its port numbers as a JSON list,
waits for a line on standard input, prints `receiving`, ignores what comes within SETTLE seconds, listens for so many
seconds, and prints a JSON list of `Intervals`.
"""

import gc
import selectors
import socket
import sys
from contextlib import ExitStack

import msgspec

from kff_live.protocols import livelink
from kff_live.protocols.frames import FrameRate
from kff_live.runtime.bench.report import Intervals, intervals
from kff_live.runtime.clock import SystemClock

_MAX_DATAGRAM = 2048


def _drain(sock: socket.socket) -> None:
    """Forget what came before the measurement."""
    while True:
        try:
            sock.recv(_MAX_DATAGRAM)
        except BlockingIOError:
            return


def receive(sockets: list[socket.socket], seconds: float, *, settle: float) -> list[list[tuple[float, bytes]]]:
    """Every packet of each non-blocking socket with its arrival time, s; those of the first `settle` seconds not."""
    clock = SystemClock()
    packets: list[list[tuple[float, bytes]]] = [[] for _ in sockets]
    with selectors.DefaultSelector() as selector:
        for i, sock in enumerate(sockets):
            selector.register(sock, selectors.EVENT_READ, i)
        begin = clock.now() + settle
        end = begin + seconds
        while (left := end - clock.now()) > 0.0:
            for key, _ in selector.select(left):
                data = sockets[key.data].recv(_MAX_DATAGRAM)
                now = clock.now()
                if now >= begin:
                    packets[key.data].append((now, data))
    return packets


def _judge(packets: list[tuple[float, bytes]]) -> Intervals:
    decoded = [livelink.decode(data) for _, data in packets]
    period = decoded[0].rate.period if decoded else FrameRate().period
    return intervals([at for at, _ in packets], [packet.number for packet in decoded], period=period)


def main(seconds: float, ports: int, settle: float) -> None:
    """Serve one measurement. What waits in a socket at first would be taken to have come late, hence `settle`."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(ports)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)
        print(msgspec.json.encode([sock.getsockname()[1] for sock in sockets]).decode(), flush=True)  # noqa: T201 - data
        if not sys.stdin.readline():
            return
        gc.disable()  # a collection would be seen as a late packet
        for sock in sockets:
            _drain(sock)
        print("receiving", flush=True)  # noqa: T201 - data
        results = [_judge(packets) for packets in receive(sockets, seconds, settle=settle)]
        print(msgspec.json.encode(results).decode(), flush=True)  # noqa: T201 - data


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
