"""VTube Studio's messages and parameters, against what its documentation says."""

import json
import math

import numpy as np
import pytest

from kff_live.protocols.channels import CHANNELS, COUNT, HIGH, LIVELINK, LOW, neutral, pose_from_names
from kff_live.protocols.errors import DecodeError, EncodeError
from kff_live.protocols.vtubestudio import (
    DEVELOPER,
    MESSAGES,
    PLUGIN,
    Answer,
    Refusal,
    decode,
    decode_broadcast,
    default_names,
    match,
    plugin,
    request,
)
from kff_live.protocols.vtubestudio_parameters import (
    MAX_PREFIX,
    Encoder,
    creation,
    default_parameters,
    own_parameters,
)

DEFAULTS = {p.name: p for p in default_parameters(0.75)}


def value(name: str, **channels: float) -> float:
    return float(Encoder([DEFAULTS[name]]).values(pose_from_names(channels))[0])


# --- messages


def test_a_request_has_the_documented_envelope() -> None:
    assert json.loads(request("HotkeyTrigger", "a1", {"hotkeyID": "Jump"})) == {
        "apiName": "VTubeStudioPublicAPI",
        "apiVersion": "1.0",
        "requestID": "a1",
        "messageType": "HotkeyTriggerRequest",
        "data": {"hotkeyID": "Jump"},
    }


def test_who_we_are_never_changes_by_a_byte() -> None:
    assert (PLUGIN, DEVELOPER) == ("kff-live", "kff-live")
    assert plugin() == {"pluginName": "kff-live", "pluginDeveloper": "kff-live"}
    assert plugin("t")["authenticationToken"] == "t"


def test_an_answer_is_read_with_fields_that_we_do_not_know() -> None:
    text = (
        '{"apiName":"VTubeStudioPublicAPI","apiVersion":"1.0","timestamp":1625405710728,"requestID":"a1",'
        '"messageType":"APIError","data":{"errorID":453,"message":"no such parameter","new":1}}'
    )
    refusal = decode(text).refusal
    assert refusal is not None
    assert refusal.id == 453
    assert str(refusal) == (
        "VTube Studio does not know one of the parameters, and then takes none of them (error 453: no such parameter)"
    )
    assert Answer("InjectParameterDataResponse", "a1").refusal is None


@pytest.mark.parametrize("text", ["", "[]", "nonsense", '{"data": 5}', b"\xff", "[" * 5000])
def test_what_is_no_answer_is_refused(text: str | bytes) -> None:
    with pytest.raises(DecodeError):
        decode(text)


@pytest.mark.parametrize("data", [{}, {"message": "x"}, {"errorID": "x"}, {"errorID": None}])
def test_an_error_without_its_number_is_still_one(data: dict[str, object]) -> None:
    refusal = Answer("APIError", "a", data).refusal
    assert refusal is not None
    assert refusal.id == -1


@pytest.mark.parametrize(
    "error_id",
    [
        *range(9),
        *range(50, 55),
        *range(100, 103),
        *range(200, 209),
        *range(350, 357),
        *range(450, 456),
        *(600, 601, 650, 651, 652),
    ],
)
def test_every_error_that_our_requests_can_bring_is_told_in_words(error_id: int) -> None:
    assert MESSAGES[error_id]
    assert f"(error {error_id})" in str(Refusal(error_id, ""))


def test_an_error_that_we_do_not_know_is_told_in_vtube_studios_words() -> None:
    assert str(Refusal(9999, "the moon is full")) == "VTube Studio refused (error 9999: the moon is full)"


def test_a_broadcast_also_of_one_whose_api_is_off() -> None:
    text = (
        b'{"apiName":"VTubeStudioPublicAPI","apiVersion":"1.0","timestamp":1630159656406,'
        b'"messageType":"VTubeStudioAPIStateBroadcast","requestID":"VTubeStudioAPIStateBroadcast",'
        b'"data":{"active":false,"port":8001,"instanceID":"93aa","windowTitle":"VTube Studio"}}'
    )
    state = decode_broadcast(text)
    assert state is not None
    assert (state.active, state.port, state.windowTitle) == (False, 8001, "VTube Studio")
    for junk in (b"", b"{}", b"\x06\0\0", text.replace(b"8001", b'"8001"'), text.replace(b"State", b"Other")):
        assert decode_broadcast(junk) is None


