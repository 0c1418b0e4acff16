"""Modes of files, and a umask that lets everybody read."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def open_to_all() -> Iterator[None]:
    """A block in which everybody can read a new file, unless its writer sets another mode."""
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)


def not_private(folder: Path) -> dict[str, str]:
    """The files and folders in a folder, and itself, that others can read, with their modes."""
    modes = {path: path.stat().st_mode & 0o777 for path in (folder, *folder.rglob("*"))}
    return {str(path): f"{mode:o}" for path, mode in modes.items() if mode & 0o077}
