"""Lines by feeling: each feeling has texts and faces that show it; no text comes twice or is one that only judges."""

import re
from collections import Counter
from pathlib import Path

import pytest

from kff_live.finetune import anatomy, lint
from kff_live.finetune.scripts import Script
from kff_live.finetune.settings import BLIND, SCRIPTS, SITUATIONS
from kff_live.finetune.situations import NEUTRAL, act, read_situations
from kff_live.protocols.errors import UserError
from kff_live.protocols.keyframe_text import format_keyframe


@pytest.fixture(scope="module")
def scripts() -> list[Script]:
    return act(read_situations(SITUATIONS), 1)


def test_the_lines_that_come_along_cover_every_feeling(scripts: list[Script]) -> None:
    single = [script for script in scripts if script.form in ("chat", "prose", "neutral")]
    count = Counter(script.feelings[0] if script.feelings else NEUTRAL for script in single)
    assert set(count) == {*anatomy.FEELINGS, NEUTRAL} - {"calm"}
    assert min(count.values()) >= 20
    assert sum(count.values()) > 20_000
    turns = {script.feelings for script in scripts if script.form == "sequence"}
    assert len(turns) > 150
    assert max(len(script.keyframes) for script in scripts if script.form == "sequence") <= 4
    assert Counter(script.form for script in scripts)["nuance"] > 900


def test_each_is_said_once_and_only_here(scripts: list[Script]) -> None:
    texts = [" ".join(lint.tokens(script.text)) for script in scripts]
    assert Counter(texts).most_common(1)[0][1] == 1
    assert not set(texts) & {" ".join(lint.tokens(s.text)) for s in lint.read_corpus(SCRIPTS).scripts}
    assert len({script.id for script in scripts}) == len(scripts)


def test_none_is_too_much_like_a_sentence_that_only_judges(scripts: list[Script]) -> None:
    assert lint.leaking([script.text for script in scripts], lint.forbidden_texts(str(BLIND))) == {}


def test_every_face_shows_its_feeling(scripts: list[Script]) -> None:
    for script in scripts:
        assert list(anatomy.problems(script)) == [], script.text


def test_the_seed_decides_which_face_a_line_gets(scripts: list[Script]) -> None:
    feelings = read_situations(SITUATIONS)
    assert act(feelings, 1) == scripts
    other = act(feelings, 2)
    assert [script.text for script in other] == [script.text for script in scripts]
    differ = sum(a.keyframes != b.keyframes for a, b in zip(scripts, other, strict=True))
    assert 0.85 < differ / len(scripts) < 0.95  # ten faces each
    first = re.sub(r"\n$", "", format_keyframe(scripts[0].poses()[0]))
    assert any(face[0] == first for face in feelings[scripts[0].feelings[0]].faces)


GOOD = (
    '[joy]\nfaces = ["joy: 3+14 smile8 cheek5\\njoyful nod: 3+5 smile6 pitch-2"]\nsay = ["yay"]\ntell = ["She won."]\n'
)


def test_files_are_read_together(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(GOOD)
    (tmp_path / "b.toml").write_text('[joy]\nsay = ["woo"]\n[neutral]\nfaces = ["calm: 4+6"]\ntell = ["It is noon."]\n')
    found = act(read_situations(tmp_path), 1)
    assert [(s.id, s.form, s.text, s.feelings, len(s.keyframes)) for s in found] == [
        ("joy-chat-0001", "chat", "yay", ("joy",), 2),
        ("joy-chat-0002", "chat", "woo", ("joy",), 2),
        ("joy-prose-0001", "prose", "She won.", ("joy",), 2),
        ("neutral-prose-0001", "neutral", "It is noon.", (), 1),
    ]


def test_the_lines_of_some_files_with_the_faces_of_all(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(GOOD)
    (tmp_path / "b.toml").write_text('[joy]\nsay = ["woo"]')
    assert [(s.text, len(s.keyframes)) for s in act(read_situations(tmp_path, ["b"]), 1)] == [("woo", 2)]
    with pytest.raises(UserError, match=r"data\.situation_files: there is no c\.toml in "):
        read_situations(tmp_path, ["b", "c"])


def test_feelings_follow_one_another_and_mix(tmp_path: Path) -> None:
    long = '"grief: 9+9 browinner8\\ntears: 9+9 frown6 browinner8\\nmore: 9+9 frown8 browinner8"'
    (tmp_path / "a.toml").write_text(
        f"""{GOOD}[grief]\nfaces = [{long}, "grief: 9+20 frown7 browinner8"]
[hope]\nfaces = ["hope: 5+9 browinner5 smile4"]
["joy > grief"]\ntell = ["She won, then read on."]\n["neutral > hope > grief"]\nsay = ["ok. maybe? oh no"]
["happy tears"]\nmixed = ["joy", "crying"]\nfaces = ["tears: 5+15 squint4 smile7 browinner7"]\nsay = ["sniff, yay"]
[neutral]\nfaces = ["calm: 4+6"]"""
    )
    for seed in range(8):
        found = {s.text: s for s in act(read_situations(tmp_path), seed)}
        turn, three, mixed = (found[text] for text in ("She won, then read on.", "ok. maybe? oh no", "sniff, yay"))
        assert (turn.id, turn.form, turn.feelings) == ("joy->-grief-prose-0001", "sequence", ("joy", "grief"))
        assert [k.label for k in turn.poses()] == ["joy", "joyful nod", "grief"]
        assert (three.form, three.feelings) == ("sequence", ("hope", "grief"))
        assert [k.label for k in three.poses()] == ["calm", "hope", "grief"]
        assert (mixed.form, mixed.feelings, len(mixed.keyframes)) == ("nuance", ("joy", "crying"), 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"there are no situations"),
        ("[joy", r"a\.toml"),
        ('[joy]\nsays = ["yay"]', r"a\.toml.*says"),
        ('[joy]\nsay = ["yay"]', r"joy: joy has no face"),
        (GOOD + '["joy > hope"]\nsay = ["yay, maybe"]', r"joy > hope: hope has no face"),
        (GOOD + '["joy > joy"]\nfaces = ["joy: 3+14 smile8 cheek5"]', r"joy > joy: .*no faces of their own"),
        ('[gladness]\nmixed = ["joy", "pain"]\nfaces = ["pain: 3+14 browdown5"]', r"gladness: .*joy shows none of"),
        (GOOD.replace("joy]", "joie]"), r"a\.toml: joie: .*feelings: joie not known"),
        (GOOD.replace("smile8 cheek5", "frown8"), r"a\.toml: joy: .*joy shows none of"),
        (GOOD.replace("smile8", "grin8"), r"a\.toml: .*grin"),
    ],
)
def test_a_wrong_file_is_named(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(UserError, match=said):
        read_situations(tmp_path)
