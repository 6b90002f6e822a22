"""What a person sees: the start screen and the status line, on standard error."""

import asyncio
import collections
import logging
import os
import shutil
import sys
from typing import TYPE_CHECKING

from kff_live.protocols.messages import Status
from kff_live.runtime.capture import FORMATS
from kff_live.runtime.config import IFacialMocap, LiveLink, LiveLinkDevice, Osc, Recording, Vmc, VRChat, VTubeStudio

if TYPE_CHECKING:
    from kff_live.runtime.app import App

_UP, _SAVE, _RESTORE, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[1A", "\x1b7", "\x1b8", "\x1b[K", "\x1b[J"
_FPS_SECONDS = 10  # the rate is a mean over so many; one second alone would show 59 or 61 at random


def start_screen(app: "App") -> str:
    """Model, addresses, subjects, rate, and what to do in Unreal."""
    config = app.config
    rows = [
        ("settings", app.source),
        ("model", app.generator.describe()),
        ("subjects", ", ".join(app.players)),
        ("frame rate", f"{config.rate} fps"),
        ("preview", app.websocket.url.replace("ws", "http", 1) + ("/?token=..." if config.websocket.token else "/")),
        ("texts in", app.websocket.url + (f"   OSC {app.osc.address} /kff/say" if app.osc else "")),
    ]
    if app.mqtt:
        rows.append(("MQTT", f"{config.mqtt.host}:{config.mqtt.port}  {config.mqtt.topic}/<subject>/say"))
    if app.take is not None:
        rows.append(("playing", f"{app.take.name}  {'in a loop' if app.take.loop else f'{app.take.seconds:.1f} s'}"))
    if app.capture is not None:
        rows.append(("live face from", f"{app.capture.address} ({FORMATS[config.capture.format]})"))
    for sink in config.sinks:
        if isinstance(sink, LiveLink):
            rows.append(("Live Link to", ", ".join(sink.targets)))
        elif isinstance(sink, Osc):
            address = "/W" if sink.naming == "facecap" else f"{sink.prefix}/<subject>/{sink.naming}"
            rows.append(("OSC to", f"{', '.join(sink.targets)}  {address}"))
        elif isinstance(sink, Vmc):
            rows.append(("VMC to", ", ".join(sink.targets)))
        elif isinstance(sink, IFacialMocap):
            asked = f"  and whoever asks at {sink.listen}" if sink.listen else ""
            rows.append(("iFacialMocap", ", ".join(sink.targets) + asked))
        elif isinstance(sink, VRChat):
            rows.append(("VRChat at", ", ".join(sink.targets)))
        elif isinstance(sink, VTubeStudio):
            rows.append(("VTube Studio", sink.target or "on this machine"))
        elif isinstance(sink, LiveLinkDevice):
            rows.append(("as a phone", f"{sink.host}:{sink.port}, for Unreal's Live Link Face source (experimental)"))
        elif isinstance(sink, Recording):
            rows.append(("recording to", sink.path))
    lines = ["", "kff-live", *(f"  {title:<13}{value}" for title, value in rows)]
    if any(isinstance(sink, LiveLink) for sink in config.sinks):
        lines += [
            "",
            "In Unreal: Window > Virtual Production > Live Link > + Source > Apple ARKit Source, port as above;",
            f"on the MetaHuman: Use ARKit Face on, ARKit Face Subj = {next(iter(app.players))}.",
            "Unreal drops bad packets silently: if nothing moves, type  log LogAppleARKitFace verbose  in its console.",
        ]
    say = "Type a text and press Enter" if sys.stdin and sys.stdin.isatty() else "kff-live say 'What a day!'"
    return "\n".join([*lines, "", f"{say}; Ctrl-C ends.", ""])


class StatusLine:
    """One line a second; on a terminal it stays in place."""

    def __init__(self, app: "App") -> None:
        self._app = app
        self._in_place = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._shown = False
        self._described = app.generator.describe()
        self._handler = _Handler(self)
        logging.getLogger().addHandler(self._handler)

    def log(self, text: str) -> None:
        """Print above the status line."""
        self._clear()
        print(text, file=sys.stderr, flush=True)  # noqa: T201 - this is the screen

    def typed(self, text: str) -> None:
        """A line was typed below the status line: it goes above."""
        if self._shown:
            sys.stderr.write(_UP)
        self.log(f"> {text}")

    def end(self) -> None:
        """Leave a clean terminal."""
        self._clear()
        logging.getLogger().removeHandler(self._handler)

    async def run(self) -> None:
        """Show the line until cancelled."""
        stats = self._app.frame_thread.stats
        clock = self._app.clock
        never = asyncio.Event()
        seen = collections.deque([(clock.now(), stats.frames)], maxlen=_FPS_SECONDS)
        shown = clock.now()
        while True:
            shown += 1.0
            await clock.wait(never, shown)
            now = clock.now()
            since, frames = seen[0]
            fps = (stats.frames - frames) / (now - since)
            seen.append((now, stats.frames))
            described = self._app.generator.describe()
            if described != self._described:
                self._described = described
                self.log(f"model: {described}")
            late, latency, waiting = 1000 * stats.take_worst_late(), self._latency(), self._app.desk.waiting
            self._app.websocket.tell_status(
                Status(round(fps, 2), round(late, 3), latency, stats.skipped, waiting, self._app.moods)
            )
            to_face = "-" if latency is None else f"{latency:.0f} ms"
            self._show(
                f"{fps:6.2f} fps   late at worst {late:5.2f} ms   skipped {stats.skipped}   lost {self._app.lost}   "
                f"waiting {waiting}   text to face {to_face}   model {self._app.generator.state}"
            )

    def _latency(self) -> float | None:
        """From acceptance to the first changed frame, of the latest text, in ms."""
        latest: tuple[float, float | None] = 0.0, None
        for name, director in self._app.desk.directors.items():
            cut, moved = self._app.players[name].first_moved
            accepted = director.latencies.get(cut)
            if accepted is not None and moved > latest[0]:
                latest = moved, round(1000 * (moved - accepted), 1)
        return latest[1]

    def _show(self, line: str) -> None:
        """On a terminal the cursor stays a line below, where texts are typed."""
        if not self._in_place:
            print(line, file=sys.stderr, flush=True)  # noqa: T201 - this is the screen
            return
        line = line[: shutil.get_terminal_size().columns - 1]
        if self._shown:
            sys.stderr.write(f"{_SAVE}{_UP}\r{line}{_CLEAR_LINE}{_RESTORE}")
        else:
            sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
        self._shown = True

    def _clear(self) -> None:
        if self._shown:
            sys.stderr.write(f"{_UP}\r{_CLEAR_BELOW}")
            self._shown = False


class _Handler(logging.Handler):
    """Log lines above the status line."""

    def __init__(self, status: StatusLine) -> None:
        super().__init__()
        self._status = status

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        # What others sent, ids and addresses, must not steer the terminal.
        text = "".join(c if c.isprintable() or c == "\n" else "?" for c in self.format(record))
        self._status.log(f"{record.levelname.lower()}: {text}")
