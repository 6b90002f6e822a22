"""The model to train: found, loaded with transformers, and asked in the very tokens that the runtime will use."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kff_live.protocols.errors import UserError
from kff_live.protocols.prompt import CHATML, Message, Prompt, render
from kff_live.runtime.config import EMBEDDED
from kff_live.runtime.model.choice import embedded_path

Progress = Callable[[str, int, int], None]
"""Told what is being done, and how much of how much of it is done."""


def base_source(base: str) -> tuple[str, str | None]:
    """What to give to `from_pretrained`: a folder or name, and the file name of a GGUF within it.

    Raises:
        UserError: the embedded model is not installed.
    """
    path = embedded_path() if base == EMBEDDED else Path(base).expanduser()
    if path.suffix == ".gguf":
        return str(path.parent), path.name
    return str(path) if path.is_dir() else base, None


def load_tokenizer(base: str) -> Any:
    """The tokenizer of a model.

    Raises:
        UserError: the model cannot be found or read.
    """
    from transformers import AutoTokenizer

    source, gguf = base_source(base)
    try:
        return AutoTokenizer.from_pretrained(source, **({"gguf_file": gguf} if gguf else {}))
    except (OSError, ValueError) as error:
        raise UserError(f"train.base: {base}: {error}") from None


def load_model(base: str, dtype: Any, attention: str | None = None) -> Any:
    """A causal language model; the weights of a GGUF are unpacked. `attention`: transformers' name of one.

    Raises:
        UserError: the model cannot be found or read.
    """
    from transformers import AutoModelForCausalLM, GgufConfig

    source, gguf = base_source(base)
    extra = {"gguf_file": gguf, "quantization_config": GgufConfig(dequantize=True)} if gguf else {}
    try:
        return AutoModelForCausalLM.from_pretrained(source, dtype=dtype, attn_implementation=attention, **extra)
    except (OSError, ValueError) as error:
        raise UserError(f"train.base: {base}: {error}") from None


def rendered(tokenizer: Any, chat: list[Message]) -> Prompt:
    """The prompt of a chat through the tokenizer's own template, as runtime/model/llama.py makes it."""
    return render(chat, tokenizer.chat_template or CHATML, bos=tokenizer.bos_token or "", eos=tokenizer.eos_token or "")


def token_ids(tokenizer: Any, prompt: Prompt) -> list[int]:
    """Token ids of a prompt; in the user's pieces nothing is a special token, as in runtime/model/llama.py."""
    return [
        token
        for text, is_user in prompt
        for token in tokenizer(text, add_special_tokens=False, split_special_tokens=is_user).input_ids
    ]


def prompt_ids(tokenizer: Any, chat: list[Message]) -> list[int]:
    """Token ids of a chat."""
    return token_ids(tokenizer, rendered(tokenizer, chat))


def end_id(tokenizer: Any) -> int:
    """The token that ends an answer: the template's end of turn, else the end of text."""
    for token in ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<turn|>", "<|end|>"):
        found = tokenizer.convert_tokens_to_ids(token)
        if isinstance(found, int) and found not in (None, tokenizer.unk_token_id):
            return found
    if tokenizer.eos_token_id is None:
        raise UserError("train.base: its tokenizer has no token that ends a text")
    return int(tokenizer.eos_token_id)
