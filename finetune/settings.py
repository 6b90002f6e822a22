"""Settings of a training, from one TOML file that is saved with the result."""

import tomllib
from pathlib import Path

import msgspec

from kff_live.protocols.errors import ConfigError
from kff_live.runtime.config import EMBEDDED

SCRIPTS = Path(__file__).parent / "scripts"
"""The corpus that comes with kff-live."""

QUANTIZATIONS = ("Q4_K_M", "Q8_0", "F16")
"""What a model can be written in, in llama.cpp's words."""

NONE = "none"
"""As `data.scripts`: no scripts of the authored kind."""


class Data(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What `prepare` reads and how it spreads it.

    `scripts`: a .jsonl file or a folder of them; empty: the corpus that comes with kff-live; "none": none.
    `keyframeface`: files in KeyframeFace's message format. `takes`: lists of takes with their texts (sources.py),
    thinned out to within `take_error` of every frame. `forbidden`: a file of texts that must not be trained on, one a
    line, as text or as JSON with `text`. `variations`: generated records for each script, beside the script itself.
    `validation` and `test`: shares of the scripts that are kept out. `limit`: scripts to train on; 0: all.
    """

    scripts: str = ""
    keyframeface: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    take_error: float = 0.1
    forbidden: str = ""
    dialect: str = "compact"
    labels: bool = True
    variations: int = 2
    validation: float = 0.03
    test: float = 0.05
    limit: int = 0
    seed: int = 1


class Train(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """How `train` works.

    `base`: `embedded`, a GGUF file, a Hugging Face folder or name. `batch_tokens`: tokens of one optimiser step,
    padding included. `passes`: times that every record is seen. `checkpoint_minutes`: between resumable states.
    """

    base: str = EMBEDDED
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.05
    learning_rate: float = 1e-3
    warmup: float = 0.05
    weight_decay: float = 0.0
    batch_tokens: int = 2048
    passes: float = 1.0
    threads: int = 0
    checkpoint_minutes: float = 5.0
    seed: int = 1


class Export(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """How `export` writes the result: in one of QUANTIZATIONS, compared on so many prompts of the test split."""

    quantization: str = "Q4_K_M"
    prompts: int = 50


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
        settings = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Settings)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {error}") from None
    _check(settings)
    return settings


def _check(settings: Settings) -> None:
    data, train = settings.data, settings.train
    ranges = (
        ("data.variations", data.variations, 0, 20), ("data.validation", data.validation, 0, 0.5),
        ("data.test", data.test, 0, 0.5), ("data.take_error", data.take_error, 0.01, 0.5),
        ("train.rank", train.rank, 1, 256), ("train.passes", train.passes, 0.01, 100),
        ("train.batch_tokens", train.batch_tokens, 64, 1_000_000),
        ("train.learning_rate", train.learning_rate, 1e-7, 1),
        ("train.dropout", train.dropout, 0, 0.9), ("train.warmup", train.warmup, 0, 1),
        ("export.prompts", settings.export.prompts, 0, 1000),
    )  # fmt: skip
    for name, value, low, high in ranges:
        if not low <= value <= high:
            raise ConfigError(f"{name}: {value} is outside {low} to {high}")
    for name, word, words in (
        ("data.dialect", data.dialect, ("compact", "keyframeface", "vectors")),
        ("export.quantization", settings.export.quantization, QUANTIZATIONS),
    ):
        if word not in words:
            raise ConfigError(f"{name}: {word!r} is not one of {', '.join(words)}")
