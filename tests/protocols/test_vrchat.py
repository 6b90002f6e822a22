"""VRChat's parameters, against VRCFaceTracking's formulas written once more from its source, and read by python-osc."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from pythonosc.osc_packet import OscPacket

from kff_live.protocols.channels import INDEX, LOW, Pose, neutral, pose_from_names
from kff_live.protocols.errors import EncodeError
from kff_live.protocols.frames import Frame, FrameRate
from kff_live.protocols.vrchat import PARAMETERS, Encoder, avatar_changed, parameters

BASE = "/avatar/parameters/"
FLAGS = ("EyeTrackingActive", "ExpressionTrackingActive", "LipTrackingActive")


def frame(pose: Pose, number: int = 0, fps: int = 60) -> Frame:
    return Frame("Face", number, 0.0, FrameRate(fps), pose)


def some_pose(seed: int = 13) -> Pose:
    return np.random.default_rng(seed).uniform(LOW, 1.0).astype(np.float32)


def read(packets: Iterable[bytes]) -> dict[str, Any]:
    """Address and argument of every message, as another library reads them."""
    found: dict[str, Any] = {}
    for data in packets:
        for timed in OscPacket(data).messages:
            assert timed.message.address not in found
            params = timed.message.params
            found[timed.message.address] = params[0] if len(params) == 1 else params
    return found


def vrcft(pose: Pose) -> dict[str, float]:
    """VRCFaceTracking: ARKit to Unified Expressions by its documentation's table, then its parameters."""
    a = {name: float(pose[i]) for name, i in INDEX.items()}
    u: dict[str, float] = {}
    for s in ("Left", "Right"):
        u |= {
            f"EyeSquint{s}": a[f"EyeSquint{s}"],
            f"EyeWide{s}": a[f"EyeWide{s}"],
            f"BrowPinch{s}": a[f"BrowDown{s}"],
            f"BrowLowerer{s}": a[f"BrowDown{s}"],
            f"BrowInnerUp{s}": a["BrowInnerUp"],
            f"BrowOuterUp{s}": a[f"BrowOuterUp{s}"],
            f"CheekSquint{s}": a[f"CheekSquint{s}"],
            f"CheekPuff{s}": a["CheekPuff"],
            f"NoseSneer{s}": a[f"NoseSneer{s}"],
            f"LipSuckUpper{s}": a["MouthRollUpper"],
            f"LipSuckLower{s}": a["MouthRollLower"],
            f"LipFunnelUpper{s}": a["MouthFunnel"],
            f"LipFunnelLower{s}": a["MouthFunnel"],
            f"LipPuckerUpper{s}": a["MouthPucker"],
            f"LipPuckerLower{s}": a["MouthPucker"],
            f"MouthUpperUp{s}": a[f"MouthUpperUp{s}"],
            f"MouthUpperDeepen{s}": a[f"MouthUpperUp{s}"],
            f"MouthLowerDown{s}": a[f"MouthLowerDown{s}"],
            f"MouthUpper{s}": a[f"Mouth{s}"],
            f"MouthLower{s}": a[f"Mouth{s}"],
            f"MouthCornerPull{s}": a[f"MouthSmile{s}"],
            f"MouthCornerSlant{s}": a[f"MouthSmile{s}"],
            f"MouthFrown{s}": a[f"MouthFrown{s}"],
            f"MouthStretch{s}": a[f"MouthStretch{s}"],
            f"MouthDimple{s}": a[f"MouthDimple{s}"],
            f"MouthPress{s}": a[f"MouthPress{s}"],
            f"Jaw{s}": a[f"Jaw{s}"],
        }
    u |= {
        "JawOpen": a["JawOpen"],
        "JawForward": a["JawForward"],
        "MouthClosed": a["MouthClose"],
        "MouthRaiserUpper": a["MouthShrugUpper"],
        "MouthRaiserLower": a["MouthShrugLower"],
        "TongueOut": a["TongueOut"],
    }
    p = dict(u)

    def mean(name: str) -> float:
        return (u[f"{name}Left"] + u[f"{name}Right"]) / 2

    gaze = {s: (math.tan(a[f"{s}EyeYaw"]), -math.tan(a[f"{s}EyePitch"])) for s in ("Left", "Right")}
    opened, down, smile, sad, raised = {}, {}, {}, {}, {}
    for s in ("Left", "Right"):
        opened[s] = 1 - max(0.0, min(1.0, a[f"EyeBlink{s}"] + a[f"EyeBlink{s}"] * a[f"EyeSquint{s}"]))
        down[s] = u[f"BrowLowerer{s}"] * 0.75 + u[f"BrowPinch{s}"] * 0.25
        smile[s] = u[f"MouthCornerPull{s}"] * 0.8 + u[f"MouthCornerSlant{s}"] * 0.2
        sad[s] = max(u[f"MouthFrown{s}"], u[f"MouthStretch{s}"])
        raised[s] = min(1.0, u[f"BrowInnerUp{s}"] * 0.5 + u[f"BrowOuterUp{s}"] * 0.5)
        p |= {
            f"Eye{s}X": gaze[s][0],
            f"Eye{s}Y": gaze[s][1],
            f"EyeOpen{s}": opened[s],
            f"EyeClosed{s}": 1 - opened[s],
            f"EyeLid{s}": opened[s] * 0.75 + u[f"EyeWide{s}"] * 0.25,
            f"BrowUp{s}": u[f"BrowOuterUp{s}"] * 0.6 + u[f"BrowInnerUp{s}"] * 0.4,
            f"BrowDown{s}": down[s],
            f"BrowExpression{s}": raised[s] - down[s],
            f"MouthSmile{s}": smile[s],
            f"MouthSad{s}": sad[s],
            f"SmileFrown{s}": smile[s] - u[f"MouthFrown{s}"],
            f"SmileSad{s}": smile[s] - sad[s],
            f"MouthCornerY{s}": u[f"MouthCornerSlant{s}"] - u[f"MouthFrown{s}"],
            f"CheekPuffSuck{s}": u[f"CheekPuff{s}"],
            f"LipPucker{s}": (u[f"LipPuckerUpper{s}"] + u[f"LipPuckerLower{s}"]) / 2,
            f"LipSuckFunnelUpper{s}": u[f"LipSuckUpper{s}"] - u[f"LipFunnelUpper{s}"],
            f"LipSuckFunnelLower{s}": u[f"LipSuckLower{s}"] - u[f"LipFunnelLower{s}"],
            f"MouthTightenerStretch{s}": -u[f"MouthStretch{s}"],
        }
    for name in ("BrowUp", "BrowExpression", "SmileFrown", "SmileSad", "MouthCornerY", "CheekPuffSuck", "EyeOpen",
                 "EyeClosed", "EyeLid", "BrowDown"):  # fmt: skip
        p[name] = (p[f"{name}Left"] + p[f"{name}Right"]) / 2
    for name in ("BrowInnerUp", "BrowOuterUp", "CheekSquint", "LipSuckUpper", "LipSuckLower", "LipFunnelUpper",
                 "LipFunnelLower", "LipPuckerUpper", "LipPuckerLower", "MouthUpperUp", "MouthLowerDown", "MouthStretch",
                 "MouthPress", "MouthDimple", "NoseSneer"):  # fmt: skip
        p[name] = mean(name)
    p |= {
        "EyeX": (gaze["Left"][0] + gaze["Right"][0]) / 2,
        "EyeY": (gaze["Left"][1] + gaze["Right"][1]) / 2,
        "EyeWide": max(u["EyeWideLeft"], u["EyeWideRight"]),
        "EyeSquint": max(u["EyeSquintLeft"], u["EyeSquintRight"]),
        "EyesSquint": max(u["EyeSquintLeft"], u["EyeSquintRight"]),
        "JawX": u["JawRight"] - u["JawLeft"],
        "JawZ": u["JawForward"],
        "MouthUpperX": u["MouthUpperRight"] - u["MouthUpperLeft"],
        "MouthLowerX": u["MouthLowerRight"] - u["MouthLowerLeft"],
        "MouthX": (u["MouthUpperRight"] + u["MouthLowerRight"]) / 2 - (u["MouthUpperLeft"] + u["MouthLowerLeft"]) / 2,
        "LipSuck": (mean("LipSuckUpper") + mean("LipSuckLower")) / 2,
        "LipFunnel": (mean("LipFunnelUpper") + mean("LipFunnelLower")) / 2,
        "LipPucker": (mean("LipPuckerUpper") + mean("LipPuckerLower")) / 2,
        "LipSuckFunnelUpper": mean("LipSuckUpper") - mean("LipFunnelUpper"),
        "LipSuckFunnelLower": mean("LipSuckLower") - mean("LipFunnelLower"),
        "MouthOpen": (mean("MouthUpperUp") + mean("MouthLowerDown")) / 2,
        "MouthTightenerStretch": -mean("MouthStretch"),
        # -1 to 1 for a quarter turn to each side; + right, down, left ear down.
        "Head/Yaw": -a["HeadYaw"] / (math.pi / 2),
        "Head/Pitch": -a["HeadPitch"] / (math.pi / 2),
        "Head/Roll": a["HeadRoll"] / (math.pi / 2),
    }
    return {name: max(-1.0, min(1.0, value)) for name, value in p.items()}


