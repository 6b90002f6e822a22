"""MQTT: texts come through a broker, events and frames leave through it, one connection a subject for its last will."""

import asyncio
import itertools
import logging
import os
import ssl
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any

import aiomqtt
import aiomqtt.exceptions
import msgspec
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from kff_live.protocols import messages
from kff_live.protocols.errors import UserError
from kff_live.protocols.frames import Frame, FrameRate, Thinning
from kff_live.protocols.messages import Error, Event, FrameMessage, Model, Refused, Stop
from kff_live.protocols.mqtt import Presence, Topics, decode_presence
from kff_live.runtime.clock import Clock
from kff_live.runtime.config import Mqtt
from kff_live.runtime.desk import Desk
from kff_live.runtime.frame_hub import FrameHub
from kff_live.runtime.link import Lost, first_of, heed_cancel, keep_connected
from kff_live.runtime.model.generator import ModelState
from kff_live.runtime.websocket import MAX_EVENTS, MAX_FRAME

_log = logging.getLogger(__name__)

KEEP_ALIVE = 15
"""Seconds; a broker that hears nothing for one and a half times as long publishes the last will."""

CONNECT_SECONDS = 2.0
"""How long a host that does not answer is waited for; the end of the program waits for the thread that does so."""

MAX_FRAMES = 12
"""Frames that wait at most for the broker; of more the oldest are left out."""

CLOSE_SECONDS = 1.0
"""How long the last events may take to leave when the program ends."""

_HEADERS = 1 << 16
_BAD_USER, _NOT_ALLOWED, _BAD_VERSION = 134, 135, 132
_REFUSED = 128


