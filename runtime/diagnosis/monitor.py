"""`kff-live monitor`: listens on a port and shows what arrives there, live, and what a strict receiver would reject."""

import argparse
import collections
import math
import queue
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from typing import Protocol

import msgspec

from kff_live.protocols.errors import UserError
from kff_live.protocols.monitor.formats import FORMATS
from kff_live.protocols.monitor.stream import Finding, Monitor, Report, Tally
from kff_live.runtime.clock import SystemClock
from kff_live.runtime.config import is_loopback
from kff_live.runtime.diagnosis.ports import holder
from kff_live.runtime.diagnosis.view import View

REPORTS_A_SECOND = 10
"""Rejected packets that `--json` tells one by one; more are counted."""

_SWITCH_INTERVAL = 0.0005  # s; a packet's time is taken by a thread, which must not wait for the drawing
_QUEUED = 10_000
_BUFFER = 1 << 20
_LARGEST = 65_536
_STRANGERS = 100
_WAKE_SECONDS = 0.2


class Datagram(msgspec.Struct, frozen=True):
    """What came, from whom ("host:port"), and when, s."""

    data: bytes
    sender: str
    at: float


class Show(Protocol):
    """Where the monitor shows what it sees. Times are seconds since its start."""

    period: float
    """Seconds between two calls of `update`."""

    def reject(self, datagram: Datagram, finding: Finding, at: float) -> None:
        """Show one rejected packet."""

    def update(self, report: Report, at: float) -> None:
        """Show everything."""

    def end(self, report: Report, at: float) -> None:
        """Show everything for the last time."""


class Receiver:
    """Takes datagrams in a thread of its own, so that their times are right however long the drawing takes.

    Raises:
        UserError: the port cannot be listened on.
    """

    def __init__(self, host: str, port: int, allow: Sequence[str]) -> None:
        self.arrived: queue.SimpleQueue[Datagram | None] = queue.SimpleQueue()
        """None is put in to wake who waits here, and to end."""
        self.strangers: collections.Counter[str] = collections.Counter()
        self._allow = frozenset(allow)
        self._clock = SystemClock()
        self._ended = False
        self._socket = _listen(host, port)
        self._thread = threading.Thread(target=self._receive, name="monitor", daemon=True)
        self._thread.start()

    def _receive(self) -> None:
        while not self._ended:
            try:
                data, address = self._socket.recvfrom(_LARGEST)
            except OSError:  # nothing came, or Windows reports that somebody refused a packet
                continue
            at = self._clock.now()
            if self._allow and address[0] not in self._allow:
                if address[0] in self.strangers or len(self.strangers) < _STRANGERS:
                    self.strangers[address[0]] += 1
                continue
            if self.arrived.qsize() < _QUEUED:
                self.arrived.put(Datagram(data, f"{address[0]}:{address[1]}", at))

    def close(self) -> None:
        """Stop listening."""
        self._ended = True
        self._thread.join()
        self._socket.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        listening = socket.socket(family, socket.SOCK_DGRAM)
    except OSError:
        raise UserError(f"--host: {host!r} cannot be found") from None
    listening.settimeout(_WAKE_SECONDS)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
    try:
        listening.bind(address)
    except OSError as error:
        listening.close()
        who = holder("udp", port)
        raise UserError(
            f"UDP {host}:{port} cannot be listened on: {f'{who} holds it' if who else error.strerror}; "
            "close that program, or send to a second target and watch that with --port"
        ) from None
    return listening


class JsonLines:
    """One JSON line a second with everything, and one for each rejected packet, of which there are not too many."""

    period = 1.0

    def __init__(self, *, host: str, port: int, form: str) -> None:
        self._told = self._untold = 0
        _print({"type": "listening", "host": host, "port": port, "format": form})

    def reject(self, datagram: Datagram, finding: Finding, at: float) -> None:
        """One line, or none."""
        if self._told >= REPORTS_A_SECOND:
            self._untold += 1
            return
        self._told += 1
        _print(
            {
                "type": "rejected", "at": round(at, 3), "sender": datagram.sender, "bytes": len(datagram.data),
                "rule": finding.rule, "reason": finding.reason,
            }
        )  # fmt: skip

    def update(self, report: Report, at: float) -> None:
        """The line of this second."""
        self._line("second", report, at)

    def end(self, report: Report, at: float) -> None:
        """The last line."""
        self._line("end", report, at)

    def _line(self, kind: str, report: Report, at: float) -> None:
        fields = msgspec.structs.asdict(report)
        _print({"type": kind, "at": round(at, 3), "untold": self._untold, **fields})
        self._told = self._untold = 0


def _print(line: dict[str, object]) -> None:
    print(msgspec.json.encode(line).decode(), flush=True)  # noqa: T201 - standard output is the data


def monitor(options: argparse.Namespace) -> int:
    """The sub-command; returns 0 when something came and nothing was rejected, else 1.

    Raises:
        UserError: an option is wrong, or the port cannot be listened on.
    """
    form = FORMATS[options.format]
    port = form.port if options.port is None else options.port
    if not 1 <= port <= 65535:
        raise UserError(f"--port: {port} is outside 1 to 65535")
    if options.seconds is not None and not options.seconds > 0:  # also NaN
        raise UserError(f"--seconds: {options.seconds:g}, expected more than 0")
    if not is_loopback(options.host) and not options.allow:
        raise UserError("--allow: beyond loopback the addresses of the allowed senders are needed")
    sys.setswitchinterval(_SWITCH_INTERVAL)
    receiver, seen = Receiver(options.host, port, options.allow), form.monitor()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: receiver.arrived.put(None))
    try:
        where = f"UDP {options.host}:{port}, {options.format}"
        show = JsonLines(host=options.host, port=port, form=options.format) if options.json else View(where)
        _follow(receiver, seen, show, options.seconds)
    finally:
        receiver.close()
    return 0 if seen.packets and not seen.rejected else 1


def _follow(receiver: Receiver, seen: Monitor, show: Show, seconds: float | None) -> None:
    """Show what arrives, for so long or until it is to end."""
    clock = SystemClock()
    start = clock.now()
    end, due = start + (seconds or math.inf), start + show.period
    while (now := clock.now()) < end:
        if now >= due:
            show.update(_report(receiver, seen, now), now - start)
            due = max(due + show.period, now)
        try:
            datagram = receiver.arrived.get(timeout=max(0.0, min(due, end) - now))
        except queue.Empty:
            continue
        if datagram is None:
            break
        found = seen.take(datagram.data, datagram.sender, datagram.at)
        for finding in [finding for finding in found if finding.rejected][:1]:
            show.reject(datagram, finding, datagram.at - start)
    show.end(_report(receiver, seen, now), now - start)


def _report(receiver: Receiver, seen: Monitor, now: float) -> Report:
    for address, count in receiver.strangers.items():
        reason = f"{count} packets came from {address}, which --allow does not name"
        seen.findings[f"sender {address}"] = Tally(rejected=False, count=count, reason=reason)
    return seen.report(now)