@pytest.mark.parametrize("seed", range(10))
def test_parameters_are_vrcfacetrackings(seed: int) -> None:
    pose = some_pose(seed)
    pose[INDEX["LeftEyeYaw"] :] *= 0.61
    found = dict(zip(PARAMETERS, parameters(pose).tolist(), strict=True))
    expected = vrcft(pose)
    assert set(found) == set(expected)
    assert found == pytest.approx(expected, abs=1e-6)


def test_a_face_at_rest_has_open_eyes_and_nothing_else() -> None:
    found = dict(zip(PARAMETERS, parameters(neutral()).tolist(), strict=True))
    assert {name: value for name, value in found.items() if value} == {
        "EyeOpenLeft": 1.0, "EyeOpenRight": 1.0, "EyeOpen": 1.0, "EyeLidLeft": 0.75, "EyeLidRight": 0.75,
        "EyeLid": 0.75,
    }  # fmt: skip


def test_one_arkit_shape_moves_all_the_unified_shapes_that_it_stands_for() -> None:
    def moved(name: str, *, combined: bool = False) -> set[str]:
        before, after = parameters(neutral()), parameters(pose_from_names({name: 0.5}))
        names = {n for n, b, a in zip(PARAMETERS, before.tolist(), after.tolist(), strict=True) if a != b}
        return names if combined else {n for n in names if n.endswith(("Left", "Right"))}

    both = ("Left", "Right")
    assert {f"LipPucker{lip}{s}" for lip in ("Upper", "Lower") for s in both} <= moved("MouthPucker")
    assert {f"LipFunnel{lip}{s}" for lip in ("Upper", "Lower") for s in both} <= moved("MouthFunnel")
    assert {f"LipSuckUpper{s}" for s in both} <= moved("MouthRollUpper")
    assert {f"BrowInnerUp{s}" for s in both} <= moved("BrowInnerUp")
    assert {f"CheekPuff{s}" for s in both} <= moved("CheekPuff")
    assert {"MouthCornerPullLeft", "MouthCornerSlantLeft", "SmileFrownLeft", "SmileSadLeft"} <= moved("MouthSmileLeft")
    assert not any(name.endswith("Right") for name in moved("MouthSmileLeft"))
    assert {"MouthUpperLeft", "MouthLowerLeft"} == moved("MouthLeft")
    assert {"MouthX", "MouthUpperX", "MouthLowerX"} <= moved("MouthLeft", combined=True)


