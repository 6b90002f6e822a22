import numpy as np
import pytest

from kff_live.converters.acting import act
from kff_live.protocols import kernels
from kff_live.protocols.channels import INDEX, pose_from_names
from kff_live.protocols.frames import FrameRate
from kff_live.protocols.keyframe_text import parse_file
from kff_live.protocols.keyframes import Keyframe, as_acted
from kff_live.protocols.track import Timeline
from kff_live.runtime.player import Plan, Player

TEXT = (
    "# kff 1\n4+3 jaw5 mouthclose8 lookdown5\n3 backout wide7 blink6 browinner7\n0+2 step smile10\n"
    "6+12 back smile4 cheek8 yaw1\n5\n"
)


@pytest.mark.parametrize("rate", [FrameRate(60), FrameRate(30000, 1001), FrameRate(7)], ids=str)
def test_the_frames_are_those_of_a_player_that_has_all_keyframes(rate: FrameRate) -> None:
    keyframes = parse_file(TEXT)
    timeline = Timeline()
    for keyframe in keyframes:
        timeline.append(as_acted(keyframe))
    player = Player("Face", rate)
    player.use(kernels)
    player.plan = Plan(timeline.track, cut=0)
    frames = list(act(keyframes, rate, subject="Anna", start=1000.25))
    expected = [player.frame(i * rate.period, i, 0.0) for i in range(len(frames))]
    assert np.array_equal([f.pose for f in frames], [f.pose for f in expected])
    assert [f.key for f in frames] == [f.key for f in expected]
    assert (frames[-1].number - 1000) * rate.period <= timeline.end + 1e-9 < (frames[-1].number - 999) * rate.period
    assert {(f.subject, f.subframe, f.rate) for f in frames} == {("Anna", 0.25, rate)}
    assert [f.number for f in frames] == list(range(1000, 1000 + len(frames)))


def test_a_take_begins_at_neutral_and_ends_with_the_last_hold() -> None:
    keyframe = Keyframe(pose_from_names({"JawOpen": 1.0}), way=0.1, hold=0.1, easing="linear")
    jaw = [float(f.pose[INDEX["JawOpen"]]) for f in act([keyframe], FrameRate(20), subject="Face")]
    assert jaw == pytest.approx([0.0, 0.5, 1.0, 1.0, 1.0])


def test_an_end_that_text_has_rounded_down_keeps_its_frame() -> None:
    keyframe = Keyframe(pose_from_names({"JawOpen": 1.0}), way=0.0333)  # two frames of 60
    assert len(list(act([keyframe], FrameRate(60), subject="Face"))) == 3


def test_no_keyframe_no_frame() -> None:
    assert list(act([], FrameRate(60), subject="Face")) == []
