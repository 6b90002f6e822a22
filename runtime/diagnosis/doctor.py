"""`kff-live doctor`: one check after the other, each a line that says what is so, how bad it is, and what to do."""

import argparse
from collections.abc import Callable, Iterator

import msgspec
from rich.console import Console
from rich.text import Text

from kff_live.protocols.errors import UserError
from kff_live.runtime import config as settings
from kff_live.runtime.config import Config
from kff_live.runtime.diagnosis import machine, model, network, services
from kff_live.runtime.diagnosis.result import Result, Severity, exit_status

Check = Callable[[Config], Iterator[Result]]

CHECKS: tuple[Check, ...] = (
    machine.versions,
    model.model,
    network.ports,
    network.sinks,
    services.vtube_studio,
    services.broker,
    network.loop,
    machine.firewall,
    machine.clock,
    machine.cpu,
)
"""In the order in which they are told."""

_STYLES: dict[Severity, str] = {"ok": "green", "note": "cyan", "warning": "yellow", "error": "bold red"}


def doctor(options: argparse.Namespace) -> int:
    """The sub-command; returns 0 when all is well or noted, 1 with a warning, 2 with an error."""
    results = []
    console = Console(highlight=False, soft_wrap=True)
    for result in examine(getattr(options, "config", None)):
        results.append(result)
        if not options.json:
            _show(console, result)
    if options.json:
        report = {"status": exit_status(results), "results": results}
        print(msgspec.json.encode(report).decode())  # noqa: T201 - standard output is the data
    return exit_status(results)


def examine(path: str | None, checks: tuple[Check, ...] = CHECKS) -> Iterator[Result]:
    """Every result, for the settings of a file; with the defaults where that is none."""
    try:
        config, source = settings.load(path)
        yield Result("settings", "ok", source if source != settings.DEFAULTS else "the built-in defaults, no file")
    except UserError as error:
        config = Config()
        yield Result("settings", "error", str(error), "until then all else is checked with the built-in defaults")
    for check in checks:
        try:
            yield from check(config)
        except Exception as error:  # noqa: BLE001 - a doctor that falls over helps nobody
            found = f"this check failed itself: {type(error).__name__}: {error}"
            yield Result(check.__name__, "warning", found, "please report it")


def _show(console: Console, result: Result) -> None:
    console.print(Text(f"{result.severity:<8}", _STYLES[result.severity]), Text(f"{result.check:<9} {result.found}"))
    if result.cure:
        console.print(Text(f"{'':<18} -> {result.cure}"))