def test_golden_bytes_of_a_parameter() -> None:
    (data, *_) = Encoder().encode(frame(pose_from_names({"JawOpen": 0.5})))
    element = bytes.fromhex("2f6176617461722f706172616d65746572732f76322f4a61774f70656e0000002c6600003f000000")
    assert b"\x00\x00\x00\x28" + element in data


def test_the_first_frame_is_everything_and_read_by_another_library() -> None:
    pose = some_pose()
    found = read(Encoder().encode(frame(pose)))
    for name, value in zip(PARAMETERS, parameters(pose).tolist(), strict=True):
        assert found.pop(f"{BASE}v2/{name}") == pytest.approx(value)
    assert {found.pop(BASE + flag) for flag in FLAGS} == {True}
    assert found.pop("/tracking/eye/EyesClosedAmount") == pytest.approx(vrcft(pose)["EyeClosed"])
    angles = ("LeftEyePitch", "LeftEyeYaw", "RightEyePitch", "RightEyeYaw")  # degrees: + down, + right
    expected = [math.degrees(pose[INDEX[name]]) for name in angles]
    assert found.pop("/tracking/eye/LeftRightPitchYaw") == pytest.approx(expected)
    assert found == {}


def test_every_value_is_a_float_even_a_whole_one() -> None:
    found = read(Encoder().encode(frame(pose_from_names({"JawOpen": 1.0}))))
    assert {type(found[f"{BASE}v2/{name}"]) for name in PARAMETERS} == {float}


