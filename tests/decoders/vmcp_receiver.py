"""Prints what the library vmcp reads on a UDP port, one JSON array a message; a process of its own, as it is AGPL.

python vmcp_receiver.py PORT
"""

import json
import sys
import time
from typing import Any

from vmcp.events import BlendShapeApplyEvent, BlendShapeEvent, BoneTransformEvent, RelativeTimeEvent, StateEvent
from vmcp.facades import on_receive
from vmcp.osc import OSC
from vmcp.osc.backend.osc4py3 import as_eventloop


def tell(*what: Any) -> None:
    print(json.dumps(what), flush=True)  # noqa: T201 - its output is what it is for


def bone(event: Any) -> None:
    p, q = event.position, event.rotation
    tell("bone", event.joint.value, [p.x, p.y, p.z], [q.x, q.y, q.z, q.w])


def main() -> None:
    with OSC(as_eventloop) as osc:
        receiver = osc.create_receiver("127.0.0.1", int(sys.argv[1]), "face").open()
        on_receive(receiver, StateEvent, lambda event: tell("state", event.model_state.value))
        on_receive(receiver, RelativeTimeEvent, lambda event: tell("time", event.delta))
        on_receive(receiver, BoneTransformEvent, bone)
        on_receive(receiver, BlendShapeEvent, lambda event: tell("shape", event.key, event.value))
        on_receive(receiver, BlendShapeApplyEvent, lambda event: tell("apply"))
        tell("listening")
        while True:
            osc.run()
            time.sleep(0.001)  # it looks and does not wait


main()
