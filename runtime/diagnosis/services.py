"""The doctor's look at what kff-live connects to: VTube Studio and an MQTT broker, where the settings have them."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import platformdirs
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from kff_live.protocols.errors import UserError
from kff_live.protocols.vtubestudio import Refusal
from kff_live.runtime import loop
from kff_live.runtime.clock import SystemClock
from kff_live.runtime.config import Config, VTubeStudio, parse_target
from kff_live.runtime.diagnosis.result import Result
from kff_live.runtime.link import Lost
from kff_live.runtime.sinks.vtubestudio_api import Api
from kff_live.runtime.sinks.vtubestudio_finding import LOCAL, Tokens, default_port, hear

_ANSWER_SECONDS = 5.0


def vtube_studio(config: Config) -> Iterator[Result]:
    """Whether VTube Studio is there, lets plugins in, and knows us."""
    for sink in config.sinks:
        if isinstance(sink, VTubeStudio):
            yield loop.run(_ask(sink))


async def _ask(sink: VTubeStudio) -> Result:
    if sink.target:
        host, port = parse_target(sink.target, where="target")
    else:
        heard = await hear(SystemClock())
        if heard.here is not None and not heard.here.active:
            cure = "in its settings turn on 'Start API (allow plugins)'"
            return Result("vtube", "error", "VTube Studio is running, but plugins are switched off", cure)
        host, port = LOCAL, default_port(heard)
    shown = f"[{host}]" if ":" in host else host
    try:
        version = await _version(f"ws://{shown}:{port}")
    except (OSError, WebSocketException):
        cure = "start it, and in its settings turn on 'Start API (allow plugins)'"
        return Result("vtube", "error", f"VTube Studio does not answer at {shown}:{port}", cure)
    except (Refusal, Lost) as error:
        return Result("vtube", "error", f"what answers at {shown}:{port} is not VTube Studio, or is unwell: {error}")
    found = f"VTube Studio {version} answers at {shown}:{port}"
    if Tokens(Path(platformdirs.user_data_dir("kff-live"))).get(host):
        return Result("vtube", "ok", found)
    return Result("vtube", "note", f"{found}; it will ask its user about kff-live once", "click Allow there")


async def _version(url: str) -> str:
    async with connect(
        url, compression=None, proxy=None, open_timeout=_ANSWER_SECONDS, close_timeout=1.0
    ) as connection:
        api = Api(connection, refused=lambda refusal: None)
        reading = asyncio.create_task(api.read(), name="answers of VTube Studio")
        try:
            answer = await api.ask("APIState", within=_ANSWER_SECONDS)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
    return str(answer.get("vTubeStudioVersion", ""))[:40]


def broker(config: Config) -> Iterator[Result]:
    """Whether the MQTT broker lets us in."""
    if not config.mqtt.enabled:
        return
    try:
        from kff_live.runtime.mqtt import reach

        loop.run(reach(config.mqtt))
        yield Result("mqtt", "ok", f"the broker at {config.mqtt.host}:{config.mqtt.port} lets us in")
    except Lost as error:
        yield Result("mqtt", "error", str(error), "start it, or correct [mqtt] in config.toml")
    except UserError as error:
        yield Result("mqtt", "error", str(error))
