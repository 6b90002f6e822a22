"""Memory and CPU time of other processes: through psutil where it is installed, else through /proc."""

import importlib
import os
from pathlib import Path

import msgspec

HINT = "not measured: pip install psutil"


class Usage(msgspec.Struct, frozen=True):
    """`resident` memory in MB (10^6 bytes), and `cpu` time so far in s."""

    resident: float
    cpu: float


def usage(pid: int) -> Usage | None:
    """What a process uses; None where it cannot be known or the process has gone."""
    try:
        psutil = importlib.import_module("psutil")
    except ImportError:
        return _from_proc(pid)
    try:
        process = psutil.Process(pid)
        times = process.cpu_times()
        return Usage(process.memory_info().rss / 1e6, times.user + times.system)
    except psutil.Error:
        return None


def child(pid: int) -> int | None:
    """The newest child process of a process."""
    try:
        psutil = importlib.import_module("psutil")
    except ImportError:
        return max(_children_from_proc(pid), default=None)
    try:
        return max((process.pid for process in psutil.Process(pid).children()), default=None)
    except psutil.Error:
        return None


def _from_proc(pid: int) -> Usage | None:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        fields = _stat(pid)
        ticks = int(fields[11]) + int(fields[12])
        return Usage(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError, AttributeError):  # no /proc, no such process
        return None


def _children_from_proc(pid: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int(_stat(int(folder.name))[1]) == pid:
                found.append(int(folder.name))
        except (OSError, ValueError, IndexError):
            continue  # it has ended meanwhile
    return found


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name, which may hold anything."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
