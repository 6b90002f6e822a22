"""`kff-live run`: joins sources, directors, frame thread and sinks, and owns their life from start to last frame."""

import asyncio
import gc
import importlib
import importlib.metadata
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

import msgspec

from kff_live.protocols import livelink
from kff_live.protocols.errors import UserError
from kff_live.protocols.idle.settings import IdleSettings
from kff_live.protocols.messages import Event, Failed, Model, Refused, Say, check
from kff_live.runtime.capture import CaptureLayer, CaptureSource
from kff_live.runtime.clock import SystemClock, seconds_of_day
from kff_live.runtime.config import DEFAULTS, Config, SinkConfig, settings
from kff_live.runtime.desk import Desk
from kff_live.runtime.director import Director
from kff_live.runtime.frame_hub import FrameHub
from kff_live.runtime.frame_thread import FrameThread, Lane, Sink
from kff_live.runtime.loop import ending
from kff_live.runtime.loop import run as run_loop
from kff_live.runtime.model.choice import generator
from kff_live.runtime.mqtt import MqttClient
from kff_live.runtime.osc_source import OscSource
from kff_live.runtime.player import LEAVE_SECONDS, LiveFace, Player
from kff_live.runtime.reload import Reloader
from kff_live.runtime.screen import StatusLine, start_screen
from kff_live.runtime.sinks.making import ClosingSink, LoopSink, build, device_id
from kff_live.runtime.supervisor import supervise
from kff_live.runtime.take_layer import Playback, TakeLayer
from kff_live.runtime.websocket import WebSocketServer

if TYPE_CHECKING:
    from kff_live.protocols.idle.layer import Idle

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

SWITCH_INTERVAL = 0.0001
"""Of the interpreter, s. A tick that waits for the GIL beside a busy thread waited 15 ms at the default of 0.005, and
0.7 ms at 0.0005; with 500 texts a second the p99 interval was 1.1 ms over a bare sender's at 0.0005, 0.6 to 0.8 ms so.
"""

SHUTDOWN_RELEASE = 0.6
"""Longest way to neutral when the program ends, s."""

NEUTRAL_SECONDS = 1.0
"""Longest wait for the last frames, of which there are three where the machine has the time for them."""

_NEUTRAL_FRAMES = 3


def version() -> str:
    """The installed version of kff-live."""
    return importlib.metadata.version("kff-live")


