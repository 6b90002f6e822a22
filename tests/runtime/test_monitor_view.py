"""The monitor's screen, drawn to text."""

from io import StringIO

import pytest
from rich.console import Console

from kff_live.protocols.channels import LIVELINK, Pose, pose_from_names
from kff_live.protocols.frames import Frame, FrameRate
from kff_live.protocols.livelink import Encoder
from kff_live.protocols.monitor.formats import FORMATS
from kff_live.protocols.monitor.stream import Monitor
from kff_live.runtime.diagnosis.view import View, screen

WHERE = "UDP 127.0.0.1:11111, livelink"


def followed(pose: Pose, *, subject: str = "Face") -> Monitor:
    seen = FORMATS["livelink"].monitor()
    encoder = Encoder("d", subject, FrameRate())
    for i in range(120):
        frame = Frame(subject, 3600 * 60 + i, 0.0, FrameRate(), pose if i else pose / 2)
        seen.take(encoder.encode(frame), "127.0.0.1:40001", i / 60)
    return seen


def drawn(seen: Monitor, *, at: float = 2.0, width: int = 80, block: str = "█") -> list[str]:
    console = Console(width=width, record=True, file=StringIO())
    console.print(screen(seen.report(at), WHERE, at, block=block))
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_subject_rate_and_bars_stand_on_the_screen() -> None:
    pose = pose_from_names({"JawOpen": 0.5, "MouthSmileLeft": 1.0, "HeadYaw": -0.67, "RightEyeYaw": 0.34})
    lines = drawn(followed(pose))
    assert lines[0] == f"{WHERE}: 120 packets in 2 s, 0 rejected"
    assert lines[1].split() == ["subject", "from", "Hz", "says", "jitter", "longest", "missing", "timecode"]
    assert lines[2].split() == [
        "Face", "127.0.0.1:40001", "60.0", "60", "0.0", "ms", "16.7", "ms", "0", "01:00:01:59",
    ]  # fmt: skip
    text = "\n".join(lines)
    assert "JawOpen         ███    0.50" in text
    assert "MouthSmile      ██████ 1.00        0.00" in text
    assert "HeadYaw          ██   -0.67" in text
    assert "EyeYaw                 0.00    █   0.34" in text
    assert all(len(line) <= 80 for line in lines)


def test_every_channel_has_a_place() -> None:
    text = "\n".join(drawn(followed(pose_from_names(dict.fromkeys(LIVELINK, 0.25)))))
    assert text.count(" 0.25") == len(LIVELINK)


def test_what_is_rejected_and_what_is_odd_is_told_in_words() -> None:
    seen = followed(pose_from_names({"JawOpen": 0.5}))
    for _ in range(3):
        seen.take(b"\x05", "127.0.0.1:40001", 2.0)
    seen.take(Encoder("d", "Other", FrameRate()).encode(Frame("Other", 0, 0.0, FrameRate(), pose_from_names({}))),
              "127.0.0.1:40001", 2.0)  # fmt: skip
    lines = drawn(seen, at=4.0, width=120)
    assert "rejected      3 x  version: expected 6, got 5" in lines
    assert "warning       1 x  the device 'd' was 'Face' and is now 'Other': Unreal removes one for the other" in lines
    assert "  Face: nothing has come for 2.0 s" in lines


def test_what_is_no_channel_is_shown_by_its_name() -> None:
    seen = FORMATS["osc"].monitor()
    seen.take(b"/fader/3\0\0\0\0,f\0\0\x3f\x00\x00\x00", "127.0.0.1:9", 0.0)
    assert any(line.split() == ["/fader/3", "0.500"] for line in drawn(seen))


@pytest.mark.parametrize("name", ["\x1b[2J\x1b]0;owned\x07", "a\nb", "[red]x[/red]"])
def test_names_cannot_steer_the_terminal(name: str) -> None:
    text = "\n".join(drawn(followed(pose_from_names({"JawOpen": 0.5}), subject=name), width=160))
    assert "\x1b" not in text and "\x07" not in text
    assert "".join(c if c.isprintable() else "?" for c in name) in text


def test_bars_can_be_made_of_what_an_old_terminal_has() -> None:
    assert any(
        "JawOpen         ###    0.50" in line for line in drawn(followed(pose_from_names({"JawOpen": 0.5})), block="#")
    )


def test_where_there_is_no_terminal_only_the_last_screen_is_printed() -> None:
    console = Console(file=StringIO(), width=80)
    view = View(WHERE, console)
    seen = followed(pose_from_names({"JawOpen": 0.5}))
    for at in (0.5, 1.0, 1.5):
        view.update(seen.report(at), at)
    view.end(seen.report(2.0), 2.0)
    assert isinstance(console.file, StringIO)
    assert console.file.getvalue().count("packets in") == 1
    assert f"{WHERE}: 120 packets in 2 s" in console.file.getvalue()
