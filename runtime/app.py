"""`kff-live run`: joins sources, directors, frame thread and sinks, and owns their life from start to last frame."""

import asyncio
import gc
import importlib
import importlib.metadata
import logging
import signal
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
from kff_live.runtime.frame_thread import FrameThread, Lane, Sink
from kff_live.runtime.models import generator
from kff_live.runtime.osc_source import OscSource
from kff_live.runtime.player import LEAVE_SECONDS, Player
from kff_live.runtime.reload import Reloader
from kff_live.runtime.screen import StatusLine, start_screen
from kff_live.runtime.sinks import ClosingSink, build, device_id
from kff_live.runtime.supervisor import supervise
from kff_live.runtime.websocket import FrameHub, WebSocketServer

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

_NEUTRAL_FRAMES = 3


def version() -> str:
    """The installed version of kff-live."""
    return importlib.metadata.version("kff-live")


class App:
    """A running kff-live.

    Raises:
        UserError: the settings cannot work here.
    """

    def __init__(self, config: Config, source: str) -> None:
        self.config = config
        self.source = source
        self.clock = SystemClock()
        self.hub = FrameHub()
        self.players = {
            s.name: Player(s.name, config.rate, settings=settings(s, config.capture.regions), alive=config.idle.enabled)
            for s in config.subjects
        }
        with _closing_on_error() as opened:
            self._sinks: list[tuple[SinkConfig, dict[str, ClosingSink]]] = []
            for sink in config.sinks:
                self._sinks.append((sink, build(sink, config)))
                opened += self._sinks[-1][1].values()
            self.generator = generator(config.model, on_state=lambda state: self.desk.tell(Model(state)))
        self._lanes = [Lane(player, self._sinks_of(name)) for name, player in self.players.items()]
        self.frame_thread = FrameThread(self.clock, config.rate, self._lanes, start_seconds=seconds_of_day())
        self.desk = Desk({s.name: self._director(s.name, s.release) for s in config.subjects})
        self.desk.set_mood = self._set_mood
        self.websocket = WebSocketServer(
            config.websocket,
            self.desk,
            self.hub,
            rate=config.rate,
            version=version(),
            state=lambda: self.generator.state,
            encoders={
                s.name: livelink.Encoder(device_id(s.name, s.device), s.name, config.rate) for s in config.subjects
            },
        )
        self.osc = OscSource(config.osc_in, self.desk) if config.osc_in.enabled else None
        self.capture = CaptureSource(config.capture, self.clock) if config.capture.enabled else None
        self._idle: dict[str, Idle] = {}
        self.reloader = (
            Reloader(Path(source), self.clock, config=lambda: self.config, apply=self.apply)
            if source != DEFAULTS
            else None
        )
        self._stopping = asyncio.Event()

    def _sinks_of(self, subject: str) -> list[Sink]:
        # The hub last: to wake the loop gives the GIL away, and the packets would wait until it comes back.
        return [*(sinks[subject] for _, sinks in self._sinks if subject in sinks), self.hub]

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
        # Not before the frame thread has finished the tick in which it may still hold them.
        asyncio.get_running_loop().call_later(0.2, _close_all, gone)
        for subject in config.subjects:
            self.desk.directors[subject.name].use(
                settings(subject, config.capture.regions),
                rules=config.queue.rules(),
                release_seconds=subject.release,
            )
        if idle_changed:  # else a mood that was set by message would be lost
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
            self.frame_thread.stop()
            _close_all([sinks for _, sinks in self._sinks])

    def stop(self) -> None:
        """End `run`."""
        self._stopping.set()

    async def _serve(self) -> None:
        async with asyncio.TaskGroup() as group:
            with self._signals():
                tasks = [group.create_task(supervise("the generator", self.generator.run), name="generator")]
                await self.websocket.start()
                if self.osc is not None:
                    await self.osc.start()
                if self.capture is not None:
                    await self.capture.start()
                status = StatusLine(self)
                status.log(start_screen(self))
                await self._warm_up()
                for name, director in self.desk.directors.items():
                    life = supervise(f"the director of {name}", director.run)
                    tasks.append(group.create_task(life, name=f"director {name}"))
                tasks.append(group.create_task(supervise("the status line", status.run), name="status"))
                if self.reloader is not None:
                    tasks.append(group.create_task(supervise("hot reload", self.reloader.run), name="reload"))
                self._read_keyboard(status)
                await self._stopping.wait()
                await self._shut_down()
            status.end()
            for task in tasks:
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
            live = CaptureLayer(self.capture, kernels) if self.capture and name == captured else None
            player.use(kernels, idle=self._idle[name], live=live, talk=talk)
        gc.freeze()  # what is loaded by now never goes away; a collection that walked it took 16 to 27 ms
        gc.enable()

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
        for subject in subjects:
            if subject in self._idle:
                self._idle[subject].set_mood(mood)

    def _idle_settings(self, number: int) -> IdleSettings:
        """Every face has a seed of its own, or all would blink together."""
        idle = self.config.idle
        return msgspec.structs.replace(idle, seed=(idle.seed + number) % 2**32)

    async def _shut_down(self) -> None:
        """Sources stop, the face eases out, three neutral frames go out."""
        self.desk.close()
        if self.osc is not None:
            self.osc.close()
        if self.capture is not None:
            self.capture.close()
        directors = self.desk.directors.values()
        now = self.clock.now()
        for director, player in zip(directors, self.players.values(), strict=True):
            director.stop("the runtime is ending", within=SHUTDOWN_RELEASE)
            player.leave(now)
        never = asyncio.Event()
        await self.clock.wait(never, now + LEAVE_SECONDS)
        while self.clock.now() < now + SHUTDOWN_RELEASE + 0.2 and not all(director.at_rest for director in directors):
            await self.clock.wait(never, self.clock.now() + 0.01)
        await self.clock.wait(never, self.clock.now() + (_NEUTRAL_FRAMES + 1) * self.config.rate.period)
        await self.websocket.close()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGINT, signal.SIGTERM)
        previous = {number: signal.getsignal(number) for number in numbers}
        for number in numbers:
            try:
                loop.add_signal_handler(number, self.stop)
            except NotImplementedError:  # Windows
                signal.signal(number, lambda *_: loop.call_soon_threadsafe(self.stop))
        try:
            yield
        finally:
            for number in numbers:
                with suppress(NotImplementedError):
                    loop.remove_signal_handler(number)
                signal.signal(number, previous[number])

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


def run(config: Config, source: str) -> None:
    """Run until told to stop.

    Raises:
        UserError: the settings cannot work here.
    """
    # aiomqtt needs the selector loop on Windows; it is the one to have everywhere else already.
    factory = asyncio.SelectorEventLoop if sys.platform == "win32" else None

    async def main() -> None:
        await App(config, source).run()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
