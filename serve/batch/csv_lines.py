"""Lines of a CSV file as a table of text in which every line has its row, also a broken one."""

from collections.abc import Collection, Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import csv

from heart.schema import NAMES
from serve.batch.cells import Problem
from serve.batch.layout import Layout

PIECES = 64  # into which lines are cut in search of the broken ones
BLOCK = 1 << 22  # bytes that Arrow parses at a time


def parse(data: bytes, layout: Layout, wanted: Collection[str]) -> tuple[pa.Table, list[Problem]]:
    """The wanted columns of some lines by the project's names, and the lines that are no row.

    Those are empty in the table. The last line may lack its line break.
    """
    lines = data.count(b"\n") + (not data.endswith(b"\n") and bool(data))
    columns = [name for name in layout.columns if name and name in wanted]
    if not lines:
        return _types(columns).empty_table(), []
    try:
        table, problems = _read(data, layout, columns)
        if len(table) == lines:
            return table, problems
        reason = "not one row of a table"  # a quotation mark that is not closed, a lone CR
    except pa.ArrowInvalid as error:
        if lines == 1 and "invalid UTF8" in str(error):
            return parse(data.decode("latin-1").encode(), layout, wanted)
        reason = f"not a row as text: {str(error).rpartition(': ')[2]}"
    if lines > 1:
        return _joined(parse(piece, layout, wanted) for piece in _pieces(data, lines))
    only = np.zeros(1, dtype=np.int64)
    return _with_gaps(_types(columns).empty_table(), only), [(only, reason)]


def _types(columns: Iterable[str]) -> pa.Schema:
    """Measurements repeat themselves; what is kept may not."""
    repeated = pa.dictionary(pa.int32(), pa.string())
    return pa.schema([(c, repeated if c in NAMES else pa.string()) for c in columns])


def _read(data: bytes, layout: Layout, columns: list[str]) -> tuple[pa.Table, list[Problem]]:
    """Arrow's reading of lines, with a row for each that it skips. Raises ArrowInvalid."""
    odd: list[tuple[int, int]] = []

    def skip(row: csv.InvalidRow) -> str:
        odd.append((row.number - 1, row.actual_columns))
        return "skip"

    names = [name or f"\0{place}" for place, name in enumerate(layout.columns)]
    table = csv.read_csv(
        pa.BufferReader(data),
        # One thread: only then does Arrow know the number of the line.
        read_options=csv.ReadOptions(column_names=names, use_threads=False, block_size=BLOCK),
        # An empty line is a row of empty cells: it counts as a line.
        parse_options=csv.ParseOptions(
            delimiter=layout.text.delimiter if layout.text else ",",
            quote_char=layout.text.quote if layout.text else '"',
            invalid_row_handler=skip,
            ignore_empty_lines=False,
        ),
        convert_options=csv.ConvertOptions(
            include_columns=columns,
            column_types={field.name: field.type for field in _types(columns)},
            strings_can_be_null=False,
        ),
    )
    if not odd:
        return table, []
    problems = [(np.array([row]), f"{n} columns, expected {len(names)}") for row, n in odd]
    return _with_gaps(table, np.array([row for row, _ in odd])), problems


def _with_gaps(table: pa.Table, gaps: npt.NDArray[np.int64]) -> pa.Table:
    """The table with empty rows, which then have the given numbers."""
    absent = np.zeros(len(table) + len(gaps), dtype=np.bool_)
    absent[gaps] = True
    rows = np.cumsum(~absent) - 1
    return table.take(pa.array(rows, mask=absent))


def _pieces(data: bytes, lines: int) -> Iterator[bytes]:
    """Some pieces of one or more whole lines."""
    start, length = 0, max(len(data) // min(PIECES, lines), 1)
    while start < len(data):
        stop = data.find(b"\n", start + length - 1) + 1 or len(data)
        yield data[start:stop]
        start = stop


def _joined(parts: Iterable[tuple[pa.Table, list[Problem]]]) -> tuple[pa.Table, list[Problem]]:
    tables, problems, before = [], [], 0
    for table, own in parts:
        problems += [(rows + before, reason) for rows, reason in own]
        tables.append(table)
        before += len(table)
    return pa.concat_tables(tables), problems