def test_the_names_of_its_own_parameters() -> None:
    data = {"customParameters": [{"name": "KffJawOpen"}], "defaultParameters": [{"name": "MouthOpen", "min": 0}]}
    assert default_names(data) == {"MouthOpen"}
    assert default_names({}) == frozenset()
    for bad in ({"defaultParameters": 5}, {"defaultParameters": [5]}, {"defaultParameters": None}):
        with pytest.raises(DecodeError):
            default_names(bad)


@pytest.mark.parametrize(
    ("label", "found"),
    [
        ("bright joy", "smile"),
        ("JOY!", "smile"),
        ("joyful", None),
        ("great surprise", "jump"),
        ("surprise, a great one", "jump"),
        ("surprise", None),
        ("", None),
    ],
)
def test_a_label_matches_by_whole_words(label: str, found: str | None) -> None:
    assert match(label, {"Joy": "smile", "great surprise": "jump", "": "never", "...": "never"}) == found


# --- parameters


def test_a_parameter_a_channel_with_names_that_vtube_studio_takes() -> None:
    for prefix in ("Kff", "K", "x" * MAX_PREFIX):
        parameters = own_parameters(prefix)
        assert [p.name for p in parameters] == [prefix + name for name in LIVELINK]
        assert all(4 <= len(p.name) <= 32 and p.name.isascii() and p.name.isalnum() for p in parameters)
        assert not {p.name for p in parameters} & set(DEFAULTS)
        assert len(parameters) == 61 <= 100
    assert max(len(name) for name in LIVELINK) + MAX_PREFIX == 32


@pytest.mark.parametrize("prefix", ["", "Kff_", "Kff ", "ä", "x" * (MAX_PREFIX + 1), "-"])
def test_a_prefix_that_makes_no_name_is_refused(prefix: str) -> None:
    with pytest.raises(EncodeError, match=r"^prefix: "):
        own_parameters(prefix)


def test_a_creation_says_what_the_channel_is() -> None:
    made = {p.name: creation(p) for p in own_parameters("Kff")}
    assert made["KffJawOpen"] == {
        "parameterName": "KffJawOpen",
        "explanation": "ARKit JawOpen from kff-live, 0 to 1",
        "min": 0.0,
        "max": 1.0,
        "defaultValue": 0.0,
    }
    assert (made["KffHeadYaw"]["min"], made["KffHeadYaw"]["max"]) == (-1.0, 1.0)
    assert made["KffHeadYaw"]["explanation"].endswith("radians")
    assert all(len(m["explanation"]) < 256 for m in made.values())


