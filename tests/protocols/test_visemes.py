"""Visemes, the timing of speech in all its forms, the `speech` field, and keyframes fitted to it."""

import random
import time
from itertools import pairwise

import numpy as np
import pytest

from kff_live.protocols.channels import CHANNELS, INDEX, neutral
from kff_live.protocols.errors import DecodeError
from kff_live.protocols.keyframes import MAX_SECONDS, Keyframe
from kff_live.protocols.talk.field import MAX_SPEECH_WORDS, SpeechField, decode_speech_field
from kff_live.protocols.talk.fitting import SHORTEST_WAY, fit_keyframes, total_seconds
from kff_live.protocols.talk.letter_sounds import VOWELS
from kff_live.protocols.talk.phonemes import CONSONANTS
from kff_live.protocols.talk.speech import DEFAULT_RATE, Speech, Word, speech_from_text, speech_from_words
from kff_live.protocols.talk.visemes import REST, VISEMES, phoneme_seconds, visemes_of

FABLE = (
    "The North Wind and the Sun were disputing which was the stronger, when a traveler came along wrapped in a warm "
    "cloak. They agreed that the one who first succeeded in making the traveler take his cloak off should be "
    "considered stronger than the other. Then the North Wind blew as hard as he could, but the more he blew the more "
    "closely did the traveler fold his cloak around him; and at last the North Wind gave up the attempt."
)
JAW, CLOSE = INDEX["JawOpen"], INDEX["MouthClose"]


# --- visemes ------------------------------------------------------------------------------------------------------


def test_every_phoneme_has_a_viseme_and_a_length() -> None:
    for phoneme in [*CONSONANTS, *(f"{vowel}{stress}" for vowel in VOWELS for stress in "012")]:
        assert all(name in VISEMES and name != REST for name in visemes_of(phoneme))
        assert 0.03 < phoneme_seconds(phoneme) < 0.3
        assert phoneme_seconds(phoneme, before_pause=True) > phoneme_seconds(phoneme)


@pytest.mark.parametrize("name", VISEMES)
def test_a_viseme_is_a_pose_of_the_mouth(name: str) -> None:
    pose = VISEMES[name].pose
    moved = [channel.name for channel, value in zip(CHANNELS, pose, strict=True) if value]
    assert all(channel.startswith(("Jaw", "Mouth", "Tongue")) for channel in moved)
    assert pose[CLOSE] <= pose[JAW]
    assert pose.min() >= 0.0
    assert pose.max() <= 1.0
    assert np.array_equal(pose[[INDEX[c.name] for c in CHANNELS if c.name.endswith("Left")]],
                          pose[[INDEX[c.name] for c in CHANNELS if c.name.endswith("Right")]])  # fmt: skip
    assert (pose[CLOSE] > 0.0) == (name == "pp")


def test_visemes_differ_from_each_other() -> None:
    poses = [viseme.pose for viseme in VISEMES.values()]
    distances = [float(np.abs(a - b).max()) for i, a in enumerate(poses) for b in poses[:i]]
    assert len(poses) == 17
    assert min(distances) >= 0.05


@pytest.mark.parametrize(
    ("phoneme", "visemes"),
    [("P", ("pp",)), ("B", ("pp",)), ("M", ("pp",)), ("V", ("ff",)), ("DH", ("th",)), ("AY1", ("aa", "ih")),
     ("OW0", ("oh", "ou")), ("W", ("ou",)), ("NG", ("kk",))],
)  # fmt: skip
def test_visemes_of_phonemes(phoneme: str, visemes: tuple[str, ...]) -> None:
    assert visemes_of(phoneme) == visemes


def test_stressed_vowels_last_longer_than_unstressed_ones() -> None:
    assert phoneme_seconds("AA1") > phoneme_seconds("AA2") * 0.99 > phoneme_seconds("AA0")


# --- timing from text ---------------------------------------------------------------------------------------------


