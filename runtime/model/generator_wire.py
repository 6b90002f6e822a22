"""What the runtime and its generator process say to each other: length-prefixed MessagePack over loopback TCP."""

import struct
from typing import Literal

import msgspec

from kff_live.protocols.errors import DecodeError
from kff_live.protocols.prompt import PromptInput

SECRET_VARIABLE = "KFF_GENERATOR_SECRET"
MAX_MESSAGE = 1 << 20
_LENGTH = struct.Struct(">I")
LENGTH_SIZE = _LENGTH.size


class EngineSettings(msgspec.Struct, frozen=True):
    """How the model is loaded and asked; zeros are resolved by the engine.

    `path` a GGUF; `adapter` a LoRA GGUF or ""; `merge` a folder in which both are kept as one file, or "" to apply the
    adapter beside the model; `gpu_layers` -1 for all; `threads` 0 for half the cores, 2 to 4;
    `sequences` answers at a time; `dialect` a key of DIALECTS; `temperature` 0 takes the best token;
    `max_tokens` of one answer.
    """

    path: str
    adapter: str = ""
    merge: str = ""
    adapter_scale: float = 1.0
    gpu_layers: int = -1
    threads: int = 0
    sequences: int = 4
    dialect: str = "compact"
    examples: bool = True
    temperature: float = 0.0
    max_tokens: int = 0


class EngineInfo(msgspec.Struct, frozen=True):
    """What was loaded: for the start screen and the benchmark."""

    name: str
    gpu: bool
    gpu_layers: int
    threads: int
    context: int
    prefix: int


class Load(msgspec.Struct, tag=True):
    """Load the model; answered by Ready or LoadFailed, perhaps after some Preparing."""

    settings: EngineSettings


class Generate(msgspec.Struct, tag=True):
    """Answer a text; `number` is the chat of the dialect's chats, from 0."""

    id: int
    request: PromptInput
    number: int = 0
    seed: int = 0


class Cancel(msgspec.Struct, tag=True):
    """Stop answering; nothing more comes for this id."""

    id: int


class Hello(msgspec.Struct, tag=True):
    """The process has connected; proves itself by the secret it was started with."""

    secret: str


class Preparing(msgspec.Struct, tag=True):
    """Model and adapter are being merged, once; `share` of it is done, 0 to 1."""

    share: float


class Ready(msgspec.Struct, tag=True):
    """The model is loaded and the prompt's fixed part is read."""

    info: EngineInfo


class LoadFailed(msgspec.Struct, tag=True):
    """The model cannot be used."""

    reason: str


class Piece(msgspec.Struct, tag=True):
    """Text that the model wrote."""

    id: int
    text: str


class AnswerStats(msgspec.Struct, frozen=True):
    """Figures of one answer: tokens read and written, seconds, and best tokens that the grammar refused."""

    prompt_tokens: int = 0
    prompt_seconds: float = 0.0
    tokens: int = 0
    seconds: float = 0.0
    refused: int = 0


Ending = Literal["end", "length", "error"]
"""The model ended it; it reached max_tokens; it failed."""


class End(msgspec.Struct, tag=True):
    """The answer is complete: the model ended it, it reached max_tokens, or it failed for `error`."""

    id: int
    reason: Ending
    stats: AnswerStats
    error: str = ""


ToChild = Load | Generate | Cancel
ToParent = Hello | Preparing | Ready | LoadFailed | Piece | End

_to_child: msgspec.msgpack.Decoder[ToChild] = msgspec.msgpack.Decoder(ToChild)
_to_parent: msgspec.msgpack.Decoder[ToParent] = msgspec.msgpack.Decoder(ToParent)


def encode(message: msgspec.Struct) -> bytes:
    """The bytes of a message, its length first."""
    body = msgspec.msgpack.encode(message)
    return _LENGTH.pack(len(body)) + body


def length(prefix: bytes) -> int:
    """Bytes that follow a length prefix.

    Raises:
        DecodeError: more than MAX_MESSAGE.
    """
    (size,) = _LENGTH.unpack(prefix)
    if size > MAX_MESSAGE:
        raise DecodeError(f"a message of {size} bytes, at most {MAX_MESSAGE}")
    return int(size)


def decode_to_child(body: bytes) -> ToChild:
    """A message for the generator process.

    Raises:
        DecodeError: it is none.
    """
    try:
        return _to_child.decode(body)
    except msgspec.DecodeError as error:
        raise DecodeError(f"not a message: {error}") from None


def decode_to_parent(body: bytes) -> ToParent:
    """A message for the runtime.

    Raises:
        DecodeError: it is none.
    """
    try:
        return _to_parent.decode(body)
    except msgspec.DecodeError as error:
        raise DecodeError(f"not a message: {error}") from None
