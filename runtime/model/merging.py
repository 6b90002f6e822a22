"""Our adapter merged into the embedded model, once, into the user's cache: it then runs as fast as any model.

Beside its base an adapter costs two small multiplications at each of a layer's seven matrices; docs/speed.md has both.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import gguf
import msgspec
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFReader, GGUFValueType, GGUFWriter

from kff_live.protocols.errors import UserError
from kff_live.runtime.model.generator_wire import EngineSettings

KEPT_SECONDS = 30 * 86_400.0
"""A merged model takes some 100 MB; one that was not used for so long goes when another is made."""

ROUND_TO = "kff.round_to"
"""The key of an adapter's file that says how the matrices which it changes are to be rounded, as its training knew."""

_FORMS = (Type.Q4_0.name, Type.Q8_0.name)

Progress = Callable[[float], None]
"""Called with the share that is done, 0 to 1."""


def prepared(settings: EngineSettings, *, progress: Progress = lambda share: None) -> EngineSettings:
    """The settings with model and adapter as one file, where they ask for that.

    Raises:
        UserError: as `merged`.
    """
    if not settings.merge:
        return settings
    path = merged(Path(settings.path), Path(settings.adapter), Path(settings.merge), progress=progress)
    return msgspec.structs.replace(settings, path=str(path), adapter="", merge="")


def merged(base: Path, adapter: Path, folder: Path, *, progress: Progress = lambda share: None) -> Path:
    """The path of `base` with `adapter` merged; made unless `folder` has it whole.

    What the adapter changes is written as the adapter's ROUND_TO says, the rest of the matrices as Q8_0.

    The name holds a hash of both files, and beside it lies the hash of the result, so that another model, another
    adapter or a damaged file is noticed and it is made anew. It is put in place at once. What other adapters made is
    removed when nobody has used it for KEPT_SECONDS.

    Raises:
        UserError: the adapter does not fit the model, or the folder cannot be written.
    """
    both = hashlib.sha256(f"{_hash(base)} {_hash(adapter)}".encode()).hexdigest()
    name = f"{base.stem}+kff-{both[:12]}.gguf"
    path, seal = folder / name, folder / f"{name}.sha256"
    try:
        if seal.is_file() and path.is_file() and seal.read_text(encoding="ascii") == _hash(path):
            with suppress(OSError):  # a folder that may only be read will do
                seal.touch()
            return path
        folder.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=folder, prefix=name, suffix=".part")
        os.close(handle)
        try:
            _merge(base, adapter, Path(draft), progress)
            sealed = _hash(Path(draft))
            os.replace(draft, path)
        finally:
            Path(draft).unlink(missing_ok=True)
        seal.write_text(sealed, encoding="ascii")
        _clear(folder, seal.stat().st_mtime - KEPT_SECONDS)
    except OSError as error:
        raise UserError(f"the model cannot be written to {folder}: {error.strerror}") from None
    return path


def _clear(folder: Path, before: float) -> None:
    """Remove merged models that were last used before then."""
    for seal in folder.glob("*+kff-*.gguf.sha256"):
        with suppress(OSError):  # another kff-live has it open, or has removed it
            if seal.stat().st_mtime < before:
                seal.with_suffix("").unlink(missing_ok=True)
                seal.unlink()


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _merge(base: Path, adapter: Path, out: Path, progress: Progress) -> None:
    model, changes = GGUFReader(base), _Adapter(adapter)
    writer = GGUFWriter(out, _text(model, "general.architecture"))
    for field in model.fields.values():
        if not field.name.startswith(("GGUF.", "general.architecture", "general.file_type", "general.quantization")):
            kind = field.types[0]
            writer.add_key_value(
                field.name, field.contents(), kind, field.types[-1] if kind == GGUFValueType.ARRAY else None
            )
    writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{changes.form.name}"])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for i, tensor in enumerate(model.tensors):
        progress(i / len(model.tensors))
        if tensor.tensor_type in (Type.F32, Type.F16) and len(tensor.shape) == 1:
            writer.add_tensor(tensor.name, tensor.data)
            continue
        weights = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        change = changes.take(tensor.name)
        form = Type.Q8_0
        if change is not None:
            if change.shape != weights.shape:
                raise UserError(f"{adapter}: {tensor.name} is {change.shape}, the model's {weights.shape}")
            weights, form = weights + change, changes.form
        writer.add_tensor(tensor.name, gguf.quants.quantize(weights, form), raw_dtype=form)
    if changes.left:
        raise UserError(f"{adapter}: the model has no {changes.left[0]}")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    progress(1.0)


class _Adapter:
    """A LoRA in GGUF form, as the change of each weight; `form`: what they are to be written as."""

    def __init__(self, path: Path) -> None:
        reader = GGUFReader(path)
        if "adapter.lora.alpha" not in reader.fields:
            raise UserError(f"{path}: not a LoRA adapter")
        form = _text(reader, ROUND_TO) if ROUND_TO in reader.fields else Type.Q8_0.name
        if form not in _FORMS:
            raise UserError(f"{path}: {ROUND_TO} is {form!r}; expected one of {', '.join(_FORMS)}")
        self.form = Type[form]
        self._alpha = float(reader.fields["adapter.lora.alpha"].contents())
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}

    @property
    def left(self) -> list[str]:
        """Weights that nobody has taken."""
        return [name.removesuffix(".lora_a") for name in self._tensors if name.endswith(".lora_a")]

    def take(self, name: str) -> Any | None:
        """The change of a weight, as llama.cpp computes it: alpha / rank x B A; None where there is none."""
        a, b = self._tensors.pop(f"{name}.lora_a", None), self._tensors.pop(f"{name}.lora_b", None)
        if a is None or b is None:
            return None
        return (self._alpha / a.data.shape[0]) * (b.data.astype(np.float32) @ a.data.astype(np.float32))


def _text(reader: GGUFReader, key: str) -> str:
    return str(reader.fields[key].contents())
