"""Temporary folders that do not outlive their process by more than one start.

A process that is killed leaves its folder behind. The next start removes it, and knows by a lock in it that no
process uses it: the kernel releases the lock of a killed process. A folder without a lock file is removed once
it is an hour old: a process that makes one locks it at once. Folders of other users are not touched.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISDIR

from filelock import lock_descriptor

LOCK = ".heart-lock"
LOCK_SECONDS = 3600  # after which a folder without a lock file belongs to no process


@contextmanager
def temporary_folder(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """A new folder for the block, after those of killed processes with the same prefix are removed."""
    remove_abandoned(prefix, parent)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=parent) as name, _locked(Path(name)):
        yield Path(name)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    # Renamed once it is locked: a lock file that is not locked belongs to no process.
    part = folder / f"{LOCK}.part"
    with part.open("w") as file:
        lock_descriptor(file.fileno(), blocking=False)
        part.rename(folder / LOCK)
        yield


def remove_abandoned(prefix: str, parent: Path | None = None) -> list[Path]:
    """Remove the folders that killed processes left, and return them."""
    candidates = (parent or Path(tempfile.gettempdir())).glob(f"{prefix}*")
    return [folder for folder in candidates if _remove(folder)]


def _remove(folder: Path) -> bool:
    """Remove a folder of this user whose process has ended; False for any other."""
    with suppress(OSError):
        stat = folder.lstat()
        if not S_ISDIR(stat.st_mode) or stat.st_uid != os.getuid():
            return False
        try:
            descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW)
        except FileNotFoundError:
            if time.time() - stat.st_mtime < LOCK_SECONDS:
                return False
            shutil.rmtree(folder)
            return True
        with os.fdopen(descriptor) as file:
            if lock_descriptor(file.fileno(), blocking=False):
                shutil.rmtree(folder)
                return True
    return False
