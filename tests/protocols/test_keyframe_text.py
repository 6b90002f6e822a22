"""The compact notation and KeyframeFace's JSON: the law, every way to be wrong, and the published table."""

import json
import re
from pathlib import Path

import msgspec
import numpy as np
import pytest

from kff_live.protocols.channels import (
    CHANNELS,
    COUNT,
    HIGH,
    INDEX,
    LIVELINK,
    LIVELINK_CSV,
    LOW,
    SHAPES,
    neutral,
    pose_from_names,
    pose_to_names,
)
from kff_live.protocols.easing import DEFAULT_EASING, EASINGS
from kff_live.protocols.errors import DecodeError, EncodeError
from kff_live.protocols.keyframe_text import (
    DIALECTS,
    HEADER,
    KEYFRAMEFACE_HOLD,
    KEYFRAMEFACE_WAY,
    MAX_LINE,
    MAX_OBJECT,
    NAMES,
    CompactParser,
    KeyframeFaceParser,
    KeyframeJson,
    KeyframeParser,
    format_keyframe,
    format_keyframeface,
    format_keyframes,
    from_json,
    parse_file,
    parse_line,
    quantise,
    quantise_keyframeface,
    to_json,
)
from kff_live.protocols.keyframes import EYE_ANGLES, MAX_LABEL, MAX_SECONDS, Keyframe, derived_eye_angles

DOC = Path(__file__).parents[2] / "docs" / "keyframe-text.md"


def key(
    named: dict[str, float] | None = None,
    *,
    way: float = 0.4,
    hold: float = 0.0,
    easing: str = DEFAULT_EASING,
    label: str = "",
) -> Keyframe:
    return Keyframe(pose_from_names(named or {}), way=way, hold=hold, easing=easing, label=label)


def both(stem: str, value: float) -> dict[str, float]:
    return {f"{stem}Left": value, f"{stem}Right": value}


def parsed(parser: KeyframeParser, pieces: list[str]) -> tuple[list[Keyframe], list[str]]:
    found = [keyframe for piece in pieces for keyframe in parser.feed(piece)]
    parser.close()
    return found, parser.errors


# --- compact: one table drives formatter and parser ---------------------------------------------------------------

LINES: list[tuple[str, Keyframe]] = [
    ("4\n", key()),
    ("0\n", key(way=0.0)),
    ("120+120\n", key(way=12.0, hold=12.0)),
    ("2.5+0.125\n", key(way=0.25, hold=0.0125)),
    ("6+12 sine\n", key(way=0.6, hold=1.2, easing="sine")),
    ("4 smile7\n", key(both("MouthSmile", 0.7))),
    ("4 smileL7\n", key({"MouthSmileLeft": 0.7})),
    ("4 smileR7\n", key({"MouthSmileRight": 0.7})),
    ("4 smileL7 smileR2\n", key({"MouthSmileLeft": 0.7, "MouthSmileRight": 0.2})),
    ("4 jaw10\n", key({"JawOpen": 1.0})),
    ("4 jaw0.125\n", key({"JawOpen": 0.0125})),
    ("4 yaw-2 pitch10 roll-0.5\n", key({"HeadYaw": -0.2, "HeadPitch": 1.0, "HeadRoll": -0.05})),
    ("4 lookright5\n", key({"EyeLookInLeft": 0.5, "EyeLookOutRight": 0.5})),
    ("4 lookleftR5\n", key({"EyeLookInRight": 0.5})),
    ("4 lookrightL5 lookleftR5\n", key({"EyeLookInLeft": 0.5, "EyeLookInRight": 0.5})),  # cross-eyed
    ("4 eyeyaw-3\n", key({"LeftEyeYaw": -0.3, "RightEyeYaw": -0.3})),
    ("4 jawright2 mouthleft3\n", key({"JawRight": 0.2, "MouthLeft": 0.3})),
    ("glad surprise: 2 wide8 jaw4 browinner7 browouter6\n",
     key({**both("EyeWide", 0.8), "JawOpen": 0.4, "BrowInnerUp": 0.7, **both("BrowOuterUp", 0.6)},
         way=0.2, label="glad surprise")),
    ("warm smile: 6+12 sine squint3 smile7 cheek5 yaw-1\n",
     key({**both("EyeSquint", 0.3), **both("MouthSmile", 0.7), **both("CheekSquint", 0.5), "HeadYaw": -0.1},
         way=0.6, hold=1.2, easing="sine", label="warm smile")),
    ("half past 4, smile7: 5\n", key(way=0.5, label="half past 4, smile7")),
    ("笑顔 é 🙂: 4\n", key(label="笑顔 é 🙂")),
]  # fmt: skip


