"""A live face over VMC and iFacialMocap, from packets that somebody else's code builds."""

import math

import numpy as np
import pytest
from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
from pythonosc.osc_message_builder import OscMessageBuilder

from kff_live.protocols.channels import HIGH, INDEX, LOW, Pose, pose_from_names
from kff_live.protocols.errors import ConfigError
from kff_live.runtime.capture import CaptureSource
from kff_live.runtime.clock import ManualClock
from kff_live.runtime.config import Capture, decode

APP = (
    b"trackingStatus-1|eyeBlink_L-7|jawOpen-140|mouthLeft-25|eyeLookDown_L--3|hapihapi-0|"
    b"=head#-20.0,10.0,5.0,-0.03,-0.10,-0.65|rightEye#6.0,2.0,0.2|leftEye#6.0,-1.6,-0.1|"
)
"""In the shape of the app's own packets, with a value above and one below its range."""


def source(kind: str) -> CaptureSource:
    return CaptureSource(Capture(enabled=True, format=kind), ManualClock(5.0))  # type: ignore[arg-type]


def latest(captured: CaptureSource) -> Pose:
    assert captured.latest is not None
    assert captured.latest.at == 5.0
    pose = captured.latest.pose
    assert pose is not None
    assert (pose >= LOW).all()
    assert (pose <= HIGH).all()
    return pose


def vmc(*messages: tuple[str, list[str | float]]) -> bytes:
    bundle = OscBundleBuilder(IMMEDIATELY)
    for address, arguments in messages:
        builder = OscMessageBuilder(address)
        for argument in arguments:
            builder.add_arg(argument)
        bundle.add_content(builder.build())
    return bundle.build().dgram


def test_a_face_over_vmc_is_taken_over_at_apply() -> None:
    captured = source("vmc")
    half = math.radians(10)
    captured.take(
        vmc(
            ("/VMC/Ext/Bone/Pos", ["Head", 0.0, 0.1, 0.0, 0.0, math.sin(half), 0.0, math.cos(half)]),
            ("/VMC/Ext/Blend/Val", ["JawOpen", 1.4]),
            ("/VMC/Ext/Blend/Val", ["mouthLeft", 0.25]),
        ),
        "127.0.0.1",
    )
    assert captured.latest is None
    captured.take(vmc(("/VMC/Ext/Blend/Apply", [])), "127.0.0.1")
    expected = pose_from_names({"JawOpen": 1.0, "MouthLeft": 0.25, "HeadYaw": -2 * half})
    assert latest(captured) == pytest.approx(expected, abs=1e-6)


def test_a_face_over_ifacialmocap_is_taken_over() -> None:
    captured = source("ifacialmocap")
    captured.take(APP, "127.0.0.1")
    pose = latest(captured)
    named = {name: float(pose[INDEX[name]]) for name in ("EyeBlinkLeft", "JawOpen", "MouthLeft", "EyeLookDownLeft")}
    assert named == pytest.approx({"EyeBlinkLeft": 0.07, "JawOpen": 1.0, "MouthLeft": 0.25, "EyeLookDownLeft": 0.0})
    angles = [math.degrees(pose[INDEX[name]]) for name in ("HeadYaw", "HeadPitch", "HeadRoll", "LeftEyeYaw")]
    assert angles == pytest.approx([10.0, 20.0, -5.0, 1.6], abs=1e-4)


def test_a_face_that_is_not_tracked_is_lost() -> None:
    captured = source("ifacialmocap")
    captured.take(APP.replace(b"trackingStatus-1", b"trackingStatus-0"), "127.0.0.1")
    assert captured.latest is not None
    assert captured.latest.pose is None


@pytest.mark.parametrize(
    ("kind", "packet", "said"),
    [
        ("vmc", APP, "is not VMC: address: "),
        ("vmc", b"#bundle\0\0\0\0\0\0\0\0\x01\0\0\0\x7f", "is not VMC: bundle: "),
        ("ifacialmocap", vmc(("/VMC/Ext/Blend/Apply", [])), "is not iFacialMocap: packet: "),
        ("livelink", APP, "is not Live Link: version: "),
    ],
)
def test_packets_of_another_format_are_told_in_the_log_and_change_nothing(
    kind: str, packet: bytes, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    captured = source(kind)
    captured.take(packet, "127.0.0.1")
    assert captured.latest is None
    assert said in caplog.text


def test_a_value_that_is_not_finite_reaches_no_face() -> None:
    captured = source("vmc")
    captured.take(vmc(("/VMC/Ext/Blend/Val", ["JawOpen", math.nan]), ("/VMC/Ext/Blend/Apply", [])), "127.0.0.1")
    captured.take(vmc(("/VMC/Ext/Blend/Apply", [])), "127.0.0.1")
    assert np.isfinite(latest(captured)).all()


@pytest.mark.parametrize("kind", ["vmc", "ifacialmocap"])
def test_only_live_link_packets_name_their_subject(kind: str) -> None:
    with pytest.raises(ConfigError, match=r"capture\.source: only Live Link packets name their subject$"):
        decode(f"[capture]\nformat = '{kind}'\nsource = 'Phone'")
