"""Patients written in any coding, layout and kind of file are read back as they are, or refused: never wrong."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pandas as pd
import pytest

from heart import files
from heart.dataset import reader, translation
from heart.dataset.codings import NUMBERED, WORDS
from heart.dataset.detection import Settings
from heart.dataset.headings import COLUMNS, OTHER_HEADINGS
from heart.dataset.words import SYNONYMS
from heart.errors import UserError
from heart.schema import MEASUREMENTS, OUTCOME

Rows = list[dict[str, str]]
with (Path(__file__).parents[3] / files.RAW).open() as raw:
    CLEVELAND: Rows = list(csv.DictReader(raw))

BINARY = {
    "sex": {"female": "0", "male": "1"},
    "fasting_blood_sugar_over_120": {"no": "0", "yes": "1"},
    "exercise_angina": {"no": "0", "yes": "1"},
}
LABELS = [
    {"absence": "0", "presence": "1"},
    {"absence": "0", "presence": "3"},
    {"absence": "1", "presence": "2"},
    {"absence": "No", "presence": "Yes"},
    {"absence": "Absence", "presence": "Presence"},
    {"absence": "<50", "presence": ">50_1"},
]
MISSING = ["", "?", "NA", "NaN", "N/A", "null", "-9", " "]
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1"]


def uniform(random: np.random.Generator, count: int) -> Rows:
    """Valid patients without any of the associations of real ones."""
    rows = []
    for _ in range(count):
        row = {}
        for m in (*MEASUREMENTS, OUTCOME):
            if m.choices:
                row[m.name] = m.choices[random.integers(len(m.choices))].name
            else:
                steps = random.integers(0, round((m.high - m.low) / m.step) + 1)
                row[m.name] = f"{m.low + steps * m.step:.10g}"
            if not m.required and random.random() < 0.05:
                row[m.name] = ""
        rows.append(row)
    return rows


def coded(rows: Rows, coding: str, label: dict[str, str], missing: str) -> list[list[str]]:
    """The cells of patients in a coding."""
    numbers = BINARY | {
        column: {category: code for code, category in codes.items() if category or code == "0"}
        for column, codes in NUMBERED[coding].items()
    }
    return [
        [
            label[row[name]]
            if name == OUTCOME.name
            else numbers.get(name, {}).get(row[name], row[name]) or missing
            for name in COLUMNS
        ]
        for row in rows
    ]


def worded(rows: Rows, random: np.random.Generator, label: dict[str, str]) -> list[list[str]]:
    """The cells of patients in words, for each category one of those that are known."""

    def word(name: str, text: str) -> str:
        others = [w.strip() for w in SYNONYMS.get(name, {}).get(text, "").split(",") if w.strip()]
        spelled = random.choice([text, *others]) if text else ""
        return spelled.title() if random.random() < 0.5 else spelled

    return [
        [label[row[n]] if n == OUTCOME.name else word(n, row[n]) for n in COLUMNS] for row in rows
    ]


def heading(random: np.random.Generator) -> list[str]:
    """For each column one of its names, in some case."""
    names = []
    for column in COLUMNS:
        others = OTHER_HEADINGS.get(column, "").split(",")
        name = random.choice([column, *(o.strip() for o in others if o.strip())])
        names.append(random.choice([name, name.upper(), name.title().replace(" ", "_")]))
    return names


def text_of(table: Sequence[Sequence[str]], separator: str, end: str, comma: bool) -> str:
    """A table as text; where the separator is another, decimals may have a comma."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter=separator, lineterminator=end)
    for cells in table:
        numbers = [c.replace(".", ",") if c.replace(".", "", 1).isdigit() else c for c in cells]
        writer.writerow(numbers if comma else cells)
    return out.getvalue()