@pytest.mark.parametrize(("line", "keyframe"), LINES)
def test_line_and_keyframe_are_each_others_form(line: str, keyframe: Keyframe) -> None:
    assert format_keyframe(keyframe) == line
    assert parse_line(line) == keyframe
    assert quantise(keyframe) == keyframe


@pytest.mark.parametrize("easing", EASINGS)
def test_every_easing_is_written_by_its_name_except_the_default(easing: str) -> None:
    line = format_keyframe(key(easing=easing))
    assert line == ("4\n" if easing == DEFAULT_EASING else f"4 {easing}\n")
    assert parse_line(f"4 {easing}").easing == easing


def test_a_whole_text_whole_and_one_character_at_a_time() -> None:
    text = "".join(line for line, _ in LINES)
    expected = [keyframe for _, keyframe in LINES]
    assert parsed(CompactParser(), [text]) == (expected, [])
    assert parsed(CompactParser(), list(text)) == (expected, [])


@pytest.mark.parametrize("size", [2, 3, 7, 64])
def test_pieces_of_any_size_give_the_same_keyframes(size: int) -> None:
    text = "".join(line for line, _ in LINES)
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    assert parsed(CompactParser(), pieces) == ([keyframe for _, keyframe in LINES], [])


def test_a_keyframe_is_there_the_moment_its_newline_arrives() -> None:
    parser = CompactParser()
    assert parser.feed("4 smile7") == []
    assert parser.feed("\n6 jaw") == [key(both("MouthSmile", 0.7))]


# --- what may vary in a line --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "hi: 4 jaw5 smile7",
        "  hi :  4   smile7\tjaw5  ",
        "hi:4 jaw5 smile7\r",
        "hi: 04 cubic jaw5.0 smileR7 smileL7.000",
        "hi: 4+0 jaw5 smile7 frown0 tongue0",
        "\u200bhi\u0007: 4 jaw5 smile7",
        "hi: 4 smileL7 jaw5 smileR7",
    ],
)
def test_spacing_order_and_spelled_out_zeros_do_not_matter(line: str) -> None:
    assert parse_line(line) == key({"JawOpen": 0.5, **both("MouthSmile", 0.7)}, label="hi")


def test_comments_and_empty_lines_are_skipped() -> None:
    text = f"{HEADER}\n\n  \n# a comment: 4 smile7\n   # indented\n4 jaw5\r\n"
    assert parsed(CompactParser(), [text]) == ([key({"JawOpen": 0.5})], [])
    assert parsed(CompactParser(), list(text)) == ([key({"JawOpen": 0.5})], [])


BROKEN: list[tuple[str, str]] = [
    (":", "expected a time"),
    ("label:", "expected a time"),
    ("smile7", r"'smile7': expected way or way\+hold"),
    ("-4 smile7", "'-4': expected way"),
    ("4+ smile7", r"'4\+': expected way"),
    ("4+5+6", r"'4\+5\+6': expected way"),
    ("4.1234", "'4.1234': expected way"),
    ("4e1", "'4e1': expected way"),
    ("\u0664", "expected way"),
    ("nan", "'nan': expected way"),
    ("120.001", "a way is at most 120 tenths"),
    ("4+121", "a hold is at most 120 tenths"),
    ("9" * 400, "a way is at most 120 tenths"),
    ("4 grin7", "'grin7': expected an easing or a name with a level"),
    ("4 Smile7", "'Smile7': expected"),
    ("4 smile", "'smile': expected"),
    ("4 smile 7", "'smile': expected"),
    ("4 smile=7", "'smile=7': expected"),
    ("4 smilel7", "'smilel7': expected"),
    ("4 smileLR7", "'smileLR7': expected"),
    ("4 smile7.1234", "'smile7.1234': expected"),
    ("4 smile+7", r"'smile\+7': expected"),
    ("4 smile\u0667", "expected an easing or a name"),
    ("4 bounce smile7", "'bounce': expected an easing or a name"),
    ("4 smile7 sine", "'sine': expected"),
    ("4 sine quad", "'quad': expected"),
    ("4 jawL5", "'jawL5': jaw has no sides"),
    ("4 yawR1", "'yawR1': yaw has no sides"),
    ("4 smile11", "'smile11': expected a level from 0 to 10"),
    ("4 smile10.001", "'smile10.001': expected a level from 0 to 10"),
    ("4 smile-1", "'smile-1': expected a level from 0 to 10"),
    ("4 yaw11", "'yaw11': expected a level from -10 to 10"),
    ("4 yaw-10.5", "'yaw-10.5': expected a level from -10 to 10"),
    ("4 jaw" + "9" * 400, "expected a level from 0 to 10"),
    ("4 smile7 smile7", "'smile7': MouthSmileLeft is set twice"),
    ("4 smile7 smileR0", "'smileR0': MouthSmileRight is set twice"),
    ("4 smileL7 smile3", "'smile3': MouthSmileLeft is set twice"),
    ("4 jaw0 jaw5", "'jaw5': JawOpen is set twice"),
]