def check(speech: Speech) -> None:
    """What holds for every speech."""
    assert len(speech.sounds) == len(speech.apexes) == len(speech.curves) == len(speech.poses)
    assert np.all(np.diff(speech.apexes) > 0.0)
    assert np.all(speech.curves[:, :3] > 0.0)
    for array in (speech.apexes, speech.curves, speech.poses):
        assert np.isfinite(array).all()
        assert not array.flags.writeable
    assert np.all(speech.poses >= 0.0)
    assert np.all(speech.poses <= 1.0)
    assert np.all(speech.poses[:, CLOSE] <= speech.poses[:, JAW])
    for sound, apex in zip(speech.sounds, speech.apexes, strict=True):
        word = speech.words[sound.word]
        assert word.start - 1e-9 <= sound.start <= apex <= sound.end <= word.end + 1e-9
        assert 0.0 <= apex <= speech.duration
    for a, b in pairwise(speech.words):
        assert a.end <= b.start + 1e-9


@pytest.mark.parametrize("rate", [100.0, DEFAULT_RATE, 250.0])
def test_ordinary_text_is_spoken_at_the_rate(rate: float) -> None:
    speech = speech_from_text(FABLE, rate=rate)
    check(speech)
    assert len(speech.words) / speech.duration * 60.0 == pytest.approx(rate, rel=0.08)


def test_phonemes_come_at_a_human_pace() -> None:
    speech = speech_from_text(FABLE)
    phonemes = len({(sound.word, sound.phoneme, round(sound.end, 6)) for sound in speech.sounds})
    assert 9.0 < phonemes / speech.duration < 15.0


def test_punctuation_makes_pauses() -> None:
    def gap(text: str) -> float:
        (_, end), (start, _) = speech_from_text(text).word_times
        return start - end

    assert gap("red blue") == 0.0
    assert 0.1 < gap("red, blue") < gap("red. Blue") < gap("red\n\nblue") < 1.2


@pytest.mark.parametrize("duration", [0.2, 1.0, 7.5, 60.0])
@pytest.mark.parametrize("text", ["hi", "Bob, map my pub.", "What a beautiful morning! Shall we go?"])
def test_a_total_duration_is_honoured(text: str, duration: float) -> None:
    speech = speech_from_text(text, duration=duration)
    check(speech)
    assert speech.duration == duration
    assert speech.word_times[0][0] == 0.0
    assert speech.word_times[-1][1] == pytest.approx(duration)


@pytest.mark.parametrize("text", ["", "   ", "😀", "...", "\n\n"])
def test_nothing_to_say_is_silence(text: str) -> None:
    assert len(speech_from_text(text).sounds) == 0
    assert speech_from_text(text).duration == 0.0
    assert speech_from_text(text, duration=3.0).duration == 3.0
    assert speech_from_text(text).opens == speech_from_text(text).closes == 0.0


def test_a_rate_beyond_the_limits_is_limited() -> None:
    assert speech_from_text("hello", rate=0.0).duration == speech_from_text("hello", rate=40.0).duration
    assert speech_from_text("hello", rate=1e9).duration == speech_from_text("hello", rate=500.0).duration


def test_the_mouth_opens_before_the_first_sound_and_rests_soon_after_the_last() -> None:
    speech = speech_from_text("mama papa")
    assert -0.2 < speech.opens < 0.0
    assert speech.duration - 0.1 < speech.closes < speech.duration + 0.2


def test_2000_characters_are_quick() -> None:
    text = (FABLE * 5)[:2000]
    speech_from_text(text)
    began = time.perf_counter()
    speech = speech_from_text(text)
    assert time.perf_counter() - began < 0.5
    check(speech)


@pytest.mark.parametrize("seed", range(20))
def test_any_text_makes_a_sound_speech(seed: int) -> None:
    rng = random.Random(seed)
    characters = "abcdefghijklmnopqrstuvwxyzeeeaaaiiioou      ,.'’-123$%&😀é你\n"  # noqa: RUF001
    check(speech_from_text("".join(rng.choices(characters, k=200)), rate=rng.uniform(50, 400)))


# --- timing from word times ---------------------------------------------------------------------------------------

TIMES = [
    Word("Bob", 0.1, 0.5),
    Word("", 0.5, 0.5),
    Word("moves", 0.5, 1.1),
    Word("😀", 1.1, 1.6),
    Word("up.", 1.7, 2.2),
]


