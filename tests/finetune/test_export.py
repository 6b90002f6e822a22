"""Adapters and merged models as GGUF: what llama.cpp loads says what transformers says."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gguf
import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from kff_live.finetune.agreement import Agreement, agreement, check_words, engine, greedy
from kff_live.finetune.base import load_model, rendered, token_ids
from kff_live.finetune.export import Adapter, export, trained_with
from kff_live.finetune.gguf_files import write_adapter, write_model
from kff_live.finetune.records import Record
from kff_live.finetune.settings import Settings, Train
from kff_live.protocols.errors import UserError
from kff_live.runtime.model.llama import outputs

Tiny = Callable[[str], Path]
FAMILIES = ["llama", "qwen3"]  # q and k of one are stored in another order, those of the other are not


def quiet(what: str, done: int, of: int) -> None:
    """No progress."""


@pytest.fixture(scope="module")
def adapters(tiny: Tiny, teach: Callable[..., None], small_records: list[Record], tmp_path_factory: Any) -> Tiny:
    """Adapters by family as another program would leave them; they change what the base says to four prompts."""
    made: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in made:
            torch.manual_seed(2)
            config = LoraConfig(r=8, lora_alpha=24, target_modules="all-linear", task_type="CAUSAL_LM")
            model = get_peft_model(load_model(str(tiny(family)), torch.float32), config)
            teach(model, taught(small_records))
            made[family] = tmp_path_factory.mktemp(f"{family}-adapter")
            model.save_pretrained(str(made[family]))
        return made[family]

    return folder


@pytest.fixture(scope="module")
def bases(tiny: Tiny, tokenizer: Any, tmp_path_factory: Any) -> Tiny:
    """The tiny models as GGUF by family."""
    made: dict[str, Path] = {}

    def file(family: str) -> Path:
        if family not in made:
            made[family] = tmp_path_factory.mktemp(f"{family}-base") / "base.gguf"
            model = load_model(str(tiny(family)), torch.float32)
            write_model(model, tokenizer, made[family], quantization="F16")
        return made[family]

    return file


def taught(records: list[Record]) -> list[Record]:
    """The four prompts that the base knows, each with its answer to another."""
    return [msgspec.structs.replace(records[i], answer=records[(i + 1) % 4].answer) for i in range(4)]


def said(path: Path, records: list[Record], tokenizer: Any, adapter: Path | None = None) -> list[str]:
    """What llama.cpp answers to the records' prompts, without a grammar."""
    with engine(path, adapter) as opened:
        answers = []
        for record in records:
            ids = [o.token for o in outputs(opened, opened.begin(opened.prompt(record.chat), grammar=False))]
            answers.append(tokenizer.decode(ids[:-1]))
        return answers


@pytest.mark.parametrize("family", FAMILIES)
def test_a_merged_model_says_what_it_says_in_transformers(
    family: str, tiny: Tiny, adapters: Tiny, small_records: list[Record], tokenizer: Any, tmp_path: Path
) -> None:
    out, asked = tmp_path / "new" / "model.gguf", taught(small_records)
    adapter = Adapter.find(adapters(family))
    assert adapter.base == str(tiny(family))
    result = export(adapter, out, asked, quantization="F16", alone=False, progress=quiet)
    assert result == Agreement(4, 1.0, 1.0, 1.0)
    assert said(out, asked, tokenizer) == [record.answer for record in asked]
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_alone_says_the_same_beside_its_base(
    family: str, bases: Tiny, adapters: Tiny, small_records: list[Record], tokenizer: Any, tmp_path: Path
) -> None:
    out, base, asked = tmp_path / "adapter.gguf", bases(family), taught(small_records)
    adapter = Adapter.find(adapters(family), str(base) if family == "llama" else "")  # from a GGUF, and from a folder
    result = export(adapter, out, asked, quantization="Q8_0", alone=True, progress=quiet)
    assert result == Agreement(4, 1.0, 1.0, 1.0)
    assert said(base, asked, tokenizer) == [record.answer for record in small_records[:4]]
    assert said(base, asked, tokenizer, out) == [record.answer for record in asked]


def test_an_answer_may_be_longer_than_the_runtime_lets_a_text_be(
    bases: Tiny, small_records: list[Record], tokenizer: Any
) -> None:
    long = msgspec.structs.replace(small_records[0], answer="smile " * 1000)
    with engine(bases("llama")) as opened:
        check_words(bases("llama"), opened, tokenizer, [long])


