"""Merging an adapter into its base: the weights that come out, and when it is done again."""

import os
from pathlib import Path

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray

from kff_live.protocols.errors import UserError
from kff_live.protocols.prompt import PromptInput
from kff_live.runtime.clock import SystemClock
from kff_live.runtime.model import llama
from kff_live.runtime.model.generator_wire import EngineSettings
from kff_live.runtime.model.merging import merged, prepared

RANDOM = np.random.default_rng(1)
ROWS, COLUMNS, RANK, ALPHA = 64, 96, 4, 8.0
WEIGHT = "blk.0.attn_q.weight"

Array = NDArray[np.float32]


def random(*shape: int) -> Array:
    return RANDOM.standard_normal(shape, dtype=np.float32)


def write(path: Path, tensors: dict[str, Array], *, alpha: float | None = None, round_to: str = "") -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    if alpha is not None:
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", alpha)
    if round_to:
        writer.add_string("kff.round_to", round_to)
    writer.add_array("tokenizer.ggml.tokens", ["a", "b"])
    for name, data in tensors.items():
        writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def weights() -> Array:
    return random(ROWS, COLUMNS)


@pytest.fixture
def base(tmp_path: Path, weights: Array) -> Path:
    tensors = {WEIGHT: weights, "blk.0.ffn_up.weight": random(ROWS, COLUMNS), "output_norm.weight": random(COLUMNS)}
    return write(tmp_path / "base.gguf", tensors)


def lora(path: Path, *, name: str = WEIGHT, rows: int = ROWS, round_to: str = "") -> tuple[Path, Array, Array]:
    a, b = random(RANK, COLUMNS), random(rows, RANK)
    return write(path, {f"{name}.lora_a": a, f"{name}.lora_b": b}, alpha=ALPHA, round_to=round_to), a, b


def tensors_of(path: Path) -> dict[str, Array]:
    return {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(path).tensors}


def test_each_weight_gets_its_change_and_no_other(tmp_path: Path, base: Path, weights: Array) -> None:
    adapter, a, b = lora(tmp_path / "lora.gguf")
    before, after = tensors_of(base), tensors_of(merged(base, adapter, tmp_path / "cache"))
    expected = weights + ALPHA / RANK * (b @ a)
    assert np.abs(after[WEIGHT] - expected).max() <= np.abs(expected).max() / 127  # half a step of Q8_0 is 1/254
    other = "blk.0.ffn_up.weight"
    assert np.abs(after[other] - before[other]).max() <= np.abs(before[other]).max() / 127
    np.testing.assert_array_equal(after["output_norm.weight"], before["output_norm.weight"])
    assert gguf.GGUFReader(merged(base, adapter, tmp_path / "cache")).fields["tokenizer.ggml.tokens"].contents() == [
        "a", "b"
    ]  # fmt: skip


def test_what_an_adapter_changes_is_rounded_as_its_training_knew(tmp_path: Path, base: Path, weights: Array) -> None:
    adapter, a, b = lora(tmp_path / "lora.gguf", round_to="Q4_0")
    model = gguf.GGUFReader(merged(base, adapter, tmp_path / "cache"))
    assert model.fields["general.file_type"].contents() == gguf.LlamaFileType.MOSTLY_Q4_0
    found = {tensor.name: tensor for tensor in model.tensors}
    four, eight = gguf.GGMLQuantizationType.Q4_0, gguf.GGMLQuantizationType.Q8_0
    assert (found[WEIGHT].tensor_type, found["blk.0.ffn_up.weight"].tensor_type) == (four, eight)
    expected = (weights + ALPHA / RANK * (b @ a)).reshape(-1, 32)
    off = np.abs(gguf.quants.dequantize(found[WEIGHT].data, four).reshape(-1, 32) - expected)
    # Of a block's 32 the largest stands at -8 steps, and what lies on the other side is cut at 7.
    assert (off <= 1.01 * np.abs(expected).max(1, keepdims=True) / 8).all()
    assert off.max() > np.abs(expected).max() / 127  # no finer than four bits


def test_a_rounding_that_nobody_knows_is_refused(tmp_path: Path, base: Path) -> None:
    adapter, *_ = lora(tmp_path / "lora.gguf", round_to="Q3_7")
    with pytest.raises(UserError, match=r"kff\.round_to is 'Q3_7'; expected one of Q4_0, Q8_0"):
        merged(base, adapter, tmp_path / "cache")


