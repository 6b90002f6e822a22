"""The desk: gives each incoming message to the director it is for, and every event to whoever listens."""

from collections.abc import Callable, Mapping

from kff_live.protocols.messages import Event, Keyframes, Refused, Say, Stop
from kff_live.runtime.director import Director
from kff_live.runtime.utterance import Notify


class Desk:
    """Where sources hand in messages. `listeners` get every event of every subject."""

    def __init__(self, directors: Mapping[str, Director]) -> None:
        self.directors = dict(directors)
        self.listeners: list[Callable[[Event], None]] = []

    def tell(self, event: Event) -> None:
        """Give an event to all listeners."""
        for listener in list(self.listeners):
            listener(event)

    def hand_in(self, message: Say | Keyframes | Stop, notify: Notify, *, source: str) -> None:
        """Act on a message from `source`; its events go to `notify`.

        Raises:
            Refused: it is not accepted; carries the `error` to answer.
        """
        if isinstance(message, Stop):
            for director in [self._director(message.subject)] if message.subject else self.directors.values():
                director.stop()
        elif isinstance(message, Say):
            self._director(message.subject, message.id).say(message, notify, source=source)
        else:
            self._director(message.subject, message.id).play(message, notify, source=source)

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
