"""All sinks at once against a spawned runtime: what was sent is what arrived, whatever the bad ones do."""

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from kff_live.protocols.channels import INDEX, neutral
from kff_live.protocols.errors import UserError
from kff_live.protocols.frames import Frame, FrameRate
from kff_live.runtime import cli
from kff_live.runtime.bench import sinks, targets
from kff_live.runtime.bench.gated import MARKS, Gate, Gated
from kff_live.runtime.bench.report import Rate, rate_table
from kff_live.runtime.bench.runtime import python
from kff_live.runtime.clock import ManualClock
from kff_live.runtime.loop import run

PERIODS = 30
MAY_SKIP = {"VTube Studio", "MQTT", "WebSocket"}
"""They send the newest frame from the asyncio loop; on a machine that is busy that is not every one."""


def test_what_was_sent_arrives_whatever_the_bad_ones_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")  # compiling takes longer than all else here
    passed, measured = run(sinks.measure(PERIODS, tell=lambda text: None))
    rates = {rate.sink: rate for rate in measured if rate.sent is not None}
    assert passed.due == PERIODS
    assert {rate.sent for rate in rates.values()} == {passed.ticks}
    healthy = {name for name, rate in rates.items() if rate.healthy}
    assert healthy - {"MQTT"} == {
        "Live Link", "OSC, own", "OSC, own, by channel", "OSC, Face Cap", "VMC", "iFacialMocap", "VRChat",
        "Live Link, Unreal 5.6", "VTube Studio", "recording", "WebSocket",
    }  # fmt: skip
    for name in healthy - MAY_SKIP:
        assert (name, rates[name].received, rates[name].lost) == (name, passed.ticks, 0)
    for name in healthy & MAY_SKIP:
        assert 0 < (rates[name].received or 0) <= passed.ticks
    assert "dropped the connection" in rates["VTube Studio, fails"].note
    assert [rates[f"{name}, {how}"].received for name, how in (
        ("VTube Studio", "refuses"), ("VTube Studio", "blocks"), ("WebSocket", "blocks"),
    )] == [0, 0, 0]  # fmt: skip


def test_without_a_broker_the_row_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "mosquitto", lambda: None)
    stage = sinks._Stage()
    stage._add_broker(AsyncExitStack(), Path())
    (rate,) = stage.not_measured
    assert (rate.sink, rate.sent, rate.failed, rate.note) == ("MQTT", None, False, "mosquitto is not installed")
    assert not stage.config().mqtt.enabled


class Keep:
    lost = 3

    def __init__(self) -> None:
        self.frames: list[Frame] = []

    def send(self, frame: Frame) -> None:
        self.frames.append(frame)


def test_a_gate_lets_so_many_frames_through_and_marks_each() -> None:
    async def scenario() -> None:
        clock, keep = ManualClock(), Keep()
        gate = Gate(clock)
        sink = Gated(keep, gate)

        def tick(number: int) -> None:
            clock.advance(0.02)
            sink.send(Frame("Face", number, 0.0, FrameRate(), neutral()))

        for number in range(5):
            tick(number)
        assert keep.frames == []
        opened = asyncio.create_task(asyncio.to_thread(gate.let_through, MARKS + 2))
        while gate._window[1] == 0:  # noqa: ASYNC110 - the other thread opens it
            await asyncio.sleep(0)
        first, end = gate._window
        for number in range(5, end + 1):
            if number != first + 1:  # skipped
                tick(number)
        passed = await opened
        assert (passed.due, passed.ticks, sink.sent, sink.lost) == (MARKS + 2, MARKS + 1, MARKS + 1, 3)
        assert passed.longest == pytest.approx(0.02)
        jaws = [float(frame.pose[INDEX["JawOpen"]]) for frame in keep.frames]
        assert jaws == pytest.approx([0.0, *(i / 100 for i in range(2, MARKS)), 0.0, 0.01])

    asyncio.run(scenario())


def injection(mark: float) -> str:
    values = [{"id": "FaceAngleX", "value": 1}, {"id": "KffJawOpen", "value": mark}]
    data = {"mode": "set", "parameterValues": values}
    return json.dumps({"messageType": "InjectParameterDataRequest", "requestID": "tell-1", "data": data})


@pytest.mark.parametrize(("drops", "taken"), [(False, 3), (True, 2)])
def test_a_studio_counts_a_frame_once_and_drops_the_connection_if_it_is_to(
    drops: bool, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, "_DROP_AFTER", 3)

    async def scenario() -> None:
        made = targets.Studio(drops=drops)
        async with targets.studio(made) as port, connect(f"ws://127.0.0.1:{port}") as client:
            for mark in (0.0, 0.0, 0.01, 0.02):
                await client.send(injection(mark))
            answers = [json.loads(text) async for text in first(client, 3 if drops else 4)]
        assert {answer["messageType"] for answer in answers} == {"InjectParameterDataResponse"}
        assert (made.count.frames, made.dropped) == (taken, int(drops))

    asyncio.run(scenario())


async def first(client: Any, count: int) -> Any:
    for _ in range(count):
        yield await client.recv()


RATES = [
    Rate(sink="Live Link", target="127.0.0.1:1", hz=60.0, sent=60, received=60, lost=0, longest=17.25),
    Rate(sink="WebSocket", target="ws://127.0.0.1:2", hz=60.0, sent=60, received=0, lost=60, healthy=False, note="bad"),
    Rate(sink="MQTT", hz=60.0, healthy=False, note="not here"),
]


def test_the_table_says_who_lost_frames() -> None:
    head, good, bad, absent = rate_table(RATES).splitlines()
    assert head.split() == ["sink", "target", "wanted", "sent", "received", "lost", "worst", "gap", "state"]
    assert good.split()[2:] == ["127.0.0.1:1", "60", "Hz", "60", "60", "0", "17.2", "ms", "in", "order"]
    assert bad.split()[1:] == ["ws://127.0.0.1:2", "60", "Hz", "60", "0", "60", "-", "bad"]
    assert absent.split() == ["MQTT", "60", "Hz", "-", "-", "-", "-", "not", "here"]
    lost = Rate(sink="VMC", hz=60.0, sent=60, received=59, lost=1)
    assert rate_table([lost]).endswith("LOST FRAMES")


@pytest.mark.parametrize(("received", "status"), [(60, 0), (59, 1)])
def test_the_exit_status_is_1_where_a_healthy_sink_lost_frames(
    received: int, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [*RATES, Rate(sink="VMC", hz=60.0, sent=60, received=received, lost=60 - received)]
    monkeypatch.setattr(sinks, "sinks", lambda *, seconds, tell: ([], found))
    written = tmp_path / "rates.json"
    assert cli.main(["bench", "sinks", "--json", str(written)]) == status
    assert rate_table(found) in capsys.readouterr().out
    assert json.loads(written.read_bytes())["sinks"][-1]["received"] == received


def test_a_runtime_that_cannot_start_is_the_users_message(tmp_path: Path) -> None:
    log = tmp_path / "stderr.txt"
    with log.open("wb") as stderr, python("kff_live.no_such", piped=True, stderr=stderr) as process:
        process.wait()
        with pytest.raises(UserError, match=r"the runtime ended: .*No module named kff_live.no_such"):
            asyncio.run(sinks._Runtime(process, log).let_through(1))
