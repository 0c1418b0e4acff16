"""Files of text: CSV is cut at bytes and read by lines, other layouts and spreadsheets are read whole."""

from collections.abc import Collection, Iterator
from typing import Any

import pyarrow as pa

from heart.dataset import headings, reader
from heart.dataset import layout as text_layout
from heart.errors import UserError
from serve.batch import csv_lines
from serve.batch.cells import Problem
from serve.batch.errors import ScoreError
from serve.batch.layout import Choice, Layout, match
from serve.batch.storage import Place

PART_BYTES = 1 << 25
HEAD_BYTES = 1 << 20
STEP = 1 << 16  # bytes in which the end of a line is looked for


def inspect(place: Place, choice: Choice, deciding: Collection[str]) -> tuple[Layout, pa.Table]:
    """The layout by the heading, and the deciding columns of the first rows. Raises ScoreError."""
    with place.open() as file:
        head, size = file.read(HEAD_BYTES), file.size()
    try:
        if head.startswith(reader.SPREADSHEET_MARKS):
            head = reader.sheet_as_csv(_whole(place), str(place))
        text = text_layout.detect(head, str(place))
    except UserError as error:
        raise ScoreError(str(error)) from None
    cells = text.heading or headings.COLUMNS[: text.width]
    layout = match(cells, choice, f"{place}, line {text.first_line - bool(text.heading)}", text)
    if text.simple and len(head) < size:
        head = head[: head.rfind(b"\n") + 1]
    sample, _ = csv_lines.parse(_patients(head, text), layout, deciding)
    return layout, sample


def _whole(place: Place) -> bytes:
    with place.open() as file:
        content: bytes = file.read()
    return content


def _patients(data: bytes, text: text_layout.Layout) -> bytes:
    """The lines of patients in the start of a file, as CSV."""
    data = data.removeprefix(b"\xef\xbb\xbf") if text.simple else text_layout.plain_csv(data, text)
    for _ in range(text.first_line - 1):
        data = data.partition(b"\n")[2]
    return data if text.simple else data.rstrip(b"\n") + b"\n"


def cut(place: Place, layout: Layout) -> list[tuple[int, int]]:
    """The bytes from and up to which parts go: a line belongs to the part in which it starts."""
    with place.open() as file:
        size = _end(file)
    if not _is_simple(layout):
        return [(0, size)]
    return [(start, min(start + PART_BYTES, size)) for start in range(0, size, PART_BYTES)]


def _is_simple(layout: Layout) -> bool:
    return layout.text is not None and layout.text.simple


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
    place: Place, layout: Layout, start: int, stop: int
) -> Iterator[tuple[pa.RecordBatch, list[Problem]]]:
    """The rows of a part, with those problems that are of the line as a whole."""
    assert layout.text is not None
    if _is_simple(layout):
        data = _lines(place, start, stop)
    else:
        data = _whole(place)
        if data.startswith(reader.SPREADSHEET_MARKS):
            data = reader.sheet_as_csv(data, str(place))
    if start == 0:
        data = _patients(data, layout.text)
    table, problems = csv_lines.parse(data, layout, layout.used)
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
