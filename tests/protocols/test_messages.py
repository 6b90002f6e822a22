import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from kff_live.protocols import messages as m
from kff_live.protocols.keyframe_text import KeyframeJson
from kff_live.protocols.messages import (
    MAX_DESCRIPTIONS,
    MAX_ID,
    MAX_KEYFRAMES,
    MAX_TEXT,
    Incoming,
    Keyframes,
    Mood,
    Refused,
    Say,
    Stop,
    Subscribe,
    Sync,
    decode,
    decode_say,
    decode_text,
    encode,
)


def say(**fields: object) -> str:
    return json.dumps({"type": "say", "text": "hello", **fields})


def keyframes(*items: object, **fields: object) -> str:
    return json.dumps({"type": "keyframes", "keyframes": list(items), **fields})


def refusal(data: str | bytes, read: Callable[[str], Incoming] = decode) -> m.Error:
    with pytest.raises(Refused) as caught:
        read(data)  # type: ignore[arg-type]
    assert str(caught.value) == caught.value.error.message
    return caught.value.error


# Drives both directions: what a client writes, and the message it means.
ACCEPTED: list[tuple[str, Incoming]] = [
    ('{"type":"say","text":"hello"}', Say(text="hello")),
    (
        '{"type":"say","text":"","id":"7","subject":"Anna","background":"a party","emotion":"joy",'
        '"descriptions":["smiles"],"intensity":2,"mode":"interrupt","priority":9,"source":"chat","release":"hold","more":true}',
        Say(
            text="", id="7", subject="Anna", background="a party", emotion="joy", descriptions=["smiles"],
            intensity=2.0, mode="interrupt", priority=9, source="chat", release="hold", more=True,
        ),
    ),
    ('{"type":"say","text":"hello","intensity":0,"priority":0,"mode":"replace"}',
     Say(text="hello", intensity=0.0, priority=0, mode="replace")),
    ('{"type":"say","text":"hello","id":null,"speech":null}', Say(text="hello")),
    ('{"type":"mood","mood":"sad","subject":"Anna"}', Mood(mood="sad", subject="Anna")),
    ('{"type":"sync","id":"a","position":1.5}', Sync(id="a", position=1.5)),
    ('{"type":"keyframes","keyframes":[{}]}', Keyframes(keyframes=[KeyframeJson()])),
    ('{"type":"keyframes","keyframes":[{"pose":{"JawOpen":0.5},"way":1,"hold":2.5,"easing":"sine","label":"o"}],"id":"k"}',
     Keyframes(keyframes=[KeyframeJson({"JawOpen": 0.5}, 1.0, 2.5, "sine", "o")], id="k")),
    ('{"type":"stop"}', Stop()),
    ('{"type":"stop","subject":"Anna"}', Stop(subject="Anna")),
    ('{"type":"subscribe"}', Subscribe()),
    ('{"type":"subscribe","frames":true,"format":"livelink","subjects":["Anna"],"events":"all"}',
     Subscribe(frames=True, format="livelink", subjects=["Anna"], events="all")),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), ACCEPTED)
def test_each_message_is_decoded_and_its_encoding_too(text: str, message: Incoming) -> None:
    assert decode(text) == message
    assert decode(text.encode()) == message
    assert decode_text(f"  {text}") == message
    assert decode(encode(message)) == message


def test_defaults_of_a_say() -> None:
    message = decode(say())
    assert isinstance(message, Say)
    assert (message.intensity, message.mode, message.priority, message.release) == (1.0, "queue", 5, "auto")
    assert (message.id, message.subject, message.source, message.more) == (None, None, None, False)


@pytest.mark.parametrize("text", ["hello", "  hello", "[not json", '"quoted"', "say {this}", "3"])
def test_text_frame_that_is_no_object_is_text_to_act_on(text: str) -> None:
    assert decode_text(text) == Say(text=text)


