"""What a check of the doctor found, how serious that is, and what to do."""

from typing import Literal

import msgspec

Severity = Literal["ok", "note", "warning", "error"]

SEVERITIES: tuple[Severity, ...] = ("ok", "note", "warning", "error")
"""From harmless to serious."""


class Result(msgspec.Struct, frozen=True):
    """One line of the doctor: `found` says what is so, `cure` what to do about it, or nothing."""

    check: str
    severity: Severity
    found: str
    cure: str = ""


def exit_status(results: list[Result]) -> int:
    """0 when all is well or noted, 1 with a warning, 2 with an error."""
    worst = max((SEVERITIES.index(result.severity) for result in results), default=0)
    return max(0, worst - 1)
