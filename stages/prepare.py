"""Stage prepare: bring every known layout into one coding, refuse what cannot be right.

A cell is translated and checked once for each distinct text of its column, however many rows have it.
"""

import hashlib
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv

from heart import files
from heart.dataset import detection, formats
from heart.dataset.label_check import check_both_outcomes, check_conflicts, check_direction
from heart.dataset.reader import Lines, RawTable, input_files, listed, read
from heart.errors import UserError, run_main
from heart.schema import MEASUREMENTS, NAMES, OUTCOME, SchemaError
from stages import params

PART = 50_000  # rows that are written at once
SOURCES = {files.RAW: files.RAW_SOURCE, files.PRODUCTION: files.PRODUCTION_SOURCE}


def translate(source: RawTable, coding: formats.Coding) -> pd.DataFrame:
    """The table in the project's coding, every cell canonical text. Raises UserError for bad cells."""
    problems: list[tuple[int, str]] = []
    table = {}
    for measurement in (*MEASUREMENTS, OUTCOME):
        cells = source.columns[measurement.name]

        def clean(token: str, measurement: Any = measurement) -> str:
            text = coding.translate(measurement.name, token)
            if not text and measurement.required:
                raise SchemaError(f"{measurement.name} is missing, expected {measurement.expected}")
            return str(measurement.text(measurement.parse(text)))

        table[measurement.name] = _each_category(cells, clean, source.lines, problems)
    for name in formats.PROVENANCE:
        if name in source.columns:
            check = partial(_word, name)
            table[name] = _each_category(source.columns[name], check, source.lines, problems)
    if problems:
        problems.sort(key=lambda problem: problem[0])
        raise UserError(listed(source.path, [f"line {line}: {what}" for line, what in problems]))
    return pd.DataFrame(table)


def _word(column: str, token: str) -> str:
    """An id, a source or a date: nothing that would need quotes in a CSV file. Raises SchemaError."""
    if not re.fullmatch(r"[\w.:-]{0,64}", token.strip(), re.ASCII):
        expected = "letters, digits, '_', '.', ':' or '-', at most 64"
        raise SchemaError(f"{column} is {token!r}, expected {expected}")
    return token.strip()


def _each_category(
    cells: "pd.Categorical[str]",
    clean: Callable[[str], str],
    lines: Lines,
    problems: list[tuple[int, str]],
) -> "pd.Categorical[str]":
    """Apply `clean` to each distinct cell; what it refuses is noted with every line that has it."""
    texts = []
    for code, token in enumerate(cells.categories):
        try:
            texts.append(clean(token))
        except SchemaError as error:
            texts.append("")
            problems.extend((int(line), str(error)) for line in lines[cells.codes == code])
    distinct = sorted(set(texts))
    position = {text: index for index, text in enumerate(distinct)}
    codes = np.array([position[text] for text in texts], dtype=np.int32)
    return pd.Categorical.from_codes(codes[cells.codes], categories=pd.Index(distinct))


def _remedy(raw: bool, inverted: bool) -> str:
    if not raw:
        return "correct the outcomes in this file"
    if inverted:
        return (
            "prepare.invert_label is true, but the label was the right way round: set it to false"
        )
    return "if the label means the opposite in this file, set prepare.invert_label: true"


def measurement_hashes(table: pd.DataFrame) -> "np.ndarray[Any, Any]":
    """A hash of the measurements of each row [n]."""
    columns = [table[name].to_numpy(dtype=object) for name in NAMES]
    return np.fromiter(
        (
            hashlib.sha256("\x1f".join(cells).encode()).hexdigest()[:24]
            for cells in zip(*columns, strict=True)
        ),
        dtype="U24",
        count=len(table),
    )


