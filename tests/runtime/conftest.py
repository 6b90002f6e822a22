"""Fixtures of the runtime's tests."""

import socket

import pytest


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
