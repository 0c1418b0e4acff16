"""The same 303 patients in every layout in which they circulate give the same prepared table."""

import contextlib
import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from heart import files
from heart.dataset import codings, words
from heart.dataset.headings import COLUMNS
from heart.dataset.reader import read
from heart.errors import UserError
from heart.schema import MEASUREMENTS, NAMES, OUTCOME, SchemaError
from stages import params, prepare

ROOT = Path(__file__).parents[3]
with (ROOT / files.RAW).open() as raw:
    PATIENTS = list(csv.DictReader(raw))

SHORT = "age,sex,cp,trestbps,chol,fbs,restecg,thalach,exang,oldpeak,slope,ca,thal"
LONG = (
    "Age,Sex,Chest pain type,BP,Cholesterol,FBS over 120,EKG results,Max HR,Exercise angina,"
    "ST depression,Slope of ST,Number of vessels fluro,Thallium"
)

# Written out once more, not taken from heart/dataset/codings.py: what each layout calls the same thing.
CHEST_PAIN = ["typical_angina", "atypical_angina", "non_anginal_pain", "asymptomatic"]
ECG = ["normal", "st_t_abnormality", "left_ventricular_hypertrophy"]
SLOPE = ["upsloping", "flat", "downsloping"]
THALLIUM = ["normal", "fixed_defect", "reversible_defect"]
BINARY = {
    "sex": {"female": "0", "male": "1"},
    "fasting_blood_sugar_over_120": {"no": "0", "yes": "1"},
    "exercise_angina": {"no": "0", "yes": "1"},
}
UCI = BINARY | {
    "chest_pain_type": dict(zip(CHEST_PAIN, "1234", strict=True)),
    "resting_ecg": dict(zip(ECG, "012", strict=True)),
    "st_slope": dict(zip(SLOPE, "123", strict=True)),
    "thallium": dict(zip(THALLIUM, "367", strict=True)) | {"": "?"},
    "major_vessels": {"": "?"},
}
UCI_FROM_0 = UCI | {
    "chest_pain_type": dict(zip(CHEST_PAIN, "0123", strict=True)),
    "st_slope": dict(zip(SLOPE, "012", strict=True)),
    "thallium": dict(zip(THALLIUM, "012", strict=True)) | {"": "?"},
}
UCI_FROM_0_THALLIUM_FROM_1 = UCI_FROM_0 | {
    "thallium": dict(zip(THALLIUM, "123", strict=True)) | {"": "?"},
}
PERMUTED = BINARY | {
    "chest_pain_type": dict(zip(CHEST_PAIN, "3120", strict=True)),
    "resting_ecg": dict(zip(ECG, "120", strict=True)),
    "st_slope": dict(zip(SLOPE, "210", strict=True)),
    "thallium": dict(zip(THALLIUM, "213", strict=True)) | {"": "0"},
    "major_vessels": {"": "4"},
}
PERMUTED_FROM_1 = PERMUTED | {"chest_pain_type": dict(zip(CHEST_PAIN, "4231", strict=True))}

Codes = dict[str, dict[str, str]]


def _coded(codes: Codes, labels: dict[str, str]) -> list[str]:
    return [
        ",".join(
            [
                *(codes.get(name, {}).get(patient[name], patient[name]) for name in NAMES),
                labels[patient[OUTCOME.name]],
            ]
        )
        for patient in PATIENTS
    ]


def _uci_file() -> list[str]:
    """Numbers with a decimal point, and a label from 0 to 4: how far the disease has gone."""
    rows = []
    for position, line in enumerate(_coded(UCI, {"absence": "0", "presence": "1"})):
        *cells, label = line.split(",")
        numbers = [cell if cell == "?" else f"{float(cell)}" for cell in cells]
        rows.append(",".join([*numbers, str(int(label) * (1 + position % 4))]))
    return rows


def _repeated(rows: list[str]) -> list[str]:
    return (rows * 4)[:1025]


DIGITS = {"absence": "0", "presence": "1"}
STATLOG_DIGITS = {"absence": "1", "presence": "2"}
WORDS = {"absence": "Absence", "presence": "Presence"}
INVERTED_DIGITS = {"absence": "1", "presence": "0"}
INVERTED_WORDS = {"absence": "Presence", "presence": "Absence"}

