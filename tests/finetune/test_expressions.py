"""Faces are scored by what a viewer must see, and a face that moves everything understands nothing."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from kff_live.converters import livelink_csv
from kff_live.finetune.cli import main
from kff_live.finetune.expressions import Case, Expressions, score
from kff_live.finetune.motions import Motion
from kff_live.finetune.settings import BLIND
from kff_live.protocols.channels import INDEX, LIVELINK, SHAPES
from kff_live.protocols.errors import UserError
from kff_live.protocols.frames import Frame, FrameRate


def motion(*frames: dict[str, float]) -> Motion:
    """Poses of channels by name, with rest before and after."""
    poses = np.zeros((len(frames) + 2, len(LIVELINK)), np.float32)
    for pose, frame in zip(poses[1:], frames, strict=False):
        for name, value in frame.items():
            pose[INDEX[name]] = value
    return poses


def broken(motion: Motion, **rules: Any) -> list[str]:
    return Expressions(BLIND).broken(Case(id=1, text="x", **{"kind": "action"} | rules), motion)


SMILE = {"MouthSmileLeft": 0.6, "MouthSmileRight": 0.3}


def test_what_must_show_may_show_on_one_side() -> None:
    assert broken(motion(SMILE), up=["smile"]) == []
    assert broken(motion({"MouthSmileLeft": 0.3}), up=["smile"]) == []
    assert broken(motion({"MouthSmileLeft": 0.29}), up=["smile"]) == ["smile must show from 0.30, and peaks at 0.290"]
    assert broken(motion(SMILE | {"JawOpen": 0.25}), up=["smile"], down=["jaw"]) == []
    assert broken(motion(SMILE, {"JawOpen": 0.26}), up=["smile"], down=["jaw"]) == [
        "jaw must stay at 0.25, and peaks at 0.260"
    ]
    assert broken(np.zeros((0, len(LIVELINK)), np.float32), up=["smile"]) == ["there are no frames"]


def test_what_is_contrary_to_a_feeling_stays_down_unless_it_may_show() -> None:
    both = motion(SMILE | {"BrowDownLeft": 0.5})
    assert broken(both, up=["smile"]) == []
    assert broken(both, kind="chat", up=["smile"]) == ["browDown must stay at 0.25, and peaks at 0.500"]
    assert broken(both, kind="emotion", up=["smile"], may=["browDown"]) == []


def test_order_is_that_of_the_peaks() -> None:
    wide = {"EyeWideLeft": 0.8, "EyeWideRight": 0.8}
    rules: dict[str, Any] = {"kind": "sequence", "up": ["wide", "smile"], "order": ["wide", "smile"]}
    assert broken(motion(wide, SMILE), **rules) == []
    assert broken(motion(wide | {"MouthSmileLeft": 0.3}, SMILE), **rules) == []
    assert broken(motion(SMILE, wide), **rules) == ["wide must peak before smile, not at frame 2 and 1"]


def test_a_crowd_of_other_shapes_at_the_apex_fails() -> None:
    crowd = dict.fromkeys([name for name in LIVELINK[:SHAPES] if not name.startswith("EyeLook")], 0.4)
    names = [name for name in crowd if "Smile" not in name]
    eight, nine = (SMILE | dict.fromkeys(names[:count], 0.4) for count in (8, 9))
    assert broken(motion(eight), up=["smile"]) == []
    assert broken(motion(nine), up=["smile"]) == ["9 other shapes stand over 0.30 where smile peaks, at most 8 may"]
    assert broken(motion(nine), kind="nuance", up=["smile"]) == []
    assert broken(motion(crowd), kind="nuance", up=["smile"])
    assert broken(motion(SMILE, nine | {"MouthSmileLeft": 0.5}), up=["smile"]) == []  # not at the apex
    assert broken(motion(SMILE | dict.fromkeys(names, 0.3)), up=["smile"]) == []  # not over it


def test_a_quiet_face_may_blink_look_and_turn() -> None:
    lively = {"EyeBlinkLeft": 1.0, "EyeLookUpLeft": 0.6, "HeadYaw": 0.3, "MouthSmileLeft": 0.15}
    assert broken(motion(lively), quiet=True) == []
    assert broken(motion(SMILE), quiet=True) == [
        "nothing may move, and MouthSmileLeft peaks at 0.600",
        "nothing may move, and MouthSmileRight peaks at 0.300",
    ]


def test_every_case_of_the_blind_set_can_be_failed_and_no_still_face_passes_but_quiet_ones() -> None:
    blind = Expressions(BLIND)
    assert len(blind.cases) == 150
    still, all_of_it = motion({}), np.ones((3, len(LIVELINK)), np.float32)
    for case in blind.cases:
        assert bool(blind.broken(case, still)) != case.quiet, case.text
        assert blind.broken(case, all_of_it), case.text


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ({"up": ["grin"]}, "case 7: 'grin' is not a group of"),
        ({"ups": ["smile"]}, "unknown field `ups`"),
        ({"may": ["smile"]}, "case 7: it has no rule"),
        ({"order": ["smile"]}, "case 7: order: 1 groups, expected two or none"),
        ({"up": "smile"}, "Expected `array`, got `str`"),
        (None, "it holds no cases"),
    ],
)
def test_a_wrong_case_is_named(case: dict[str, Any] | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "cases.jsonl"
    path.write_bytes(msgspec.json.encode({"id": 7, "kind": "chat", "text": "x"} | case) if case else b"")
    with pytest.raises(UserError, match=said):
        Expressions(path)


def test_groups_beside_the_cases_go_before_ours(tmp_path: Path) -> None:
    path = tmp_path / "cases.jsonl"
    path.write_text('{"id": "a", "kind": "chat", "text": "x", "up": ["smile"]}', encoding="utf-8-sig")
    groups = tmp_path / "groups.json"
    groups.write_text('{"smile": ["MouthSmileLeft"]}')
    own = Expressions(path)  # without the groups that are contrary to a smile
    assert own.broken(own.cases[0], motion({"MouthSmileRight": 0.9})) != []
    assert own.broken(own.cases[0], motion(SMILE)) == []
    for wrong, said in (
        ('{"smile": ["Grin"]}', "smile: 'Grin' is not a channel"), ('{"smile": []}', "smile: it has no channels"),
        ('{"smile"}', "groups.json: JSON is malformed"), (b'{"sm\xefle": []}', "groups.json: .*utf-8"),
    ):  # fmt: skip
        groups.write_bytes(wrong if isinstance(wrong, bytes) else wrong.encode())
        with pytest.raises(UserError, match=said):
            Expressions(path)
    groups.unlink()
    path.write_bytes(path.read_bytes() + b"\n" + path.read_text(encoding="utf-8-sig").encode())
    with pytest.raises(UserError, match="case a is there twice"):
        Expressions(path)


def take(path: Path, poses: Motion) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        livelink_csv.write((Frame("Face", number, 0.0, FrameRate(), pose) for number, pose in enumerate(poses)), file)


def test_takes_are_scored_and_what_they_break_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = tmp_path / "cases.jsonl"
    cases.write_text(
        '{"id": 1, "kind": "chat", "text": "yay", "up": ["smile"], "order": null}\n'
        '{"id": 2, "kind": "chat", "text": "yum", "up": ["tongue"]}\n'
        '{"id": 3, "kind": "neutral", "text": "ok", "quiet": true}\n'
    )
    takes = tmp_path / "takes"
    assert main(["score", str(takes), "--cases", str(cases)]) == 2
    assert "it holds no takes" in capsys.readouterr().err
    takes.mkdir()
    take(takes / "1.csv", motion(SMILE))
    take(takes / "2.csv", motion(SMILE))
    assert [bool(rules) for _, rules in score(takes, Expressions(cases))] == [False, True, True]
    assert main(["score", str(takes), "--cases", str(cases)]) == 0
    said = capsys.readouterr().out
    assert "2 [chat] yum\n    tongue must show from 0.30, and peaks at 0.000\n" in said
    assert "3 [neutral] ok\n    there is no take\n" in said
    assert said.endswith("chat: 1/2 = 50.0%\nneutral: 0/1 = 0.0%\nall: 1/3 = 33.3%\n")
