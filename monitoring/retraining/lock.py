"""The run lock: a lock file that names its holder, and that is released when its processes have ended.

`filelock.FileLock` owns its file and descriptor. Here the file also holds a note about the holder, and
commands of the holder inherit its descriptor: while a killed holder's DVC still runs, the lock is held.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from filelock import lock_descriptor

from heart.errors import TryAgainLater

# The commands of a killed holder are killed too, which takes a moment.
COMMANDS_SECONDS = 10


class Lock:
    """A held lock. `leftover` is the note of a former holder that was killed, otherwise None.

    `descriptor` is that of the open file: a process that inherits it holds the lock too.
    """

    def __init__(self, file: IO[str], leftover: dict[str, Any] | None) -> None:
        self._file = file
        self.leftover = leftover
        self.descriptor = file.fileno()

    def note(self, **facts: Any) -> None:
        """Write the process id, the time and `facts` into the file, for processes that find the lock held."""
        own = {"pid": os.getpid(), "since": time.time()}
        self._file.seek(0)
        self._file.truncate()
        json.dump(facts | own, self._file)
        self._file.flush()

    def clear(self) -> None:
        """Remove the note at a normal end."""
        self._file.seek(0)
        self._file.truncate()


@contextmanager
def hold(path: Path) -> Iterator[Lock]:
    """Hold the lock on `path`. Raises TryAgainLater with the holder's pid and age while another process does.

    The kernel releases the lock of a killed process, so that no lock is stale.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        end = time.monotonic() + COMMANDS_SECONDS
        while not lock_descriptor(file.fileno(), blocking=False):
            if _alive(_read(file)) or time.monotonic() > end:
                raise TryAgainLater(f"{path}: {_holder(file)}")
            time.sleep(0.1)
        lock = Lock(file, _read(file))
        # The note of a killed holder is kept until this one ends normally.
        lock.note(**(lock.leftover or {}))
        yield lock
        lock.clear()


def _alive(holder: dict[str, Any] | None) -> bool:
    """Whether the process in the note runs; without a note it is about to write one."""
    return holder is None or Path(f"/proc/{holder['pid']}").exists() or not Path("/proc").exists()


def _read(file: IO[str]) -> dict[str, Any] | None:
    file.seek(0)
    try:
        note = json.load(file)
    except ValueError:
        return None
    return note if isinstance(note, dict) else None


def _holder(file: IO[str]) -> str:
    note = _read(file)
    if not note:
        return "another process holds it; wait until it has ended"
    seconds = time.time() - note["since"]
    return f"process {note['pid']} has held it for {seconds:.0f} s; wait until it has ended"
