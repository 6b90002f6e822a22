"""The command `kff-live`: parses arguments and starts one of the sub-commands, importing only what that one needs."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kff_live.protocols.errors import UserError

if TYPE_CHECKING:
    from kff_live.runtime.config import Config

USER_ERROR = 2
"""Exit status of a user's mistake."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kff-live",
        description="Text becomes a living face: keyframes written by a language model, sent to Unreal, "
        "OSC and WebSocket at 60 frames a second. Without a command it runs.",
    )
    parser.add_argument("--version", action="store_true", help="print the version and leave")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    run = commands.add_parser("run", help="start the runtime (the default)", description="Start the runtime.")
    for command in (parser, run):
        _config_option(command)

    say = commands.add_parser(
        "say",
        help="send a text to a running kff-live and print its events",
        description="Send a text to a running kff-live and print its events, one JSON a line, until the final one. "
        "Exit status: 0 when it was acted, 1 when it failed, was cut or was dropped.",
    )
    say.add_argument("text", metavar="TEXT", help="what the face is to act on; '-' reads standard input")
    say.add_argument("--url", default="ws://127.0.0.1:8765", help="of the runtime (default %(default)s)")
    say.add_argument("--token", default="", help="for a runtime beyond loopback (default: $KFF_TOKEN)")
    say.add_argument("--subject", help="which character; default the first")
    say.add_argument("--mode", choices=("queue", "interrupt", "replace"), default="queue", help="default %(default)s")
    say.add_argument("--intensity", type=float, default=1.0, metavar="N", help="0 to 2 (default %(default)s)")
    say.add_argument("--background", default="", metavar="TEXT", help="the situation the text is said in")
    say.add_argument("--emotion", default="", metavar="TEXT", help="the feeling, in words")
    say.add_argument("--priority", type=int, default=5, metavar="N", help="0 to 9 (default %(default)s)")
    say.add_argument("--timeout", type=float, default=120.0, metavar="S", help="give up after so long (%(default)s)")

    render = commands.add_parser(
        "render",
        help="render a text to a take, offline",
        description="Render a text to a Live Link Face CSV: the same player on a manual clock, as fast as possible. "
        "The take holds the acted expression alone, from neutral back to neutral.",
    )
    render.add_argument("text", metavar="TEXT", nargs="?", help="what the face is to act on")
    what = render.add_mutually_exclusive_group()
    what.add_argument(
        "--batch", metavar="FILE.jsonl", help='lines {"id", "text", "background"?, "emotion"?, "descriptions"?}'
    )
    what.add_argument("--keyframes", metavar="FILE", help="render keyframe text, without a model")
    render.add_argument("-o", "--output", metavar="PATH", help="the CSV; with --batch a folder, one <id>.csv each")
    render.add_argument("--background", default="", metavar="TEXT", help="the situation the text is said in")
    render.add_argument("--emotion", default="", metavar="TEXT", help="the feeling, in words")
    render.add_argument("--intensity", type=float, default=1.0, metavar="N", help="0 to 2 (default %(default)s)")
    render.add_argument("--seed", type=int, metavar="N", help="of the sampling where the model has a temperature")
    render.add_argument("--fps", metavar="RATE", help="such as 60, 29.97 or 30000/1001 (default: the settings')")
    render.add_argument("--idle", action="store_true", help="add what the face does by itself ([idle])")
    render.add_argument("--print", action="store_true", dest="show", help="print the keyframes")
    _config_option(render)

    still = commands.add_parser(
        "still",
        help="draw the apex of a text as a picture",
        description="Draw the face acting a text as one picture: the frame that is furthest from rest, by the sum over "
        "all channels. The keyframes are written and played as for render.",
    )
    strip = commands.add_parser(
        "strip",
        help="draw a text as a strip of frames over time",
        description="Draw the face acting a text as a strip of frames, from the start to the end of the last hold, "
        "evenly spaced and on keyframes where one is near. The keyframes are written and played as for render.",
    )
    strip.add_argument("--frames", type=int, default=8, metavar="N", help="1 to 32 (default %(default)s)")
    for picture, size in ((still, 512), (strip, 224)):
        _picture_options(picture, size)

    bench = commands.add_parser(
        "bench",
        help="measure speed, each figure beside its reference",
        description="Measure speed on this machine, each figure beside a reference from the same run. The part sinks "
        "runs every kind of sink at once, each towards a receiver of its own on this machine, of which two block and "
        "two fail on purpose, and counts what was sent and what arrived; MQTT where mosquitto is installed. Exit "
        "status: 1 if a sink whose receiver is in order lost frames, 2 for a mistake in what was typed or set, else 0, "
        "whatever the speed.",
    )
    bench.add_argument(
        "parts",
        nargs="*",
        metavar="PART",
        help="clock, frame, decode, latency, pops, idle, burst, sinks, memory, gpu (default: all; about 20 minutes)",
    )
    bench.add_argument(
        "--seconds", type=float, default=60.0, metavar="S", help="of each clock row, and of sinks (%(default)s)"
    )
    bench.add_argument("--minutes", type=float, default=10.0, metavar="M", help="of memory and of idle (%(default)s)")
    bench.add_argument("--take", metavar="FILE", help="idle: report on a recording made by a sink of type recording")
    bench.add_argument("--json", metavar="FILE", help="also write the figures as JSON")
    _config_option(bench)
    _take_commands(commands)
    _diagnosis_commands(commands)
    return parser


