"""Fixtures of the runtime's tests."""

import gc
import logging
import socket
import sys
from collections.abc import Callable, Iterator

import pytest

from kff_live.runtime import link


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What kff-live has warned of so far."""
    caplog.set_level(logging.WARNING)
    return lambda: [r.getMessage() for r in caplog.records if r.name.startswith("kff_live")]


@pytest.fixture
def impatient_link(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost connection is tried again almost at once."""
    monkeypatch.setattr(link, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(link, "MOST_PAUSE", 0.02)


@pytest.fixture
def ordinary() -> Iterator[None]:
    """What the runtime sets for its whole process is set back."""
    interval = sys.getswitchinterval()
    yield
    sys.setswitchinterval(interval)
    gc.unfreeze()


@pytest.fixture
def free_port() -> int:
    """A TCP and UDP port of the loopback address that nobody uses."""
    return _free_port()


@pytest.fixture(scope="module")
def module_port() -> int:
    """The same, for a server that a whole module's tests share."""
    return _free_port()


def _free_port() -> int:
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.bind(("127.0.0.1", 0))
        port: int = tcp.getsockname()[1]
        udp.bind(("127.0.0.1", port))
        return port
