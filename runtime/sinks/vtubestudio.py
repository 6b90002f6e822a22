"""The sink for VTube Studio: gets the user's leave, makes the parameters, and sets them at every frame."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import platformdirs
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from kff_live.protocols import vtubestudio, vtubestudio_parameters
from kff_live.protocols.channels import LIVELINK, Pose, neutral
from kff_live.protocols.errors import DecodeError
from kff_live.protocols.frames import Frame
from kff_live.protocols.messages import Event, FinalEvent, KeyframeEvent
from kff_live.protocols.vtubestudio import Refusal
from kff_live.protocols.vtubestudio_parameters import Parameter
from kff_live.runtime.clock import Clock
from kff_live.runtime.config import VTubeStudio, parse_target, sink_gain
from kff_live.runtime.frame_hub import FrameHub, keep
from kff_live.runtime.link import Lost, first_of, keep_connected
from kff_live.runtime.sinks.vtubestudio_api import ANSWER_SECONDS, Api
from kff_live.runtime.sinks.vtubestudio_finding import LOCAL, Heard, Tokens, default_port, hear

_log = logging.getLogger(__name__)

KEEP_ALIVE = 0.5
"""Seconds after which a face that does not move is sent again; after one second VTube Studio takes a parameter back."""

MAX_UNANSWERED = 60
"""Requests that may wait for their answers; a VTube Studio that is further behind gets no frames for a while."""

CLICK_SECONDS = 600.0
"""How long the user may think about it."""

MAKE_SECONDS = 60.0
"""How long the parameters may take, all 61 of which are asked for at once."""

_API_OFF = "it is running, but " + vtubestudio.MESSAGES[1]
_RENEW = (vtubestudio.NOT_ALLOWED, vtubestudio.DENIED, vtubestudio.UNKNOWN_PARAMETER)
"""Refusals after which the connection is made anew, since leave or parameters are gone."""


class _Denied(Exception):
    """The user does not want us."""


class VTubeStudioSink:
    """Sets the parameters of one VTube Studio.

    Args:
        folder: where the token is kept; the user's data folder where it is left out.
    """

    name = "VTube Studio"

    def __init__(self, settings: VTubeStudio, clock: Clock, *, folder: Path | None = None) -> None:
        self.lost = 0
        self._settings = settings
        self._clock = clock
        self._tokens = Tokens(folder or Path(platformdirs.user_data_dir("kff-live")))
        sent = [name for name, gain in zip(LIVELINK, sink_gain(settings), strict=True) if gain]
        self._own = vtubestudio_parameters.own_parameters(settings.prefix, sent)
        self._defaults = (
            vtubestudio_parameters.default_parameters(settings.eyes_open, sent) if settings.defaults else []
        )
        self._hub = FrameHub()
        self._frames: deque[Frame] = deque()
        self._slow = True
        self._last: Frame | None = None
        self._fresh = asyncio.Event()
        self._labels: dict[tuple[str, int], str] = {}
        self._at: tuple[str | None, int] = (None, -1)
        self._label = ""
        self._expression: str | None = None
        self._asked = False

    # --- what comes in

    def send(self, frame: Frame) -> None:
        """Hand a frame over."""
        self._hub.send(frame)

    def event(self, subject: str, event: Event) -> None:
        """Remember the labels of keyframes until their text has ended."""
        if isinstance(event, KeyframeEvent):
            self._labels[event.id, event.index] = event.keyframe.label
        elif isinstance(event, FinalEvent):
            self._labels = {key: label for key, label in self._labels.items() if key[0] != event.id}

    def close(self) -> None:
        """Nothing is held; the connection ends with `run`."""

    def _take(self, frames: list[Frame]) -> None:
        for frame in frames:
            keep(self._frames, frame, slow=self._slow)
        self._fresh.set()

    # --- the connection

    async def run(self) -> None:
        """Serve until cancelled, or until the user says no."""
        self._hub.attach(asyncio.get_running_loop(), self._take)
        try:
            await keep_connected(self.name, self._session, self._clock)
        except _Denied:
            _log.warning(
                "VTube Studio: its user has not allowed kff-live, so it is left alone; "
                "start kff-live again, or change this sink in config.toml, to be asked once more"
            )

    async def _session(self, connected: Callable[[], None]) -> None:
        host, port, hint = await self._where()
        shown = f"[{host}]" if ":" in host else host
        try:
            connection = await connect(
                f"ws://{shown}:{port}", compression=None, proxy=None, open_timeout=ANSWER_SECONDS, close_timeout=1.0
            )
        except (OSError, UnicodeError, WebSocketException):
            raise Lost(
                f"it does not answer at {shown}:{port}{hint}; is it running, with 'Start API (allow plugins)' on?",
                about="away",
            ) from None
        async with connection:
            await self._converse(connection, host, connected)

    async def _where(self) -> tuple[str, int, str]:
        """Host, port, and what else was heard."""
        if self._settings.target:
            return *parse_target(self._settings.target, where="target"), ""
        heard: Heard = await hear(self._clock)
        if heard.here is not None and not heard.here.active:
            raise Lost(_API_OFF)
        hint = f" (one was heard at {heard.elsewhere}: name it as target to use it)" if heard.elsewhere else ""
        return LOCAL, default_port(heard), hint

    async def _converse(self, connection: ClientConnection, host: str, connected: Callable[[], None]) -> None:
        told: set[int] = set()

        def refused(refusal: Refusal) -> None:
            if refusal.id in _RENEW:
                raise Lost(str(refusal), about=str(refusal.id))
            if refusal.id not in told:
                told.add(refusal.id)
                _log.warning("VTube Studio: %s", refusal)

        api = Api(connection, refused=refused)
        try:
            await first_of(answers=api.read(), frames=self._serve(api, host, connected))
        except ConnectionClosed:
            raise Lost("it has closed the connection", about="away") from None
        finally:
            self._hub.wanted = False
            with suppress(ConnectionClosed):
                await self._show(api, None)

    async def _serve(self, api: Api, host: str, connected: Callable[[], None]) -> None:
        try:
            await self._authenticate(api, host)
            parameters = await self._parameters(api)
        except Refusal as refusal:
            raise Lost(str(refusal), about=str(refusal.id)) from None
        except DecodeError as error:
            raise Lost(str(error)) from None
        connected()
        self._hub.wanted = True
        await self._inject(
            api,
            vtubestudio_parameters.Encoder(parameters, mode=self._settings.mode, weight=self._settings.weight),
        )

    async def _authenticate(self, api: Api, host: str) -> None:
        """Show the token; where there is none, or it is not valid any more, ask the user for one, once."""
        token = self._tokens.get(host)
        if token and await self._accepts(api, token):
            return
        if not self._asked:
            self._asked = True
            _log.warning("VTube Studio asks its user whether kff-live may control it: click Allow there")
        try:
            answer = await api.ask("AuthenticationToken", vtubestudio.plugin(), within=CLICK_SECONDS)
        except Refusal as refusal:
            if refusal.id == vtubestudio.DENIED:
                self._tokens.put(host, "")
                raise _Denied from None
            raise
        token = str(answer.get("authenticationToken", ""))
        self._tokens.put(host, token)
        if not await self._accepts(api, token):
            raise Lost("it does not accept the token that it has just given")

    @staticmethod
    async def _accepts(api: Api, token: str) -> bool:
        try:
            answer = await api.ask("Authentication", vtubestudio.plugin(token))
        except Refusal as refusal:
            if refusal.id == vtubestudio.DENIED:
                return False
            raise
        return answer.get("authenticated") is True

    async def _parameters(self, api: Api) -> Sequence[Parameter]:
        """Make ours, each answer awaited: one unknown name and VTube Studio takes no frame at all. Then add its own."""
        refusals: dict[int, Refusal] = {}

        async def create(parameter: Parameter) -> bool:
            try:
                await api.ask("ParameterCreation", vtubestudio_parameters.creation(parameter), within=MAKE_SECONDS)
            except Refusal as refusal:
                refusals[refusal.id] = refusal
                return False
            return True

        made = await asyncio.gather(*map(create, self._own))
        for refusal in refusals.values():
            _log.warning("VTube Studio: %d of our parameters are missing: %s", made.count(False), refusal)
        known = vtubestudio.default_names(await api.ask("InputParameterList"))
        parameters = [parameter for parameter, there in zip(self._own, made, strict=True) if there]
        parameters += [parameter for parameter in self._defaults if parameter.name in known]
        if not parameters:
            raise Lost("there is no parameter that could be set", about="parameters")
        return parameters

    # --- frames

    async def _inject(self, api: Api, encoder: vtubestudio_parameters.Encoder) -> None:
        """Send the frames that come; one that does not differ only to keep alive."""
        pose: Pose = neutral()
        again: float | None = None
        await self._show(api, None)  # what an earlier connection has left
        await self._show(api, vtubestudio.match(self._label, self._settings.expressions))
        while True:
            if not self._frames:
                self._fresh.clear()
                self._slow = False
                try:
                    await self._clock.wait(self._fresh, again)
                finally:
                    self._slow = True  # also where the connection is lost, until there is another
            if self._frames:
                self._last = self._frames.popleft()
            frame = self._last
            if frame is None:
                continue
            await self._act_label(api, frame)
            now = self._clock.now()
            if again is not None and now < again and np.array_equal(frame.pose, pose):
                continue
            again = now + KEEP_ALIVE
            if api.unanswered >= MAX_UNANSWERED:
                self.lost += 1
                continue
            pose = frame.pose
            await api.tell_encoded(partial(encoder.encode, pose))

    async def _act_label(self, api: Api, frame: Frame) -> None:
        """Where the face sets out for another keyframe, show its expression and press its hotkey."""
        at = (frame.utterance, frame.key)
        if at == self._at:
            return
        self._at = at
        self._label = self._labels.get((frame.utterance or "", frame.key), "")
        await self._show(api, vtubestudio.match(self._label, self._settings.expressions))
        hotkey = vtubestudio.match(self._label, self._settings.hotkeys)
        if hotkey is not None:
            await api.tell("HotkeyTrigger", {"hotkeyID": hotkey})

    async def _show(self, api: Api, file: str | None) -> None:
        """Show this expression instead of the one that is shown."""
        if self._expression == file:
            return
        if self._expression is not None:
            await api.tell("ExpressionActivation", {"expressionFile": self._expression, "active": False})
        if file is not None:
            data = {"expressionFile": file, "fadeTime": self._settings.fade, "active": True}
            await api.tell("ExpressionActivation", data)
        self._expression = file
