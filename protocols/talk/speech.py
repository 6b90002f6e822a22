"""Speech: when each word and each sound of a spoken text falls, as arrays that the talk layer samples."""

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from kff_live.protocols.channels import COUNT, INDEX
from kff_live.protocols.talk.phonemes import Lexicon, is_vowel, speak
from kff_live.protocols.talk.spoken_text import Break
from kff_live.protocols.talk.visemes import VISEMES, Viseme, phoneme_seconds, visemes_of

DEFAULT_RATE = 175.0
"""Words a minute of an ordinary text, pauses included; about what readers aloud and text-to-speech voices do."""

MIN_RATE, MAX_RATE = 40.0, 500.0

_USUAL_RATE = 184.0
"""Words a minute that phonemes and pauses at their usual lengths give: measured on the fable of the north wind and
the sun, which phoneticians record in every language."""

PAUSE_SECONDS = {Break.NONE: 0.0, Break.COMMA: 0.2, Break.SENTENCE: 0.5, Break.PARAGRAPH: 0.8}
"""Of silence at the usual rate: the short and the medium pauses of read speech (Campione and Veronis 2002)."""

SILENCE = 0.08
"""Seconds without a sound from which on the mouth goes to rest; shorter gaps between words are spoken over."""

CLOSEST = 0.015
"""Sounds are at least this many seconds apart; where a word leaves less time, its weaker sounds are left out."""

WINDOW = 4
"""A sound has no influence beyond the WINDOW-th apex before and after its own; `talk_kernels` counts on it."""

_OVERLAP = 1.1
"""How far a sound may reach beyond its neighbour's apex, as a multiple of the distance. More blurs the sounds and
moves their peaks: 1.5 moved some by two frames."""

_CONTEXT_SECONDS = 0.08
"""How fast the influence of a neighbour on what a sound leaves open falls off with time."""

_UNDERSHOOT_SECONDS = 0.06
"""Time constant with which a vowel falls short of its target as it gets shorter (Lindblom 1963)."""

_Scalar = TypeVar("_Scalar", bound=np.generic)


