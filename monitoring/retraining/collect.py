"""Collect recorded outcomes from the prediction log as training rows.

The label is the outcome from `/feedback`, never a prediction: a prediction without an outcome gives no row.
The file always holds all outcomes, so that an erased patient is not in its next version.
"""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import pandas as pd

from heart import files
from heart.addresses import server_of
from heart.dataset.headings import PROVENANCE
from heart.errors import UserError, run_main
from heart.predictions.log import LogError, PredictionLog
from heart.schema import NAMES, OUTCOME, SchemaError, decode, encode
from heart.settings import SharedSettings, read

PATIENT, SOURCE, DATE, SENDER = PROVENANCE
COLUMNS = [*PROVENANCE, *NAMES, OUTCOME.name]
RECORDED = "recorded_at"  # the time of an outcome; not a column of the file


@dataclass(frozen=True)
class Change:
    """The difference of a new version of the file from the one before, and its rows by sender."""

    rows: int
    gained: int
    lost: int
    senders: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        origin = f"; outcomes from {by_sender(self.senders)}" if self.senders else ""
        return f"{self.rows} labelled rows, {self.gained} gained, {self.lost} lost{origin}"


def by_sender(counts: Mapping[str, int]) -> str:
    """Numbers of outcomes by sender, as a text."""
    return ", ".join(f"{sender} {number}" for sender, number in counts.items())


def count_senders(table: pd.DataFrame) -> dict[str, int]:
    """The number of rows of each sender, the largest first."""
    counts = table[SENDER].value_counts().items()
    return {str(sender): n for sender, n in sorted(counts, key=lambda item: (-item[1], item[0]))}


@contextmanager
def opened() -> Iterator[PredictionLog]:
    """The prediction log of the service's settings, to read from, also while the service runs."""
    url = read(SharedSettings).log_url
    try:
        with closing(PredictionLog(url)) as log:
            yield log
    except LogError as error:
        raise UserError(
            f"{server_of(url)}: {error}; check HEART_LOG_URL: the service must have run with it"
        ) from error


def labelled(log: PredictionLog) -> pd.DataFrame:
    """All predictions with an outcome: the columns of the file, sorted, and RECORDED [aware times].

    Raises UserError for a value that the schema no longer allows, LogUnavailable.
    """
    columns = log.labelled(names=("id", *NAMES, "outcome", "source", "sender", RECORDED))
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
            SENDER: columns["sender"],
            DATE: [recorded.date().isoformat() for recorded in columns[RECORDED]],
            **measurements,
            OUTCOME.name: columns["outcome"],
            RECORDED: columns[RECORDED],
        }
    )
    return table.sort_values(PATIENT, ignore_index=True)


def removals(log: PredictionLog) -> int:
    """The number of outcomes that were ever erased or withdrawn. Raises LogUnavailable."""
    totals = log.totals()
    return totals["erased"] + totals["withdrawn"]


def write(table: pd.DataFrame, erased: int) -> Change:
    """Write the rows of `labelled` to data/production/labelled.csv; without rows, delete the file.

    `erased` is the number of outcomes ever erased from the log or withdrawn. Raises UserError if more rows would
    be lost, since the file must then be from another log.
    """
    files.input_files()  # raises for a version that has a pointer but no file
    before, now = _ids_in_file(), set(table[PATIENT])
    lost = len(before - now)
    if lost > erased:
        raise UserError(
            f"{files.PRODUCTION} has {lost} rows that are not in the prediction log, from which only "
            f"{erased} outcomes were erased or withdrawn: check HEART_LOG_URL, or remove the file to start again"
        )
    if now:
        files.close_folders()
        files.write_table(files.PRODUCTION, table[COLUMNS])
    else:
        files.POINTER.unlink(missing_ok=True)  # first: a pointer without the file is an error
        files.PRODUCTION.unlink(missing_ok=True)
    return Change(len(now), len(now - before), lost, count_senders(table))


def _ids_in_file() -> set[str]:
    """The ids in the current file; without that column each row counts as another id."""
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
        change = write(labelled(log), removals(log))
    print(f"{files.PRODUCTION}: {change}" if change.rows else "no outcome is recorded yet")


if __name__ == "__main__":
    run_main(main)