def test_sounds_lie_in_the_times_of_their_words() -> None:
    speech = speech_from_words(TIMES)
    check(speech)
    assert speech.duration == 2.2
    assert speech.word_times == [(word.start, word.end) for word in TIMES]
    assert [sound.phoneme for sound in speech.sounds] == ["B", "AA1", "B", "M", "UW1", "V", "Z", "AH1", "P"]
    assert {sound.word for sound in speech.sounds} == {0, 2, 4}


def test_sound_may_go_on_after_the_last_word() -> None:
    assert speech_from_words(TIMES, duration=3.0).duration == 3.0
    assert speech_from_words(TIMES, duration=1.0).duration == 2.2
    assert speech_from_words([], duration=1.0).duration == 1.0


@pytest.mark.parametrize("length", [0.0, 0.01, 0.05, 0.1])
def test_a_word_in_no_time_keeps_its_closures_first(length: float) -> None:
    speech = speech_from_words([Word("a", 0.0, 0.2), Word("trampoline", 0.2, 0.2 + length), Word("a", 0.3, 0.5)])
    check(speech)
    sounds = [sound.viseme for sound in speech.sounds if sound.word == 1]
    assert len(sounds) <= length / 0.015 + 1
    assert length < 0.05 or "pp" in sounds


def test_one_token_may_hold_several_words() -> None:
    speech = speech_from_words([Word("$5 please", 0.0, 1.5)])
    assert len(speech.sounds) > 10
    check(speech)


def test_two_speeches_one_after_the_other() -> None:
    first, second = speech_from_text("Bob came. "), speech_from_text("Mary left.")
    both = first.then(second)
    check(both)
    assert both.duration == first.duration + second.duration
    assert [word.text for word in both.words] == ["Bob", "came", "Mary", "left"]
    assert both.apexes == pytest.approx([*first.apexes, *(second.apexes + first.duration)])


def test_times_of_segments() -> None:
    segments = ["The cat sat down.", "It was tired!", "😀", "Then it slept."]
    speech = speech_from_text(" ".join(segments))
    words = speech.word_times
    times = speech.segment_times(segments)
    assert times[:2] == [(words[0][0], words[3][1]), (words[4][0], words[6][1])]
    assert times[2][0] == times[2][1]
    assert times[3] == (words[7][0], words[9][1])


def test_times_of_segments_where_the_voice_splits_words_otherwise() -> None:
    words = [
        Word(text, i * 0.5, i * 0.5 + 0.4) for i, text in enumerate(["One hundred", "cats", "sat.", "Two", "ran."])
    ]
    assert speech_from_words(words).segment_times(["100 cats sat.", "Two ran."]) == [(0.0, 1.4), (1.5, 2.4)]
    assert speech_from_words([]).segment_times(["a", "b"]) == [(0.0, 0.0)] * 2
    assert speech_from_words(words).segment_times([]) == []


# --- the field ----------------------------------------------------------------------------------------------------


def test_forms_of_the_field() -> None:
    assert decode_speech_field(None) is None
    assert decode_speech_field(False) is None
    assert decode_speech_field(True) == SpeechField()
    assert decode_speech_field({"duration": 2}) == SpeechField(duration=2.0)
    words = [{"text": "Hi", "start": 0, "end": 0.25}, {"text": "you", "start": 0.2495, "end": 0.5}]
    assert decode_speech_field({"words": words}) == SpeechField(None, (Word("Hi", 0.0, 0.25), Word("you", 0.25, 0.5)))
    assert SpeechField().speech("hello").words[0].text == "hello"
    assert SpeechField(duration=2.0).speech("hello").duration == 2.0
    assert SpeechField(words=(Word("bye", 0.0, 1.0),)).speech("hello").words[0].text == "bye"


def word(start: object, end: object, text: object = "a") -> dict[str, object]:
    return {"text": text, "start": start, "end": end}