def test_only_what_changes_is_sent() -> None:
    encoder, pose = Encoder(), some_pose()
    pose[INDEX["JawOpen"]] = 0.5
    encoder.encode(frame(pose))
    assert encoder.encode(frame(pose, 1)) == []
    pose[INDEX["JawOpen"]] = 0.6
    assert read(encoder.encode(frame(pose, 2))) == {f"{BASE}v2/JawOpen": pytest.approx(0.6)}
    pose[INDEX["JawOpen"]] = 0.60001
    assert encoder.encode(frame(pose, 3)) == []


def test_changes_too_small_to_send_add_up() -> None:
    encoder = Encoder()
    last = 0.0
    for number in range(50):
        found = read(encoder.encode(frame(pose_from_names({"JawOpen": 0.5 + number * 1e-4}), number)))
        last = found.get(f"{BASE}v2/JawOpen", last)
    assert last == pytest.approx(0.5049, abs=6e-4)


def test_a_gaze_that_moves_sends_its_four_angles() -> None:
    encoder = Encoder()
    encoder.encode(frame(neutral()))
    found = read(encoder.encode(frame(pose_from_names({"LeftEyeYaw": 0.2}), 1)))
    assert set(found) == {f"{BASE}v2/EyeLeftX", f"{BASE}v2/EyeX", "/tracking/eye/LeftRightPitchYaw"}
    assert found["/tracking/eye/LeftRightPitchYaw"] == pytest.approx([0.0, math.degrees(0.2), 0.0, 0.0])


def test_native_eye_tracking_can_be_left_to_somebody_else() -> None:
    found = read(Encoder(native_eyes=False).encode(frame(some_pose())))
    assert not any(address.startswith("/tracking") for address in found)
    assert f"{BASE}v2/EyeLeftX" in found


@pytest.mark.parametrize("fps", [24, 60])
def test_everything_is_sent_again_every_second(fps: int) -> None:
    encoder = Encoder()
    whole = [number for number in range(3 * fps + 1) if encoder.encode(frame(neutral(), 1000 + number, fps))]
    assert whole == [0, fps, 2 * fps, 3 * fps]


def test_everything_is_sent_again_for_another_avatar() -> None:
    encoder = Encoder()
    first = encoder.encode(frame(some_pose()))
    assert encoder.encode(frame(some_pose(), 1)) == []
    encoder.resend()
    assert encoder.encode(frame(some_pose(), 2)) == first


