"""Collect what patients turned out to have: the prediction log's outcomes, as rows to learn from.

The label is what `/feedback` said, never what the model did: a prediction without an outcome is no
row. The file holds all outcomes since ever, so what was erased is not in its next version.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import pandas as pd
from pydantic import ValidationError

from heart import files
from heart.dataset.formats import PROVENANCE
from heart.dataset.reader import input_files
from heart.errors import UserError, run_main
from heart.predictions.log import LogError, PredictionLog
from heart.schema import NAMES, OUTCOME, SchemaError, decode, encode
from heart.settings import SharedSettings, reasons

PATIENT, SOURCE, DATE = PROVENANCE
COLUMNS = [*PROVENANCE, *NAMES, OUTCOME.name]
RECORDED = "recorded_at"  # when an outcome came in; not part of the file


@dataclass(frozen=True)
class Change:
    """What a new version of the file has more and less than the one before."""

    rows: int
    gained: int
    lost: int

    def __str__(self) -> str:
        return f"{self.rows} labelled rows, {self.gained} gained, {self.lost} lost"


@contextmanager
def opened() -> Iterator[PredictionLog]:
    """The prediction log of the service's settings, to read from; a running service is no obstacle."""
    try:
        url = SharedSettings().log_url
    except ValidationError as error:
        raise UserError("\n".join(["invalid settings:", *reasons(SharedSettings, error)])) from None
    try:
        with closing(PredictionLog(url)) as log:
            yield log
    except LogError as error:
        raise UserError(f"{error}; has the service run with this HEART_LOG_URL?") from error


def labelled(log: PredictionLog) -> pd.DataFrame:
    """All predictions with an outcome: the columns of the file, sorted, and RECORDED [aware times].

    Raises UserError for a value that the schema no longer allows, LogUnavailable.
    """
    columns = log.labelled(names=("id", *NAMES, "outcome", "source", RECORDED))
    try:
        measurements = decode(encode({name: columns[name] for name in NAMES}))
    except SchemaError as error:
        raise UserError(
            f"the prediction log, rows with an outcome, oldest first: {error}"
        ) from None
    table = pd.DataFrame(
        {
            PATIENT: columns["id"],
            SOURCE: columns["source"],
            DATE: [recorded.date().isoformat() for recorded in columns[RECORDED]],
            **measurements,
            OUTCOME.name: columns["outcome"],
            RECORDED: columns[RECORDED],
        }
    )
    return table.sort_values(PATIENT, ignore_index=True)


def write(table: pd.DataFrame, erased: int) -> Change:
    """Bring data/production/labelled.csv to what `labelled` found; without rows there is no file.

    `erased` is how many predictions were ever erased from the log. Raises UserError if more rows
    would be lost: then it is another log than the one the file came from.
    """
    input_files()  # refuses a version that is known but not here
    before, now = _known(), set(table[PATIENT])
    lost = len(before - now)
    if lost > erased:
        raise UserError(
            f"{files.PRODUCTION} has {lost} rows that are not in the prediction log, from which only "
            f"{erased} predictions were erased: is HEART_LOG_URL right? To start anew, remove the file"
        )
    if now:
        files.close_folders()
        files.write_table(files.PRODUCTION, table[COLUMNS])
    else:
        files.POINTER.unlink(missing_ok=True)  # first: a pointer alone would be a lost file
        files.PRODUCTION.unlink(missing_ok=True)
    return Change(len(now), len(now - before), lost)


def _known() -> set[str]:
    """The ids in the file as it is; without that column each row counts as one of its own."""
    if not files.PRODUCTION.exists():
        return set()
    try:
        table = files.read_table(files.PRODUCTION)
    except ValueError as error:  # pandas' own errors and bad UTF-8
        raise UserError(f"{files.PRODUCTION} cannot be read: {error}") from None
    if PATIENT not in table:
        return {f"line {line}" for line in range(len(table))}
    return set(table[PATIENT])


def main() -> None:
    with opened() as log:
        change = write(labelled(log), log.totals()["erased"])
    print(f"{files.PRODUCTION}: {change}" if change.rows else "no outcome is known yet")


if __name__ == "__main__":
    run_main(main)