def written(
    path: Path, random: np.random.Generator, table: list[list[str]], names: list[str]
) -> None:
    """Write a table as a file of some kind."""
    kind = random.choice(["text", "text", "text", "xlsx", "parquet", "arff"])
    if kind == "parquet":
        pd.DataFrame(table, columns=names).to_parquet(path)
    elif kind == "xlsx":
        book = openpyxl.Workbook()
        sheet: Any = book.active
        for row in [names, *table]:
            sheet.append([float(c) if c.replace(".", "", 1).isdigit() else c for c in row])
        book.save(path)
    elif kind == "arff":
        attributes = "".join(f"@attribute '{name}' string\n" for name in names)
        rows = [["?" if not c.strip() else f"'{c}'" if " " in c else c for c in r] for r in table]
        lines = "\n".join(",".join(row) for row in rows)
        path.write_text(f"% a comment\n@RELATION heart\n{attributes}@DATA\n{lines}\n")
    else:
        separator, end = random.choice([",", ";", "\t", " "]), random.choice(["\n", "\r\n", "\r"])
        headless = names == list(COLUMNS) and random.random() < 0.5
        comma = separator != "," and random.random() < 0.5
        text = text_of(table if headless else [names, *table], separator, end, comma)
        path.write_bytes(text.encode(random.choice(ENCODINGS)))


def read(path: Path) -> Rows | None:
    """The patients of a file, None if its coding or layout is in doubt."""
    try:
        table = reader.read(path)
        coding = translation.coding_of(table, Settings()).coding
    except UserError:
        return None
    columns, problems = translation.translate(table, coding)
    if problems or table.bad_lines:
        return None
    texts = {name: np.array(cells.texts)[cells.positions] for name, cells in columns.items()}
    return [{n: str(texts[n][row]) for n in COLUMNS} for row in range(len(table.lines))]


def canonical(rows: Rows) -> Rows:
    """Numbers as the schema writes them."""
    known = {m.name: m for m in (*MEASUREMENTS, OUTCOME)}
    return [{n: known[n].text(known[n].parse(row[n])) for n in COLUMNS} for row in rows]


def trial(path: Path, seed: int) -> str:
    """What becomes of one file: "read", "refused" or "wrong"."""
    random = np.random.default_rng(seed)
    count = random.choice([2, 10, 60, 150])
    picked = random.choice(len(CLEVELAND), count, replace=False)
    rows = [CLEVELAND[i] for i in picked] if random.random() < 0.6 else uniform(random, count)
    rows[0] = {**rows[0], OUTCOME.name: "absence"}
    rows[1] = {**rows[1], OUTCOME.name: "presence"}
    coding, label = random.choice([WORDS, *NUMBERED]), LABELS[random.integers(len(LABELS))]
    if coding == WORDS:
        table = worded(rows, random, label)
    else:
        table = coded(rows, coding, label, random.choice(MISSING))
    names = list(COLUMNS)
    if random.random() < 0.7:
        order = random.permutation(len(names))
        names = [heading(random)[i] for i in order]
        table = [[row[i] for i in order] for row in table]
    written(path, random, table, names)
    patients = read(path)
    if patients is None:
        return "refused"
    return "read" if patients == canonical(rows) else "wrong"


@pytest.mark.parametrize("start", range(0, 160, 40))
def test_no_file_is_misread_and_most_are_read(start: int, tmp_path: Path) -> None:
    results = {seed: trial(tmp_path / "heart.csv", seed) for seed in range(start, start + 40)}

    assert [seed for seed, result in results.items() if result == "wrong"] == []
    assert list(results.values()).count("read") > 15


@pytest.mark.parametrize("seed", [1063, 1091, 2601])
def test_random_numbers_and_foreign_headings_do_not_decide(seed: int, tmp_path: Path) -> None:
    assert trial(tmp_path / "heart.csv", seed) == "refused"


@pytest.mark.heavy
def test_of_thousands_of_files_none_is_read_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = {seed: trial(tmp_path / "heart.csv", seed) for seed in range(1000, 4000)}

    with capsys.disabled():
        print(f"\nfiles: {dict(Counter(results.values()))}")
    assert [seed for seed, result in results.items() if result == "wrong"] == []
