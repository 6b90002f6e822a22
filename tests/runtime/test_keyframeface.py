"""A spawned kff-live whose model speaks KeyframeFace's JSON: requests as released, a live face while answers stream."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kff_live.protocols.channels import INDEX, LIVELINK
from tests.runtime.spawned import DEADLINE, FINAL, receive, running, wait_ready

FOLDER = Path(__file__).parents[1] / "converters" / "keyframeface"


def lines_of(name: str) -> list[Any]:
    return [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()]


ASKED = [request["messages"][1]["content"] for request in lines_of("requests.jsonl")]
ANSWERS = [answer["response"] for answer in lines_of("answers.jsonl")]
DESCRIPTIONS = [line.partition(": ")[2] for line in ASKED[0].splitlines() if line.startswith("- Keyframe ")]
SEEN = [i for i, name in enumerate(LIVELINK) if not name.startswith(("LeftEye", "RightEye"))]
"""Eye rotations follow the gaze's blendshapes (docs/keyframe-text.md), whatever the model says of them."""


class Model(ThreadingHTTPServer):
    """Streams the written answer to each request in pieces of seven letters; the second waits until it may."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, Any]] = []
        self.may_go_on = threading.Event()


class Handler(BaseHTTPRequestHandler):
    server: Model

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def do_POST(self) -> None:
        number = len(self.server.asked)
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        if number:
            assert self.server.may_go_on.wait(DEADLINE)
        answer = ANSWERS[number]
        for start in range(0, len(answer), 7):
            delta = {"choices": [{"delta": {"content": answer[start : start + 7]}}]}
            self.wfile.write(f"data: {json.dumps(delta)}\n\n".encode())
            self.wfile.flush()
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def model() -> Iterator[Model]:
    server = Model()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.may_go_on.set()
    server.shutdown()
    thread.join()
    server.server_close()


def pose(answer: str) -> NDArray[np.float32]:
    (values,) = json.loads(answer).values()
    found = np.zeros(len(LIVELINK), np.float32)
    for name, value in values.items():
        found[INDEX[name]] = value
    return found


def test_its_released_requests_drive_a_face_while_the_next_answer_is_awaited(model: Model, tmp_path: Path) -> None:
    config = (
        f'[model]\nengine = "openai"\nbase_url = "http://127.0.0.1:{model.server_address[1]}/v1"\n'
        'model = "keyframeface"\ndialect = "keyframeface"\n'
    )
    with running(tmp_path, extra=config) as runtime, runtime.client() as client:
        wait_ready(client)
        background, emotion = (line.partition(": ")[2] for line in ASKED[0].splitlines() if line[:3] in ("Bac", "Emo"))
        say = {"type": "say", "id": "letter", "text": "The letter", "background": background, "emotion": emotion}
        client.send(json.dumps(say | {"descriptions": DESCRIPTIONS}))

        def shown(number: int) -> None:
            wanted = pose(ANSWERS[number])[SEEN]
            runtime.receiver.wait(lambda all_: bool(np.abs(all_[-1].values[SEEN] - wanted).max() < 5e-3))

        shown(0)
        assert not model.may_go_on.is_set()  # the face acts the first keyframe, the second is not there yet
        model.may_go_on.set()
        shown(1)
        seen: list[dict[str, Any]] = []
        while not seen or seen[-1]["type"] not in FINAL:
            seen.append(receive(client))
        assert seen[-1]["type"] == "done"
    assert [request["messages"][1]["content"] for request in model.asked] == ASKED
    keyframes = [message for message in seen if message["type"] == "keyframe"]
    assert [message["keyframe"].get("way", 0.4) for message in keyframes] == [0.6] * 2
