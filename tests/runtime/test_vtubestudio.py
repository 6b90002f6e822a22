"""The sink for VTube Studio against a strict fake, written from its documentation, and against pyvts' fake."""

import asyncio
import contextlib
import itertools
import json
import math
import os
import re
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from kff_live.protocols.channels import COUNT, LIVELINK, Pose, neutral, pose_from_names
from kff_live.protocols.frames import Frame, FrameRate
from kff_live.protocols.keyframe_text import KeyframeJson
from kff_live.protocols.messages import Done, KeyframeEvent
from kff_live.runtime.clock import Clock, ManualClock, SystemClock
from kff_live.runtime.config import Config, VTubeStudio
from kff_live.runtime.sinks import vtubestudio, vtubestudio_finding
from kff_live.runtime.sinks.making import LoopSink, build
from kff_live.runtime.sinks.vtubestudio import KEEP_ALIVE, MAX_UNANSWERED, VTubeStudioSink
from kff_live.runtime.sinks.vtubestudio_finding import Tokens, hear, is_here

pytestmark = pytest.mark.usefixtures("impatient_link")

DEFAULTS = [
    *("FacePositionX", "FacePositionY", "FacePositionZ", "FaceAngleX", "FaceAngleY", "FaceAngleZ", "MouthSmile"),
    *("MouthOpen", "Brows", "MousePositionX", "MousePositionY", "TongueOut", "EyeOpenLeft", "EyeOpenRight"),
    *("EyeLeftX", "EyeLeftY", "EyeRightX", "EyeRightY", "CheekPuff", "BrowLeftY", "BrowRightY", "VoiceFrequency"),
    *("VoiceVolume", "VoiceVolumePlusMouthOpen", "VoiceFrequencyPlusMouthSmile", "MouthX", "FaceAngry"),
]
"""The table of VTube Studio's wiki."""

DRIVEN = 19
"""So many of them come from a face."""


class Refused(Exception):
    """An APIError that the fake answers."""

    def __init__(self, error_id: int) -> None:
        super().__init__(error_id)
        self.id = error_id


async def eventually(condition: Callable[[], object]) -> None:
    """Wait for what nobody announces."""
    async with asyncio.timeout(20.0):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


async def turns() -> None:
    """Let everybody on the loop do what there is to do."""
    for _ in range(20):
        await asyncio.sleep(0)


