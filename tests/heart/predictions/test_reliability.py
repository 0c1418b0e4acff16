"""The prediction log in failures: killed writers, unavailable databases, full disks, lost responses."""

import asyncio
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from heart.predictions import log as log_module
from heart.predictions.log import LogUnavailable, PredictionLog
from tests.conftest import Require
from tests.heart.predictions.logs import ROOT, Postgres, opened, records, sound, until

ALL = 10**9

# Killed writers

# Each printed line is an acknowledged batch; its version is the name of the batch.
CHILD = """
import asyncio, os, sys
from heart.predictions.log import PredictionLog, Record
from heart.predictions.log import new_ids
from tests.heart.predictions.logs import VALUES

async def client(log, rows):
    while True:
        ids = new_ids(rows)
        await log.append([Record(key, ids[0], 0.5, VALUES) for key in ids])
        os.write(1, (" ".join(ids) + "\\n").encode())

async def main():
    log = PredictionLog(sys.argv[1])
    log.start()
    await asyncio.gather(*(client(log, 20 if number % 8 == 0 else 1) for number in range(32)))

asyncio.run(main())
"""


def killed(url: str, output: Path, pause: float) -> list[list[str]]:
    """Kill a writing process `pause` seconds after its first batch; the batches that it acknowledged."""
    with output.open("wb") as file:
        child = subprocess.Popen([sys.executable, "-c", CHILD, url], cwd=ROOT, stdout=file)
    try:
        until(lambda: output.stat().st_size > 0 or child.poll() is not None)
        assert child.poll() is None, "the writing process failed"
        time.sleep(pause)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    return [
        line.split() for line in output.read_text().splitlines(keepends=True) if line[-1] == "\n"
    ]


def check(url: str, acknowledged: list[list[str]]) -> None:
    with opened(url) as log:
        rows = log.last(ALL)
    assert len(rows["id"]) == len(set(rows["id"]))
    sizes = Counter(rows["model_version"])
    assert set(sizes.values()) <= {1, 20}, "part of a batch"
    assert all(sizes[batch[0]] == len(batch) for batch in acknowledged)
    assert {key for batch in acknowledged for key in batch} <= set(rows["id"])
    sound(url)


@pytest.mark.integration
@pytest.mark.parametrize("rounds", [10, pytest.param(200, marks=pytest.mark.heavy)])
def test_killed_writer_loses_no_acknowledged_record(url: str, tmp_path: Path, rounds: int) -> None:
    chance = random.Random(rounds)
    for _ in range(rounds // 5):
        acknowledged: list[list[str]] = []
        for _ in range(5):
            acknowledged += killed(url, tmp_path / "output", chance.uniform(0, 0.4))
            check(url, acknowledged)
        assert len(acknowledged) > 50

        with opened(url, retention_days=0) as log:  # so that the next rounds have less to read
            log.purge(datetime.now(UTC) + timedelta(days=1))
            assert log.count() == 0


# An unavailable database


@dataclass
class Outage:
    url: str
    begin: Callable[[], None]
    end: Callable[[], None]


@pytest.fixture(
    params=[
        "file moved",
        "folder moved",
        pytest.param("server stopped", marks=pytest.mark.integration),
        pytest.param("server crashed", marks=pytest.mark.integration),
    ]
)
def outage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Outage]:
    if request.param.startswith("server"):
        server: Postgres = request.getfixturevalue("postgres")
        mode = "fast" if request.param == "server stopped" else "immediate"
        up = True

        def stop() -> None:
            nonlocal up
            up = False
            server.stop(mode)

        def start() -> None:
            nonlocal up
            server.start()
            up = True

        yield Outage(server.database(), stop, start)
        if not up:
            server.start()
        return
    folder = tmp_path / "logs"
    moved = folder if request.param == "folder moved" else folder / "log.db"
    away = tmp_path / "away"
    yield Outage(
        f"sqlite:///{folder}/log.db", lambda: _move(moved, away), lambda: _move(away, moved)
    )


