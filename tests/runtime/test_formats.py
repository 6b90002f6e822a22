"""A spawned `kff-live` with a sink of every format, each read by somebody else's decoder or by its receivers' rules."""

import contextlib
import itertools
import json
import math
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pythonosc.dispatcher import Dispatcher
from pythonosc.osc_server import BlockingOSCUDPServer
from websockets.sync.client import connect

from kff_live.protocols.channels import INDEX, LIVELINK, Pose, mirror, pose_from_names
from kff_live.protocols.ifacialmocap import HANDSHAKE, decode
from kff_live.protocols.keyframes import EYE_ANGLES, derived_eye_angles
from kff_live.protocols.osc import FACE_CAP
from kff_live.protocols.vmc import VRM0
from kff_live.protocols.vrchat import PARAMETERS
from tests.runtime.ports import free_port

DEADLINE = 60.0
DECODERS = Path(__file__).parents[1] / "decoders"
SHAPES = LIVELINK[:52]


def acted() -> Pose:
    """A pose with no two sides alike."""
    pose = pose_from_names(
        {
            "JawOpen": 0.5, "MouthLeft": 0.25, "MouthSmileRight": 0.75, "EyeBlinkRight": 0.375, "EyeLookInLeft": 0.5,
            "EyeLookOutRight": 0.5, "BrowInnerUp": 0.125, "HeadYaw": 0.25, "HeadPitch": -0.125, "HeadRoll": 0.0625,
        }
    )  # fmt: skip
    pose[EYE_ANGLES] = derived_eye_angles(pose)
    return pose


POSE = acted()


class Heard:
    """What a receiver has decoded so far; a thread adds to it."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._more = threading.Condition()

    def add(self, item: Any) -> None:
        with self._more:
            self.items.append(item)
            self._more.notify_all()

    def wait(self, condition: Callable[[list[Any]], Any]) -> Any:
        """What `condition` gives as soon as it is true of the items."""
        with self._more:
            assert self._more.wait_for(lambda: condition(self.items), DEADLINE), self.items[-5:]
            return condition(self.items)


@contextlib.contextmanager
def program(*command: str) -> Iterator[Heard]:
    """A decoder of its own process that prints JSON lines, the first when it listens."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        heard = Heard()
        assert process.stdout is not None
        lines = process.stdout

        def read() -> None:
            for line in lines:
                heard.add(json.loads(line))

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            heard.wait(lambda items: items)
            yield heard
        finally:
            process.kill()
            process.wait()
            reader.join()


@contextlib.contextmanager
def python_osc() -> Iterator[tuple[int, Heard]]:
    """python-osc's own server."""
    heard, dispatcher = Heard(), Dispatcher()
    dispatcher.set_default_handler(lambda address, *arguments: heard.add([address, *arguments]))
    with BlockingOSCUDPServer(("127.0.0.1", 0), dispatcher) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server.server_address[1], heard
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def datagrams(host: str = "127.0.0.1", port: int = 0) -> Iterator[tuple[socket.socket, Heard]]:
    """Whatever comes to a port."""
    heard, ended = Heard(), threading.Event()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind((host, port))
        udp.settimeout(0.1)

        def receive() -> None:
            while not ended.is_set():
                with contextlib.suppress(TimeoutError):
                    heard.add(udp.recv(65536))

        thread = threading.Thread(target=receive, daemon=True)
        thread.start()
        try:
            yield udp, heard
        finally:
            ended.set()
            thread.join()


@dataclass
class Stage:
    """The running program and all who listen to it."""

    config: Path
    phone_port: int
    change_port: int
    heard: dict[str, Heard] = field(default_factory=dict)