def is_number(value: Any, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


class FakeVTubeStudio:
    """As strict as the documentation: names, 100 and 300 parameters, 450 to 455, the one-second rule, leave first.

    Args:
        leave: what the user answers; an event is a window that stays open until it is set.
    """

    def __init__(self, clock: Clock, *, leave: bool | asyncio.Event = True) -> None:
        self.clock = clock
        self.leave = leave
        self.port = 0
        self.asked = 0
        self.tokens: set[str] = set()
        self.custom: dict[str, str] = {}
        """Custom parameters, and the plugins that made them."""
        self.defaults = list(DEFAULTS)
        self.values: dict[str, float] = {}
        self.set_at: dict[str, float] = {}
        self.set_by_others: set[str] = set()
        self.requests: list[dict[str, Any]] = []
        self.errors: list[int] = []
        self.expressions = {"smile.exp3.json": False, "angry.exp3.json": False}
        self.pressed: list[str] = []
        self.mute = False
        """Answer no injection."""
        self.backwards = False
        """Answer an injection only after the request that follows it."""
        self.connections: set[ServerConnection] = set()
        self._server: Server | None = None
        self._changed = asyncio.Event()

    async def start(self) -> None:
        self._server = await serve(self._serve, "127.0.0.1", self.port)
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(20.0):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def injections(self) -> list[dict[str, Any]]:
        return [r["data"] for r in self.requests if r["messageType"] == "InjectParameterDataRequest"]

    def lost(self) -> list[str]:
        """Parameters that were set and have gone back by now."""
        return [name for name, at in self.set_at.items() if self.clock.now() - at > 1.0]

    # --- the API

    async def _serve(self, connection: ServerConnection) -> None:
        session: dict[str, bool] = {"allowed": False}
        held: str | None = None
        self.connections.add(connection)
        with contextlib.suppress(ConnectionClosed):
            async for text in connection:
                assert isinstance(text, str)
                answer = await self._answer(text, session)
                is_injection = '"InjectParameterDataRe' in answer or "tell-" in answer
                self._changed.set()
                if is_injection and self.mute:
                    continue
                if is_injection and self.backwards and held is None:
                    held = answer
                    continue
                await connection.send(answer)
                if held is not None:
                    await connection.send(held)
                    held = None
        self.connections.discard(connection)

    async def _answer(self, text: str, session: dict[str, bool]) -> str:
        envelope: dict[str, Any] = {"apiName": "VTubeStudioPublicAPI", "apiVersion": "1.0", "timestamp": 1}
        try:
            request = self._read(text, envelope)
            data = await self._act(request, session)
            envelope["messageType"] = request["messageType"].replace("Request", "Response")
            envelope["data"] = data
        except Refused as refused:
            self.errors.append(refused.id)
            envelope["messageType"] = "APIError"
            envelope["data"] = {"errorID": refused.id, "message": f"error {refused.id} in VTube Studio's words"}
        return json.dumps(envelope)

    def _read(self, text: str, envelope: dict[str, Any]) -> dict[str, Any]:
        try:
            request = json.loads(text, parse_constant=lambda name: 1 / 0)
        except (ValueError, ZeroDivisionError):
            raise Refused(2) from None
        request_id = request.get("requestID", "generated")
        if not (isinstance(request_id, str) and request_id.isascii() and 1 <= len(request_id) <= 64):
            raise Refused(5)
        envelope["requestID"] = request_id
        if request.get("apiName") != "VTubeStudioPublicAPI":
            raise Refused(3)
        if request.get("apiVersion") != "1.0":
            raise Refused(4)
        if not request.get("messageType"):
            raise Refused(6)
        self.requests.append(request)
        return dict(request)

    async def _act(self, request: dict[str, Any], session: dict[str, bool]) -> dict[str, Any]:
        kind, data = request["messageType"], request.get("data") or {}
        if kind == "AuthenticationTokenRequest":
            return await self._ask(data)
        if kind == "AuthenticationRequest":
            if "authenticationToken" not in data:
                raise Refused(100)
            session["allowed"] = data["authenticationToken"] in self.tokens
            assert (data["pluginName"], data["pluginDeveloper"]) == ("kff-live", "kff-live")
            return {"authenticated": session["allowed"], "reason": "because"}
        if not session["allowed"]:
            raise Refused(8)
        if not self.tokens:
            raise Refused(50)
        acts: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "ParameterCreationRequest": self._create,
            "InjectParameterDataRequest": self._inject,
            "InputParameterListRequest": self._list,
            "HotkeyTriggerRequest": self._press,
            "ExpressionActivationRequest": self._express,
        }
        if kind not in acts:
            raise Refused(7)
        return acts[kind](data)

    async def _ask(self, data: dict[str, Any]) -> dict[str, Any]:
        for field, error_id in (("pluginName", 52), ("pluginDeveloper", 53)):
            if not 3 <= len(data.get(field, "")) <= 32:
                raise Refused(error_id)
        self.asked += 1
        if isinstance(self.leave, asyncio.Event):
            if self.asked > 1 and not self.leave.is_set():
                raise Refused(51)
            self._changed.set()
            await self.leave.wait()
        elif not self.leave:
            raise Refused(50)
        token = f"token-{self.asked}"
        self.tokens.add(token)
        return {"authenticationToken": token}

    def _create(self, data: dict[str, Any]) -> dict[str, Any]:
        name = data.get("parameterName", "")
        if not re.fullmatch(r"[A-Za-z0-9]{4,32}", name):
            raise Refused(350)
        if name in DEFAULTS:
            raise Refused(354)
        if not all(is_number(data.get(field), -1e6, 1e6) for field in ("min", "max", "defaultValue")):
            raise Refused(351)
        if len(data.get("explanation", "")) >= 256:
            raise Refused(353)
        if self.custom.get(name, "kff-live") != "kff-live":
            raise Refused(352)
        if name not in self.custom:
            if list(self.custom.values()).count("kff-live") >= 100:
                raise Refused(355)
            if len(self.custom) >= 300:
                raise Refused(356)
        self.custom[name] = "kff-live"
        return {"parameterName": name}

    def _inject(self, data: dict[str, Any]) -> dict[str, Any]:
        mode, entries = data.get("mode", "set"), data.get("parameterValues")
        if mode not in ("set", "add"):
            raise Refused(455)
        if not isinstance(entries, list) or not entries:
            raise Refused(450)
        for entry in entries:
            if not is_number(entry.get("value"), -1e6, 1e6):
                raise Refused(451)
            if not is_number(entry.get("weight", 1), 0, 1):
                raise Refused(452)
            if entry.get("id") not in self.custom and entry.get("id") not in self.defaults:
                raise Refused(453)
            if mode == "set" and entry["id"] in self.set_by_others:
                raise Refused(454)
        for entry in entries:
            self.values[entry["id"]] = entry["value"]
            self.set_at[entry["id"]] = self.clock.now()
        return {}

    def _list(self, data: dict[str, Any]) -> dict[str, Any]:
        def entry(name: str, by: str) -> dict[str, Any]:
            return {"name": name, "addedBy": by, "value": 0.5, "min": 0, "max": 1, "defaultValue": 0}

        return {
            "modelLoaded": True,
            "modelName": "Akari",
            "modelID": "1",
            "customParameters": [entry(name, by) for name, by in self.custom.items()],
            "defaultParameters": [entry(name, "VTube Studio") for name in self.defaults],
        }

    def _press(self, data: dict[str, Any]) -> dict[str, Any]:
        if data.get("hotkeyID") not in ("Jump", "Wave"):
            raise Refused(202)
        self.pressed.append(data["hotkeyID"])
        return {"hotkeyID": "1"}

    def _express(self, data: dict[str, Any]) -> dict[str, Any]:
        file = data.get("expressionFile", "")
        if not file.endswith(".exp3.json"):
            raise Refused(650)
        if file not in self.expressions:
            raise Refused(651)
        assert is_number(data.get("fadeTime", 0.25), 0, 2)
        self.expressions[file] = data["active"]
        return {}


