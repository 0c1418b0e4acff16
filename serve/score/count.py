"""The drift of tables of any size, without scoring them."""

from collections.abc import Sequence
from functools import partial

from monitoring.drift import Counts, Report
from monitoring.reference import Reference
from serve.score import local
from serve.score.drift import Tally, judged
from serve.score.run import progress, reference_of
from serve.score.storage import Place
from serve.score.tables import Part, Table, find, parts
from serve.score.work import bad_rows, rows_of
from serve.versions import Model


def run(source: Place, coding: str, model: Model, threads: int, keep: Sequence[str] = ()) -> Report:
    """Compare the measurements in tables with the training patients. Raises ScoreError.

    `keep` are columns that the tables have besides; nothing is done with them.
    """
    reference = reference_of(model)
    tables = find(source, keep, coding)
    todo = parts(tables)
    tally = Tally(reference)
    with progress(len(todo)) as bar:
        for counts in local.each(partial(_count, tables, reference), todo, threads):
            tally.merge(counts)
            bar.update()
    return judged(tally.counts, reference)


def _count(tables: Sequence[Table], reference: Reference, part: Part) -> Counts:
    """The counts of a part's good rows by bucket."""
    tally = Tally(reference)
    for _, encoded, problems in rows_of(tables[part.table], part):
        tally.add(encoded, None, bad_rows(problems))
    return tally.counts
