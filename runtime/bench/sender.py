"""A process that sends packets of a Live Link frame's size, as the reference for our frame clock.

Started as `python -m kff_live.runtime.bench.sender KIND PORT`: `deadline` sleeps to absolute deadlines, `sleep` sleeps
one period after each packet. Ends when its standard input does.
"""

import itertools
import socket
import sys
import threading

from kff_live.protocols import livelink
from kff_live.protocols.channels import neutral
from kff_live.protocols.frames import Frame, FrameRate
from kff_live.runtime.clock import SystemClock
from kff_live.runtime.sinks.making import device_id

KINDS = ("deadline", "sleep")


def main(kind: str, port: int) -> None:
    """Send until the process ends."""
    rate = FrameRate()
    encoder = livelink.Encoder(device_id(kind), "Face", rate)
    pose = neutral()
    clock = SystemClock()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        address = ("127.0.0.1", port)
        start = clock.now()
        for tick in itertools.count():
            udp.sendto(encoder.encode(Frame("Face", tick, 0.0, rate, pose)), address)
            clock.sleep_until(start + (tick + 1) * rate.period if kind == "deadline" else clock.now() + rate.period)


if __name__ == "__main__":
    threading.Thread(target=main, args=(sys.argv[1], int(sys.argv[2])), daemon=True).start()
    sys.stdin.read()
