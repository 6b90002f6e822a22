import io
from collections.abc import Callable

import pytest

from kff_live.converters import keyframe_file
from kff_live.converters.lines import Lines
from kff_live.protocols.channels import pose_from_names
from kff_live.protocols.errors import DecodeError
from kff_live.protocols.keyframe_text import quantise
from kff_live.protocols.keyframes import Keyframe

Read = Callable[[str | bytes], Lines]

KEYFRAMES = [
    Keyframe(
        pose_from_names({"MouthLeft": 1.0, "HeadYaw": -0.25}), way=0.3, hold=0.5, easing="sine", label="to the left"
    ),
    Keyframe(pose_from_names({}), way=0.4167),
]


@pytest.mark.parametrize("start", [(0, 0.0), (2855071, 0.652)])
def test_what_is_written_is_read_again_with_its_start(lines: Read, start: tuple[int, float]) -> None:
    file = io.StringIO()
    assert keyframe_file.write(KEYFRAMES, file, start=start) == 2
    found, keyframes = keyframe_file.read(lines(file.getvalue()))
    assert (found, list(keyframes)) == (start, [quantise(k) for k in KEYFRAMES])


def test_the_start_is_a_comment_that_other_readers_skip() -> None:
    file = io.StringIO()
    keyframe_file.write(KEYFRAMES[1:], file, start=(2855071, 0.652))
    assert file.getvalue() == "# kff 1\n# timecode 13:13:04:31.652\n4.167\n"


def test_comments_empty_lines_and_a_missing_last_newline_do_no_harm(lines: Read) -> None:
    start, keyframes = keyframe_file.read(lines("# kff 1\n# by hand\n\n  # and more\n4 jaw5\n4"))
    assert start == (0, 0.0)
    assert [k.way for k in keyframes] == [0.4, 0.4]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1, column 1: expected '# kff 1', got ''"),
        ("4 jaw5\n", "line 1, column 1: expected '# kff 1', got '4 jaw5'"),
        ("# kff 1\n# timecode 12:00:00:61\n4\n", "line 2, column 12: '12:00:00:61' is not a timecode"),
        ("# kff 1\n4 jaw5 smil7\n", "line 2, column 8: 'smil7': expected an easing or a name with a level"),
        ("# kff 1\n4\n  smile: soon jaw5\n", "line 3, column 10: 'soon': expected way or way+hold"),
        ("# kff 1\n\n4 jaw11\n", "line 3, column 3: 'jaw11': expected a level from 0 to 10"),
        ("# kff 1\n4 " + "jaw5 " * 300 + "\n", "line 2, column 1001: longer than 1000 characters"),
        ("# kff 1\n", "it holds no keyframe"),
        ("# kff 1\n# timecode 00:00:01:00\n", "it holds no keyframe"),
    ],
)
def test_what_is_wrong_is_told_with_line_and_column(lines: Read, text: str, said: str) -> None:
    with pytest.raises(DecodeError) as found:
        list(keyframe_file.read(lines(text))[1])
    assert str(found.value).startswith(said), found.value