def _take_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    record = commands.add_parser(
        "record",
        help="record what is sent, or what arrives on a Live Link port, as a take",
        description="Record what a running kff-live sends, or with --port what anybody sends to a Live Link port, as a "
        "take: CSV (one subject) or JSON lines, by the name of FILE. Exit status 1 when nothing came.",
    )
    record.add_argument("output", metavar="FILE", type=Path, help="the take, .csv or .jsonl")
    record.add_argument("--seconds", type=float, metavar="S", help="stop so long after the first frame (or by Ctrl-C)")
    record.add_argument("--subject", metavar="NAME", help="whose frames (default: a CSV has the first's, else all)")
    record.add_argument("--force", action="store_true", help="overwrite FILE")
    record.add_argument("--url", default="ws://127.0.0.1:8765", help="of the runtime (default %(default)s)")
    record.add_argument("--token", default="", help="for a runtime beyond loopback (default: $KFF_TOKEN)")
    record.add_argument("--port", type=int, metavar="N", help="listen there for Live Link packets instead")
    record.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="to listen on (default %(default)s)")
    record.add_argument(
        "--allow", action="append", default=[], metavar="ADDRESS", help="of a sender; needed beyond loopback"
    )

    play = commands.add_parser(
        "play",
        help="play a take through the sinks",
        description="Play a take through the sinks of the settings: .csv, .jsonl, .npy or keyframe text. Texts and "
        "keyframes can be acted over it meanwhile, texts without a model. Ends with the take; Ctrl-C eases to neutral.",
    )
    play.add_argument("take", metavar="TAKE", type=Path, help="the file")
    play.add_argument("--loop", action="store_true", help="begin again at the end")
    play.add_argument("--speed", type=float, default=1.0, metavar="X", help="0.1 to 10 (default %(default)s)")
    play.add_argument("--from", dest="begin", type=float, default=0.0, metavar="S", help="seconds of the take")
    play.add_argument("--to", dest="end", type=float, metavar="S", help="seconds of the take (default: its end)")
    play.add_argument(
        "--blend", type=float, default=0.3, metavar="S", help="seconds from and to rest, and over a loop's seam (0.3)"
    )
    play.add_argument("--subject", metavar="NAME", help="of ours, whose face it is (default: the first)")
    play.add_argument("--take-subject", metavar="NAME", help="of the take, where it holds several")
    play.add_argument("--format", dest="form", metavar="FORMAT", help="of the take, as in kff-convert --help")
    play.add_argument("--in-fps", default="60", metavar="RATE", help="of a take without times, .npy (%(default)s)")
    which = play.add_mutually_exclusive_group()
    which.add_argument("--app-titles", action="store_true", help="the take is of the phone app; see kff-convert --help")
    which.add_argument("--by-position", action="store_true", help="its columns stand in Unreal's order")
    _config_option(play)