def _move(source: Path, target: Path) -> None:
    source.rename(target)


class Load:
    """Clients in an event loop of their own that append until stopped and record the results."""

    def __init__(self, log: PredictionLog) -> None:
        self.acknowledged: list[str] = []
        self.rejections = 0
        self.errors: list[BaseException] = []
        self._log = log
        self._stop = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    async def _run(self) -> None:
        await asyncio.gather(*(self._client() for _ in range(8)))

    async def _client(self) -> None:
        while not self._stop:
            batch = records(1)
            try:
                await self._log.append(batch)
            except LogUnavailable as error:
                self.rejections += 1
                await asyncio.sleep(min(error.retry_after, 0.01))
            except Exception as error:  # noqa: BLE001  # checked by the test
                self.errors.append(error)
                return
            else:
                self.acknowledged.append(batch[0].id)

    @contextmanager
    def running(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stop = True
            self._thread.join()

    def more(self) -> None:
        """Wait for 100 further acknowledged records."""
        before = len(self.acknowledged)
        until(lambda: len(self.acknowledged) > before + 100 or bool(self.errors))


def test_no_record_is_lost_in_an_outage_under_load(outage: Outage) -> None:
    with opened(outage.url, retry_after=0.02) as log:
        load = Load(log)
        with load.running():
            for _ in range(3):
                load.more()
                outage.begin()
                before = load.rejections
                until(lambda before=before: load.rejections > before + 20)  # type: ignore[misc]
                assert log.ready()
                outage.end()
                until(lambda: log.ready() is None)
            load.more()

        assert not load.errors
        assert log.stats.failures > 0
        ids = log.last(ALL)["id"]
        assert len(ids) == len(set(ids))
        assert set(load.acknowledged) <= set(ids)
    sound(outage.url)


def test_log_started_before_its_server_works_once_it_is_up(postgres: Postgres) -> None:
    url = postgres.database()
    postgres.stop("fast")
    try:
        with opened(url, retry_after=0.0) as log:
            _starts_late(log, postgres.start)
    finally:
        if not (postgres.folder / "data" / "postmaster.pid").exists():
            postgres.start()


def test_log_started_without_its_file_works_once_it_is_possible(tmp_path: Path) -> None:
    (tmp_path / "log.db").mkdir()
    with opened(f"sqlite:///{tmp_path}/log.db", retry_after=0.0) as log:
        _starts_late(log, (tmp_path / "log.db").rmdir)


def _starts_late(log: PredictionLog, start: Callable[[], None]) -> None:
    assert log.ready()
    with pytest.raises(LogUnavailable):
        log.append_sync(records(1))
    with pytest.raises(LogUnavailable):
        log.last(1)
    start()
    log.append_sync(records(1))
    assert log.count() == 1


def test_readiness_ends_an_outage_without_traffic(outage: Outage) -> None:
    with opened(outage.url, retry_after=1000.0) as log:
        outage.begin()
        assert log.ready()
        with pytest.raises(LogUnavailable) as error:
            log.append_sync(records(1))
        assert error.value.retry_after == 1000.0
        outage.end()

        assert log.ready() is None

        log.append_sync(records(1))


# Replaced files of SQLite


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


def _beside(file: Path, suffix: str) -> Path:
    return file.with_name(file.name + suffix)


def test_a_restored_copy_is_used_with_its_changes(file: Path, tmp_path: Path) -> None:
    with opened(f"sqlite:///{file}", retry_after=0.0) as log:
        log.append_sync(batch := records(500))
        shutil.copy(file, tmp_path / "copy")
        file.unlink()
        with pytest.raises(LogUnavailable):
            log.append_sync(records(1))
        shutil.move(tmp_path / "copy", file)

        log.append_sync(late := records(1))

        assert {record.id for record in (*batch, *late)} <= set(log.last(ALL)["id"])
    sound(f"sqlite:///{file}")


def test_a_missing_file_is_not_created_again(file: Path) -> None:
    with opened(f"sqlite:///{file}", retry_after=0.0) as log:
        log.append_sync(records(1))
        file.unlink()
        for _ in range(3):
            with pytest.raises(LogUnavailable, match="No such file"):
                log.append_sync(records(1))

        assert not file.exists()


def test_an_empty_file_in_its_place_does_not_delete_the_changes(file: Path, tmp_path: Path) -> None:
    with opened(f"sqlite:///{file}", retry_after=0.0) as log:
        log.append_sync(batch := records(3))
        file.rename(tmp_path / "away")
        file.touch()
        for _ in range(3):
            with pytest.raises(LogUnavailable):
                log.append_sync(records(1))
        (tmp_path / "away").rename(file)

        log.append_sync(records(1))

        assert {record.id for record in batch} <= set(log.last(ALL)["id"])


def test_a_fresh_start_after_all_was_deleted(file: Path) -> None:
    with opened(f"sqlite:///{file}", retry_after=0.0) as log:
        log.append_sync(records(1))
        for suffix in ("", "-wal", "-shm"):
            _beside(file, suffix).unlink()
        assert log.ready()
        file.touch()
        assert "begin a new log" in (log.ready() or "ready")
        assert not file.stat().st_size
        _beside(file, "-id").unlink()

        log.append_sync(late := records(1))

        assert log.last(ALL)["id"] == [late[0].id]


def test_after_a_deleted_wal_the_records_are_kept(file: Path) -> None:
    with opened(f"sqlite:///{file}", retry_after=0.0) as log:
        log.append_sync(batch := records(3))
        _beside(file, "-wal").unlink()

        log.append_sync(late := records(2))

        assert {record.id for record in (*batch, *late)} == set(log.last(ALL)["id"])
    with opened(f"sqlite:///{file}") as again:
        assert again.count() == 5


def test_a_damaged_file_in_its_place_is_not_written(file: Path, tmp_path: Path) -> None:
    with opened(f"sqlite:///{file}", retry_after=0.0) as log:
        log.append_sync(batch := records(5000))
        log.erase(batch[0].id)  # which moves all changes into the file
        shutil.copy(file, tmp_path / "copy")
        with (tmp_path / "copy").open("r+b") as damaged:
            damaged.seek(50 * 4096)
            damaged.write(os.urandom(40 * 4096))
        (tmp_path / "copy").rename(file)

        with pytest.raises(LogUnavailable):
            log.append_sync(records(1))
        assert log.ready()


def test_a_full_disk_is_an_outage_until_there_is_space(tmp_path: Path) -> None:
    with _small_disk(tmp_path / "disk") as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(2**20))
        acknowledged: list[str] = []
        with opened(f"sqlite:///{disk}/log.db", retry_after=0.0) as log:
            with pytest.raises(LogUnavailable, match="full"):
                _fill(log, acknowledged, 50)
            with pytest.raises(LogUnavailable, match="full"):
                _fill(log, acknowledged, 1)
            assert log.stats.failures == 2
            for _ in range(20):
                assert "full" in (log.ready() or "ready")

            ballast.unlink()
            log.append_sync(batch := records(50))

            assert log.ready() is None
            acknowledged += [record.id for record in batch]
            assert set(acknowledged) <= set(log.last(ALL)["id"])
        with opened(f"sqlite:///{disk}/log.db") as again:
            assert set(acknowledged) <= set(again.last(ALL)["id"])
        sound(f"sqlite:///{disk}/log.db")