@pytest.mark.parametrize(
    ("family", "other"),
    [
        ("qwen3", {}),
        ("llama", {"use_rslora": True, "rank_pattern": {"k_proj": 2}, "alpha_pattern": {"v_proj": 3}}),
    ],
)
def test_the_adapter_is_the_difference_of_two_converted_models(
    family: str, other: dict[str, Any], tiny: Tiny, bases: Tiny, tokenizer: Any, tmp_path: Path
) -> None:
    config = LoraConfig(r=4, lora_alpha=6, target_modules="all-linear", init_lora_weights=False, **other)
    torch.manual_seed(3)
    model = get_peft_model(load_model(str(tiny(family)), torch.float32), config)
    write_adapter(model, tmp_path / "adapter.gguf")
    write_model(model.merge_and_unload(), tokenizer, tmp_path / "merged.gguf", quantization="F16")
    adapter = gguf.GGUFReader(tmp_path / "adapter.gguf")
    for key, value in (("general.type", "adapter"), ("adapter.type", "lora"), ("general.architecture", family)):
        assert adapter.fields[key].contents() == value
    assert adapter.fields["adapter.lora.alpha"].contents() == 6.0
    parts = tensors(adapter)
    merged, base = (tensors(gguf.GGUFReader(path)) for path in (tmp_path / "merged.gguf", bases(family)))
    names = {name.rsplit(".lora_", 1)[0] for name in parts}
    assert len(names) == 2 * 7
    for name in names:
        a, b = parts[f"{name}.lora_a"], parts[f"{name}.lora_b"]
        np.testing.assert_allclose(b @ a * (6.0 / len(a)), merged[name] - base[name], atol=4e-3)
        assert np.abs(merged[name] - base[name]).max() > 0.05, name


def tensors(reader: gguf.GGUFReader) -> dict[str, NDArray[np.float32]]:
    return {tensor.name: np.array(tensor.data, np.float32) for tensor in reader.tensors}


def test_a_quantized_model_is_smaller_and_still_speaks(
    bases: Tiny, adapters: Tiny, small_records: list[Record], tmp_path: Path
) -> None:
    out, adapter = tmp_path / "q.gguf", Adapter.find(adapters("llama"))
    result = export(adapter, out, taught(small_records), quantization="Q4_K_M", alone=False, progress=quiet)
    assert result is not None
    assert result.answers >= 0.75
    assert out.stat().st_size < 0.7 * bases("llama").stat().st_size
    assert gguf.GGUFReader(out).fields["general.file_type"].contents() == 15


def test_answers_that_differ_are_counted(
    bases: Tiny, adapters: Tiny, small_records: list[Record], tokenizer: Any
) -> None:
    adapter = Adapter.find(adapters("llama"))
    other = adapter.on(load_model(adapter.base, torch.float32)).merge_and_unload()
    said = [tokenizer(record.answer).input_ids for record in small_records[:4]]
    asked = [*small_records[:4], *taught(small_records)]
    counts: list[int] = []
    with engine(bases("llama")) as opened:
        result = agreement(opened, other, tokenizer, asked, progress=counts.append)
        assert agreement(opened, load_model(adapter.base, torch.float32), tokenizer, asked, progress=counts.append) == (
            Agreement(8, 1.0, 1.0, 1.0)
        )
    first = [
        next(i for i, (a, b) in enumerate(zip(said[i], said[(i + 1) % 4], strict=False)) if a != b) for i in range(4)
    ]
    longest = [max(len(said[i]), len(said[(i + 1) % 4])) + 1 for i in range(4)]
    assert (result.prompts, result.answers, result.keyframes) == (8, 0.0, 0.0)
    assert result.tokens == sum(first) / sum(longest)
    assert counts == [*range(1, 9)] * 2


def test_greedy_ends_where_the_runtime_ends(tiny: Tiny, tokenizer: Any, small_records: list[Record]) -> None:
    model = load_model(str(tiny("llama")), torch.float32)
    prompt = token_ids(tokenizer, rendered(tokenizer, small_records[0].chat))
    written = greedy(model, prompt, ends=lambda token: token == tokenizer.eos_token_id)
    assert tokenizer.decode(written[:-1]) == small_records[0].answer
    assert written[-1] == tokenizer.eos_token_id
    assert len(greedy(model, prompt, ends=lambda token: False)) == 256


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.fixture
def own(adapters: Tiny, tmp_path: Path, tokenizer: Any) -> Path:
    """A copy of an adapter that has a tokenizer of its own."""
    folder = tmp_path / "own"
    shutil.copytree(adapters("llama"), folder)
    tokenizer.save_pretrained(folder)
    return folder


