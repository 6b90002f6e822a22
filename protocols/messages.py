"""The WebSocket's messages, typed: what a client may send, and what the runtime answers (docs/websocket.md)."""

import re
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from kff_live.protocols.errors import DecodeError
from kff_live.protocols.frames import Frame
from kff_live.protocols.keyframe_text import KeyframeJson
from kff_live.protocols.talk.field import SpeechField, decode_speech_field

VERSION = 1
"""Of this message set; `welcome` carries it. Additions keep it, changes raise it."""

MAX_TEXT = 2000
"""Characters of one `say`, and of each of its other strings."""

MAX_ID = 100
"""Characters of an id, a subject and a source."""

MAX_DESCRIPTIONS = 8
MAX_KEYFRAMES = 200
"""Keyframes of one `keyframes` message."""

Mode = Literal["queue", "interrupt", "replace"]
Release = Literal["auto", "hold"]


class Say(msgspec.Struct, tag="say", tag_field="type", forbid_unknown_fields=True, kw_only=True):
    """A text to act on."""

    text: str
    id: str | None = None
    subject: str | None = None
    background: str = ""
    emotion: str = ""
    descriptions: list[str] = []
    intensity: float = 1.0
    mode: Mode = "queue"
    priority: int = 5
    source: str | None = None
    release: Release = "auto"
    more: bool = False
    speech: Any = None


class Keyframes(msgspec.Struct, tag="keyframes", tag_field="type", forbid_unknown_fields=True, kw_only=True):
    """Keyframes to play without the model."""

    keyframes: list[KeyframeJson]
    id: str | None = None
    subject: str | None = None
    intensity: float = 1.0
    mode: Mode = "queue"
    priority: int = 5
    source: str | None = None
    release: Release = "auto"


class Stop(msgspec.Struct, tag="stop", tag_field="type", forbid_unknown_fields=True, kw_only=True):
    """Cut what plays, empty the queue, ease to neutral; of one subject or of all."""

    subject: str | None = None


class Mood(msgspec.Struct, tag="mood", tag_field="type", forbid_unknown_fields=True, kw_only=True):
    """Shift the idle layer's numbers; of one subject or of all."""

    mood: str
    subject: str | None = None


class Sync(msgspec.Struct, tag="sync", tag_field="type", forbid_unknown_fields=True, kw_only=True):
    """Where the sound of a spoken text is: the face follows it, and stops when it is cut."""

    id: str
    position: Annotated[float, msgspec.Meta(ge=-60, le=3600)] = 0.0
    playing: bool = True


class Subscribe(msgspec.Struct, tag="subscribe", tag_field="type", forbid_unknown_fields=True, kw_only=True):
    """What else this client wants to get: frames, in which form, of which subjects; whose events."""

    frames: bool = False
    format: Literal["json", "livelink"] = "json"
    subjects: list[str] | None = None
    events: Literal["own", "all"] = "own"


Incoming = Say | Keyframes | Stop | Mood | Sync | Subscribe


class Channel(msgspec.Struct):
    """A channel as `welcome` lists it, in canonical order."""

    name: str
    unit: str
    low: float
    high: float


class Welcome(msgspec.Struct, tag="welcome", tag_field="type"):
    """First message of a connection."""

    version: int
    runtime: str
    subjects: list[str]
    fps: float
    rate: str
    model: Literal["loading", "ready", "down"]
    channels: list[Channel]
    moods: list[str]


class Model(msgspec.Struct, tag="model", tag_field="type"):
    """The model's state has changed."""

    state: Literal["loading", "ready", "down"]


class Accepted(msgspec.Struct, tag="accepted", tag_field="type"):
    """The text is parsed and queued; `waiting` texts of its subject are before it."""

    id: str
    subject: str
    waiting: int


class Started(msgspec.Struct, tag="started", tag_field="type", omit_defaults=True):
    """The face begins to act the utterance; a spoken one expects its sound to begin `sound` seconds from now."""

    id: str
    subject: str
    sound: float | None = None


