"""The drift of tables of any size, without scoring them."""

from collections.abc import Sequence
from functools import partial

from heart.drift.baseline import Reference
from heart.drift.detector import Counts, Report
from heart.drift.whole_table import evaluate_table
from heart.registry.model_version import Model
from serve.batch import local
from serve.batch.drift import Tally
from serve.batch.layout import Choice
from serve.batch.run import progress, reference_of
from serve.batch.storage import Place
from serve.batch.tables import Part, Table, find, parts, print_codings
from serve.batch.work import bad_rows, rows_of


def run(source: Place, choice: Choice, model: Model, threads: int) -> Report:
    """Compare the measurements in tables with the training patients. Raises ScoreError."""
    reference = reference_of(model)
    tables = find(source, choice)
    print_codings(tables)
    todo = parts(tables)
    tally = Tally(reference)
    with progress(len(todo)) as bar:
        for counts in local.each(partial(_count, tables, reference), todo, threads):
            tally.merge(counts)
            bar.update()
    return evaluate_table(tally.counts, reference)


def _count(tables: Sequence[Table], reference: Reference, part: Part) -> Counts:
    """The counts of a part's good rows by bucket."""
    tally = Tally(reference)
    for _, encoded, problems in rows_of(tables[part.table], part):
        tally.add(encoded, None, bad_rows(problems))
    return tally.counts
