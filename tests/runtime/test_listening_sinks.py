"""Sinks whose receivers speak to them, over real sockets of the loopback addresses."""

import itertools
import logging
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from pythonosc.osc_message_builder import OscMessageBuilder
from pythonosc.osc_packet import OscPacket

from kff_live.protocols import vrchat
from kff_live.protocols.channels import INDEX, Pose, neutral, pose_from_names
from kff_live.protocols.frames import Frame, FrameRate
from kff_live.protocols.ifacialmocap import HANDSHAKE, decode
from kff_live.runtime.sinks.listening import (
    MOST_ASKERS,
    MOST_HEARD,
    RETRY_FRAMES,
    Ear,
    IFacialMocapSink,
    VRChatSink,
)

SMILE = pose_from_names({"MouthSmileLeft": 0.5})
more_loopback = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8")


def frame(number: int = 0, pose: Pose = SMILE) -> Frame:
    return Frame("Face", number, 0.0, FrameRate(), pose)


@contextmanager
def udp(host: str = "127.0.0.1", port: int = 0) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind((host, port))
        made.settimeout(10.0)
        yield made


def nothing(made: socket.socket) -> bool:
    """Whether nothing has come; over the loopback what was sent is there at once."""
    made.setblocking(False)
    try:
        made.recv(4096)
    except BlockingIOError:
        return True
    finally:
        made.settimeout(10.0)
    return False


def smile(data: bytes) -> float:
    pose = decode(data)
    assert pose is not None
    return float(pose[INDEX["MouthSmileLeft"]])


# --- iFacialMocap


@contextmanager
def phone(
    port: int, answer_port: int, *targets: tuple[str, int], allow: tuple[str, ...] = ()
) -> Iterator[IFacialMocapSink]:
    sink = IFacialMocapSink(targets, ear=Ear("127.0.0.1", port, allow), port=answer_port)
    try:
        sink.send(frame())  # opens the port
        yield sink
    finally:
        sink.close()


def test_targets_are_sent_to_unasked() -> None:
    with udp() as one, udp() as two:
        sink = IFacialMocapSink([one.getsockname(), two.getsockname()], version="v2")
        sink.send(frame())
        packets = [made.recv(4096) for made in (one, two)]
        sink.close()
    assert packets[0] == packets[1]
    assert packets[0].startswith(b"trackingStatus&1|")
    assert smile(packets[0]) == 0.5


@pytest.mark.parametrize(
    ("handshake", "begins"),
    [(HANDSHAKE, b"trackingStatus-1|"), (HANDSHAKE + b"|sendDataVersion=v2", b"trackingStatus&1|")],
)
def test_whoever_asks_is_sent_to_at_the_formats_port(free_port: int, handshake: bytes, begins: bytes) -> None:
    with udp() as receiver, udp() as asking, phone(free_port, receiver.getsockname()[1]) as sink:
        assert nothing(receiver)
        asking.sendto(handshake, ("127.0.0.1", free_port))
        for number in range(3):
            sink.send(frame(number))
            data = receiver.recv(4096)
            assert data.startswith(begins)
            assert smile(data) == 0.5


def test_a_receiver_that_asks_again_is_not_sent_to_twice_and_may_change_its_version(free_port: int) -> None:
    with udp() as receiver, udp() as asking, phone(free_port, receiver.getsockname()[1]) as sink:
        for _ in range(3):
            asking.sendto(HANDSHAKE, ("127.0.0.1", free_port))
        sink.send(frame())
        assert receiver.recv(4096).startswith(b"trackingStatus-")
        assert nothing(receiver)
        asking.sendto(HANDSHAKE + b"|sendDataVersion=v2", ("127.0.0.1", free_port))
        sink.send(frame())
        assert receiver.recv(4096).startswith(b"trackingStatus&")
        assert nothing(receiver)


def test_a_frozen_face_sends_no_packet_twice_to_anyone(free_port: int) -> None:
    with udp() as target, udp() as receiver, udp() as asking:
        answer_port = receiver.getsockname()[1]
        with phone(free_port, answer_port, target.getsockname()) as sink:
            asking.sendto(HANDSHAKE, ("127.0.0.1", free_port))
            for number in range(20):
                sink.send(frame(2 * number))  # as a rate of 30 lets through
            for made in (target, receiver):
                packets = [made.recv(4096) for _ in range(20)]
                assert all(a != b for a, b in itertools.pairwise(packets))


@more_loopback
def test_strangers_are_not_answered(free_port: int) -> None:
    with udp("127.0.0.2") as friend, udp("127.0.0.3", friend.getsockname()[1]) as stranger:
        port = friend.getsockname()[1]
        with phone(free_port, port, allow=("127.0.0.2",)) as sink:
            for made in (stranger, friend):
                made.sendto(HANDSHAKE, ("127.0.0.1", free_port))
            sink.send(frame())
            assert smile(friend.recv(4096)) == 0.5
            assert nothing(stranger)


