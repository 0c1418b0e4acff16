"""Parquet files, cut at row groups and read in batches."""

import contextlib
from collections.abc import Collection, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from heart.schema import NAMES
from serve.batch.cells import Problem, is_readable, is_text
from serve.batch.errors import ScoreError
from serve.batch.layout import Choice, Layout, match
from serve.batch.storage import Place

PART_ROWS = 1 << 20
BATCH = 1 << 16  # rows that are in memory at a time
HEAD_ROWS = 1 << 14


def inspect(place: Place, choice: Choice, deciding: Collection[str]) -> tuple[Layout, pa.Table]:
    """The layout by the columns, and the deciding ones of the first rows. Raises ScoreError."""
    with _opened(place) as file:
        kinds = {field.name: field.type for field in file.schema_arrow}
        layout = match(list(kinds), choice, str(place))
        for name, heading in layout.used.items():
            kind = kinds[heading]
            if not (is_readable(kind) if name in NAMES else _has_text(kind)):
                raise ScoreError(f"{place}: column {heading} is {kind}, expected text or numbers")
        used = {name: heading for name, heading in layout.used.items() if name in deciding}
        first = next(_batches(file, used, HEAD_ROWS, list(range(file.num_row_groups))), None)
        return layout, pa.table({}) if first is None else pa.table(first)


def cut(place: Place, _: Layout) -> list[tuple[int, int]]:
    """The row groups from and up to which parts go."""
    with _opened(place) as file:
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    parts, start, rows = [], 0, 0
    for group, size in enumerate(sizes):
        if rows and rows + size > PART_ROWS:
            parts.append((start, group))
            start, rows = group, 0
        rows += size
    return [*parts, (start, len(sizes))] if sizes else []


def batches(
    place: Place, layout: Layout, start: int, stop: int
) -> Iterator[tuple[pa.RecordBatch, list[Problem]]]:
    """The rows of a part."""
    with _opened(place) as file:
        kinds = {field.name: field.type for field in file.schema_arrow}
    texts = [c for name, c in layout.used.items() if name in NAMES and is_text(kinds[c])]
    with _opened(place, read_dictionary=texts) as file:
        for batch in _batches(file, layout.used, BATCH, list(range(start, stop))):
            yield batch, []


def _batches(file: Any, used: dict[str, str], rows: int, groups: list[int]) -> Iterator[Any]:
    """Batches with the used columns by the project's names."""
    columns = list(used.values())
    for batch in file.iter_batches(rows, groups, columns, use_threads=False):
        yield batch.select(columns).rename_columns(list(used))


def _has_text(kind: pa.DataType) -> bool:
    """Whether what is kept has a text of its own."""
    if types.is_dictionary(kind):
        return _has_text(kind.value_type)
    return bool(is_text(kind) or types.is_primitive(kind) or types.is_decimal(kind))


@contextlib.contextmanager
def _opened(place: Place, **options: Any) -> Iterator[Any]:
    """A Parquet file; an error in it names the file."""
    with place.open() as stream:
        try:
            # Whole column chunks at once would need memory for a row group.
            yield pq.ParquetFile(stream, buffer_size=1 << 16, pre_buffer=False, **options)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            raise ScoreError(f"{place}: not a Parquet file that can be read: {error}") from error
