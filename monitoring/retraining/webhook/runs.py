"""The run history of the receiver and the alerts of each run, in SQLite."""

import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

from monitoring.retraining.webhook.notification import Key

Result = Literal["done", "waiting", "failed", "timed_out", "stopped"]
RESULTS: tuple[Result, ...] = get_args(Result)

# The lock is held until the end: a second receiver would close the runs of the first as lost.
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
CREATE TABLE IF NOT EXISTS last_alert (
  one INTEGER PRIMARY KEY CHECK (one = 1), received REAL NOT NULL, trigger TEXT NOT NULL, response TEXT NOT NULL
) STRICT;
COMMIT;
"""
LOGS = "logs"  # the folder of the output of retrainings, beside the database
LOST = "the receiver was killed before the retraining ended; its result is unknown"


@dataclass(frozen=True)
class Run:
    """A retraining. Times are UTC in ISO 8601; the last four fields are None until its end."""

    number: int
    trigger: str
    log: str
    started: str
    ended: str | None
    exit_code: int | None
    result: Result | None
    verdict: str | None


@dataclass(frozen=True)
class LastAlert:
    """The last alert on drift, and the response to it. The time is UTC in ISO 8601."""

    received: str
    trigger: str
    response: str


class Runs:
    """The history of one receiver, for one thread at a time.

    Every method raises sqlite3.Error if the file cannot be read or written, or another receiver has it.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock  # seconds since 1970
        self.logs = folder / LOGS
        # The output of a retraining may quote invalid rows of patients.
        self.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._database = sqlite3.connect(folder / "runs.db", timeout=1, check_same_thread=False)
        self._database.executescript(TABLES)

    def close(self) -> None:
        self._database.close()

    def close_lost(self) -> None:
        """Close the runs that a killed receiver has not closed."""
        with self._database:
            self._database.execute(
                "UPDATE runs SET ended = ?, result = 'stopped', verdict = ? WHERE result IS NULL",
                (self.clock(), LOST),
            )

    def seen(self, keys: Iterable[Key]) -> bool:
        """Whether one of these alerts belongs to a run already; then all of them are added to that run."""
        keys = list(keys)
        query = "SELECT run FROM alerts WHERE group_key = ? AND starts_at = ?"
        rows = [row for key in keys if (row := self._database.execute(query, key).fetchone())]
        if rows:
            with self._database:
                self._add_alerts(keys, rows[0][0])
        return bool(rows)

    def note_alert(self, trigger: str, response: str) -> None:
        """Record the last alert on drift; it replaces the one before."""
        with self._database:
            self._database.execute(
                "INSERT OR REPLACE INTO last_alert VALUES (1, ?, ?, ?)",
                (self.clock(), trigger, response),
            )

    def last_alert(self) -> LastAlert | None:
        """The last alert on drift; None before the first."""
        query = "SELECT received, trigger, response FROM last_alert"
        row = self._database.execute(query).fetchone()
        return LastAlert(_iso(row[0]), *row[1:]) if row else None

    def begin(self, keys: Iterable[Key], trigger: str) -> Run:
        """Record a retraining with its alerts, before it starts."""
        with self._database:
            row = self._database.execute(
                "INSERT INTO runs (trigger, log, started) VALUES (?, '', ?) RETURNING number",
                (trigger, self.clock()),
            ).fetchone()
            log = f"{row[0]:06d}.log"  # without the folder, which may be moved
            self._database.execute("UPDATE runs SET log = ? WHERE number = ?", (log, row[0]))
            self._add_alerts(keys, row[0])
        return self.last(1)[0]

    def end(self, run: Run, exit_code: int | None, result: Result, verdict: str) -> None:
        """Record the end of a retraining. The alerts of one that waits may start another."""
        with self._database:
            if result == "waiting":
                self._database.execute("DELETE FROM alerts WHERE run = ?", (run.number,))
            self._database.execute(
                "UPDATE runs SET ended = ?, exit_code = ?, result = ?, verdict = ? WHERE number = ?",
                (self.clock(), exit_code, result, verdict, run.number),
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
        """The end of the last retraining that did not only wait, in seconds since 1970."""
        query = "SELECT max(ended) FROM runs WHERE result != 'waiting'"
        end: float | None = self._database.execute(query).fetchone()[0]
        return end

    def last_ends(self) -> dict[Result, float]:
        """The end of the last retraining with each result, in seconds since 1970."""
        query = "SELECT result, max(ended) FROM runs WHERE result IS NOT NULL GROUP BY result"
        return dict(self._database.execute(query))

    def forget_logs(self, kept: int) -> None:
        """Delete all but the newest log files; their runs are kept."""
        for path in sorted(self.logs.glob("*.log"))[:-kept]:
            path.unlink(missing_ok=True)

    def _add_alerts(self, keys: Iterable[Key], run: int) -> None:
        rows = [(*key, run) for key in keys]
        self._database.executemany("INSERT OR IGNORE INTO alerts VALUES (?, ?, ?)", rows)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