@more_loopback
def test_one_more_receiver_than_are_answered_takes_the_place_of_the_first(free_port: int) -> None:
    with udp("127.0.0.2") as first:
        port = first.getsockname()[1]
        with phone(free_port, port) as sink, udp("127.0.0.50", port) as last:
            first.sendto(HANDSHAKE, ("127.0.0.1", free_port))
            sink.send(frame())
            assert smile(first.recv(4096)) == 0.5
            for i in range(3, MOST_ASKERS + 2):
                with udp(f"127.0.0.{i}", port) as other:
                    other.sendto(HANDSHAKE, ("127.0.0.1", free_port))
            last.sendto(HANDSHAKE, ("127.0.0.1", free_port))
            sink.send(frame())
            assert smile(last.recv(4096)) == 0.5
            assert nothing(first)


def test_what_is_no_handshake_is_not_answered(free_port: int) -> None:
    with udp() as receiver, udp() as asking, phone(free_port, receiver.getsockname()[1]) as sink:
        for data in (b"", b"hello", HANDSHAKE[:-1], bytes(3000)):
            asking.sendto(data, ("127.0.0.1", free_port))
        sink.send(frame())
        assert nothing(receiver)


def test_a_flood_costs_a_frame_no_more_than_its_share(free_port: int) -> None:
    ear = Ear("127.0.0.1", free_port)
    assert list(ear.heard()) == []
    with udp() as sender:
        for i in range(2 * MOST_HEARD):
            sender.sendto(b"%d" % i, ("127.0.0.1", free_port))
    first = [data for data, _ in ear.heard()]
    assert first == [b"%d" % i for i in range(MOST_HEARD)]
    assert len(list(ear.heard())) == MOST_HEARD
    assert list(ear.heard()) == []
    ear.close()


def test_a_port_in_use_is_told_once_and_tried_again_until_it_is_free(
    free_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    ear = Ear("127.0.0.1", free_port)
    with udp(port=free_port), caplog.at_level(logging.WARNING):
        for _ in range(RETRY_FRAMES):
            assert list(ear.heard()) == []
        assert caplog.records == []  # it may be ours of a moment ago
        for _ in range(3 * RETRY_FRAMES):
            assert list(ear.heard()) == []
        assert caplog.text.count(f"sinks: cannot listen on 127.0.0.1 port {free_port}: ") == 1
    for _ in range(RETRY_FRAMES):
        list(ear.heard())
    with udp() as sender:
        sender.sendto(b"now", ("127.0.0.1", free_port))
    assert [data for data, _ in ear.heard()] == [b"now"]
    ear.close()


# --- VRChat


def read(made: socket.socket) -> dict[str, object]:
    """Everything that has come, as another library reads it."""
    found: dict[str, object] = {}
    made.setblocking(False)
    try:
        while True:
            for timed in OscPacket(made.recv(4096)).messages:
                found[timed.message.address] = list(timed.message.params)
    except BlockingIOError:
        return found


def change(avatar: str) -> bytes:
    builder = OscMessageBuilder("/avatar/change")
    builder.add_arg(avatar)
    return builder.build().dgram


def test_everything_is_sent_again_when_vrchat_reports_another_avatar(free_port: int) -> None:
    with udp() as game:
        sink = VRChatSink(vrchat.Encoder(), [game.getsockname()], ear=Ear("127.0.0.1", free_port))
        sink.send(frame())
        whole = read(game)
        assert len(whole) > len(vrchat.PARAMETERS)
        sink.send(frame(1))
        assert read(game) == {}
        moving = OscMessageBuilder("/avatar/parameters/VelocityZ")
        moving.add_arg(0.5)
        game.sendto(moving.build().dgram, ("127.0.0.1", free_port))
        sink.send(frame(2))
        assert read(game) == {}
        game.sendto(change("avtr_c38a1615-5bf5-42b4-84eb-a8b6c37cbd11"), ("127.0.0.1", free_port))
        sink.send(frame(3))
        assert read(game) == whole
        sink.close()


def test_the_avatar_is_told_when_its_face_is_left_alone() -> None:
    with udp() as game:
        sink = VRChatSink(vrchat.Encoder(), [game.getsockname()])
        sink.send(frame())
        assert read(game)["/avatar/parameters/EyeTrackingActive"] == [True]
        sink.send(frame(1, neutral()))
        assert np.allclose(read(game)["/avatar/parameters/v2/MouthSmileLeft"], [0.0])  # type: ignore[arg-type]
        sink.close()
        assert read(game) == {
            f"/avatar/parameters/{flag}": [False]
            for flag in ("EyeTrackingActive", "ExpressionTrackingActive", "LipTrackingActive")
        }
        assert sink.lost == 0