@pytest.mark.parametrize(
    ("name", "channels", "expected"),
    [
        ("FaceAngleX", {"HeadYaw": 0.2}, math.degrees(0.2)),  # our + is the face's left: the right of the screen
        ("FaceAngleY", {"HeadPitch": 0.2}, math.degrees(0.2)),  # up
        ("FaceAngleZ", {"HeadRoll": 0.2}, math.degrees(0.2)),  # left ear down
        ("FaceAngleX", {"HeadYaw": -1.0}, -30.0),
        ("MouthOpen", {"JawOpen": 0.5}, 0.5),
        ("MouthOpen", {"JawOpen": 0.5, "MouthClose": 0.5}, 0.0),
        ("MouthOpen", {"MouthClose": 0.5}, 0.0),
        ("MouthSmile", {}, 0.5),
        ("MouthSmile", {"MouthSmileLeft": 1.0, "MouthSmileRight": 1.0}, 1.0),
        ("MouthSmile", {"MouthFrownLeft": 1.0, "MouthFrownRight": 1.0}, 0.0),
        ("MouthSmile", {"MouthSmileLeft": 1.0}, 0.75),
        ("MouthX", {"MouthLeft": 1.0}, 1.0),
        ("MouthX", {"MouthRight": 0.5}, -0.5),
        ("Brows", {}, 0.5),
        ("Brows", {"BrowInnerUp": 1.0, "BrowOuterUpLeft": 1.0, "BrowOuterUpRight": 1.0}, 1.0),
        ("Brows", {"BrowDownLeft": 1.0, "BrowDownRight": 1.0}, 0.0),
        ("BrowLeftY", {"BrowDownLeft": 1.0}, 0.0),
        ("BrowRightY", {"BrowDownLeft": 1.0}, 0.5),
        ("EyeOpenLeft", {}, 0.75),
        ("EyeOpenLeft", {"EyeBlinkLeft": 1.0}, 0.0),
        ("EyeOpenLeft", {"EyeBlinkRight": 1.0}, 0.75),
        ("EyeOpenLeft", {"EyeWideLeft": 1.0}, 1.0),
        ("EyeLeftX", {"LeftEyeYaw": 0.61}, 1.0),  # + is the face's right in both
        ("EyeRightX", {"RightEyeYaw": -0.305}, -0.5),
        ("EyeLeftY", {"LeftEyePitch": 0.61}, -1.0),  # our + is down
        ("CheekPuff", {"CheekPuff": 0.3}, 0.3),
        ("TongueOut", {"TongueOut": 1.0}, 1.0),
    ],
)
def test_what_a_pose_is_in_its_own_parameters(name: str, channels: dict[str, float], expected: float) -> None:
    assert value(name, **channels) == pytest.approx(expected, abs=1e-6)


def test_what_is_injected_is_the_documented_json() -> None:
    encoder = Encoder([DEFAULTS["FaceAngleX"], own_parameters("Kff", ["JawOpen"])[0]], weight=0.8)
    assert json.loads(encoder.encode(pose_from_names({"JawOpen": 0.5, "HeadYaw": 0.1}), "f1")) == {
        "apiName": "VTubeStudioPublicAPI",
        "apiVersion": "1.0",
        "requestID": "f1",
        "messageType": "InjectParameterDataRequest",
        "data": {
            "faceFound": True,
            "mode": "set",
            "parameterValues": [
                {"id": "FaceAngleX", "weight": 0.8, "value": 5.7296},
                {"id": "KffJawOpen", "weight": 0.8, "value": 0.5},
            ],
        },
    }


def test_all_parameters_together_stay_below_a_hundred_and_within_their_ranges() -> None:
    encoder = Encoder([*own_parameters("Kff"), *DEFAULTS.values()])
    random = np.random.default_rng(1)
    for _ in range(200):
        pose = random.uniform(1.2 * LOW, 1.2 * HIGH).astype(np.float32)
        values = encoder.values(pose)
        assert len(values) == COUNT + len(DEFAULTS) <= 100
        json.loads(encoder.encode(pose, "f"))
        for parameter, found in zip([*own_parameters("Kff"), *DEFAULTS.values()], values, strict=True):
            assert parameter.low <= found <= parameter.high


def test_adding_is_the_distance_from_rest() -> None:
    parameters = [*own_parameters("Kff"), *DEFAULTS.values()]
    encoder = Encoder(parameters, mode="add")
    assert not encoder.values(neutral()).any()
    pose = pose_from_names({"EyeBlinkLeft": 1.0, "JawOpen": 0.5})
    moved = {p.name: v for p, v in zip(parameters, encoder.values(pose).tolist(), strict=True) if v}
    assert moved == {
        "KffEyeBlinkLeft": 1.0,
        "KffJawOpen": 0.5,
        "EyeOpenLeft": -0.75,
        "MouthOpen": 0.5,
        "VoiceVolumePlusMouthOpen": 0.5,
    }
    message = json.loads(encoder.encode(pose, "f"))["data"]
    assert message["mode"] == "add"
    assert "faceFound" not in message


def test_an_injection_without_values_cannot_be_made() -> None:
    with pytest.raises(EncodeError):
        Encoder([])


def test_every_channel_that_a_default_parameter_uses_is_one() -> None:
    names = {channel.name for channel in CHANNELS}
    assert all(set(parameter.gains) <= names for parameter in DEFAULTS.values())