@pytest.fixture(scope="module")
def stage(
    tmp_path_factory: pytest.TempPathFactory, require_installed: Callable[[str], None], node_modules: str
) -> Iterator[Stage]:
    require_installed("vmcp")
    ports = {name: free_port() for name in ("vmcp", "node", "face cap", "phone", "change", "osc_in")}
    config = tmp_path_factory.mktemp("formats") / "config.toml"
    made = Stage(config, ports["phone"], ports["change"])
    with contextlib.ExitStack() as stack:

        def script(name: str, *command: str) -> None:
            made.heard[name] = stack.enter_context(program(*command, str(ports[name])))

        script("vmcp", sys.executable, str(DECODERS / "vmcp_receiver.py"))
        for name in ("node", "face cap"):
            script(name, "node", str(DECODERS / "osc_receiver.mjs"), node_modules)
        for name in ("camel", "vrchat", "pose"):
            ports[name], made.heard[name] = stack.enter_context(python_osc())
        phone, made.heard["ifacialmocap"] = stack.enter_context(datagrams())
        ports["ifacialmocap"] = phone.getsockname()[1]
        sinks = [
            ("vmcp", "type = 'vmc'\nrate = 10"),  # more is more than it can read
            ("node", "type = 'vmc'\nbundle = 'split'\npresets = 'vrm0'"),
            ("camel", "type = 'vmc'\nnaming = 'camel'\nbones = ['Head']"),
            ("ifacialmocap", f"type = 'ifacialmocap'\nlisten = '127.0.0.1:{ports['phone']}'"),
            ("vrchat", f"type = 'vrchat'\nprefix = 'FT'\nlisten = '127.0.0.1:{ports['change']}'"),
            ("face cap", "type = 'osc'\nnaming = 'facecap'"),
            ("pose", "type = 'osc'\nmirror = true\nrate = 30\ngain = { JawOpen = 0.5 }\nchannels = ['jaw', 'mouth']"),
        ]
        web = free_port()
        config.write_text(
            f"[model]\nengine = 'none'\n[idle]\nenabled = false\n[websocket]\nport = {web}\n[osc_in]\nport = "
            f"{ports['osc_in']}\n" + "".join(f"[[sinks]]\n{s}\ntargets = ['127.0.0.1:{ports[n]}']\n" for n, s in sinks)
        )
        process = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", "kff_live.runtime.cli", "--config", str(config)], stdin=subprocess.DEVNULL
            )
        )
        stack.callback(process.terminate)
        act(process, f"ws://127.0.0.1:{web}")
        yield made


def act(process: subprocess.Popen[bytes], url: str) -> None:
    """Have the pose acted and held."""
    deadline = time.monotonic() + DEADLINE
    while True:
        try:
            client = connect(url, compression=None)
            break
        except OSError:
            assert process.poll() is None
            assert time.monotonic() < deadline
            threading.Event().wait(0.02)
    shapes = {name: float(POSE[INDEX[name]]) for name in LIVELINK if POSE[INDEX[name]]}
    with client:
        keyframes = [{"pose": shapes, "way": 0.2, "hold": 12.0}] * 10  # longer than all tests together
        client.send(json.dumps({"type": "keyframes", "id": "held", "keyframes": keyframes}))
        while (message := json.loads(client.recv(timeout=DEADLINE)))["type"] != "accepted":
            assert message["type"] != "error", message


def at_the_pose(items: list[Any], jaw: Callable[[Any], bool], ends: Callable[[Any], bool]) -> list[Any]:
    """The last whole frame, from one end to the next, in which the jaw has arrived; empty where there is none yet."""
    items = items[-200:]
    last = [i for i, item in enumerate(items) if ends(item)][-2:]
    whole = items[last[0] + 1 : last[1] + 1] if len(last) == 2 else []
    return whole if any(jaw(item) for item in whole) else []


def quaternion_angle(q: list[float]) -> float:
    return 2 * math.acos(min(abs(q[3]), 1.0))


