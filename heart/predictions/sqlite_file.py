"""The file of a prediction log in SQLite: only one process writes it, and a lost one is not replaced by an empty one.

Another process may reach the file by another path. Three locks, since none covers all platforms and paths:

- a lock file beside the database. Symbolic links are resolved first, so that all of them lead to it;
- no start with a file that has a second name (a hard link), whose lock file would be another one;
- on Linux, a lock on the file itself: a bind mount shows the same file in another folder.

A missing or emptied file looks like that of a first start. So the database contains a random id, which is
also in a file beside it: where that is, there was a log.
"""

import fcntl
import os
import secrets
import struct
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG

from filelock import FileLock, Timeout
from sqlalchemy import Connection, insert, inspect, select

from heart.predictions.tables import LogConfigurationError, state

LOG_ID = "log_id"  # a row of `log_state`
# A lock of an open file, not of a process. SQLite locks bytes from 2**30 on; this is far beyond them.
_LOCK = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 2**62, 1, 0)


class LogFile:
    """A database file and the files beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.wal = self._beside("-wal")
        self.marker = self._beside("-id")
        self._names = (str(self.path), str(self.wal))
        # No lock by the file's existence as a fallback: that of a killed process would stay.
        self._lock = FileLock(
            self._beside("-lock"), mode=0o600, thread_local=False, fallback_to_soft=False
        )
        self._descriptor: int | None = None
        self._locked: tuple[int, int] | None = None  # the file that the descriptor is of

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)

    def open(self, first: bool) -> None:
        """Lock the file; create it the first time, unless there was one. Raises LogConfigurationError, OSError.

        A file that disappears later is not created again: when the original is restored, a new one would
        be lost with all predictions in it. To be called while SQLite has no connection to the file.
        """
        if first:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self.path.exists() and self.marker.exists():
                raise LogConfigurationError(self._lost("does not exist"))
            self.path.touch(mode=0o600)
        self._acquire()
        if self.path.stat().st_size:
            return
        if first and self.marker.exists():
            raise LogConfigurationError(self._lost("is empty"))
        if self.wal.exists() and self.wal.stat().st_size:
            # SQLite would delete the WAL, which belongs to the missing file.
            raise FileNotFoundError(0, "the file is empty, but its WAL is not")
        if self.marker.exists():
            raise LogConfigurationError(self._lost("is empty"))

    def check_id(self, connection: Connection) -> None:
        """Raises LogConfigurationError if the database is not the log that the marker names."""
        expected = self._marked()
        if expected is None:
            return
        actual = _log_id(connection)
        if actual is None:
            raise LogConfigurationError(self._lost("contains no log"))
        if actual != expected:
            raise LogConfigurationError(
                f"{self.path} contains another log ({actual:016x}) than {self.marker.name} names "
                f"({expected:016x}): put the right file in its place, or delete {self.marker} to use this one"
            )

    def add_id(self, connection: Connection) -> int:
        """The id of the log in the database, which gets one if it has none."""
        log_id = _log_id(connection)
        if log_id is None:
            log_id = secrets.randbits(63)
            connection.execute(insert(state).values(name=LOG_ID, value=log_id))
        return log_id

    def mark(self, log_id: int) -> None:
        """Write the marker, after the id is durable in the database. Raises OSError."""
        if self.marker.exists():
            return
        part = self._beside("-id.part")
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(f"{log_id:016x}\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.marker)

    def identity(self) -> tuple[tuple[int, int], ...]:
        """Device and inode of the database and its WAL. Raises OSError, also for an emptied file."""
        # Once a commit, so without the methods of `Path`.
        stats = [os.stat(name) for name in self._names]  # noqa: PTH116
        if not stats[0].st_size:
            raise FileNotFoundError(0, "the file was emptied")
        return tuple((stat.st_dev, stat.st_ino) for stat in stats)

    def release(self) -> None:
        """Release all locks, after SQLite's connections are closed."""
        self._release_file()
        self._lock.release()

    def _acquire(self) -> None:
        """Raises LogConfigurationError while another process holds a lock, OSError."""
        if not self._lock.is_locked:
            try:
                self._lock.acquire(blocking=False)
            except Timeout:
                raise LogConfigurationError(self._in_use()) from None
        stat = self.path.stat()
        if self._locked == (stat.st_dev, stat.st_ino):
            return
        if S_ISREG(stat.st_mode) and stat.st_nlink > 1:
            raise LogConfigurationError(
                f"{self.path} has {stat.st_nlink} names (hard links), and another process may write it under "
                f"another one: remove the others (find / -xdev -inum {stat.st_ino})"
            )
        self._release_file()
        if hasattr(fcntl, "F_OFD_SETLK"):
            self._lock_file()
        self._locked = (stat.st_dev, stat.st_ino)

    def _lock_file(self) -> None:
        # Closing a descriptor releases SQLite's own locks on the file: it stays open as long as SQLite uses it.
        descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _LOCK)
        except (BlockingIOError, PermissionError):
            os.close(descriptor)
            raise LogConfigurationError(self._in_use()) from None
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def _release_file(self) -> None:
        if self._descriptor is not None:
            with suppress(OSError):
                os.close(self._descriptor)
        self._descriptor = self._locked = None

    def _marked(self) -> int | None:
        """The id in the marker; None without a marker. Raises LogConfigurationError, OSError."""
        try:
            return int(self.marker.read_text(), 16)
        except FileNotFoundError:
            return None
        except ValueError:
            raise LogConfigurationError(
                f"{self.marker} is damaged, expected 16 hexadecimal digits: delete it if {self.path.name} is the right log"
            ) from None

    def _in_use(self) -> str:
        return f"another process writes {self.path.name}: more than one process needs PostgreSQL"

    def _lost(self, state_of_file: str) -> str:
        return (
            f"{self.path} {state_of_file}, but {self.marker.name} says that there was a log: restore its backup, "
            f"or delete {self.marker} to begin a new log"
        )


def _log_id(connection: Connection) -> int | None:
    if not inspect(connection).has_table(state.name):
        return None
    return connection.scalar(select(state.c.value).where(state.c.name == LOG_ID))
