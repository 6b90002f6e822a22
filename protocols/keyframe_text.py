"""Keyframe text: what the model writes and people edit, as grammar, formatter and incremental parser.

Two dialects. `compact` is ours, one line a keyframe (docs/keyframe-text.md):

    # kff 1
    glad surprise: 2 wide8 jaw4 browinner7 browouter6
    warm smile: 6+12 sine squint3 smile7 cheek5 yaw-1

`keyframeface` is the JSON that the KeyframeFace models write: `{"Keyframe_one":{61 names and values}}`, alone or
after prose. It carries no timing, so each keyframe takes KEYFRAMEFACE_WAY and KEYFRAMEFACE_HOLD, together the one
second of the released converter.

The law of both: `parse(format(k)) == quantise(k)`.
"""

import re
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Protocol

import msgspec
import numpy as np

from kff_live.protocols.channels import (
    CHANNELS,
    HIGH,
    INDEX,
    LIVELINK_CSV,
    LOW,
    SHAPES,
    Pose,
    neutral,
    pose_from_names,
    pose_to_names,
)
from kff_live.protocols.easing import DEFAULT_EASING, EASINGS
from kff_live.protocols.errors import DecodeError, EncodeError
from kff_live.protocols.keyframes import EYE_ANGLES, MAX_LABEL, MAX_SECONDS, Keyframe, has_own_eye_angles

HEADER = "# kff 1"
"""First line of a file of keyframe text."""

MAX_KEYFRAMES = 8
"""Keyframes in one answer of the model."""

MAX_LINE = 1000
"""Longest line of compact text, in characters; the rest of a longer one is skipped."""

MAX_OBJECT = 16_384
"""Longest JSON object, in characters; a full KeyframeFace keyframe has about 1,400."""

KEYFRAMEFACE_WAY, KEYFRAMEFACE_HOLD = 0.6, 0.4

_DECIMALS = 3
_MAX_ERRORS = 20


@dataclass(frozen=True)
class Name:
    """A word of compact text and the channels it moves: one, or the left and the right one of a pair.

    For the horizontal gaze the pair is the one that moves both eyes the same way: `lookleft` is EyeLookOutLeft and
    EyeLookInRight.
    """

    word: str
    left: int
    right: int | None
    signed: bool


def _name(word: str, left: str, right: str | None = None) -> Name:
    return Name(word, INDEX[left], INDEX[right] if right else None, INDEX[left] >= SHAPES)


def _pair(word: str, stem: str) -> Name:
    return _name(word, f"{stem}Left", f"{stem}Right")


def _eye(word: str, axis: str) -> Name:
    return _name(word, f"LeftEye{axis}", f"RightEye{axis}")


NAMES: tuple[Name, ...] = (
    _pair("blink", "EyeBlink"), _pair("lookdown", "EyeLookDown"),
    _name("lookright", "EyeLookInLeft", "EyeLookOutRight"), _name("lookleft", "EyeLookOutLeft", "EyeLookInRight"),
    _pair("lookup", "EyeLookUp"), _pair("squint", "EyeSquint"), _pair("wide", "EyeWide"),
    _name("jawforward", "JawForward"), _name("jawleft", "JawLeft"), _name("jawright", "JawRight"),
    _name("jaw", "JawOpen"), _name("mouthclose", "MouthClose"), _name("funnel", "MouthFunnel"),
    _name("pucker", "MouthPucker"), _name("mouthleft", "MouthLeft"), _name("mouthright", "MouthRight"),
    _pair("smile", "MouthSmile"), _pair("frown", "MouthFrown"), _pair("dimple", "MouthDimple"),
    _pair("stretch", "MouthStretch"), _name("lowerroll", "MouthRollLower"), _name("upperroll", "MouthRollUpper"),
    _name("lowershrug", "MouthShrugLower"), _name("uppershrug", "MouthShrugUpper"), _pair("press", "MouthPress"),
    _pair("lowerlip", "MouthLowerDown"), _pair("upperlip", "MouthUpperUp"), _pair("browdown", "BrowDown"),
    _name("browinner", "BrowInnerUp"), _pair("browouter", "BrowOuterUp"), _name("puff", "CheekPuff"),
    _pair("cheek", "CheekSquint"), _pair("sneer", "NoseSneer"), _name("tongue", "TongueOut"),
    _name("yaw", "HeadYaw"), _name("pitch", "HeadPitch"), _name("roll", "HeadRoll"),
    _eye("eyeyaw", "Yaw"), _eye("eyepitch", "Pitch"), _eye("eyeroll", "Roll"),
)  # fmt: skip
"""The words in canonical order, the order of their first channels."""

