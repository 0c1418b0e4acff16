"""Stage prepare: bring a file in any known layout and coding into the schema's, refuse what cannot be right."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv

from heart import files
from heart.dataset import codings, headings, reader, translation
from heart.dataset.detection import Settings
from heart.dataset.frames import good_rows, inverted
from heart.dataset.headings import PATIENT_ID
from heart.dataset.label_check import check_both_outcomes, check_conflicts, check_direction
from heart.dataset.reader import RawTable, read
from heart.errors import UserError, run_main
from heart.schema import NAMES, OUTCOME
from stages import params

PART = 50_000  # rows that are written at once
SOURCES = {files.RAW: files.RAW_SOURCE, files.PRODUCTION: files.PRODUCTION_SOURCE}


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
    of two answers with the same measurements, the one whose outcome is recorded first would decide.
    """
    if PATIENT_ID not in table:
        return hashes
    own = table[PATIENT_ID].to_numpy(dtype=object)
    own = np.where(table["source"] == files.RAW_SOURCE, own, "")
    _, first, row = np.unique(hashes, return_index=True, return_inverse=True)
    ids = np.where(own[first] == "", hashes[first], own[first])
    return np.asarray(ids[row])


def prepare(
    sources: list[tuple[Path, RawTable]], options: params.Prepare
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The patients of all sources in one coding, without duplicates, and the counts for metrics/."""
    tables, figures = [], {}
    for path, source in sources:
        table, figures[SOURCES[path]] = _prepare_source(path, source, options)
        tables.append(table.assign(source=SOURCES[path]))
    table = _together(tables)
    hashes = measurement_hashes(table)
    check_conflicts(hashes, table, [path for path, _ in sources])
    table[PATIENT_ID] = patient_ids(table, hashes)
    unique = table.drop_duplicates([*headings.COLUMNS])
    kept = [name for name in table if str(name).startswith(files.KEPT)]
    prepared = unique[[PATIENT_ID, "source", *headings.COLUMNS, *kept]]
    return prepared, {
        "rows_in": len(table),
        "rows_out": len(prepared),
        "duplicates": len(table) - len(prepared),
        "conflicting_outcomes": int(prepared.duplicated([*NAMES]).sum()),
        "missing": {name: int((prepared[name] == "").sum()) for name in NAMES},
        "presence": int((prepared[OUTCOME.name] == "presence").sum()),
        "absence": int((prepared[OUTCOME.name] == "absence").sum()),
        "sources": figures,
    }


def _together(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """The rows of all tables; a column that one lacks is empty there."""
    if len(tables) == 1:
        return tables[0]
    columns = list(dict.fromkeys(name for table in tables for name in table))
    whole = [
        table.assign(**{str(name): "" for name in columns if name not in table}).astype(object)
        for table in tables
    ]
    return pd.concat(whole, ignore_index=True)


def _prepare_source(
    path: Path, source: RawTable, options: params.Prepare
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The patients of one file, and what is to be known of it. Raises UserError."""
    raw = path == files.RAW
    settings = (
        Settings(options.format, dict(options.codings.items())) if raw else Settings(codings.WORDS)
    )
    detected = translation.coding_of(source, settings)
    table, dropped = good_rows(source, detected, options.bad_rows, options.keep)
    if raw and options.invert_label:
        table[OUTCOME.name] = inverted(table[OUTCOME.name])
    if raw:
        check_both_outcomes(table, source.columns[OUTCOME.name].texts, path)
    signs = check_direction(table, path, _remedy(raw, options.invert_label))
    return table, {
        "layout": source.layout,
        "coding": detected.coding.name,
        "coding_by_column": dict(detected.coding.columns),
        "coding_log10_odds": dict(detected.evidence),
        "columns_missing": headings.missing_columns(source.columns),
        "columns_ignored": source.matched.ignored,
        "dropped": dropped,
        "clinical_signs_z": signs,
    }


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


def refuse_synthetic(path: Path, table: RawTable, options: reader.Options) -> None:
    """Refuse a file that says of some row that no patient stands behind it. Raises UserError."""
    for heading in table.matched.headings:
        if headings.plain(heading) != "source":
            continue
        keep = tuple(dict.fromkeys((*options.keep, heading)))
        ignore = tuple(other for other in options.ignore if other != heading)
        marks = read(path, replace(options, keep=keep, ignore=ignore)).columns[heading]
        synthetic = [text.strip().lower() == files.SYNTHETIC_SOURCE for text in marks.texts]
        if count := int(np.array(synthetic)[marks.positions].sum()):
            raise UserError(
                f"{path}: column {heading!r} of {count} rows is {files.SYNTHETIC_SOURCE!r}, expected real "
                "patients: leave out these rows (`make synthetic-data` writes such files)"
            )


def main() -> None:
    options, paths = params.Prepare.load(), files.input_files()
    for name in options.keep:
        if name in headings.COLUMNS:
            raise UserError(f"prepare.keep has {name}, a measurement: expected extra columns only")
    if files.PRODUCTION in paths:
        files.close_folders()
    to_read = {files.RAW: reader.Options(keep=tuple(options.keep), ignore=tuple(options.ignore))}
    sources = [(path, read(path, to_read.get(path, reader.TO_TRAIN))) for path in paths]
    for path, table in sources:
        refuse_synthetic(path, table, to_read.get(path, reader.TO_TRAIN))
    prepared, metrics = prepare(sources, options)
    write(files.PREPARED, prepared)
    files.write_metrics("prepare", metrics)
    for path in paths:
        print("\n".join(_summary(path, metrics["sources"][SOURCES[path]])))
    if metrics["conflicting_outcomes"]:
        print(f"{metrics['conflicting_outcomes']} sets of equal measurements have both outcomes")


def _summary(path: Path, figures: dict[str, Any]) -> list[str]:
    """How a file was read, for the one who runs the stage."""
    lines = [f"{path}: {figures['layout']}; coding {figures['coding']}"]
    if figures["coding_log10_odds"]:
        odds = figures["coding_log10_odds"].items()
        lines.append(
            "  evidence, log10 odds: " + ", ".join(f"{c} {value:.1f}" for c, value in odds)
        )
    if figures["columns_missing"]:
        lines.append(f"  no column, so missing: {', '.join(figures['columns_missing'])}")
    if figures["columns_ignored"]:
        lines.append(f"  ignored columns: {', '.join(map(repr, figures['columns_ignored']))}")
    if figures["dropped"]["rows"]:
        lines.append(f"  dropped rows: {figures['dropped']['rows']}, see metrics/prepare.json")
    return lines


if __name__ == "__main__":
    run_main(main)
