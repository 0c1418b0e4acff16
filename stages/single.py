"""One at a time: a lock file that tells who holds it, and that a process takes with it when it dies."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from stages.errors import StageError


class Lock:
    """A held lock. `left` is the note of a former holder that died, None if it ended well."""

    def __init__(self, file: IO[str], left: dict[str, Any] | None) -> None:
        self._file = file
        self.left = left

    def note(self, **facts: Any) -> None:
        """Write who holds the lock, since when, and `facts`, for whoever finds the lock later."""
        self._file.seek(0)
        self._file.truncate()
        json.dump({"pid": os.getpid(), "since": time.time(), **facts}, self._file)
        self._file.flush()

    def clear(self) -> None:
        """The holder ends well: nothing is left to find."""
        self._file.seek(0)
        self._file.truncate()


@contextmanager
def only_one(path: Path) -> Iterator[Lock]:
    """Hold the lock on `path`. Raises StageError, naming pid and age, while another process does.

    The kernel frees the lock of a process that died, so none is ever stale.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StageError(f"{path}: {_holder(file)}") from None
        lock = Lock(file, _read(file))
        lock.note()
        yield lock
        lock.clear()


def _read(file: IO[str]) -> dict[str, Any] | None:
    file.seek(0)
    try:
        found = json.load(file)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _holder(file: IO[str]) -> str:
    known = _read(file)
    if not known:
        return "another process holds it"
    return f"process {known['pid']} has held it for {time.time() - known['since']:.0f} s"