# --- the sink on it


class Stage:
    def __init__(self, fake: FakeVTubeStudio, sink: VTubeStudioSink, life: asyncio.Task[None]) -> None:
        self.fake = fake
        self.sink = sink
        self.life = life
        self._numbers = itertools.count()

    def send(self, pose: Pose | None = None, *, utterance: str | None = None, key: int = -1) -> None:
        self.sink.send(
            Frame("Face", next(self._numbers), 0.0, FrameRate(), neutral() if pose is None else pose, utterance, key)
        )

    async def show(self, pose: Pose | None = None, *, utterance: str | None = None, key: int = -1) -> dict[str, Any]:
        """Send a frame until it is injected; what was injected."""
        before = len(self.fake.injections())
        # The sink takes frames while it is connected.
        await eventually(lambda: self.sink._hub.wanted)
        self.send(pose, utterance=utterance, key=key)
        await self.fake.until(lambda: len(self.fake.injections()) > before)
        return self.fake.injections()[-1]


@contextlib.asynccontextmanager
async def stage(
    folder: Path, *, clock: Clock | None = None, fake: FakeVTubeStudio | None = None, **settings: Any
) -> AsyncIterator[Stage]:
    clock = clock or SystemClock()
    fake = fake or FakeVTubeStudio(clock)
    if not fake.port:
        await fake.start()
    sink = VTubeStudioSink(VTubeStudio(target=f"127.0.0.1:{fake.port}", **settings), clock, folder=folder)
    life = asyncio.create_task(sink.run())
    try:
        yield Stage(fake, sink, life)
    finally:
        life.cancel()
        await asyncio.gather(life, return_exceptions=True)
        await fake.stop()


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scenario())


Told = Callable[[], list[str]]
RAMP: Pose = np.linspace(0.0, 1.0, COUNT, dtype=np.float32)


def test_61_parameters_and_the_default_ones_are_set_and_vtube_studio_has_nothing_to_complain_about(
    tmp_path: Path, told: Told
) -> None:
    async def scenario() -> None:
        async with stage(tmp_path) as s:
            injected = await s.show(RAMP)
            assert s.fake.errors == []
            assert set(s.fake.custom) == {f"Kff{name}" for name in LIVELINK}
            assert len(injected["parameterValues"]) == COUNT + DRIVEN
            assert (injected["mode"], injected["faceFound"]) == ("set", True)
            assert {entry["weight"] for entry in injected["parameterValues"]} == {1}
            assert [s.fake.values[f"Kff{name}"] for name in LIVELINK] == pytest.approx(RAMP, abs=1e-4)
        assert told() == ["VTube Studio asks its user whether kff-live may control it: click Allow there"]

    run(scenario)