@pytest.mark.parametrize("text", ["{", " {hello}", '\n{"type":"sing"}'])
def test_text_frame_that_begins_like_an_object_must_be_a_message(text: str) -> None:
    assert refusal(text, decode_text).code in ("bad-json", "bad-message")


@pytest.mark.parametrize("text", ["", " \n\t", "\0", "x" * (MAX_TEXT + 1)])
def test_text_frame_is_checked_like_a_say(text: str) -> None:
    assert refusal(text, decode_text).field == "text"


@pytest.mark.parametrize("text", [text for text, _ in ACCEPTED])
def test_message_cut_anywhere_or_with_trailing_junk_is_not_json(text: str) -> None:
    for end in range(len(text)):
        assert refusal(text[:end]).code == "bad-json"
    for tail in ("x", "{}", "}", ","):
        assert refusal(text + tail).code == "bad-json"


@pytest.mark.parametrize(
    "data",
    ["", "hello", "{'type':'say'}", '{"type":"say","text":NaN}', '{"type":"say","text":"\\ud800"}',
     '{"type":"say","text":"\ud800"}', b'{"type":"say","text":"\xff"}', b"\xff",
     say()[:-1] + ',"speech":' + "[" * 50_000 + "]" * 50_000 + "}"],
)  # fmt: skip
def test_what_is_not_json_is_refused(data: str | bytes) -> None:
    error = refusal(data)
    assert error.code == "bad-json"
    assert error.message.startswith("not valid JSON: ")


# (message, code, field, part of the text)
REFUSED: list[tuple[str, str, str, str]] = [
    # unknown fields, by name
    (say(loud=True), "bad-message", "loud", "unknown field `loud`"),
    ('{"type":"stop","text":"x"}', "bad-message", "text", "unknown field `text`"),
    (keyframes({"poze": {}}), "bad-message", "keyframes[0].poze", "unknown field `poze`"),
    # of no known type
    ("{}", "bad-message", "type", "missing required field `type`"),
    ('{"text":"hello"}', "bad-message", "type", "missing required field `type`"),
    ('{"type":"sing"}', "bad-message", "type", "Invalid value 'sing'"),
    ('{"type":"welcome"}', "bad-message", "type", "Invalid value 'welcome'"),
    ('{"type":1}', "bad-message", "type", "Expected `str`"),
    ("[]", "bad-message", "", "Expected `object`, got `array`"),
    ('"hello"', "bad-message", "", "Expected `object`, got `str`"),
    # missing and wrong types
    ('{"type":"say"}', "bad-message", "text", "missing required field `text`"),
    ('{"type":"keyframes"}', "bad-message", "keyframes", "missing required field `keyframes`"),
    (say(text=3), "bad-message", "text", "Expected `str`, got `int`"),
    (say(text=None), "bad-message", "text", "Expected `str`, got `null`"),
    (say(id=7), "bad-message", "id", "Expected `str | null`, got `int`"),
    (say(intensity="1"), "bad-message", "intensity", "Expected `float`, got `str`"),
    (say(priority=1.5), "bad-message", "priority", "Expected `int`, got `float`"),
    (say(more=1), "bad-message", "more", "Expected `bool`, got `int`"),
    (say(mode="loud"), "bad-message", "mode", "Invalid enum value 'loud'"),
    (say(release="never"), "bad-message", "release", "Invalid enum value 'never'"),
    (say(descriptions="smiles"), "bad-message", "descriptions", "Expected `array`, got `str`"),
    (say(descriptions=["a", 2]), "bad-message", "descriptions[1]", "Expected `str`, got `int`"),
    (
        keyframes({"pose": {"JawOpen": "wide"}}),
        "bad-message",
        "keyframes[0].pose[...]",
        "Expected `float`, got `str`",
    ),
    ('{"type":"subscribe","format":"osc"}', "bad-message", "format", "Invalid enum value 'osc'"),
    # ranges
    (say(intensity=2.01), "bad-field", "intensity", "intensity: 2.01 is outside 0 to 2"),
    (say(intensity=-0.1), "bad-field", "intensity", "intensity: -0.1 is outside 0 to 2"),
    (say(priority=10), "bad-field", "priority", "priority: 10 is outside 0 to 9"),
    (say(priority=-1), "bad-field", "priority", "priority: -1 is outside 0 to 9"),
    (say()[:-1] + ',"intensity":1e999}', "bad-message", "intensity", "Number out of range"),
    (say(priority=10**30), "bad-field", "priority", "is outside 0 to 9"),
    (say(id=""), "bad-field", "id", "id: 0 characters, expected 1 to 100"),
    (say(id="x" * (MAX_ID + 1)), "bad-field", "id", "id: 101 characters"),
    (say(text=""), "bad-field", "text", "text: it is empty"),
    (say(text=" \r\n\t\0"), "bad-field", "text", "text: it is empty"),
    (say(descriptions=["a"] * 9), "bad-field", "descriptions", "descriptions: 9, expected at most 8"),
    (keyframes(), "bad-field", "keyframes", "keyframes: 0, expected 1 to 200"),
    (keyframes(*[{}] * 201), "bad-field", "keyframes", "keyframes: 201, expected 1 to 200"),
    (keyframes({}, intensity=3), "bad-field", "intensity", "intensity: 3.0 is outside 0 to 2"),
    (keyframes({}, priority=11), "bad-field", "priority", "priority: 11 is outside 0 to 9"),
    # lengths
    (say(text="x" * 2001), "too-long", "text", "text: 2001 characters, at most 2000"),
    (say(background="x" * 2001), "too-long", "background", "background: 2001 characters"),
    (say(emotion="x" * 2001), "too-long", "emotion", "emotion: 2001 characters"),
    (say(descriptions=["a", "x" * 2001]), "too-long", "descriptions[1]", "descriptions[1]: 2001 characters"),
    # not there yet
    (say(speech={"audio": "x"}), "bad-field", "speech.audio", "speech.audio: unknown field"),
    (say(speech={"words": [{"text": "a", "start": 2, "end": 1}]}), "bad-field", "speech.words[0].end", "1 is before"),
    (say(speech={"duration": 2}, more=True, id="s"), "bad-field", "speech", "speech: of a text with more"),
]


