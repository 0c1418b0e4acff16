"""What is done with a part, whichever engine does it: read, encode, score, write."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from heart.drift.baseline import Reference
from heart.registry.onnx_model import OnnxModel
from heart.schema import OUTCOME, Floats
from heart.spreadsheet import harmless
from serve.batch.cells import Encoder, Problem, Rows
from serve.batch.drift import Tally
from serve.batch.spreadsheet import harmless_column
from serve.batch.storage import Place
from serve.batch.tables import Part, Table

# The last bits of a probability depend on a row's place among those that ONNX Runtime is given
# together: it is the same place in every engine. So many rows stay in the processor's cache.
BLOCK = 8192
TOGETHER = 1 << 20  # rows of a row group
WORK = "_work"  # the name marks it as no data
PROBABILITY, PREDICTION = "probability", "prediction"
ABSENCE, PRESENCE = (choice.name for choice in OUTCOME.choices)
PREDICTIONS = pa.dictionary(pa.int8(), pa.string())


@dataclass(frozen=True)
class Record:
    """What became of a part: rows, those without a score, the bytes of what was written of both.

    `counts` are those of the good rows by bucket of the drift baseline; none if not asked for.
    """

    rows: int
    bad: int
    size: int
    bad_size: int
    counts: tuple[int, ...] = ()

    @staticmethod
    def of(content: bytes) -> "Record":
        """The record in a file. Raises ValueError or TypeError if there is none."""
        return Record(**json.loads(content))


@dataclass(frozen=True)
class Job:
    """All that a part is scored with; it may be sent to another process.

    Parts go to `folder`, as CSV without a heading or as Parquet; what is known of them into a
    folder in it, `work`. `kept` are columns that are written beside the score, in CSV as text that
    is no formula unless `raw_text`. With a `reference` the rows are counted for its drift report.
    """

    tables: tuple[Table, ...]
    kept: tuple[str, ...]
    folder: Place
    as_csv: bool
    raw_text: bool
    model: bytes
    threshold: float
    reference: Reference | None

    @property
    def work(self) -> Place:
        """Where to keep account."""
        return self.folder / WORK

    @property
    def no_formulas(self) -> bool:
        """Whether text is for people who may open it in a spreadsheet."""
        return self.as_csv and not self.raw_text

    @property
    def schema(self) -> pa.Schema:
        """The columns that are written."""
        kept = [(harmless(c) if self.no_formulas else c, pa.string()) for c in self.kept]
        return pa.schema([*kept, (PROBABILITY, pa.float32()), (PREDICTION, PREDICTIONS)])

    def scores(self, part: Part) -> Place:
        """Where the scores of a part go."""
        return self.folder / f"part-{part.number:06}.{'csv' if self.as_csv else 'parquet'}"

    def bad(self, part: Part) -> Place:
        """Where its bad rows go, if there are any."""
        return self.work / f"bad-{part.number:06}.parquet"

    def record(self, part: Part) -> Place:
        """Where its record goes, last of all: what has one is done."""
        return self.work / f"done-{part.number:06}.json"


@lru_cache(maxsize=1)
def network(model: bytes) -> OnnxModel:
    """The model, made once in a process."""
    return OnnxModel(model)


def predict(model: OnnxModel, encoded: Floats) -> Floats:
    """The probabilities [n] of encoded columns [13, n]."""
    probabilities = np.empty(encoded.shape[1], dtype=np.float32)
    for start in range(0, len(probabilities), BLOCK):
        block = slice(start, start + BLOCK)
        probabilities[block] = model(np.ascontiguousarray(encoded[:, block].T))
    return probabilities


def score(job: Job, part: Part) -> Record:
    """Score a part and write what became of it. Raises ScoreError."""
    model, rows, problems = network(job.model), 0, list[Problem]()
    tally = Tally(job.reference) if job.reference else None
    with _writer(job, part) as write:
        for batch, encoded, row_problems in rows_of(job.tables[part.table], part):
            probabilities, bad = predict(model, encoded), bad_rows(row_problems)
            write(_scored(job, batch, probabilities, bad))
            if tally:
                tally.add(encoded, probabilities, bad)
            problems += [(numbers + rows, reason) for numbers, reason in row_problems]
            rows += batch.num_rows
    wrong = _write_bad(job.bad(part), problems)
    sizes = job.scores(part).info().size, job.bad(part).info().size if wrong else 0
    record = Record(rows, wrong, *sizes, tuple(tally.counts.tolist()) if tally else ())
    job.record(part).write_whole(json.dumps(asdict(record)).encode())
    return record


def rows_of(table: Table, part: Part) -> Iterator[tuple[pa.RecordBatch, Floats, list[Problem]]]:
    """The batches of a part, encoded [13, n], and what is wrong with them. Raises ScoreError."""
    encode = Encoder(table.layout.coding)
    for batch, broken in table.batches(part.start, part.stop):
        encoded, cell_problems = encode(batch)
        # A line that is no row has no measurement either.
        gone = bad_rows(broken)
        yield batch, encoded, [*broken, *((r[~np.isin(r, gone)], why) for r, why in cell_problems)]


def bad_rows(problems: Sequence[Problem]) -> Rows:
    """The rows that have a problem, in order."""
    return np.unique(np.concatenate([np.empty(0, np.int64), *(rows for rows, _ in problems)]))


def _scored(job: Job, batch: pa.RecordBatch, probabilities: Floats, bad: Rows) -> pa.RecordBatch:
    """What is written of a batch; bad rows have no score."""
    absent = None
    if len(bad):
        absent = np.zeros(len(probabilities), dtype=np.bool_)
        absent[bad] = True
    nothing = pa.nulls(batch.num_rows, pa.string())
    kept = [batch[c].cast(pa.string()) if c in batch.schema.names else nothing for c in job.kept]
    if job.no_formulas:
        kept = [harmless_column(column) for column in kept]
    # As the service compares them: a threshold is no float32.
    present = probabilities.astype(np.float64) >= job.threshold
    codes = pa.array(present.view(np.int8), mask=absent)
    prediction = pa.DictionaryArray.from_arrays(codes, [ABSENCE, PRESENCE])
    columns = [*kept, pa.array(probabilities, mask=absent), prediction]
    return pa.RecordBatch.from_arrays(columns, schema=job.schema)


@contextmanager
def _writer(job: Job, part: Part) -> Iterator[Callable[[pa.RecordBatch], None]]:
    """A function that writes scored batches to the file of a part."""
    with job.scores(part).writing() as stream, _format(job, stream) as writer:
        pending: list[pa.RecordBatch] = []

        def flush() -> None:
            writer.write_table(pa.Table.from_batches(pending, job.schema))
            pending.clear()

        def write(batch: pa.RecordBatch) -> None:
            pending.append(batch)
            if sum(map(len, pending)) >= TOGETHER:
                flush()

        yield write
        flush()


def _format(job: Job, stream: Any) -> Any:
    if job.as_csv:
        heading = csv.WriteOptions(include_header=False)
        return csv.CSVWriter(stream, job.schema, write_options=heading)
    return pq.ParquetWriter(stream, job.schema, use_dictionary=[PREDICTION])


def _write_bad(place: Place, problems: Sequence[Problem]) -> int:
    """Write which rows have no score and why, if there are any. Returns how many."""
    reasons = defaultdict[int, list[str]](list)
    for rows, reason in problems:
        for row in rows.tolist():
            reasons[row].append(reason)
    if reasons:
        ordered = sorted(reasons)
        joined = ["; ".join(reasons[row]) for row in ordered]
        table = pa.table({"row": ordered, "reason": joined})
        with place.writing() as stream:
            pq.write_table(table, stream)
    return len(reasons)
