"""The whole way through the command: scripts, records, an adapter, a GGUF, a table, and a face that moves."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import gguf
import pytest

from kff_live.finetune.cli import main
from kff_live.finetune.scripts import Script, write_scripts
from kff_live.protocols.channels import LIVELINK

SECONDS = 240
"""No step may hang longer; each takes some ten seconds."""


def run(*command: str, cwd: Path) -> str:
    """What a command of ours prints; its log is shown when it fails."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=cwd, capture_output=True, text=True, encoding="utf-8", timeout=SECONDS, check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(4 * SECONDS)
def test_from_scripts_to_a_face_that_moves(
    tiny: Callable[[str], Path], scripts: list[Script], smollm2_path: Path, tmp_path: Path
) -> None:
    def finetune(*words: str) -> str:
        return run("kff_live.finetune.cli", *words, cwd=tmp_path)

    write_scripts(tmp_path / "scripts.jsonl", scripts)
    (tmp_path / "small.toml").write_text(
        "[data]\nscripts = 'scripts.jsonl'\nvariations = 1\ncomposed = 8\ntest = 0.3\n"
        f"[train]\nbase = '{tiny('llama')}'\nrank = 4\nbatch_tokens = 256\npasses = 1\nthreads = 1\nround_to = 'Q4_0'\n"
        "[export]\nquantization = 'Q4_0'\nprompts = 2\n"
    )
    finetune("lint", "scripts.jsonl")
    finetune("prepare", "--settings", "small.toml")
    finetune("train", "--settings", "small.toml")
    printed = finetune("export")
    assert printed.startswith("2 prompts: ")
    assert gguf.GGUFReader(tmp_path / "model.gguf").fields["general.file_type"].contents() == 2  # Q4_0
    table = finetune(
        "evaluate", "--settings", "small.toml", "--model", "small=model.gguf", "--vectors", "numbers=model.gguf",
        "--prompted", "none", "--limit", "3",
    )  # fmt: skip
    assert (tmp_path / "evaluation.md").read_text(encoding="utf-8") == table
    rows = json.loads((tmp_path / "evaluation.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["ground truth", "still face", "nearest training text", "small", "numbers"]
    assert rows[3]["tokens_per_second"] > 0

    (tmp_path / "config.toml").write_text("[model]\npath = 'model.gguf'\nexamples = false\n")
    run("kff_live.runtime.cli", "render", scripts[0].text, "-o", "take.csv", cwd=tmp_path)
    with (tmp_path / "take.csv").open(encoding="utf-8", newline="") as file:
        frames = list(csv.DictReader(file))
    shapes = [name for name in frames[0] if name in LIVELINK[:52]]  # not the head's and the eyes' angles
    assert len(shapes) == 52
    assert max(float(frame[name]) for frame in frames for name in shapes) > 0.05
    assert not any(float(frames[0][name]) for name in shapes)

    finetune(
        "build", "--settings", "small.toml", "--settings", "small.toml", "all", "--adapter-only", "--prompts", "0",
        "-o", "adapter.gguf",
    )  # fmt: skip
    assert gguf.GGUFReader(tmp_path / "adapter.gguf").fields["kff.round_to"].contents() == "Q4_0"
    made = [(tmp_path / "all" / stage / "records" / "train.jsonl").read_bytes() for stage in "12"]
    assert made == [(tmp_path / "records" / "train.jsonl").read_bytes()] * 2
    first, second = (json.loads((tmp_path / "all" / stage / "adapter" / "settings.json").read_text()) for stage in "12")
    assert (first["train"]["start"], second["train"]["start"]) == ("", str(Path("all", "1", "adapter")))
    assert gguf.GGUFReader(tmp_path / "adapter.gguf").fields["general.type"].contents() == "adapter"

    assert not list(tmp_path.glob(".export-*"))
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["export", "nowhere"], "nowhere: there is no such folder"),
        (["export", "."], "not an adapter of peft"),
        (["export", ".", "--prompts", "-1"], "--prompts: -1 is less than 0"),
        (["build", "--adapter-only", "--quantization", "Q8_0"], "--quantization: an adapter by itself"),
        (["evaluate", "--model", "x=none.gguf"], "x: none.gguf: No such file or directory; give the path"),
        (["evaluate", "--vectors", "x=embedded:none.gguf"], "x: none.gguf: No such file or directory; give the path"),
        (["evaluate", "--prompted", "none.gguf"], "prompted base: none.gguf: No such file or directory; give the path"),
        (["evaluate", "--model", "m.gguf"], "--model: 'm.gguf': expected NAME="),
        (["evaluate"], "test_scripts.jsonl"),
        (["evaluate", "--limit", "0"], "--limit: 0"),
        (["train", "--settings", "none.toml"], "none.toml: cannot be read"),
        (["train"], "run kff-finetune prepare first"),
        (["prepare", "--settings", "bad.toml"], "data.scripts: expected `str`"),
        (
            ["build", "--settings", "good.toml", "--settings", "other.toml"],
            "must be the same where shares are kept out",
        ),
        (["lint", "none.jsonl"], "none.jsonl: expected a .jsonl file or a folder"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.toml").write_text("[data]\nscripts = 3\n")
    (tmp_path / "good.toml").touch()
    (tmp_path / "other.toml").write_text("[data]\nseed = 2\n")
    assert main(words) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert said in error.partition("kff-finetune: ")[2]


@pytest.mark.parametrize("command", ["lint", "prepare", "train", "export", "build", "evaluate", "score"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert len(capsys.readouterr().out.splitlines()) > 5


def test_help_needs_no_heavy_package() -> None:
    code = (
        "import sys; from kff_live.finetune.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print({'torch', 'transformers', 'peft', 'llama_cpp', 'numba'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