def test_vmc_is_read_by_vmcp(stage: Stage) -> None:
    def whole(items: list[Any]) -> list[Any]:
        return at_the_pose(items, lambda item: item == ["shape", "JawOpen", 0.5], lambda item: item == ["apply"])

    found = stage.heard["vmcp"].wait(whole)
    assert found[0] == ["state", 1]
    assert found[1][0] == "time"
    assert found[1][1] > 0.0
    bones = {item[1]: item[3] for item in found if item[0] == "bone"}
    assert list(bones) == ["Neck", "Head", "LeftEye", "RightEye"]
    for q in bones.values():
        assert sum(value * value for value in q) == pytest.approx(1.0, abs=1e-6)
    assert bones["Head"][1] < 0.0  # to its own left
    assert bones["LeftEye"][1] > 0.0  # to its own right
    assert quaternion_angle(bones["LeftEye"]) == pytest.approx(float(POSE[INDEX["LeftEyeYaw"]]), abs=1e-3)
    shapes = [item[1:] for item in found if item[0] == "shape"]
    assert [name for name, _ in shapes] == list(SHAPES)
    assert [value for _, value in shapes] == pytest.approx(POSE[:52].tolist(), abs=1e-6)
    assert len(found) == 1 + 1 + 4 + 52 + 1


def test_split_vmc_with_presets_is_read_by_node_osc(stage: Stage) -> None:
    def whole(items: list[Any]) -> list[Any]:
        return at_the_pose(
            items, lambda m: m[1:] == ["JawOpen", 0.5], lambda message: message == ["/VMC/Ext/Blend/Apply"]
        )

    found = stage.heard["node"].wait(whole)
    assert found[0] == ["/VMC/Ext/OK", 1]
    shapes = {m[1]: m[2] for m in found if m[0] == "/VMC/Ext/Blend/Val"}
    assert list(shapes) == [*SHAPES, *VRM0]
    assert [shapes[name] for name in SHAPES] == pytest.approx(POSE[:52].tolist(), abs=1e-6)
    assert shapes["A"] > 0.5
    assert shapes["Blink_R"] == 0.375


def test_vmc_in_camel_case_is_read_by_python_oscs_server(stage: Stage) -> None:
    def whole(items: list[Any]) -> list[Any]:
        return at_the_pose(
            items, lambda m: m[1:] == ["jawOpen", 0.5], lambda message: message == ["/VMC/Ext/Blend/Apply"]
        )

    found = stage.heard["camel"].wait(whole)
    shapes = {m[1]: m[2] for m in found if m[0] == "/VMC/Ext/Blend/Val"}
    assert list(shapes) == [name[0].lower() + name[1:] for name in SHAPES]
    assert {type(value) for value in shapes.values()} == {float}
    (head,) = [m for m in found if m[0] == "/VMC/Ext/Bone/Pos"]
    assert head[1] == "Head"
    x, y, z, w = head[5:]
    assert (x > 0.05, y < -0.1, z > 0.02, w > 0.9) == (True,) * 4  # down, to its own left, onto its left ear


def smile(data: bytes) -> float:
    pose = decode(data)
    assert pose is not None
    return float(pose[INDEX["MouthSmileRight"]])


def test_ifacialmocap_is_pushed_without_being_asked_and_no_packet_comes_twice(stage: Stage) -> None:
    def still(items: list[bytes]) -> list[bytes]:
        held = [data for data in items if smile(data) == 0.75]
        return held if len(held) > 30 else []

    packets = stage.heard["ifacialmocap"].wait(still)
    assert all(a != b for a, b in itertools.pairwise(packets))
    text = packets[-1].decode("ascii")
    assert text.startswith("trackingStatus-1|")
    assert "|mouthSmile_R-75|" in text
    assert "|mouthLeft-25|" in text
    head = [float(number) for number in text.partition("=head#")[2].partition("|")[0].split(",")]
    expected = [math.degrees(value) for value in (0.125, 0.25, -0.0625)]
    assert head == pytest.approx([*expected, 0.0, 0.0, 0.0], abs=1e-3)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8")
def test_ifacialmocap_answers_who_asks_for_version_2(stage: Stage) -> None:
    with datagrams("127.0.0.3", 49983) as (receiver, heard):
        receiver.sendto(HANDSHAKE + b"|sendDataVersion=v2", ("127.0.0.1", stage.phone_port))
        packet = heard.wait(lambda items: items and items[-1])
    assert packet.startswith(b"trackingStatus&1|")
    assert smile(packet) == 0.75


