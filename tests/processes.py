"""Processes as /proc shows them, and ports for them."""

import os
import socket
from pathlib import Path

ROOT = Path(__file__).parents[1]


def _stat(pid: int) -> list[str]:
    """What follows the name in /proc/PID/stat; nothing if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return []


def alive(pid: int) -> bool:
    """Whether it still runs; one that only waits for its exit code to be read does not."""
    return _stat(pid)[:1] not in ([], ["Z"])


def seconds(pid: int) -> float:
    """The processor time that it has taken."""
    stat = _stat(pid)
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK") if stat else 0.0


def children(pid: int) -> list[int]:
    """All processes under this one, however deep."""
    parents = {int(p.name): _stat(int(p.name))[1:2] for p in Path("/proc").glob("[0-9]*")}
    found, waiting = [], [pid]
    while waiting:
        found += waiting
        waiting = [p for p, parent in parents.items() if parent and int(parent[0]) in waiting]
    return found[1:]


def free_port() -> int:
    """A port of the loopback on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