@pytest.mark.parametrize(("text", "code", "field", "part"), REFUSED)
def test_what_is_not_accepted_is_refused_by_field(text: str, code: str, field: str, part: str) -> None:
    error = refusal(text)
    assert (error.code, error.field) == (code, field)
    assert part in error.message


@pytest.mark.parametrize(
    "text",
    [
        say(text="x" * MAX_TEXT, background="x" * MAX_TEXT, emotion="x" * MAX_TEXT),
        say(descriptions=["x" * MAX_TEXT] * MAX_DESCRIPTIONS),
        say(id="x" * MAX_ID),
        say(text="", more=True),
        say(text="", id="7"),  # may end a text that came in parts
        keyframes(*[{}] * MAX_KEYFRAMES),
    ],
)
def test_limits_themselves_are_accepted(text: str) -> None:
    decode(text)


@pytest.mark.parametrize("text", [say(id="7", intensity=9), say(id="7", speech={}), say(id="7", priority=-1)])
def test_refusal_carries_the_id_of_the_message(text: str) -> None:
    assert refusal(text).id == "7"


# --- what the runtime answers -------------------------------------------------------------------------------------

EVENTS: list[tuple[msgspec.Struct, dict[str, Any]]] = [
    (m.Model("ready"), {"type": "model", "state": "ready"}),
    (m.Accepted("7", "Anna", 2), {"type": "accepted", "id": "7", "subject": "Anna", "waiting": 2}),
    (m.Started("7", "Anna"), {"type": "started", "id": "7", "subject": "Anna"}),
    (m.KeyframeEvent("7", "Anna", 0, KeyframeJson({"JawOpen": 0.5}, 0.5, 0.25, "sine", "o"), "o: 5+2.5 sine jaw5\n"),
     {"type": "keyframe", "id": "7", "subject": "Anna", "index": 0, "text": "o: 5+2.5 sine jaw5\n",
      "keyframe": {"pose": {"JawOpen": 0.5}, "way": 0.5, "hold": 0.25, "easing": "sine", "label": "o"}}),
    (m.Done("7", "Anna", 3, 1), {"type": "done", "id": "7", "subject": "Anna", "keyframes": 3, "underruns": 1}),
    (m.Interrupted("7", "Anna", "stop"), {"type": "interrupted", "id": "7", "subject": "Anna", "reason": "stop"}),
    (m.Dropped("7", "Anna", "replace"), {"type": "dropped", "id": "7", "subject": "Anna", "reason": "replace"}),
    (m.Failed("7", "Anna", "died"), {"type": "failed", "id": "7", "subject": "Anna", "reason": "died"}),
    (m.Error("bad-json", "no"), {"type": "error", "code": "bad-json", "message": "no"}),
    (m.Error("bad-field", "no", "text", "7"),
     {"type": "error", "code": "bad-field", "message": "no", "field": "text", "id": "7"}),
    (m.FrameMessage("Anna", 3600, 0.25, None, -1, [0.0, 0.5]),
     {"type": "frame", "subject": "Anna", "frame": 3600, "subframe": 0.25, "id": None, "key": -1,
      "values": [0.0, 0.5]}),
    (m.Welcome(1, "0.1.0", ["Anna"], 60.0, "60", "loading", [m.Channel("JawOpen", "coefficient", 0.0, 1.0)],
               ["calm"]),
     {"type": "welcome", "version": 1, "runtime": "0.1.0", "subjects": ["Anna"], "fps": 60.0, "rate": "60",
      "model": "loading", "channels": [{"name": "JawOpen", "unit": "coefficient", "low": 0.0, "high": 1.0}],
      "moods": ["calm"]}),
    (m.Status(fps=60.0, late_ms=0.5, latency_ms=None, skipped=2, waiting=1, mood={"Anna": "sad"}),
     {"type": "status", "fps": 60.0, "late_ms": 0.5, "latency_ms": None, "skipped": 2, "waiting": 1,
      "mood": {"Anna": "sad"}}),
]  # fmt: skip


