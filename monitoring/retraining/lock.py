"""One at a time: a lock file that tells who holds it, and that a process takes with it when it dies."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from heart.errors import UserError

# What a killed holder leaves behind is killed too, which takes a moment.
REMAINS_SECONDS = 10


class Lock:
    """A held lock. `left` is the note of a former holder that died, None if it ended well.

    `descriptor` is of the open file: a process that inherits it holds the lock too.
    """

    def __init__(self, file: IO[str], left: dict[str, Any] | None) -> None:
        self._file = file
        self.left = left
        self.descriptor = file.fileno()

    def note(self, **facts: Any) -> None:
        """Write who holds the lock, since when, and `facts`, for whoever finds the lock later."""
        own = {"pid": os.getpid(), "since": time.time()}
        self._file.seek(0)
        self._file.truncate()
        json.dump(facts | own, self._file)
        self._file.flush()

    def clear(self) -> None:
        """The holder ends well: nothing is left to find."""
        self._file.seek(0)
        self._file.truncate()


@contextmanager
def only_one(path: Path) -> Iterator[Lock]:
    """Hold the lock on `path`. Raises UserError, naming pid and age, while another process does.

    The kernel frees the lock of a process that died, so none is ever stale.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        end = time.monotonic() + REMAINS_SECONDS
        while not _taken(file):
            if _alive(_read(file)) or time.monotonic() > end:
                raise UserError(f"{path}: {_holder(file)}")
            time.sleep(0.1)
        lock = Lock(file, _read(file))
        # What a dead holder left is to be found until this one has dealt with it.
        lock.note(**(lock.left or {}))
        yield lock
        lock.clear()


def _taken(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _alive(holder: dict[str, Any] | None) -> bool:
    """Whether the process that noted itself lives; one that has not yet done so does."""
    return holder is None or Path(f"/proc/{holder['pid']}").exists() or not Path("/proc").exists()


def _read(file: IO[str]) -> dict[str, Any] | None:
    file.seek(0)
    try:
        note = json.load(file)
    except ValueError:
        return None
    return note if isinstance(note, dict) else None


def _holder(file: IO[str]) -> str:
    known = _read(file)
    if not known:
        return "another process holds it"
    return f"process {known['pid']} has held it for {time.time() - known['since']:.0f} s"