def test_a_model_that_knows_nothing_of_ours_moves_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path) as s:
            await s.show()
            at_rest = {name: s.fake.values[name] for name in DEFAULTS if name in s.fake.values}
            assert at_rest["EyeOpenLeft"] == at_rest["EyeOpenRight"] == 0.75
            assert {name for name, value in at_rest.items() if value == 0.5} == {
                *("MouthSmile", "VoiceFrequencyPlusMouthSmile", "Brows", "BrowLeftY", "BrowRightY")
            }
            names = {"HeadYaw": 0.2, "MouthSmileLeft": 1.0, "MouthSmileRight": 1.0, "EyeBlinkLeft": 1.0}
            await s.show(pose_from_names(names))
            assert s.fake.values["FaceAngleX"] == pytest.approx(math.degrees(0.2), abs=1e-3)
            assert s.fake.values["MouthSmile"] == 1.0
            assert (s.fake.values["EyeOpenLeft"], s.fake.values["EyeOpenRight"]) == (0.0, 0.75)

    run(scenario)


def test_the_user_is_asked_once_and_the_token_kept_where_only_he_can_read_it(tmp_path: Path, told: Told) -> None:
    async def scenario() -> None:
        fake = FakeVTubeStudio(SystemClock())
        async with stage(tmp_path, fake=fake) as s:
            await s.show()
        fake.port = 0
        async with stage(tmp_path, fake=fake) as s:
            await s.show()
        assert fake.asked == 1
        assert Tokens(tmp_path).get("127.0.0.1") == "token-1"
        if sys.platform != "win32":
            assert (os.stat(tmp_path / "vtubestudio.json").st_mode & 0o777) == 0o600
        assert len(told()) == 1

    run(scenario)


def test_leave_that_was_taken_back_is_asked_for_again_and_the_parameters_are_made_anew(
    tmp_path: Path, told: Told
) -> None:
    async def scenario() -> None:
        async with stage(tmp_path) as s:
            await s.show()
            s.fake.tokens.clear()  # "If you revoke the token, all its parameters will also be deleted."
            s.fake.custom.clear()
            s.send(RAMP)
            await s.fake.until(lambda: s.fake.asked == 2 and len(s.fake.custom) == COUNT)
            await s.show(RAMP)
        assert s.fake.errors == [50]
        assert Tokens(tmp_path).get("127.0.0.1") == "token-2"
        assert [line for line in told() if "no longer does" in line and line.endswith("it is tried again")]

    run(scenario)


def test_a_user_who_says_no_is_left_alone(tmp_path: Path, told: Told) -> None:
    async def scenario() -> None:
        fake = FakeVTubeStudio(SystemClock(), leave=False)
        async with stage(tmp_path, fake=fake) as s:
            async with asyncio.timeout(20.0):
                await s.life
            assert fake.asked == 1
        assert "its user has not allowed kff-live, so it is left alone" in told()[-1]

    run(scenario)


def test_a_window_that_is_still_open_is_waited_for(tmp_path: Path, told: Told) -> None:
    async def scenario() -> None:
        fake = FakeVTubeStudio(SystemClock(), leave=asyncio.Event())
        async with stage(tmp_path, fake=fake) as s:
            await fake.until(lambda: fake.asked == 1)
            for connection in list(fake.connections):
                connection.transport.abort()
            await fake.until(lambda: fake.asked >= 3)  # 51 twice and more, told once
            assert isinstance(fake.leave, asyncio.Event)
            fake.leave.set()
            await s.show()
        assert sum("already asking the user" in line for line in told()) == 1
        assert sum("click Allow there" in line for line in told()) == 1

    run(scenario)


def test_where_only_so_many_parameters_are_allowed_the_rest_is_set(tmp_path: Path, told: Told) -> None:
    async def scenario() -> None:
        fake = FakeVTubeStudio(SystemClock())
        fake.custom = {f"Other{i}": "another" for i in range(280)}
        async with stage(tmp_path, fake=fake) as s:
            injected = await s.show(RAMP)
            assert len(injected["parameterValues"]) == 20 + DRIVEN
        assert set(fake.errors) == {356}
        assert "41 of our parameters are missing: VTube Studio holds 300 parameters" in told()[-1]

    run(scenario)