@pytest.mark.parametrize(("event", "expected"), EVENTS, ids=[type(event).__name__ for event, _ in EVENTS])
def test_answer_as_a_client_reads_it(event: msgspec.Struct, expected: dict[str, Any]) -> None:
    assert json.loads(encode(event)) == expected
    assert msgspec.json.decode(encode(event), type=type(event)) == event


def test_every_answer_is_in_the_table() -> None:
    incoming = {Say, Keyframes, Stop, Mood, Sync, Subscribe}
    tagged = {
        kind
        for kind in vars(m).values()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__struct_config__.tag
    }
    assert {type(event) for event, _ in EVENTS} == tagged - incoming


def test_where_only_a_say_may_come_its_type_may_be_left_out() -> None:
    assert decode_say("Hello") == decode_say(b'{"text": "Hello"}') == decode_say('{"type": "say", "text": "Hello"}')
    assert decode_say("  [1]") == Say(text="  [1]")


@pytest.mark.parametrize(
    ("data", "code", "field"),
    [
        ('{"type": "stop"}', "bad-message", "type"),
        ('{"type": "keyframes", "keyframes": []}', "bad-message", "type"),
        ("{", "bad-json", ""),
        ("{}", "bad-message", "text"),
        ('{"text": "a", "more": 1}', "bad-message", "more"),
        ('{"text": "a", "intensity": 3}', "bad-field", "intensity"),
        (b"\xff", "bad-field", "text"),
        ("", "bad-field", "text"),
    ],
)
def test_what_is_no_say_is_refused(data: str | bytes, code: str, field: str) -> None:
    with pytest.raises(Refused) as caught:
        decode_say(data)
    assert (caught.value.error.code, caught.value.error.field) == (code, field)