class KeyframeEvent(msgspec.Struct, tag="keyframe", tag_field="type"):
    """A keyframe was parsed; its pose is as acted: intensity and the face's rules applied."""

    id: str
    subject: str
    index: int
    keyframe: KeyframeJson
    text: str
    """The same keyframe as a line of compact text."""


class Done(msgspec.Struct, tag="done", tag_field="type"):
    """Final: acted to its end, or the next utterance has taken over after its last hold."""

    id: str
    subject: str
    keyframes: int
    underruns: int


class Interrupted(msgspec.Struct, tag="interrupted", tag_field="type"):
    """Final: cut short."""

    id: str
    subject: str
    reason: str


class Dropped(msgspec.Struct, tag="dropped", tag_field="type"):
    """Final: never acted."""

    id: str
    subject: str
    reason: str


class Failed(msgspec.Struct, tag="failed", tag_field="type"):
    """Final: the model gave nothing that could be acted, or its process died twice over this text."""

    id: str
    subject: str
    reason: str


ErrorCode = Literal[
    "bad-json",  # not JSON
    "bad-message",  # unknown type or field, wrong type of a value
    "bad-field",  # out of range
    "unknown-subject",
    "too-long",
    "queue-full",
    "too-many",  # over the rate of one source
    "ended",  # goes on with a text that was cut
    "closing",  # the runtime is ending
    "unknown-id",  # no spoken text of that id is acted or waits
]


class Error(msgspec.Struct, tag="error", tag_field="type", omit_defaults=True):
    """What was not accepted, and why; `field` is the path of the offending field, `id` the message's own."""

    code: ErrorCode
    message: str
    field: str = ""
    id: str | None = None


class FrameMessage(msgspec.Struct, tag="frame", tag_field="type"):
    """One frame as JSON; `values` in canonical order, five decimals."""

    subject: str
    frame: int
    subframe: float
    id: str | None
    key: int
    values: list[float]

    @classmethod
    def of(cls, frame: Frame) -> "FrameMessage":
        """The message of a frame."""
        values = [round(value, 5) for value in frame.pose.tolist()]
        return cls(frame.subject, frame.number, round(frame.subframe, 4), frame.utterance, frame.key, values)


class Status(msgspec.Struct, tag="status", tag_field="type"):
    """How the runtime does, once a second: frames a second, the worst lateness of that second and the time from the
    latest text to its first changed frame (ms, None before the first), frames skipped since the start, texts waiting,
    the mood of each subject.
    """

    fps: float
    late_ms: float
    latency_ms: float | None
    skipped: int
    waiting: int
    mood: dict[str, str]


FinalEvent = Done | Interrupted | Dropped | Failed
Event = Accepted | Started | KeyframeEvent | FinalEvent | Model
"""What a sink or a client may hear about; those with an `id` concern one utterance."""


class Refused(DecodeError):
    """A message that is not accepted; carries the `error` to send back."""

    def __init__(self, code: str, message: str, *, field: str = "", id: str | None = None) -> None:
        super().__init__(message)
        self.error = Error(code, message, field, id)  # type: ignore[arg-type]


_DECODER: msgspec.json.Decoder[Incoming] = msgspec.json.Decoder(Incoming)
_SAY_DECODER = msgspec.json.Decoder(Say)
_Message = TypeVar("_Message", bound=Incoming)
_FIELD = " - at `$"
_NAMED_FIELD = re.compile(r" field `(.*)`$")  # of an unknown or a missing field


def decode(data: str | bytes) -> Incoming:
    """The message in a JSON text.

    Raises:
        Refused: not JSON, of no known type, an unknown field, or a value out of range.
    """
    return _decoded(data, _DECODER)


def decode_say(data: str | bytes) -> Say:
    """The `say` in a text where nothing else may come: an object is JSON, its `type` may be left out.

    Raises:
        Refused: as `decode`; or it is not UTF-8.
    """
    try:
        text = data if isinstance(data, str) else data.decode()
    except UnicodeDecodeError as error:
        raise Refused("bad-field", f"text: it is not valid UTF-8: {error.reason}", field="text") from None
    if text.lstrip().startswith("{"):
        return _decoded(text, _SAY_DECODER)
    message = Say(text=text)
    check(message)
    return message


