"""Who may read files, and a process that would let everybody."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def open_to_all() -> Iterator[None]:
    """A block in which a new file belongs to everybody, unless its writer says otherwise."""
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)


def not_private(folder: Path) -> dict[str, str]:
    """The files and folders in a folder, and itself, that others may look into, and their modes."""
    found = {path: path.stat().st_mode & 0o777 for path in (folder, *folder.rglob("*"))}
    return {str(path): f"{mode:o}" for path, mode in found.items() if mode & 0o077}