class App:
    """A running kff-live.

    Args:
        take: to be played, after which the program ends; the settings are not read again then.

    Raises:
        UserError: the settings cannot work here.
    """

    def __init__(self, config: Config, source: str, take: Playback | None = None) -> None:
        self.config = config
        self.source = source
        self.take = take
        self.clock = SystemClock()
        self.hub = FrameHub()
        self.players = {
            s.name: Player(s.name, config.rate, settings=settings(s, config), alive=config.idle.enabled)
            for s in config.subjects
        }
        with _closing_on_error() as opened:
            self._sinks: list[tuple[SinkConfig, dict[str, ClosingSink]]] = []
            for sink in config.sinks:
                self._sinks.append((sink, build(sink, config)))
                opened += self._sinks[-1][1].values()
            self.generator = generator(config.model, on_state=lambda state: self.desk.tell(Model(state)))
        self._lanes = [Lane(player) for player in self.players.values()]
        self.frame_thread = FrameThread(self.clock, config.rate, self._lanes, start_seconds=seconds_of_day())
        self.desk = Desk({s.name: self._director(s.name, s.release) for s in config.subjects})
        self.desk.set_mood = self._set_mood
        self.desk.sinks_of = self._sinks_of
        self.websocket = WebSocketServer(
            config.websocket,
            self.desk,
            self.hub,
            rate=config.rate,
            version=version(),
            state=lambda: self.generator.state,
            moods=lambda: self.config.idle.mood_names,
            encoders={
                s.name: livelink.Encoder(device_id(s.name, s.device), s.name, config.rate) for s in config.subjects
            },
        )
        self.osc = OscSource(config.osc_in, self.desk) if config.osc_in.enabled else None
        self.capture = CaptureSource(config.capture, self.clock) if config.capture.enabled else None
        self.mqtt = [
            MqttClient(
                config.mqtt,
                name,
                self.desk,
                version=version(),
                state=lambda: self.generator.state,
                clock=self.clock,
            )
            for name in (self.players if config.mqtt.enabled else ())
        ]
        for lane in self._lanes:
            lane.sinks = self._sinks_of(lane.player.subject)
        self._idle: dict[str, Idle] = {}
        self.moods = dict.fromkeys(self.players, config.idle.mood)
        """By subject."""
        self._taken: TakeLayer | None = None
        self._group: asyncio.TaskGroup | None = None
        self._sink_lives: dict[int, asyncio.Task[None]] = {}
        self.reloader = (
            Reloader(Path(source), self.clock, config=lambda: self.config, apply=self.apply)
            if source != DEFAULTS and take is None
            else None
        )
        self._stopping = asyncio.Event()

    def _sinks_of(self, subject: str) -> list[Sink]:
        # The hubs last: to wake the loop gives the GIL away, and the packets would wait until it comes back.
        sinks = [sinks[subject] for _, sinks in self._sinks if subject in sinks]
        return [*sinks, *(client.hub for client in self.mqtt), self.hub]

    def _director(self, subject: str, release_seconds: float) -> Director:
        return Director(
            self.players[subject],
            self.generator,
            self.clock,
            notify=lambda event: self.desk.tell(event),
            dialect=self.config.model.dialect,
            rules=self.config.queue.rules(),
            release_seconds=release_seconds,
            seed=self.config.model.seed,
            speech_rate=self.config.talk.rate,
        )

    @property
    def lost(self) -> int:
        """Frames that sinks could not send or write."""
        lost = sum(sink.lost for sink in _each_once(sinks for _, sinks in self._sinks))
        return lost + self.frame_thread.stats.sink_errors

    def apply(self, config: Config) -> None:
        """Take over new settings, as `reload.applicable` gives them, without losing a frame.

        Raises:
            UserError: a sink cannot be made; nothing has changed then.
        """
        kept = [(sink, sinks) for sink, sinks in self._sinks if sink in config.sinks]
        with _closing_on_error() as opened:
            new: list[tuple[SinkConfig, dict[str, ClosingSink]]] = []
            for sink in config.sinks:
                known = next((sinks for other, sinks in kept if other == sink), None)
                new.append((sink, known or build(sink, config)))
                if known is None:
                    opened += new[-1][1].values()
        idle_changed = config.idle != self.config.idle
        gone = [sinks for sink, sinks in self._sinks if sink not in config.sinks]
        self.config, self._sinks = config, new
        for lane in self._lanes:
            lane.sinks = self._sinks_of(lane.player.subject)
        self._run_sinks()
        # Not before the frame thread has finished the tick in which it may still hold them.
        asyncio.get_running_loop().call_later(0.2, _close_all, gone)
        for subject in config.subjects:
            self.desk.directors[subject.name].use(
                settings(subject, config),
                rules=config.queue.rules(),
                release_seconds=subject.release,
                speech_rate=config.talk.rate,
            )
        if self.capture is not None:
            self.capture.settings = config.capture
        if idle_changed:  # else a mood that was set by message would be lost
            self.moods = dict.fromkeys(self.players, config.idle.mood)
            for number, layer in enumerate(self._idle.values()):
                layer.update(self._idle_settings(number))

    # --- life

    async def run(self) -> None:
        """Run until Ctrl-C, SIGTERM or `stop`; then ease to neutral and leave."""
        sys.setswitchinterval(SWITCH_INTERVAL)
        self.frame_thread.start()  # first of all: frames flow while everything else is still loading
        try:
            await self._serve()
        except* UserError as group:
            raise _first(group) from None
        finally:
            self._close_ports()
            await self.websocket.close()
            self.frame_thread.stop()
            _close_all([sinks for _, sinks in self._sinks])

    def stop(self) -> None:
        """End `run`."""
        self._stopping.set()

    async def _serve(self) -> None:
        async with asyncio.TaskGroup() as group:
            with ending(self.stop):
                tasks = [group.create_task(supervise("the generator", self.generator.run), name="generator")]
                sources = {"the WebSocket": self.websocket, "OSC in": self.osc, "the live capture": self.capture}
                for name, source in sources.items():
                    if source is not None:
                        await source.start()  # a port that is taken ends the program now, and is tried again later on
                        tasks.append(group.create_task(supervise(name, source.run), name=name))
                tasks += [group.create_task(supervise("MQTT", client.run), name="MQTT") for client in self.mqtt]
                self._group = group
                self._run_sinks()
                status = StatusLine(self)
                status.log(start_screen(self))
                await self._warm_up()
                for name, director in self.desk.directors.items():
                    life = supervise(f"the director of {name}", director.run)
                    tasks.append(group.create_task(life, name=f"director {name}"))
                tasks.append(group.create_task(supervise("the status line", status.run), name="status"))
                if self.reloader is not None:
                    tasks.append(group.create_task(supervise("hot reload", self.reloader.run), name="reload"))
                if self._taken is not None:
                    tasks.append(group.create_task(self._end_with(self._taken), name="take"))
                self._read_keyboard(status)
                await self._stopping.wait()
                await self._shut_down()
            status.end()
            for task in (*tasks, *self._sink_lives.values()):
                task.cancel()

    async def _warm_up(self) -> None:
        """Compile the kernels. No collection meanwhile: one of all that is loaded here stops the frames for 0.1 s."""
        gc.disable()
        compiled = await self._unless_stopping(_compiled)
        if compiled is None:
            return
        kernels, idle, talk = compiled
        captured = self.config.capture.subject or next(iter(self.players))
        for number, (name, player) in enumerate(self.players.items()):
            self._idle[name] = idle.Idle(self._idle_settings(number))
            live: LiveFace | None = CaptureLayer(self.capture, kernels) if self.capture and name == captured else None
            if self.take is not None and name == self.take.subject:
                live = self._taken = TakeLayer(self.take, kernels)
            player.use(kernels, idle=self._idle[name], live=live, talk=talk)
        gc.freeze()  # what is loaded by now never goes away; a collection that walked it took 16 to 27 ms
        gc.enable()

    async def _end_with(self, taken: TakeLayer) -> None:
        """End the program when the take has ended."""
        never = asyncio.Event()
        while not taken.ended:
            await self.clock.wait(never, self.clock.now() + 0.05)
        self.stop()

    async def _unless_stopping(self, work: Callable[[], _T]) -> _T | None:
        """The result of `work` in a thread that nobody waits for at the end; None when the program ends before it."""
        loop = asyncio.get_running_loop()
        result: asyncio.Future[_T] = loop.create_future()

        def deliver(value: _T) -> None:
            if not result.done():
                result.set_result(value)

        def run() -> None:
            value = work()
            with suppress(RuntimeError):  # the loop has closed
                loop.call_soon_threadsafe(deliver, value)

        threading.Thread(target=run, name="compiling", daemon=True).start()
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            waited: set[asyncio.Future[object]] = {result, stopping}  # type: ignore[arg-type]  # invariance
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            return result.result() if result.done() else None
        finally:
            stopping.cancel()

    def _set_mood(self, subjects: Sequence[str], mood: str) -> None:
        self.config.idle.mood_named(mood)
        for subject in subjects:
            self.moods[subject] = mood
            if subject in self._idle:  # else it begins with it
                self._idle[subject].set_mood(mood)

    def _idle_settings(self, number: int) -> IdleSettings:
        """Every face has a seed of its own, or all would blink together."""
        idle, mood = self.config.idle, list(self.moods.values())[number]
        return msgspec.structs.replace(idle, seed=(idle.seed + number) % 2**32, mood=mood)

    async def _shut_down(self) -> None:
        """Sources stop, the face eases out, three neutral frames go out."""
        self.desk.close()
        self._close_ports()
        directors = self.desk.directors.values()
        now = self.clock.now()
        for director, player in zip(directors, self.players.values(), strict=True):
            director.stop("the runtime is ending", within=SHUTDOWN_RELEASE)
            player.leave(now)
        never = asyncio.Event()
        await self.clock.wait(never, now + LEAVE_SECONDS)
        while self.clock.now() < now + SHUTDOWN_RELEASE + 0.2 and not all(director.at_rest for director in directors):
            await self.clock.wait(never, self.clock.now() + 0.01)
        stats, now = self.frame_thread.stats, self.clock.now()
        last = stats.frames + _NEUTRAL_FRAMES + 1  # one may be on its way
        while stats.frames < last and self.clock.now() < now + NEUTRAL_SECONDS:
            await self.clock.wait(never, self.clock.now() + self.config.rate.period)
        await asyncio.gather(*(client.close() for client in self.mqtt))
        await self.websocket.close()

    def _run_sinks(self) -> None:
        """Give each sink that lives on the loop a task, and end the tasks of those that are gone."""
        sinks = {id(s): s for s in _each_once(sinks for _, sinks in self._sinks) if isinstance(s, LoopSink)}
        for gone in self._sink_lives.keys() - sinks.keys():
            self._sink_lives.pop(gone).cancel()
        for key, sink in sinks.items():
            if key not in self._sink_lives and self._group is not None:
                life = supervise(sink.name, sink.run)
                self._sink_lives[key] = self._group.create_task(life, name=sink.name)

    def _close_ports(self) -> None:
        for source in (self.osc, self.capture):
            if source is not None:
                source.close()

    # --- the keyboard

    def _read_keyboard(self, status: StatusLine) -> None:
        """On a terminal each typed line is a text to act on. The end of input does not end the program."""
        if not (sys.stdin and sys.stdin.isatty()):
            return
        loop = asyncio.get_running_loop()

        def tell(event: Event) -> None:
            if isinstance(event, Failed):
                status.log(f"{event.id} failed: {event.reason}")

        def act(text: str) -> None:
            status.typed(text)
            message = Say(text=text)
            try:
                check(message)
                self.desk.hand_in(message, tell, source="the keyboard")
            except Refused as refused:
                status.log(str(refused))

        def read() -> None:
            with suppress(RuntimeError, ValueError, OSError):  # the loop or the terminal is closing
                for line in sys.stdin:
                    if line.strip():
                        loop.call_soon_threadsafe(act, line.rstrip("\n"))

        threading.Thread(target=read, name="keyboard", daemon=True).start()