@pytest.mark.parametrize(("line", "message"), BROKEN)
def test_broken_line_is_refused_by_its_word(line: str, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        parse_line(line)


@pytest.mark.parametrize(("line", "message"), BROKEN)
def test_broken_line_costs_only_itself(line: str, message: str) -> None:
    text = f"a: 4 jaw5\n{line}\nb: 6 jaw2\n"
    expected = [key({"JawOpen": 0.5}, label="a"), key({"JawOpen": 0.2}, way=0.6, label="b")]
    for pieces in ([text], list(text)):
        keyframes, errors = parsed(CompactParser(), pieces)
        assert keyframes == expected
        assert len(errors) == 1
        assert re.match(f"line 2: .*{message}", errors[0])


@pytest.mark.parametrize("tail", ["4 jaw5", "4 jaw1", "label", " x", "4"])
def test_an_unfinished_line_is_an_error_and_no_keyframe(tail: str) -> None:
    for pieces in ([f"4\n{tail}"], ["4\n", *tail]):
        keyframes, errors = parsed(CompactParser(), pieces)
        assert keyframes == [key()]
        assert errors == ["line 2: it ends without a newline"]


def test_spaces_after_the_last_newline_are_no_line() -> None:
    assert parsed(CompactParser(), ["4\n  "]) == ([key()], [])


def test_the_longest_line_is_read_and_one_character_more_is_not() -> None:
    line = "4 jaw5".ljust(MAX_LINE)
    for pieces in ([f"{line}\n"], list(f"{line}\n")):
        assert parsed(CompactParser(), pieces) == ([key({"JawOpen": 0.5})], [])
    for text in (f"{line} \n4\n", f"{'#' * 5000}\n4\n"):
        for pieces in ([text], list(text)):
            keyframes, errors = parsed(CompactParser(), pieces)
            assert keyframes == [key()]
            assert errors == [f"line 1: longer than {MAX_LINE} characters"]


def test_an_endless_line_does_not_grow_the_parser() -> None:
    parser = CompactParser()
    for _ in range(1000):
        assert parser.feed("x" * 997) == []
    assert len(parser.errors) == 1
    assert len(msgspec.json.encode(vars(parser))) < 2 * MAX_LINE


def test_errors_are_kept_up_to_a_limit() -> None:
    parser = CompactParser()
    parser.feed("broken\n" * 1000)
    assert len(parser.errors) == 20
    assert parser.errors[19].startswith("line 20: ")


# --- the law ------------------------------------------------------------------------------------------------------

ODD_LABELS = [
    "", " ", "plain", "two  spaces", " edges ", "tab\tand\nnewline\r\n", "a: b: c", ":", "# comment", "## kff 1", "#",
    "it's, a-b", "4 smile7", "4+6", "x" * MAX_LABEL, "y" * 61, "z" * 59 + "   more", "笑顔", "🙂👩‍👩‍👧", "é́", "\u200b",
    "\ufeffbom", "nul\0inside", "\x1b[31mred", "\u2028line\u2029", "\ud800lone", "{json}", '"quoted"', "#: #: #",
]  # fmt: skip


def random_keyframe(rng: np.random.Generator) -> Keyframe:
    """Any keyframe at all: dense or sparse, on and off the grid, slightly out of range like a raw take."""
    pose = rng.uniform(LOW, HIGH)
    kind = rng.integers(6)
    if kind == 0:
        pose = np.round(pose, 1)
    elif kind == 1:
        pose = np.round(pose, 4)
    elif kind == 2:
        pose *= 1.1
    elif kind == 3:
        pose *= 1e-4
    if rng.integers(2):
        pose[rng.random(COUNT) < 0.75] = 0.0
    for name in NAMES:  # equal sides, or one alone
        if name.right is not None and rng.integers(2):
            pose[name.right] = pose[name.left] * rng.integers(2)
    if rng.integers(2):
        pose[EYE_ANGLES] = derived_eye_angles(pose.astype(np.float32))
    seconds = [float(np.round(rng.uniform(0, MAX_SECONDS), digits)) for digits in rng.integers(0, 8, 2)]
    return Keyframe(
        pose.astype(np.float32),
        way=seconds[0],
        hold=seconds[1] * int(rng.integers(2)),
        easing=EASINGS[rng.integers(len(EASINGS))],
        label=ODD_LABELS[rng.integers(len(ODD_LABELS))],
    )


@pytest.mark.parametrize("seed", range(20))
def test_law_of_the_compact_dialect(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(150):
        keyframe = random_keyframe(rng)
        line = format_keyframe(keyframe)
        assert line.count("\n") == 1
        assert line.endswith("\n")
        quantised = quantise(keyframe)
        assert parsed(CompactParser(), [line]) == ([quantised], []), line
        assert quantise(quantised) == quantised
        assert format_keyframe(quantised) == line


@pytest.mark.parametrize("seed", range(20))
def test_law_of_the_keyframeface_dialect(seed: int) -> None:
    rng = np.random.default_rng(1000 + seed)
    for _ in range(60):
        keyframe = random_keyframe(rng)
        text = format_keyframeface(keyframe, number=int(rng.integers(1, 9)))
        quantised = quantise_keyframeface(keyframe)
        assert parsed(KeyframeFaceParser(), [text]) == ([quantised], []), text
        assert quantise_keyframeface(quantised) == quantised


@pytest.mark.parametrize("name", LIVELINK)
def test_law_holds_for_each_channel_alone_over_its_range(name: str) -> None:
    channel = CHANNELS[INDEX[name]]
    for value in np.linspace(channel.low, channel.high, 23):
        keyframe = key({name: float(np.float32(value))})
        (again,), errors = parsed(CompactParser(), [format_keyframe(keyframe)])
        assert errors == []
        assert again == quantise(keyframe)
        # An eye angle this near to the one of its EyeLook* shapes (here 0) is left to them.
        kept = channel.index not in range(COUNT)[EYE_ANGLES] or abs(value) > 0.005
        assert again.pose[channel.index] == pytest.approx(value if kept else 0.0, abs=0.5001e-4)


@pytest.mark.parametrize("label", ODD_LABELS)
def test_any_label_stays_on_its_line_and_keeps_its_keyframe(label: str) -> None:
    text = format_keyframes([key({"JawOpen": 0.5}, label=label), key(label="after")])
    first, second = parse_file(text)
    assert first.pose[INDEX["JawOpen"]] == 0.5
    assert second == key(label="after")
    assert len(first.label) <= MAX_LABEL


@pytest.mark.parametrize(
    ("label", "carried"),
    [
        ("a: b", "a b"), ("# comment", "comment"), ("two  spaces ", "two spaces"), ("a\nb", "a b"),
        ("y" * 61, "y" * 60), ("z" * 59 + " more", "z" * 59), (":", ""),
    ],
)  # fmt: skip
def test_what_a_label_loses(label: str, carried: str) -> None:
    assert quantise(key(label=label)).label == carried


def test_the_longest_keyframe_fits_into_a_line() -> None:
    pose = np.where(np.arange(COUNT) < SHAPES, 0.1111, -0.1111) + np.arange(COUNT) * 0.0001
    pose[SHAPES:] = -0.9876 + np.arange(COUNT - SHAPES) * 0.0001
    easing = max(EASINGS, key=len)
    keyframe = Keyframe(pose.astype(np.float32), way=11.9999, hold=11.9999, easing=easing, label="x" * MAX_LABEL)
    line = format_keyframe(keyframe)
    assert sum(word.rstrip("0123456789.-") != "" for word in line.split()[3:]) == COUNT
    assert len(line) <= MAX_LINE
    assert parsed(CompactParser(), [line]) == ([quantise(keyframe)], [])


def test_values_outside_their_range_are_written_at_the_limit() -> None:
    pose = neutral()
    pose[INDEX["JawOpen"]], pose[INDEX["HeadYaw"]], pose[INDEX["TongueOut"]] = 1.05, -1.3, -0.2
    assert format_keyframe(Keyframe(pose)) == "4 jaw10 yaw-10\n"


def test_eye_angles_that_follow_the_gaze_are_not_written() -> None:
    pose = pose_from_names(both("EyeLookDown", 0.5))
    pose[EYE_ANGLES] = derived_eye_angles(pose)
    assert format_keyframe(Keyframe(pose)) == "4 lookdown5\n"


# --- prefixes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_any_prefix_of_a_text_gives_the_keyframes_that_it_completes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lines = [format_keyframe(random_keyframe(rng)) for _ in range(4)]
    text = "".join(lines)
    whole, _ = parsed(CompactParser(), [text])
    assert len(whole) == 4
    for end in range(len(text) + 1):
        prefix = text[:end]
        keyframes, errors = parsed(CompactParser(), [prefix])
        assert keyframes == whole[: prefix.count("\n")]
        assert len(errors) == (0 if prefix == "" or prefix.endswith("\n") else 1)


# --- files --------------------------------------------------------------------------------------------------------


def test_a_file_begins_with_its_header_and_gives_its_keyframes_back() -> None:
    keyframes = [keyframe for _, keyframe in LINES]
    text = format_keyframes(keyframes)
    assert text.splitlines()[0] == HEADER == "# kff 1"
    assert parse_file(text) == keyframes


@pytest.mark.parametrize("text", ["# kff 1\n4 jaw5\n", "\ufeff# kff 1\r\n4 jaw5\r\n", "# kff 1  \n\n# note\n4 jaw5"])
def test_a_file_as_an_editor_saves_it(text: str) -> None:
    assert parse_file(text) == [key({"JawOpen": 0.5})]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# kff 2\n4 jaw5\n", r"line 1: expected '# kff 1', got '# kff 2'"),
        ("# kff 10\n4 jaw5\n", "line 1: expected '# kff 1'"),
        ("4 jaw5\n", "line 1: expected '# kff 1', got '4 jaw5'"),
        ("\n# kff 1\n4 jaw5\n", "line 1: expected '# kff 1', got ''"),
        ("", "line 1: expected '# kff 1', got ''"),
        ("# kff 1\n", "it holds no keyframe"),
        ("# kff 1\n# 4 jaw5\n", "it holds no keyframe"),
        ("# kff 1\n4 jaw5\n\n4 jaw50\n", "line 4: 'jaw50': expected a level"),
        (f"# kff 1\n4 jaw5 {' ' * MAX_LINE}\n", "line 2: longer than"),
    ],
)
def test_a_file_is_read_strictly(text: str, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        parse_file(text)


# --- the names, and their published table -------------------------------------------------------------------------


def test_names_cover_every_channel_exactly_once() -> None:
    covered = [i for name in NAMES for i in (name.left, name.right) if i is not None]
    assert sorted(covered) == list(range(COUNT))


def test_names_are_lower_case_words_unlike_any_easing_in_canonical_order() -> None:
    words = [name.word for name in NAMES]
    assert len(set(words)) == len(words)
    assert all(re.fullmatch("[a-z]+", word) for word in words)
    assert not set(words) & set(EASINGS)
    firsts = [min(i for i in (name.left, name.right) if i is not None) for name in NAMES]
    assert firsts == sorted(firsts)


def test_a_name_moves_channels_of_one_kind() -> None:
    for name in NAMES:
        indices = [i for i in (name.left, name.right) if i is not None]
        assert {i >= SHAPES for i in indices} == {name.signed}


def test_sides_are_partners_except_for_the_sideways_gaze() -> None:
    pairs = {name.word: (LIVELINK[name.left], LIVELINK[name.right]) for name in NAMES if name.right is not None}
    assert pairs.pop("lookleft") == ("EyeLookOutLeft", "EyeLookInRight")
    assert pairs.pop("lookright") == ("EyeLookInLeft", "EyeLookOutRight")
    for left, right in pairs.values():
        assert CHANNELS[INDEX[left]].partner == right


def table_rows(title: str) -> list[list[str]]:
    """Cells of the first table below the heading `title` in the published notation, backticks removed."""
    below = DOC.read_text(encoding="utf-8").split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in below.splitlines() if line.startswith("|")]
    return [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_published_table_of_names_is_the_one_in_use() -> None:
    in_use = [(name.word, ", ".join(LIVELINK[i] for i in (name.left, name.right) if i is not None)) for name in NAMES]
    rows = table_rows("Names")
    assert [(word, moved) for word, moved, *_ in rows] == in_use
    assert all(meaning for *_, meaning in rows)


def test_published_table_of_easings_is_the_one_in_use() -> None:
    assert [row[0] for row in table_rows("Easings")] == list(EASINGS)


def test_published_example_is_a_file() -> None:
    (example,) = re.findall(r"```\n(# kff 1\n.*?)```", DOC.read_text(encoding="utf-8"), re.DOTALL)
    assert len(parse_file(example)) >= 2


# --- KeyframeFace's JSON ------------------------------------------------------------------------------------------

# As the released models write it: 61 values in the order of the app's CSV, steps of 0.1.
GOLDEN = (
    '{"Keyframe_one":{"EyeBlinkLeft":0.0,"EyeLookDownLeft":0.3,"EyeLookInLeft":0.0,"EyeLookOutLeft":0.0,'
    '"EyeLookUpLeft":0.0,"EyeSquintLeft":0.2,"EyeWideLeft":0.0,"EyeBlinkRight":0.0,"EyeLookDownRight":0.3,'
    '"EyeLookInRight":0.0,"EyeLookOutRight":0.0,"EyeLookUpRight":0.0,"EyeSquintRight":0.2,"EyeWideRight":0.0,'
    '"JawForward":0.0,"JawRight":0.1,"JawLeft":0.0,"JawOpen":0.4,"MouthClose":0.2,"MouthFunnel":0.0,"MouthPucker":0.0,'
    '"MouthRight":0.0,"MouthLeft":0.6,"MouthSmileLeft":0.5,"MouthSmileRight":0.0,"MouthFrownLeft":0.0,'
    '"MouthFrownRight":0.0,"MouthDimpleLeft":0.0,"MouthDimpleRight":0.0,"MouthStretchLeft":0.0,"MouthStretchRight":0.0,'
    '"MouthRollLower":0.0,"MouthRollUpper":0.0,"MouthShrugLower":0.0,"MouthShrugUpper":0.0,"MouthPressLeft":0.7,'
    '"MouthPressRight":0.7,"MouthLowerDownLeft":0.0,"MouthLowerDownRight":0.0,"MouthUpperUpLeft":0.0,'
    '"MouthUpperUpRight":0.0,"BrowDownLeft":0.0,"BrowDownRight":0.0,"BrowInnerUp":1.0,"BrowOuterUpLeft":0.0,'
    '"BrowOuterUpRight":0.0,"CheekPuff":0.0,"CheekSquintLeft":0.0,"CheekSquintRight":0.0,"NoseSneerLeft":0.0,'
    '"NoseSneerRight":0.0,"TongueOut":0.0,"HeadYaw":0.0,"HeadPitch":-0.1,"HeadRoll":0.0,"LeftEyeYaw":0.0,'
    '"LeftEyePitch":0.0,"LeftEyeRoll":0.0,"RightEyeYaw":0.0,"RightEyePitch":0.0,"RightEyeRoll":0.0}}'
)  # fmt: skip
GOLDEN_NAMED = {
    "EyeLookDownLeft": 0.3, "EyeLookDownRight": 0.3, "EyeSquintLeft": 0.2, "EyeSquintRight": 0.2, "JawRight": 0.1,
    "JawOpen": 0.4, "MouthClose": 0.2, "MouthLeft": 0.6, "MouthSmileLeft": 0.5, "MouthPressLeft": 0.7,
    "MouthPressRight": 0.7, "BrowInnerUp": 1.0, "HeadPitch": -0.1,
}  # fmt: skip


def face(named: dict[str, float] | None = None) -> Keyframe:
    return key(named, way=KEYFRAMEFACE_WAY, hold=KEYFRAMEFACE_HOLD)


A, B = face({"JawOpen": 0.5}), face({"JawOpen": 0.25})
A_TEXT, B_TEXT = '{"Keyframe_one":{"JawOpen":0.5}}', '{"Keyframe_two": {"JawOpen": 0.25}}'
BARE = json.dumps(json.loads(GOLDEN)["Keyframe_one"], indent=2)


def test_golden_object_is_written_and_read() -> None:
    keyframe = face(GOLDEN_NAMED)
    assert format_keyframeface(keyframe) == GOLDEN
    assert list(json.loads(GOLDEN)["Keyframe_one"]) == list(LIVELINK_CSV)
    assert parsed(KeyframeFaceParser(), [GOLDEN]) == ([keyframe], [])


@pytest.mark.parametrize("number", range(1, 9))
def test_keyframes_of_a_sequence_are_numbered_in_words(number: int) -> None:
    word = ("one", "two", "three", "four", "five", "six", "seven", "eight")[number - 1]
    assert format_keyframeface(face(), number=number).startswith(f'{{"Keyframe_{word}":{{"EyeBlinkLeft":0.0,')


@pytest.mark.parametrize("number", [-1, 0, 9])
def test_there_are_no_other_numbers(number: int) -> None:
    with pytest.raises(EncodeError, match=f"number: {number} is outside 1 to 8"):
        format_keyframeface(face(), number=number)


NOT_ERRORS: list[tuple[str, str, list[Keyframe]]] = [
    ("nothing", "", []),
    ("prose only", "I cannot do that.", []),
    ("alone", GOLDEN, [face(GOLDEN_NAMED)]),
    ("bare", BARE, [face(GOLDEN_NAMED)]),
    ("spread over lines", json.dumps(json.loads(GOLDEN), indent=4), [face(GOLDEN_NAMED)]),
    ("after prose", f"Sure! Here it is:\n```json\n{GOLDEN}\n```\n", [face(GOLDEN_NAMED)]),
    ("after prose with stray braces", f"a set {{x, y}} and a lone }} or {{ or {{{{ brace: {GOLDEN}",
     [face(GOLDEN_NAMED)]),
    ("after prose with quotes", f"it's the \"{{\" of JSON {A_TEXT} \"", [A]),
    ("after an empty object", "{}" + A_TEXT, [A]),
    ("two objects", A_TEXT + B_TEXT, [A, B]),
    ("two objects with prose between", f"One: {A_TEXT}, two: {B_TEXT}.", [A, B]),
    ("two in one wrapper", '{"Keyframe_one":{"JawOpen":0.5},"Keyframe_two":{"JawOpen":0.25}}', [A, B]),
    ("in a list", f"[{A_TEXT},{B_TEXT}]", [A, B]),
    ("another wrapper", '{"result":{"JawOpen":0.5}}', [A]),
    ("other objects around it", '{"a":{}} ' + A_TEXT + "{}", [A]),
    ("missing channels are neutral", A_TEXT, [A]),
    ("integers", '{"Keyframe_one":{"JawOpen":1,"HeadYaw":0}}', [face({"JawOpen": 1.0})]),
    ("above the range", '{"Keyframe_one":{"JawOpen":1.5,"HeadYaw":2}}', [face({"JawOpen": 1.0, "HeadYaw": 1.0})]),
    ("below the range", '{"Keyframe_one":{"JawOpen":-0.5,"HeadYaw":-7.0}}', [face({"HeadYaw": -1.0})]),
    ("an enormous integer", '{"Keyframe_one":{"JawOpen":' + "9" * 400 + "}}", [face({"JawOpen": 1.0})]),
    ("eye angles are derived", '{"Keyframe_one":{"JawOpen":0.5,"LeftEyePitch":-0.2,"RightEyeYaw":0.3}}', [A]),
    ("said twice, the last one counts", '{"Keyframe_one":{"JawOpen":0.1,"JawOpen":0.5}}', [A]),
    ("the wrapper is not closed", A_TEXT[:-1], [A]),
]  # fmt: skip

ERRORS: list[tuple[str, str, list[Keyframe], str]] = [
    ("a name too many", '{"Keyframe_one":{"JawOpen":0.5,"Grin":0.5}}', [A], "'Grin' is not a channel with a number"),
    ("camel case", '{"Keyframe_one":{"JawOpen":0.5,"mouthClose":0.5}}', [A], "'mouthClose' is not a channel"),
    ("a word for a value", '{"Keyframe_one":{"JawOpen":0.5,"MouthClose":"0.5"}}', [A], "'MouthClose' is not a channel"),
    ("null", '{"Keyframe_one":{"JawOpen":0.5,"MouthClose":null}}', [A], "'MouthClose' is not a channel"),
    ("true", '{"Keyframe_one":{"JawOpen":0.5,"MouthClose":true}}', [A], "'MouthClose' is not a channel"),
    ("a list", '{"Keyframe_one":{"JawOpen":0.5,"MouthClose":[1]}}', [A], "'MouthClose' is not a channel"),
    ("no channel at all", '{"Keyframe_one":{"Grin":1}}' + A_TEXT, [A], "'Grin' is not a channel"),
    ("infinite", '{"Keyframe_one":{"JawOpen":1e999}}' + A_TEXT, [A], "is not valid JSON"),
    ("NaN", '{"Keyframe_one":{"JawOpen":NaN}}' + A_TEXT, [A], "is not valid JSON"),
    ("a comma too many", '{"Keyframe_one":{"JawOpen":0.5,}}' + A_TEXT, [A], "is not valid JSON"),
    ("nested too deep", '{"JawOpen":' + "[" * 8000 + "]" * 8000 + "}" + A_TEXT, [A], "is not valid JSON"),
    ("half a surrogate pair", '{"JawOpen":"\ud800"}' + A_TEXT, [A], "is not valid JSON"),
    ("unfinished", A_TEXT + '{"Keyframe_two":{"JawOpen":0.2', [A], "the JSON object is not closed"),
    ("over-long", "{" + "x" * (MAX_OBJECT + 1) + "}" + A_TEXT, [A], f"longer than {MAX_OBJECT} characters"),
    ("over-long JSON", '{"JawOpen":' + " " * MAX_OBJECT + "0.5}" + A_TEXT, [A], f"longer than {MAX_OBJECT}"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), [row[1:] for row in NOT_ERRORS], ids=[row[0] for row in NOT_ERRORS])
def test_json_that_is_read(text: str, expected: list[Keyframe]) -> None:
    assert parsed(KeyframeFaceParser(), [text]) == (expected, [])
    assert parsed(KeyframeFaceParser(), list(text)) == (expected, [])


@pytest.mark.parametrize(("text", "expected", "message"), [row[1:] for row in ERRORS], ids=[row[0] for row in ERRORS])
def test_json_that_is_wrong_costs_only_itself(text: str, expected: list[Keyframe], message: str) -> None:
    for pieces in ([text], list(text)):
        keyframes, errors = parsed(KeyframeFaceParser(), pieces)
        assert keyframes == expected
        assert len(errors) == 1
        assert message in errors[0]


def test_longest_object_is_read() -> None:
    text = '{"JawOpen":' + " " * (MAX_OBJECT - len('"JawOpen":0.5')) + "0.5}"
    assert parsed(KeyframeFaceParser(), [text]) == ([A], [])


def test_any_prefix_of_json_gives_the_keyframes_that_it_completes() -> None:
    text = GOLDEN + B_TEXT
    whole = [face(GOLDEN_NAMED), B]
    for end in range(len(text) + 1):
        keyframes, _ = parsed(KeyframeFaceParser(), [text[:end]])
        assert keyframes == whole[: len(keyframes)]
        assert len(keyframes) == sum(end >= text.index("}", start) + 1 for start in (0, len(GOLDEN)))


def test_endless_json_does_not_grow_the_parser() -> None:
    parser = KeyframeFaceParser()
    for _ in range(100):
        assert parser.feed('{"JawOpen": ' + " " * 997) == []
        assert parser.feed("x" * 20_000) == []
    assert len(msgspec.json.encode(vars(parser))) < 2 * MAX_OBJECT


@pytest.mark.parametrize("dialect", DIALECTS)
def test_each_dialect_has_a_parser_of_its_own(dialect: str) -> None:
    text = {"compact": format_keyframe(A), "keyframeface": format_keyframeface(A)}[dialect]
    for name, other in DIALECTS.items():
        keyframes, _ = parsed(other.parser(), [text])
        assert (len(keyframes) == 1) == (name == dialect)


# --- a keyframe as JSON -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_json_form_gives_the_quantised_keyframe_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(30):
        keyframe = quantise(random_keyframe(rng))
        text = msgspec.json.encode(to_json(keyframe))
        assert from_json(msgspec.json.decode(text, type=KeyframeJson)) == keyframe


def test_json_form_names_only_what_is_not_neutral() -> None:
    text = msgspec.json.encode(to_json(key({"JawOpen": 0.5})))
    assert text == b'{"pose":{"JawOpen":0.5},"way":0.4,"hold":0.0,"easing":"cubic","label":""}'
    keyframe = key({"HeadYaw": -0.25}, way=1.0, hold=0.5, easing="sine", label="a")
    assert msgspec.json.encode(to_json(keyframe)) == (
        b'{"pose":{"HeadYaw":-0.25},"way":1.0,"hold":0.5,"easing":"sine","label":"a"}'
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (KeyframeJson({"Grin": 1.0}), r"keyframes\[2\]\.pose\.Grin: unknown channel 'Grin'"),
        (KeyframeJson({"JawOpen": 2.0}), r"keyframes\[2\]\.pose\.JawOpen: 2\.0 is outside 0 to 1"),
        (KeyframeJson(way=13.0), r"keyframes\[2\]\.way: 13\.0 is outside 0 to 12 s"),
        (KeyframeJson(hold=-1.0), r"keyframes\[2\]\.hold: -1\.0 is outside 0 to 12 s"),
        (KeyframeJson(easing="bounce"), r"keyframes\[2\]\.easing: 'bounce' is not one of"),
    ],
)
def test_json_form_that_is_wrong_is_refused_by_path(value: KeyframeJson, message: str) -> None:
    with pytest.raises(DecodeError, match=f"^{message}"):
        from_json(value, where="keyframes[2]")


def test_json_form_takes_camel_case_and_cleans_the_label() -> None:
    keyframe = from_json(KeyframeJson({"jawOpen": 0.5}, label="a: b\n"))
    assert pose_to_names(keyframe.pose) == {"JawOpen": 0.5}
    assert keyframe.label == "a b"
