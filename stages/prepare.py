"""Stage prepare: bring every known layout into one coding, refuse what cannot be right.

The table is handled by columns of distinct cells (Arrow dictionaries), so that a million rows cost
little more than their reading: a cell is translated and checked once for each distinct text.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv

import formats
from schema import MEASUREMENTS, NAMES, OUTCOME, SchemaError
from stages import files, params
from stages.errors import StageError, main_of

SHOWN = 20
PART = 50_000  # rows that are written at once
SOURCES = {files.RAW: "raw", files.PRODUCTION: "production"}

# Disease goes with each of these (Detrano et al. 1989): the column, and the value to count or, for
# a number, the sign of its association.
DIRECTIONS: tuple[tuple[str, str | int], ...] = (
    ("exercise_angina", "yes"),
    ("st_depression", +1),
    ("major_vessels", +1),
    ("thallium", "reversible_defect"),
    ("chest_pain_type", "asymptomatic"),
    ("max_heart_rate", -1),
)


Lines = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Source:
    """A file as it was read: cells as text, and the line on which each row stands."""

    path: Path
    columns: dict[str, "pd.Categorical[str]"]
    lines: Lines


def read(path: Path) -> Source:
    """Read a CSV file in any known layout, with or without a heading. Raises StageError."""
    heading, width = _heading(path)
    names = heading or list(formats.COLUMNS)
    table, lines, bad = _parse(path, names)
    if bad:
        found = [f"line {line}: {columns} columns, expected {width}" for line, columns in bad]
        raise StageError(_listed(path, found))
    columns = {name: _cells(table.column(name)) for name in names}
    patients = ~np.all([_blank(cells) for cells in columns.values()], axis=0)
    patients[: 1 if heading else 0] = False
    if not patients.any():
        raise StageError(f"{path}: no rows, expected at least one patient")
    kept = {name: cells[patients].remove_unused_categories() for name, cells in columns.items()}
    return Source(path, kept, lines[patients])


def _parse(path: Path, names: list[str]) -> tuple[pa.Table, Lines, list[tuple[int, int]]]:
    """All lines as text, the line of each row, and line and width of those of another width."""
    bad: list[tuple[int, int]] = []
    skipped: list[int] = []

    def odd_row(row: pa.csv.InvalidRow) -> str:
        if row.text.strip():
            bad.append((row.number, row.actual_columns))
        skipped.append(row.number)
        return "skip"

    try:
        table = pa.csv.read_csv(
            path,
            # One thread: only then does Arrow know the number of the line.
            read_options=pa.csv.ReadOptions(column_names=names, use_threads=False),
            # An empty line is kept as a row of empty cells: it counts as a line.
            parse_options=pa.csv.ParseOptions(
                invalid_row_handler=odd_row, ignore_empty_lines=False
            ),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.dictionary(pa.int32(), pa.string())),
                strings_can_be_null=False,
            ),
        )
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise StageError(f"{path}: not a CSV file in UTF-8: {error}") from None
    lines = np.arange(1, 1 + table.num_rows + len(skipped))
    return table, lines[~np.isin(lines, skipped)], bad


def _cells(column: pa.ChunkedArray) -> "pd.Categorical[str]":
    whole = column.unify_dictionaries().combine_chunks()
    return pd.Categorical.from_codes(
        whole.indices.to_numpy(), categories=pd.Index(whole.dictionary.to_pylist(), dtype=object)
    )


def _blank(cells: "pd.Categorical[str]") -> "np.ndarray[Any, np.dtype[np.bool_]]":
    """Which cells [n] hold nothing."""
    blank = np.array([not str(text).strip() for text in cells.categories], dtype=bool)
    return np.asarray(blank[cells.codes])


def _heading(path: Path) -> tuple[list[str] | None, int]:
    """The project's names for the columns (None in a file without heading) and their number."""
    with path.open("rb") as file:
        start = file.read(1 << 16)
    if not start.strip():
        raise StageError(f"{path}: the file is empty, expected a table of patients")
    if b"\0" in start:
        position = start.index(b"\0")
        raise StageError(f"{path}: binary data (a NUL at byte {position}), expected a CSV file")
    try:
        first = start.split(b"\n", 1)[0].decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StageError(f"{path}, line 1: not UTF-8 text: {error}") from None
    cells = [cell.strip().strip('"') for cell in first.strip().split(",")]
    if _headless(cells):
        return None, len(formats.COLUMNS)
    names = [formats.ALIASES.get(cell.lower()) for cell in cells]
    unknown = [cell for cell, name in zip(cells, names, strict=True) if name is None]
    missing = [column for column in formats.COLUMNS if column not in names]
    twice = [name for name, times in Counter(names).items() if name and times > 1]
    problems = [
        *(f"column {cell!r} is unknown" for cell in unknown),
        *(f"column {name} is missing" for name in missing),
        *(f"column {name} occurs more than once" for name in twice),
    ]
    if problems:
        expected = f"expected {', '.join(formats.COLUMNS)} (or the UCI names for them)"
        raise StageError(_listed(path, [f"line 1: {p}" for p in problems]) + f"\n{expected}")
    return [name for name in names if name], len(names)


