"""A checkout has the bytes that were committed, whatever git is set to do with line ends."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heart import files

ROOT = Path(__file__).parents[2]
CLONE = "git -c core.autocrlf=true clone --quiet"


@pytest.fixture
def repository(tmp_path: Path, command: Callable[..., Any]) -> Path:
    """A repository of this working tree, with its files staged."""
    source = tmp_path / "source"
    for name in command("git ls-files -co --exclude-standard", ROOT).stdout.splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    for line in ("git init --quiet", "git add --all"):
        command(line, source)
    return source


def changed(source: Path, command: Callable[..., Any]) -> list[str]:
    """The files that a clone has with other bytes, where git turns line ends into those of Windows."""
    command("git commit --quiet -m source", source)
    clone = source.with_name("clone")
    command(f"{CLONE} {source} {clone}", source)
    names = command("git ls-files", source).stdout.splitlines()
    return [n for n in names if (clone / n).read_bytes() != (source / n).read_bytes()]


def test_a_clone_with_line_ends_of_windows_has_the_same_bytes(
    repository: Path, command: Callable[..., Any]
) -> None:
    names = command("git ls-files", repository).stdout.splitlines()

    assert {str(files.RAW), "params.yaml", ".ci/run", "deploy/backup.sh"} <= set(names)
    assert changed(repository, command) == []


def test_tables_of_patients_keep_their_line_ends(
    repository: Path, command: Callable[..., Any]
) -> None:
    raw = repository / files.RAW
    raw.write_bytes(raw.read_bytes().replace(b"\n", b"\r\n"))
    command("git add --all", repository)

    assert changed(repository, command) == []
