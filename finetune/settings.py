"""Settings of a training, from one TOML file that is saved with the result."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from kff_live.protocols.errors import ConfigError
from kff_live.runtime.config import EMBEDDED, explain

SCRIPTS = Path(__file__).parent / "scripts"
"""The corpus that comes with kff-live."""

BLIND = Path(__file__).parent / "blind" / "cases.jsonl"
"""Sentences that only judge: nothing is ever trained on what is too much like one of them."""

PHRASES = Path(__file__).parent / "phrases"
"""The plain wordings that come with kff-live."""

SITUATIONS = Path(__file__).parent / "situations"
"""The lines of each feeling that come with kff-live."""

SHIPPED = tuple(Path(__file__).parent / f"shipped-{stage}.toml" for stage in range(1, 7))
"""The settings of the adapter that comes with kff-live: six trainings, each going on from the one before."""

Quantization = Literal["Q4_K_M", "Q4_0", "Q8_0", "F16"]
"""What a model can be written in, in llama.cpp's words."""

NONE = "none"
"""As `data.scripts`: no scripts of the authored kind."""

Count = Annotated[int, msgspec.Meta(ge=0)]


class Data(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What `prepare` reads and how it spreads it.

    `scripts`: a .jsonl file or a folder of them; empty: the corpus that comes with kff-live; "none": none.
    `keyframeface`: files in KeyframeFace's message format. `takes`: lists of takes with their texts (sources.py),
    thinned out to within `take_error` of every frame. `forbidden`: a file of texts that must not be trained on besides
    those of BLIND, one a line, as text or as JSON with `text`. `variations`: generated records for each script, beside
    the script itself. `composed`, `situations`: at most so many scripts composed of plain wordings (phrases.py), and
    of lines by feeling (situations.py), for training only. `situation_files`: the files of situations/ (without .toml)
    whose lines are taken; empty: all.
    `validation` and `test`: shares of the scripts that are kept out. `limit`: scripts to train on; 0: all.
    """

    scripts: str = ""
    keyframeface: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    take_error: Annotated[float, msgspec.Meta(ge=0.01, le=0.5)] = 0.1
    forbidden: str = ""
    dialect: Literal["compact", "keyframeface", "vectors"] = "compact"
    labels: bool = True
    variations: Annotated[int, msgspec.Meta(ge=0, le=20)] = 2
    composed: Count = 0
    situations: Count = 0
    situation_files: tuple[str, ...] = ()
    validation: Annotated[float, msgspec.Meta(ge=0, le=0.4)] = 0.03
    test: Annotated[float, msgspec.Meta(ge=0, le=0.4)] = 0.05
    limit: Count = 0
    seed: int = 1


class Train(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """How `train` works.

    `base`: `embedded`, a GGUF file, a Hugging Face folder or name. `start`: the folder of an adapter of that base to
    go on from, which then says rank, alpha and dropout; empty: from nothing. `start_weight`: the share of `start` in
    the weights that are written, beside what was trained: a mean of both forgets less (Wortsman et al., "Robust
    fine-tuning of zero-shot models", 2022). `round_to`: how the matrices will be rounded once they are merged with the
    adapter, so that what is trained is right for them (rounding.py); empty: they are not. `batch_tokens`: tokens of one
    optimiser step, padding included. `passes`: times that every record is seen. `checkpoint_minutes`: between resumable
    states.
    """

    base: str = EMBEDDED
    start: str = ""
    start_weight: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0
    round_to: Literal["", "Q4_0", "Q8_0"] = ""
    rank: Annotated[int, msgspec.Meta(ge=1, le=256)] = 16
    alpha: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 32
    dropout: Annotated[float, msgspec.Meta(ge=0, le=0.9)] = 0.0
    learning_rate: Annotated[float, msgspec.Meta(ge=1e-7, le=1)] = 1e-3
    warmup: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.05
    weight_decay: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    batch_tokens: Annotated[int, msgspec.Meta(ge=64, le=1_000_000)] = 1024
    passes: Annotated[float, msgspec.Meta(ge=0.01, le=100)] = 1.0
    threads: Count = 0
    checkpoint_minutes: Annotated[float, msgspec.Meta(ge=0)] = 5.0
    seed: int = 1


class Export(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """How `export` writes the result: quantized or not, compared on so many prompts of the test split."""

    quantization: Quantization = "Q4_K_M"
    prompts: Count = 50


class Settings(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A whole training."""

    data: Data = Data()
    train: Train = Train()
    export: Export = Export()


def load(path: Path | None) -> Settings:
    """The settings of a TOML file, or the defaults.

    Raises:
        ConfigError: the file cannot be read, or a key is unknown or out of range; the message names it.
    """
    if path is None:
        return Settings()
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Settings)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {explain(str(error))}") from None
