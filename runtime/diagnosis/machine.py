"""The doctor's look at the machine: versions, clock, headroom, firewall."""

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

import numpy as np

from kff_live.protocols import livelink
from kff_live.protocols.channels import HIGH
from kff_live.protocols.keyframes import Keyframe
from kff_live.protocols.track import Timeline
from kff_live.runtime.clock import SystemClock
from kff_live.runtime.config import Config
from kff_live.runtime.diagnosis.network import beyond_loopback
from kff_live.runtime.diagnosis.result import Result
from kff_live.runtime.player import Plan, Player
from kff_live.runtime.sinks.making import device_id

_PACKAGES = ("numpy", "numba", "llama-cpp-python")
_TICKS = 60
_LATE_SECONDS, _VERY_LATE_SECONDS = 0.002, 0.008
_COARSE_SECONDS = 1e-4
_FRAMES = 240
_SHARE = 0.25  # of a frame's time that all subjects together may take
_TIMEOUT = 5.0


def versions(_: Config) -> Iterator[Result]:
    """What is installed."""
    found = [f"kff-live {importlib.metadata.version('kff-live')}", f"Python {platform.python_version()}"]
    for package in _PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"no {package}")
    yield Result("versions", "ok", f"{', '.join(found)}; {platform.system()} {platform.machine()}")


def clock(config: Config) -> Iterator[Result]:
    """How fine the clock is, and how late sleeps end, as the frame thread sleeps."""
    time = SystemClock()
    steps = np.diff([time.now() for _ in range(10_000)])
    resolution = float(steps[steps > 0].min())
    start, late = time.now(), []
    for tick in range(1, _TICKS + 1):
        deadline = start + tick * config.rate.period
        time.sleep_until(deadline)
        late.append(time.now() - deadline)
    usual, worst = float(np.median(late)), max(late)
    found = (
        f"resolution {1e6 * resolution:.2g} us; {_TICKS} sleeps of {1000 * config.rate.period:.1f} ms ended "
        f"{1000 * usual:.2f} ms late, at worst {1000 * worst:.1f} ms"
    )
    if resolution > _COARSE_SECONDS or usual > _LATE_SECONDS:
        yield Result("clock", "warning", found, "frames will be uneven: is this a virtual machine, or saving power?")
    elif worst > _VERY_LATE_SECONDS:
        yield Result("clock", "warning", found, "something else takes the cores: close it, or see docs/speed.md")
    else:
        yield Result("clock", "ok", found)


def cpu(config: Config) -> Iterator[Result]:
    """What the frames of all subjects cost beside the time that there is, and how busy the machine is."""
    from kff_live.protocols import kernels  # compiles

    name, rate, time = config.subjects[0].name, config.rate, SystemClock()
    player, encoder = Player(name, rate), livelink.Encoder(device_id(name), name, rate)
    player.use(kernels)
    player.plan, costs = Plan(Timeline().append(Keyframe(HIGH.copy(), way=1.0)), cut=1), []
    for tick in range(_FRAMES):
        start = time.now()
        encoder.encode(player.frame(tick / _FRAMES, tick, 0.0))
        costs.append(time.now() - start)
    cost, cores = float(np.median(costs)) * len(config.subjects), os.cpu_count() or 1
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None  # Windows has none
    busy = "" if load is None else f", load {load:.1f}"
    found = f"{1e6 * cost:.0f} us a frame of {1e6 * rate.period:.0f}; {cores} cores{busy}"
    if cost > _SHARE * rate.period:
        yield Result("cpu", "warning", found, "fewer [[subjects]], a lower fps, or a faster machine")
    elif load is not None and load > cores:
        yield Result("cpu", "warning", found, "more programs want to run than there are cores: close some")
    elif cores == 1:
        yield Result("cpu", "warning", found, "the model and the frames share one core: frames may be late")
    else:
        yield Result("cpu", "ok", found)


def firewall(config: Config) -> Iterator[Result]:
    """Whether a firewall is on, where it can be read without changing anything."""
    state = {"win32": _windows, "darwin": _macos}.get(sys.platform, _linux)()
    if state is None:
        yield Result("firewall", "note", "not readable from here", _FIREWALL_CURES.get(sys.platform, ""))
    elif not state:
        yield Result("firewall", "ok", "off, or without a rule that drops packets")
    else:
        ways = beyond_loopback(config)
        cure = f"let through: {', '.join(ways)}" if ways else "nothing in the settings leaves this machine"
        yield Result("firewall", "note", state, cure)


_FIREWALL_CURES = {"linux": "as root: ufw status, nft list ruleset or iptables -S"}


def _linux() -> str | None:
    """What is on; "" when nothing is, None where it cannot be read."""
    read = False
    for command, pattern in (
        (("ufw", "status"), r"Status: active"),
        (("nft", "list", "ruleset"), r"\b(drop|reject)\b"),
        (("iptables", "-S"), r"-j (DROP|REJECT)|-P (INPUT|OUTPUT) DROP"),
    ):
        said = _output(*command)
        read |= said is not None
        if said and re.search(pattern, said):
            return f"{command[0]} is on and drops packets"
    return "" if read else None


def _windows() -> str | None:
    """The last words of "State   ON" and its translations, a profile each."""
    said = _output("netsh", "advfirewall", "show", "allprofiles", "state")
    states = re.findall(r"^\S+\s+(\S+)\s*$", said or "", re.MULTILINE)
    return f"Windows Defender Firewall, by profile: {', '.join(states)}" if states else None


def _macos() -> str | None:
    said = _output("/usr/libexec/ApplicationFirewall/socketfilterfw", "--getglobalstate")
    state = re.search(r"State = (\d)", said or "")
    return None if state is None else "the application firewall is on" if int(state[1]) else ""


def _output(*command: str) -> str | None:
    """What a program prints; None when it is not there, fails, or takes too long."""
    program = shutil.which(command[0])
    if program is None:
        return None
    try:
        ended = subprocess.run(
            [program, *command[1:]], capture_output=True, text=True, errors="replace", timeout=_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ended.stdout if ended.returncode == 0 else None
