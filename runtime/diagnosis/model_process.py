"""Loads the model as `run` would, in a process of its own, which llama.cpp may end; and asks it for GPUs.

Reads EngineSettings as JSON from standard input, writes `Loaded` as JSON to standard output. All layers stay on the
CPU: a second copy of the model would not fit into the memory of a GPU beside the first.
"""

import ctypes
import sys

import msgspec

from kff_live.protocols.errors import KffError
from kff_live.runtime.clock import SystemClock
from kff_live.runtime.model.generator_wire import EngineSettings


class Loaded(msgspec.Struct, frozen=True):
    """What was loaded, or `error`; `gpu` is whether llama.cpp was built for one, `devices` what it sees."""

    gpu: bool = False
    devices: tuple[str, ...] = ()
    context: int = 0
    seconds: float = 0.0
    error: str = ""


def main() -> None:
    """Load and tell."""
    settings = msgspec.json.decode(sys.stdin.read(), type=EngineSettings)
    sys.stdout.write(msgspec.json.encode(_load(settings)).decode())


def _load(settings: EngineSettings) -> Loaded:
    from kff_live.runtime.model.llama import Engine, supports_gpu

    class Probe(Engine):
        """An engine that does not read its prompt, which takes longer than all else."""

        def _read_prefix(self) -> None:
            pass

    gpu, devices = supports_gpu(), _devices()
    clock = SystemClock()
    start = clock.now()
    try:
        probe = Probe(msgspec.structs.replace(settings, gpu_layers=0), clock)
    except KffError as error:
        return Loaded(gpu, devices, error=str(error))
    return Loaded(gpu, devices, probe.info.context, round(clock.now() - start, 2))


def _devices() -> tuple[str, ...]:
    """The names of the GPUs that llama.cpp sees; none where this build cannot be asked."""
    try:
        from llama_cpp._ggml import libggml

        get, describe = libggml.ggml_backend_dev_get, libggml.ggml_backend_dev_description
        get.restype, get.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
        describe.restype, describe.argtypes = ctypes.c_char_p, [ctypes.c_void_p]
        kind = libggml.ggml_backend_dev_type
        kind.argtypes = [ctypes.c_void_p]
        libggml.ggml_backend_dev_count.restype = ctypes.c_size_t
        found = [get(i) for i in range(libggml.ggml_backend_dev_count())]
        return tuple(describe(device).decode("utf-8", "replace") for device in found if kind(device) in _GPUS)
    except (ImportError, AttributeError):
        return ()


_GPUS = (1, 2)  # GGML_BACKEND_DEVICE_TYPE_GPU and _IGPU; 0 is the CPU, 3 an accelerator beside it

if __name__ == "__main__":
    main()
