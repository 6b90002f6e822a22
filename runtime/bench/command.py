"""`kff-live bench`: measures this machine part by part and prints each figure beside its reference."""

import argparse
import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from kff_live.protocols.errors import UserError
from kff_live.runtime.bench.report import Rate, Row, Tell, rate_table, table, to_json
from kff_live.runtime.config import Config

PARTS = ("clock", "frame", "decode", "latency", "pops", "idle", "burst", "sinks", "memory", "gpu")
_LEAST_SECONDS = 1.0


def bench(options: argparse.Namespace, config: Config) -> int:
    """The sub-command; returns 1 where a healthy sink lost frames, else 0, also where a target is missed.

    Raises:
        UserError: an option is wrong, or a part cannot run here.
    """
    parts = check_parts(options.parts)
    if options.seconds < _LEAST_SECONDS:
        raise UserError(f"--seconds: {options.seconds:g}, expected at least {_LEAST_SECONDS:g}")
    if options.minutes <= 0.0:
        raise UserError(f"--minutes: {options.minutes:g}, expected more than 0")
    path = Path(options.json) if options.json else None
    if path is not None:
        _write(path, b"")  # now, and not after ten minutes
    console = Console(stderr=True, highlight=False)

    def tell(text: str) -> None:
        console.print(text, markup=False)

    rows: list[Row] = []
    rates: list[Rate] = []
    for part in parts:
        if part == "sinks":
            from kff_live.runtime.bench import sinks

            more, rates = sinks.sinks(seconds=options.seconds, tell=tell)
            rows += more
        else:
            rows += _measure(part, options, config, tell)
    about = machine()
    print(table(rows))  # noqa: T201 - standard output is the data
    if rates:
        print("\n" + rate_table(rates))  # noqa: T201 - standard output is the data
    print("\n" + ", ".join(about.values()))  # noqa: T201 - standard output is the data
    if path is not None:
        _write(path, to_json(rows, about, sinks=rates))
    return int(any(rate.failed for rate in rates))


def check_parts(names: Sequence[str]) -> tuple[str, ...]:
    """The parts to measure, in their own order, each once; without names all.

    Raises:
        UserError: there is no such part.
    """
    for name in names:
        if name not in PARTS:
            raise UserError(f"bench: there is no part {name!r}, expected some of {', '.join(PARTS)}")
    return tuple(part for part in PARTS if part in names) or PARTS


def _measure(part: str, options: argparse.Namespace, config: Config, tell: Tell) -> list[Row]:
    """The rows of one part; imports only what that part needs."""
    if part in ("clock", "memory"):
        from kff_live.runtime.bench import clock

        if part == "clock":
            return clock.clock(config, seconds=options.seconds, tell=tell)
        return clock.memory(config, minutes=options.minutes, tell=tell)
    if part == "frame":
        from kff_live.runtime.bench import frame

        return frame.frame(tell=tell)
    if part == "pops":
        from kff_live.runtime.bench import pops

        return pops.pops(tell=tell)
    if part == "idle":
        from kff_live.runtime.bench import idle

        return idle.idle(config, minutes=options.minutes, take=options.take, tell=tell)
    if part == "burst":
        from kff_live.runtime.bench import burst

        return burst.burst(config, tell=tell)
    if part == "latency":
        from kff_live.runtime.bench import latency

        return latency.latency(config, tell=tell)
    from kff_live.runtime.bench import decode

    return decode.decode(config, tell=tell) if part == "decode" else decode.gpu(config, tell=tell)


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    try:
        llama = importlib.metadata.version("llama-cpp-python")
    except importlib.metadata.PackageNotFoundError:
        llama = "not installed"
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": f"{os.cpu_count()} cores",
        "python": f"Python {platform.python_version()}",
        "llama-cpp-python": f"llama-cpp-python {llama}",
    }


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise UserError(f"--json: {path}: cannot be written: {error.strerror}") from None