def test_a_prefix_that_somebody_else_has_is_told_in_words(tmp_path: Path, told: Told) -> None:
    async def scenario() -> None:
        fake = FakeVTubeStudio(SystemClock())
        fake.custom = {"KffJawOpen": "another"}
        async with stage(tmp_path, fake=fake) as s:
            injected = await s.show(RAMP)
            assert "KffJawOpen" not in [entry["id"] for entry in injected["parameterValues"]]
        assert "another plugin has a parameter of this name; choose another prefix (error 352" in told()[-1]

    run(scenario)


def test_a_default_parameter_that_this_vtube_studio_lacks_is_not_set(tmp_path: Path) -> None:
    async def scenario() -> None:
        fake = FakeVTubeStudio(SystemClock())
        fake.defaults.remove("BrowLeftY")
        async with stage(tmp_path, fake=fake) as s:
            await s.show(RAMP)
            assert "BrowLeftY" not in s.fake.values
            assert s.fake.errors == []

    run(scenario)


def test_only_the_channels_that_a_sink_has_are_set(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path, channels=("jaw", "HeadYaw")) as s:
            await s.show(RAMP)
            ours = {f"Kff{name}" for name in ("JawForward", "JawLeft", "JawRight", "JawOpen", "HeadYaw")}
            assert set(s.fake.values) == ours | {"MouthOpen", "VoiceVolumePlusMouthOpen", "FaceAngleX"}

    run(scenario)


def test_another_plugin_on_a_parameter_is_told_once_with_the_way_out(tmp_path: Path, told: Told) -> None:
    async def scenario() -> None:
        async with stage(tmp_path) as s:
            s.fake.set_by_others.add("MouthOpen")
            for jaw in (0.1, 0.2, 0.3):
                await s.show(pose_from_names({"JawOpen": jaw}))
            await s.fake.until(lambda: s.fake.errors == [454] * 3)
            s.fake.set_by_others.clear()
            await s.show(pose_from_names({"JawOpen": 0.4}))
            await s.fake.until(lambda: s.fake.values["MouthOpen"] == 0.4)
        assert sum('or use mode = "add"' in line for line in told()) == 1

    run(scenario)


def test_adding_to_the_tracking_adds_nothing_at_rest_and_sets_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path, mode="add", weight=0.5) as s:
            s.fake.set_by_others.add("MouthOpen")
            injected = await s.show()
            assert {entry["value"] for entry in injected["parameterValues"]} == {0}
            assert injected["mode"] == "add"
            assert "faceFound" not in injected
            await s.show(pose_from_names({"EyeBlinkLeft": 1.0, "MouthFrownLeft": 0.4, "MouthFrownRight": 0.4}))
            assert s.fake.values["EyeOpenLeft"] == -0.75
            assert s.fake.values["MouthSmile"] == pytest.approx(-0.2)
            assert s.fake.errors == []

    run(scenario)


def test_weight_is_sent_with_every_value(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path, weight=0.25) as s:
            injected = await s.show(RAMP)
            assert {entry["weight"] for entry in injected["parameterValues"]} == {0.25}

    run(scenario)


