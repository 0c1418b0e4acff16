"""The end of a run: bad rows, a report, and the output, which appears as a whole."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv

from heart.drift import detector as drift
from heart.drift.whole_table import evaluate_table
from heart.registry.model_version import Model
from heart.spreadsheet import harmless
from serve.batch.drift import Tally
from serve.batch.layout import description
from serve.batch.spreadsheet import harmless_column
from serve.batch.storage import Place
from serve.batch.tables import Part, Table
from serve.batch.work import TOGETHER, Job, Record

BAD_ROWS, REPORT = "bad_rows.csv", "report.json"


@dataclass(frozen=True)
class Report:
    """What was scored, how each table was read, by which model, and how many rows could not be."""

    tables: int
    read_as: dict[str, dict[str, Any]]
    rows: int
    bad_rows: int
    model: str
    version: str
    sha256: str
    threshold: float
    drift: drift.Report | None


def is_there(target: Place) -> bool:
    """Whether the output is there: in S3, a folder is whole once it has its report."""
    if is_file(target) or target.is_local:
        return target.exists()
    return (target / f"_{REPORT}").exists()


def in_the_way(target: Place, begun: bool) -> list[Place]:
    """What a run would overwrite that is not its own; one that has begun may have put it there."""
    if is_there(target):
        return [target]
    if begun:
        return []
    if is_file(target):
        beside = [target.beside(f".{name}") for name in (BAD_ROWS, REPORT)]
        return [place for place in beside if place.exists()]
    return [target] if target.walk() else []


def is_file(target: Place) -> bool:
    """Whether all scores go into one file."""
    return target.suffix in (".csv", ".parquet")


def finish(job: Job, parts: Sequence[Part], target: Place, model: Model) -> Report:
    """Put the output in its place. Raises ScoreError."""
    records = [Record.of(job.record(part).read()) for part in parts]
    report = Report(
        tables=len(job.tables),
        read_as=_read_as(job.tables),
        rows=sum(record.rows for record in records),
        bad_rows=sum(record.bad for record in records),
        model=model.name,
        version=model.version,
        sha256=model.sha256,
        threshold=model.threshold,
        drift=_drift(job, records),
    )
    written = job.work / REPORT
    written.write_whole((json.dumps(asdict(report), indent=2) + "\n").encode())
    beside = {REPORT: written}
    if report.bad_rows:
        beside[BAD_ROWS] = job.work / BAD_ROWS
        _write_bad_rows(job, parts, records, beside[BAD_ROWS])
    if is_file(target):
        _publish_file(job, parts, target, beside)
    else:
        _publish_folder(job, target, beside)
    return report


def _read_as(tables: Sequence[Table]) -> dict[str, dict[str, Any]]:
    """By how tables are read: how many, the first of them, and its evidence for the coding."""
    ways: dict[str, dict[str, Any]] = {}
    for table in tables:
        detected = table.layout.detected
        way = ways.setdefault(
            description(table.layout),
            {
                "tables": 0,
                "first": table.shown,
                "coding_by_column": dict(detected.coding.columns),
                "coding_log10_odds": dict(detected.evidence),
            },
        )
        way["tables"] += 1
    return ways


def _drift(job: Job, records: Sequence[Record]) -> drift.Report | None:
    if job.reference is None:
        return None
    tally = Tally(job.reference)
    for record in records:
        tally.merge(record.counts)
    return evaluate_table(tally.counts, job.reference)


def _write_bad_rows(
    job: Job, parts: Sequence[Part], records: Sequence[Record], place: Place
) -> None:
    """File, line (of Parquet: row, from 1) and reason of each bad row."""
    types = pa.schema([("file", pa.string()), ("line", pa.int64()), ("reason", pa.string())])
    with place.writing() as stream, csv.CSVWriter(stream, types) as writer:
        before, current = 0, -1
        for part, record in zip(parts, records, strict=True):
            if part.table != current:
                before, current = job.tables[part.table].first_line, part.table
            if record.bad:
                with job.bad(part).open() as file:
                    bad = pq.read_table(file)
                files = pa.array([harmless(job.tables[part.table].shown)] * len(bad), pa.string())
                lines = pc.add(bad["row"], before)
                reasons = harmless_column(bad["reason"])  # which quote what is in the table
                writer.write_table(pa.table([files, lines, reasons], schema=types))
            before += record.rows


def _publish_folder(job: Job, target: Place, beside: dict[str, Place]) -> None:
    """On disk in one step; in S3, where there are no folders, file by file, the report last."""
    for name, place in beside.items():
        place.move(job.folder / f"_{name}")
    if target.is_local:
        job.folder.move(target)
        (target / job.work.name).delete()
        return
    scores = [Place(job.folder.system, info.path) for info in job.folder.walk()]
    for place in sorted(scores, key=lambda place: place.name == f"_{REPORT}"):
        if not place.path.startswith(job.work.path):
            place.move(target / place.name)
    job.folder.delete()


def _publish_file(job: Job, parts: Sequence[Part], target: Place, beside: dict[str, Place]) -> None:
    """The parts as one file, which is there last."""
    whole = job.work / "whole"
    with whole.writing() as stream:
        (_join_csv if job.as_csv else _join_parquet)(job, parts, stream)
    for name, place in beside.items():
        place.move(target.beside(f".{name}"))
    whole.move(target)
    job.folder.delete()


def _join_csv(job: Job, parts: Sequence[Part], stream: Any) -> None:
    csv.write_csv(job.schema.empty_table(), stream)
    for part in parts:
        stream.write(job.scores(part).read())


def _join_parquet(job: Job, parts: Sequence[Part], stream: Any) -> None:
    with pq.ParquetWriter(stream, job.schema) as writer:
        for part in parts:
            for batch in _batches(job.scores(part)):
                writer.write_batch(batch)


def _batches(place: Place) -> Iterator[pa.RecordBatch]:
    """Those of a file of scores, read apart: what fails in writing them is not this file's."""
    with place.open() as file:
        yield from pq.ParquetFile(file).iter_batches(TOGETHER)
