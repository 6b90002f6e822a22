"""`kff-live doctor`: what it says of ports that are held, models that are missing, brokers that do not answer."""

import contextlib
import http.server
import json
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from kff_live.runtime.config import (
    Capture,
    Config,
    LiveLink,
    Llama,
    Mqtt,
    OpenAI,
    Osc,
    OscIn,
    Subject,
    Vmc,
    VRChat,
    VTubeStudio,
    WebSocket,
)
from kff_live.runtime.diagnosis import doctor, machine, model, network, ports, services
from kff_live.runtime.diagnosis.result import Result, Severity, exit_status
from kff_live.runtime.model.choice import engine_settings

DEADLINE = 120.0
Held = Callable[..., subprocess.Popen[str]]

posix = pytest.mark.skipif(sys.platform != "linux", reason="the programs of Linux")

HOLD = """
import socket, sys
kind = socket.SOCK_DGRAM if sys.argv[1] == "udp" else socket.SOCK_STREAM
with socket.socket(socket.AF_INET, kind) as held:
    held.bind(("127.0.0.1", int(sys.argv[2])))
    if sys.argv[1] == "tcp":
        held.listen()
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Held]:
    """Starts a program that holds a port."""
    script = tmp_path / "port_holder.py"
    script.write_text(HOLD)
    started: list[subprocess.Popen[str]] = []

    def start(kind: str, port: int) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(script), kind, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.communicate(timeout=DEADLINE)


def quiet(**settings: Any) -> Config:
    """Settings without a port or a sink but those given."""
    defaults: dict[str, Any] = {"sinks": (), "osc_in": OscIn(enabled=False)}
    return Config(**(defaults | settings))


def checked(check: doctor.Check, config: Config) -> list[Result]:
    return list(check(config))


# --- ports


@pytest.mark.parametrize(("kind", "where"), [("tcp", "websocket.port"), ("udp", "osc_in.port")])
def test_a_held_port_names_who_holds_it(kind: str, where: str, hold: Held, free_port: int) -> None:
    process = hold(kind, free_port)
    config = quiet(websocket=WebSocket(port=free_port)) if kind == "tcp" else quiet(osc_in=OscIn(port=free_port))
    (result,) = [r for r in checked(network.ports, config) if str(free_port) in r.found]
    assert result.severity == "error"
    assert result.found == (
        f"{where} ({kind.upper()} 127.0.0.1:{free_port}) is held by "
        f"python port_holder.py {kind} {free_port} (process {process.pid})"
    )
    assert result.cure == f"close it, or choose another {where}"


def test_a_port_that_a_sink_can_do_without_is_a_warning(hold: Held, free_port: int) -> None:
    hold("udp", free_port)
    config = quiet(sinks=(VRChat(listen=f"127.0.0.1:{free_port}"),))
    (result,) = [r for r in checked(network.ports, config) if str(free_port) in r.found]
    assert (result.severity, result.found.partition(" ")[0]) == ("warning", "sinks[0].listen")


def test_free_ports_are_in_order(free_port: int) -> None:
    config = quiet(websocket=WebSocket(port=free_port), capture=Capture(enabled=True, port=free_port))
    assert [(r.severity, r.found) for r in checked(network.ports, config)] == [
        ("ok", f"websocket.port (TCP 127.0.0.1:{free_port}) is free"),
        ("ok", f"capture.port (UDP 127.0.0.1:{free_port}) is free"),
    ]


def test_an_address_that_is_not_ours_is_an_error(free_port: int) -> None:
    config = quiet(websocket=WebSocket(host="198.51.100.7", port=free_port, token="a long token"))
    (result,) = checked(network.ports, config)
    assert result.severity == "error"
    assert result.found.startswith(f"websocket.port (TCP 198.51.100.7:{free_port}): ")


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_psutil_and_proc_name_the_same_holder(kind: ports.Kind, hold: Held, free_port: int) -> None:
    assert ports.holder(kind, free_port) is None
    assert ports._from_proc(kind, free_port) is None
    process = hold(kind, free_port)
    named = f"python port_holder.py {kind} {free_port} (process {process.pid})"
    assert ports.holder(kind, free_port) == named
    if sys.platform == "linux":
        assert ports._from_proc(kind, free_port) == named


def test_a_running_kff_live_is_no_error(tmp_path: Path, free_port: int) -> None:
    config = tmp_path / "running.toml"
    config.write_text(
        f'sinks = []\n[model]\nengine = "none"\n[osc_in]\nenabled = false\n[websocket]\nport = {free_port}\n'
    )
    command = [sys.executable, "-m", "kff_live.runtime.cli", "--config", str(config)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        assert any("texts in" in line for line in process.stderr)
        (result,) = checked(network.ports, quiet(websocket=WebSocket(port=free_port)))
        assert result.severity == "note"
        assert "kff-live runs already" in result.found
        assert f"(process {process.pid})" in result.found
    finally:
        process.terminate()
        process.communicate(timeout=DEADLINE)


# --- sinks and packets


def test_a_target_where_nobody_listens_is_a_note_with_the_command_to_look(free_port: int) -> None:
    config = quiet(sinks=(LiveLink(targets=(f"127.0.0.1:{free_port}",)), Vmc(targets=(f"127.0.0.1:{free_port}",))))
    unreal, vmc = checked(network.sinks, config)
    assert (unreal.severity, unreal.found) == (
        "note", f"sinks[0], livelink: 127.0.0.1:{free_port}: nobody listens there now",
    )  # fmt: skip
    assert "Apple ARKit source" in unreal.cure
    assert unreal.cure.endswith(f"kff-live monitor --format livelink --port {free_port}")
    assert vmc.cure.endswith(f"kff-live monitor --format vmc --port {free_port}")


def test_an_osc_target_where_nobody_listens_may_be_a_server_that_unreal_has_moved(free_port: int) -> None:
    (result,) = checked(network.sinks, quiet(sinks=(Osc(targets=(f"127.0.0.1:{free_port}",)),)))
    assert result.found.endswith("nobody listens there now")
    assert "an OSC server of Unreal must be bound to 0.0.0.0" in result.cure
    assert result.cure.endswith(f"kff-live monitor --format osc --port {free_port}")


def test_a_target_where_somebody_listens_names_them(hold: Held, free_port: int) -> None:
    process = hold("udp", free_port)
    (result,) = checked(network.sinks, quiet(sinks=(LiveLink(targets=(f"localhost:{free_port}",)),)))
    assert result.severity == "ok"
    assert result.found.endswith(f"python port_holder.py udp {free_port} (process {process.pid}) listens")


def test_a_host_that_cannot_be_found_is_an_error() -> None:
    (result,) = checked(network.sinks, quiet(sinks=(LiveLink(targets=("no-such-host.invalid:11111",)),)))
    assert (result.severity, result.found) == (
        "error", "sinks[0], livelink: no-such-host.invalid:11111: the host cannot be found",
    )  # fmt: skip


def test_a_target_on_another_machine_says_how_to_look_there() -> None:
    (result,) = checked(network.sinks, quiet(sinks=(LiveLink(targets=("203.0.113.9:11111",)),)))
    if result.severity == "note":
        own = result.found.removeprefix("sinks[0], livelink: 203.0.113.9:11111: leaves from ")
        assert result.cure.endswith(f"kff-live monitor --format livelink --port 11111 --host 0.0.0.0 --allow {own}")
    else:  # this machine has no network
        assert result.found.endswith("there is no way to this address")


def test_packets_come_back_through_a_loop() -> None:
    (result,) = checked(network.loop, quiet())
    assert result.severity == "ok"
    assert result.found.startswith("60 of 60 packets came back over 127.0.0.1, each in ")


def test_packets_that_are_dropped_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "UdpSink", lambda encoder, targets: Dropping())
    monkeypatch.setattr(network, "_LOOP_SECONDS", 0.01)
    (result,) = checked(network.loop, quiet())
    assert (result.severity, result.found) == ("error", "0 of 60 packets came back over 127.0.0.1")


class Dropping:
    """A sink whose packets somebody drops on the way."""

    def send(self, frame: object) -> None: ...

    def close(self) -> None: ...


def test_what_a_firewall_must_let_through() -> None:
    config = quiet(
        sinks=(LiveLink(targets=("127.0.0.1:1", "10.0.0.7:11111")),),
        websocket=WebSocket(host="0.0.0.0", port=8765, token="a long token"),
    )
    assert network.beyond_loopback(config) == ["TCP 8765 in", "UDP 11111 out to 10.0.0.7"]


# --- the model


def test_a_model_that_loads_is_named(smollm2_path: Path, require_installed: Callable[[str], None]) -> None:
    require_installed("llama_cpp")
    found, gpu = checked(model.model, quiet(model=Llama(path=str(smollm2_path))))
    assert found.severity == "ok"
    assert found.found.startswith(f"{smollm2_path.name}, {smollm2_path.stat().st_size / 1e6:.0f} MB, loads in ")
    assert gpu.check == "gpu"
    assert gpu.severity in ("ok", "note", "warning")


def test_a_model_that_is_missing_is_an_error(tmp_path: Path) -> None:
    (result,) = checked(model.model, quiet(model=Llama(path=str(tmp_path / "none.gguf"))))
    assert result.severity == "error"
    assert (
        result.found == f"model.path: {tmp_path / 'none.gguf'}: No such file or directory; give the path of a GGUF file"
    )


def test_a_file_that_is_no_model_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "web page.gguf"
    path.write_text("<html>404</html>")
    (result,) = checked(model.model, quiet(model=Llama(path=str(path))))
    assert result.severity == "error"
    assert "not a GGUF file" in result.found


@pytest.mark.parametrize("size", [4, 100, 2_000_000])
def test_a_model_that_was_cut_off_is_an_error(
    size: int, tmp_path: Path, smollm2_path: Path, require_installed: Callable[[str], None]
) -> None:
    require_installed("llama_cpp")
    path = tmp_path / "cut.gguf"
    with smollm2_path.open("rb") as whole:
        path.write_bytes(whole.read(size))
    found, _ = checked(model.model, quiet(model=Llama(path=str(path))))
    assert found.severity == "error"
    assert str(path) in found.found
    assert found.cure.startswith("fetch the file again")


@posix
def test_a_model_whose_loading_ends_the_process_is_an_error(
    monkeypatch: pytest.MonkeyPatch, smollm2_path: Path
) -> None:
    monkeypatch.setattr(model, "sys", type("_", (), {"executable": "/bin/false"}))
    loaded = model._load(engine_settings(Llama(path=str(smollm2_path))))
    assert loaded.error == f"{smollm2_path}: llama.cpp ended with status 1 as it loaded"


def test_no_model_is_a_note() -> None:
    (result,) = checked(model.model, quiet(model=msgspec.convert({"engine": "none"}, Config.__annotations__["model"])))
    assert (result.severity, result.cure) == ("note", 'set engine = "llama" in [model]')


class Models(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"data": []}')

    def log_message(self, *_: object) -> None: ...


@contextlib.contextmanager
def serving_models() -> Iterator[int]:
    server = http.server.HTTPServer(("127.0.0.1", 0), Models)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_server_that_answers_is_in_order(require_installed: Callable[[str], None]) -> None:
    require_installed("httpx")
    with serving_models() as port:
        url = f"http://127.0.0.1:{port}/v1"
        assert checked(model.model, quiet(model=OpenAI(base_url=url))) == [Result("model", "ok", f"{url} answers")]


def test_a_server_that_does_not_answer_is_an_error(free_port: int, require_installed: Callable[[str], None]) -> None:
    require_installed("httpx")
    (result,) = checked(model.model, quiet(model=OpenAI(base_url=f"http://127.0.0.1:{free_port}/v1")))
    assert (result.severity, result.cure) == ("error", "start the server, or correct model.base_url")


# --- the machine


def test_versions_are_told() -> None:
    (result,) = checked(machine.versions, quiet())
    assert "kff-live 0." in result.found and "Python 3." in result.found and "numba " in result.found


def test_the_clock_is_measured() -> None:
    (result,) = checked(machine.clock, quiet(fps=240))
    assert result.severity in ("ok", "warning")
    assert "60 sleeps of 4.2 ms ended" in result.found
    assert bool(result.cure) == (result.severity == "warning")


def test_the_cost_of_a_frame_is_measured() -> None:
    (one,) = checked(machine.cpu, quiet())
    assert f"of 16667; {os.cpu_count()} cores" in one.found
    (many,) = checked(machine.cpu, quiet(fps=1000, subjects=tuple(Subject(name=f"s{i}") for i in range(500))))
    assert many.severity == "warning"
    assert many.cure == "fewer [[subjects]], a lower fps, or a faster machine"


@pytest.fixture
def firewall_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts a program of this name and output on the path, alone."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def put(name: str, prints: str, *, status: int = 0) -> None:
        path = tmp_path / name
        path.write_text(
            f"#!/bin/sh\nwhile read -r line; do echo \"$line\"; done <<'END'\n{prints}\nEND\nexit {status}\n"
        )
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    return put


@posix
@pytest.mark.parametrize(
    ("name", "prints", "on"),
    [
        ("ufw", "Status: active\nTo Action From", True),
        ("ufw", "Status: inactive", False),
        ("nft", "table inet filter {\nchain input {\ntype filter hook input priority 0; policy drop;", True),
        ("nft", "table inet filter {\nchain input { type filter hook input priority 0; policy accept;", False),
        ("iptables", "-P INPUT DROP\n-P FORWARD ACCEPT", True),
        ("iptables", "-P INPUT ACCEPT\n-A INPUT -p udp -j DROP", True),
        ("iptables", "-P INPUT ACCEPT\n-P FORWARD DROP\n-P OUTPUT ACCEPT", False),
    ],
)
def test_a_firewall_is_read(name: str, prints: str, on: bool, firewall_program: Callable[..., None]) -> None:
    firewall_program(name, prints)
    (result,) = checked(machine.firewall, quiet(sinks=(LiveLink(targets=("10.0.0.7:11111",)),)))
    if on:
        expected = Result(
            "firewall", "note", f"{name} is on and drops packets", "let through: UDP 11111 out to 10.0.0.7"
        )
    else:
        expected = Result("firewall", "ok", "off, or without a rule that drops packets")
    assert result == expected


@posix
def test_a_firewall_that_cannot_be_read_is_said_so(firewall_program: Callable[..., None]) -> None:
    firewall_program("ufw", "ERROR: You need to be root to run this script", status=1)
    (result,) = checked(machine.firewall, quiet())
    assert (result.severity, result.found) == ("note", "not readable from here")


def test_the_firewalls_of_windows_and_macos_are_read_from_what_they_print(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "\nDomain Profile Settings: \n----\nState                                 ON\n\nOk.\n"
    monkeypatch.setattr(machine, "_output", lambda *command: said)
    assert machine._windows() == "Windows Defender Firewall, by profile: ON"
    said = "Firewall is enabled. (State = 1)\n"
    assert machine._macos() == "the application firewall is on"
    said = "Firewall is disabled. (State = 0)\n"
    assert machine._macos() == ""
    said = ""
    assert machine._windows() is None and machine._macos() is None


# --- VTube Studio and the broker


@contextlib.contextmanager
def vtube_studio(answer: dict[str, Any]) -> Iterator[int]:
    """Answers every request with this data, as APIStateResponse."""

    def handle(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            for text in connection:
                request = json.loads(text)
                assert request["messageType"] == "APIStateRequest"
                message = {"messageType": "APIStateResponse", "requestID": request["requestID"], "data": answer}
                connection.send(json.dumps({"apiName": "VTubeStudioPublicAPI", "apiVersion": "1.0"} | message))

    with serve(handle, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.socket.getsockname()[1]
        server.shutdown()
        thread.join()


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    return tmp_path


def test_a_vtube_studio_that_answers_and_does_not_know_us_yet(own_folder: Path) -> None:
    with vtube_studio({"active": True, "vTubeStudioVersion": "1.9.0", "currentSessionAuthenticated": False}) as port:
        (result,) = checked(services.vtube_studio, quiet(sinks=(VTubeStudio(target=f"127.0.0.1:{port}"),)))
    assert result == Result(
        "vtube", "note", f"VTube Studio 1.9.0 answers at 127.0.0.1:{port}; it will ask its user about kff-live once",
        "click Allow there",
    )  # fmt: skip


def test_a_vtube_studio_that_is_not_there_is_an_error(free_port: int, own_folder: Path) -> None:
    (result,) = checked(services.vtube_studio, quiet(sinks=(VTubeStudio(target=f"127.0.0.1:{free_port}"),)))
    assert (result.severity, result.found) == ("error", f"VTube Studio does not answer at 127.0.0.1:{free_port}")
    assert "Start API" in result.cure


def test_without_them_nothing_is_said_of_them() -> None:
    assert checked(services.vtube_studio, quiet()) == checked(services.broker, quiet()) == []


def test_a_broker_that_does_not_answer_is_an_error(free_port: int) -> None:
    (result,) = checked(services.broker, quiet(mqtt=Mqtt(enabled=True, port=free_port)))
    assert result.severity == "error"
    assert result.found.startswith(f"the broker at 127.0.0.1:{free_port} does not answer: ")
    assert result.cure == "start it, or correct [mqtt] in config.toml"


@contextlib.contextmanager
def mosquitto(program: str, folder: Path, port: int, settings: str) -> Iterator[None]:
    as_root = "user root\n" if hasattr(os, "geteuid") and os.geteuid() == 0 else ""
    (folder / "mosquitto.conf").write_text(f"listener {port} 127.0.0.1\n{as_root}{settings}")
    process = subprocess.Popen([program, "-v", "-c", str(folder / "mosquitto.conf")], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        assert any(" running" in line for line in process.stderr)
        yield
    finally:
        process.terminate()
        process.communicate(timeout=DEADLINE)


@pytest.mark.parametrize(
    ("settings", "severity", "found"),
    [
        ("allow_anonymous true\n", "ok", "lets us in"),
        ("allow_anonymous false\n", "error", "refuses us: Not authorized; the user is mqtt.user"),
    ],
)
def test_a_broker_that_answers(
    settings: str, severity: Severity, found: str, program: Callable[[str, str], str], tmp_path: Path, free_port: int
) -> None:
    with mosquitto(program("mosquitto", "mosquitto"), tmp_path, free_port, settings):
        (result,) = checked(services.broker, quiet(mqtt=Mqtt(enabled=True, port=free_port)))
    assert (result.check, result.severity) == ("mqtt", severity)
    assert found in result.found


# --- the whole


def test_severity_is_the_exit_status() -> None:
    def of(*severities: Severity) -> int:
        return exit_status([Result("a", severity, "") for severity in severities])

    assert [of(), of("ok"), of("ok", "note"), of("note", "warning"), of("warning", "error", "ok")] == [0, 0, 0, 1, 2]


def broken(config: Config) -> Iterator[Result]:
    raise RuntimeError("no such luck")
    yield


def test_a_check_that_fails_itself_is_reported_and_the_others_go_on() -> None:
    settings, failed, versions = doctor.examine(None, (broken, machine.versions))
    assert settings.check == "settings"
    assert (failed.check, failed.severity) == ("broken", "warning")
    assert failed.found == "this check failed itself: RuntimeError: no such luck"
    assert versions.severity == "ok"


def kff(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kff_live.runtime.cli", "doctor", *arguments], cwd=folder, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=DEADLINE, check=False,
    )  # fmt: skip


class Report(msgspec.Struct, forbid_unknown_fields=True):
    status: int
    results: list[Result]


def test_json_is_one_object_with_every_result(tmp_path: Path, free_port: int) -> None:
    path = tmp_path / "test.toml"
    path.write_text(
        f'[model]\nengine = "none"\n[websocket]\nport = {free_port}\n[osc_in]\nenabled = false\n'
        f'[[sinks]]\ntype = "livelink"\ntargets = ["127.0.0.1:{free_port}"]\n'
    )
    ended = kff(tmp_path, "--json", "--config", str(path))
    assert ended.stderr == ""
    report = msgspec.json.decode(ended.stdout, type=Report, strict=True)
    assert report.status == ended.returncode == exit_status(report.results)
    assert [r.check for r in report.results] == [
        "settings", "versions", "model", "ports", "sinks", "loop", "firewall", "clock", "cpu",
    ]  # fmt: skip
    assert report.results[0] == Result("settings", "ok", str(path))
    assert json.loads(ended.stdout)["results"][3] == {
        "check": "ports", "severity": "ok", "found": f"websocket.port (TCP 127.0.0.1:{free_port}) is free", "cure": "",
    }  # fmt: skip


def test_wrong_settings_are_an_error_and_the_rest_is_checked(tmp_path: Path, hold: Held) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text("fsp = 60\n")
    ended = kff(tmp_path, "--config", str(path))
    assert ended.returncode == 2
    assert ended.stderr == ""
    lines = ended.stdout.splitlines()
    assert lines[0] == f"error    settings  {path}: fsp: unknown key"
    assert lines[1].strip() == "-> until then all else is checked with the built-in defaults"
    assert any(line.startswith("ok       loop ") for line in lines)
    assert "Traceback" not in ended.stdout


def test_colour_never_carries_meaning_alone(tmp_path: Path) -> None:
    """Every line begins with its severity in a word, also where there is no colour."""
    path = tmp_path / "test.toml"
    path.write_text('sinks = []\n[model]\nengine = "none"\n')
    ended = kff(tmp_path, "--config", str(path))
    assert "\x1b" not in ended.stdout
    for line in ended.stdout.splitlines():
        assert line.split()[0] in ("ok", "note", "warning", "error", "->")


def test_nothing_listens_afterwards(free_port: int) -> None:
    checked(network.ports, quiet(websocket=WebSocket(port=free_port)))
    with socket.socket() as tcp:
        tcp.bind(("127.0.0.1", free_port))