def test_vrchat_is_read_by_python_oscs_server(stage: Stage) -> None:
    start = "/avatar/parameters/FT/v2/"
    everything = {f"{start}{name}" for name in PARAMETERS}
    heard = stage.heard["vrchat"]
    before = len(heard.wait(lambda items: [f"{start}JawOpen", 0.5] in items and items))

    def again(items: list[Any]) -> dict[str, Any] | None:
        found = {address: arguments for address, *arguments in items[before:]}
        return found if everything <= set(found) else None

    found = heard.wait(again)
    assert found[f"{start}JawOpen"] == [0.5]
    assert found[f"{start}MouthX"] == [-0.25]
    assert found[f"{start}SmileFrownRight"] == [0.75]
    assert found["/avatar/parameters/EyeTrackingActive"] == [True]
    yaw = math.degrees(float(POSE[INDEX["LeftEyeYaw"]]))
    assert found["/tracking/eye/LeftRightPitchYaw"] == pytest.approx([0.0, yaw, 0.0, yaw], abs=0.1)


def test_vrchat_is_sent_everything_on_every_change_of_avatar_and_not_only_once_a_second(stage: Stage) -> None:
    heard, every = stage.heard["vrchat"], stage.heard["ifacialmocap"]
    jaw = ["/avatar/parameters/FT/v2/JawOpen", 0.5]
    before = heard.wait(lambda items: items.count(jaw))
    with socket.socket(type=socket.SOCK_DGRAM) as game:
        for _ in range(10):
            game.sendto(b"/avatar/change\0\0,s\0\0avtr\0\0\0\0", ("127.0.0.1", stage.change_port))
            frames = len(every.items)
            every.wait(lambda items: len(items) >= frames + 6)  # noqa: B023 - awaited here
    assert heard.wait(lambda items: items.count(jaw) >= before + 8)


def test_face_caps_messages_are_read_by_node_osc(stage: Stage) -> None:
    def whole(items: list[Any]) -> list[Any]:
        return at_the_pose(items, lambda m: m == ["/W", 24, 0.5], lambda message: message[0] == "/HR")

    *weights, head = stage.heard["face cap"].wait(whole)
    assert [message[:2] for message in weights] == [["/W", i] for i in range(52)]
    assert [message[2] for message in weights] == pytest.approx([POSE[INDEX[name]] for name in FACE_CAP], abs=1e-6)
    assert head == ["/HR", *(pytest.approx(math.degrees(value), abs=1e-3) for value in (0.125, 0.25, 0.0625))]


def test_a_sinks_own_rate_gain_mirror_and_filter_show_in_what_it_sends_alone(stage: Stage) -> None:
    expected = mirror(POSE).copy()
    expected[INDEX["JawOpen"]] *= 0.5
    kept = [i for i, name in enumerate(LIVELINK) if name.startswith(("Jaw", "Mouth"))]
    expected[[i for i in range(61) if i not in kept]] = 0.0
    heard = stage.heard["pose"]
    found = heard.wait(lambda items: items and items[-1][1 + INDEX["JawOpen"]] == 0.25 and items[-1])
    assert found[0] == "/kff/Face/pose"
    assert found[1:] == pytest.approx(expected.tolist(), abs=1e-6)
    assert found[1 + INDEX["MouthRight"]] == 0.25
    # Half as many frames as the sinks beside it were sent in the same time.
    every = stage.heard["ifacialmocap"]
    first, others = len(heard.items), len(every.items)
    every.wait(lambda items: len(items) >= others + 60)
    assert 28 <= len(heard.items) - first <= 34


def test_a_sinks_gain_may_be_edited_while_it_runs_and_the_others_go_on(stage: Stage) -> None:
    jaw = 1 + INDEX["JawOpen"]
    edited, others = stage.heard["pose"], stage.heard["ifacialmocap"]
    assert edited.items[-1][jaw] == 0.25
    stage.config.write_text(stage.config.read_text().replace("gain = { JawOpen = 0.5 }", "gain = { JawOpen = 1.5 }"))
    edited.wait(lambda items: items[-1][jaw] == 0.75)
    before = len(others.items)
    others.wait(lambda items: len(items) > before + 30)
    assert {smile(data) for data in others.items[before:]} == {0.75}
