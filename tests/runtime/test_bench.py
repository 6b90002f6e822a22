"""The benchmark's parts that measure nothing: statistics, references, processes, reports."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from kff_live.protocols import livelink
from kff_live.protocols.channels import neutral
from kff_live.protocols.errors import UserError
from kff_live.protocols.frames import Frame, FrameRate
from kff_live.runtime import cli, config
from kff_live.runtime.bench import burst, command, decode, frame, plain_numpy, usage
from kff_live.runtime.bench import runtime as bench_runtime
from kff_live.runtime.bench.report import Intervals, Row, intervals, table, to_json


def test_the_plain_numpy_reference_computes_what_the_compiled_frame_does() -> None:
    assert frame.difference(frame.plans(11, cuts=4)) <= frame.TOLERANCE


def test_the_difference_is_found_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_numpy, "_decay", lambda offset, velocity, span, u: 0.0 * offset)
    assert frame.difference(frame.plans(11, cuts=2)) > 0.1


def test_intervals_of_a_known_list() -> None:
    # Four on time, one gap of three periods in which numbers 4 and 5 are lost, one a bit late.
    times, numbers = [0.0, 1.0, 2.0, 3.0, 6.0, 7.5], [0, 1, 2, 3, 6, 7]
    found = intervals(times, numbers, period=1.0)
    assert found.packets == 6
    assert found.rate == pytest.approx(5 / 7.5)
    assert found.p50 == 1.0
    assert found.longest == 3.0
    assert 1.5 < found.p99 <= 3.0
    assert (found.gaps, found.missing) == (1, 2)


@pytest.mark.parametrize("count", [0, 1])
def test_intervals_of_too_few_packets(count: int) -> None:
    assert intervals([0.0] * count, [0] * count, period=1.0) == Intervals(packets=count)


def test_the_receiver_process_counts_packets_and_lost_numbers() -> None:
    rate, pose = FrameRate(), neutral()
    encoder = livelink.Encoder("device", "Face", rate)
    command = [sys.executable, "-m", "kff_live.runtime.bench.receiver", "0.5", "2", "0"]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
    ):
        assert process.stdin and process.stdout
        first, _ = json.loads(process.stdout.readline())
        udp.sendto(encoder.encode(Frame("Face", 1, 0.0, rate, pose)), ("127.0.0.1", first))  # before it begins
        process.stdin.write("go\n")
        process.stdin.flush()
        assert process.stdout.readline() == "receiving\n"
        for number in (10, 11, 14):
            udp.sendto(encoder.encode(Frame("Face", number, 0.0, rate, pose)), ("127.0.0.1", first))
        counted, nothing = json.loads(process.stdout.readline())
    assert process.returncode == 0
    assert (counted["packets"], counted["missing"], counted["gaps"]) == (3, 2, 0)
    assert nothing["packets"] == 0


def test_a_receiver_that_is_not_told_to_begin_leaves() -> None:
    command = [sys.executable, "-m", "kff_live.runtime.bench.receiver", "60", "1", "0"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert len(json.loads(done.stdout)) == 1


def test_the_reference_senders_send_numbered_packets_and_end_with_their_input() -> None:
    for kind in ("deadline", "sleep"):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.bind(("127.0.0.1", 0))
            udp.settimeout(30)
            command = [sys.executable, "-m", "kff_live.runtime.bench.sender", kind, str(udp.getsockname()[1])]
            with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
                packets = [livelink.decode(udp.recv(2048)) for _ in range(3)]
                assert process.stdin
                process.stdin.close()
            assert process.returncode == 0
        assert [packet.number for packet in packets] == [0, 1, 2]
        assert len(packets[0].device) == 36


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["clok"], "'clok'"),
        (["frame", "--seconds", "0"], "--seconds"),
        (["memory", "--minutes", "-1"], "--minutes"),
        (["frame", "--json", "no/such/folder.json"], "--json"),
    ],
)
def test_a_wrong_option_ends_with_status_2_and_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bench", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1


def test_parts_come_in_their_own_order_and_once() -> None:
    assert command.check_parts(["gpu", "clock", "gpu"]) == ("clock", "gpu")
    assert command.check_parts([]) == command.PARTS


def test_the_table_aligns_and_the_json_carries_the_ratio() -> None:
    rows = [
        Row(part="a", what="x", value=2.0, unit="ms", reference=4.0, reference_is="other", target="<= 3", met=True),
        Row(part="a", what="longer", value=0.5, target=">= 1", met=False, note="of 2"),
        Row(part="b", what="y", note="not measured"),
    ]
    head, *lines = table(rows).splitlines()
    assert lines[:2] == ["", "a"]
    assert lines[2].split() == ["x", "2", "ms", "4", "ms", "other", "0.500", "<=", "3", "met"]
    assert lines[3].endswith("MISSED  (of 2)")
    assert lines[2].index("<= 3") == lines[3].index(">= 1") == head.index("target")
    assert lines[6].split() == ["y", "not", "measured"]
    written = json.loads(to_json(rows, {"cores": "2"}))
    assert [row["ratio"] for row in written["rows"]] == [0.5, None, None]
    assert written["machine"] == {"cores": "2"}


@pytest.mark.parametrize("with_psutil", [True, False])
def test_the_use_of_a_process(with_psutil: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not with_psutil:
        monkeypatch.setitem(sys.modules, "psutil", None)
        if not Path("/proc/self/stat").exists():
            pytest.skip("no /proc here")
    found = usage.usage(os.getpid())
    assert found is not None
    assert 1.0 < found.resident < 10_000.0
    assert found.cpu > 0.0
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert usage.child(os.getpid()) == process.pid
        process.communicate(b"\n")
    assert usage.usage(process.pid) is None


def test_the_measured_runtime_gets_the_users_model() -> None:
    users = config.decode('[model]\npath = "a \\"quoted\\" \\\\ path.gguf"\ntemperature = 0.5\nexamples = false')
    ours = config.decode(bench_runtime._settings(users, 9000, [9001, 9002]))
    assert ours.model == users.model
    assert ours.websocket.port == 9000
    assert not ours.osc_in.enabled
    (sink,) = ours.sinks
    assert isinstance(sink, config.LiveLink)
    assert sink.targets == ("127.0.0.1:9001", "127.0.0.1:9002")


def test_what_became_of_a_burst_is_counted() -> None:
    class Heard(burst.Ear):
        def __init__(self, *messages: tuple[str, str]) -> None:
            self.heard = [(0.0, {"type": kind, "id": text}) for kind, text in messages]

    found = burst.Round()
    burst._count(
        found,
        Heard(
            ("started", "b-0"),
            ("dropped", "b-1"),
            ("error", "b-2"),
            ("done", "b-0"),
            ("started", "b-3"),
            ("done", "b-3"),
        ),
        "b",
    )
    assert (found.finals, found.acted, found.last_acted, found.refused) == (3, 2, 4, 1)
    burst._count(found, Heard(("done", "b-0"), ("done", "b-0")), "b")
    assert found.finals == -1  # two for one line


def test_the_rows_of_bursts_miss_what_they_should() -> None:
    def measured(finals: int, seconds: float, resident: float) -> burst._Measured:
        found = burst.Round(finals, 2, finals, 0, {"interrupt": [seconds], "queue": [seconds]})
        return burst._Measured([found], usage.Usage(100.0, 0.0), usage.Usage(resident, 0.0))

    quiet = measured(0, 0.002, 100.0)
    good = burst._rows(1, measured(burst.LINES, 0.004, 101.0), quiet)
    assert {row.met for row in good} == {True, None}
    assert next(row for row in good if "median" in row.what).ratio == pytest.approx(2.0)
    bad = burst._rows(500, measured(burst.LINES - 1, 0.05, 120.0), quiet)
    assert {row.met for row in bad} == {False, None}


def test_a_runtime_that_cannot_start_is_the_users_message() -> None:
    wrong = config.decode('[model]\npath = "nowhere.gguf"')
    with bench_runtime.running(wrong, [9]) as runtime, pytest.raises(UserError, match=r"nowhere\.gguf"):
        import asyncio

        asyncio.run(runtime.ready())


def test_without_a_gpu_the_report_says_so() -> None:
    (row,) = decode.gpu(config.decode('[model]\nengine = "none"'), tell=lambda text: None)
    assert row.what == "GPU not tried"
    assert row.value is None