def _compiled() -> tuple[ModuleType, ModuleType, ModuleType]:
    """The modules whose import compiles."""
    return tuple(  # type: ignore[return-value]
        importlib.import_module(f"kff_live.protocols.{name}") for name in ("kernels", "idle.layer", "talk.kernels")
    )


@contextmanager
def _closing_on_error() -> Iterator[list[ClosingSink]]:
    """Closes what was opened when the block fails."""
    opened: list[ClosingSink] = []
    try:
        yield opened
    except BaseException:
        for sink in opened:
            sink.close()
        raise


def _each_once(sinks: Iterable[dict[str, ClosingSink]]) -> list[ClosingSink]:
    """The sinks of all subjects; one may serve several."""
    return list({id(sink): sink for by_subject in sinks for sink in by_subject.values()}.values())


def _close_all(sinks: Iterable[dict[str, ClosingSink]]) -> None:
    for sink in _each_once(sinks):
        sink.close()


def _first(group: BaseExceptionGroup[UserError]) -> UserError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, UserError)
    return error


def run(config: Config, source: str, take: Playback | None = None) -> None:
    """Run until told to stop, or until the take has ended.

    Raises:
        UserError: the settings cannot work here.
    """

    async def main() -> None:
        await App(config, source, take).run()

    run_loop(main())