@pytest.mark.parametrize(
    ("field", "path"),
    [
        ("yes", "speech"), (1, "speech"), ([], "speech"), ({}, "speech"), ({"speed": 2}, "speech.speed"),
        ({"duration": "2"}, "speech.duration"), ({"duration": -1}, "speech.duration"),
        ({"duration": 0}, "speech.duration"),
        ({"duration": float("nan")}, "speech.duration"), ({"duration": 1e9}, "speech.duration"),
        ({"duration": True}, "speech.duration"), ({"duration": 10**400}, "speech.duration"),
        ({"words": {}}, "speech.words"), ({"words": []}, "speech.words"),
        ({"words": [word(0, 1)] * (MAX_SPEECH_WORDS + 1)}, "speech.words"),
        ({"words": ["a"]}, r"speech.words\[0\]"), ({"words": [{"text": "a", "start": 0}]}, r"speech.words\[0\].end"),
        ({"words": [{**word(0, 1), "pitch": 1}]}, r"speech.words\[0\].pitch"),
        ({"words": [word(0, 1, 5)]}, r"speech.words\[0\].text"),
        ({"words": [word(0, 1, "a" * 101)]}, r"speech.words\[0\].text"),
        ({"words": [word(-0.1, 1)]}, r"speech.words\[0\].start"), ({"words": [word(1, 0.5)]}, r"speech.words\[0\].end"),
        ({"words": [word(0, float("inf"))]}, r"speech.words\[0\].end"),
        ({"words": [word(None, 1)]}, r"speech.words\[0\].start"),
        ({"words": [word(0, 1), word(0.5, 2)]}, r"speech.words\[1\].start"),
        ({"words": [word(2, 3), word(0, 1)]}, r"speech.words\[1\].start"),
    ],
)  # fmt: skip
def test_a_bad_field_is_named(field: object, path: str) -> None:
    with pytest.raises(DecodeError, match=f"^{path}: "):
        decode_speech_field(field)


# --- fitting ------------------------------------------------------------------------------------------------------


def keyframe(way: float, hold: float) -> Keyframe:
    return Keyframe(neutral(), way=way, hold=hold)


@pytest.mark.parametrize("seconds", [0.5, 1.0, 2.0, 3.3, 9.0, 40.0])
def test_fitted_keyframes_take_the_time_of_their_words(seconds: float) -> None:
    keyframes = [keyframe(0.3, 0.5), keyframe(0.05, 0.0), keyframe(0.6, 0.0), keyframe(0.4, 1.0)]
    fitted = fit_keyframes(keyframes, seconds)
    assert total_seconds(fitted) == pytest.approx(seconds)
    for old, new in zip(keyframes, fitted, strict=True):
        assert min(old.way, SHORTEST_WAY) <= new.way <= 2.0 * old.way
        assert new.hold <= MAX_SECONDS
        assert (new.easing, new.label) == (old.easing, old.label)


def test_ways_and_holds_are_scaled_alike_where_they_may() -> None:
    fitted = fit_keyframes([keyframe(0.4, 0.2), keyframe(0.6, 0.8)], 3.0)
    assert [(k.way, k.hold) for k in fitted] == [pytest.approx(pair) for pair in ((0.6, 0.3), (0.9, 1.2))]


def test_the_last_hold_is_stretched_to_the_end() -> None:
    fitted = fit_keyframes([keyframe(0.4, 0.0), keyframe(0.4, 0.0)], 5.0)
    assert [(k.way, k.hold) for k in fitted] == [pytest.approx(pair, abs=1e-6) for pair in ((0.8, 0.0), (0.8, 3.4))]


def test_a_time_too_short_for_the_motion_leaves_it_longer() -> None:
    fitted = fit_keyframes([keyframe(0.4, 0.5)] * 8, 0.3)
    assert total_seconds(fitted) == pytest.approx(0.8, abs=1e-6)


def test_fitting_nothing_or_what_takes_no_time() -> None:
    assert fit_keyframes([], 3.0) == []
    assert [(k.way, k.hold) for k in fit_keyframes([keyframe(0.0, 0.0)], 3.0)] == [(0.0, 3.0)]
    (fitted,) = fit_keyframes([keyframe(0.5, 0.5)], 0.0)
    assert (fitted.way, fitted.hold) == pytest.approx((SHORTEST_WAY, 0.0), abs=1e-9)
