"""What arrives on a Live Link port, as somebody else's decoder reads it."""

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pylivelinkface import PyLiveLinkFace

DEADLINE = 120.0


@dataclass
class Packet:
    number: int
    subject: str
    values: NDArray[np.float32]
    at: float
    subframe: float


class Receiver:
    """Keeps every datagram, decoded by PyLiveLinkFace."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 21)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(0.2)
        self.port = self._socket.getsockname()[1]
        self.packets: list[Packet] = []
        self._arrived = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def _receive(self) -> None:
        while not self._ended:
            try:
                data = self._socket.recv(2048)
            except TimeoutError:
                continue
            at = time.perf_counter()
            found, face = PyLiveLinkFace.decode(data)
            assert found
            with self._arrived:
                values = np.array(face._blend_shapes, np.float32)
                self.packets.append(Packet(face._frames, face.name, values, at, face._sub_frame))
                self._arrived.notify_all()

    def wait(self, condition: Callable[[list[Packet]], bool]) -> list[Packet]:
        """All packets, as soon as there are some of which the condition is true."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: bool(self.packets) and condition(self.packets), DEADLINE)
            return list(self.packets)

    def close(self) -> None:
        self._ended = True
        self._thread.join()
        self._socket.close()
