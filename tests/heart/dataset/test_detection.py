"""A table's coding is told right, or it is not told: the 303 patients in each coding, and samples of them."""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from heart import files
from heart.dataset.detection import Cells, Columns, detect
from heart.dataset.formats import CODINGS, NUMBERED, PROJECT, Coding
from heart.schema import NAMES, SchemaError

Patient = Mapping[str, str]
SETTING = "prepare.format"
with (Path(__file__).parents[3] / files.RAW).open() as raw:
    PATIENTS: list[Patient] = list(csv.DictReader(raw))
SHORT = [
    "age",
    "sex",
    "cp",
    "trestbps",
    "chol",
    "fbs",
    "restecg",
    "thalach",
    "exang",
    "oldpeak",
    "slope",
    "ca",
    "thal",
]


def columns(rows: Iterable[Patient]) -> dict[str, Cells]:
    cells = {name: [row[name] for row in rows] for name in NAMES}
    return {name: column(texts) for name, texts in cells.items()}


def column(texts: Sequence[str]) -> Cells:
    distinct, positions = np.unique(np.array(texts, dtype=object), return_inverse=True)
    return Cells(distinct.tolist(), positions)


def written(patients: Iterable[Patient], coding: Coding, **others: Coding) -> list[Patient]:
    """Patients in a coding; single columns may be in another one."""
    code = {
        name: {text: code for code, text in others.get(name, coding).codes[name].items()}
        for name in NAMES
        if name in coding.codes
    }
    return [
        {name: code.get(name, {}).get(patient[name], patient[name]) for name in NAMES}
        for patient in patients
    ]


def outcome(table: Columns) -> str:
    """The name of the coding, or nothing where it is not told."""
    try:
        return detect(table, SETTING).name
    except SchemaError:
        return ""


def refusal(table: Columns) -> str:
    with pytest.raises(SchemaError) as error:
        detect(table, SETTING)
    return str(error.value)


def rows(*lines: str) -> Columns:
    cells = [dict(zip(SHORT, line.split(","), strict=True)) for line in lines]
    return columns([dict(zip(NAMES, row.values(), strict=True)) for row in cells])


CODINGS_OF_CODES = pytest.mark.parametrize("coding", NUMBERED, ids=lambda coding: coding.name)


@CODINGS_OF_CODES
def test_all_patients_are_told_in_each_coding(coding: Coding) -> None:
    patients = written(PATIENTS, coding)

    assert detect(columns(patients), SETTING) is coding
    assert detect(columns((patients * 4)[:1025]), SETTING) is coding
    assert detect(columns(patients[::-1]), SETTING) is coding


def told(coding: Coding, rows: int, draws: int) -> Counter[str]:
    """How often the coding of a random sample is right, refused or wrong."""
    random = np.random.default_rng([rows, *coding.name.encode()])
    patients = written(PATIENTS, coding)
    verdicts = {coding.name: "right", "": "refused"}
    return Counter(
        verdicts.get(outcome(columns([patients[i] for i in sample])), "wrong")
        for sample in (random.choice(len(patients), rows, replace=False) for _ in range(draws))
    )


@CODINGS_OF_CODES
@pytest.mark.parametrize(("rows", "right"), [(3, 0), (10, 8), (50, 20)])
def test_no_sample_is_told_wrong(coding: Coding, rows: int, right: int) -> None:
    verdicts = told(coding, rows, draws=20)

    assert verdicts["wrong"] == 0
    assert verdicts["right"] >= right


@pytest.mark.heavy
@pytest.mark.parametrize("rows", [3, 5, 10, 20, 30, 50, 100, 200, 303])
def test_of_two_thousand_samples_none_is_told_wrong(
    rows: int, capsys: pytest.CaptureFixture[str]
) -> None:
    verdicts = sum((told(coding, rows, draws=400) for coding in NUMBERED), Counter[str]())

    with capsys.disabled():
        print(f"\n{rows} rows: {dict(verdicts)}")
    assert verdicts["wrong"] == 0
    assert verdicts["right"] >= (2000 if rows >= 50 else 0)


@CODINGS_OF_CODES
def test_a_few_bad_cells_change_nothing(coding: Coding) -> None:
    patients = written(PATIENTS, coding)
    bad = [{**patient, "thallium": "9", "st_slope": "x"} for patient in patients[:40]]
    foreign = [{**patients[40], "thallium": "7"}, {**patients[41], "resting_ecg": "normal"}]

    assert detect(columns([*bad, *foreign, *patients[42:]]), SETTING) is coding


