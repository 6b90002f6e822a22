"""Layers while their regions and times are edited: no channel steps or turns harder than the unedited face does."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from kff_live.protocols import kernels
from kff_live.protocols.channels import GROUPS, INDEX, Pose, pose_from_names
from kff_live.protocols.frames import FrameRate
from kff_live.protocols.idle import layer as idle_layer
from kff_live.protocols.idle.layer import Idle
from kff_live.protocols.keyframes import Keyframe, as_acted
from kff_live.protocols.talk import kernels as talk_kernels
from kff_live.protocols.talk.speech import speech_from_text
from kff_live.protocols.track import Timeline
from kff_live.runtime import capture, player
from kff_live.runtime.capture import CaptureLayer, CaptureSource, Tracked
from kff_live.runtime.clock import ManualClock
from kff_live.runtime.config import Config, decode, settings
from kff_live.runtime.player import Plan, Player

HZ = 240
SECONDS = 6.0
EDIT_AT = (2.5, 2.9, 3.3, 3.4)
"""The first is an edit from rest, the others come while one is on its way."""

Seen = Callable[[float], bool]
"""Whether the camera sees the performer, by the time."""

SMILE = as_acted(
    Keyframe(pose_from_names({
        "MouthSmileLeft": 0.5, "MouthSmileRight": 0.6, "JawOpen": 0.3, "BrowInnerUp": 0.4, "EyeSquintLeft": 0.3,
        "CheekPuff": 0.2, "NoseSneerLeft": 0.3, "TongueOut": 0.2, "HeadYaw": 0.2, "EyeBlinkLeft": 0.05,
        "EyeBlinkRight": 0.05,
    }), way=0.5, hold=12.0)
)  # fmt: skip


def live_face(t: float) -> Pose:
    """A performer who talks and turns the head."""
    names = {
        "JawOpen": 0.3 + 0.2 * np.sin(7 * t), "MouthSmileLeft": 0.4 + 0.3 * np.sin(2 * t), "BrowInnerUp": 0.3,
        "CheekPuff": 0.3, "NoseSneerLeft": 0.2, "TongueOut": 0.1, "HeadYaw": -0.3 * np.sin(3 * t),
        "EyeLookInLeft": 0.2, "EyeBlinkLeft": 0.3 + 0.2 * np.sin(5 * t),
    }  # fmt: skip
    return pose_from_names(names)


def always(t: float) -> bool:
    return True


class Rig:
    """A face with one of its layers on top of, or under, an acted smile; the settings are edited as a reload does."""

    def __init__(self, layer: str) -> None:
        self.config = Config()
        self.clock = ManualClock(100.0)
        self.source = CaptureSource(self.config.capture, self.clock)
        self.player = Player("Face", FrameRate(), settings=settings(self.config.subjects[0], self.config))
        self.idle = Idle(self.config.idle)
        self.player.use(
            kernels,
            idle=self.idle if layer == "idle" else None,
            live=CaptureLayer(self.source, kernels) if layer == "capture" else None,
            talk=talk_kernels,
        )
        track = Timeline().append(SMILE)
        self.player.plan = Plan(track, 100.0, 1, "u", True, self.player.plan.settings)
        if layer == "talk":
            speech = speech_from_text("Bob, what a beautiful morning it may be, my dear, to pick apples by the pond.")
            self.player.plan = replace(self.player.plan, speech=speech, speech_start=100.5)

    def edit(self, toml: str) -> None:
        self.config = decode(toml)
        look = settings(self.config.subjects[0], self.config)
        self.player.plan = replace(self.player.plan, settings=look)
        self.idle.update(self.config.idle)
        self.source.settings = self.config.capture

    def play(self, edits: dict[int, str], seen: Seen = always) -> NDArray[np.float64]:
        """The poses, float64[SECONDS * HZ, 61]; an edit is made before its tick."""
        poses = []
        for tick in range(round(SECONDS * HZ)):
            now = self.clock.now()
            if tick in edits:
                self.edit(edits[tick])
            if seen(now - 100.0):
                self.source.latest = Tracked(live_face(now), now)
            poses.append(self.player.frame(now, tick, 0.0).pose)
            self.clock.advance(1 / HZ)
        return np.array(poses, np.float64)


def regions(layer: str, mode: str, weight: float) -> str:
    return f"[{layer}.regions]\n" + "".join(f'{group} = {{ mode = "{mode}", weight = {weight} }}\n' for group in GROUPS)


LAYERS = {"idle": idle_layer.BLEND_SECONDS, "talk": player.FADE_SECONDS, "capture": player.FADE_SECONDS}
"""And how long an edit of their regions takes to come in."""


def edits(tomls: Sequence[str]) -> dict[int, str]:
    return {round(at * HZ): toml for at, toml in zip(EDIT_AT, tomls, strict=False)}


def excess(layer: str, tomls: Sequence[str], seconds: float, seen: Seen = always) -> float:
    """By how much, as a factor, a face steps or turns harder than it may while it is edited; at most 1 if it does not.

    It may as hard in each channel as the faces that have one of the settings from the beginning; and besides, a change
    from one to another in `seconds`, whose speed is at most 1.9 of the way and its acceleration 6.
    """
    unedited = np.stack([Rig(layer).play({0: toml}, seen)[HZ:] for toml in ("", *tomls)])
    edited = Rig(layer).play(edits(tomls), seen)
    at = round(EDIT_AT[0] * HZ)
    assert np.array_equal(edited[HZ:at], unedited[0, : at - HZ])
    edited = edited[HZ:]
    assert np.abs(edited - unedited[0]).max() > 0.01  # and the edit does show
    steps, turns = (np.abs(np.diff(unedited, n, axis=1)).max(axis=(0, 1)) for n in (1, 2))
    way, ticks = np.ptp(unedited, axis=(0, 1)), seconds * HZ
    step = np.abs(np.diff(edited, axis=0)) / (steps + 1.9 * way / ticks + 1e-6)
    turn = np.abs(np.diff(edited, 2, axis=0)) / (turns + 3.8 * steps / ticks + 6.0 * way / ticks**2 + 1e-6)
    return float(max(step.max(), turn.max()))


SEQUENCES = [
    [("add", 0.0)],
    [("max", 1.0)],
    [("add", 1.0), ("override", 1.0), ("add", 0.3), ("max", 1.0)],
    [("max", 0.7), ("override", 0.0), ("override", 1.0), ("add", 1.0)],
]


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("sequence", SEQUENCES, ids=str)
def test_edited_regions_do_not_pop(layer: str, sequence: list[tuple[str, float]]) -> None:
    tomls = [regions(layer, mode, weight) for mode, weight in sequence]
    assert excess(layer, tomls, LAYERS[layer]) <= 1.0


@pytest.mark.parametrize("layer", LAYERS)
def test_the_test_would_see_a_pop(layer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(player, "FADE_SECONDS", 1e-3)
    monkeypatch.setattr(idle_layer, "BLEND_SECONDS", 1e-3)
    monkeypatch.setattr(capture, "CHANGE_SECONDS", 1e-3)
    assert excess(layer, [regions(layer, "override", 0.2)], LAYERS[layer]) > 2.0
    assert excess("capture", SLOW_THEN_QUICK, 0.3) > 2.0


def test_an_edit_ends_where_the_settings_say() -> None:
    for layer in LAYERS:
        toml = regions(layer, "max", 0.6)
        changed = Rig(layer)
        changed.play(edits([toml]))
        begun = Rig(layer)
        begun.edit(toml)
        begun.play({})
        for rig in (changed, begun):
            rig.player.frame(107.0, 0, 0.0)
        assert changed.player.frame(107.1, 0, 0.0).pose == pytest.approx(
            begun.player.frame(107.1, 0, 0.0).pose, abs=1e-5
        )


# --- times of the capture layer


def on_and_off(t: float) -> bool:
    """Lost before the first edit, found between two, lost and found again."""
    return t < 2.3 or 2.95 < t < 3.35 or t > 4.5


SLOW_THEN_QUICK = ["[capture]\nsmooth = 1.0", "[capture]\nsmooth = 0.001"]


@pytest.mark.parametrize(
    ("tomls", "seen"),
    [
        (["[capture]\nsmooth = 0.2"], always),
        (SLOW_THEN_QUICK, always),
        (SLOW_THEN_QUICK, on_and_off),
        (["[capture]\nfade = 5.0", "[capture]\nfade = 0.05"], on_and_off),
        (["[capture]\nfade = 0.1", "[capture]\nfade = 2.0", "[capture]\nfade = 0.3\nsmooth = 0.1"], on_and_off),
        (["[capture]\ntimeout = 5.0", "[capture]\ntimeout = 0.05"], on_and_off),
    ],
)
def test_edited_times_of_a_live_face_do_not_pop(tomls: list[str], seen: Seen) -> None:
    assert excess("capture", tomls, 0.3, seen) <= 1.0


def test_a_shorter_timeout_lets_go_sooner() -> None:
    def seen(t: float) -> bool:
        return t < 3.0

    def gone(toml: str) -> int:
        yaw = Rig("capture").play(edits([toml]), seen)[:, INDEX["HeadYaw"]]
        return int(np.flatnonzero(np.abs(yaw - yaw[-1]) > 0.01)[-1])

    long, short = gone("[capture]\ntimeout = 1.0"), gone("[capture]\ntimeout = 0.1")
    assert (long - short) / HZ == pytest.approx(0.9, abs=0.2)


@pytest.mark.parametrize("layer", LAYERS)
def test_weight_0_leaves_what_lies_below(layer: str) -> None:
    shown = Rig(layer).play({0: regions(layer, "override", 0.0)})[-1]
    below = live_face(100.0 + SECONDS - 1 / HZ) if layer == "capture" else SMILE.pose
    assert shown == pytest.approx(below, abs=0.03 if layer == "capture" else 2e-5)