_BY_WORD = MappingProxyType({name.word: name for name in NAMES})
_ITEM = re.compile(r"([a-z]+)([LR]?)(-?[0-9]+(?:\.[0-9]{1,3})?)")
_TIME = re.compile(r"([0-9]+(?:\.[0-9]{1,3})?)(?:\+([0-9]+(?:\.[0-9]{1,3})?))?")
_BRACES = re.compile(r"([{}])")
_LIKE_JSON = re.compile(r'\{\s*"')
_OBJECT_DECODER = msgspec.json.Decoder(dict[str, object])


# --- quantise and format ------------------------------------------------------------------------------------------


def _round(value: float) -> float:
    """To three decimals of a tenth, as text carries them; never -0."""
    return round(float(value), _DECIMALS + 1) + 0.0


def _quantised_pose(pose: Pose) -> Pose:
    rounded = np.array([_round(value) for value in np.clip(pose, LOW, HIGH)], np.float32)
    if not has_own_eye_angles(rounded):
        rounded[EYE_ANGLES] = 0.0
    return rounded


def _quantised_label(label: str) -> str:
    """Printable, without ':' (it ends a label) and without a leading '#' (a comment), single-spaced, MAX_LABEL long."""
    clean = "".join(c if c.isprintable() and c != ":" else " " for c in label)
    return " ".join(clean.split()).lstrip("# ")[:MAX_LABEL].rstrip()


def quantise(keyframe: Keyframe) -> Keyframe:
    """The nearest keyframe that compact text can carry: values in their ranges with three decimals of a tenth, eye
    angles only where they are the keyframe's own, a label without ':'.
    """
    return Keyframe(
        _quantised_pose(keyframe.pose),
        way=_round(keyframe.way),
        hold=_round(keyframe.hold),
        easing=keyframe.easing,
        label=_quantised_label(keyframe.label),
    )


def quantise_keyframeface(keyframe: Keyframe) -> Keyframe:
    """The nearest keyframe that KeyframeFace's JSON can carry: no timing, no easing, eye angles derived."""
    pose = np.array([_round(value) for value in np.clip(keyframe.pose, LOW, HIGH)], np.float32)
    pose[EYE_ANGLES] = 0.0
    return Keyframe(pose, way=KEYFRAMEFACE_WAY, hold=KEYFRAMEFACE_HOLD)


def _tenths(value: float) -> str:
    text = f"{float(value) * 10.0:.{_DECIMALS}f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def format_keyframe(keyframe: Keyframe) -> str:
    """One line of compact text, its newline included."""
    k = quantise(keyframe)
    parts = [_tenths(k.way) + (f"+{_tenths(k.hold)}" if k.hold else "")]
    if k.easing != DEFAULT_EASING:
        parts.append(k.easing)
    for name in NAMES:
        left = float(k.pose[name.left])
        right = left if name.right is None else float(k.pose[name.right])
        sides = [("", left)] if left == right else [("L", left), ("R", right)]
        parts += [f"{name.word}{side}{_tenths(value)}" for side, value in sides if value]
    return (f"{k.label}: " if k.label else "") + " ".join(parts) + "\n"


