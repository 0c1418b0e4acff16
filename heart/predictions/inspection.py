"""Checks of the database's files: a log may be damaged in the middle while its newest rows are written."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

INSPECTION_SECONDS = 60.0  # limit of one check; SQLite reads some hundred megabytes in a second
WAY_OUT = "restore its backup or recover it, as the runbook says (Log damaged)"


@dataclass(frozen=True)
class Inspection:
    """The result of one check.

    `damage` is None if none was found; `complete` is False if the limit of time ended the check; `file` is
    what the check was of, None if the database server checks its files itself.
    """

    at: datetime
    damage: str | None
    complete: bool
    file: Any
