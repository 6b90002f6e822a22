"""`kff-live say`: sends a text to a running kff-live and prints its events."""

import argparse
import os
import sys

import msgspec
from websockets.exceptions import ConnectionClosed

from kff_live.protocols.errors import UserError
from kff_live.protocols.messages import Refused, Say, check, encode, is_empty
from kff_live.runtime.client import connect_to
from kff_live.runtime.clock import SystemClock

_FINAL = {"done": 0, "interrupted": 1, "dropped": 1, "failed": 1}
"""Exit status by the type of the final event."""


def say(options: argparse.Namespace) -> int:
    """Send `options.text`; returns 0 when it was acted to its end, 1 when it was cut short.

    Raises:
        UserError: the text is refused, or there is no runtime at the address.
    """
    message = Say(
        text=sys.stdin.read() if options.text == "-" else options.text,
        id=f"say-{os.getpid()}-{os.urandom(3).hex()}",
        subject=options.subject,
        background=options.background,
        emotion=options.emotion,
        intensity=options.intensity,
        mode=options.mode,
        priority=options.priority,
    )
    try:
        check(message)
    except Refused as refused:
        raise UserError(str(refused)) from None
    if is_empty(message.text):
        raise UserError("text: it is empty")
    try:
        with connect_to(options.url, options.token) as connection:
            connection.send(encode(message))
            return _print_events(connection.recv, message.id, options.timeout)
    except TimeoutError:
        raise UserError(f"{options.url}: no final event within {options.timeout:g} s") from None
    except ConnectionClosed as error:
        raise UserError(f"{options.url}: the connection ended before the final event: {error}") from None


def _print_events(receive, message_id: str | None, timeout: float) -> int:  # type: ignore[no-untyped-def]
    clock = SystemClock()
    deadline = clock.now() + timeout
    while True:
        text = receive(timeout=max(0.0, deadline - clock.now()))
        event = msgspec.json.decode(text)
        if event.get("id", message_id if event["type"] == "error" else None) != message_id:
            continue
        print(text, flush=True)  # noqa: T201 - standard output is the data
        if event["type"] == "error":
            raise UserError(event["message"])
        if event["type"] in _FINAL:
            return _FINAL[event["type"]]