def format_keyframes(keyframes: list[Keyframe]) -> str:
    """A whole file of compact text."""
    return HEADER + "\n" + "".join(format_keyframe(k) for k in keyframes)


ORDINALS = ("one", "two", "three", "four", "five", "six", "seven", "eight")
"""How KeyframeFace numbers its keyframes."""


def format_keyframeface(keyframe: Keyframe, *, number: int = 1) -> str:
    """KeyframeFace's JSON for one keyframe: 61 names in its order, at most four decimals.

    Raises:
        EncodeError: `number` is not 1 to 8.
    """
    if not 1 <= number <= len(ORDINALS):
        raise EncodeError(f"number: {number} is outside 1 to {len(ORDINALS)}")
    pose = quantise_keyframeface(keyframe).pose
    values = {name: round(float(pose[INDEX[name]]), _DECIMALS + 1) for name in LIVELINK_CSV}
    return msgspec.json.encode({f"Keyframe_{ORDINALS[number - 1]}": values}).decode()


# --- grammar ------------------------------------------------------------------------------------------------------


def _compact_grammar() -> str:
    rules, chain = [], []
    for name in NAMES:
        level = "turn" if name.signed else "level"
        item = f'" {name.word}" {level}'
        if name.right is not None:
            item = f'" {name.word}" ({level} | "L" {level} (" {name.word}R" {level})? | "R" {level})'
        rules.append(f"{name.word} ::= ({item})?")
        chain.append(name.word)
    easings = " | ".join(f'" {word}"' for word in EASINGS if word != DEFAULT_EASING)
    return "\n".join(
        [
            f"root ::= line{{1,{MAX_KEYFRAMES}}}",
            'line ::= (label ": ")? time ("+" time)? (easing)? ' + " ".join(chain) + ' "\\n"',
            "label ::= [a-zA-Z] [a-zA-Z ,'-]{0,39}",
            "time ::= [1-9] [0-9]?",
            f"easing ::= {easings}",
            'level ::= "10" | [1-9]',
            'turn ::= "-"? ("10" | [1-9])',
            *rules,
        ]
    )


def _keyframeface_grammar() -> str:
    values = ' "," '.join(f'"\\"{name}\\":" {"level" if INDEX[name] < SHAPES else "turn"}' for name in LIVELINK_CSV)
    ordinals = " | ".join(f'"{word}"' for word in ORDINALS)
    return "\n".join(
        [
            f'root ::= "{{\\"Keyframe_" ({ordinals}) "\\":{{" {values} "}}}}"',
            'level ::= "0." [0-9] | "1.0"',
            'turn ::= "-"? level',
        ]
    )


# --- parse --------------------------------------------------------------------------------------------------------


class KeyframeParser(Protocol):
    """Text in, keyframes out as soon as each is complete; what cannot be read is skipped and kept in `errors`."""

    errors: list[str]

    def feed(self, text: str) -> list[Keyframe]:
        """The keyframes that `text` completes."""

    def close(self) -> None:
        """The text has ended; an unfinished keyframe is an error, since its last number may be cut."""


def parse_line(line: str) -> Keyframe:
    """The keyframe of one compact line.

    Raises:
        DecodeError: the line is not one; the message names the word.
    """
    label, colon, body = line.rpartition(":")
    words = body.split()
    if not words:
        raise DecodeError("expected a time in tenths of a second")
    time = _TIME.fullmatch(words[0])
    if time is None:
        raise DecodeError(f"{words[0][:40]!r}: expected way or way+hold in tenths of a second, such as 4 or 4+10")
    way, hold = (_round(float(tenths or 0) / 10.0) for tenths in time.groups())
    for field, seconds in (("way", way), ("hold", hold)):
        if seconds > MAX_SECONDS:
            raise DecodeError(f"{words[0]!r}: a {field} is at most {MAX_SECONDS * 10:g} tenths of a second")
    easing, items = DEFAULT_EASING, words[1:]
    if items and items[0] in EASINGS:
        easing, items = items[0], items[1:]
    return Keyframe(
        _parse_items(items), way=way, hold=hold, easing=easing, label=_quantised_label(label) if colon else ""
    )