@dataclass(frozen=True)
class Word:
    """A word and when it is spoken, in seconds from the start of the sound."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Sound:
    """A phoneme, or half of a vowel that glides: its viseme, and when it is made, in seconds."""

    phoneme: str
    viseme: str
    start: float
    end: float
    word: int
    """Index of its word."""

    @property
    def apex(self) -> float:
        """When the viseme shows most."""
        return 0.5 * (self.start + self.end)


@dataclass(frozen=True, eq=False)
class Speech:
    """A text and when its sounds are made: immutable. Times are seconds from the start of the sound.

    duration: when the sound ends
    words: every word, also those that are not pronounced, in their order
    sounds: what the mouth does, apexes rising strictly
    apexes: float64[n]
    curves: float64[n, 4]: reach before the apex and after it in s, dominance, 1.0 where a pause follows
    poses: float32[n, 61]: what each sound is to reach, its neighbours considered
    """

    duration: float
    words: tuple[Word, ...]
    sounds: tuple[Sound, ...]
    apexes: NDArray[np.float64]
    curves: NDArray[np.float64]
    poses: NDArray[np.float32]

    @property
    def word_times(self) -> list[tuple[float, float]]:
        """Start and end of every word."""
        return [(word.start, word.end) for word in self.words]

    @property
    def opens(self) -> float:
        """When the mouth begins to move: before the first sound, so mostly negative; 0 for silence."""
        return float(self.apexes[0] - self.curves[0, 0]) if len(self.apexes) else 0.0

    @property
    def closes(self) -> float:
        """When the mouth is at rest again: it may be a little after `duration`."""
        return float(self.apexes[-1] + self.curves[-1, 1]) if len(self.apexes) else 0.0

    def segment_times(self, segments: Sequence[str]) -> list[tuple[float, float]]:
        """When each segment of the text is spoken, from its first word to the end of its last.

        The segments' phonemes are counted against the words' phonemes, so that it also works out where a voice has
        split or spelt the words otherwise. A segment that is not spoken takes no time.
        """
        ends = np.cumsum([_size(word.text) for word in self.words], dtype=np.float64)
        counts = np.cumsum([_size(segment) for segment in segments], dtype=np.float64)
        if not len(ends) or not len(counts) or counts[-1] == 0 or ends[-1] == 0:
            return [(0.0, self.duration)] * len(segments)
        places = counts * (ends[-1] / counts[-1])
        cuts = np.searchsorted(ends - 0.5 * np.diff(ends, prepend=0.0), places)  # words begun by half before each
        times = []
        first = 0
        for cut in (int(cut) for cut in cuts):
            if cut > first:
                times.append((self.words[first].start, self.words[cut - 1].end))
            else:
                at = self.words[min(first, len(self.words) - 1)].start
                times.append((at, at))
            first = max(first, cut)
        return times

    def then(self, other: "Speech") -> "Speech":
        """This speech, and another that begins when it ends: a text that arrives in pieces."""
        moved = [replace(word, start=word.start + self.duration, end=word.end + self.duration) for word in other.words]
        sounds = [
            replace(s, start=s.start + self.duration, end=s.end + self.duration, word=s.word + len(self.words))
            for s in other.sounds
        ]
        return _speech([*self.words, *moved], [*self.sounds, *sounds], self.duration + other.duration)


def _size(text: str) -> int:
    return sum(len(word.phonemes) for word in speak(text))


# --- from text or from word times -----------------------------------------------------------------------------------


def speech_from_text(
    text: str, *, rate: float = DEFAULT_RATE, duration: float | None = None, lexicon: Lexicon | None = None
) -> Speech:
    """The speech of a text whose timing is estimated.

    Args:
        text: what is spoken.
        rate: words a minute of an ordinary text, MIN_RATE to MAX_RATE.
        duration: seconds that the whole takes; goes before `rate`.
        lexicon: pronunciations that go before the known ones.
    """
    tempo = _USUAL_RATE / min(max(rate, MIN_RATE), MAX_RATE)
    spoken = speak(text, lexicon)
    words, sounds = [], []
    at = 0.0
    for index, word in enumerate(spoken):
        pause = PAUSE_SECONDS[word.pause] if index + 1 < len(spoken) else 0.0
        made = _sounds(word.phonemes, index, before_pause=pause > 0.0 or index + 1 == len(spoken))
        length = made[-1].end * tempo if made else 0.0
        sounds += _fitted(made, at, at + length)
        words.append(Word(word.text, at, at + length))
        at += length + pause * tempo
    speech_words, fitted = words, sounds
    if duration is not None:
        scale = duration / at if at > 0.0 else 0.0
        speech_words = [replace(word, start=word.start * scale, end=word.end * scale) for word in words]
        fitted = [replace(sound, start=sound.start * scale, end=sound.end * scale) for sound in sounds]
    return _speech(speech_words, _thinned(fitted), at if duration is None else duration)


def speech_from_words(
    words: Sequence[Word], *, duration: float | None = None, lexicon: Lexicon | None = None
) -> Speech:
    """The speech of words whose times are known; they are in order and do not overlap.

    A word's sounds are spread over its time by their usual lengths; one that cannot be pronounced is silence. The
    speech ends with the last word, or at `duration` if that is later.
    """
    sounds: list[Sound] = []
    for index, word in enumerate(words):
        phonemes = tuple(phoneme for spoken in speak(word.text, lexicon) for phoneme in spoken.phonemes)
        last = index + 1 == len(words) or words[index + 1].start - word.end >= SILENCE
        sounds += _fitted(_sounds(phonemes, index, before_pause=last), word.start, word.end)
    end = max((word.end for word in words), default=0.0)
    return _speech(words, _thinned(sounds), max(end, duration or 0.0))


def _sounds(phonemes: tuple[str, ...], word: int, *, before_pause: bool) -> list[Sound]:
    """A word's sounds at their usual lengths, from time 0; before a pause its last syllable is drawn out."""
    vowels = [i for i, phoneme in enumerate(phonemes) if is_vowel(phoneme)]
    drawn_out = vowels[-1] if vowels and before_pause else len(phonemes)
    sounds = []
    at = 0.0
    for i, phoneme in enumerate(phonemes):
        names = visemes_of(phoneme)
        length = phoneme_seconds(phoneme, before_pause=i >= drawn_out) / len(names)
        for name in names:
            sounds.append(Sound(phoneme, name, at, at + length, word))
            at += length
    return sounds


def _fitted(sounds: list[Sound], start: float, end: float) -> list[Sound]:
    """Sounds that begin at 0, spread over `start` to `end`."""
    if not sounds:
        return []
    scale = (end - start) / sounds[-1].end
    return [replace(sound, start=start + sound.start * scale, end=start + sound.end * scale) for sound in sounds]


def _thinned(sounds: list[Sound]) -> list[Sound]:
    """The sounds without those that come too close to a stronger one."""
    kept: list[Sound] = []
    for sound in sounds:
        while kept and sound.apex - kept[-1].apex < CLOSEST:
            if VISEMES[kept[-1].viseme].strength >= VISEMES[sound.viseme].strength:
                break
            kept.pop()
        else:
            kept.append(sound)
    return kept


# --- arrays -------------------------------------------------------------------------------------------------------

_JAW = ("JawOpen",)
_LIPS = ("MouthLowerDownLeft", "MouthLowerDownRight", "MouthUpperUpLeft", "MouthUpperUpRight")
_SHAPE = ("MouthPucker", "MouthStretchLeft", "MouthStretchRight", "MouthSmileLeft", "MouthSmileRight",
          "MouthDimpleLeft", "MouthDimpleRight")  # fmt: skip
