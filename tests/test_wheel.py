"""The wheel holds every room, their type markers and their data, and works where it is installed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("protocols", "runtime", "converters", "finetune")
LEFT_OUT = shutil.ignore_patterns(".*", "tests", "build", "dist", "*.egg-info", "__pycache__")


def run(*command: str, **environment: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_installed_wheel_holds_every_module_and_data_file(tmp_path: Path) -> None:
    source, wheels, site = tmp_path / "source", tmp_path / "wheels", tmp_path / "site"
    shutil.copytree(ROOT, source, ignore=LEFT_OUT)
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(wheels), str(source))
    (wheel,) = wheels.glob("kff_live-*.whl")
    run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site), str(wheel))
    expected = {
        f"{room}/{path.relative_to(ROOT / room).as_posix()}"
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"runtime/page/face.json", "runtime/page/index.html", "protocols/py.typed"} <= expected
    installed = {
        path.relative_to(site / "kff_live").as_posix()
        for path in (site / "kff_live").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert installed == expected
    assert not {"runtime", "protocols", "converters", "finetune"} & {path.name for path in site.iterdir()}
    where = "import kff_live.protocols.channels as c, kff_live.runtime.cli; print(c.__file__)"
    assert str(site) in run(sys.executable, "-c", where, PYTHONPATH=str(site))
