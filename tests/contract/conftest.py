"""What the tests of Makefile and workflows share."""

import os
import shutil
from pathlib import Path

import pytest

from tests.contract.stubs import program

ROOT = Path(__file__).parents[2]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The Makefile, with all installed, and a Python that only says what it is asked to do."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements").mkdir()
    for name in ("pipeline", "serve", "score", "lock", "dev"):
        (tmp_path / "requirements" / f"{name}.txt").touch()
    program(tmp_path / ".venv/bin/python", 'for word; do printf "<%s>" "$word"; done; exit $CODE')
    for name in ("pipeline", "serve", "score", "dev"):
        os.utime(tmp_path / "requirements" / f"{name}.txt", (0, 0))
        (tmp_path / ".venv" / name).touch()
    os.utime(tmp_path / "requirements" / "lock.txt", (0, 0))
    return tmp_path
