"""The tables to score: which files, what is in them, and the parts that they are cut into."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pyarrow as pa
from pyarrow import fs

from heart.dataset.likelihood import Cells
from heart.schema import NAMES
from serve.batch import csv_files, parquet_files
from serve.batch.cells import Problem, with_texts
from serve.batch.errors import ScoreError
from serve.batch.layout import Choice, Layout, description, with_coding
from serve.batch.storage import Place

TEXT = (".csv", ".tsv", ".txt", ".data", ".dat", ".arff", ".xlsx", ".xls", ".ods")
KINDS: dict[str, ModuleType] = {**dict.fromkeys(TEXT, csv_files), ".parquet": parquet_files}


@dataclass(frozen=True)
class Table:
    """A file to score; `shown` is its name for people, `changed` the time of its last change."""

    place: Place
    shown: str
    size: int
    changed: int
    layout: Layout

    @property
    def first_line(self) -> int:
        """The number of its first row for people: in a CSV file its line."""
        return self.layout.text.first_line if self.layout.text else 1

    @property
    def cuts(self) -> list[tuple[int, int]]:
        """Where its parts start and stop, in bytes of a CSV file or row groups of Parquet."""
        cuts: list[tuple[int, int]] = KINDS[self.place.suffix].cut(self.place, self.layout)
        return cuts

    def batches(self, start: int, stop: int) -> Iterator[tuple[pa.RecordBatch, list[Problem]]]:
        """The rows between two cuts, columns by the project's names, and which rows are none."""
        kind = KINDS[self.place.suffix]
        yield from kind.batches(self.place, self.layout, start, stop)


@dataclass(frozen=True)
class Part:
    """What is scored at a time: some of the table of this number."""

    number: int
    table: int
    start: int
    stop: int


def find(source: Place, choice: Choice) -> list[Table]:
    """The tables in a file or folder, by path; only their beginnings are read. Raises ScoreError."""
    info = source.info()
    if info.type == fs.FileType.NotFound:
        raise ScoreError(f"{source}: no such file or folder")
    folder = info.type == fs.FileType.Directory
    root = source.path if folder else source.path.rpartition("/")[0]
    files = [(i, i.path.removeprefix(root).lstrip("/")) for i in _files(source, folder, info)]
    if not files:
        raise ScoreError(f"{source}: no file in this folder, expected some in {', '.join(KINDS)}")
    return [_table(Place(source.system, i.path), i, shown, choice) for i, shown in files]


def _files(source: Place, folder: bool, info: Any) -> list[Any]:
    """The file itself, or those in the folder but what Spark and others hold for no data."""
    if not folder:
        return [info]
    return [
        info
        for info in source.walk()
        if not any(n.startswith(("_", ".")) for n in info.path[len(source.path) :].split("/"))
    ]


def _table(place: Place, info: Any, shown: str, choice: Choice) -> Table:
    if place.suffix not in KINDS:
        raise ScoreError(f"{place}: expected a file in {', '.join(KINDS)}")
    layout, first = KINDS[place.suffix].inspect(place, choice, NAMES)
    if (
        first.num_rows
    ):  # otherwise there is nothing to tell the coding from, and nothing to translate
        columns = {name: _cells(first.column(name)) for name in first.column_names}
        layout = with_coding(layout, columns, choice, str(place))
    return Table(place, shown, info.size, info.mtime_ns or 0, layout)


def _cells(column: pa.ChunkedArray) -> Cells:
    """A column by its distinct cells; one that is null is empty."""
    texts = pa.chunked_array([with_texts(chunk).dictionary_decode() for chunk in column.chunks])
    whole = texts.fill_null("").combine_chunks().dictionary_encode()
    return Cells(whole.dictionary.to_pylist(), whole.indices.to_numpy())


def print_codings(tables: Sequence[Table]) -> None:
    """Print how tables are read, a line for each way: which of the tables, and the evidence."""
    names = defaultdict[str, list[Table]](list)
    for table in tables:
        names[description(table.layout)].append(table)
    for name, alike in names.items():
        others = f" and {len(alike) - 1} more" if len(alike) > 1 else ""
        print(f"{alike[0].shown}{others}: {name}", flush=True)
        evidence = alike[0].layout.detected.evidence.items()
        if evidence:
            odds = ", ".join(f"{column} {value:.1f}" for column, value in evidence)
            print(f"  evidence, log10 odds: {odds}", flush=True)


def parts(tables: Sequence[Table]) -> list[Part]:
    """All parts, in the order of the rows."""
    cuts = [(number, *cut) for number, table in enumerate(tables) for cut in table.cuts]
    return [Part(number, *cut) for number, cut in enumerate(cuts)]
