"""Fixtures of the converters' tests."""

from collections.abc import Callable
from pathlib import Path

import pytest

from kff_live.converters.lines import Lines

Read = Callable[[str | bytes], Lines]


@pytest.fixture
def lines(tmp_path: Path, request: pytest.FixtureRequest) -> Read:
    """Makes the lines of a file out of its text."""

    def make(text: str | bytes) -> Lines:
        path = tmp_path / "take"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        file = path.open("rb")
        request.addfinalizer(file.close)
        return Lines(file)

    return make
