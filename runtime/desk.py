"""The desk: gives each incoming message to the director it is for, and every event to whoever listens."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

from kff_live.protocols.messages import Event, Keyframes, Model, Mood, Refused, Say, Stop, Sync
from kff_live.runtime.director import Director
from kff_live.runtime.frame_thread import EventSink, Sink
from kff_live.runtime.utterance import Notify

_log = logging.getLogger(__name__)


class Desk:
    """Where sources hand in messages. `listeners` get every event of every subject."""

    def __init__(self, directors: Mapping[str, Director]) -> None:
        self.directors = dict(directors)
        self.listeners: list[Callable[[Event], None]] = []
        self.set_mood: Callable[[Sequence[str], str], None] = lambda subjects, mood: None
        """Sets the idle layer's mood; ValueError for one that it does not know."""
        self.sinks_of: Callable[[str], Iterable[Sink]] = lambda subject: ()
        """The sinks of a subject as they are now; those that take events get its events."""
        self._closed = False
        self._reported: set[int] = set()

    def tell(self, event: Event) -> None:
        """Give an event to all listeners, and to the sinks that take events."""
        for listener in list(self.listeners):
            listener(event)
        subject = "" if isinstance(event, Model) else event.subject
        subjects = [subject] if subject else self.directors
        sinks = {id(sink): sink for name in subjects for sink in self.sinks_of(name) if isinstance(sink, EventSink)}
        for sink in sinks.values():
            try:
                sink.event(subject, event)
            except Exception as error:  # noqa: BLE001 - one sink's bug must not silence the others
                if id(sink) not in self._reported:
                    self._reported.add(id(sink))
                    _log.error("%s cannot take events: %r", type(sink).__name__, error)

    def close(self) -> None:
        """Accept nothing more."""
        self._closed = True

    def hand_in(self, message: Say | Keyframes | Stop | Mood | Sync, notify: Notify, *, source: str) -> None:
        """Act on a message from `source`; its events go to `notify`.

        Raises:
            Refused: it is not accepted; carries the `error` to answer.
        """
        if isinstance(message, Stop):
            for director in [self._director(message.subject)] if message.subject else self.directors.values():
                director.stop()
            return
        if isinstance(message, Sync):
            if not any(director.sync(message) for director in self.directors.values()):
                raise Refused("unknown-id", f"id: no text {message.id!r} is to be spoken", field="id", id=message.id)
            return
        if isinstance(message, Mood):
            names = [self._director(message.subject).subject] if message.subject else list(self.directors)
            try:
                self.set_mood(names, message.mood)
            except ValueError as error:
                raise Refused("bad-field", f"mood: {error}", field="mood") from None
            return
        if self._closed:
            raise Refused("closing", "the runtime is ending", id=message.id)
        if isinstance(message, Say):
            self._of_text(message).say(message, notify, source=source)
        else:
            self._director(message.subject, message.id).play(message, notify, source=source)

    def _of_text(self, message: Say) -> Director:
        """The director of a text; one that goes on with a text need not name its subject again."""
        if message.subject is None and message.id is not None:
            for director in self.directors.values():
                if director.streams(message.id):
                    return director
        return self._director(message.subject, message.id)

    def _director(self, subject: str | None, message_id: str | None = None) -> Director:
        """The director of a subject; the first one's where none is named."""
        if subject is None:
            return next(iter(self.directors.values()))
        director = self.directors.get(subject)
        if director is None:
            known = ", ".join(self.directors)
            raise Refused(
                "unknown-subject", f"subject: {subject!r}, expected one of {known}", field="subject", id=message_id
            )
        return director

    @property
    def waiting(self) -> int:
        """Texts that wait, all subjects together."""
        return sum(director.waiting for director in self.directors.values())