LAYOUTS: dict[str, tuple[list[str], str, bool]] = {
    "UCI without heading": (_uci_file(), "uci", False),
    "UCI short headings": ([f"{SHORT},num", *_uci_file()], "uci", False),
    "UCI short headings, 0 and 1": ([f"{SHORT},target", *_coded(UCI, DIGITS)], "uci", False),
    "long headings": ([f"{LONG},Heart Disease", *_coded(UCI, WORDS)], "uci", False),
    "UCI short headings, Statlog's label": (
        [f"{SHORT},target", *_coded(UCI, STATLOG_DIGITS)],
        "uci",
        False,
    ),
    "counted from 0": ([f"{SHORT},target", *_coded(UCI_FROM_0, DIGITS)], "uci_from_0", False),
    "counted from 0, copies": (
        [f"{SHORT},target", *_repeated(_coded(UCI_FROM_0, DIGITS))],
        "uci_from_0",
        False,
    ),
    "counted from 0, label inverted": (
        [f"{SHORT},target", *_coded(UCI_FROM_0, INVERTED_DIGITS)],
        "uci_from_0",
        True,
    ),
    "counted from 0, thallium from 1": (
        [f"{SHORT},target", *_coded(UCI_FROM_0_THALLIUM_FROM_1, DIGITS)],
        "uci_from_0_thallium_from_1",
        False,
    ),
    "counted from 0, thallium from 1, copies, label inverted": (
        [f"{SHORT},target", *_repeated(_coded(UCI_FROM_0_THALLIUM_FROM_1, INVERTED_DIGITS))],
        "uci_from_0_thallium_from_1",
        True,
    ),
    "circulating, without copies": (
        [f"{SHORT},target", *_coded(PERMUTED, INVERTED_DIGITS)],
        "heart_csv",
        True,
    ),
    "circulating": (
        [f"{SHORT},target", *_repeated(_coded(PERMUTED, INVERTED_DIGITS))],
        "heart_csv",
        True,
    ),
    "circulating, chest pain from 1": (
        [f"{SHORT},target", *_repeated(_coded(PERMUTED_FROM_1, INVERTED_DIGITS))],
        "heart_csv_from_1",
        True,
    ),
    "circulating, long headings": (
        [f"{LONG},Heart Disease", *_repeated(_coded(PERMUTED_FROM_1, INVERTED_WORDS))],
        "heart_csv_from_1",
        True,
    ),
    "project, other column order": (
        [
            ",".join(reversed(COLUMNS)),
            *(",".join(patient[name] for name in reversed(COLUMNS)) for patient in PATIENTS),
        ],
        "words",
        False,
    ),
    "headings in capitals, spaces after commas": (
        [f"{SHORT},num".upper().replace(",", ", "), *(r.replace(",", ", ") for r in _uci_file())],
        "uci",
        False,
    ),
}


def _prepare(
    folder: Path, lines: Iterable[str], *, form: str = "auto", invert: bool = False
) -> tuple[pd.DataFrame, dict[str, Any]]:
    raw = folder / files.RAW
    raw.parent.mkdir(parents=True, exist_ok=True)
    raw.write_text("\n".join(lines) + "\n")
    options = params.Prepare.load(ROOT / "params.yaml").model_copy(
        update={"format": form, "invert_label": invert}
    )
    with contextlib.chdir(folder):
        prepared, metrics = prepare.prepare([(files.RAW, read(files.RAW))], options)
    return prepared.astype(str), metrics


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    lines = (ROOT / files.RAW).read_text().splitlines()
    return _prepare(tmp_path_factory.mktemp("project"), lines)[0]


@pytest.mark.parametrize(("lines", "coding", "inverted"), LAYOUTS.values(), ids=LAYOUTS.keys())
def test_every_layout_gives_the_same_patients(
    lines: list[str], coding: str, inverted: bool, expected: pd.DataFrame, tmp_path: Path
) -> None:
    prepared, metrics = _prepare(tmp_path, lines, invert=inverted)

    assert metrics["sources"]["raw"]["coding"].split(",")[0] == coding
    assert_frame_equal(prepared.reset_index(drop=True), expected)


@pytest.mark.parametrize(("lines", "coding", "inverted"), LAYOUTS.values(), ids=LAYOUTS.keys())
def test_a_named_coding_replaces_recognition(
    lines: list[str], coding: str, inverted: bool, expected: pd.DataFrame, tmp_path: Path
) -> None:
    prepared, _ = _prepare(tmp_path, lines, form=coding, invert=inverted)

    assert_frame_equal(prepared, expected)


def test_the_prepared_patients_are_those_of_the_raw_file(expected: pd.DataFrame) -> None:
    cells = expected[list(COLUMNS)].to_dict("records")

    assert [
        {name: value if name in CATEGORIES else _number(value) for name, value in row.items()}
        for row in cells
    ] == [
        {name: value if name in CATEGORIES else _number(value) for name, value in row.items()}
        for row in PATIENTS
    ]


CATEGORIES = [m.name for m in (*MEASUREMENTS, OUTCOME) if m.choices]


def _number(text: str) -> float | None:
    return float(text) if text else None


def test_copies_in_the_circulating_file_are_counted(tmp_path: Path) -> None:
    lines, _, inverted = LAYOUTS["circulating"]

    _, metrics = _prepare(tmp_path, lines, invert=inverted)

    assert metrics["rows_in"] == 1025
    assert metrics["rows_out"] == len(PATIENTS)
    assert metrics["duplicates"] == 1025 - len(PATIENTS)


def test_the_label_of_the_circulating_file_is_refused_as_it_is(tmp_path: Path) -> None:
    lines, _, _ = LAYOUTS["circulating"]

    with pytest.raises(UserError, match=r"set prepare\.invert_label: true"):
        _prepare(tmp_path, lines, invert=False)


