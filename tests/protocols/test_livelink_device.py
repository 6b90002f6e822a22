"""The newer Live Link Face protocol, against bytes that were worked out from Unreal's reading of them."""

import json
import struct

import numpy as np
import pytest

from kff_live.protocols.channels import COUNT, INDEX, LIVELINK, SHAPES, neutral
from kff_live.protocols.errors import DecodeError, EncodeError
from kff_live.protocols.frames import Frame, FrameRate
from kff_live.protocols.livelink_device import (
    CONTROLS,
    HEAD_SIZE,
    MAX_CONTROL,
    Encoder,
    Request,
    decode_head,
    decode_request,
    discovery_response,
    is_discovery_request,
    response,
    stream_port,
    subjects_body,
)

PACKET = bytes.fromhex("0100 0200 7331 100e0000 0000803e 3c000000 01000000".replace(" ", ""))
"""Version 1, id "s1", frame 3600.25 at 60/1; then come count and values."""

ASKS = bytes.fromhex("435053444953434f564552 00 0200 00".replace(" ", ""))
ANSWERS = bytes.fromhex(
    "435053444953434f564552 00 0200 01 0102030405060708090a0b0c0d0e0f10 06 417661746172 c139".replace(" ", "")
)


def test_a_data_packet_is_little_endian_and_holds_what_was_announced() -> None:
    pose = neutral()
    pose[:3] = (1.0, 0.5, 0.0)
    pose[INDEX["HeadYaw"]], pose[INDEX["HeadPitch"]], pose[INDEX["HeadRoll"]] = 0.5, 0.25, -0.125
    made = Encoder("s1", FrameRate(), packet_version=1, head_scale=1.0)
    data = made.encode(Frame("Face", 3600, 0.25, FrameRate(), pose))
    assert data.startswith(PACKET)
    (count,) = struct.unpack_from("<H", data, len(PACKET))
    assert count == len(CONTROLS) == SHAPES == 52
    values = data[len(PACKET) + 2 :]
    assert values[:6] == bytes.fromhex("ffff00800000")
    assert struct.unpack("<6f", values[2 * count :]) == (-0.125, 0.25, 0.5, 0.0, 0.0, 0.0)  # roll, pitch, yaw; x, y, z
    assert len(data) == len(PACKET) + 2 + 2 * count + 24


def test_values_travel_as_nothing_but_0_to_1() -> None:
    pose = np.linspace(-1.0, 2.0, COUNT, dtype=np.float32)
    made = Encoder("s1", FrameRate(30000, 1001), packet_version=1, head_scale=57.29578)
    data = made.encode(Frame("Face", 1, 0.99999999, FrameRate(30000, 1001), pose))
    values = struct.unpack_from("<52H", data, len(PACKET) + 2)
    assert values == tuple(np.rint(np.clip(pose[:52].astype(np.float32), 0.0, 1.0) * 65535).astype(int))
    assert (min(values), max(values)) == (0, 65535)
    number, subframe, numerator, denominator = struct.unpack_from("<ifii", data, 6)
    assert (number, numerator, denominator) == (1, 30000, 1001)
    assert 0.0 <= subframe < 1.0
    roll, pitch, yaw = struct.unpack_from("<3f", data, len(PACKET) + 2 + 104)
    expected = np.degrees([pose[INDEX[name]] for name in ("HeadRoll", "HeadPitch", "HeadYaw")])
    assert (roll, pitch, yaw) == pytest.approx(expected, rel=1e-5)


def test_the_controls_are_the_blendshapes_as_unreal_calls_them() -> None:
    assert LIVELINK[:52] == CONTROLS
    body = subjects_body("s1", "Face", metadata_version=3)
    (subject,) = json.loads(json.dumps(body))["subjects"]
    assert subject["animationMetadata"] == {"type": "arkit", "version": 3, "controls": list(CONTROLS)}
    assert (subject["id"], subject["name"]) == ("s1", "Face")


def test_a_subject_id_that_does_not_fit_is_refused() -> None:
    for bad in ("", "x" * 65536):
        with pytest.raises(EncodeError):
            Encoder(bad, FrameRate(), packet_version=1, head_scale=1.0)


def control(message: object, *, version: int = 7) -> bytes:
    data = json.dumps(message).encode()
    return b"CPSCONTROL\0" + struct.pack("<HI", version, len(data)) + data


def test_a_control_frame_is_answered_with_its_path_and_transaction() -> None:
    asked = control(
        {
            "sessionId": "handshake",
            "addressPath": "/session/start",
            "transactionId": 4,
            "timestamp": 1,
            "type": "request",
        }
    )
    assert decode_head(asked[:HEAD_SIZE]) == (7, len(asked) - HEAD_SIZE)
    request = decode_request(asked[HEAD_SIZE:])
    answer = response(request, version=1, session="", milliseconds=1700000000000, body={"sessionId": "abc"})
    assert answer.startswith(bytes.fromhex("4350 5343 4f4e 5452 4f4c 0001 00".replace(" ", "")))
    assert decode_head(answer[:HEAD_SIZE]) == (1, len(answer) - HEAD_SIZE)
    assert answer[HEAD_SIZE:].startswith(b'{"sessionId":"handshake","addressPath":"/session/start"')
    assert json.loads(answer[HEAD_SIZE:]) == {
        "sessionId": "handshake",
        "addressPath": "/session/start",
        "transactionId": 4,
        "timestamp": 1700000000000,
        "type": "response",
        "body": {"sessionId": "abc"},
    }


def test_an_answer_without_content_has_no_body_and_a_refusal_has_its_reason() -> None:
    request = Request("/session/keep-alive", 9, "request")
    empty = json.loads(response(request, version=1, session="abc", milliseconds=1)[HEAD_SIZE:])
    assert "body" not in empty
    assert "error" not in empty
    assert empty["sessionId"] == "abc"
    refused = json.loads(response(request, version=1, session="abc", milliseconds=1, error="why")[HEAD_SIZE:])
    assert refused["error"]["description"] == "why"


@pytest.mark.parametrize(
    "head",
    [b"", b"CPSCONTROL\0", b"CPSDISCOVER\0" + bytes(5), b"CPSCONTROL\0" + struct.pack("<HI", 1, MAX_CONTROL + 1)],
)
def test_what_is_no_control_frame_is_refused(head: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_head(head)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"addressPath":"/x","transactionId":1,"type":"response"}',
        b'{"addressPath":5,"transactionId":1,"type":"request"}',
        b"[" * 9999,
        b"\xff",
    ],
)
def test_what_is_no_request_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_request(data)


@pytest.mark.parametrize("port", [None, 0, 65536, "5", 1.5])
def test_a_stream_to_no_port_is_refused(port: object) -> None:
    with pytest.raises(DecodeError, match="streamPort"):
        stream_port(Request("/stream/start", 1, "request", body={"streamPort": port}))


def test_discovery_has_its_version_since_unreal_5_6() -> None:
    assert is_discovery_request(ASKS, version=2)
    assert not is_discovery_request(ASKS, version=1)
    assert not is_discovery_request(ANSWERS, version=2)
    assert not is_discovery_request(b"CPSDISCOVER\0\0", version=2)
    assert discovery_response(bytes(range(1, 17)), "Avatar", 14785, version=2) == ANSWERS


def test_a_name_that_does_not_fit_a_discovery_answer_is_refused() -> None:
    with pytest.raises(EncodeError):
        discovery_response(bytes(16), "x" * 256, 1, version=2)
    with pytest.raises(EncodeError):
        discovery_response(bytes(15), "x", 1, version=2)
