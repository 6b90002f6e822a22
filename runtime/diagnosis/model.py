"""The doctor's look at the model: the file, whether llama.cpp loads it, a GPU, a server."""

import asyncio
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from kff_live.protocols.errors import UserError
from kff_live.runtime import loop
from kff_live.runtime.config import Config, Llama, OpenAI
from kff_live.runtime.diagnosis.model_process import Loaded
from kff_live.runtime.diagnosis.result import Result
from kff_live.runtime.model.choice import engine_settings
from kff_live.runtime.model.generator import ModelState
from kff_live.runtime.model.generator_wire import EngineSettings

LOAD_SECONDS = 60.0
"""Time that a model may take to load before the doctor goes on."""

_ASK_SECONDS = 6.0
_INSTALL = "type  pip install 'kff-live[embedded]'"


def model(config: Config) -> Iterator[Result]:
    """The model of the settings."""
    if isinstance(config.model, Llama):
        yield from _llama(config.model)
    elif isinstance(config.model, OpenAI):
        yield _server(config.model)
    else:
        yield Result(
            "model", "note", 'engine "none": every text gets the same smile', 'set engine = "llama" in [model]'
        )


def _llama(settings: Llama) -> Iterator[Result]:
    if importlib.util.find_spec("llama_cpp") is None:
        yield Result("model", "error", "llama-cpp-python is not installed", _INSTALL)
        return
    try:
        engine = engine_settings(settings)
    except UserError as error:
        yield Result("model", "error", str(error))
        return
    loaded = _load(engine)
    path = Path(engine.path)
    if loaded.error:
        cure = "fetch the file again, or take another model: model.path in config.toml"
        yield Result("model", "error", loaded.error, cure)
    else:
        adapter = f", with the adapter {Path(engine.adapter).name}" if engine.adapter else ""
        size = path.stat().st_size / 1e6
        yield Result("model", "ok", f"{path.name}, {size:.0f} MB, loads in {loaded.seconds:.1f} s{adapter}")
    yield _gpu(loaded, settings.gpu_layers)


def _load(settings: EngineSettings) -> Loaded:
    command = [sys.executable, "-m", "kff_live.runtime.diagnosis.model_process"]
    try:
        ended = subprocess.run(
            command, input=msgspec.json.encode(settings), capture_output=True, timeout=LOAD_SECONDS, check=False
        )
        return msgspec.json.decode(ended.stdout, type=Loaded)
    except subprocess.TimeoutExpired:
        return Loaded(error=f"{settings.path}: it has not loaded in {LOAD_SECONDS:g} s")
    except msgspec.DecodeError:
        said = ended.stderr.decode("utf-8", "replace").strip().splitlines()
        last = f": {said[-1][:200]}" if said else ""
        return Loaded(error=f"{settings.path}: llama.cpp ended with status {ended.returncode} as it loaded{last}")


def _gpu(loaded: Loaded, layers: int) -> Result:
    if loaded.gpu:
        names = ", ".join(loaded.devices)
        if not names:
            cure = "is its driver installed? Until then the CPU is used"
            return Result("gpu", "warning", "llama.cpp was built for a GPU and sees none", cure)
        if layers == 0:
            return Result("gpu", "note", f"{names} is not used: model.gpu_layers is 0", "set it to -1 for all layers")
        return Result("gpu", "ok", f"llama.cpp was built for a GPU and sees {names}")
    seen = _nvidia()
    if seen:
        cure = "build it for CUDA as README says under 'A GPU'"
        return Result("gpu", "note", f"{seen} is here, but llama.cpp was built for the CPU alone", cure)
    return Result("gpu", "note", "llama.cpp was built for the CPU alone; it is fast enough for small models")


def _nvidia() -> str:
    """The first GPU that nvidia-smi names, or nothing."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    command = [program, "--query-gpu=name", "--format=csv,noheader"]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=_ASK_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ended.stdout.partition("\n")[0].strip() if ended.returncode == 0 else ""


def _server(settings: OpenAI) -> Result:
    try:
        state = loop.run(_ask(settings))
    except UserError as error:
        return Result("model", "error", str(error))
    if state == "ready":
        return Result("model", "ok", f"{settings.base_url} answers")
    return Result(
        "model", "error", f"{settings.base_url} does not answer", "start the server, or correct model.base_url"
    )


async def _ask(settings: OpenAI) -> ModelState:
    """What the server's own generator says of it."""
    from kff_live.runtime.model.openai_server import OpenAIServer

    answered = asyncio.Event()
    server = OpenAIServer(settings, on_state=lambda state: answered.set())
    task = asyncio.create_task(server.run(), name="the doctor's question")
    with suppress(TimeoutError):
        async with asyncio.timeout(_ASK_SECONDS):
            await answered.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return server.state
