"""CSV files, cut at bytes and read by lines."""

import csv
import io
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import pyarrow as pa

from serve.batch import csv_lines
from serve.batch.cells import Problem
from serve.batch.errors import ScoreError
from serve.batch.layout import Layout, layout
from serve.batch.storage import Place

PART_BYTES = 1 << 25
HEAD_BYTES = 1 << 20
STEP = 1 << 16  # bytes in which the end of a line is looked for


def look(place: Place, keep: Sequence[str], telling: Collection[str]) -> tuple[Layout, pa.Table]:
    """The layout by the heading, and the telling columns of the first rows. Raises ScoreError."""
    with place.open() as file:
        head = file.read(HEAD_BYTES)
        complete = head if file.size() <= HEAD_BYTES else head[: head.rfind(b"\n") + 1]
    if not head.strip():
        raise ScoreError(f"{place}: the file is empty, expected a heading")
    first, _, rest = complete.partition(b"\n")
    try:
        heading = next(csv.reader(io.StringIO(first.decode("utf-8-sig"))), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise ScoreError(f"{place}, line 1: not CSV in UTF-8: {error}") from None
    found = layout([cell.strip() for cell in heading], keep, f"{place}, line 1")
    sample, _ = csv_lines.parse(complete if found.headless else rest, found, telling)
    return found, sample


def cut(place: Place) -> list[tuple[int, int]]:
    """The bytes from and up to which parts go: a line belongs to the part in which it starts."""
    with place.open() as file:
        size = _end(file)
    return [(start, min(start + PART_BYTES, size)) for start in range(0, size, PART_BYTES)]


def _end(file: Any) -> int:
    """Where the last line ends that is not blank."""
    end: int = file.size()
    while end:
        start = max(end - STEP, 0)
        file.seek(start)
        if tail := file.read(end - start).rstrip(b"\r\n"):
            return start + len(tail)
        end = start
    return 0


def batches(
    place: Place, found: Layout, start: int, stop: int
) -> Iterator[tuple[pa.RecordBatch, list[Problem]]]:
    """The rows of a part, with those problems that are of the line as a whole."""
    data = _lines(place, start, stop)
    if start == 0:
        data = data.removeprefix(b"\xef\xbb\xbf")
        if not found.headless:
            data = data.partition(b"\n")[2]
    table, problems = csv_lines.parse(data, found, found.used)
    at = 0
    for batch in table.to_batches():
        inside = [
            (rows - at, reason) for rows, reason in problems if at <= rows[0] < at + len(batch)
        ]
        yield batch, inside
        at += len(batch)


def _lines(place: Place, start: int, stop: int) -> bytes:
    """The lines that start at or after a byte and before another."""
    before = max(start - 1, 0)  # a line break there starts a line at the start
    with place.open() as file:
        file.seek(before)
        data: bytes = file.read(stop - before)
        if start:
            data = data.partition(b"\n")[2]
        while data and not data.endswith(b"\n") and (more := file.read(STEP)):
            end = more.find(b"\n") + 1
            data += more[:end] if end else more
        return data
