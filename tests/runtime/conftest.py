"""Fixtures of the runtime's tests."""

import gc
import logging
import sys
from collections.abc import Callable, Iterator

import pytest

from kff_live.runtime import link
from tests.runtime import ports


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
    """A port as of tests.runtime.ports."""
    return ports.free_port()


@pytest.fixture(scope="module")
def module_port() -> int:
    """The same, for a server that a whole module's tests share."""
    return ports.free_port()