def _fill(log: PredictionLog, acknowledged: list[str], rows: int) -> None:
    for _ in range(10_000):
        log.append_sync(batch := records(rows))
        acknowledged += [record.id for record in batch]


@pytest.mark.integration
def test_a_full_disk_of_postgresql_is_an_outage_until_there_is_space(
    require: Require,
) -> None:
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = require(programs[-1] if programs else None, "postgresql")
    with (
        tempfile.TemporaryDirectory() as folder,
        _small_disk(Path(folder) / "disk", "200m") as disk,
    ):
        Path(folder).chmod(0o755)  # as root, the server runs as another user
        server = Postgres(initdb.parent, disk)
        server.start()
        try:
            with opened(server.database(), retry_after=0.0) as log:
                log.append_sync(records(1))
                assert log.ready() is None
                ballast = disk / "ballast"
                _fill_up(ballast)
                with pytest.raises(LogUnavailable, match="DiskFull"):
                    _fill(log, [], 50)
                with pytest.raises(LogUnavailable, match="DiskFull"):
                    _fill(log, [], 1)
                for _ in range(20):
                    assert "DiskFull" in (log.ready() or "ready")

                ballast.unlink()
                log.append_sync(records(1))

                assert log.ready() is None
        finally:
            server.stop()


def _fill_up(path: Path) -> None:
    """Write a file until the disk is full."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_rows_of_the_readiness_check_are_never_visible(url: str) -> None:
    with opened(url) as log:
        log.append_sync(batch := records(3))
        for _ in range(3):
            assert log.ready() is None
        log.append_sync(late := records(1))

        assert log.count() == 4
        assert log.last(ALL)["id"] == [record.id for record in (*late, *batch[::-1])]
        # Rows are counted over all ever written: the drift check ends at every tenth.
        assert log.last(1, step=4)["id"] == [late[0].id]


@contextmanager
def _small_disk(folder: Path, size: str = "3m") -> Iterator[Path]:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


# Lost responses of PostgreSQL


class Proxy:
    """A socket in front of PostgreSQL's that can drop the server's next response and disconnect."""

    def __init__(self, server: Postgres, folder: Path) -> None:
        name = ".s.PGSQL.5432"
        self.lose_next = False
        self.lost = 0
        self._behind = str(server.folder / name)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / name))
        self._listener.listen()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                front, _ = self._listener.accept()
            except OSError:
                return
            back = socket.socket(socket.AF_UNIX)
            back.connect(self._behind)
            for source, target in ((front, back), (back, front)):
                thread = threading.Thread(target=self._forward, args=(source, target, back))
                self._threads.append(thread)
                thread.start()

    def _forward(self, source: socket.socket, target: socket.socket, back: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if source is back and self.lose_next:
                    self.lose_next, self.lost = False, self.lost + 1
                    break
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()


@pytest.fixture
def proxy(postgres: Postgres, tmp_path: Path) -> Iterator[Proxy]:
    proxy = Proxy(postgres, tmp_path)
    yield proxy
    proxy.close()


def test_a_commit_whose_response_is_lost_is_repeated(
    postgres: Postgres, proxy: Proxy, tmp_path: Path
) -> None:
    postgres.database()
    with opened(postgres.url("postgres", tmp_path)) as log:
        log.append_sync(records(1))
        proxy.lose_next = True

        log.append_sync(batch := records(20))

        assert proxy.lost == 1
        assert log.stats.failures == 0
        assert log.count() == 21
        assert {record.id for record in batch} <= set(log.last(ALL)["id"])


def test_a_response_that_never_arrives_blocks_neither_readiness_nor_closing(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, threads = postgres.database(), set(threading.enumerate())
    with opened(url) as log:
        monkeypatch.setattr(log_module, "ANSWER_SECONDS", 0.2)
        with psycopg.connect(url) as other:
            other.execute("LOCK TABLE predictions")

            before = time.monotonic()
            assert log.ready() == "the database has not answered for 0.2 s"
            log.close(timeout=0.2)
            assert time.monotonic() - before < 4

        until(lambda: set(threading.enumerate()) <= threads)
