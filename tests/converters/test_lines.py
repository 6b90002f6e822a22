from collections.abc import Callable

import msgspec
import pytest

from kff_live.converters.lines import MAX_LINE, Lines
from kff_live.protocols.errors import DecodeError

Read = Callable[[str | bytes], Lines]


@pytest.mark.parametrize("text", ["a\nb\n", "a\r\nb\r\n", "a\nb", "\ufeffa\nb\n"], ids=["LF", "CRLF", "no end", "BOM"])
def test_lines_come_without_their_ends(lines: Read, text: str) -> None:
    read = lines(text)
    assert list(read) == ["a", "b"]
    assert (read.number, read.share) == (2, 1.0)


def test_a_line_separator_of_unicode_ends_no_line(lines: Read) -> None:
    assert list(lines("a\u2028b\nc\u0085d\n")) == ["a\u2028b", "c\u0085d"]


def test_the_share_grows_with_what_is_read(lines: Read) -> None:
    read = lines("1234\n" * 4)
    assert [read.share for _ in read] == [0.25, 0.5, 0.75, 1.0]
    assert lines("").share == 0.0


def test_what_is_not_utf_8_is_told_with_line_and_column(lines: Read) -> None:
    read = lines(b"fine\nab\xff\n")
    assert next(read) == "fine"
    with pytest.raises(DecodeError, match=r"^line 2, column 3: not UTF-8$"):
        next(read)


def test_the_longest_line_is_read_and_a_longer_one_refused(lines: Read) -> None:
    read = lines("a" * (MAX_LINE - 1) + "\n" + "b" * (MAX_LINE + 1) + "\n")
    assert len(next(read)) == MAX_LINE - 1
    with pytest.raises(DecodeError, match=rf"^line 2: longer than {MAX_LINE} bytes$"):
        next(read)


def test_errors_name_their_place(lines: Read) -> None:
    read = lines("first\nsecond line\n")
    assert list(read)
    assert str(read.error("bad")) == "line 2: bad"
    assert str(read.error("bad", column=3, name="JawOpen")) == "line 2, column 3 (JawOpen): bad"
    assert str(read.error_at_word("'line': bad", "second line")) == "line 2, column 8: 'line': bad"
    assert str(read.error_at_word("bad", "second line")) == "line 2, column 11: bad"


@pytest.mark.parametrize(
    ("text", "place"),
    [('{"a": 1,}', "line 1, column 9: "), ('{"a": "x"}', "line 1 (a): "), ("[]", "line 1, column 1: ")],
)
def test_errors_of_json_name_the_column_or_the_value(lines: Read, text: str, place: str) -> None:
    class Shape(msgspec.Struct):
        a: int

    read = lines(text)
    with pytest.raises(msgspec.DecodeError) as found:
        msgspec.json.decode(next(read), type=Shape)
    assert str(read.json_error(found.value)).startswith(place)