class MqttClient:
    """Serves one subject.

    Args:
        state: the model's, for `status`.
    """

    def __init__(
        self, settings: Mqtt, subject: str, desk: Desk, *, version: str, state: Callable[[], ModelState], clock: Clock
    ) -> None:
        self.hub = FrameHub()
        """Gets the frames; only while they are wanted it costs anything."""
        self._settings = settings
        self._subject = subject
        self._desk = desk
        self._version = version
        self._state = state
        self._clock = clock
        self._topics = Topics(settings.topic, subject, settings.group)
        self._tls: ssl.SSLContext | None = None
        self._id = f"kff-live-{uuid.uuid4().hex[:12]}"
        self._numbers = itertools.count(1)
        self._outbox: deque[str] = deque()
        self._announced = False
        self._something = asyncio.Event()
        self._frames: deque[Frame] = deque(maxlen=MAX_FRAMES)
        self._fresh = asyncio.Event()
        self._closing = False
        self._connected = False
        self._ended = asyncio.Event()
        self._overrun = False
        desk.listeners.append(self._hear)

    # --- life

    async def run(self) -> None:
        """Serve until cancelled or closed.

        Raises:
            UserError: the file of the certificate authority cannot be read.
        """
        self._tls = _tls_context(self._settings)
        self.hub.attach(asyncio.get_running_loop(), self._take)
        try:
            await keep_connected(f"MQTT ({self._subject})", self._session, self._clock)
        finally:
            self._ended.set()

    async def close(self) -> None:
        """Publish what is left, say that we leave, and disconnect."""
        self._desk.listeners.remove(self._hear)
        self._closing = True
        self._something.set()
        if self._connected:
            await self._clock.wait(self._ended, self._clock.now() + CLOSE_SECONDS)

    async def _session(self, connected: Callable[[], None]) -> None:
        inbox: asyncio.Queue[aiomqtt.Message] = asyncio.Queue()
        limit = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        limit.MaximumPacketSize = MAX_FRAME + _HEADERS
        will = aiomqtt.Will(self._topics.status, _json(Presence(online=False, client=self._id)), qos=1, retain=True)
        try:
            async with _client(
                self._settings,
                self._tls,
                identifier=self._id,
                will=will,
                keepalive=KEEP_ALIVE,
                clean_start=True,
                properties=limit,
                queue_type=lambda maxsize: inbox,  # ours, to find in it what a loss leaves
            ) as client:
                heed_cancel()
                await self._subscribe(client)
                self._announced = False
                self._connected = True
                self.hub.wanted = self._settings.frames > 0
                connected()
                try:
                    await first_of(
                        texts=self._read(client), events=self._write(client), frames=self._write_frames(client)
                    )
                except asyncio.CancelledError:  # aiomqtt takes leave, and then the broker keeps the last will back
                    await self._announce(client, Presence(online=False, client=self._id))
                    raise
        except aiomqtt.MqttError as error:
            raise _lost(self._settings, error) from None
        finally:
            self._connected = self.hub.wanted = False
            while not inbox.empty():  # what the broker has handed over is ours, though the connection is lost
                self._handle(inbox.get_nowait())

    async def _subscribe(self, client: aiomqtt.Client) -> None:
        # What was retained is of yesterday: nobody wants to see it acted whenever the connection is made.
        for topic in (self._topics.say_filter, self._topics.stop, self._topics.status):
            options = SubscribeOptions(
                qos=1,
                noLocal=topic == self._topics.status,  # of a shared subscription the broker would not take it
                retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND,
            )
            for code in await client.subscribe(topic, options=options):
                if getattr(code, "value", code) >= _REFUSED:
                    raise Lost(f"the broker refuses the subscription to {topic}: {code}")
            heed_cancel()

    # --- in

    async def _read(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            self._handle(message)

    def _handle(self, message: aiomqtt.Message) -> None:
        payload = message.payload if isinstance(message.payload, bytes) else b""
        topic = message.topic.value
        if topic == self._topics.status:
            other = decode_presence(payload)
            if other is not None and not other.online and other.client != self._id:
                self._announced = False  # another runtime of this subject has left, we have not
                self._something.set()
            return
        try:
            if topic == self._topics.stop:
                self._desk.hand_in(Stop(subject=self._subject), lambda event: None, source="MQTT")
            else:
                self._say(payload)
        except Refused as refused:
            self._put(refused.error)

    def _say(self, payload: bytes) -> None:
        if len(payload) > MAX_FRAME:
            raise Refused("too-long", f"{len(payload)} bytes, at most {MAX_FRAME}", field="text")
        message = messages.decode_say(payload)
        if message.subject not in (None, self._subject):
            raise Refused(
                "bad-field", f"subject: {message.subject!r} is not that of the topic", field="subject", id=message.id
            )
        message.subject = self._subject
        if message.id is None:  # several runtimes publish to one topic: none may give an id that another gives too
            message.id = f"{self._id}-{next(self._numbers)}"
        self._desk.hand_in(message, lambda event: None, source="MQTT")

    # --- out

    def _hear(self, event: Event) -> None:
        if isinstance(event, Model):
            self._announced = False
            self._put(event)
        elif event.subject == self._subject:
            self._put(event)

    def _put(self, message: Event | Error) -> None:
        """Keep an event until the broker has it."""
        if len(self._outbox) >= MAX_EVENTS:
            self._outbox.popleft()
            if not self._overrun:
                self._overrun = True
                _log.warning("MQTT (%s): over %d events wait, the oldest are lost", self._subject, MAX_EVENTS)
        self._outbox.append(messages.encode(message))
        self._something.set()

    async def _write(self, client: aiomqtt.Client) -> None:
        while True:
            self._something.clear()
            if not self._announced:
                self._announced = True
                await self._announce(client, Presence(True, self._id, self._version, self._state()))
            while self._outbox:
                event = self._outbox[0]
                await client.publish(self._topics.event, event, qos=1)
                if self._outbox and self._outbox[0] is event:
                    self._outbox.popleft()
                heed_cancel()
            self._overrun = False
            if self._closing:
                await self._announce(client, Presence(online=False, client=self._id))
                return
            await self._something.wait()

    async def _announce(self, client: aiomqtt.Client, presence: Presence) -> None:
        await client.publish(self._topics.status, _json(presence), qos=1, retain=True)
        heed_cancel()

    def _take(self, frames: list[Frame]) -> None:
        self._frames += (frame for frame in frames if frame.subject == self._subject)
        self._fresh.set()

    async def _write_frames(self, client: aiomqtt.Client) -> None:
        """Publish so many frames a second."""
        if not self._settings.frames:
            await asyncio.Event().wait()
        thinning = Thinning(FrameRate.parse(self._settings.frames))
        self._frames.clear()  # what another connection has left
        while True:
            await self._fresh.wait()
            self._fresh.clear()
            while self._frames:
                frame = self._frames.popleft()
                if thinning.picks(frame):
                    await client.publish(self._topics.frame, messages.encode(FrameMessage.of(frame)))
                    heed_cancel()


async def reach(settings: Mqtt) -> None:
    """Connect to the broker as a runtime does, and leave again.

    Raises:
        Lost: it does not answer, or refuses us; the message says why.
        UserError: as `MqttClient.run`.
    """
    try:
        async with _client(settings, _tls_context(settings)):
            pass
    except aiomqtt.MqttError as error:
        raise _lost(settings, error) from None


def _client(settings: Mqtt, tls: ssl.SSLContext | None, **more: Any) -> aiomqtt.Client:
    client = aiomqtt.Client(
        settings.host,
        settings.port,
        username=settings.user or None,
        password=os.environ.get(settings.password_variable) if settings.user else None,
        protocol=aiomqtt.ProtocolVersion.V5,
        tls_context=tls,
        **more,
    )
    client._client.connect_timeout = CONNECT_SECONDS  # paho's, which aiomqtt does not pass on
    return client


def _lost(settings: Mqtt, error: aiomqtt.MqttError) -> Lost:
    where = f"the broker at {settings.host}:{settings.port}"
    if not isinstance(error, aiomqtt.exceptions.MqttConnectError):
        return Lost(f"{where} does not answer: {error}", about="away")
    code = getattr(error.rc, "value", error.rc)
    hint = ""
    if code in (_BAD_USER, _NOT_ALLOWED):
        variable = settings.password_variable
        there = "" if os.environ.get(variable) else ", which is not set"
        hint = f"; the user is mqtt.user, the password is read from the variable {variable}{there}"
    elif code == _BAD_VERSION:
        hint = "; it must speak MQTT 5"
    return Lost(f"{where} refuses us: {error.rc}{hint}", about=f"refused {code}")


def _json(message: msgspec.Struct) -> bytes:
    return msgspec.json.encode(message)


def _tls_context(settings: Mqtt) -> ssl.SSLContext | None:
    if not settings.tls:
        return None
    try:
        return ssl.create_default_context(cafile=settings.ca or None)
    except OSError as error:
        raise UserError(f"mqtt.ca: {settings.ca}: cannot be used: {error.strerror or error}") from None
