"""The WebSocket server: texts and keyframes in, events and frames out (docs/websocket.md), the page beside it."""

import asyncio
import hmac
import http
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from kff_live.protocols import messages
from kff_live.protocols.channels import CHANNELS
from kff_live.protocols.errors import UserError
from kff_live.protocols.frames import Frame, FrameRate
from kff_live.protocols.messages import Error, Event, Refused, Subscribe
from kff_live.runtime import page_server
from kff_live.runtime.config import WebSocket, is_loopback
from kff_live.runtime.desk import Desk
from kff_live.runtime.frame_hub import FrameHub, keep
from kff_live.runtime.model.generator import ModelState
from kff_live.runtime.sinks.udp import Encoder

_log = logging.getLogger(__name__)

MAX_FRAME = 1 << 20
"""Bytes of one WebSocket message; a longer one closes the connection with 1009."""

MAX_EVENTS = 1000
"""Events a client may be behind; one that does not read them is disconnected, the others notice nothing."""

MAX_HEADERS_SECONDS = 10.0
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


class _Client:
    """One connection: what it subscribed to, what waits to be sent to it."""

    def __init__(self, connection: ServerConnection) -> None:
        self.connection = connection
        self.name = f"WebSocket {connection.id}"
        self.subscription = Subscribe()
        self._events: deque[str] = deque()
        self._frames: dict[str, deque[str | bytes]] = {}
        self._slow = False
        self._something = asyncio.Event()
        self._overrun = asyncio.Event()

    def put_event(self, message: messages.Error | messages.Welcome | messages.Status | Event) -> None:
        if len(self._events) >= MAX_EVENTS:
            self._overrun.set()
        else:
            self._events.append(messages.encode(message))
        self._something.set()

    def put_frame(self, subject: str, data: str | bytes) -> None:
        """Newest wins while the client is slow."""
        keep(self._frames.setdefault(subject, deque()), data, slow=self._slow)
        self._something.set()

    async def write(self) -> None:
        """Send what waits until the connection ends; only this task waits for a slow client."""
        while True:
            await self._something.wait()
            self._something.clear()
            while self._events:
                await self._send(self._events.popleft())
            waiting, self._frames = self._frames, {}
            for frames in waiting.values():
                for data in frames:
                    await self._send(data)

    async def _send(self, data: str | bytes) -> None:
        self._slow = True  # whoever sees this does so while we wait
        await self.connection.send(data)
        self._slow = False

    async def guard(self) -> None:
        """End the connection of a client that does not read its events."""
        await self._overrun.wait()
        self.connection.transport.abort()


