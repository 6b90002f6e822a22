"""Who holds a port: asked of psutil where it is installed, else of /proc."""

import errno
import importlib
import os
import socket
import sys
from pathlib import Path
from typing import Literal

Kind = Literal["tcp", "udp"]

_SOCKETS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
_TCP_LISTEN = "0A"
_LONGEST = 60
TAKEN = (errno.EADDRINUSE, errno.EACCES)  # Windows says EACCES for a port that another program holds alone


def refusal(kind: Kind, host: str, port: int) -> OSError | None:
    """Why this port cannot be listened on; None where it can."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=_SOCKETS[kind])[0]
        with socket.socket(family, _SOCKETS[kind]) as trial:
            if kind == "tcp" and sys.platform != "win32":  # on Windows it would take the port from its holder
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except OSError as error:
        return error
    return None


def holder(kind: Kind, port: int) -> str | None:
    """The program that listens on a port, as "name (process 123)"; None where nobody does or it cannot be known."""
    try:
        psutil = importlib.import_module("psutil")
    except ImportError:
        return _from_proc(kind, port)
    try:
        for connection in psutil.net_connections(kind):
            if connection.laddr and connection.laddr.port == port and connection.status in ("LISTEN", "NONE"):
                if connection.pid is None:
                    return None
                process = psutil.Process(connection.pid)
                return _described(connection.pid, process.name(), process.cmdline())
    except (psutil.Error, OSError):
        return None
    return None


def is_ours(program: str) -> bool:
    """Whether what `holder` gave is kff-live."""
    return "kff-live" in program.replace("_", "-")


def _from_proc(kind: Kind, port: int) -> str | None:
    inodes = {f"socket:[{inode}]" for table in (kind, f"{kind}6") for inode in _inodes(table, port)}
    if not inodes:
        return None
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.readlink(link) in inodes:
                process = link.parents[1]
                words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
                return _described(int(process.name), (process / "comm").read_text().strip(), words)
        except OSError:
            continue  # it has ended meanwhile, or is somebody else's
    return None


def _inodes(table: str, port: int) -> list[str]:
    """The inodes of the sockets that listen on a port, from /proc/net."""
    try:
        rows = [line.split() for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]]
    except OSError:
        return []
    mine = [row for row in rows if int(row[1].rpartition(":")[2], 16) == port]
    return [row[9] for row in mine if table.startswith("udp") or row[3] == _TCP_LISTEN]


def _described(pid: int, name: str, command: list[str]) -> str:
    """A Python program by what it runs."""
    if name.lower().startswith("python") and len(command) > 1:
        words = [os.path.basename(word) for word in command[1:] if word]
        name = " ".join(["python", *words])[:_LONGEST]
    return f"{name} (process {pid})"