def _decoded(data: str | bytes, decoder: msgspec.json.Decoder[_Message]) -> _Message:
    try:
        message = decoder.decode(data)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(_FIELD)
        names = [path.strip(".`"), *_NAMED_FIELD.findall(text)]
        raise Refused("bad-message", text, field=".".join(filter(None, names))) from None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Refused("bad-json", f"not valid JSON: {error}") from None
    check(message)
    return message


def decode_text(text: str) -> Incoming:
    """The message of a WebSocket text frame: an object is JSON, anything else is text to act on."""
    if text.lstrip().startswith("{"):
        return decode(text)
    message = Say(text=text)
    check(message)
    return message


def check(message: Incoming) -> None:
    """Ranges and lengths that the types do not say.

    Raises:
        Refused: the message names the field, the value and what was expected.
    """
    if isinstance(message, Subscribe | Sync):
        return
    own_id = None if isinstance(message, Stop | Mood) else message.id
    names = {"subject": message.subject, "source": None if isinstance(message, Stop | Mood) else message.source}
    for field, name in names.items():
        if name is not None and len(name) > MAX_ID:
            raise Refused("bad-field", f"{field}: {len(name)} characters, at most {MAX_ID}", field=field)
    if isinstance(message, Stop | Mood):
        return
    if own_id is not None and not 1 <= len(own_id) <= MAX_ID:
        raise Refused("bad-field", f"id: {len(own_id)} characters, expected 1 to {MAX_ID}", field="id")
    if not 0.0 <= message.intensity <= 2.0:
        raise Refused("bad-field", f"intensity: {message.intensity} is outside 0 to 2", field="intensity", id=own_id)
    if not 0 <= message.priority <= 9:
        raise Refused("bad-field", f"priority: {message.priority} is outside 0 to 9", field="priority", id=own_id)
    if isinstance(message, Keyframes):
        count = len(message.keyframes)
        if not 1 <= count <= MAX_KEYFRAMES:
            raise Refused(
                "bad-field", f"keyframes: {count}, expected 1 to {MAX_KEYFRAMES}", field="keyframes", id=own_id
            )
        return
    try:
        speech = decode_speech_field(message.speech)
    except DecodeError as error:
        raise Refused("bad-field", str(error), field=str(error).partition(":")[0], id=own_id) from None
    if message.more and speech is not None and speech != SpeechField():
        raise Refused("bad-field", "speech: of a text with more to come only true", field="speech", id=own_id)
    if len(message.descriptions) > MAX_DESCRIPTIONS:
        raise Refused(
            "bad-field",
            f"descriptions: {len(message.descriptions)}, expected at most {MAX_DESCRIPTIONS}",
            field="descriptions",
            id=own_id,
        )
    strings = {"text": message.text, "background": message.background, "emotion": message.emotion}
    strings |= {f"descriptions[{i}]": text for i, text in enumerate(message.descriptions)}
    for field, value in strings.items():
        if len(value) > MAX_TEXT:
            raise Refused("too-long", f"{field}: {len(value)} characters, at most {MAX_TEXT}", field=field, id=own_id)
        if not _is_unicode(value):
            raise Refused("bad-field", f"{field}: it is not valid Unicode", field=field, id=own_id)
    # With an id it may end a text that was streamed in parts; the director knows.
    if is_empty(message.text) and not message.more and own_id is None:
        raise Refused("bad-field", "text: it is empty", field="text", id=own_id)


def _is_unicode(text: str) -> bool:
    """Whether it holds no lone surrogate, as a terminal or a command line may hand in."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_empty(text: str) -> bool:
    """Whether there is nothing to act on."""
    return not text.replace("\0", " ").strip()


def encode(message: msgspec.Struct) -> str:
    """The JSON text of a message."""
    return msgspec.json.encode(message).decode()
