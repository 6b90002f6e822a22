"""MQTT's topics and what is said on `status`: `<topic>/<subject>/say`, `/stop`, `/status`, `/event`, `/frame`."""

import msgspec

from kff_live.protocols.errors import EncodeError

DEFAULT_PORT = 1883


def level(subject: str) -> str:
    """The subject as one level of a topic: what MQTT reserves is percent-encoded, as in a URL."""
    return "".join(f"%{ord(c):02X}" if c in "/+#%" else c for c in subject)


def check_topic(topic: str, field: str = "topic") -> None:
    """Refuse what is no beginning of a topic.

    Raises:
        EncodeError: it is empty, holds a wildcard, or an empty level.
    """
    if not topic or any(c in topic for c in "+#\0") or "" in topic.split("/") or topic.startswith("$"):
        raise EncodeError(f"{field}: {topic!r} is not a topic such as 'kff' or 'stage/faces'")


class Topics:
    """The topics of one subject.

    Args:
        group: of the shared subscription of `say`, so that runtimes split the texts; empty: each acts every text.
    """

    def __init__(self, topic: str, subject: str, group: str) -> None:
        base = f"{topic}/{level(subject)}"
        self.say, self.stop, self.status = f"{base}/say", f"{base}/stop", f"{base}/status"
        self.event, self.frame = f"{base}/event", f"{base}/frame"
        self.say_filter = f"$share/{group}/{self.say}" if group else self.say


class Presence(msgspec.Struct, omit_defaults=True):
    """What is retained on `status`: whether a runtime serves the subject; the last will says that none does."""

    online: bool
    client: str
    runtime: str = ""
    model: str = ""


def decode_presence(data: bytes) -> Presence | None:
    """The presence in a payload; None where it is none."""
    try:
        return msgspec.json.decode(data, type=Presence)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