def _headless(cells: list[str]) -> bool:
    """UCI's own files start with a patient: numbers and question marks only."""
    return any(cells) and all(
        cell in ("", "?") or cell.replace(".", "").lstrip("-").isdigit() for cell in cells
    )


def translate(source: Source, coding: formats.Coding) -> pd.DataFrame:
    """The table in the project's coding, every cell canonical text. Raises StageError for bad cells."""
    problems: list[tuple[int, str]] = []
    table = {}
    for measurement in (*MEASUREMENTS, OUTCOME):
        cells = source.columns[measurement.name]

        def clean(token: str, measurement: Any = measurement) -> str:
            text = coding.translate(measurement.name, token)
            if not text and measurement is OUTCOME:
                raise SchemaError(f"{measurement.name} is missing, expected {measurement.expected}")
            return str(measurement.text(measurement.parse(text)))

        table[measurement.name] = _each_category(cells, clean, source.lines, problems)
    for name in formats.PROVENANCE:
        if name in source.columns:
            check = partial(_word, name)
            table[name] = _each_category(source.columns[name], check, source.lines, problems)
    if problems:
        problems.sort(key=lambda problem: problem[0])
        raise StageError(_listed(source.path, [f"line {line}: {what}" for line, what in problems]))
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


def _listed(path: Path, problems: list[str]) -> str:
    lines = [f"{path}: {len(problems)} problem{'s' if len(problems) > 1 else ''}"]
    lines += [f"  {problem}" for problem in problems[:SHOWN]]
    if len(problems) > SHOWN:
        lines.append(f"  and {len(problems) - SHOWN} more")
    return "\n".join(lines)


def associations(table: pd.DataFrame) -> tuple[dict[str, float], float]:
    """How strongly the outcome goes with each clinical sign, and with all of them together.

    As z values, r sqrt(n - 1) of the correlation r with the outcome; positive is as expected. All
    together is the sum of the standardised signs: they are correlated, so their z values do not add
    up. A sign that does not vary has none; without any, all together is 0.
    """
    sick = (table[OUTCOME.name] == "presence").to_numpy().astype(float)
    found, total = {}, np.zeros(len(table))
    for column, sign in DIRECTIONS:
        values = _numbers(pd.Categorical(table[column]), sign)
        given = ~np.isnan(values)
        z = _association(values[given], sick[given])
        if z is not None:
            found[column] = z
            deviation = (values - values[given].mean()) / values[given].std()
            total += np.nan_to_num(deviation, nan=0.0)
    return found, _association(total, sick) or 0.0


def _association(values: "np.ndarray[Any, Any]", sick: "np.ndarray[Any, Any]") -> float | None:
    if len(values) < 2 or values.std() == 0 or sick.std() == 0:
        return None
    return float(np.corrcoef(values, sick)[0, 1] * np.sqrt(len(values) - 1))


def _numbers(cells: "pd.Categorical[str]", sign: str | int) -> "np.ndarray[Any, Any]":
    """A sign as a number [n]: whether a cell is the category, or its value; NaN where it is missing."""
    distinct = []
    for text in cells.categories:
        value = float(text == sign) if isinstance(sign, str) else sign * float(text or "nan")
        distinct.append(value if text else float("nan"))
    return np.asarray(np.array(distinct)[cells.codes])


def check_direction(table: pd.DataFrame, path: Path, remedy: str) -> dict[str, float]:
    """The associations with each sign. Raises StageError if the label is the wrong way round.

    It is when the signs together speak against it by more than three standard errors: one unusual
    sign in a small file is no evidence.
    """
    found, together = associations(table)
    if together > -3:
        return found
    against = sorted((z, column) for column, z in found.items() if z < 0)
    evidence = "\n".join(f"  {column}: z = {z:.1f}, expected above 0" for z, column in against)
    raise StageError(
        f"{path}: the label looks inverted: {len(against)} of {len(found)} clinical signs go with "
        f"absence of disease, all together z = {together:.1f}\n{evidence}\n{remedy}"
    )


