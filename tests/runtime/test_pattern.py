"""`kff-live test-pattern` as a program, decoded by PyLiveLinkFace."""

import itertools
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from kff_live.protocols import livelink
from kff_live.protocols.channels import GROUPS, INDEX, LIVELINK
from kff_live.protocols.errors import UserError
from kff_live.protocols.pattern import COMPANIONS, steps
from kff_live.runtime.config import Config, LiveLink, Osc, Vmc
from kff_live.runtime.diagnosis.pattern import chosen, named
from tests.runtime.receiver import Receiver

DEADLINE = 120.0
SEEN = 0.05
Values = NDArray[np.float32]


@contextmanager
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    try:
        yield made
    finally:
        made.close()


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "kff_live.runtime.cli", "test-pattern", *arguments], cwd=folder,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def config(folder: Path, port: int, extra: str = "") -> str:
    path = folder / "test.toml"
    path.write_text(f'{extra}\n[[sinks]]\ntype = "livelink"\ntargets = ["127.0.0.1:{port}"]\n')
    return str(path)


def moves(frames: list[Values]) -> list[tuple[frozenset[str], dict[str, float]]]:
    """What moved between two times at rest, each with the furthest value of its channels."""
    found: list[tuple[frozenset[str], dict[str, float]]] = []
    together: list[Values] = []
    for values in [*frames, np.zeros(len(LIVELINK), np.float32)]:
        if np.abs(values).max() > SEEN:
            together.append(values)
        elif together:
            stack = np.array(together)
            furthest = stack[np.abs(stack).argmax(axis=0), np.arange(len(LIVELINK))]
            names = {LIVELINK[i]: float(furthest[i]) for i in np.flatnonzero(np.abs(furthest) > SEEN)}
            found.append((frozenset(names), names))
            together = []
    return found


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[Values], list[int]]:
    """The whole pattern: its lines and its frames."""
    folder = tmp_path_factory.mktemp("pattern")
    with receiver() as seen:
        process = start(folder, "--config", config(folder, seen.port), "--seconds-each", "0.5")
        out, err = process.communicate(timeout=DEADLINE)
        assert (process.returncode, err) == (0, "")
    return out.splitlines(), [p.values for p in seen.packets], [p.number for p in seen.packets]


def test_each_step_is_named_in_order(played: tuple[list[str], list[Values], list[int]]) -> None:
    lines, _, _ = played
    expected = list(steps())
    assert len(lines) == len(expected)
    for number, (line, step) in enumerate(zip(lines, expected, strict=True), 1):
        assert line.split()[:3] == [f"{number}/{len(expected)}", step.channel, f"{step.value:+.1f}"]
        assert step.seen in line
        assert f"({step.where})" in line or not step.where
    assert "JawLeft" in lines[15] and "(the face's left: your right if it faces you)" in lines[15]


def test_one_channel_after_the_other_moves_and_comes_back(
    played: tuple[list[str], list[Values], list[int]],
) -> None:
    _, frames, _ = played
    found = moves(frames)
    expected = list(steps())
    assert len(found) == len(expected)
    for (names, furthest), step in zip(found, expected, strict=True):
        companions = {step.channel, *COMPANIONS.get(step.channel, {})}
        if step.channel.startswith("EyeLook"):
            side = "Left" if "Left" in step.channel else "Right"
            companions |= {f"{side}EyeYaw", f"{side}EyePitch"}
        assert step.channel in names <= companions, step
        assert furthest[step.channel] == pytest.approx(step.value, abs=0.02), step


def test_the_movement_is_eased(played: tuple[list[str], list[Values], list[int]]) -> None:
    _, frames, numbers = played
    whole = [
        (a, b, c)
        for (a, i), (b, j), (c, k) in zip(
            zip(frames, numbers, strict=True), zip(frames[1:], numbers[1:], strict=True),
            zip(frames[2:], numbers[2:], strict=True), strict=False,
        )
        if k - j == j - i == 1
    ]  # fmt: skip
    assert len(whole) > len(frames) / 2
    second = max(float(np.abs(c - 2 * b + a).max()) for a, b, c in whole)
    # The steepest cubic over 0.125 s at 60 Hz: 4 (h / w)^3 at its start, 24 (h / w)^2 within.
    assert second < 24 * (1 / 60 / 0.125) ** 2
    assert numbers == sorted(set(numbers))


def test_it_begins_and_ends_at_rest(played: tuple[list[str], list[Values], list[int]]) -> None:
    _, frames, _ = played
    assert not np.abs(frames[:10]).max()
    assert not np.abs(frames[-3:]).max()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_ctrl_c_eases_to_neutral(tmp_path: Path) -> None:
    with receiver() as seen:
        process = start(
            tmp_path,
            "--config",
            config(tmp_path, seen.port),
            "--seconds-each",
            "20",
            "--channels",
            "JawOpen",
            "--loop",
        )
        seen.wait(lambda packets: bool(packets[-1].values[INDEX["JawOpen"]] > 0.5))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, err) == (0, "")
    assert len(out.splitlines()) == 1
    jaw = [float(p.values[INDEX["JawOpen"]]) for p in seen.packets]
    assert jaw[-3:] == [0.0, 0.0, 0.0]
    gaps = {b - a for a, b in itertools.pairwise(p.number for p in seen.packets)}
    assert max(abs(b - a) for a, b in itertools.pairwise(jaw)) < 0.12 * max(gaps)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_a_loop_begins_again(tmp_path: Path) -> None:
    with receiver() as seen:
        process = start(
            tmp_path,
            "--config",
            config(tmp_path, seen.port),
            "--seconds-each",
            "0.2",
            "--channels",
            "JawOpen",
            "--loop",
        )
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=DEADLINE)
    assert process.returncode == 0
    assert set(lines) == {" 1/1  JawOpen             +1.0  the mouth opens, the jaw drops\n"}


