"""The house rules that can be read off the source: who imports whom, signs on doors, one sentence a module."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CHAIN = ["protocols", "converters", "runtime", "finetune"]
"""Each room may import those before it, and itself."""

MODULES = sorted(path for room in CHAIN for path in (ROOT / room).rglob("*.py"))
NO_CLOCK_NO_IO = {
    "asyncio", "socket", "time", "threading", "multiprocessing", "logging", "selectors", "ssl", "subprocess",
    "concurrent", "websockets", "httpx",
}  # fmt: skip


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports(module: ast.Module) -> list[tuple[int, str]]:
    """(line, dotted name) of every import anywhere in a module, also inside functions; '.' begins a relative one."""
    found = []
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            found += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
    return found


def problems(path: Path, module: ast.Module) -> list[str]:
    room = path.relative_to(ROOT).parts[0]
    allowed = CHAIN[: CHAIN.index(room) + 1]
    wrong = []
    for line, imported in imports(module):
        parts = imported.split(".")
        if imported.startswith("."):
            wrong.append(f"{line}: relative import {imported}")
        elif parts[0] in CHAIN:
            wrong.append(f"{line}: {imported} is not the installed name kff_live.{parts[0]}")
        elif parts[0] == "kff_live" and (len(parts) < 2 or parts[1] not in allowed):
            wrong.append(f"{line}: {room} must not import {imported}")
        elif room == "protocols" and parts[0] in NO_CLOCK_NO_IO:
            wrong.append(f"{line}: protocols must not import {imported}")
    return wrong


def test_every_room_has_modules_to_look_at() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in MODULES} == set(CHAIN)
    assert len([path for path in MODULES if path.parent.name == "protocols"]) > 10


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_imports_point_one_way(path: Path) -> None:
    assert problems(path, tree(path)) == []


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("protocols", "import time"),
        ("protocols", "from time import monotonic"),
        ("protocols", "def f():\n    import asyncio.events"),
        ("protocols", "from kff_live.converters import csv"),
        ("protocols", "from kff_live import runtime"),
        ("protocols", "from . import channels"),
        ("protocols", "from .channels import Pose"),
        ("protocols", "import protocols.channels"),
        ("converters", "import kff_live.runtime.cli"),
        ("runtime", "from kff_live.finetune import train"),
        ("runtime", "import kff_live"),
    ],
)
def test_a_wrong_import_would_be_found(room: str, source: str) -> None:
    assert len(problems(ROOT / room / "example.py", ast.parse(source))) == 1


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_module_begins_with_a_docstring(path: Path) -> None:
    assert ast.get_docstring(tree(path))


@pytest.mark.parametrize("room", CHAIN)
def test_init_of_a_room_is_only_its_docstring(room: str) -> None:
    body = tree(ROOT / room / "__init__.py").body
    assert len(body) == 1
    assert isinstance(body[0], ast.Expr)


@pytest.mark.parametrize("room", CHAIN)
def test_room_is_typed(room: str) -> None:
    assert (ROOT / room / "py.typed").exists()


ALCOVES = {
    ROOT / "runtime" / "bench", ROOT / "runtime" / "diagnosis", ROOT / "runtime" / "model", ROOT / "runtime" / "sinks",
    ROOT / "protocols" / "idle", ROOT / "protocols" / "monitor", ROOT / "protocols" / "talk",
}  # fmt: skip
"""Folders within a room, for what would crowd it and has one way in: the benchmarks, the tools that say why nothing
moves, the language model with its process, the ways to speak to receivers, the idle layer, the judgement of streams,
the talk layer."""


@pytest.mark.parametrize("room", CHAIN)
def test_room_is_flat(room: str) -> None:
    inside = [path for path in MODULES if path.is_relative_to(ROOT / room)]
    assert [name(path) for path in inside if path.parent not in {ROOT / room, *ALCOVES}] == []