class WebSocketServer:
    """Serves the desk.

    Args:
        encoders: by subject, for clients that want frames as Live Link packets.
        state: the model's state, for `welcome`.
        moods: the names of the moods, for `welcome`.
    """

    def __init__(
        self,
        settings: WebSocket,
        desk: Desk,
        hub: FrameHub,
        *,
        rate: FrameRate,
        version: str,
        state: Callable[[], ModelState],
        moods: Callable[[], list[str]],
        encoders: Mapping[str, Encoder],
    ) -> None:
        self._settings = settings
        self._desk = desk
        self._hub = hub
        self._rate = rate
        self._version = version
        self._state = state
        self._moods = moods
        self._encoders = encoders
        self._clients: set[_Client] = set()
        self._server: Server | None = None
        self._ended = asyncio.Event()
        self._error: Exception | None = None

    @property
    def url(self) -> str:
        """Where clients connect."""
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        return f"ws://{host}:{self._settings.port}"

    async def start(self) -> None:
        """Bind the port.

        Raises:
            UserError: the port is in use, or the address is not this machine's.
        """
        try:
            await self._listen()
        except OSError as error:
            where = f"websocket.port: {self._settings.host} port {self._settings.port}"
            raise UserError(
                f"{where} cannot be used ({error.strerror or error}); is another kff-live running? "
                "Else choose another port in config.toml"
            ) from None

    async def run(self) -> None:
        """Serve until `close`; run again after an error, it binds the port again.

        Raises:
            Exception: what sending frames or events raised.
        """
        if self._server is None:
            await self._listen()
        try:
            await self._ended.wait()
        finally:
            await self.close()
        if self._error is not None:
            raise self._error

    async def close(self) -> None:
        """Close every connection."""
        self._ended.set()
        server, self._server = self._server, None
        if server is not None:
            self._desk.listeners.remove(self._tell_all)
            server.close()
            with suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await server.wait_closed()

    async def _listen(self) -> None:
        self._server = await serve(
            self._serve_client,
            self._settings.host,
            self._settings.port,
            process_request=self._check_request,
            compression=None,
            max_size=MAX_FRAME,
            open_timeout=MAX_HEADERS_SECONDS,
        )
        self._ended.clear()
        self._error = None
        self._hub.attach(asyncio.get_running_loop(), self._send_frames)
        self._desk.listeners.append(self._tell_all)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """An error in what is sent ends `run`, and reaches nobody who tells or hands in something."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is, `run` hands it to the supervisor
            if not self._ended.is_set():
                self._error = error
                self._ended.set()

    # --- who may connect

    def _check_request(self, connection: ServerConnection, request: Request) -> Response | None:
        """Refuse foreign pages, rebound names, missing tokens and too many clients, before the handshake."""
        if len(self._clients) >= self._settings.clients:
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "too many clients\n")
        if not self._host_allowed(request.headers.get("Host", "")):
            return connection.respond(http.HTTPStatus.FORBIDDEN, "this Host is not served\n")
        origin = request.headers.get("Origin")
        if origin is not None and not self._origin_allowed(origin):
            return connection.respond(
                http.HTTPStatus.FORBIDDEN, f"Origin {origin!r} is not in websocket.origins of config.toml\n"
            )
        if self._settings.token and not self._has_token(request):
            return connection.respond(http.HTTPStatus.UNAUTHORIZED, "the token is missing or wrong\n")
        if page_server.is_page_request(request):
            return page_server.answer(request, token=self._settings.token)
        return None

    def _host_allowed(self, host: str) -> bool:
        # Beyond loopback the token protects; on loopback a page could have rebound its own name to 127.0.0.1.
        if not is_loopback(self._settings.host):
            return True
        name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        return name in (*_LOOPBACK_NAMES, self._settings.host)

    def _origin_allowed(self, origin: str) -> bool:
        own = {f"http://{name}:{self._settings.port}" for name in (*_LOOPBACK_NAMES, self._settings.host)}
        return origin in own or origin in self._settings.origins

    def _has_token(self, request: Request) -> bool:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            given = parse_qs(urlsplit(request.path).query).get("token", [""])[0]
        return hmac.compare_digest(given.encode(), self._settings.token.encode())

    # --- one client

    async def _serve_client(self, connection: ServerConnection) -> None:
        client = _Client(connection)
        self._clients.add(client)
        client.put_event(self._welcome())
        side = [
            asyncio.create_task(client.write(), name="websocket writer"),
            asyncio.create_task(client.guard(), name="websocket guard"),
        ]
        try:
            async for data in connection:
                error = self._handle(client, data)
                if error is not None:
                    client.put_event(error)
                await asyncio.sleep(0)  # many messages in one packet: the writer and the other clients get their turn
        except ConnectionClosed:
            pass  # what the client has sent goes on without it
        finally:
            self._clients.discard(client)
            self._update_wanted()
            for task in side:
                task.cancel()
            await asyncio.gather(*side, return_exceptions=True)

    def _handle(self, client: _Client, data: str | bytes) -> Error | None:
        try:
            message = messages.decode_text(data) if isinstance(data, str) else messages.decode(data)
            if not isinstance(message, Subscribe):
                self._desk.hand_in(message, lambda event: self._tell(client, event), source=client.name)
                return None
            for name in message.subjects or []:
                if name not in self._desk.directors:
                    raise Refused("unknown-subject", f"subjects: {name!r} is not known", field="subjects")
        except Refused as refused:
            return refused.error
        client.subscription = message
        self._update_wanted()
        return None

    def _welcome(self) -> messages.Welcome:
        return messages.Welcome(
            version=messages.VERSION,
            runtime=self._version,
            subjects=list(self._desk.directors),
            fps=round(self._rate.hz, 3),
            rate=str(self._rate),
            model=self._state(),
            channels=[messages.Channel(c.name, c.unit, c.low, c.high) for c in CHANNELS],
            moods=self._moods(),
        )

    # --- events and frames out

    def _tell(self, client: _Client, event: Event) -> None:
        if client.subscription.events == "own":
            with self._failing():
                client.put_event(event)

    def _tell_all(self, event: Event) -> None:
        with self._failing():
            for client in self._clients:
                if client.subscription.events == "all" or isinstance(event, messages.Model):
                    client.put_event(event)

    def tell_status(self, status: messages.Status) -> None:
        """Send how the runtime does to those who hear all events."""
        with self._failing():
            for client in self._clients:
                if client.subscription.events == "all":
                    client.put_event(status)

    def _update_wanted(self) -> None:
        self._hub.wanted = any(client.subscription.frames for client in self._clients)

    def _send_frames(self, frames: list[Frame]) -> None:
        """Encode each frame at most once a form, for however many clients."""
        with self._failing():
            for frame in frames:
                encoded: dict[str, str | bytes] = {}
                for client in self._clients:
                    wish = client.subscription
                    if wish.frames and (wish.subjects is None or frame.subject in wish.subjects):
                        if wish.format not in encoded:
                            encoded[wish.format] = self._encode(frame, wish.format)
                        client.put_frame(frame.subject, encoded[wish.format])

    def _encode(self, frame: Frame, form: str) -> str | bytes:
        if form == "livelink":
            return self._encoders[frame.subject].encode(frame)
        return messages.encode(messages.FrameMessage.of(frame))
