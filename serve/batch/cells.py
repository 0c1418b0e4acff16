"""Columns of Arrow as encoded measurements; what the schema does not allow is a problem, row by row.

A text is translated once for each distinct one. Numbers are compared with the bounds all at once;
those that fail are looked at as text, by the rules for a cell of a CSV file.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import types

from heart.dataset.codings import Coding
from heart.schema import MEASUREMENTS, Floats, Measurement, SchemaError

Numbers = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]
Problem = tuple[Rows, str]  # what is wrong, and with which rows


def is_text(kind: pa.DataType) -> bool:
    """Whether a column holds text."""
    tests = (types.is_string, types.is_large_string, types.is_string_view)
    return any(test(kind) for test in tests)


def is_readable(kind: pa.DataType) -> bool:
    """Whether a column can hold a measurement."""
    if types.is_dictionary(kind):
        return is_text(kind.value_type)
    tests = (is_text, types.is_integer, types.is_floating, types.is_boolean, types.is_null)
    return any(test(kind) for test in tests)


class Encoder:
    """Encodes the batches of one table; distinct texts are remembered from batch to batch."""

    def __init__(self, coding: Coding) -> None:
        self._cells = [_Cells(measurement, coding) for measurement in MEASUREMENTS]

    def __call__(self, batch: pa.RecordBatch) -> tuple[Floats, list[Problem]]:
        """The encoded columns [13, n] of a batch, and its problems; the values there are NaN.

        The batch's columns are named as in the schema. A measurement that it lacks is missing in
        every row.
        """
        encoded = np.full((len(MEASUREMENTS), batch.num_rows), np.nan, dtype=np.float32)
        problems: list[Problem] = []
        for cells, out in zip(self._cells, encoded, strict=True):
            if cells.measurement.name in batch.schema.names:
                problems += cells.encode(batch.column(cells.measurement.name), out)
        return encoded, problems


class _Cells:
    """The cells of one measurement in one coding."""

    def __init__(self, measurement: Measurement, coding: Coding) -> None:
        self.measurement = measurement
        self._coding = coding
        self._known: dict[str, float] = {}
        self._refused: dict[str, str] = {}

    def encode(self, column: pa.Array, out: Floats) -> list[Problem]:
        """Put the codes [n] of a column into `out`; returns what is wrong with it."""
        if self.measurement.choices or types.is_dictionary(column.type) or is_text(column.type):
            return list(self._encode_texts(with_texts(column), out))
        if types.is_boolean(column.type) or types.is_null(column.type):
            column = column.cast(pa.int8())
        return list(self._encode_numbers(column.to_numpy(zero_copy_only=False), out))

    def _encode_texts(self, column: pa.DictionaryArray, out: Floats) -> Iterator[Problem]:
        texts = [text or "" for text in column.dictionary.to_pylist()] + [""]
        codes = np.array([self._code(text) for text in texts], dtype=np.float32)
        positions = column.indices
        if positions.null_count:
            positions = positions.fill_null(len(texts) - 1)
        positions = positions.to_numpy()
        codes.take(positions, out=out, mode="clip")  # without checks: twice as fast
        for position, text in enumerate(texts):
            if text in self._refused:
                rows = np.flatnonzero(positions == position)
                if len(rows):
                    yield rows, self._refused[text]

    def _encode_numbers(self, values: Numbers, out: Floats) -> Iterator[Problem]:
        """Numbers of a measurement that is one; NaN is missing."""
        np.add(values, 0.0, out=out, casting="unsafe")  # no minus zero
        if self._all_allowed(values):
            return
        odd = np.flatnonzero(~self._allowed(values))
        codes = np.empty(len(odd), dtype=np.float32)
        for rows, reason in self._encode_texts(with_texts(pa.array(values[odd])), codes):
            yield odd[rows], reason
        out[odd] = codes

    def _all_allowed(self, values: Numbers) -> bool:
        """Whether all numbers are allowed, without an array of their length."""
        m = self.measurement
        least, most = (np.minimum, np.maximum) if m.required else (np.fmin, np.fmax)  # NaN counts
        if not len(values) or not (least.reduce(values) >= m.low and most.reduce(values) <= m.high):
            return False
        return m.step != 1 or bool(np.all(_whole(values)))

    def _allowed(self, values: Numbers) -> npt.NDArray[np.bool_]:
        """Which numbers [n] are allowed."""
        m = self.measurement
        allowed = (values >= m.low) & (values <= m.high)
        if m.step == 1:
            allowed &= _whole(values)
        return np.asarray(allowed if m.required else allowed | np.isnan(values))

    def _code(self, text: str) -> float:
        """The code of a cell, NaN for one that is refused."""
        if text not in self._known:
            self._known[text] = float("nan")
            try:
                self._known[text] = self._translated(text)
            except SchemaError as error:
                self._refused[text] = str(error)
        return self._known[text]

    def _translated(self, text: str) -> float:
        measurement = self.measurement
        translated = self._coding.translate(measurement.name, text)
        if measurement.required and not translated:
            raise SchemaError(f"{measurement.name} is missing, expected {measurement.expected}")
        return measurement.parse(translated)


def _whole(values: Numbers) -> npt.NDArray[np.bool_]:
    return np.asarray((values == np.rint(values)) | np.isnan(values))


def with_texts(column: pa.Array) -> pa.DictionaryArray:
    """A column by its distinct cells, each as a CSV file would have it."""
    if types.is_boolean(column.type) or types.is_null(column.type):
        column = column.cast(pa.int8())
    if not types.is_dictionary(column.type):
        column = column.dictionary_encode()
    if is_text(column.dictionary.type):
        return column
    cells = column.dictionary.to_pylist()
    texts = ["" if cell is None or cell != cell else str(cell) for cell in cells]
    return pa.DictionaryArray.from_arrays(column.indices, pa.array(texts, pa.string()))