@pytest.mark.parametrize(
    ("data", "changed"),
    [
        (b"/avatar/change\0\0,s\0\0avtr_c38a1615-5bf5-42b4-84eb-a8b6c37cbd11\0\0\0\0", True),
        (b"#bundle\0\0\0\0\0\0\0\0\x01\0\0\0\x18/avatar/change\0\0,s\0\0a\0\0\0", True),
        (b"/avatar/parameters/VelocityZ\0\0\0\0,f\0\0\0\0\0\0", False),
        (b"/avatar/changes\0,\0\0\0", False),
        (b"", False),
    ],
)
def test_the_change_of_an_avatar_is_noticed(data: bytes, changed: bool) -> None:
    assert avatar_changed(data) == changed


def test_bundles_stay_below_an_ethernet_packet() -> None:
    packets = Encoder(prefix="A/long/prefix", binary={"JawOpen": 8}).encode(frame(some_pose()))
    assert len(packets) > 3
    assert max(map(len, packets)) <= 1472


def test_a_prefix_comes_before_the_parameters_and_flags_have_both_names() -> None:
    found = read(Encoder(prefix="FT").encode(frame(neutral())))
    assert f"{BASE}FT/v2/JawOpen" in found
    assert f"{BASE}v2/JawOpen" not in found
    for flag in FLAGS:
        assert found[BASE + flag] is found[f"{BASE}FT/{flag}"] is True


def test_the_farewell_puts_out_the_flags() -> None:
    found = read(Encoder(prefix="FT").farewell())
    assert found == {BASE + name: False for flag in FLAGS for name in (flag, f"FT/{flag}")}


# --- parameters as bits


def bits(value: float, name: str = "JawX", count: int = 3) -> dict[str, bool]:
    pose = pose_from_names({"JawRight" if value > 0 else "JawLeft": abs(value)})
    found = read(Encoder(binary={name: count}).encode(frame(pose)))
    start = f"{BASE}v2/{name}"
    assert found[start] == pytest.approx(value)
    return {key.removeprefix(start): v for key, v in found.items() if key.startswith(start) and key != start}


@pytest.mark.parametrize(
    ("value", "level"),
    [(0.0, 0), (0.1, 0), (0.13, 1), (0.5, 4), (0.99, 7), (1.0, 7), (-0.5, 4), (-1.0, 7)],
)
def test_a_parameter_as_bits_is_what_vrcfacetracking_sends(value: float, level: int) -> None:
    assert bits(value) == {
        "1": bool(level & 1), "2": bool(level & 2), "4": bool(level & 4), "Negative": value < 0
    }  # fmt: skip


def test_bits_are_sent_again_with_their_parameter_alone() -> None:
    encoder = Encoder(binary={"JawOpen": 2})
    encoder.encode(frame(neutral()))
    assert encoder.encode(frame(neutral(), 1)) == []
    found = read(encoder.encode(frame(pose_from_names({"JawOpen": 0.5}), 2)))
    assert set(found) == {f"{BASE}v2/JawOpen{end}" for end in ("", "1", "2", "Negative")}
    assert (found[f"{BASE}v2/JawOpen1"], found[f"{BASE}v2/JawOpen2"]) == (False, True)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"prefix": "F T"}, "prefix: "),
        ({"prefix": "/FT"}, "prefix: "),
        ({"prefix": "FT/"}, "prefix: "),
        ({"prefix": "FT#"}, "prefix: "),
        ({"prefix": "Fä"}, "prefix: "),
        ({"binary": {"jawOpen": 2}}, "binary: jawOpen = 2"),
        ({"binary": {"JawOpen": 0}}, "binary: JawOpen = 0"),
        ({"binary": {"JawOpen": 9}}, "binary: JawOpen = 9"),
    ],
)
def test_what_no_avatar_can_have_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(EncodeError, match=f"^{said}"):
        Encoder(**settings)