_FUNNEL = INDEX["MouthFunnel"]


def _frozen(array: NDArray[_Scalar]) -> NDArray[_Scalar]:
    array.setflags(write=False)
    return array


def _speech(words: Sequence[Word], sounds: Sequence[Sound], duration: float) -> Speech:
    apexes = np.array([sound.apex for sound in sounds], np.float64)
    made = [VISEMES[sound.viseme] for sound in sounds]
    pauses = np.array([b.start - a.end >= SILENCE for a, b in itertools.pairwise(sounds)] + [True] * bool(sounds), bool)
    return Speech(
        duration,
        tuple(words),
        tuple(sounds),
        _frozen(apexes),
        _frozen(_curves(apexes, made, pauses)),
        _frozen(_poses(sounds, apexes, made, pauses)),
    )


def _curves(apexes: NDArray[np.float64], made: Sequence[Viseme], pauses: NDArray[np.bool_]) -> NDArray[np.float64]:
    """float64[n, 4]: how far each sound reaches, and how strong it is."""
    n = len(apexes)
    curves = np.zeros((n, 4), np.float64)
    for i, viseme in enumerate(made):
        for column, step in ((0, -1), (1, 1)):
            silent = not 0 <= i + step < n or bool(pauses[min(i, i + step)])
            curves[i, column] = _reach(i, step, apexes, made, silent=silent)
        curves[i, 2:] = viseme.strength, float(pauses[i])
    return curves


def _reach(i: int, step: int, apexes: NDArray[np.float64], made: Sequence[Viseme], *, silent: bool) -> float:
    """Seconds from the apex of sound i at which it ceases to show, to the side of its neighbour i + step."""
    own = made[i]
    if not 0 <= i + step < len(apexes):
        return VISEMES["rest"].reach
    distance = abs(float(apexes[i + step] - apexes[i]))
    if silent:
        return min(VISEMES["rest"].reach, distance)
    neighbour = made[i + step]
    if neighbour.closes:
        return distance  # nothing shows through closed lips
    if own.closes:
        return min(max(own.reach, 0.5 * distance), 0.95 * distance)
    reach = min(max(own.reach, distance), _OVERLAP * distance)
    end = i + step * WINDOW
    return min(reach, abs(float(apexes[end] - apexes[i]))) if 0 <= end < len(apexes) else reach


def _poses(
    sounds: Sequence[Sound], apexes: NDArray[np.float64], made: Sequence[Viseme], pauses: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """float32[n, 61]: each sound's pose; what it leaves open is taken from its neighbours, vowels fall short."""
    n = len(sounds)
    if n == 0:
        return np.zeros((0, COUNT), np.float32)
    own = np.array([viseme.pose for viseme in made], np.float64)
    own *= np.array([_share_reached(sound) for sound in sounds])[:, None]
    firm = _firmness()[[_order()[sound.viseme] for sound in sounds]]
    phrase = np.cumsum(np.concatenate([[False], pauses[:-1]]))
    around, weight = np.zeros_like(own), np.full_like(own, 1e-9)
    for step in range(1, WINDOW + 1):
        left, right = slice(None, -step), slice(step, None)
        near = np.exp(-(apexes[right] - apexes[left]) / _CONTEXT_SECONDS) * (phrase[right] == phrase[left])
        for a, b in ((left, right), (right, left)):
            pull = near[:, None] * firm[b]
            around[a] += pull * own[b]
            weight[a] += pull
    poses: NDArray[np.float32] = (firm * own + (1.0 - firm) * around / weight).astype(np.float32)
    return poses


def _share_reached(sound: Sound) -> float:
    """How much of its pose a sound reaches in its time; a consonant all of it."""
    if not is_vowel(sound.phoneme):
        return 1.0
    short_fall: float = 0.5 * float(np.exp(-(sound.end - sound.start) / _UNDERSHOOT_SECONDS))
    return (0.8 if sound.phoneme.endswith("0") else 1.0) * (1.0 - short_fall)


@functools.cache
def _order() -> dict[str, int]:
    return {name: i for i, name in enumerate(VISEMES)}


@functools.cache
def _firmness() -> NDArray[np.float64]:
    """float64[visemes, 61]: how far each viseme itself sets each channel, 1 where nothing is taken from neighbours."""
    firm = np.ones((len(VISEMES), COUNT), np.float64)
    for row, viseme in zip(firm, VISEMES.values(), strict=True):
        for names, value in ((_JAW, viseme.jaw), (_LIPS, viseme.lips), (_SHAPE, viseme.shape)):
            row[[INDEX[name] for name in names]] = value
        row[_FUNNEL] = 1.0 if viseme.closes else viseme.shape
    return firm
