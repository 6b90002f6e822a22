"""Training: what is learned, in which order, and that a stopped run ends as one that was never stopped."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import msgspec
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import Linear
from safetensors.torch import load_file

from kff_live.finetune.base import base_source, end_id, load_model, prompt_ids
from kff_live.finetune.records import Record, write_records
from kff_live.finetune.rounding import Rounding
from kff_live.finetune.settings import Export, Settings, Train
from kff_live.finetune.train import (
    IGNORED,
    AnswerLoss,
    batches,
    collate,
    encode,
    held_out_loss,
    learning_rate,
    shared_tokens,
    train,
)
from kff_live.protocols.errors import UserError

Tiny = Callable[[str], Path]


@pytest.fixture
def records(tmp_path: Path, small_records: list[Record]) -> Path:
    folder = tmp_path / "records"
    folder.mkdir()
    write_records(folder / "train.jsonl", small_records[:8])
    write_records(folder / "validation.jsonl", small_records[8:9])
    return folder


def settings(base: Path, **changes: Any) -> Settings:
    known = Train(base=str(base), rank=4, batch_tokens=80, passes=1.5, dropout=0.2, checkpoint_minutes=0)
    return Settings(train=msgspec.structs.replace(known, **changes))


class Stopped(Exception):
    """What ends a run in the middle."""


@pytest.mark.parametrize(("round_to", "first"), [("", 4), ("Q4_0", 3)])  # it is rounded anew, and saved, at each second
def test_a_stopped_run_ends_as_one_that_was_never_stopped(
    tiny: Tiny, records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, round_to: str, first: int
) -> None:
    monkeypatch.setattr("kff_live.finetune.train.ROUND_STEPS", 2)
    wanted = settings(tiny("llama"), round_to=round_to)
    steps: list[int] = []
    whole = train(wanted, records, tmp_path / "whole", progress=lambda step, of, seen: steps.append(of - step))
    assert steps == list(range(len(steps)))[::-1]
    assert len(steps) > 4

    def stop(step: int, of: int, seen: dict[str, float]) -> None:
        if step == 3:
            raise Stopped

    with pytest.raises(Stopped):
        train(wanted, records, tmp_path / "two", progress=stop)
    assert not (tmp_path / "two" / "adapter_model.safetensors").exists()
    again: list[int] = []
    resumed = train(wanted, records, tmp_path / "two", progress=lambda step, of, seen: again.append(step))
    assert again == list(range(first, len(steps) + 1))
    one, two = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("whole", "two"))
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=0, atol=1e-6)
    assert any(bool(value.any()) for name, value in one.items() if "lora_B" in name)
    assert resumed["loss"] == pytest.approx(whole["loss"], abs=1e-4)
    again.clear()
    written = (tmp_path / "two" / "adapter_model.safetensors").read_bytes()
    train(wanted, records, tmp_path / "two", progress=lambda step, of, seen: again.append(step))
    assert again == []  # it was complete
    assert (tmp_path / "two" / "adapter_model.safetensors").read_bytes() == written


@pytest.mark.parametrize("changed", ["settings", "records", "start"])
def test_a_run_with_other_settings_or_records_starts_over(
    changed: str, tiny: Tiny, records: Path, small_records: list[Record], tmp_path: Path
) -> None:
    def stop(step: int, of: int, seen: dict[str, float]) -> None:
        raise Stopped

    def make_start(learning_rate: float) -> None:
        train(settings(tiny("llama"), learning_rate=learning_rate, passes=0.5), records, start, progress=print)

    start = tmp_path / "start"
    if changed == "start":
        make_start(0.001)
    began = settings(tiny("llama"), start=str(start) if changed == "start" else "")
    with pytest.raises(Stopped):
        train(began, records, tmp_path / "out", progress=stop)
    steps: list[int] = []
    wanted = began if changed != "settings" else settings(tiny("llama"), seed=2)
    if changed == "start":
        make_start(0.002)
    if changed == "records":
        write_records(records / "train.jsonl", small_records[1:9])
    train(wanted, records, tmp_path / "out", progress=lambda step, of, seen: steps.append(step))
    assert steps[0] == 1


def test_what_decides_nothing_does_not_start_a_run_over_and_old_weights_do_not_pass_for_new(
    tiny: Tiny, records: Path, tmp_path: Path
) -> None:
    def stop(step: int, of: int, seen: dict[str, float]) -> None:
        if step == 3:
            raise Stopped

    out = tmp_path / "out"
    with pytest.raises(Stopped):
        train(settings(tiny("llama")), records, out, progress=stop)
    again: list[int] = []
    other = msgspec.structs.replace(settings(tiny("llama"), threads=1), export=Export(prompts=0))
    train(other, records, out, progress=lambda step, of, seen: again.append(step))
    assert again[0] == 4
    assert (out / "adapter_model.safetensors").exists()
    with pytest.raises(Stopped):
        train(settings(tiny("llama"), seed=2), records, out, progress=stop)
    assert not (out / "adapter_model.safetensors").exists()


def test_a_run_goes_on_from_an_adapter(tiny: Tiny, records: Path, tmp_path: Path) -> None:
    def losses(wanted: Settings, out: str) -> list[float]:
        seen: list[float] = []
        train(wanted, records, tmp_path / out, progress=lambda step, of, now: seen.append(now["validation"]))
        return seen

    first = losses(settings(tiny("llama"), learning_rate=0.01, passes=4.0), "first")
    assert first[-1] < first[0] * 0.99
    then = losses(settings(tiny("llama"), start=str(tmp_path / "first"), rank=8, learning_rate=1e-6), "then")
    assert then == pytest.approx([first[-1]] * len(then), rel=5e-3)  # in bfloat16
    config = json.loads((tmp_path / "then" / "adapter_config.json").read_text())
    assert config["r"] == 4  # of the adapter, not of these settings
    with pytest.raises(UserError, match=r"train\.start: .*nowhere"):
        train(settings(tiny("llama"), start="nowhere"), records, tmp_path / "not", progress=print)


def test_a_share_of_what_a_run_went_on_from_stays(tiny: Tiny, records: Path, tmp_path: Path) -> None:
    def weights(name: str, **changes: Any) -> dict[str, Any]:
        train(settings(tiny("llama"), learning_rate=0.01, **changes), records, tmp_path / name, progress=print)
        return load_file(tmp_path / name / "adapter_model.safetensors")

    before = weights("first")
    start = str(tmp_path / "first")
    trained = weights("second", start=start)
    mean = weights("mean", start=start, start_weight=0.25)
    for name, value in mean.items():
        torch.testing.assert_close(value, 0.25 * before[name] + 0.75 * trained[name], rtol=0, atol=1e-6)
    assert any(bool((value != trained[name]).any()) for name, value in mean.items())
    again = weights("mean", start=start)  # no step over again: only what is written differs
    assert all(bool((value == trained[name]).all()) for name, value in again.items())
    with pytest.raises(UserError, match=r"train\.start_weight: 0\.25 needs train\.start"):
        weights("none", start_weight=0.25)


def test_base_and_adapter_add_up_to_what_is_written(tiny: Tiny) -> None:
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    model = get_peft_model(load_model(str(tiny("llama")), torch.float32), config)
    layers: list[Any] = [module for module in model.modules() if isinstance(module, Linear)]
    merged = [layer.base_layer.weight.detach() + layer.get_delta_weight("default").detach() for layer in layers]
    Rounding(model, "Q4_0").renew()
    assert layers
    for layer, weights in zip(layers, merged, strict=True):
        four = gguf.quants.quantize(weights.numpy(), gguf.GGMLQuantizationType.Q4_0)
        expected = torch.from_numpy(gguf.quants.dequantize(four, gguf.GGMLQuantizationType.Q4_0))
        sum_now = layer.base_layer.weight + layer.get_delta_weight("default")
        torch.testing.assert_close(sum_now, expected, rtol=0, atol=1e-6)
        assert not torch.equal(expected, weights)


def test_what_is_trained_is_what_it_will_be_when_rounded(
    tiny: Tiny, tokenizer: Any, small_records: list[Record], records: Path, tmp_path: Path
) -> None:
    train(settings(tiny("llama"), learning_rate=0.05, passes=4.0), records, tmp_path / "first", progress=print)
    start = str(tmp_path / "first")
    still = settings(tiny("llama"), start=start, learning_rate=1e-7, round_to="Q4_0")
    known = train(still, records, tmp_path / "then", progress=print)["validation"]
    model = PeftModel.from_pretrained(load_model(str(tiny("llama")), torch.float32), start).merge_and_unload()
    held_out = [encode(tokenizer, small_records[8])]
    exact = held_out_loss(model, held_out, 0, 0, torch.device("cpu"))
    for module in model.model.modules():
        if isinstance(module, torch.nn.Linear):
            four = gguf.quants.quantize(module.weight.detach().numpy(), gguf.GGMLQuantizationType.Q4_0)
            module.weight.data = torch.from_numpy(gguf.quants.dequantize(four, gguf.GGMLQuantizationType.Q4_0))
    rounded = held_out_loss(model, held_out, 0, 0, torch.device("cpu"))
    assert abs(known - rounded) < 0.5 * abs(known - exact)  # the rest is bfloat16


def test_what_a_run_leaves(tiny: Tiny, records: Path, tmp_path: Path) -> None:
    wanted = settings(tiny("llama"), passes=1.0)
    train(wanted, records, tmp_path / "out", progress=lambda step, of, seen: None)
    assert msgspec.json.decode((tmp_path / "out" / "settings.json").read_bytes(), type=Settings) == wanted
    log = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert log[-1]["step"] == log[-1]["steps"]
    assert {"loss", "validation", "tokens/s"} <= set(log[-1])
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["r"], config["base_model_name_or_path"]) == (4, str(tiny("llama")))
    assert (tmp_path / "out" / "chat_template.jinja").exists()


def test_only_the_answer_and_its_end_are_learned(tokenizer: Any, small_records: list[Record]) -> None:
    examples = [encode(tokenizer, record) for record in small_records[:3]]
    batch = collate(examples, 0, 0, torch.device("cpu"))
    for row, (record, (prompt, answer)) in enumerate(zip(small_records, examples, strict=False)):
        assert prompt == prompt_ids(tokenizer, record.chat)
        assert answer[-1] == end_id(tokenizer)
        assert tokenizer.decode(answer[:-1]) == record.answer
        labels = batch["labels"][row]
        assert labels[labels != IGNORED].tolist() == answer
        mask = batch["attention_mask"][row].bool()
        assert batch["input_ids"][row][mask].tolist() == prompt + answer
        assert batch["position_ids"][row][mask].tolist() == list(range(len(prompt + answer)))


def test_padding_changes_no_loss(tiny: Tiny, tokenizer: Any, small_records: list[Record]) -> None:
    model = load_model(str(tiny("llama")), torch.float32).eval()
    examples = [encode(tokenizer, record) for record in small_records]
    with torch.no_grad():
        alone = [float(AnswerLoss(model)(**collate([example], 0, 0, torch.device("cpu")))) for example in examples]
        together = float(AnswerLoss(model)(**collate(examples, 0, 0, torch.device("cpu"))))
    lengths = [len(answer) for _, answer in examples]
    mean = sum(loss * length for loss, length in zip(alone, lengths, strict=True)) / sum(lengths)
    assert together == pytest.approx(mean, rel=1e-4)
    assert held_out_loss(model, examples, 0, 0, torch.device("cpu")) == pytest.approx(mean, rel=0.02)  # in bfloat16


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_what_all_prompts_begin_with_is_read_once_and_learned_from_as_before(
    family: str, tiny: Tiny, tokenizer: Any, small_records: list[Record]
) -> None:
    examples = [encode(tokenizer, record) for record in small_records]
    shared = shared_tokens(examples)
    assert tokenizer.decode(examples[0][0][:shared]).endswith("<|im_start|>user\n")
    assert shared_tokens([([5, 6, 7], [1]), ([5, 6], [2])]) == 1  # something is left to answer to
    assert shared_tokens([([5], [1]), ([6], [2])]) == 0
    model = load_model(str(tiny(family)), torch.float32)
    found = []
    for count in (0, shared):
        model.zero_grad()
        batch = collate(examples, count, 0, torch.device("cpu"))
        assert batch["input_ids"].shape[1] + count == max(len(prompt + answer) for prompt, answer in examples)
        loss = AnswerLoss(model)(**batch)
        loss.backward()
        found.append((loss.detach(), {name: value.grad.clone() for name, value in model.named_parameters()}))
    (whole, gradients), (parts, others) = found
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(others, gradients, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_every_example_is_seen_once_a_pass(processes: int) -> None:
    examples = [([0] * (i % 40 + 1), [0] * (i % 7 + 1)) for i in range(100)]
    wanted = Train(batch_tokens=200, passes=1.0)
    shares = [list(batches(examples, wanted, (rank, processes))) for rank in range(processes)]
    assert len({len(share) for share in shares}) == 1  # processes wait for each other at every step
    seen = sorted(i for share in shares for batch in share for i in batch)
    if processes == 1:
        assert seen == list(range(100))
    assert len(set(seen)) == len(seen) > 80
    for batch in shares[0]:
        assert max(sum(map(len, examples[i])) for i in batch) * len(batch) <= 200
    assert list(batches(examples, wanted, (0, processes))) == shares[0]
    more = list(batches(examples, msgspec.structs.replace(wanted, passes=2.5), (0, 1)))
    assert sum(map(len, more)) == 250


def test_the_learning_rate_rises_and_falls() -> None:
    wanted = Train(learning_rate=1.0, warmup=0.1)
    rates = [learning_rate(wanted, step, 100) for step in range(100)]
    assert rates.index(max(rates)) in (9, 10)
    assert max(rates) == pytest.approx(1.0)
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.02


def test_a_base_that_is_not_there_is_the_users_mistake(tmp_path: Path, smollm2_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        load_model(str(tmp_path / "nowhere"), torch.float32)
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(UserError, match=r"broken\.gguf"):
        load_model(str(tmp_path / "broken.gguf"), torch.float32)
    assert base_source("embedded") == (str(smollm2_path.parent), smollm2_path.name)
    assert base_source("~/x.gguf") == (str(Path.home()), "x.gguf")
    assert base_source("HuggingFaceTB/SmolLM2-135M-Instruct") == ("HuggingFaceTB/SmolLM2-135M-Instruct", None)
