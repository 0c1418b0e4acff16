"""A command with a time limit, in a process group of its own."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

GRACE_SECONDS = 5.0  # between SIGTERM and SIGKILL
POLL_SECONDS = 0.1
TAIL_BYTES = 4096
VERDICT_LENGTH = 200


async def run(
    command: Sequence[str], environment: Mapping[str, str], log: Path, seconds: float
) -> int:
    """The exit code of a command whose output goes to a file.

    Raises TimeoutError at the time limit, OSError if it cannot be started. At any end, also by a
    cancellation, no process of the command's group is alive afterwards.
    """
    process = _started(command, environment, log)
    try:
        if not await _ended(process, seconds):
            raise TimeoutError
    finally:
        await _end(process)
    return process.wait()


def _started(
    command: Sequence[str], environment: Mapping[str, str], log: Path
) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            env=environment, start_new_session=True,
        )  # fmt: skip


async def _ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether a process ends within a time. It polls, since a wait in a thread cannot be cancelled."""
    deadline = time.monotonic() + seconds
    while process.poll() is None:
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True


async def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        if process.poll() is None:
            _signal(process, signal.SIGTERM)
            await _ended(process, GRACE_SECONDS)
    finally:
        _signal(process, signal.SIGKILL)
        process.wait()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def last_line(log: Path) -> str:
    """The last line of a log that is not empty, without control characters."""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    readable = ("".join(filter(str.isprintable, line)).strip() for line in reversed(lines))
    return next(filter(None, readable), "")[:VERDICT_LENGTH]
