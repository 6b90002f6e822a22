"""From an adapter of peft to what kff-live runs: a GGUF of the adapter alone, or of the merged and quantized model."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from peft import PeftConfig, PeftModel

from kff_live.finetune.agreement import Agreement, agreement, check_words, engine
from kff_live.finetune.base import Progress, base_source, load_model, load_tokenizer
from kff_live.finetune.gguf_files import write_adapter, write_model
from kff_live.finetune.records import Record
from kff_live.finetune.settings import Settings
from kff_live.protocols.errors import UserError


@dataclass(frozen=True)
class Adapter:
    """A folder that peft's `save_pretrained` wrote, ours or another's, and the model that it belongs to.

    `base`: what is given, else what ours was trained on, else what the adapter's own configuration names.
    `round_to`: as ours was trained (settings.py).
    """

    folder: Path
    base: str
    round_to: str = ""

    @classmethod
    def find(cls, folder: Path, base: str = "") -> "Adapter":
        """The adapter in `folder`.

        Raises:
            UserError: there is none, or it does not say what it belongs to.
        """
        try:
            config = PeftConfig.from_pretrained(str(folder)) if folder.is_dir() else None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(f"{folder}: not an adapter of peft: {error}") from None
        if config is None:
            raise UserError(f"{folder}: there is no such folder; expected one with adapter_config.json")
        own = trained_with(folder)
        base = base or (own.train.base if own else "") or config.base_model_name_or_path or ""
        if not base:
            raise UserError(f"{folder}: it does not name its base model; give it with --base")
        return cls(folder, base, own.train.round_to if own else "")

    def tokenizer(self) -> Any:
        """The tokenizer that it was trained with: its own where it has one, else that of its base."""
        return load_tokenizer(str(self.folder) if (self.folder / "tokenizer_config.json").is_file() else self.base)

    def on(self, model: Any) -> Any:
        """The model with the adapter on it.

        Raises:
            UserError: it does not fit.
        """
        try:
            return PeftModel.from_pretrained(model, str(self.folder))
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(f"{self.folder}: it does not fit {self.base}: {str(error).splitlines()[0]}") from None


def trained_with(folder: Path) -> Settings | None:
    """The settings that `train` left beside an adapter; None where another program wrote it."""
    try:
        return msgspec.json.decode((folder / "settings.json").read_bytes(), type=Settings)
    except (OSError, msgspec.DecodeError):
        return None


def export(
    adapter: Adapter, out: Path, records: list[Record], *, quantization: str, alone: bool, progress: Progress
) -> Agreement | None:
    """Writes `out`, and compares its answers to `records` with those of the merged model in transformers.

    `alone`: the adapter by itself, to be loaded beside its base; without records its words are then checked only
    where the base is a GGUF already.

    Raises:
        UserError: something does not fit together; then there is no `out`.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    progress("loading", 0, 1)
    folder_or_name, packed = base_source(adapter.base)
    tokenizer = adapter.tokenizer()
    model = load_model(adapter.base, torch.float32 if packed else "auto")
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as folder:
        new, base = Path(folder) / out.name, None
        if alone and packed:
            base = Path(folder_or_name) / packed
        elif alone and records:
            progress("converting the base", 0, 1)
            base = Path(folder) / "base.gguf"
            write_model(model, load_tokenizer(adapter.base), base, quantization="F16")
        model = adapter.on(model)
        progress("writing", 0, 1)
        if alone:
            write_adapter(model, new, round_to=adapter.round_to)
            model = model.merge_and_unload()
        else:
            model = model.merge_and_unload()
            write_model(model, tokenizer, new, quantization=quantization)
        if base or not alone:
            with engine(base or new, new if alone else None) as opened:
                check_words(base or new, opened, tokenizer, records)
        new.replace(out)
        if not records:
            return None
        if torch.cuda.is_available():
            model = model.to("cuda")
        with engine(base or out, out if alone else None) as opened:
            return agreement(
                opened, model, tokenizer, records, progress=lambda count: progress("asking", count, len(records))
            )