def test_the_wrong_coding_is_refused_with_the_codes_that_it_knows(tmp_path: Path) -> None:
    lines, _, _ = LAYOUTS["circulating"]

    with pytest.raises(UserError) as refusal:
        _prepare(tmp_path, lines, form="uci")

    assert "chest_pain_type is '0', expected one of 1 (typical_angina), 2" in str(refusal.value)


@pytest.mark.parametrize("coding", codings.NUMBERED.values(), ids=codings.NUMBERED)
def test_a_coding_reaches_every_category(coding: dict[str, codings.Codes]) -> None:
    for measurement in MEASUREMENTS:
        if measurement.choices and measurement.name in coding:
            texts = set(coding[measurement.name].values()) - {""}
            assert texts == {choice.name for choice in measurement.choices}


NAMED = pytest.mark.parametrize(
    "coding", [codings.named(name) for name in codings.NAMES], ids=codings.NAMES
)


@NAMED
@pytest.mark.parametrize("column", NAMES)
def test_a_missing_value_is_read_however_it_is_written(coding: codings.Coding, column: str) -> None:
    cells = ["", "  ", "?", " ? ", "NA", "NaN", "nan", "N/A", "null", "NULL", "-9", "-9.0", "-9,0"]

    assert {coding.translate(column, cell) for cell in cells} == {""}


@NAMED
@pytest.mark.parametrize("zero", ["0", "0.0", " 0 ", "00"])
def test_zero_is_missing_where_nobody_can_have_it(coding: codings.Coding, zero: str) -> None:
    assert coding.translate("cholesterol", zero) == ""
    assert coding.translate("resting_bp", zero) == ""
    assert coding.translate("st_depression", zero) == zero.strip()


@NAMED
def test_a_decimal_comma_is_read(coding: codings.Coding) -> None:
    assert coding.translate("st_depression", "2,3") == "2.3"
    assert coding.translate("st_depression", "-1,5") == "-1.5"
    assert coding.translate("age", "63,0") == "63.0"


@NAMED
@pytest.mark.parametrize(
    ("column", "cell", "category"),
    [
        ("sex", "Male", "male"),
        ("sex", "F", "female"),
        ("fasting_blood_sugar_over_120", "TRUE", "yes"),
        ("exercise_angina", "N", "no"),
        ("chest_pain_type", "ASY", "asymptomatic"),
        ("chest_pain_type", "non-anginal", "non_anginal_pain"),
        ("chest_pain_type", "nontypical", "atypical_angina"),
        ("chest_pain_type", "typ_angina", "typical_angina"),
        ("resting_ecg", "lv hypertrophy", "left_ventricular_hypertrophy"),
        ("resting_ecg", "ST", "st_t_abnormality"),
        ("st_slope", "Up", "upsloping"),
        ("thallium", "reversable defect", "reversible_defect"),
        (OUTCOME.name, "'>50_1'", "presence"),
        (OUTCOME.name, "Yes", "presence"),
    ],
)
def test_words_of_the_files_in_circulation_are_read_in_every_coding(
    coding: codings.Coding, column: str, cell: str, category: str
) -> None:
    assert coding.translate(column, cell) == category


def test_no_word_stands_for_two_categories() -> None:
    for column, synonyms in words.SYNONYMS.items():
        texts = [
            words.plain(w) for line in synonyms.values() for w in filter(None, line.split(","))
        ]
        assert len(texts) == len(set(texts)), column


def test_the_names_in_params_are_those_of_the_codings() -> None:
    schema = json.dumps(params.Prepare.model_json_schema())

    assert json.dumps(list(codings.NAMES)) in schema
    assert json.dumps(list(codings.DECIDING)) in schema


@pytest.mark.parametrize(
    ("labels", "absence", "presence"),
    [
        ({"1", "2"}, ["1"], ["2"]),
        ({"1.0", " 2"}, ["1"], ["2.0"]),
        ({"0", "1", "2"}, ["0"], ["1", "2"]),
        ({"0", "2"}, ["0"], ["2"]),
    ],
)
@NAMED
def test_one_and_two_alone_are_the_label_of_statlog(
    coding: codings.Coding, labels: set[str], absence: list[str], presence: list[str]
) -> None:
    labelled = codings.with_label_of(coding, labels)

    assert {labelled.translate(OUTCOME.name, label) for label in absence} == {"absence"}
    assert {labelled.translate(OUTCOME.name, label) for label in presence} == {"presence"}


def test_single_columns_may_be_in_another_coding() -> None:
    coding = codings.named("uci", {"thallium": "heart_csv", "st_slope": "words"})

    assert coding.name == "uci, thallium heart_csv"
    assert coding.translate("thallium", "2") == "normal"
    assert coding.translate("chest_pain_type", "4") == "asymptomatic"
    with pytest.raises(SchemaError):
        coding.translate("st_slope", "2")