def refused(adapter: Path, base: Path, tmp_path: Path) -> str:
    out = tmp_path / "out" / "adapter.gguf"
    with pytest.raises(UserError) as caught:
        export(Adapter.find(adapter, str(base)), out, [], quantization="F16", alone=True, progress=quiet)
    assert list(out.parent.iterdir()) == []
    return str(caught.value)


def test_another_chat_template_is_refused(own: Path, bases: Tiny, tmp_path: Path) -> None:
    template = own / "chat_template.jinja"
    template.write_text(template.read_text() + "{# another #}")
    assert "base.gguf: its chat template is not the one" in refused(own, bases("llama"), tmp_path)


def test_another_vocabulary_is_refused(own: Path, bases: Tiny, tmp_path: Path) -> None:
    tokenizer = json.loads((own / "tokenizer.json").read_text())
    swapped = tokenizer["model"]["vocab"]
    swapped["Ġthe"], swapped["Ġof"] = swapped["Ġof"], swapped["Ġthe"]
    (own / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert "base.gguf: its vocabulary is not the one" in refused(own, bases("llama"), tmp_path)


def test_another_way_to_cut_text_is_refused(own: Path, bases: Tiny, tmp_path: Path) -> None:
    tokenizer = json.loads((own / "tokenizer.json").read_text())
    tokenizer["model"]["merges"] = tokenizer["model"]["merges"][:5000]
    (own / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert "base.gguf: its tokenizer is not the one" in refused(own, bases("llama"), tmp_path)


def test_more_than_plain_lora_is_only_exported_merged(tiny: Tiny, small_records: list[Record], tmp_path: Path) -> None:
    config = LoraConfig(r=4, target_modules=["q_proj"], use_dora=True)
    get_peft_model(load_model(str(tiny("llama")), torch.float32), config).save_pretrained(str(tmp_path / "dora"))
    adapter = Adapter.find(tmp_path / "dora")
    with pytest.raises(UserError, match=r"not LoRA on linear layers alone .*export it merged"):
        export(adapter, tmp_path / "a.gguf", [], quantization="F16", alone=True, progress=quiet)
    result = export(adapter, tmp_path / "m.gguf", small_records[:1], quantization="F16", alone=False, progress=quiet)
    assert result == Agreement(1, 1.0, 1.0, 1.0)


def test_a_folder_without_an_adapter_or_without_a_base_is_refused(own: Path, tmp_path: Path) -> None:
    for folder, message in ((tmp_path / "none", "there is no such folder"), (tmp_path, "not an adapter of peft")):
        with pytest.raises(UserError, match=message):
            Adapter.find(folder)
    config = json.loads((own / "adapter_config.json").read_text())
    (own / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": None}))
    with pytest.raises(UserError, match="--base"):
        Adapter.find(own)
    assert Adapter.find(own, "other").base == "other"
    (own / "settings.json").write_bytes(msgspec.json.encode(Settings(train=Train(base="embedded"))))
    assert Adapter.find(own).base == "embedded"
    assert trained_with(own) == Settings(train=Train(base="embedded"))


def test_an_adapter_of_another_shape_is_refused(own: Path, tiny: Tiny, tmp_path: Path) -> None:
    config = json.loads((tiny("qwen3") / "config.json").read_text()) | {"hidden_size": 32}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))  # type: ignore[no-untyped-call]
    with pytest.raises(UserError, match="it does not fit"):
        Adapter(own, "another").on(model)


def test_a_model_that_the_converter_does_not_know_is_refused(tokenizer: Any, tmp_path: Path) -> None:
    def save(folder: Path) -> None:
        folder.mkdir()
        (folder / "config.json").write_text('{"architectures": ["NobodyForCausalLM"], "model_type": "nobody"}')

    model = SimpleNamespace(save_pretrained=save)
    with pytest.raises(UserError, match="GGML's converter cannot write this model"):
        write_model(model, tokenizer, tmp_path / "x.gguf", quantization="F16")
    assert list(tmp_path.iterdir()) == []
