"""The file of a prediction log in SQLite: only one process writes it, and a lost one is not replaced by an empty one.

Another process may reach the file by another path. Three locks, since none covers all platforms and paths:

- a lock file beside the database. Symbolic links are resolved first, so that all of them lead to it;
- no start with a file that has a second name (a hard link), whose lock file would be another one;
- on Linux, a lock on the file itself: a bind mount shows the same file in another folder.

A missing or emptied file looks like that of a first start. So the database contains a random id, which is
also in a file beside it, the marker: where that is, there was a log.

SQLite takes a database without its WAL for a whole one, although the newest rows are missing. So the marker also has
the number of the last row. It is written after each commit and without a sync: it may be too low, never too high.
"""

import fcntl
import logging
import os
import secrets
import struct
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG

from filelock import FileLock, Timeout
from sqlalchemy import Connection, func, insert, inspect, select

from heart.predictions.tables import LogConfigurationError, predictions, state

logger = logging.getLogger(__name__)

LOG_ID = "log_id"  # a row of `log_state`
_ID_LINE, _ROW_LINE = b"%016x\n", b"%020d\n"  # of the marker
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
        self._stats: list[
            os.stat_result
        ] = []  # of the database and its WAL, before the last commit
        self._marking: int | None = None  # descriptor of the marker

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
            if not self.path.exists():
                logger.info("A new prediction log begins: %s", self.path)
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
        expected, _ = self._marked()
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

    def check_rows(self, connection: Connection) -> None:
        """Raises LogConfigurationError if the newest rows that the marker knows of are missing.

        Not for a database that has replaced another one while this process runs.
        """
        _, expected = self._marked()
        last = last_row(connection)
        if last < expected and not self.replaced():
            raise LogConfigurationError(
                f"{self.path} ends with row {last}, but {self.marker.name} says that row {expected} was written: "
                f"acknowledged predictions are missing, for example since {self.wal.name} was deleted or "
                f"emptied. Put that file or a backup in its place, or delete {self.marker} to continue "
                "without them"
            )

    def add_id(self, connection: Connection) -> int:
        """The id of the log in the database, which gets one if it has none."""
        log_id = _log_id(connection)
        if log_id is None:
            log_id = secrets.randbits(63)
            connection.execute(insert(state).values(name=LOG_ID, value=log_id))
        return log_id

    def mark(self, log_id: int, row: int) -> None:
        """Write the marker, after the id is durable in the database. Raises OSError."""
        if not self.marker.exists():
            part = self._beside("-id.part")
            part.unlink(missing_ok=True)
            with os.fdopen(
                os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb"
            ) as file:
                file.write(_ID_LINE % log_id + _ROW_LINE % row)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.marker)
        self._close_marker()
        self._marking = os.open(self.marker, os.O_WRONLY | os.O_CLOEXEC)
        self.mark_row(row)  # in its place, for which a full disk has space

    def mark_row(self, row: int) -> None:
        """Write the number of the last row into the marker; 0 if it is not known. Raises OSError."""
        assert self._marking is not None
        os.pwrite(self._marking, _ROW_LINE % row, len(_ID_LINE % 0))

    def committed(self, row: int) -> None:
        """After a commit: remember how long the WAL is, and mark the last row unless it is 0. Raises OSError."""
        self._stats[1] = os.stat(self._names[1])  # noqa: PTH116
        if row:
            self.mark_row(row)

    def replaced(self) -> bool:
        """Whether the database is another file than at the last look. Raises OSError."""
        return bool(self._stats) and not _same(self._stats[0], self.path.stat())

    def cut(self) -> bool:
        """Whether the database is shorter than at the last look. Raises OSError."""
        return bool(self._stats) and self.path.stat().st_size < self._stats[0].st_size

    def remember(self) -> None:
        """Take the files as they are now for right. Raises OSError."""
        self._stats = [os.stat(name) for name in self._names]  # noqa: PTH116

    def verify(self) -> None:
        """Raises OSError if another program has replaced, emptied or cut the files since the last look.

        Before a commit: otherwise it would go into a removed file, or behind a gap in the WAL, which SQLite
        would copy into the database.
        """
        # Once a commit, so without the methods of `Path`.
        now = [os.stat(name) for name in self._names]  # noqa: PTH116
        for name, before, stat in zip(self._names, self._stats, now, strict=True):
            if not _whole(before, stat):
                raise FileNotFoundError(0, "replaced or cut by another program", name)
        self._stats = now

    def file(self) -> tuple[int, int]:
        """Device and inode of the database. Raises OSError, also for an emptied file."""
        stat = self.path.stat()
        if not stat.st_size:
            raise FileNotFoundError(0, "the file was emptied")
        return stat.st_dev, stat.st_ino

    def release(self) -> None:
        """Release all locks, after SQLite's connections are closed."""
        self._close_marker()
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

    def _close_marker(self) -> None:
        if self._marking is not None:
            os.close(self._marking)
        self._marking = None

    def _marked(self) -> tuple[int | None, int]:
        """The id in the marker, None without a marker, and the last row. Raises LogConfigurationError, OSError."""
        try:
            log_id, row = self.marker.read_text().split()
            return int(log_id, 16), int(row)
        except FileNotFoundError:
            return None, 0
        except ValueError:
            raise LogConfigurationError(
                f"{self.marker} is damaged, expected 16 hexadecimal digits and the number of a row: delete it "
                f"if {self.path.name} is the right log"
            ) from None

    def _in_use(self) -> str:
        return f"another process writes {self.path.name}: more than one process needs PostgreSQL"

    def _lost(self, state_of_file: str) -> str:
        return (
            f"{self.path} {state_of_file}, but {self.marker.name} says that there was a log: restore its backup, "
            f"or delete {self.marker} to begin a new log"
        )


def last_row(connection: Connection) -> int:
    """The number of the last row of the predictions, 0 without one."""
    return max(connection.scalar(select(func.max(predictions.c.seq))) or 0, 0)


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)


def _whole(before: os.stat_result, now: os.stat_result) -> bool:
    """Whether a file is the same and not shorter: SQLite itself shortens it only when it is told to."""
    return _same(before, now) and now.st_size >= before.st_size


def _log_id(connection: Connection) -> int | None:
    if not inspect(connection).has_table(state.name):
        return None
    return connection.scalar(select(state.c.value).where(state.c.name == LOG_ID))
