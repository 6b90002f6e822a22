"""Records, their split by script, and the dialect of bare numbers."""

import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from kff_live.finetune import settings
from kff_live.finetune.prepare import prepare
from kff_live.finetune.records import format_vector, parse_vector, read_records, records, split
from kff_live.finetune.scripts import Script, read_scripts, write_scripts
from kff_live.finetune.settings import Data
from kff_live.finetune.writers import asked_text
from kff_live.protocols.channels import COUNT
from kff_live.protocols.errors import ConfigError, DecodeError, UserError
from kff_live.protocols.keyframe_text import DIALECTS, parse_line, to_json

Write = Callable[[list[Script]], Data]


@pytest.fixture
def written(tmp_path: Path) -> Write:
    """Settings for scripts that have been written to a file."""

    def write(scripts: list[Script]) -> Data:
        write_scripts(tmp_path / "scripts.jsonl", scripts)
        return Data(scripts=str(tmp_path / "scripts.jsonl"), variations=0, validation=0.2, test=0.2)

    return write


def test_a_script_comes_back_from_its_file(tmp_path: Path, scripts: list[Script]) -> None:
    odd = msgspec.structs.replace(scripts[0], text="one\u2028two\x85three")  # line ends that are none in JSON
    write_scripts(tmp_path / "s.jsonl", [odd, *scripts[1:]])
    assert read_scripts(tmp_path / "s.jsonl") == ([odd, *scripts[1:]], [])


def test_the_answer_is_the_scripts_keyframes(scripts: list[Script]) -> None:
    for script in scripts:
        (record,) = records(script, dialect="compact")
        assert DIALECTS["compact"].parser().feed(record.answer) == script.poses()
        assert asked_text(record) == script.text
    (bare,) = records(scripts[0], dialect="compact", labels=False)
    assert ":" not in bare.answer


def test_keyframeface_asks_for_a_keyframe_by_its_description(
    scripts: list[Script], written: Write, tmp_path: Path
) -> None:
    def script(id: str, text: str, *lines: str, descriptions: tuple[str, ...] = ()) -> Script:
        keyframes = tuple(to_json(parse_line(line)) for line in lines)
        return Script(id, "sequence", text, keyframes, descriptions=descriptions)

    bare = script("a", "Old Juri scowls at the bill, until the waiter winks.", "frown: 4+6 frown7", "grin: 4+6 smile7")
    assert records(bare, dialect="keyframeface") == []
    described = script(
        "b", "A long wait.", "gloom: 5+6 frown6", "joy: 5+6 smile8", descriptions=("A frown.", "A grin.")
    )
    one, two = records(described, dialect="keyframeface")
    assert "MouthFrownLeft" in one.answer and "MouthSmileLeft" in two.answer
    said: list[str] = []
    prepare(msgspec.structs.replace(written([bare, described, *scripts]), test=0.0, validation=0.0,
                                    dialect="keyframeface"), tmp_path, report=said.append)  # fmt: skip
    assert any(re.match(r"train: \d+ scripts left out", line) for line in said)


def test_bare_numbers_come_back() -> None:
    keyframe = parse_line("3+12 smileL7 jaw10 yaw-4")
    line = format_vector(keyframe)
    assert len(line.split()) == 1 + COUNT
    back = parse_vector(line)
    assert (back.way, back.hold) == (keyframe.way, keyframe.hold)
    np.testing.assert_array_equal(back.pose, keyframe.pose)


@pytest.mark.parametrize(
    "line",
    [
        "", "3+4", "3 " + "0 " * COUNT, "3+4 " + "0 " * (COUNT + 1), "3+4 x" + " 0" * 60, "150+20" + " 0" * COUNT,
        "-5+3" + " 0" * COUNT,
    ],
)  # fmt: skip
def test_what_is_no_line_of_bare_numbers_is_refused(line: str) -> None:
    with pytest.raises(DecodeError):
        parse_vector(line)


def test_as_many_situations_are_trained_on_as_asked_for(scripts: list[Script], written: Write, tmp_path: Path) -> None:
    data = written(scripts)
    counts = [
        prepare(msgspec.structs.replace(data, situations=count), tmp_path, report=print)["train"]
        for count in (0, 30, 10**6)
    ]
    assert counts[1] == counts[0] + 30
    assert counts[2] > counts[0] + 12_000
    texts = [asked_text(record) for record in read_records(tmp_path / "train.jsonl")]
    assert len(set(texts)) == len(texts)


def test_the_split_is_by_script_and_by_seed(scripts: list[Script], written: Write, tmp_path: Path) -> None:
    many = [msgspec.structs.replace(s, id=f"{s.id}-{i}", text=f"{s.text} {i}") for s in scripts for i in range(10)]
    training, validation, test = split(many, (0.1, 0.2), 1)
    assert sorted(s.id for s in training + validation + test) == sorted(s.id for s in many)
    for form in {script.form for script in many}:  # each form gives its share
        count = sum(script.form == form for script in many)
        assert sum(script.form == form for script in test) == round(0.2 * count)
    assert split(list(reversed(many)), (0.1, 0.2), 1) == (training, validation, test)
    assert split(many, (0.1, 0.2), 2) != (training, validation, test)

    kept = [msgspec.structs.replace(s, split="test") if i % 9 == 0 else s for i, s in enumerate(many)]
    training, validation, test = split(kept, (0.1, 0.0), 1)
    assert [s.id for s in test] == [s.id for s in many[::9]]
    assert not {s.id for s in training + validation} & {s.id for s in test}
    assert split(kept, (0.0, 0.0), 1)[1] == []

    data = msgspec.structs.replace(written(scripts), variations=3)
    prepare(data, tmp_path, report=print)
    parts = [{r.script for r in read_records(tmp_path / f"{name}.jsonl")} for name in ("train", "validation", "test")]
    assert all(parts)
    assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
    assert {script.id for script in read_scripts(tmp_path / "test_scripts.jsonl")[0]} == parts[2]


