"""Sinks that live on the asyncio loop, in a whole runtime: they come and go with the settings and act its labels."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import platformdirs
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from kff_live.protocols.keyframe_text import KeyframeJson
from kff_live.protocols.messages import Done, Event, Keyframes
from kff_live.runtime.app import App
from kff_live.runtime.config import DEFAULTS, Config, decode
from tests.runtime.ports import free_port

pytestmark = pytest.mark.usefixtures("ordinary")

DEADLINE = 60.0


def settings(sinks: str) -> Config:
    return decode(
        f'[model]\nengine = "none"\n[websocket]\nport = {free_port()}\n[osc_in]\nenabled = false\n'
        f"[idle]\nenabled = false\n{sinks}"
    )


@asynccontextmanager
async def running(config: Config) -> AsyncIterator[App]:
    app = App(config, DEFAULTS)
    life = asyncio.create_task(app.run())
    try:
        yield app
    finally:
        app.stop()
        await life


async def eventually(condition: Any) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
        return True
    return False


def device(port: int) -> str:
    return f'[[sinks]]\ntype = "livelink-device"\nexperimental = true\nport = {port}\n'


def test_an_edit_of_the_settings_ends_one_and_begins_another() -> None:
    async def scenario() -> None:
        one, two = free_port(), free_port()
        config = settings(device(one))
        async with running(config) as app:
            await eventually(lambda: listens(one))
            app.apply(decode_sinks(config, device(two)))
            await eventually(lambda: listens(two) and not listens(one))
            app.apply(decode_sinks(config, device(two) + device(one)))
            await eventually(lambda: listens(one) and listens(two))
        assert not listens(one)
        assert not listens(two)

    asyncio.run(scenario())


def decode_sinks(config: Config, sinks: str) -> Config:
    return msgspec.structs.replace(config, sinks=decode(sinks).sinks)


def test_labels_of_acted_keyframes_reach_vtube_studio_while_they_are_acted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platformdirs, "user_data_dir", lambda name: str(tmp_path / name))
    requests: list[dict[str, Any]] = []

    async def agree(connection: ServerConnection) -> None:
        """A VTube Studio that is content with everything."""
        with suppress(ConnectionClosed):
            async for text in connection:
                request = json.loads(text)
                requests.append(request)
                data = {"authenticated": True, "authenticationToken": "t", "defaultParameters": [{"name": "MouthOpen"}]}
                await connection.send(
                    json.dumps(
                        {
                            "requestID": request["requestID"],
                            "messageType": request["messageType"].replace("Request", "Response"),
                            "data": data,
                        }
                    )
                )

    def shown() -> list[tuple[str, bool]]:
        found = [r["data"] for r in requests if r["messageType"] == "ExpressionActivationRequest"]
        return [(data["expressionFile"], data["active"]) for data in found]

    async def scenario() -> None:
        async with serve(agree, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            sink = (
                f'[[sinks]]\ntype = "vtubestudio"\ntarget = "127.0.0.1:{port}"\nrate = 30.0\n'
                'expressions = { joy = "smile.exp3.json" }\nhotkeys = { wonder = "Jump" }\n'
            )
            async with running(settings(sink)) as app:
                await eventually(lambda: any(r["messageType"] == "InjectParameterDataRequest" for r in requests))
                assert (tmp_path / "kff-live" / "vtubestudio.json").is_file()
                events: list[Event] = []
                keyframes = [
                    KeyframeJson(pose={"JawOpen": 0.6}, label="great joy", way=0.1, hold=0.2),
                    KeyframeJson(pose={"JawOpen": 0.2}, label="wonder", way=0.1, hold=0.2),
                ]
                app.desk.hand_in(Keyframes(keyframes=keyframes), events.append, source="test")
                await eventually(lambda: any(isinstance(event, Done) for event in events))
            assert shown() == [("smile.exp3.json", True), ("smile.exp3.json", False)]
            assert [r["data"]["hotkeyID"] for r in requests if r["messageType"] == "HotkeyTriggerRequest"] == ["Jump"]
            jaw = [
                entry["value"]
                for r in requests
                if r["messageType"] == "InjectParameterDataRequest"
                for entry in r["data"]["parameterValues"]
                if entry["id"] == "KffJawOpen"
            ]
            assert max(jaw) == pytest.approx(0.6, abs=0.01)
            assert jaw[-1] == 0.0

    asyncio.run(scenario())
