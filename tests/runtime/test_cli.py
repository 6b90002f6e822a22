import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

COMMANDS: tuple[tuple[str, ...], ...] = (
    (), ("run",), ("say",), ("render",), ("bench",), ("doctor",), ("monitor",), ("test-pattern",),
    ("record",), ("play",),
)  # fmt: skip
HEAVY = ("numba", "llvmlite", "llama_cpp", "rich", "websockets", "httpx", "numpy")
START_SECONDS = 60.0


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "kff_live.runtime.cli", *arguments]


def environment(folder: Path) -> dict[str, str]:
    """Without the user's own settings and proxies, whatever they are."""
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return kept | {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "APPDATA": str(folder), "KFF_TOKEN": ""}


def start(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), cwd=folder, env=environment(folder) | variables, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip


def users_error(folder: Path, *arguments: str, **variables: str) -> str:
    """The one line with which the command ends in exit status 2."""
    ended = start(folder, *arguments, **variables)
    assert "Traceback" not in ended.stderr
    assert ended.returncode == 2, ended
    assert ended.stderr.startswith("kff-live: "), ended.stderr
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert ended.stdout == ""
    return ended.stderr.removeprefix("kff-live: ").rstrip("\n")


def config(folder: Path, text: str, *, websocket: int = 0, osc: int = 0) -> str:
    """A config file that needs no model and no port but these."""
    path = folder / "test.toml"
    path.write_text(
        text
        + (f"\n[websocket]\nport = {websocket}\n" if websocket else "")
        + (f"\n[osc_in]\nport = {osc}\n" if osc else "\n[osc_in]\nenabled = false\n"),
        encoding="utf-8",
    )
    return str(path)


NO_MODEL = 'sinks = []\n[model]\nengine = "none"\n'


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda a: " ".join(a) or "kff-live")
def test_help(arguments: tuple[str, ...], tmp_path: Path) -> None:
    ended = start(tmp_path, *arguments, "--help")
    assert ended.returncode == 0
    assert ended.stdout.startswith("usage: kff-live")
    assert ended.stderr == ""


def imported(folder: Path, code: str) -> set[str]:
    """Which of HEAVY a fresh interpreter has imported after `code`."""
    report = f"import sys\n{code}\nprint('#', *(m for m in {HEAVY!r} if m in sys.modules))"
    ended = subprocess.run(
        [sys.executable, "-c", report], cwd=folder, env=environment(folder), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=90, check=True,
    )  # fmt: skip
    return set(ended.stdout.rpartition("#")[2].split())


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda a: " ".join(a) or "kff-live")
def test_help_imports_nothing_heavy(arguments: tuple[str, ...], tmp_path: Path) -> None:
    code = (
        "from kff_live.runtime.cli import main\n"
        f"try: main({[*arguments, '--help']!r})\n"
        "except SystemExit as ended: assert ended.code == 0"
    )
    assert imported(tmp_path, code) == set()


def test_say_imports_neither_numba_nor_a_model(tmp_path: Path, free_port: int) -> None:
    code = (
        "from kff_live.runtime.cli import main\n"
        f"assert main(['say', 'hello', '--url', 'ws://127.0.0.1:{free_port}']) == 2"
    )
    assert not imported(tmp_path, code) & {"numba", "llvmlite", "llama_cpp", "httpx"}


def test_starting_up_imports_neither_numba_nor_a_model(tmp_path: Path) -> None:
    # Frames must flow before the second is over in which numba alone is imported.
    assert not imported(tmp_path, "import kff_live.runtime.app") & {"numba", "llvmlite", "llama_cpp", "httpx"}


def test_version(tmp_path: Path) -> None:
    ended = start(tmp_path, "--version")
    assert ended.returncode == 0
    assert ended.stdout.strip().count(".") >= 2