def patient_ids(table: pd.DataFrame, hashes: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """A stable id a row: its own if it is a raw one that has one, else the hash of its measurements.

    Rows with the same measurements share the first one's id, so that they fall on one side of every
    split, whatever their source. The id of a production row is that of an answer, not of a patient:
    of two answers with the same measurements, the one whose outcome is told first would decide.
    """
    if "patient_id" not in table:
        return hashes
    own = table["patient_id"].to_numpy(dtype=object)
    own = np.where(table["source"] == files.RAW_SOURCE, own, "")
    _, first, row = np.unique(hashes, return_index=True, return_inverse=True)
    ids = np.where(own[first] == "", hashes[first], own[first])
    return np.asarray(ids[row])


def prepare(
    sources: list[RawTable], options: params.Prepare
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The patients of all sources in one coding, without duplicates, and the counts for metrics/."""
    tables, codings, signs = [], {}, {}  # by source
    for source in sources:
        raw = source.path == files.RAW
        coding = _coding(source, options.format if raw else formats.PROJECT.name)
        table = translate(source, coding)
        if raw and options.invert_label:
            table[OUTCOME.name] = table[OUTCOME.name].astype(str).map(_INVERTED)
        if raw:
            check_both_outcomes(table, source.columns[OUTCOME.name].categories, source.path)
        remedy = _remedy(raw, options.invert_label)
        signs[SOURCES[source.path]] = check_direction(table, source.path, remedy)
        tables.append(table.assign(source=SOURCES[source.path]))
        codings[SOURCES[source.path]] = coding.name
    table = tables[0]
    if len(tables) > 1:
        table = pd.concat([t.astype(object) for t in tables], ignore_index=True).fillna("")
    hashes = measurement_hashes(table)
    check_conflicts(hashes, table[OUTCOME.name], [source.path for source in sources])
    table["patient_id"] = patient_ids(table, hashes)
    kept = table.drop_duplicates([*formats.COLUMNS])
    prepared = kept[["patient_id", "source", *formats.COLUMNS]]
    return prepared, {
        "rows_in": len(table),
        "rows_out": len(prepared),
        "duplicates": len(table) - len(prepared),
        "conflicting_outcomes": int(prepared.duplicated([*NAMES]).sum()),
        "missing": {name: int((prepared[name] == "").sum()) for name in NAMES},
        "presence": int((prepared[OUTCOME.name] == "presence").sum()),
        "absence": int((prepared[OUTCOME.name] == "absence").sum()),
        "coding": codings,
        "clinical_signs_z": signs,
    }


_INVERTED = {"absence": "presence", "presence": "absence"}


def _coding(source: RawTable, wanted: str) -> formats.Coding:
    """The coding of a file, with what its label means. Raises UserError if it cannot be told."""
    coding = _detected(source) if wanted == "auto" else formats.CODINGS[wanted]
    return formats.with_label_of(coding, source.columns[OUTCOME.name].categories)


def _detected(source: RawTable) -> formats.Coding:
    columns = {
        name: detection.Cells(list(cells.categories), cells.codes)
        for name, cells in source.columns.items()
        if name in NAMES
    }
    try:
        return detection.detect(columns, "prepare.format")
    except SchemaError as error:
        raise UserError(f"{source.path}: {error}") from None


def write(path: Path, table: pd.DataFrame) -> None:
    """Write the prepared table column by column in parts: several times faster than row by row."""
    options = pa.csv.WriteOptions(quoting_style="none", quoting_header="none")
    schema = pa.schema([(name, pa.string()) for name in table.columns])
    with (
        files.replacing(path, files.PRIVATE) as part,
        pa.csv.CSVWriter(part, schema, write_options=options) as out,
    ):
        for start in range(0, len(table), PART):
            rows = table.iloc[start : start + PART].astype(object)
            out.write_table(pa.Table.from_pandas(rows, schema, preserve_index=False))


def main() -> None:
    options, paths = params.Prepare.load(), input_files()
    if files.PRODUCTION in paths:
        files.close_folders()
    prepared, metrics = prepare([read(path) for path in paths], options)
    write(files.PREPARED, prepared)
    files.write_metrics("prepare", metrics)
    for path in paths:
        print(f"{path}: coding {metrics['coding'][SOURCES[path]]}")
    if metrics["conflicting_outcomes"]:
        print(f"{metrics['conflicting_outcomes']} sets of equal measurements have both outcomes")


if __name__ == "__main__":
    run_main(main)