@CODINGS_OF_CODES
def test_measurements_that_are_missing_everywhere_are_no_obstacle(coding: Coding) -> None:
    table = columns(written(PATIENTS, coding))
    table["major_vessels"] = column(["?"] * len(PATIENTS))
    del table["st_depression"], table["resting_ecg"]

    assert detect(table, SETTING) is coding


def test_codes_are_numbers_however_they_are_written() -> None:
    table = columns(written(PATIENTS, CODINGS["uci"]))
    decimal = {
        name: Cells(
            [f" {text}.0" if text.isdigit() else text for text in cells.texts], cells.positions
        )
        for name, cells in table.items()
    }

    assert detect(decimal, SETTING).name == "uci"


def test_words_are_the_projects_coding() -> None:
    assert detect(columns(PATIENTS), SETTING) is PROJECT
    assert detect(columns([{**PATIENTS[0], "thallium": ""}]), SETTING) is PROJECT


# Small tables


FROM_0_THALLIUM_FROM_0 = (
    "61,1,3,141,251,0,2,121,1,2.1,1,2,2",
    "58,0,3,133,277,0,2,131,1,1.7,1,1,2",
    "49,1,0,127,219,0,0,171,0,0.3,0,0,0",
    "44,0,2,119,203,0,0,168,0,0.2,0,0,1",
)
FROM_0_THALLIUM_FROM_1 = tuple(f"{line[:-1]}{int(line[-1]) + 1}" for line in FROM_0_THALLIUM_FROM_0)


def test_four_rows_that_two_codings_fit_are_refused_with_both_the_columns_and_the_setting() -> None:
    message = refusal(rows(*FROM_0_THALLIUM_FROM_1))

    assert "uci_from_0_thallium_from_1, heart_csv fit" in message
    assert "they differ in chest_pain_type, resting_ecg, st_slope, thallium" in message
    assert "4 different" in message
    assert "Set prepare.format to one of uci_from_0_thallium_from_1, heart_csv" in message


def test_thallium_alone_tells_the_two_codings_from_0_apart() -> None:
    message = refusal(rows(*FROM_0_THALLIUM_FROM_0))

    assert "uci_from_0, uci_from_0_thallium_from_1 fit; they differ in thallium, and" in message


def test_copies_of_rows_are_no_further_evidence() -> None:
    assert outcome(rows(*FROM_0_THALLIUM_FROM_1 * 50)) == ""


def test_a_code_that_one_coding_has_needs_few_rows() -> None:
    assert outcome(rows("63,1,1,145,233,1,2,150,0,2.3,3,0,6")) == "uci"


def test_columns_that_all_codings_write_alike_tell_nothing() -> None:
    table = {name: column(["50", "60"] if name == "age" else ["0", "1"]) for name in ("age", "sex")}

    message = refusal(table)

    assert "no column in which they differ is given" in message
    assert f"one of {', '.join(coding.name for coding in NUMBERED)}" in message


@pytest.mark.parametrize("cell", ["", "?", "x", "9"])
def test_a_table_without_any_known_code_is_refused_with_all_codings(cell: str) -> None:
    message = refusal({"age": column(["50"]), "sex": column([cell]), "thallium": column([cell])})

    assert f"set prepare.format to one of {', '.join(CODINGS)}" in message


# One column in another coding than the rest


@pytest.mark.parametrize("name", ["chest_pain_type", "st_slope", "thallium"])
@pytest.mark.parametrize(
    ("coding", "other"),
    [("uci_from_0_thallium_from_1", "heart_csv"), ("heart_csv", "uci_from_0_thallium_from_1")],
)
def test_a_column_in_another_coding_than_the_rest_is_refused_by_name(
    name: str, coding: str, other: str
) -> None:
    message = refusal(columns(written(PATIENTS, CODINGS[coding], **{name: CODINGS[other]})))

    assert f"in coding {coding} but for {name}, which has " in message
    assert "prepare.format" in message


def test_codes_that_no_coding_has_together_are_refused() -> None:
    patients = [{**p, "thallium": p["thallium"] or "0"} for p in written(PATIENTS, CODINGS["uci"])]
    unknown = [{**p, "thallium": "0"} if i % 2 else p for i, p in enumerate(patients)]

    assert "in coding uci but for thallium, which has 0 (" in refusal(columns(unknown))
