"""Prediction logs for tests: records, a paused writer, and a real PostgreSQL."""

import os
import shutil
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import NullPool, create_engine, make_url, text

from heart.predictions.log import PredictionLog, Record, new_ids
from heart.schema import MEASUREMENTS

ROOT = Path(__file__).parents[3]
VALUES = tuple(
    m.choices[-1].name if m.choices else m.high - 0.1 * (m.step != 1) for m in MEASUREMENTS
)


def records(count: int, version: str = "7", probability: float = 0.25) -> list[Record]:
    return [Record(key, version, probability, VALUES) for key in new_ids(count)]


def execute(url: str, *statements: str) -> list[Any]:
    """Run statements beside the log; the rows of the last one."""
    driver = "postgresql+psycopg" if url.startswith("postgresql") else "sqlite"
    engine = create_engine(make_url(url).set(drivername=driver), poolclass=NullPool)
    with engine.begin() as connection:
        results = [connection.execute(text(statement)) for statement in statements]
        return list(results[-1].all()) if results[-1].returns_rows else []


@contextmanager
def opened(url: str, **options: Any) -> Iterator[PredictionLog]:
    log = PredictionLog(url, **options)
    log.start()
    try:
        yield log
    finally:
        log.close()


@contextmanager
def held(log: PredictionLog) -> Iterator[None]:
    """Pause the writer, so that appended records wait in the queue."""
    entered, released = threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        released.wait(20)

    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(log.writer.run_on_writer, hold)
        entered.wait(20)
        try:
            yield
        finally:
            released.set()
            job.result()


def sound(url: str) -> None:
    """The database's own check of its files."""
    if url.startswith("sqlite"):
        with sqlite3.connect(url.removeprefix("sqlite:///")) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        database.close()
        return
    with psycopg.connect(url) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS amcheck")
        connection.execute(
            "SELECT bt_index_check(indexrelid, true) FROM pg_index "
            "WHERE indrelid IN ('predictions'::regclass, 'outcomes'::regclass)"
        )


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not true within {seconds:g} s"
        time.sleep(0.002)


class Postgres:
    """A server of its own, reached through a socket in its folder; as root it runs as `postgres`."""

    def __init__(self, programs: Path, parent: Path | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-", dir=parent))
        self._programs = programs
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user:
            shutil.chown(self.folder, self._user, self._user)
        self._run("initdb", "--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8")

    def start(self) -> None:
        options = f"-c listen_addresses= -c unix_socket_directories={self.folder}"
        self._run("pg_ctl", "start", "--wait", "-o", options, "-l", str(self.folder / "server.log"))

    def stop(self, mode: str = "immediate") -> None:
        """Stop it; `immediate` has the effect of a crash."""
        self._run("pg_ctl", "stop", "--wait", "-m", mode)

    def url(self, name: str, folder: Path | None = None) -> str:
        return f"postgresql://postgres@/{name}?host={folder or self.folder}"

    def database(self) -> str:
        """The URL of an empty database, the same one each time."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
            connection.execute("ALTER DATABASE postgres RESET ALL")
            connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        return self.url("postgres")

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def _run(self, program: str, *arguments: str) -> None:
        groups: list[str | int] | None = [] if self._user else None
        done = subprocess.run(
            [self._programs / program, "-D", self.folder / "data", *arguments],
            user=self._user, group=self._user, extra_groups=groups, cwd=self.folder, check=False,
            stdout=subprocess.PIPE if program == "initdb" else subprocess.DEVNULL,
            stderr=subprocess.STDOUT, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, f"{program}: {done.stdout}"
