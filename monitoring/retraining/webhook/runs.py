"""Which retrainings ran, and for which alerts: in SQLite, so that a restart forgets nothing."""

import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

from monitoring.retraining.webhook.notification import Key

Result = Literal["done", "waiting", "failed", "timed_out", "stopped"]
RESULTS: tuple[Result, ...] = get_args(Result)

# The lock is kept until the end: a second receiver would take the runs of the first for lost.
TABLES = """
PRAGMA locking_mode = EXCLUSIVE;
BEGIN EXCLUSIVE;
CREATE TABLE IF NOT EXISTS runs (
  number INTEGER PRIMARY KEY, trigger TEXT NOT NULL, log TEXT NOT NULL, started REAL NOT NULL,
  ended REAL, exit_code INTEGER, result TEXT, verdict TEXT
) STRICT;
CREATE TABLE IF NOT EXISTS alerts (
  group_key TEXT, starts_at TEXT, run INTEGER NOT NULL, PRIMARY KEY (group_key, starts_at)
) STRICT, WITHOUT ROWID;
COMMIT;
"""
LOST = "the receiver was killed before the retraining ended: how it ended is not known"


@dataclass(frozen=True)
class Run:
    """A retraining. Times are UTC in ISO 8601; what is not known before its end is None until then."""

    number: int
    trigger: str
    log: str
    started: str
    ended: str | None
    exit_code: int | None
    result: Result | None
    verdict: str | None


class Runs:
    """For one receiver at a time, and in it for one thread at a time.

    Every method raises sqlite3.Error where the file cannot be read or written, or is another's.
    """

    def __init__(self, folder: Path) -> None:
        self.logs = folder / "logs"
        # What a retraining prints may quote rows of patients that it refuses.
        self.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._database = sqlite3.connect(folder / "runs.db", timeout=1, check_same_thread=False)
        self._database.executescript(TABLES)

    def close(self) -> None:
        self._database.close()

    def close_lost(self) -> None:
        """End what a receiver before this one left without an end."""
        with self._database:
            self._database.execute(
                "UPDATE runs SET ended = ?, result = 'stopped', verdict = ? WHERE result IS NULL",
                (time.time(), LOST),
            )

    def seen(self, keys: Iterable[Key]) -> bool:
        """Whether one of these alerts has started a retraining, or joined one that had.

        They are one episode then, and all of them are seen from now on.
        """
        keys = list(keys)
        query = "SELECT run FROM alerts WHERE group_key = ? AND starts_at = ?"
        found = [row for key in keys if (row := self._database.execute(query, key).fetchone())]
        if found:
            with self._database:
                self._see(keys, found[0][0])
        return bool(found)

    def begin(self, keys: Iterable[Key], trigger: str) -> Run:
        """Write down a retraining, and its alerts as seen, before it starts."""
        with self._database:
            row = self._database.execute(
                "INSERT INTO runs (trigger, log, started) VALUES (?, '', ?) RETURNING number",
                (trigger, time.time()),
            ).fetchone()
            log = f"{row[0]:06d}.log"  # its name alone: the folder may be moved
            self._database.execute("UPDATE runs SET log = ? WHERE number = ?", (log, row[0]))
            self._see(keys, row[0])
        return self.last(1)[0]

    def end(self, run: Run, exit_code: int | None, result: Result, verdict: str) -> None:
        """Write down how a retraining ended. One that waits has done nothing about its alerts."""
        with self._database:
            if result == "waiting":
                self._database.execute("DELETE FROM alerts WHERE run = ?", (run.number,))
            self._database.execute(
                "UPDATE runs SET ended = ?, exit_code = ?, result = ?, verdict = ? WHERE number = ?",
                (time.time(), exit_code, result, verdict, run.number),
            )

    def last(self, limit: int) -> list[Run]:
        """The last runs, the newest first."""
        rows = self._database.execute(
            "SELECT number, trigger, log, started, ended, exit_code, result, verdict "
            "FROM runs ORDER BY number DESC LIMIT ?",
            (limit,),
        )
        return [
            Run(number, trigger, str(self.logs / log), _iso(started), ended and _iso(ended), *rest)
            for number, trigger, log, started, ended, *rest in rows
        ]

    def last_end(self) -> float | None:
        """When the last retraining ended, in seconds since 1970."""
        found: float | None = self._database.execute("SELECT max(ended) FROM runs").fetchone()[0]
        return found

    def last_ends(self) -> dict[Result, float]:
        """When the last retraining of each result ended, in seconds since 1970."""
        query = "SELECT result, max(ended) FROM runs WHERE result IS NOT NULL GROUP BY result"
        return dict(self._database.execute(query))

    def forget_logs(self, kept: int) -> None:
        """Delete all log files but the newest; what is known of their runs stays."""
        for path in sorted(self.logs.glob("*.log"))[:-kept]:
            path.unlink(missing_ok=True)

    def _see(self, keys: Iterable[Key], run: int) -> None:
        rows = [(*key, run) for key in keys]
        self._database.executemany("INSERT OR IGNORE INTO alerts VALUES (?, ?, ?)", rows)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