def _diagnosis_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    doctor = commands.add_parser(
        "doctor",
        help="say what is wrong here, and what to do",
        description="Check settings, model, GPU, ports, targets, firewall, clock and CPU; each line says what is so "
        "and what to do. Exit status: 0 all is well or noted, 1 a warning, 2 an error.",
    )
    doctor.add_argument("--json", action="store_true", help="print one JSON object")

    monitor = commands.add_parser(
        "monitor",
        help="show what arrives on a port, and what a receiver would reject",
        description="Listen on a port and show what any sender sends there: subjects, rate, jitter, missing frames, "
        "channels, and what a strict receiver would reject and why. Exit status: 0 when something came and nothing "
        "was rejected, else 1.",
    )
    formats = ("livelink", "vmc", "ifacialmocap", "osc")
    monitor.add_argument("--format", choices=formats, default="livelink", help="default %(default)s")
    monitor.add_argument("--port", type=int, metavar="N", help="default the format's own, 11111 for livelink")
    monitor.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="to listen on (default %(default)s)")
    monitor.add_argument(
        "--allow", action="append", default=[], metavar="ADDRESS", help="of a sender; needed beyond loopback"
    )
    monitor.add_argument("--seconds", type=float, metavar="S", help="stop after so long (default: Ctrl-C)")
    monitor.add_argument("--json", action="store_true", help="one JSON line a second, and one a rejected packet")

    pattern = commands.add_parser(
        "test-pattern",
        help="move one channel after the other, and say what must be seen",
        description="Move one channel after the other through the sinks of the settings, and say which one it is and "
        "what a viewer must see on which side. Ctrl-C eases to neutral.",
    )
    pattern.add_argument("--sink", metavar="N|TYPE", help="only that entry of [[sinks]], from 0, or those of a type")
    pattern.add_argument("--seconds-each", type=float, default=1.5, metavar="S", help="0.2 to 30 (%(default)s)")
    pattern.add_argument("--channels", nargs="+", default=[], metavar="NAME", help="only these, or regions such as jaw")
    pattern.add_argument("--loop", action="store_true", help="begin again at the end")
    for command in (doctor, pattern):
        _config_option(command)


def _picture_options(parser: argparse.ArgumentParser, size: int) -> None:
    parser.add_argument("text", metavar="TEXT", nargs="?", help="what the face is to act on")
    parser.add_argument("--keyframes", metavar="FILE", help="draw keyframe text, without a model")
    parser.add_argument("-o", "--output", metavar="FILE.png", required=True, help="the picture")
    parser.add_argument("--size", type=int, default=size, metavar="N", help="pixels of a face each way (%(default)s)")
    parser.add_argument("--theme", choices=("light", "dark"), default="light", help="default %(default)s")
    parser.add_argument("--background", default="", metavar="TEXT", help="the situation the text is said in")
    parser.add_argument("--emotion", default="", metavar="TEXT", help="the feeling, in words")
    parser.add_argument("--intensity", type=float, default=1.0, metavar="N", help="0 to 2 (default %(default)s)")
    parser.add_argument("--seed", type=int, metavar="N", help="of the sampling where the model has a temperature")
    _config_option(parser)


def _config_option(parser: argparse.ArgumentParser) -> None:
    # Before or after the command, both are natural; SUPPRESS keeps the one default from hiding the other's value.
    parser.add_argument(
        "--config",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="settings (default: ./config.toml, then the user's folder, then built-in)",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.version:
        from kff_live.runtime.app import version

        print(version())  # noqa: T201 - what was asked for
        return 0
    try:
        return _run(options)
    except UserError as error:
        print(f"kff-live: {error}", file=sys.stderr)  # noqa: T201 - the one line of an error
        return USER_ERROR
    except KeyboardInterrupt:
        return 130


def _load(options: argparse.Namespace) -> "tuple[Config, str]":
    from kff_live.runtime.config import load

    return load(getattr(options, "config", None))


def _run(options: argparse.Namespace) -> int:
    if options.command == "say":
        from kff_live.runtime.say import say

        return say(options)
    if options.command == "render":
        from kff_live.runtime.render import render

        return render(options, _load(options)[0])
    if options.command in ("still", "strip"):
        from kff_live.runtime.pictures import picture

        return picture(options, _load(options)[0])
    if options.command == "bench":
        from kff_live.runtime.bench.command import bench

        return bench(options, _load(options)[0])
    if options.command == "doctor":
        from kff_live.runtime.diagnosis.doctor import doctor

        return doctor(options)
    if options.command == "monitor":
        from kff_live.runtime.diagnosis.monitor import monitor

        return monitor(options)
    if options.command == "test-pattern":
        from kff_live.runtime.diagnosis.pattern import show_pattern

        return show_pattern(options, _load(options)[0])
    if options.command == "record":
        from kff_live.runtime.record import record

        return record(options)
    config, source = _load(options)
    if options.command == "play":
        from kff_live.runtime.play import play

        return play(options, config, source)
    from kff_live.runtime.app import run

    run(config, source)
    return 0


if __name__ == "__main__":
    sys.exit(main())