def test_the_same_settings_give_the_same_files(scripts: list[Script], written: Write, tmp_path: Path) -> None:
    data = msgspec.structs.replace(written(scripts), variations=3)
    for name in ("a", "b"):
        prepare(data, tmp_path / name, report=print)
    prepare(msgspec.structs.replace(data, seed=2), tmp_path / "c", report=print)
    a, b, c = ((tmp_path / name / "train.jsonl").read_bytes() for name in ("a", "b", "c"))
    assert a == b != c


def test_what_says_the_same_in_other_words_is_left_out(
    scripts: list[Script], written: Write, tmp_path: Path, smollm2_path: Path
) -> None:
    keyframes = (msgspec.structs.replace(scripts[0].keyframes[0], hold=3.3), *scripts[0].keyframes[1:])
    text = "Room 212, second floor, left of the lift."
    same = msgspec.structs.replace(scripts[0], id="same", text=text, keyframes=keyframes)
    (tmp_path / "forbidden.txt").write_text("Room 214 is on the second floor, next to the lift.\n", encoding="utf-8")
    data = msgspec.structs.replace(written([*scripts, same]), validation=0, test=0, variations=0)
    data = msgspec.structs.replace(data, forbidden=str(tmp_path / "forbidden.txt"))
    said: list[str] = []
    prepare(data, tmp_path / "records", base=str(smollm2_path), report=said.append)
    assert {record.script for record in read_records(tmp_path / "records" / "train.jsonl")} == {s.id for s in scripts}
    left_out, nearest = said
    assert left_out.startswith(f"left out: {same.text!r}, 0.")
    assert nearest.startswith("the nearest that is trained on: ")


@pytest.mark.parametrize(
    "forbidden",
    [
        "Nobody had come to the old man's funeral.",
        '{"id": 3, "text": "nobody came to the old man\'s funeral"}',
        "She knew that nobody had come to the party.",  # five words in a row
    ],
)
def test_a_leaked_sentence_is_refused(scripts: list[Script], written: Write, tmp_path: Path, forbidden: str) -> None:
    (tmp_path / "forbidden.txt").write_text(f"Something else entirely.\n{forbidden}\n", encoding="utf-8")
    data = msgspec.structs.replace(written(scripts), forbidden=str(tmp_path / "forbidden.txt"))
    said: list[str] = []
    with pytest.raises(UserError, match="1 problem"):
        prepare(data, tmp_path / "records", report=said.append)
    assert re.search(r"scripts\.jsonl:small-6: text: .*forbidden text", said[0])
    assert not (tmp_path / "records").exists()


def test_no_variation_becomes_a_forbidden_sentence(scripts: list[Script], written: Write, tmp_path: Path) -> None:
    script = msgspec.structs.replace(scripts[0], text="The child slowly shut both eyes.")
    data = msgspec.structs.replace(written([script]), variations=20, validation=0, test=0)
    prepare(data, tmp_path / "free", report=print)
    (tmp_path / "forbidden.txt").write_text("A kid slowly shut both eyes at dusk, near water.\n", encoding="utf-8")
    data = msgspec.structs.replace(data, forbidden=str(tmp_path / "forbidden.txt"))
    prepare(data, tmp_path / "kept", report=print)
    free, kept = (
        {asked_text(record).lower() for record in read_records(tmp_path / name / "train.jsonl")}
        for name in ("free", "kept")
    )
    assert kept < free
    assert all("kid slowly shut both eyes" in text for text in free - kept)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[train]\nranks = 4\n", "train.ranks"),
        ("[train]\nrank = 0\n", "train.rank: expected `int` >= 1"),
        ('[train]\nrank = "four"\n', "train.rank"),
        ("[train]\nlearning_rate = nan\n", "train.learning_rate"),
        ("[train]\nthreads = -1\n", "train.threads"),
        ("[data]\nvariations = 21\n", "data.variations: expected `int` <= 20"),
        ("[data]\nlimit = -1\n", "data.limit"),
        ('[data]\ndialect = "prose"\n', "data.dialect: invalid enum value"),
        ('[export]\nquantization = "Q2"\n', "export.quantization"),
        ("[data\n", "cannot be read"),
    ],
)
def test_a_bad_setting_is_named(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(ConfigError, match=re.escape(named)) as caught:
        settings.load(tmp_path / "s.toml")
    assert str(caught.value).startswith(str(tmp_path / "s.toml"))


def test_settings_that_are_left_out_have_their_defaults(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text("[train]\nrank = 8\n")
    loaded = settings.load(tmp_path / "s.toml")
    assert loaded.train.rank == 8
    assert msgspec.structs.replace(loaded, train=settings.Train()) == settings.load(None)