@pytest.mark.parametrize(
    "arguments", [("shout",), ("say",), ("say", "a", "--mode", "shout"), ("say", "a", "--intensity", "x"), ("--wrong",)]
)
def test_wrong_arguments_are_told_with_the_usage(arguments: tuple[str, ...], tmp_path: Path) -> None:
    ended = start(tmp_path, *arguments)
    assert ended.returncode == 2
    assert "usage: kff-live" in ended.stderr
    assert "Traceback" not in ended.stderr


# --- the user's mistakes: one line, exit status 2


@pytest.mark.parametrize("place", [("--config", "{}"), ("run", "--config", "{}")])
def test_a_wrong_key(tmp_path: Path, place: tuple[str, ...]) -> None:
    path = config(tmp_path, "[[sinks]]\ntype = 'livelink'\ntarget = 5")
    assert users_error(tmp_path, *(p.format(path) for p in place)) == f"{path}: sinks[0].target: unknown key"


def test_a_wrong_key_in_the_working_folders_config(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("fsp = 60")
    assert users_error(tmp_path) == "config.toml: fsp: unknown key"


def test_a_missing_config_file(tmp_path: Path) -> None:
    assert users_error(tmp_path, "--config", "no.toml") == "no.toml: cannot be read: No such file or directory"


def test_a_missing_model_file(tmp_path: Path) -> None:
    path = config(tmp_path, '[model]\npath = "no.gguf"')
    assert users_error(tmp_path, "--config", path).startswith("model.path: no.gguf: No such file or directory; give ")


def test_a_model_file_that_is_no_gguf(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"PK\x03\x04 not a model")
    path = config(tmp_path, '[model]\npath = "model.gguf"')
    assert users_error(tmp_path, "--config", path).startswith("model.path: model.gguf: not a GGUF file; ")


def test_a_missing_adapter(tmp_path: Path) -> None:
    path = config(tmp_path, '[model]\nadapter = "no.gguf"')
    assert users_error(tmp_path, "--config", path).startswith("model.adapter: no.gguf: No such file")


def test_a_model_that_breaks_off_after_its_first_bytes(tmp_path: Path, free_port: int) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + bytes(100))
    path = config(tmp_path, 'sinks = []\n[model]\npath = "model.gguf"', websocket=free_port)
    ended = start(tmp_path, "--config", path)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    last = ended.stderr.rstrip("\n").rpartition("\n")[2]
    assert last.startswith("kff-live: ")
    assert "model.gguf" in last


def test_a_websocket_port_in_use(tmp_path: Path, free_port: int) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port))
        taken.listen()
        path = config(tmp_path, NO_MODEL, websocket=free_port)
        assert users_error(tmp_path, "--config", path).startswith(
            f"websocket.port: 127.0.0.1 port {free_port} cannot be used"
        )


def test_an_osc_port_in_use(tmp_path: Path, free_port: int) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", free_port))
        path = config(tmp_path, NO_MODEL, websocket=free_port, osc=free_port)
        assert users_error(tmp_path, "--config", path).startswith(f"osc_in.port: 127.0.0.1:{free_port} cannot be used")


def test_a_target_that_cannot_be_found(tmp_path: Path) -> None:
    path = config(
        tmp_path, '[[sinks]]\ntype = "livelink"\ntargets = ["no-such-host.invalid:1"]\n[model]\nengine = "none"'
    )
    assert users_error(tmp_path, "--config", path) == "sinks: the host 'no-such-host.invalid' cannot be found"


def test_a_recording_that_cannot_be_written(tmp_path: Path) -> None:
    path = config(tmp_path, '[[sinks]]\ntype = "recording"\npath = "no/take.jsonl"\n[model]\nengine = "none"')
    assert users_error(tmp_path, "--config", path).startswith("sinks: no/take.jsonl: cannot be written: ")


