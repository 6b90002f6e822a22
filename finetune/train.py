"""LoRA on the answers of the records, resumable, on a CPU, a GPU, or several through `accelerate launch`."""

import hashlib
import json
import math
import random
import time
from collections.abc import Callable, Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import msgspec
import torch
from accelerate import Accelerator
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

from kff_live.finetune.base import end_id, load_model, load_tokenizer, prompt_ids
from kff_live.finetune.records import Record, read_records
from kff_live.finetune.rounding import ROUND_STEPS, Rounding
from kff_live.finetune.settings import Settings, Train
from kff_live.protocols.errors import UserError

IGNORED = -100
"""Label of a token that is not part of the answer."""

Example = tuple[list[int], list[int]]
"""Token ids of a prompt and of its answer."""

Progress = Callable[[int, int, dict[str, float]], None]
"""Called after each step: (step, steps, what was measured)."""


def train(settings: Settings, records: Path, out: Path, *, progress: Progress) -> dict[str, float]:
    """Trains an adapter on `records`/train.jsonl into `out`; goes on where an earlier run with `out` stopped.

    `out` gets adapter_model.safetensors, adapter_config.json, settings.json, log.jsonl, and state.pt to go on from; a
    training that was complete is not run again.

    Returns: the last losses by name; none where nothing was left to do.
    """
    if settings.train.start_weight and not settings.train.start:
        raise UserError(f"train.start_weight: {settings.train.start_weight} needs train.start")
    accelerator = Accelerator(mixed_precision="bf16", cpu=not torch.cuda.is_available())
    if settings.train.threads:
        torch.set_num_threads(settings.train.threads)
    torch.manual_seed(settings.train.seed)

    known = read_records(records / "train.jsonl")
    tokenizer = load_tokenizer(settings.train.base)
    examples = [encode(tokenizer, record) for record in known]
    held_out = [encode(tokenizer, record) for record in read_records(records / "validation.jsonl", optional=True)]
    share = (accelerator.process_index, accelerator.num_processes)
    plan = list(batches(examples, settings.train, share))

    bare = _with_adapter(settings.train)
    weights = [p for p in bare.parameters() if p.requires_grad]
    started_from = [p.detach().clone() for p in weights]
    rounding = Rounding(bare, settings.train.round_to) if settings.train.round_to else None
    shared = shared_tokens([*examples, *held_out]) if _can_share(bare) else 0
    optimizer = torch.optim.AdamW(weights, lr=settings.train.learning_rate, weight_decay=settings.train.weight_decay)
    model, optimizer = accelerator.prepare(AnswerLoss(bare), optimizer)
    if not plan:
        raise UserError(f"{records / 'train.jsonl'}: {len(examples)} records are too few for {share[1]} processes")
    out.mkdir(parents=True, exist_ok=True)
    (out / "settings.json").write_bytes(msgspec.json.format(msgspec.json.encode(settings), indent=2))

    state = out / "state.pt"
    # What decides the steps; threads, how often they are saved, and what is mixed with their result do not.
    deciding = msgspec.structs.replace(settings.train, threads=0, checkpoint_minutes=0.0, start_weight=0.0)
    made_of = hashlib.sha256(msgspec.json.encode((deciding, share[1])) + (records / "train.jsonl").read_bytes())
    if settings.train.start and (start := Path(settings.train.start) / "adapter_model.safetensors").is_file():
        made_of.update(start.read_bytes())
    step = _resume(state, bare, optimizer, made_of.hexdigest())
    if step == 0:  # weights of an earlier training must not pass for what these settings made
        (out / "adapter_model.safetensors").unlink(missing_ok=True)
    losses: dict[str, float] = {}
    saved = time.perf_counter()
    for step in range(step, len(plan)):  # noqa: B020 - it goes on from the step that was saved
        rate = learning_rate(settings.train, step, len(plan))
        for group in optimizer.param_groups:
            group["lr"] = rate
        model.train()
        if rounding and step % ROUND_STEPS == 0:
            rounding.renew()
        # By the step, so that dropout goes on after a resume as it would have without.
        torch.manual_seed(random.Random(f"{settings.train.seed} {step} {share[0]}").getrandbits(63))
        started = time.perf_counter()
        loss = model(**collate([examples[i] for i in plan[step]], shared, _pad(tokenizer), accelerator.device))
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        count = sum(len(examples[i][0]) + len(examples[i][1]) for i in plan[step])
        losses["loss"] = float(loss.detach())
        losses["tokens/s"] = count * accelerator.num_processes / (time.perf_counter() - started)
        last = step + 1 == len(plan)
        due = time.perf_counter() - saved >= settings.train.checkpoint_minutes * 60
        if rounding:  # so that what goes on from there is rounded as it would have been
            due = due and (step + 1) % ROUND_STEPS == 0
        if accelerator.is_main_process and (last or due):
            if held_out:
                losses["validation"] = held_out_loss(bare, held_out, shared, _pad(tokenizer), accelerator.device)
            _save_state(state, bare, optimizer, step + 1, made_of.hexdigest())
            with (out / "log.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps({"step": step + 1, "steps": len(plan), **losses}) + "\n")
            saved = time.perf_counter()
        if accelerator.is_main_process:
            progress(step + 1, len(plan), losses)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        with torch.no_grad():
            for trained, before in zip(weights, started_from, strict=True):
                trained.lerp_(before.to(trained.device), settings.train.start_weight)
        bare.peft_config["default"].base_model_name_or_path = settings.train.base
        bare.save_pretrained(out, save_embedding_layers=False)
        tokenizer.save_pretrained(out)
    return losses


def encode(tokenizer: Any, record: Record) -> Example:
    """Token ids of a record: its prompt as the runtime asks it, its answer with the end of turn."""
    answer = tokenizer(record.answer, add_special_tokens=False, split_special_tokens=True).input_ids
    return prompt_ids(tokenizer, record.chat), [*answer, end_id(tokenizer)]


def batches(examples: list[Example], settings: Train, share: tuple[int, int]) -> Iterator[list[int]]:
    """Indices of the examples of each step: alike in length, shuffled, `passes` times over, this process's share."""
    rng = random.Random(settings.seed)
    total = math.ceil(settings.passes * len(examples))
    rank, processes = share
    while total > 0:
        order = list(range(len(examples)))
        rng.shuffle(order)
        order = order[:total]
        total -= len(order)
        order.sort(key=lambda i: sum(map(len, examples[i])) // 8)  # stable: shuffled among equals
        groups: list[list[int]] = [[]]
        for i in order:
            longest = max(sum(map(len, examples[j])) for j in [*groups[-1], i])
            if groups[-1] and longest * (len(groups[-1]) + 1) > settings.batch_tokens:
                groups.append([])
            groups[-1].append(i)
        rng.shuffle(groups)
        whole = len(groups) - len(groups) % processes if processes > 1 else len(groups)
        yield from groups[rank:whole:processes]


def shared_tokens(examples: list[Example]) -> int:
    """How many tokens all prompts begin with: the template's and the system's words, short of a whole prompt."""
    prompts = [prompt[:-1] for prompt, _ in examples]
    ends = zip(min(prompts), max(prompts), strict=False)  # what lies between them in order begins as both do
    return sum(1 for _ in takewhile(lambda both: both[0] == both[1], ends))


def _can_share(model: Any) -> bool:
    """Whether what a model keeps of a prompt can be handed to every row of a batch; not so of recurrent states."""
    causal = model.get_base_model()
    with torch.no_grad():
        past = causal.base_model(torch.zeros(1, 1, dtype=torch.long, device=model.device), use_cache=True)
    layers = getattr(past.get("past_key_values"), "layers", [])
    return bool(layers) and all(hasattr(layer, "batch_repeat_interleave") for layer in layers)


def collate(examples: list[Example], shared: int, pad: int, device: Any) -> dict[str, Any]:
    """What AnswerLoss takes: the first `shared` tokens of all, and the rest of each.

    The rest is padded on the left, so that the answers end together; `labels` are those of the last positions only.
    """
    whole = [torch.tensor(prompt + answer) for prompt, answer in examples]
    width = max(map(len, whole)) - shared
    ids = torch.full((len(examples), width), pad)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, IGNORED)
    for row, (both, (_, answer)) in enumerate(zip(whole, examples, strict=True)):
        rest = both[shared:]
        ids[row, width - len(rest) :] = rest
        mask[row, width - len(rest) :] = 1
        labels[row, width - len(answer) :] = torch.tensor(answer)
    batch = {
        "shared_ids": whole[0][None, :shared],
        "input_ids": ids,
        "attention_mask": torch.cat([mask.new_ones(len(examples), shared), mask], dim=1),
        "position_ids": shared + (mask.cumsum(1) - 1).clamp(min=0),
        "labels": labels[:, -max(len(answer) for _, answer in examples) :],
    }
    return {name: value.to(device) for name, value in batch.items()}


def _with_adapter(settings: Train) -> Any:
    """The base with the adapter that is to be trained."""
    # The base only in half precision, since it stays as it is; peft keeps its own weights in single precision.
    base = load_model(settings.base, torch.bfloat16, attention=None if torch.cuda.is_available() else "eager")
    if settings.start:
        try:
            return PeftModel.from_pretrained(base, settings.start, is_trainable=True)
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(f"train.start: {settings.start}: {str(error).splitlines()[0]}") from None
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(base, config)


class AnswerLoss(torch.nn.Module):
    """Mean cross-entropy of the answers' tokens.

    What all prompts begin with runs once a batch. The model's head runs where there is a label, a few at a time: on two
    CPU cores that is 1.8 times as fast as logits at every position of the longest answer.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, shared_ids: Any, input_ids: Any, attention_mask: Any, position_ids: Any, labels: Any) -> Any:
        """The loss of a batch of `collate`."""
        causal: Any = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "position_ids": position_ids}
        if shared_ids.numel():
            past = causal.base_model(shared_ids, use_cache=True).past_key_values
            past.batch_repeat_interleave(len(input_ids))
            inputs["past_key_values"] = past
        count = labels.shape[1]
        labelled = labels != IGNORED
        wanted = labels[labelled]
        if any(getattr(causal.config.get_text_config(), name, None) for name in _CHANGES_LOGITS):
            logits = self.model(**inputs, logits_to_keep=count + 1, use_cache=False).logits[:, :-1][labelled]
            return torch.nn.functional.cross_entropy(logits.float(), wanted)
        states = causal.base_model(**inputs, use_cache=False).last_hidden_state[:, -count - 1 : -1][labelled]
        head = causal.get_output_embeddings()
        some = zip(states.split(_HEAD_POSITIONS), wanted.split(_HEAD_POSITIONS), strict=True)
        total = sum(torch.nn.functional.cross_entropy(head(at).float(), to, reduction="sum") for at, to in some)
        return total / len(wanted)


_HEAD_POSITIONS = 128
_CHANGES_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier")
"""Settings of models (Gemma 2, Cohere, Granite, Falcon-H1) that do more to logits than their head does."""


def held_out_loss(model: Any, examples: list[Example], shared: int, pad: int, device: Any) -> float:
    """Mean loss a token over examples that were not trained on."""
    model.eval()
    loss = AnswerLoss(model)
    total, tokens = 0.0, 0
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
        for start in range(0, len(examples), 16):
            some = examples[start : start + 16]
            count = sum(len(answer) for _, answer in some)
            total += float(loss(**collate(some, shared, pad, device))) * count
            tokens += count
    return total / tokens


def learning_rate(settings: Train, step: int, steps: int) -> float:
    """Linear warm-up, then a cosine down to a hundredth."""
    warm = max(settings.warmup * steps, 1)
    if step < warm:
        return settings.learning_rate * (step + 1) / warm
    done = (step - warm) / max(steps - warm, 1)
    return settings.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def _pad(tokenizer: Any) -> int:
    return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id or 0)


def _save_state(file: Path, model: Any, optimizer: Any, step: int, made_of: str) -> None:
    """All that a later run needs; complete before the one before is replaced."""
    new = file.with_suffix(".new")
    adapter = get_peft_model_state_dict(model, save_embedding_layers=False)
    torch.save({"adapter": adapter, "optimizer": optimizer.state_dict(), "step": step, "made_of": made_of}, new)
    new.replace(file)


def _resume(file: Path, model: Any, optimizer: Any, made_of: str) -> int:
    """The step to go on with; 0 when there is nothing to go on from, or it has other settings or records."""
    saved = torch.load(file, weights_only=True, map_location="cpu") if file.is_file() else {}
    if saved.get("made_of") != made_of:
        return 0
    set_peft_model_state_dict(model, saved["adapter"])
    optimizer.load_state_dict(saved["optimizer"])
    return int(saved["step"])