def _parse_items(items: list[str]) -> Pose:
    pose, seen = neutral(), set()
    for item in items:
        match = _ITEM.fullmatch(item)
        name = _BY_WORD.get(match[1]) if match else None
        if match is None or name is None:
            raise DecodeError(f"{item[:40]!r}: expected an easing or a name with a level, such as smile7 or yaw-2")
        side = match[2]
        if side and name.right is None:
            raise DecodeError(f"{item!r}: {name.word} has no sides")
        level = float(match[3])
        if not (-10.0 if name.signed else 0.0) <= level <= 10.0:
            raise DecodeError(f"{item!r}: expected a level from {-10 if name.signed else 0} to 10")
        if name.right is None or side == "L":
            indices = [name.left]
        else:
            indices = [name.right] if side == "R" else [name.left, name.right]
        for i in indices:
            if i in seen:
                raise DecodeError(f"{item!r}: {CHANNELS[i].name} is set twice")
            seen.add(i)
            pose[i] = level / 10.0
    return pose


class CompactParser:
    """Incremental parser of compact text. Comments (#) and empty lines are skipped; a broken line costs itself."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self._line = ""
        self._number = 0
        self._skipping = False

    def feed(self, text: str) -> list[Keyframe]:
        """The keyframes whose newline is in `text`."""
        found: list[Keyframe] = []
        *complete, rest = text.split("\n")
        for piece in complete:
            self._add(piece)
            keyframe = self._end_line()
            if keyframe is not None:
                found.append(keyframe)
        self._add(rest)
        return found

    def close(self) -> None:
        """An unfinished line is an error and not a keyframe: `smile1` may have been going to be `smile10`."""
        if self._line.strip():
            self._error(f"line {self._number + 1}: it ends without a newline")
        self._line = ""

    def _add(self, piece: str) -> None:
        if self._skipping:
            return
        self._line += piece
        if len(self._line) > MAX_LINE:
            self._error(f"line {self._number + 1}: longer than {MAX_LINE} characters")
            self._line, self._skipping = "", True

    def _end_line(self) -> Keyframe | None:
        line, self._line, self._skipping = self._line.strip(), "", False
        self._number += 1
        if not line or line.startswith("#"):
            return None
        try:
            return parse_line(line)
        except DecodeError as error:
            self._error(f"line {self._number}: {error}")
            return None

    def _error(self, message: str) -> None:
        if len(self.errors) < _MAX_ERRORS:
            self.errors.append(message)


class KeyframeFaceParser:
    """Incremental parser of KeyframeFace's JSON: takes every innermost object that names channels, skips all else.

    A keyframe's 61 values hold no braces, so its object is what lies between a `{` and the next `}`; the wrapper
    around it, prose, and stray braces need no understanding. Missing channels are 0 as in the released reader;
    values are clamped to their ranges, since the models that write this dialect are not held by a grammar. Its eye
    rotations turn the other way than Live Link's: they are left out, to follow EyeLook*, unless `eye_angles` keeps
    what is written.
    """

    def __init__(self, *, eye_angles: bool = False) -> None:
        self.errors: list[str] = []
        self._eye_angles = eye_angles
        self._text: str | None = None  # what follows the last opening brace, None outside

    def feed(self, text: str) -> list[Keyframe]:
        """The keyframes whose closing brace is in `text`."""
        found: list[Keyframe] = []
        for piece in _BRACES.split(text):
            if piece == "{":
                self._text = ""
            elif self._text is None:
                continue
            elif piece == "}":
                keyframe = self._object("{" + self._text + "}")
                self._text = None
                if keyframe is not None:
                    found.append(keyframe)
            else:
                self._text += piece
                if len(self._text) > MAX_OBJECT:
                    self._error(f"an object is longer than {MAX_OBJECT} characters")
                    self._text = None
        return found

    def close(self) -> None:
        """An unfinished object is an error."""
        if self._text is not None:
            self._error("the JSON object is not closed")
        self._text = None

    def _object(self, text: str) -> Keyframe | None:
        try:
            return self._keyframe(_OBJECT_DECODER.decode(text))
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            if _LIKE_JSON.match(text):
                self._error(f"{text[:40]!r} is not valid JSON: {error}")
            return None

    def _keyframe(self, values: dict[str, object]) -> Keyframe | None:
        pose = neutral()
        known = 0
        for name, value in values.items():
            i = INDEX.get(name)
            if i is None or isinstance(value, bool) or not isinstance(value, int | float) or value != value:
                self._error(f"{name[:40]!r} is not a channel with a number")
                continue
            known += 1
            pose[i] = min(max(value, CHANNELS[i].low), CHANNELS[i].high)
        if not known:
            return None
        if not self._eye_angles:
            pose[EYE_ANGLES] = 0.0
        return Keyframe(pose, way=KEYFRAMEFACE_WAY, hold=KEYFRAMEFACE_HOLD)

    def _error(self, message: str) -> None:
        if len(self.errors) < _MAX_ERRORS:
            self.errors.append(message)


@dataclass(frozen=True)
class Dialect:
    """A way to write keyframes: the grammar (GBNF, root rule `root`), the parser of its text, and room for an answer.

    `max_tokens`: the longest compact answers have about 200 tokens, KeyframeFace's about 570.
    """

    grammar: str
    parser: type[CompactParser] | type[KeyframeFaceParser]
    max_tokens: int


DIALECTS = MappingProxyType(
    {
        "compact": Dialect(_compact_grammar(), CompactParser, 400),
        "keyframeface": Dialect(_keyframeface_grammar(), KeyframeFaceParser, 1024),
    }
)


# --- whole texts --------------------------------------------------------------------------------------------------


def parse_file(text: str) -> list[Keyframe]:
    """All keyframes of a file of compact text, strictly.

    Raises:
        DecodeError: the first line is not HEADER, a line cannot be read, or there is no keyframe.
    """
    first = text.lstrip("\ufeff").split("\n", 1)[0].strip()
    if first != HEADER:
        raise DecodeError(f"line 1: expected {HEADER!r}, got {first[:40]!r}")
    parser = CompactParser()
    keyframes = parser.feed(text.lstrip("\ufeff") + "\n")
    if parser.errors:
        raise DecodeError(parser.errors[0])
    if not keyframes:
        raise DecodeError("it holds no keyframe")
    return keyframes


class KeyframeJson(msgspec.Struct, forbid_unknown_fields=True):
    """A keyframe as JSON, on the WebSocket and in the corpus: canonical channel names, zeros left out."""

    pose: dict[str, float] = {}
    way: float = 0.4
    hold: float = 0.0
    easing: str = DEFAULT_EASING
    label: str = ""


def to_json(keyframe: Keyframe) -> KeyframeJson:
    """The keyframe with its non-zero channels by name, four decimals."""
    pose = pose_to_names(keyframe.pose)
    return KeyframeJson(pose, round(keyframe.way, 4), round(keyframe.hold, 4), keyframe.easing, keyframe.label)


def from_json(value: KeyframeJson, *, where: str = "keyframe") -> Keyframe:
    """The keyframe of its JSON form.

    Raises:
        DecodeError: a field is out of range or unknown; the message names it below `where`.
    """
    pose = pose_from_names(value.pose, where=f"{where}.pose")
    label = _quantised_label(value.label)
    try:
        return replace(Keyframe(pose, label=label), way=value.way, hold=value.hold, easing=value.easing)
    except EncodeError as error:
        raise DecodeError(f"{where}.{error}") from None