def test_a_keyframe_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "k").write_text("# kff 1\n4 grin5\n")
    assert users_error(tmp_path, "render", "--keyframes", "k", "-o", "t.csv").startswith("k: line 2: 'grin5'")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:1", "is not a WebSocket address"),
        ("8765", "is not a WebSocket address"),
        ("ws://127.0.0.1:port", "is not a WebSocket address"),
        ("ws://127.0.0.1:{port}", "start it with  kff-live"),
        ("ws://no-such-host.invalid:1", "start it with  kff-live"),
    ],
)
def test_say_without_a_runtime(tmp_path: Path, free_port: int, url: str, said: str) -> None:
    assert said in users_error(tmp_path, "say", "hello", "--url", url.format(port=free_port))


def test_say_goes_past_a_proxy(tmp_path: Path, free_port: int) -> None:
    said = users_error(tmp_path, "say", "a", "--url", f"ws://127.0.0.1:{free_port}", http_proxy="socks5://127.0.0.1:1")
    assert said.startswith(f"ws://127.0.0.1:{free_port}: Connect")


# --- say, to a running one


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory, module_port: int) -> Iterator[str]:
    """The address of a running kff-live without a model, with a token."""
    folder = tmp_path_factory.mktemp("runtime")
    text = 'sinks = []\nmodel = { engine = "none" }\nwebsocket = { port = PORT, token = "sesame88" }\n'
    text = text.replace("PORT", str(module_port))
    path = config(folder, text)
    process = subprocess.Popen(
        command("run", "--config", path), cwd=folder, env=environment(folder), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    lines: list[str] = []
    shown = threading.Event()

    def read() -> None:
        for line in process.stderr or ():
            lines.append(line)
            if "Ctrl-C ends" in line:
                shown.set()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert shown.wait(START_SECONDS), lines
        yield f"ws://127.0.0.1:{module_port}"
        begin = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10.0) == 0
        assert time.monotonic() - begin < 5.0
        assert "Traceback" not in "".join(lines)
        assert process.stdout is not None
        assert process.stdout.read() == ""
    finally:
        process.kill()
        process.wait()
        reader.join()
        process.stderr.close()
        if process.stdout is not None:
            process.stdout.close()


def test_say_prints_the_events_of_its_text(runtime: str, tmp_path: Path) -> None:
    ended = start(tmp_path, "say", "What a day!", "--url", runtime, "--token", "sesame88", "--intensity", "0.5")
    assert ended.returncode == 0, ended
    assert ended.stderr == ""
    events = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [event["type"] for event in events] == ["accepted", "keyframe", "started", "done"]
    assert len({event["id"] for event in events}) == 1
    assert events[1]["text"] == "4+4 smile2.5"


def test_say_reads_standard_input_and_the_token_from_the_environment(runtime: str, tmp_path: Path) -> None:
    ended = subprocess.run(
        command("say", "-", "--url", runtime), cwd=tmp_path, env=environment(tmp_path) | {"KFF_TOKEN": "sesame88"},
        input="From a pipe.\n", capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("hello", "--subject", "Nobody"), "subject: 'Nobody', expected one of Face"),
        (("",), "text: it is empty"),
        (("x" * 2001,), "text: 2001 characters, at most 2000"),
        (("hello", "--intensity", "3"), "intensity: 3.0 is outside 0 to 2"),
        (("hello", "--priority", "10"), "priority: 10 is outside 0 to 9"),
    ],
)
def test_say_what_is_refused(runtime: str, tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    ended = start(tmp_path, "say", *arguments, "--url", runtime, "--token", "sesame88")
    assert ended.returncode == 2
    assert said in ended.stderr
    assert ended.stderr.startswith("kff-live: ")
    assert ended.stderr.count("\n") == 1


def test_say_without_the_token(runtime: str, tmp_path: Path) -> None:
    said = users_error(tmp_path, "say", "hello", "--url", runtime)
    assert said.startswith(f"{runtime} refuses the connection: ")
    assert "401" in said


def test_say_does_not_wait_for_ever(runtime: str, tmp_path: Path) -> None:
    ended = start(tmp_path, "say", "hello", "--url", runtime, "--token", "sesame88", "--timeout", "0.3")
    assert ended.returncode == 2
    assert ended.stderr == f"kff-live: {runtime}: no final event within 0.3 s\n"
