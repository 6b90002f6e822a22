import pytest

from kff_live.protocols.errors import EncodeError
from kff_live.protocols.mqtt import Presence, Topics, check_topic, decode_presence, level


def test_the_topics_of_a_subject() -> None:
    topics = Topics("kff", "Face", "kff-live")
    assert (topics.say, topics.stop, topics.status) == ("kff/Face/say", "kff/Face/stop", "kff/Face/status")
    assert (topics.event, topics.frame) == ("kff/Face/event", "kff/Face/frame")
    assert topics.say_filter == "$share/kff-live/kff/Face/say"
    assert Topics("stage/left", "Face", "").say_filter == "stage/left/Face/say"


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("Face", "Face"),
        ("Anna Lena", "Anna Lena"),
        ("顔", "顔"),
        ("a/b", "a%2Fb"),
        ("a+b#c", "a%2Bb%23c"),
        ("100%", "100%25"),
        ("$SYS", "$SYS"),  # not at the beginning of a topic
    ],
)
def test_a_subject_is_one_level_whatever_its_name(subject: str, expected: str) -> None:
    assert level(subject) == expected
    assert not set(level(subject)) & set("/+#")


def test_no_two_subjects_share_a_level() -> None:
    names = ["a/b", "a%2Fb", "a%252Fb", "a+b", "a%2Bb", "a b"]
    assert len({level(name) for name in names}) == len(names)


@pytest.mark.parametrize("topic", ["", "/", "kff/", "/kff", "a//b", "a+", "a/#", "$SYS/kff", "a\0b"])
def test_what_is_no_beginning_of_a_topic_is_refused(topic: str) -> None:
    with pytest.raises(EncodeError, match=r"^topic: "):
        check_topic(topic)


def test_presence_is_read_and_junk_is_not() -> None:
    assert decode_presence(b'{"online":false,"client":"a","new":1}') == Presence(False, "a")
    for junk in (b"", b"offline", b"[]", b'{"online":"no"}', b"\xff"):
        assert decode_presence(junk) is None
