"""Temporary folders of killed processes are removed by the next start, those of running ones never."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from fastapi import FastAPI

from heart.http.concurrency import ConcurrencyLimiter
from heart.temporary import LOCK, LOCK_SECONDS, remove_abandoned, temporary_folder
from serve.ui.mounting import FOLDER_PREFIX, LazyPage
from tests.fixtures.security import SecurityFigure
from tests.heart.predictions.logs import ROOT

pytestmark = pytest.mark.security

PREFIX = "heart-page-"
# Writes a file into a temporary folder, prints its path, and waits to be killed.
CHILD = f"""
import sys, time
from pathlib import Path
from heart.temporary import temporary_folder
with temporary_folder({PREFIX!r}, Path(sys.argv[1])) as folder:
    (folder / "patients.csv").write_text("57,male")
    print(folder, flush=True)
    time.sleep(60)
"""


def abandoned(parent: Path, name: str = f"{PREFIX}old") -> Path:
    """A folder as a killed process leaves it."""
    folder = parent / name
    (folder / "below").mkdir(parents=True)
    (folder / "below" / "patients.csv").write_text("57,male")
    (folder / LOCK).touch()
    return folder


def test_a_folder_is_removed_at_the_end_of_its_block(tmp_path: Path) -> None:
    with temporary_folder(PREFIX, tmp_path) as folder:
        assert folder.parent == tmp_path
        assert folder.stat().st_mode & 0o777 == 0o700

    assert list(tmp_path.iterdir()) == []


def test_the_next_folder_removes_what_a_killed_process_left(tmp_path: Path) -> None:
    old = abandoned(tmp_path)

    with temporary_folder(PREFIX, tmp_path) as folder:
        assert list(tmp_path.iterdir()) == [folder]
    assert not old.exists()


def test_folders_of_others_are_left_alone(tmp_path: Path) -> None:
    elsewhere = abandoned(tmp_path / "elsewhere", "kept")
    other = tmp_path / f"{PREFIX}without-lock"
    other.mkdir()
    (other / "file").touch()
    (tmp_path / f"{PREFIX}file").touch()
    (tmp_path / f"{PREFIX}link").symlink_to(elsewhere)
    linked = tmp_path / f"{PREFIX}linked-lock"
    linked.mkdir()
    (linked / LOCK).symlink_to(elsewhere / LOCK)
    abandoned(tmp_path, "another-prefix")
    before = sorted(tmp_path.rglob("*"))

    with temporary_folder(PREFIX, tmp_path):
        assert remove_abandoned(PREFIX, tmp_path) == []

    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_without_a_lock_is_removed_once_it_is_old(tmp_path: Path) -> None:
    old, new, empty = (tmp_path / f"{PREFIX}{name}" for name in ("old", "new", "empty"))
    for folder in (old, new, empty):
        folder.mkdir()
    (old / "below").mkdir()
    for folder in (old, empty):
        os.utime(folder, times=(0, time.time() - LOCK_SECONDS - 1))

    with temporary_folder(PREFIX, tmp_path) as own:
        assert sorted(tmp_path.iterdir()) == sorted([new, own])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_left_alone(tmp_path: Path) -> None:
    old = abandoned(tmp_path)
    os.chown(old, 65534, 65534)

    assert remove_abandoned(PREFIX, tmp_path) == []
    assert old.exists()


@pytest.mark.integration
def test_a_killed_process_leaves_its_folder_only_until_the_next_start(
    tmp_path: Path, security_figure: SecurityFigure
) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout
    folder = Path(child.stdout.readline().strip())
    try:
        assert remove_abandoned(PREFIX, tmp_path) == []
        assert (folder / "patients.csv").exists()
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    assert (folder / "patients.csv").exists()

    with temporary_folder(PREFIX, tmp_path) as own:
        assert list(tmp_path.iterdir()) == [own]
    security_figure("files of a killed service", "removed by the next start", "removed")


def test_the_page_removes_what_a_killed_service_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    old = abandoned(tmp_path, f"{FOLDER_PREFIX}old")
    folders: list[Path] = []

    def build(folder: Path) -> FastAPI:
        folders.append(folder)
        return FastAPI()

    async def visit() -> None:
        page = LazyPage(build, ConcurrencyLimiter(8, 1024))
        await page.start()
        assert await page.ready()
        assert not old.exists()
        assert folders[0].is_dir()
        await page.stop()

    asyncio.run(visit())
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_is_stopped_while_it_is_built_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    started, cancelled = threading.Event(), threading.Event()

    def build(folder: Path) -> FastAPI:
        started.set()
        cancelled.wait(10)
        (folder / "made-by-gradio").mkdir(parents=True)
        return FastAPI()

    async def visit() -> None:
        page = LazyPage(build, ConcurrencyLimiter(8, 1024))
        await page.start()
        assert await asyncio.to_thread(started.wait, 10)
        threading.Timer(0.1, cancelled.set).start()  # the event loop may wait for the thread
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    asyncio.run(visit())  # it ends with the threads of its tasks
    assert list(tmp_path.iterdir()) == []