def _remedy(raw: bool, inverted: bool) -> str:
    if not raw:
        return "correct the outcomes in this file"
    if inverted:
        return (
            "prepare.invert_label is true, but the label was the right way round: set it to false"
        )
    return "if the label means the opposite in this file, set prepare.invert_label: true"


def patient_ids(table: pd.DataFrame) -> "np.ndarray[Any, Any]":
    """A stable id a row: its own if it has one, else a hash of its measurements.

    Rows with the same measurements share the first one's id, so that they fall on one side of every
    split, whatever their source.
    """
    columns = [table[name].to_numpy(dtype=object) for name in NAMES]
    digests = np.fromiter(
        (
            hashlib.sha256("\x1f".join(cells).encode()).hexdigest()[:24]
            for cells in zip(*columns, strict=True)
        ),
        dtype="U24",
        count=len(table),
    )
    if "patient_id" not in table:
        return digests
    own = table["patient_id"].to_numpy(dtype=object)
    _, first, row = np.unique(digests, return_index=True, return_inverse=True)
    ids = np.where(own[first] == "", digests[first], own[first])
    return np.asarray(ids[row])


def prepare(
    sources: list[Source], options: params.Prepare
) -> tuple[pd.DataFrame, dict[str, object]]:
    """The patients of all sources in one coding, without duplicates, and the counts for metrics/."""
    tables, codings, signs = [], {}, {}  # by source
    for source in sources:
        raw = SOURCES[source.path] == "raw"
        coding = _coding(source, options.format if raw else formats.PROJECT.name)
        table = translate(source, coding)
        if raw and options.invert_label:
            table[OUTCOME.name] = table[OUTCOME.name].astype(str).map(_INVERTED)
        remedy = _remedy(raw, options.invert_label)
        signs[SOURCES[source.path]] = check_direction(table, source.path, remedy)
        tables.append(table.assign(source=SOURCES[source.path]))
        codings[SOURCES[source.path]] = coding.name
    table = tables[0]
    if len(tables) > 1:
        table = pd.concat([t.astype(object) for t in tables], ignore_index=True).fillna("")
    table["patient_id"] = patient_ids(table)
    kept = table.drop_duplicates([*formats.COLUMNS])
    prepared = kept[["patient_id", "source", *formats.COLUMNS]]
    return prepared, {
        "rows_in": len(table),
        "rows_out": len(prepared),
        "duplicates": len(table) - len(prepared),
        "conflicting_outcomes": int(prepared["patient_id"].duplicated().sum()),
        "missing": {name: int((prepared[name] == "").sum()) for name in NAMES},
        "presence": int((prepared[OUTCOME.name] == "presence").sum()),
        "absence": int((prepared[OUTCOME.name] == "absence").sum()),
        "coding": codings,
        "clinical_signs_z": signs,
    }


_INVERTED = {"absence": "presence", "presence": "absence"}


def _coding(source: Source, wanted: str) -> formats.Coding:
    if wanted != "auto":
        return formats.CODINGS[wanted]
    try:
        return formats.detect({name: cells.categories for name, cells in source.columns.items()})
    except SchemaError as error:
        raise StageError(f"{source.path}: {error}") from None


def sources() -> list[Path]:
    """The files to read. Raises StageError when labelled answers are known but not here."""
    if files.PRODUCTION.exists():
        return [files.RAW, files.PRODUCTION]
    if files.POINTER.exists():
        raise StageError(
            f"{files.POINTER} is here but {files.PRODUCTION} is not: run `dvc pull` first"
        )
    return [files.RAW]


def write(path: Path, table: pd.DataFrame) -> None:
    """Write the prepared table in parts of columns: several times faster than row by row."""
    options = pa.csv.WriteOptions(quoting_style="none", quoting_header="none")
    schema = pa.schema([(name, pa.string()) for name in table.columns])
    with (
        files.replacing(path) as part,
        pa.csv.CSVWriter(part, schema, write_options=options) as out,
    ):
        for start in range(0, len(table), PART):
            rows = table.iloc[start : start + PART].astype(object)
            out.write_table(pa.Table.from_pandas(rows, schema, preserve_index=False))


def main() -> None:
    options = params.Prepare.load()
    prepared, metrics = prepare([read(path) for path in sources()], options)
    write(files.PREPARED, prepared)
    files.write_metrics("prepare", metrics)


if __name__ == "__main__":
    main_of(main)
