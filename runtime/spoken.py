"""What is spoken of an utterance: its speech, where each segment lies in it, and when its sound began."""

from collections.abc import Sequence

from kff_live.protocols.keyframes import Keyframe
from kff_live.protocols.talk.field import SpeechField
from kff_live.protocols.talk.fitting import fit_keyframes
from kff_live.protocols.talk.speech import Speech, Word, speech_from_text, speech_from_words

LEAD = 0.15
"""Seconds from `started` to the sound's beginning: the mouth opens before the first sound."""

SENTENCE_PAUSE = 0.4
"""Seconds between two pieces of a streamed text."""

Span = tuple[float, float]
"""When a segment is spoken, seconds of the sound."""


class Spoken:
    """The spoken side of one utterance.

    Args:
        field: what the sender knows of the timing.
        rate: words a minute where it is estimated.
    """

    def __init__(self, field: SpeechField, *, rate: float) -> None:
        self.speech: Speech | None = None
        self.start = 0.0
        """Clock time of the sound's beginning, once it is acted."""
        self.keys_start = 0.0
        """The beginning that the placed keyframes follow; the mouth may be a little ahead of them."""
        self.kept: float | None = None
        """The beginning of a sound that is heard while its text still waits."""
        self._field = field
        self._rate = rate

    @property
    def end(self) -> float:
        """Clock time of the sound's end."""
        return self.start + (self.speech.duration if self.speech is not None else 0.0)

    def over(self, now: float) -> bool:
        """Whether the sound was heard to its end while the text waited."""
        return self.kept is not None and self.speech is not None and now >= self.kept + self.speech.duration

    def add(self, text: str, segments: Sequence[str], *, heard: float = 0.0) -> list[Span]:
        """Take up more of the text, and say when its segments are spoken.

        `heard` is how many seconds of the sound have passed: what comes later than that is spoken then.
        """
        if self.speech is None:
            self.speech = self._field.speech(text, rate=self._rate)
            return self.speech.segment_times(segments)
        spans = []
        for segment in segments:
            pause = max(SENTENCE_PAUSE, heard - self.speech.duration)
            begin = self.speech.duration + pause
            silence = speech_from_words([Word("", 0.0, pause)], duration=pause)
            self.speech = self.speech.then(silence).then(speech_from_text(segment, rate=self._rate))
            spans.append((begin, self.speech.duration))
        return spans

    def fit(self, keyframes: Sequence[Keyframe], span: Span, *, now: float, begun: bool) -> list[Keyframe]:
        """The keyframes of a segment made to last as long as it is spoken, or as long as that will still take."""
        begin = max(span[0], now - self.start) if begun else span[0]
        return fit_keyframes(keyframes, max(span[1] - begin, 0.0))
