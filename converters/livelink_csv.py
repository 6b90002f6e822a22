"""Live Link Face CSV: writes takes that the app's own readers and Unreal's importer take."""

from collections.abc import Iterable
from typing import TextIO

from kff_live.protocols.channels import COUNT, LIVELINK_CSV, permutation
from kff_live.protocols.frames import Frame, timecode

HEADER = ("Timecode", "BlendshapeCount", *LIVELINK_CSV)
"""63 titles. Columns stand in the app's order, JawRight before JawLeft and MouthRight before MouthLeft, and each title
tells the truth about its values, since Unreal's importer goes by the title."""

_ORDER = permutation("livelink", "livelink_csv")


def write(frames: Iterable[Frame], file: TextIO) -> int:
    """Write a take: a header, then a row a frame, ten decimals, line feeds, no empty cell. Returns the rows.

    `file` must be open as text with newline="\\n".
    """
    file.write(",".join(HEADER) + "\n")
    rows = 0
    for frame in frames:
        values = ",".join(f"{value:.10f}" for value in frame.pose[_ORDER].tolist())
        file.write(f"{timecode(frame.number, frame.subframe, frame.rate)},{COUNT},{values}\n")
        rows += 1
    return rows
