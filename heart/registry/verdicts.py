"""Verdicts of trials by the hash of a version's files, so that the same bytes are not tried again and again.

A process remembers the versions that passed. Those that exceeded a limit or crashed are also written to a file:
a trial of them costs seconds, and a service that is restarted would pay them at each start. Since an
overloaded machine may be the cause, such a verdict holds for a minute, then two, four, ... and at most six hours.
"""

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from heart.registry import trial
from heart.registry.errors import EXHAUSTED, VersionRejected
from heart.registry.model_version import Files

MAX_VERDICTS = 32
MAX_BYTES = 64 * 1024
FIRST_SECONDS, MAX_SECONDS = 60.0, 6 * 3600.0

Trial = Callable[[Files], None]  # it raises VersionRejected or RegistryUnavailable

# Trials and hashes that have passed in this process, the newest last.
_passed: dict[tuple[Trial, str], None] = {}


class Verdicts:
    """The verdicts of a cache folder, which replicas may share."""

    def __init__(
        self, path: Path, run: Trial = trial.run, now: Callable[[], float] = time.time
    ) -> None:
        self._path = path
        self._run = run
        self._now = now

    def require(self, files: Files, sha256: str) -> None:
        """Try a version, unless there is a verdict. `sha256` is the hash of all its files.

        Raises VersionRejected, RegistryUnavailable.
        """
        if (self._run, sha256) in _passed:
            return
        rejections = self._read()
        before = rejections.get(sha256)
        if before and self._now() < before["retry_at"]:
            raise _rejected(before)
        try:
            self._run(files)
        except VersionRejected as error:
            if error.kind not in EXHAUSTED:
                raise
            rejections[sha256] = entry = self._entry(error, before["trials"] if before else 0)
            self._write(rejections)
            raise _rejected(entry) from error
        _passed[self._run, sha256] = None
        if len(_passed) > MAX_VERDICTS:
            del _passed[next(iter(_passed))]

    def clear(self) -> None:
        """Forget the rejections: the operator wants another trial."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _entry(self, error: VersionRejected, trials: int) -> dict[str, Any]:
        """What is kept of a rejection, after a number of earlier ones."""
        seconds = min(FIRST_SECONDS * 2 ** min(trials, 20), MAX_SECONDS)
        return {
            "kind": error.kind,
            "reason": str(error),
            "trials": trials + 1,
            "retry_at": self._now() + seconds,
        }

    def _read(self) -> dict[str, Any]:
        """The rejections in the file; none if it is not readable."""
        try:
            if self._path.stat().st_size > MAX_BYTES:
                return {}
            content = json.loads(self._path.read_bytes())
            return {sha256: self._checked(entry) for sha256, entry in content.items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return {}

    def _write(self, rejections: dict[str, Any]) -> None:
        newest = sorted(rejections.items(), key=lambda item: item[1]["retry_at"])[-MAX_VERDICTS:]
        # Without a file, this process still remembers the version that it rejected last.
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(prefix=".part-", dir=self._path.parent) as work:
                part = Path(work) / self._path.name
                part.write_text(json.dumps(dict(newest), indent=2) + "\n")
                part.replace(self._path)

    def _checked(self, entry: dict[str, Any]) -> dict[str, Any]:
        """An entry of the file. Raises ValueError, TypeError or KeyError for one of other content."""
        kind, reason, trials = entry["kind"], str(entry["reason"]), int(entry["trials"])
        if kind not in EXHAUSTED or trials < 1:
            raise ValueError(f"not a verdict: {entry}")
        retry_at = float(entry["retry_at"])
        if not retry_at <= self._now() + MAX_SECONDS:
            retry_at = 0.0  # the clock was set back since then, or the number is none
        return {"kind": kind, "reason": reason, "trials": trials, "retry_at": retry_at}


def _rejected(entry: dict[str, Any]) -> VersionRejected:
    return VersionRejected(entry["kind"], entry["reason"], entry["retry_at"])
