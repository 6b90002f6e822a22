"""A live face over Live Link, sent by PyLiveLinkFace, with an acted pose on top."""

import asyncio
import socket

import msgspec
import numpy as np
import pytest
from pylivelinkface import FaceBlendShape, PyLiveLinkFace

from kff_live.protocols import kernels
from kff_live.protocols.channels import INDEX, Pose, neutral
from kff_live.protocols.errors import UserError
from kff_live.protocols.frames import FrameRate
from kff_live.protocols.keyframes import Keyframe
from kff_live.protocols.layers import LiveRegions
from kff_live.protocols.track import Timeline
from kff_live.runtime.capture import CaptureLayer, CaptureSource, Tracked
from kff_live.runtime.clock import ManualClock
from kff_live.runtime.config import Capture
from kff_live.runtime.player import Plan, Player, Settings

SMILE, JAW, BROW, YAW = (INDEX[n] for n in ("MouthSmileLeft", "JawOpen", "BrowInnerUp", "HeadYaw"))
TICK = 1 / 60


def pose(**values: float) -> Pose:
    made = neutral()
    for name, value in values.items():
        made[INDEX[name]] = value
    return made


class Rig:
    """A player with a live face that is set by hand, ticked at 60 Hz."""

    def __init__(self, regions: LiveRegions | None = None) -> None:
        self.clock = ManualClock(100.0)
        self.source = CaptureSource(Capture(enabled=True, fade=0.4, timeout=0.25), self.clock)
        self.settings = Settings(live=(regions or LiveRegions()).mix())
        self.player = Player("Face", FrameRate(), settings=self.settings)
        self.player.use(kernels, live=CaptureLayer(self.source, kernels))

    def ticks(self, seconds: float, *, live: Pose | None, acted: Pose | None = None, acting: bool = True) -> Pose:
        track = Timeline().append(Keyframe(neutral() if acted is None else acted.copy(), way=0.0))
        self.player.plan = Plan(track, 0.0, 1, "u", acting, self.settings)
        poses = []
        for _ in range(round(seconds / TICK)):
            if live is not None:
                self.source.latest = Tracked(live, self.clock.now())
            poses.append(self.player.frame(self.clock.now(), 0, 0.0).pose)
            self.clock.advance(TICK)
        return np.array(poses)


def test_a_live_face_is_followed_within_a_few_frames() -> None:
    rig = Rig()
    rig.ticks(2.0, live=pose(JawOpen=0.2))
    poses = rig.ticks(0.2, live=pose(JawOpen=0.6))
    assert poses[5, JAW] == pytest.approx(0.6, abs=0.01)


def test_without_a_live_face_the_acted_pose_is_untouched() -> None:
    acted = pose(MouthSmileLeft=0.5, HeadYaw=-0.3)
    assert Rig().ticks(0.5, live=None, acted=acted)[-1] == pytest.approx(acted)


@pytest.mark.parametrize(
    ("mode", "weight", "expected"),
    [("add", 1.0, 0.6), ("add", 0.5, 0.4), ("max", 1.0, 0.5), ("override", 1.0, 0.5), ("override", 0.5, 0.35)],
)
def test_the_acted_mouth_is_laid_over_the_live_one(mode: str, weight: float, expected: float) -> None:
    rig = Rig(msgspec.convert({"mouth": {"mode": mode, "weight": weight}}, LiveRegions))
    shown = rig.ticks(4.0, live=pose(MouthSmileLeft=0.2), acted=pose(MouthSmileLeft=0.5))[-1]
    assert shown[SMILE] == pytest.approx(expected, abs=1e-3)


def test_an_override_without_anything_acted_leaves_the_live_face_alone() -> None:
    rig = Rig(msgspec.convert({"mouth": {"mode": "override"}}, LiveRegions))
    assert rig.ticks(4.0, live=pose(MouthSmileLeft=0.4), acting=False)[-1, SMILE] == pytest.approx(0.4, abs=1e-3)


def test_gaze_and_head_stay_the_performers_own_by_default() -> None:
    rig = Rig()
    live, acted = pose(HeadYaw=0.2, EyeLookUpLeft=0.1), pose(HeadYaw=0.2, EyeLookUpLeft=0.9)
    shown = rig.ticks(4.0, live=live, acted=acted)[-1]
    assert shown[INDEX["EyeLookUpLeft"]] == pytest.approx(0.1, abs=1e-3)
    assert shown[YAW] == pytest.approx(0.3, abs=1e-3)  # half of the acted turn on top


def test_position_and_velocity_go_on_when_the_face_is_lost_and_found_again() -> None:
    rig = Rig()
    acted = pose(BrowInnerUp=0.3)
    parts = [
        rig.ticks(1.0, live=None, acted=acted),
        rig.ticks(1.5, live=pose(JawOpen=0.8, HeadYaw=0.5), acted=acted),
        rig.ticks(0.5, live=None, acted=acted),  # lost, and half faded
        rig.ticks(1.0, live=pose(JawOpen=0.1, HeadYaw=-0.5), acted=acted),  # found somewhere else
        rig.ticks(2.5, live=None, acted=acted),
    ]
    poses = np.concatenate(parts)[30:]  # without the cut to the first acted pose
    velocity = np.diff(poses, axis=0) / TICK
    assert np.abs(np.diff(poses, axis=0)).max() < 0.09  # of a full channel within one frame
    assert np.abs(np.diff(velocity, axis=0)).max() < 2.5  # the smooth fade of 0.4 s itself reaches about 1
    assert poses[-1, JAW] == pytest.approx(0.0, abs=1e-3)
    assert poses[-1, BROW] == pytest.approx(0.3, abs=1e-3)


def test_packets_of_another_sender_are_received_and_strangers_are_not() -> None:
    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        source = CaptureSource(Capture(enabled=True, port=port, source="Phone"), ManualClock(5.0))
        await source.start()
        second = CaptureSource(Capture(enabled=True, port=port), ManualClock())
        with pytest.raises(UserError, match=f"capture.port: 127.0.0.1:{port}"):
            await second.start()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            face = PyLiveLinkFace(name="Phone", filter_size=1)
            face.set_blendshape(FaceBlendShape.JawOpen, 0.75)
            stranger = PyLiveLinkFace(name="Other", filter_size=1)
            stranger.set_blendshape(FaceBlendShape.JawOpen, 0.1)
            for data in (b"rubbish", face.encode(), stranger.encode()):
                sender.sendto(data, ("127.0.0.1", port))
        async with asyncio.timeout(10):
            while source.latest is None:  # noqa: ASYNC110 - a field that the listener sets, no event
                await asyncio.sleep(0)
        assert source.latest.at == 5.0
        assert source.latest.pose is not None
        assert source.latest.pose[JAW] == 0.75
        source.close()

    asyncio.run(main())