def test_it_is_made_once(tmp_path: Path, base: Path) -> None:
    adapter, *_ = lora(tmp_path / "lora.gguf")
    shares: list[float] = []
    path = merged(base, adapter, tmp_path / "cache", progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    again: list[float] = []
    assert merged(base, adapter, tmp_path / "cache", progress=again.append) == path
    assert again == []


def test_a_damaged_file_is_made_anew(tmp_path: Path, base: Path) -> None:
    adapter, *_ = lora(tmp_path / "lora.gguf")
    path = merged(base, adapter, tmp_path / "cache")
    whole = path.read_bytes()
    path.write_bytes(whole[:-100] + bytes(100))
    assert merged(base, adapter, tmp_path / "cache") == path
    assert path.read_bytes() == whole
    assert sorted(file.suffix for file in (tmp_path / "cache").iterdir()) == [".gguf", ".sha256"]


def test_another_adapter_is_another_file(tmp_path: Path, base: Path) -> None:
    first, second = lora(tmp_path / "1.gguf")[0], lora(tmp_path / "2.gguf")[0]
    assert merged(base, first, tmp_path / "cache") != merged(base, second, tmp_path / "cache")


def test_what_nobody_has_used_for_a_month_goes_when_another_is_made(tmp_path: Path, base: Path) -> None:
    cache = tmp_path / "cache"
    adapters = [lora(tmp_path / f"{i}.gguf")[0] for i in range(4)]
    unused, used, recent = (merged(base, adapter, cache) for adapter in adapters[:3])
    other = cache / "other+model.gguf"
    other.touch()
    for path, days in ((unused, 31), (used, 31), (recent, 29), (other, 31)):
        seal = path.with_name(f"{path.name}.sha256")
        seal.touch()
        then = seal.stat().st_mtime - days * 86_400
        os.utime(seal, (then, then))
    merged(base, adapters[1], cache)
    newest = merged(base, adapters[3], cache)
    assert {path for path in cache.iterdir() if path.suffix == ".gguf"} == {used, recent, other, newest}
    assert not unused.with_name(f"{unused.name}.sha256").exists()


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [(WEIGHT, ROWS * 2, r"attn_q\.weight is \(128, 96\)"), ("blk.7.attn_q.weight", ROWS, r"no blk\.7\.attn_q\.weight")],
)
def test_an_adapter_of_another_model_is_refused(tmp_path: Path, base: Path, name: str, rows: int, message: str) -> None:
    adapter, *_ = lora(tmp_path / "lora.gguf", name=name, rows=rows)
    with pytest.raises(UserError, match=message):
        merged(base, adapter, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_model_is_no_adapter(tmp_path: Path, base: Path) -> None:
    with pytest.raises(UserError, match="not a LoRA adapter"):
        merged(base, base, tmp_path / "cache")


def test_a_folder_that_cannot_be_written(tmp_path: Path, base: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        merged(base, lora(tmp_path / "lora.gguf")[0], tmp_path / "file")


def test_the_embedded_model_merged_with_nothing_wants_to_say_the_same(tmp_path: Path, smollm2_path: Path) -> None:
    reader = gguf.GGUFReader(smollm2_path)
    shape = next(tensor for tensor in reader.tensors if tensor.name == WEIGHT).shape
    change = {f"{WEIGHT}.lora_a": np.zeros((1, shape[0]), np.float32), f"{WEIGHT}.lora_b": random(int(shape[1]), 1)}
    adapter = write(tmp_path / "zero.gguf", change, alpha=1.0)
    asked = EngineSettings(str(smollm2_path), adapter=str(adapter), merge=str(tmp_path / "cache"), sequences=1)
    settings = prepared(asked)
    assert (settings.adapter, settings.merge) == ("", "")
    wanted = []
    for each in (EngineSettings(str(smollm2_path), sequences=1), settings):
        engine = llama.Engine(each, SystemClock())
        try:
            engine.open(PromptInput("My flight home is confirmed!"))
            while not engine.step():
                pass
            wanted.append(engine.logits(engine._batch.n_tokens - 1).copy())
        finally:
            engine.free()
    # Not equal: llama.cpp rounds what it multiplies with Q4_1 and with Q8_0 differently.
    assert np.corrcoef(wanted).min() > 0.99
    assert wanted[0].argmax() in np.argsort(wanted[1])[-3:]
