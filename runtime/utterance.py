"""The utterance: one text, from its arrival to its last frame."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from kff_live.protocols.keyframes import Keyframe
from kff_live.protocols.messages import Event, FinalEvent, Mode, Release
from kff_live.protocols.prompt import PromptInput
from kff_live.protocols.segments import Segmenter
from kff_live.runtime.spoken import Span, Spoken

Notify = Callable[[Event], None]


@dataclass(eq=False)
class Utterance:
    """One text, from its arrival to its last frame; `notify` gets its events."""

    id: str
    notify: Notify
    source: str = ""
    mode: Mode = "queue"
    priority: int = 5
    intensity: float = 1.0
    release: Release = "auto"
    request: PromptInput | None = None  # None: keyframes were given, nothing is to be written
    accepted_at: float = 0.0
    segments: list[tuple[str, Span | None]] = field(default_factory=list)
    """What is still to be written, and when it is spoken."""
    segmenter: Segmenter = field(default_factory=Segmenter)
    characters: int = 0
    open: bool = False
    """More of the text may come."""
    keyframes: list[Keyframe] = field(default_factory=list)
    begins: list[float | None] = field(default_factory=list)
    """For each keyframe the second of the sound at which it begins at the earliest; None: as it comes."""
    spoken: Spoken | None = None
    written: bool = False
    """No more keyframes will come."""
    failure: str = ""
    final: FinalEvent | None = None
    task: asyncio.Task[None] | None = None
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the text goes on or ends."""
    continued_at: float = 0.0

    @property
    def begun(self) -> bool:
        """Whether its keyframes are being written and there is nothing to act yet."""
        return self.task is not None and not self.written and not self.ready

    @property
    def ready(self) -> bool:
        """Whether there is something to act."""
        return bool(self.keyframes) or (self.spoken is not None and self.spoken.speech is not None)