def test_gain_limit_and_subjects_of_the_settings_hold(tmp_path: Path) -> None:
    extra = """
        [[subjects]]
        name = "Anna"
        gain = { JawOpen = 0.5 }
        [[subjects]]
        name = "Berta"
        limit = { JawOpen = [0, 0.25] }
    """
    with receiver() as seen:
        process = start(
            tmp_path,
            "--config",
            config(tmp_path, seen.port, extra),
            "--seconds-each",
            "0.5",
            "--channels",
            "jawOpen",
        )
        process.communicate(timeout=DEADLINE)
    furthest = {
        name: max(p.values[INDEX["JawOpen"]] for p in seen.packets if p.subject == name) for name in ("Anna", "Berta")
    }
    assert furthest == pytest.approx({"Anna": 0.5, "Berta": 0.25}, abs=1e-3)


def test_what_the_settings_hold_still_is_said(tmp_path: Path) -> None:
    with receiver() as seen:
        process = start(
            tmp_path, "--config", config(tmp_path, seen.port, "[[subjects]]\ngain = { JawOpen = 0.0 }"),
            "--seconds-each", "0.3", "--channels", "JawOpen", "JawForward",
        )  # fmt: skip
        out, _ = process.communicate(timeout=DEADLINE)
    still, moving = out.splitlines()
    assert still.endswith("the mouth opens, the jaw drops; held still by gain, limit or channels in the settings")
    assert moving.endswith("the jaw comes forward")
    assert [names for names, _ in moves([p.values for p in seen.packets])] == [{"JawForward"}]


def test_a_mirrored_sink_is_told(tmp_path: Path) -> None:
    with receiver() as seen:
        path = Path(config(tmp_path, seen.port))
        path.write_text(path.read_text() + "mirror = true\n")
        process = start(tmp_path, "--config", str(path), "--seconds-each", "0.3", "--channels", "MouthLeft")
        _, err = process.communicate(timeout=DEADLINE)
    assert err == "warning: the livelink sink is mirrored: left and right change places\n"
    assert [names for names, _ in moves([p.values for p in seen.packets])] == [{"MouthRight"}]


def test_without_settings_it_sends_to_unreal_s_port(tmp_path: Path) -> None:
    """The default port may be in use here, so what is sent is not looked at."""
    process = start(tmp_path, "--seconds-each", "0.2", "--channels", "JawOpen")
    out, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0
    assert out.startswith(" 1/1  JawOpen")
    assert Config().sinks == (LiveLink(targets=(f"127.0.0.1:{livelink.DEFAULT_PORT}",)),)


# --- options


def test_sinks_are_chosen_by_number_and_by_type() -> None:
    first, second, third = LiveLink(), Osc(), LiveLink(targets=("127.0.0.1:1",))
    settings = Config(sinks=(first, second, third))
    assert chosen(None, settings) == [first, second, third]
    assert chosen("1", settings) == [second]
    assert chosen("livelink", settings) == [first, third]
    assert chosen("vmc", settings) == [Vmc()]


@pytest.mark.parametrize(
    ("sink", "sinks", "message"),
    [
        (None, (), "sinks: there is none in the settings; name a type, such as --sink livelink"),
        ("3", (Osc(),), r"--sink: there is no sinks\[3\], the settings have 1"),
        ("unreal", (), "--sink: 'unreal' is neither a number nor one of livelink, osc, vmc"),
        ("recording", (), "--sink: the settings have no sink of type recording, and it has no defaults"),
    ],
)
def test_a_sink_that_is_not_there_is_the_users_error(sink: str | None, sinks: tuple[Osc, ...], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        chosen(sink, Config(sinks=sinks))


def test_channels_are_named_in_any_case_and_by_region() -> None:
    assert named([]) == LIVELINK
    assert named(["jawOpen", "TONGUEOUT"]) == ("JawOpen", "TongueOut")
    assert named(["jaw", "JawOpen"]) == tuple(LIVELINK[i] for i in GROUPS["jaw"])
    with pytest.raises(UserError, match=r"^--channels: 'nostril' is no channel such as JawOpen, and none of the"):
        named(["nostril"])


@pytest.mark.parametrize("seconds", ["0.1", "31", "nan"])
def test_a_step_has_a_shortest_and_a_longest_time(tmp_path: Path, seconds: str) -> None:
    process = start(tmp_path, "--seconds-each", seconds)
    _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 2
    assert err == f"kff-live: --seconds-each: {float(seconds):g} is outside 0.2 to 30\n"