def test_a_face_that_does_not_move_keeps_its_parameters_and_is_not_sent_at_every_frame(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        async with stage(tmp_path, clock=clock) as s:
            await s.show(RAMP)
            for step in range(1, 5 * 64 + 1):
                clock.advance(1 / 64)
                s.send(RAMP)
                await turns()
                if step % 32 == 0:
                    await s.fake.until(lambda: len(s.fake.injections()) == 1 + step // 32)  # noqa: B023 - awaited here
                assert s.fake.lost() == []
            assert len(s.fake.injections()) == 1 + 5 / KEEP_ALIVE
            assert len(s.fake.set_at) == COUNT + DRIVEN

    run(scenario)


def test_a_loop_that_is_held_up_costs_no_frame(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path) as s:
            await s.show()
            before = len(s.fake.injections())
            jaws = [number / 100 for number in range(1, 31)]
            for jaw in jaws:  # and the loop has no turn
                s.send(pose_from_names({"JawOpen": jaw}))
            await s.fake.until(lambda: len(s.fake.injections()) >= before + 30)
            values = [
                next(entry["value"] for entry in injected["parameterValues"] if entry["id"].endswith("JawOpen"))
                for injected in s.fake.injections()[before:]
            ]
            assert values == pytest.approx(jaws, abs=1e-3)

    run(scenario)


def test_frames_that_stop_coming_do_not_let_the_face_fall(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        async with stage(tmp_path, clock=clock) as s:
            await s.show(RAMP)
            for count in range(2, 8):
                clock.advance(KEEP_ALIVE)
                await s.fake.until(lambda: len(s.fake.injections()) == count)  # noqa: B023 - awaited here
                assert s.fake.lost() == []

    run(scenario)


def test_the_strict_fake_does_lose_what_is_not_sent() -> None:
    clock = ManualClock()
    fake = FakeVTubeStudio(clock)
    fake._inject({"parameterValues": [{"id": "MouthOpen", "value": 1.0}]})
    clock.advance(1.0)
    assert fake.lost() == []
    clock.advance(0.01)
    assert fake.lost() == ["MouthOpen"]


def test_answers_that_come_late_and_in_another_order_hold_nothing_up(tmp_path: Path) -> None:
    async def scenario() -> None:
        fake = FakeVTubeStudio(SystemClock())
        fake.backwards = True
        async with stage(tmp_path, fake=fake) as s:
            for i in range(100):
                await s.show(pose_from_names({"JawOpen": i / 100}))
            assert fake.errors == []
            assert s.sink.lost == 0

    run(scenario)


def test_a_vtube_studio_that_does_not_answer_gets_no_more_and_the_newest_when_it_does(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        fake = FakeVTubeStudio(clock)
        async with stage(tmp_path, clock=clock, fake=fake) as s:
            fake.mute = True
            for i in range(MAX_UNANSWERED):
                await s.show(pose_from_names({"JawOpen": i / 100}))
            for i in range(5):
                lost = s.sink.lost
                s.send(pose_from_names({"JawOpen": 0.9 + i / 100}))
                await eventually(lambda: s.sink.lost > lost)  # noqa: B023 - awaited here
            assert len(fake.injections()) == MAX_UNANSWERED
            assert s.sink.lost == 5

    run(scenario)


def keyframe(text_id: str, index: int, label: str) -> KeyframeEvent:
    return KeyframeEvent(text_id, "Face", index, KeyframeJson(pose={}, label=label), "")


def test_labels_show_expressions_and_press_hotkeys_when_the_face_sets_out_for_them(tmp_path: Path) -> None:
    async def scenario() -> None:
        expressions = {"joy": "smile.exp3.json", "anger": "angry.exp3.json"}
        async with stage(tmp_path, expressions=expressions, hotkeys={"great surprise": "Jump"}) as s:
            await s.show()
            for index, label in enumerate(["Bright JOY", "a great, glad surprise", "cold anger"]):
                s.sink.event("Face", keyframe("t", index, label))
            assert not any(s.fake.expressions.values())  # written, but not acted yet
            shown = []
            for key in range(4):
                for step in range(3):
                    await s.show(pose_from_names({"JawOpen": 0.1 * key + 0.01 * step}), utterance="t", key=key)
                shown.append([name for name, active in s.fake.expressions.items() if active])
            assert shown == [["smile.exp3.json"], [], ["angry.exp3.json"], []]
            assert s.fake.pressed == ["Jump"]
            s.sink.event("Face", Done("t", "Face", 3, 0))
            assert s.sink._labels == {}
            assert s.fake.errors == []

    run(scenario)


def test_an_expression_is_put_away_when_we_leave(tmp_path: Path) -> None:
    async def scenario() -> None:
        fake = FakeVTubeStudio(SystemClock())
        async with stage(tmp_path, fake=fake, expressions={"joy": "smile.exp3.json"}) as s:
            s.sink.event("Face", keyframe("t", 0, "joy"))
            await s.show(utterance="t", key=0)
            assert fake.expressions["smile.exp3.json"]
            s.life.cancel()
            await fake.until(lambda: not fake.expressions["smile.exp3.json"])

    run(scenario)


def test_an_expression_or_hotkey_that_the_model_lacks_is_told_once(tmp_path: Path, told: Told) -> None:
    async def scenario() -> None:
        async with stage(tmp_path, expressions={"joy": "gone.exp3.json"}, hotkeys={"joy": "Gone"}) as s:
            for index in range(4):
                s.sink.event("Face", keyframe("t", index, "joy" if index % 2 == 0 else ""))
            for key in range(4):
                await s.show(pose_from_names({"JawOpen": 0.1 * key}), utterance="t", key=key)
            await s.show(RAMP)
        assert sum("no such expression file: look into its folder (error 651" in line for line in told()) == 1
        assert sum("no such hotkey" in line for line in told()) == 1

    run(scenario)


def test_closed_and_opened_again_it_recovers_and_says_each_once(
    tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []

    def counted(uri: str, **options: Any) -> Any:
        tries.append(uri)
        return connect(uri, **options)

    monkeypatch.setattr(vtubestudio, "connect", counted)

    async def scenario() -> None:
        fake = FakeVTubeStudio(SystemClock())
        async with stage(tmp_path, fake=fake) as s:
            await s.show(RAMP)
            await fake.stop()
            await fake.until(lambda: not fake.connections)
            await eventually(lambda: len(tries) > 3)
            fake.values.clear()
            await fake.start()
            await s.show(RAMP)
            assert fake.asked == 1
            assert len(fake.values) == COUNT + DRIVEN
        assert told()[1:] == [
            "VTube Studio: it has closed the connection; it is tried again",
            "VTube Studio: connected",
        ]

    run(scenario)


def test_a_vtube_studio_that_is_not_there_yet_is_waited_for(tmp_path: Path, told: Told, free_port: int) -> None:
    async def scenario() -> None:
        fake = FakeVTubeStudio(SystemClock())
        fake.port = free_port
        sink = VTubeStudioSink(VTubeStudio(target=f"127.0.0.1:{free_port}"), SystemClock(), folder=tmp_path)
        life = asyncio.create_task(sink.run())
        await eventually(told)
        await fake.start()
        await eventually(lambda: sink._hub.wanted)
        sink.send(Frame("Face", 0, 0.0, FrameRate(), RAMP))
        await fake.until(fake.injections)
        life.cancel()
        await asyncio.gather(life, return_exceptions=True)
        await fake.stop()
        assert told()[0] == (
            f"VTube Studio: it does not answer at 127.0.0.1:{free_port}; is it running, with 'Start API (allow "
            "plugins)' on?; it is tried again"
        )
        assert told()[-1] == "VTube Studio: connected"

    run(scenario)


# --- finding it


def broadcast(*, active: bool = True, port: int = 8001) -> bytes:
    data = {"active": active, "port": port, "instanceID": "93aa", "windowTitle": "VTube Studio"}
    kind = "VTubeStudioAPIStateBroadcast"
    return json.dumps(
        {
            "apiName": "VTubeStudioPublicAPI",
            "apiVersion": "1.0",
            "timestamp": 1,
            "requestID": kind,
            "messageType": kind,
            "data": data,
        }
    ).encode()


async def shout(data: bytes, port: int, until: asyncio.Event) -> None:
    """Broadcast, here to one listener, until it was heard."""
    with socket.socket(type=socket.SOCK_DGRAM) as udp:
        while not until.is_set():
            udp.sendto(data, ("127.0.0.1", port))
            await asyncio.sleep(0.01)


def test_its_port_is_what_it_broadcasts(tmp_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async def near(clock: Clock) -> vtubestudio_finding.Heard:
        return await hear(clock, port=free_port)

    async def scenario() -> None:
        monkeypatch.setattr(vtubestudio, "hear", near)
        fake = FakeVTubeStudio(SystemClock())
        await fake.start()
        sink = VTubeStudioSink(VTubeStudio(), SystemClock(), folder=tmp_path)
        life, heard = asyncio.create_task(sink.run()), asyncio.Event()
        shouting = asyncio.create_task(shout(broadcast(port=fake.port), free_port, heard))
        await fake.until(lambda: len(fake.custom) == COUNT)
        heard.set()
        life.cancel()
        await asyncio.gather(life, shouting, return_exceptions=True)
        await fake.stop()

    run(scenario)


def test_one_whose_api_is_off_is_told_how_to_turn_it_on(
    tmp_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    async def near(clock: Clock) -> vtubestudio_finding.Heard:
        return await hear(clock, port=free_port)

    async def scenario() -> None:
        monkeypatch.setattr(vtubestudio, "hear", near)
        sink = VTubeStudioSink(VTubeStudio(), SystemClock(), folder=tmp_path)
        life, heard = asyncio.create_task(sink.run()), asyncio.Event()
        shouting = asyncio.create_task(shout(b"{}", free_port, heard))
        also = asyncio.create_task(shout(broadcast(active=False), free_port, heard))
        await eventually(told)
        heard.set()
        life.cancel()
        await asyncio.gather(life, shouting, also, return_exceptions=True)
        assert told()[0].startswith("VTube Studio: it is running, but plugins are switched off: in VTube")

    run(scenario)


def test_no_token_goes_to_another_machine_because_it_says_that_it_is_vtube_studio() -> None:
    listener = vtubestudio_finding._Listener()
    listener.datagram_received(broadcast(port=9000), ("192.0.2.1", 47779))
    assert listener.heard == vtubestudio_finding.Heard(None, "192.0.2.1:9000")
    assert not listener.found.is_set()
    listener.datagram_received(broadcast(port=9001), ("127.0.0.1", 47779))
    assert vtubestudio_finding.default_port(listener.heard) == 9001
    assert (is_here("127.0.0.1"), is_here("192.0.2.1")) == (True, False)


def test_where_nothing_is_heard_the_usual_port_is_tried(free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vtubestudio_finding, "HEAR_SECONDS", 0.01)
    heard = asyncio.run(hear(SystemClock(), port=free_port))
    assert vtubestudio_finding.default_port(heard) == 8001


@pytest.mark.parametrize("text", ["", "[]", "{", '{"127.0.0.1": 5}', "\0" * 10])
def test_a_damaged_file_of_tokens_is_no_token(tmp_path: Path, text: str) -> None:
    tokens = Tokens(tmp_path)
    tokens.path.write_text(text)
    assert tokens.get("127.0.0.1") == ""
    tokens.put("127.0.0.1", "t")
    tokens.put("192.168.1.5", "u")
    tokens.put("127.0.0.1", "")
    assert (tokens.get("127.0.0.1"), tokens.get("192.168.1.5")) == ("", "u")


def test_a_token_that_cannot_be_kept_is_told(tmp_path: Path, told: Told) -> None:
    (tmp_path / "file").write_text("")
    Tokens(tmp_path / "file" / "folder").put("127.0.0.1", "t")
    assert "token cannot be kept, it will ask again" in told()[0]


def test_the_sink_of_a_config_lives_on_the_loop_also_behind_a_rate() -> None:
    for settings in (VTubeStudio(), VTubeStudio(rate=30.0, mirror=True)):
        sink = build(settings, Config())["Face"]
        assert isinstance(sink, LoopSink)
        assert sink.name == "VTube Studio"
        sink.close()


# --- somebody else's


def test_pyvts_fake_vtube_studio_takes_us(tmp_path: Path, require: Callable[[str], ModuleType], free_port: int) -> None:
    fake = require("pyvts.tests.test_utils").FakeVtubeStudioAPIServer()

    class Envelope:
        """What VTube Studio puts around each answer and pyvts' fake leaves out: the request's id and the type."""

        def __init__(self, connection: ServerConnection) -> None:
            self._connection = connection

        async def recv(self) -> str:
            text = await self._connection.recv()
            assert isinstance(text, str)
            self._request = json.loads(text)
            return text

        async def send(self, text: str) -> None:
            answer = json.loads(text)
            failed = "errorID" in answer["data"]
            kind = "APIError" if failed else self._request["messageType"].replace("Request", "Response")
            await self._connection.send(
                json.dumps({**answer, "messageType": kind, "requestID": self._request["requestID"]})
            )

    async def scenario() -> None:
        async def handle(connection: ServerConnection) -> None:
            with contextlib.suppress(ConnectionClosed):
                await fake.handler(Envelope(connection))

        async with serve(handle, "127.0.0.1", free_port):
            settings = VTubeStudio(target=f"127.0.0.1:{free_port}", weight=0.5)
            sink = VTubeStudioSink(settings, SystemClock(), folder=tmp_path)
            life = asyncio.create_task(sink.run())
            await eventually(lambda: len(fake.custom_param) == COUNT)
            assert fake.custom_param["KffHeadYaw"] == {"min": -1.0, "max": 1.0, "defaultValue": 0.0, "value": 0.0}
            await eventually(lambda: sink._hub.wanted)
            sink.send(Frame("Face", 0, 0.0, FrameRate(), RAMP))
            await eventually(lambda: fake.custom_param["KffRightEyeRoll"]["value"] != 0.0)
            values = [fake.custom_param[f"Kff{name}"]["value"] for name in LIVELINK]
            assert values == pytest.approx(0.5 * RAMP, abs=1e-4)  # weight 0.5 of the way from 0
            assert Tokens(tmp_path).get("127.0.0.1") == fake.token
            life.cancel()
            await asyncio.gather(life, return_exceptions=True)

    run(scenario)
