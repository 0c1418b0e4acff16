"""Processes as /proc shows them, and ports for them."""

import os
import socket
from pathlib import Path

ROOT = Path(__file__).parents[1]


def _stat(pid: int) -> list[str]:
    """The fields after the name in /proc/PID/stat; empty if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return []


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    return _stat(pid)[:1] not in ([], ["Z"])


def seconds(pid: int) -> float:
    """The processor time of a process."""
    stat = _stat(pid)
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK") if stat else 0.0


def command_line(pid: int) -> str:
    """Its command and arguments, apart by spaces; nothing if there is no such process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def queued_seconds(pid: int) -> float:
    """How long its main thread was ready to run and waited for a processor: the load of the machine."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


def children(pid: int) -> list[int]:
    """All descendants of a process."""
    parents = {int(p.name): _stat(int(p.name))[1:2] for p in Path("/proc").glob("[0-9]*")}
    pids, queue = [], [pid]
    while queue:
        pids += queue
        queue = [p for p, parent in parents.items() if parent and int(parent[0]) in queue]
    return pids[1:]


def free_port() -> int:
    """A free port of the loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
