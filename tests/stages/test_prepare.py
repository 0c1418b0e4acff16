"""Stage prepare: what is wrong is refused in one message and nothing is written."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.stats import hypergeom

from heart import files
from heart.dataset import codings, translation
from heart.dataset import label_check as direction
from heart.dataset.headings import COLUMNS
from heart.dataset.reader import read
from heart.errors import UserError
from heart.schema import MEASUREMENTS, NAMES, OUTCOME
from stages import prepare

ROOT = Path(__file__).parents[2]
LINES = (ROOT / files.RAW).read_text().splitlines()
HEADING, *PATIENTS = LINES
UCI_PATIENT = "63.0,1.0,1.0,145.0,233.0,1.0,2.0,150.0,0.0,2.3,3.0,0.0,6.0,0"

PRODUCTION_HEADING = f"patient_id,{HEADING},outcome_source,outcome_date"
YOUNG = "35,female,non_anginal_pain,118,190,no,normal,180,no,0,upsloping,,"

Content = bytes | list[str]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _lay(path: Path, content: Content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, list):
        content = "".join(f"{line}\n" for line in content).encode()
    path.write_bytes(content)


def _lay_params(**options: Any) -> None:
    section = yaml.safe_load((ROOT / "params.yaml").read_text())["prepare"] | options
    Path("params.yaml").write_text(json.dumps({"prepare": section}))


def _prepared(raw: Content, **options: Any) -> tuple[pd.DataFrame, dict[str, Any]]:
    _lay(files.RAW, raw)
    _lay_params(**options)
    prepare.main()
    return files.read_table(files.PREPARED), json.loads(Path("metrics/prepare.json").read_text())


def _refusal(raw: Content, **options: Any) -> str:
    with pytest.raises(UserError) as refusal:
        _prepared(raw, **options)
    assert not list(files.PREPARED.parent.glob("prepared*"))
    assert not files.METRICS.exists()
    return str(refusal.value)


def _with(line: int, column: str, cell: str, lines: list[str] = LINES) -> list[str]:
    """The lines of a file with another cell; the heading is line 1, as in an editor."""
    cells = lines[line - 1].split(",")
    cells[COLUMNS.index(column)] = cell
    return [*lines[: line - 1], ",".join(cells), *lines[line:]]


def _without(column: str) -> list[str]:
    place = COLUMNS.index(column)
    split = [line.split(",") for line in LINES]
    return [",".join(cells[:place] + cells[place + 1 :]) for cells in split]


def _inverted(lines: list[str]) -> list[str]:
    other = {"absence": "presence", "presence": "absence"}
    heading, *rows = lines
    split = [row.rsplit(",", 1) for row in rows]
    return [heading, *(f"{measurements},{other[label]}" for measurements, label in split)]


# Good files


def test_the_projects_file_is_prepared_in_its_order() -> None:
    prepared, metrics = _prepared(LINES)

    assert list(prepared.columns) == ["patient_id", "source", *COLUMNS]
    assert prepared[OUTCOME.name].tolist() == [row.rsplit(",", 1)[1] for row in PATIENTS]
    assert prepared["patient_id"].str.fullmatch("[0-9a-f]{24}").all()
    assert prepared["patient_id"].is_unique
    assert set(prepared["source"]) == {"raw"}
    assert metrics["rows_in"] == metrics["rows_out"] == len(PATIENTS)
    assert metrics["presence"] + metrics["absence"] == len(PATIENTS)
    assert all(z > 3 for z in metrics["sources"]["raw"]["clinical_signs_z"].values())
    assert len(metrics["sources"]["raw"]["clinical_signs_z"]) == len(direction.DIRECTIONS)


def test_equal_inputs_give_equal_files() -> None:
    _prepared(LINES)
    first = files.PREPARED.read_bytes()

    _prepared(LINES)

    assert files.PREPARED.read_bytes() == first


@pytest.mark.parametrize("column", ["cholesterol", "resting_bp"])
@pytest.mark.parametrize("zero", ["0", "0.0"])
def test_zero_cholesterol_or_blood_pressure_is_missing(column: str, zero: str) -> None:
    prepared, metrics = _prepared(_with(5, column, zero))

    assert prepared[column].tolist().count("") == metrics["missing"][column] == 1
    assert prepared.loc[3, column] == ""


def test_missing_measurements_are_counted() -> None:
    _, metrics = _prepared(_with(5, "st_slope", "", _with(6, "st_slope", "?")))

    assert metrics["missing"]["st_slope"] == 2
    assert metrics["missing"]["age"] == 0


def test_duplicates_are_dropped_and_counted() -> None:
    prepared, metrics = _prepared([*LINES, *PATIENTS[:7], *PATIENTS[:2]])

    assert len(prepared) == metrics["rows_out"] == len(PATIENTS)
    assert metrics["rows_in"] == len(PATIENTS) + 9
    assert metrics["duplicates"] == 9
    assert metrics["conflicting_outcomes"] == 0


def test_the_same_patient_written_otherwise_is_a_duplicate() -> None:
    twin = PATIENTS[0].replace("63,", "63.0,").replace(",2.3,", ",2.30,")
    assert twin != PATIENTS[0]

    prepared, metrics = _prepared([*LINES, twin])

    assert metrics["duplicates"] == 1
    assert len(prepared) == len(PATIENTS)


def test_the_same_measurements_with_another_outcome_share_the_id_and_are_counted() -> None:
    other = PATIENTS[0].replace("absence", "presence")

    prepared, metrics = _prepared([*LINES, other])

    first, last = prepared.iloc[0], prepared.iloc[-1]
    assert first["patient_id"] == last["patient_id"]
    assert (first[OUTCOME.name], last[OUTCOME.name]) == ("absence", "presence")
    assert metrics["conflicting_outcomes"] == 1
    assert metrics["duplicates"] == 0


def test_an_id_does_not_depend_on_other_rows() -> None:
    whole, _ = _prepared(LINES)

    some, _ = _prepared([HEADING, *reversed(PATIENTS[100:])])

    assert some["patient_id"].tolist() == whole["patient_id"].tolist()[:99:-1]


def test_cells_that_occur_late_in_a_long_file_are_read_as_they_are() -> None:
    # Arrow reads blocks of a megabyte, each with distinct cells of its own: this file has four.
    late = "35,female,non_anginal_pain,118,99,no,normal,211,no,0,upsloping,,,absence"

    prepared, metrics = _prepared([HEADING, late.replace("99", "98"), *PATIENTS * 130, late])

    assert metrics["duplicates"] == 129 * len(PATIENTS)
    assert ",".join(prepared.iloc[0, 2:]) == late.replace("99", "98")
    assert ",".join(prepared.iloc[-1, 2:]) == late


@pytest.mark.parametrize(
    "content",
    [
        [*LINES, ""],
        [*LINES[:3], "", *LINES[3:]],
        [*LINES[:3], "   ", "\t", *LINES[3:], "", ""],
        "\r\n".join([*LINES, ""]).encode(),
        "\r\n".join([*LINES[:3], "", *LINES[3:]]).encode(),
        "\n".join(LINES).encode(),
        b"\xef\xbb\xbf" + "\n".join(LINES).encode(),
        [",".join(f'"{cell}"' for cell in line.split(",")) for line in LINES],
        [line.replace(",", " , ") for line in LINES],
    ],
    ids=[
        "blank line at the end",
        "blank line within",
        "lines of spaces",
        "CRLF",
        "CRLF and a blank line",
        "no newline at the end",
        "byte order mark",
        "quoted",
        "spaces around commas",
    ],
)
def test_how_the_lines_are_written_does_not_matter(content: Content) -> None:
    prepared, metrics = _prepared(content)

    assert metrics["rows_in"] == len(PATIENTS)
    assert prepared.iloc[-1][OUTCOME.name] == PATIENTS[-1].rsplit(",", 1)[1]


# Bad files

BAD_CELLS = {
    "above the bound": ("resting_bp", "999", "a whole number from 60 to 260 mm Hg"),
    "below the bound": ("age", "17", "a whole number from 18 to 110 years"),
    "no whole number": ("age", "54.5", "a whole number from 18 to 110 years"),
}
BAD_TEXTS = {
    "infinite": ("cholesterol", "inf", "a whole number from 80 to 700 mg/dl"),
    "no number": ("age", "sixty", "a whole number from 18 to 110 years"),
    "unknown category": ("sex", "unknown", "one of 0 (female), 1 (male), female, male"),
    "code in a column of words": (
        "thallium",
        "1",
        "one of normal, fixed_defect, reversible_defect",
    ),
    "unknown label": (
        "heart_disease",
        "maybe",
        "one of 0 (absence), 1 (presence), 2 (presence), 3 (presence), 4 (presence), absence, presence",
    ),
}


@pytest.mark.parametrize(("column", "cell", "expected"), BAD_CELLS.values(), ids=BAD_CELLS.keys())
def test_a_number_out_of_place_is_named_with_its_place(
    column: str, cell: str, expected: str
) -> None:
    message = _refusal(_with(6, column, cell))

    problem = f"{files.RAW}: 1 problem\n  line 6: {column} is {cell}, expected {expected}\n"
    assert message.startswith(problem)


@pytest.mark.parametrize(("column", "cell", "expected"), BAD_TEXTS.values(), ids=BAD_TEXTS.keys())
def test_a_text_out_of_place_is_named_with_its_place(column: str, cell: str, expected: str) -> None:
    message = _refusal(_with(6, column, cell))

    problem = f"{files.RAW}: 1 problem\n  line 6: {column} is {cell!r}, expected {expected}\n"
    assert message.startswith(problem)


@pytest.mark.parametrize("nothing", ["", " ", "?"])
def test_a_missing_label_is_refused(nothing: str) -> None:
    message = _refusal(_with(304, "heart_disease", nothing))

    assert "line 304: heart_disease is missing, expected one of absence, presence" in message


@pytest.mark.parametrize(
    ("row", "width"),
    [("1,2,3", 3), ("x", 1), (f"{PATIENTS[0]},", 15), (f"{PATIENTS[0]},a,b", 16)],
)
def test_a_row_with_too_few_or_too_many_columns_is_refused(row: str, width: int) -> None:
    message = _refusal([*LINES[:9], row, *LINES[9:]])

    assert message.startswith(f"{files.RAW}: 1 problem\n  line 10: {width} columns, expected 14\n")


HEADINGS = {
    "unknown": (_with(1, "sex", "sexe"), ["column 'sexe' is unknown", "column sex is missing"]),
    "extra": ([f"{line},x" for line in LINES], ["column 'x' is unknown"]),
    "label missing": (_without("heart_disease"), ["column heart_disease is missing"]),
    "twice": (
        [f"{HEADING},cp", *(f"{row},asymptomatic" for row in PATIENTS)],
        ["column chest_pain_type occurs more than once"],
    ),
}


@pytest.mark.parametrize(("lines", "problems"), HEADINGS.values(), ids=HEADINGS.keys())
def test_a_wrong_heading_is_refused_with_the_right_one(
    lines: list[str], problems: list[str]
) -> None:
    message = _refusal(lines)

    assert message.startswith(f"{files.RAW}: ")
    assert all(f"line 1: {problem}" in message for problem in problems)
    assert f"expected {', '.join(COLUMNS)}" in message


@pytest.mark.parametrize(
    "content", [b"", b"\n", b" \r\n\t\n\n"], ids=["empty", "one newline", "blank"]
)
def test_an_empty_file_is_refused(content: bytes) -> None:
    message = _refusal(content)

    assert message == f"{files.RAW}: the file is empty, expected a table of patients"


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n", "\n  \n"], ids=repr)
def test_a_heading_without_rows_is_refused(end: str) -> None:
    message = _refusal(f"{HEADING}{end}".encode())

    assert message == f"{files.RAW}: no rows, expected at least one patient"


def test_binary_data_are_refused() -> None:
    message = _refusal(HEADING.encode() + b"\n\x00\x01\x02")

    assert f"{files.RAW}: binary data (a NUL at byte {len(HEADING) + 1})" in message


def test_binary_data_far_into_the_file_are_refused() -> None:
    message = _refusal([HEADING, *PATIENTS * 4, PATIENTS[0].replace("145", "1\x0045")])

    assert "line 1214: resting_bp is '1\\x0045', expected a whole number" in message


@pytest.mark.parametrize("line", [8, 2000])
def test_text_in_latin_1_is_read(line: int) -> None:
    lines = [HEADING, *PATIENTS * 8]

    message = _refusal("\n".join(_with(line, "thallium", "d\xe9faut", lines)).encode("latin-1"))

    assert f"line {line}: thallium is 'd\xe9faut'" in message


def test_an_unclosed_quote_is_refused() -> None:
    message = _refusal(_with(6, "resting_bp", '"145'))

    assert message.startswith(f"{files.RAW}: ")
    assert "line 6" in message


def test_all_bad_cells_of_a_row_are_named_in_the_order_of_lines() -> None:
    lines = _with(9, "age", "7", _with(4, "thallium", "x", _with(9, "sex", "x")))

    message = _refusal(lines)

    places = [line.split(" is ")[0].strip() for line in message.splitlines()[:-1]]
    assert places == [
        f"{files.RAW}: 3 problems",
        "line 4: thallium",
        "line 9: age",
        "line 9: sex",
    ]


@pytest.mark.parametrize("number", [20, 21, 45])
@pytest.mark.parametrize("fault", ["cell", "columns"])
def test_the_first_twenty_bad_rows_are_listed(number: int, fault: str) -> None:
    lines = LINES
    for line in range(11, 11 + number):
        if fault == "cell":
            lines = _with(line, "resting_bp", str(1000 + line), lines)
        else:
            lines = [*lines[: line - 1], "1,2", *lines[line:]]

    first, *listed, _ = _refusal(lines).splitlines()

    assert first == f"{files.RAW}: {number} problems"
    assert [line.split(":")[0] for line in listed[:20]] == [f"  line {n}" for n in range(11, 31)]
    assert listed[20:] == ([f"  and {number - 20} more"] if number > 20 else [])


@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=repr)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte order mark"])
@pytest.mark.parametrize("blank", ["", "   "], ids=["empty lines", "lines of spaces"])
@pytest.mark.parametrize("fault", ["cell", "columns"])
@pytest.mark.parametrize("heading", [[HEADING], []], ids=["heading", "headless"])
def test_line_numbers_are_those_of_an_editor(
    heading: list[str], fault: str, blank: str, mark: bytes, newline: str
) -> None:
    good = PATIENTS[0] if heading else UCI_PATIENT
    bad = good.replace("145", "1145") if fault == "cell" else good + ",1"
    lines = [*heading, good, blank, good, blank, blank, bad, good, blank, bad, blank]

    message = _refusal(mark + newline.join(lines).encode())

    places = re.search(r"\n  lines ([\d, ]+):", message)
    if fault == "columns":  # each has a problem of its own
        numbers = re.findall(r"\n  line (\d+):", message)
    else:
        numbers = places[1].split(", ") if places else []
    assert list(map(int, numbers)) == [n for n, line in enumerate(lines, start=1) if line == bad]


def test_line_numbers_hold_beyond_the_first_block_of_a_long_file() -> None:
    # Arrow reads blocks of a megabyte: this file has four.
    lines = [HEADING, *PATIENTS * 130]
    lines[20_000] = "  "
    lines[39_000] = lines[39_000].replace(",", ";", 1)

    assert "line 39001: 13 columns" in _refusal(lines)

    lines[39_000] = lines[39_002] = _with(1, "age", "7", [PATIENTS[0]])[0]
    assert "\n  lines 39001, 39003: age is 7, expected" in _refusal(lines)


def test_a_refusal_leaves_an_earlier_result_alone() -> None:
    _prepared(LINES)
    before = files.PREPARED.read_bytes(), (files.METRICS / "prepare.json").read_bytes()
    _lay(files.RAW, _with(6, "age", "7"))

    with pytest.raises(UserError):
        prepare.main()

    assert (files.PREPARED.read_bytes(), (files.METRICS / "prepare.json").read_bytes()) == before


# Bad rows that are dropped


def test_bad_rows_are_dropped_on_request_counted_and_listed() -> None:
    bad = [*_with(9, "age", "7", _with(4, "thallium", "x", _with(4, "sex", "x"))), "1,2"]

    prepared, metrics = _prepared(bad, bad_rows="drop")

    assert len(prepared) == len(PATIENTS) - 2
    assert metrics["sources"]["raw"]["dropped"] == {
        "rows": 3,
        "by_column": {"(row)": 1, "age": 1, "sex": 1, "thallium": 1},
        "lines": [4, 9, 305],
    }


def test_a_file_without_a_good_row_is_refused_also_if_bad_rows_are_dropped() -> None:
    message = _refusal([HEADING, *(f"7{row[2:]}" for row in PATIENTS[:3])], bad_rows="drop")

    assert "no row is left" in message


# Columns


def test_a_measurement_without_a_column_is_missing() -> None:
    prepared, metrics = _prepared(_without("thallium"))

    assert set(prepared["thallium"]) == {""}
    assert metrics["sources"]["raw"]["columns_missing"] == ["thallium"]


def test_an_extra_column_is_kept_ignored_or_refused() -> None:
    lines = [f"{HEADING},ward,dataset", *(f"{row},W {n % 2},x" for n, row in enumerate(PATIENTS))]

    kept, metrics = _prepared(lines, keep=["ward"])
    ignored, _ = _prepared(lines, ignore=["ward"])

    assert set(kept["kept_ward"]) == {"W 0", "W 1"}
    assert metrics["sources"]["raw"]["columns_ignored"] == ["dataset"]
    assert list(ignored.columns) == ["patient_id", "source", *COLUMNS]
    files.PREPARED.unlink()
    (files.METRICS / "prepare.json").unlink()
    files.METRICS.rmdir()
    message = _refusal(lines)
    assert "column 'ward' is unknown" in message
    assert "prepare.ignore" in message
    assert "prepare.keep" in message


def test_a_measurement_cannot_be_kept_as_an_extra_column() -> None:
    lines = [HEADING.replace("chest_pain_type", "cp"), *PATIENTS]

    assert "is the measurement chest_pain_type" in _refusal(lines, keep=["cp"])
    assert "prepare.keep has age" in _refusal(LINES, keep=["age"])


def test_a_column_of_any_other_name_can_be_kept() -> None:
    lines = [f"{HEADING},line,source", *(f"{row},{n % 3},x" for n, row in enumerate(PATIENTS))]

    prepared, _ = _prepared(lines, keep=["line", "source"])

    assert set(prepared["kept_line"]) == {"0", "1", "2"}
    assert set(prepared["kept_source"]) == {"x"}
    assert set(prepared["source"]) == {"raw"}


# The direction of the label


def test_an_inverted_label_is_refused_with_the_evidence_and_the_remedy() -> None:
    message = _refusal(_inverted(LINES))

    assert "the label looks inverted: 8 of 8 clinical signs" in message
    for column, _ in direction.DIRECTIONS:
        assert f"  {column}: z = -" in message
    assert "set prepare.invert_label: true" in message


def test_an_inverted_label_is_turned_round_on_request() -> None:
    turned, _ = _prepared(_inverted(LINES), invert_label=True)

    right, _ = _prepared(LINES)
    pd.testing.assert_frame_equal(turned, right)


def test_turning_a_right_label_round_is_refused() -> None:
    message = _refusal(LINES, invert_label=True)

    assert "prepare.invert_label is true, but the label was the right way round" in message
    assert "set it to false" in message


def test_two_patients_are_no_evidence() -> None:
    prepared, _ = _prepared(_inverted([HEADING, *PATIENTS[:2]]))

    assert len(prepared) == 2


def _changed(column: str, other: Callable[[str], str], rows: list[str] = PATIENTS) -> list[str]:
    """The file with other cells in a column."""
    place = COLUMNS.index(column)
    cells = [row.split(",") for row in rows]
    changed = [[*row[:place], other(row[place]), *row[place + 1 :]] for row in cells]
    return [HEADING, *map(",".join, changed)]


def _swap(one: str, two: str) -> Callable[[str], str]:
    return lambda cell: {one: two, two: one}.get(cell, cell)


CONTRADICTIONS: dict[str, Callable[[str], str]] = {
    "chest_pain_type": _swap("asymptomatic", "typical_angina"),
    "exercise_angina": _swap("yes", "no"),
    "thallium": _swap("normal", "reversible_defect"),
    "major_vessels": lambda cell: cell and str(3 - int(cell)),
    "st_depression": lambda cell: f"{10 - float(cell):g}",
    "max_heart_rate": lambda cell: str(280 - int(cell)),
    "sex": _swap("female", "male"),
    "st_slope": _swap("upsloping", "flat"),
}


@pytest.mark.parametrize("column", CONTRADICTIONS)
def test_a_sign_that_contradicts_the_outcome_by_itself_is_refused_by_name(column: str) -> None:
    message = _refusal(_changed(column, CONTRADICTIONS[column]))

    assert message.startswith(f"{files.RAW}: 1 of 8 clinical signs contradict")
    assert f"\n  {column}: " in message


def test_a_column_that_is_emptied_contradicts_nothing() -> None:
    prepared, metrics = _prepared(_changed("chest_pain_type", lambda _: ""))

    assert len(prepared) == len(PATIENTS)
    assert len(metrics["sources"]["raw"]["clinical_signs_z"]) == 7


@pytest.mark.parametrize("size", [10, 30, 100, 250])
def test_samples_of_right_data_contradict_nothing(size: int) -> None:
    random = np.random.default_rng(size)
    known = pd.DataFrame([row.split(",") for row in PATIENTS], columns=list(COLUMNS))

    for _ in range(10):
        sample = known.iloc[random.choice(len(known), size, replace=False)]
        assert direction.contradictions(sample) == {}


@pytest.mark.parametrize("rows", [1, 8, 90, 3000])
def test_the_probability_by_chance_is_hypergeometric(rows: int) -> None:
    random = np.random.default_rng(rows)

    for share in (0.1, 0.5, 0.9):
        high, positive = random.random(rows) < share, random.random(rows) < 0.4
        expected = hypergeom.cdf((high & positive).sum(), rows, high.sum(), positive.sum())
        assert direction.probability_of_so_few(high, positive) == pytest.approx(expected)


def test_copies_of_rows_are_no_evidence_against_a_sign() -> None:
    lines = _changed("exercise_angina", CONTRADICTIONS["exercise_angina"], PATIENTS[:8])

    prepared, metrics = _prepared([HEADING, *lines[1:] * 40])

    assert len(prepared) == 8
    assert metrics["sources"]["raw"]["clinical_signs_z"]["exercise_angina"] < -3


def test_the_only_patient_with_a_sign_is_no_evidence() -> None:
    # Were the z value taken for normal, this would have a probability of 1e-22 by chance.
    table = pd.DataFrame([PATIENTS[1].split(",")] * 100, columns=list(COLUMNS))
    table["age"] = [str(20 + n % 90) for n in range(100)]
    table["exercise_angina"] = ["yes", *["no"] * 99]
    table[OUTCOME.name] = ["absence", *["presence"] * 99]

    assert direction.associations(table)[0]["exercise_angina"] < -9
    assert direction.contradictions(table) == {}


def test_signs_that_were_not_measured_are_no_evidence() -> None:
    table = pd.DataFrame(dict.fromkeys(NAMES, [""] * 40))
    table[OUTCOME.name] = ["absence", "presence"] * 20

    assert direction.check_direction(table, files.RAW, "") == {}


# The classes of the label


@pytest.mark.parametrize(("label", "outcome"), [("0", "absence"), ("2", "presence")])
def test_a_raw_file_with_one_outcome_is_refused_with_its_label(label: str, outcome: str) -> None:
    message = _refusal([f"{UCI_PATIENT[:-1]}{label}"] * 3)

    assert f"{files.RAW}: heart_disease is {outcome} in all 3 rows (label {label})" in message
    assert "Statlog" in message


STATLOG = [
    "age,sex,cp,trestbps,chol,fbs,restecg,thalach,exang,oldpeak,slope,ca,thal,target",
    "61,1,4,141,251,0,2,121,1,2.1,2,2,7,2",
    "58,0,4,133,277,0,2,131,1,1.7,2,1,7,2",
    "49,1,1,127,219,0,0,171,0,0.3,1,0,3,1",
    "44,0,3,119,203,0,0,168,0,0.2,1,0,3,1",
]


def test_statlogs_label_of_1_and_2_is_absence_and_presence() -> None:
    prepared, metrics = _prepared(STATLOG)

    assert prepared[OUTCOME.name].tolist() == ["presence", "presence", "absence", "absence"]
    assert prepared["chest_pain_type"].tolist()[1:3] == ["asymptomatic", "typical_angina"]
    assert metrics["sources"]["raw"]["coding"] == "uci, label 1 and 2"


def test_the_direction_of_statlogs_label_is_checked() -> None:
    turned = {"absence": "2", "presence": "1"}
    uci = {"yes": "1", "no": "0", "normal": "3", "fixed_defect": "6", "reversible_defect": "7"}
    rows = [row.split(",") for row in PATIENTS]
    pain = {"asymptomatic": "4", "non_anginal_pain": "3", "atypical_angina": "2"}
    cells = [
        [row[0], "1", pain.get(row[2], "1"), "?", "?", "?", "?", row[7], uci[row[8]], row[9],
         "?", row[11], uci.get(row[12], "?"), turned[row[13]]]
        for row in rows
    ]  # fmt: skip

    assert "the label looks inverted: 6 of 6" in _refusal(
        [STATLOG[0], *map(",".join, cells)], format="uci"
    )


# Equal measurements with both outcomes


def _opposite(rows: list[str]) -> list[str]:
    return _inverted([HEADING, *rows])[1:]


def test_a_file_and_its_inverted_copy_are_refused() -> None:
    message = _refusal([*LINES, *_opposite(PATIENTS)])

    assert message.startswith(f"{files.RAW}: 303 sets of rows with the same measurements")


def test_inverted_copies_of_a_tenth_of_the_patients_are_refused() -> None:
    message = _refusal([*LINES, *_opposite(PATIENTS[:30])])

    assert "30 sets of rows" in message
    assert "\n  lines 2, 305\n" in message


def test_more_than_a_few_conflicts_are_refused_also_if_chance_allows_them() -> None:
    message = _refusal([*LINES, *_opposite(PATIENTS[:8])])

    assert "8 sets of rows" in message


def test_an_inverted_copy_with_copies_is_refused() -> None:
    message = _refusal([*LINES, *_opposite(PATIENTS * 3)], invert_label=True)

    assert "303 sets" in message


@pytest.mark.parametrize("number", [1, 5])
def test_a_few_conflicts_are_counted_and_printed(
    number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    _, metrics = _prepared([*LINES, *PATIENTS, *_opposite(PATIENTS[:number])])

    assert metrics["conflicting_outcomes"] == number
    assert f"{number} sets of equal measurements" in capsys.readouterr().out


def test_patients_with_hardly_any_measurements_may_have_both_outcomes() -> None:
    random = np.random.default_rng(0)
    outcomes = random.choice(["absence", "presence"], size=400)
    ages = random.integers(40, 60, size=400)
    little = [
        f"{age},male,,,,,,,,,,,,{outcome}" for age, outcome in zip(ages, outcomes, strict=True)
    ]

    _, metrics = _prepared([HEADING, *little])

    assert metrics["conflicting_outcomes"] == 20


def test_conflicts_between_the_files_name_both() -> None:
    healthy = [row for row in PATIENTS if row.endswith("absence")]
    _lay(files.PRODUCTION, [HEADING, *_opposite(healthy[:14])])

    message = _refusal(LINES)

    assert message.startswith(f"{files.RAW} and {files.PRODUCTION}: 14 sets")


# The coding


def test_an_ambiguous_coding_is_refused_with_the_file_and_the_parameter() -> None:
    small = [
        STATLOG[0],
        "61,1,3,141,251,0,2,121,1,2.1,1,2,3,1",
        "49,1,0,127,219,0,0,171,0,0.3,0,0,1,0",
    ]

    message = _refusal(small)
    prepared, _ = _prepared(small, format="uci_from_0_thallium_from_1")

    assert message.startswith(f"{files.RAW}: cannot tell the coding: ")
    assert "set prepare.format to one of " in message
    assert prepared["thallium"].tolist() == ["reversible_defect", "normal"]
    assert prepared["chest_pain_type"].tolist() == ["asymptomatic", "typical_angina"]


def test_one_bad_cell_does_not_hide_the_coding() -> None:
    assert "line 3: thallium is 'x', expected one of 3 (normal), 6" in _refusal(
        [STATLOG[0], STATLOG[1], STATLOG[3].replace(",3,1", ",x,1")]
    )


def test_the_coding_of_each_file_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    _lay(files.PRODUCTION, [HEADING, f"{YOUNG},absence"])

    _prepared(STATLOG)

    output = capsys.readouterr().out
    assert f"{files.RAW}: commas; coding uci, label 1 and 2\n" in output
    assert f"{files.PRODUCTION}: commas; coding words\n" in output


# Labelled answers from production


def test_production_rows_join_with_the_hash_of_their_measurements_as_id() -> None:
    _lay(files.PRODUCTION, [PRODUCTION_HEADING, f"answer-1,{YOUNG},absence,clinic,2024-05-01"])

    prepared, metrics = _prepared(LINES)

    last = prepared.iloc[-1]
    assert len(prepared) == len(PATIENTS) + 1
    assert (last["source"], last["age"]) == ("production", "35")
    assert re.fullmatch("[0-9a-f]{24}", last["patient_id"])
    assert (last["major_vessels"], last["thallium"]) == ("", "")
    assert list(prepared.columns) == ["patient_id", "source", *COLUMNS]
    assert {source["coding"] for source in metrics["sources"].values()} == {"words"}


def test_production_rows_leave_the_raw_ones_as_they_were() -> None:
    alone, _ = _prepared(LINES)
    _lay(files.PRODUCTION, [PRODUCTION_HEADING, f"answer-1,{YOUNG},absence,,"])

    together, _ = _prepared(LINES)

    pd.testing.assert_frame_equal(together.head(len(PATIENTS)), alone)


def test_a_production_row_equal_to_a_raw_patient_is_a_duplicate() -> None:
    _lay(files.PRODUCTION, [PRODUCTION_HEADING, f"answer-1,{PATIENTS[0]},clinic,2024-05-01"])

    prepared, metrics = _prepared(LINES)

    assert set(prepared["source"]) == {"raw"}
    assert metrics["duplicates"] == 1


def test_a_known_patient_with_another_outcome_shares_the_id() -> None:
    other = PATIENTS[0].replace("absence", "presence")
    _lay(files.PRODUCTION, [PRODUCTION_HEADING, f"answer-1,{other},clinic,2024-05-01"])

    prepared, metrics = _prepared(LINES)

    assert prepared.iloc[-1]["patient_id"] == prepared.iloc[0]["patient_id"]
    assert prepared.iloc[-1]["source"] == "production"
    assert metrics["conflicting_outcomes"] == 1


def test_two_answers_about_the_same_measurements_share_an_id() -> None:
    _lay(
        files.PRODUCTION,
        [
            PRODUCTION_HEADING,
            f"answer-1,{YOUNG},absence,clinic,2024-05-01",
            f"answer-2,{YOUNG},presence,clinic,2024-06-01",
            f"answer-3,{YOUNG},absence,clinic,2024-07-01",
        ],
    )

    prepared, metrics = _prepared(LINES)

    production = prepared[prepared["source"] == "production"]
    assert len(set(production["patient_id"])) == 1
    assert production[OUTCOME.name].tolist() == ["absence", "presence"]
    assert metrics["duplicates"] == metrics["conflicting_outcomes"] == 1


def test_an_earlier_outcome_recorded_later_changes_no_patient_id() -> None:
    second = f"answer-2,{YOUNG},presence,clinic,2024-06-01"
    _lay(files.PRODUCTION, [PRODUCTION_HEADING, second])
    alone, _ = _prepared(LINES)
    _lay(
        files.PRODUCTION,
        [PRODUCTION_HEADING, f"answer-1,{YOUNG},presence,clinic,2024-07-01", second],
    )

    together, _ = _prepared(LINES)

    assert together.iloc[-1]["patient_id"] == alone.iloc[-1]["patient_id"]


def test_two_visits_of_a_patient_are_no_conflict() -> None:
    heading = f"patient_id,{HEADING}"
    numbered = [f"p{number},{row}" for number, row in enumerate(PATIENTS)]
    numbered[1] = numbered[1].replace("p1,", "p0,")

    prepared, metrics = _prepared([heading, *numbered])

    assert prepared["patient_id"].iloc[0] == prepared["patient_id"].iloc[1] == "p0"
    assert metrics["conflicting_outcomes"] == 0


@pytest.mark.parametrize("name", ["age", "sex"])
def test_a_patient_without_age_or_sex_is_refused(name: str) -> None:
    message = _refusal(_with(5, name, ""))

    assert f"line 5: {name} is missing, expected" in message


def test_production_rows_without_an_id_get_one() -> None:
    _lay(files.PRODUCTION, [HEADING, f"{YOUNG},absence"])

    prepared, _ = _prepared(LINES)

    assert prepared["patient_id"].is_unique
    assert prepared["patient_id"].str.fullmatch("[0-9a-f]{24}").all()


def test_production_rows_are_never_turned_round() -> None:
    _lay(files.PRODUCTION, [PRODUCTION_HEADING, f"answer-1,{YOUNG},absence,,"])

    prepared, _ = _prepared(_inverted(LINES), invert_label=True)

    assert prepared.iloc[-1][OUTCOME.name] == "absence"


def test_production_rows_are_in_the_projects_coding_whatever_the_raw_file_is_in() -> None:
    _lay(files.PRODUCTION, [HEADING, f"{YOUNG},absence"])

    other = UCI_PATIENT[:-1] + "2"

    prepared, metrics = _prepared([UCI_PATIENT, other], format="uci")

    assert prepared["sex"].tolist() == ["male", "male", "female"]
    assert metrics["sources"]["raw"]["coding"] == "uci"
    assert metrics["sources"]["production"]["coding"] == "words"


def test_a_bad_production_row_is_refused_with_its_file() -> None:
    _lay(files.PRODUCTION, [PRODUCTION_HEADING, f"answer-1,{YOUNG},,,"])

    message = _refusal(LINES)

    assert message.startswith(f"{files.PRODUCTION}: 1 problem\n  line 2: heart_disease is missing")


def test_an_id_that_cannot_be_written_is_refused() -> None:
    _lay(files.PRODUCTION, [PRODUCTION_HEADING, f'"a,b",{YOUNG},absence,,'])

    message = _refusal(LINES)

    assert str(files.PRODUCTION) in message
    assert "patient_id" in message
    assert "line 2" in message


def test_a_pointer_without_its_content_says_what_to_do() -> None:
    _lay(Path(f"{files.PRODUCTION}.dvc"), b"outs: []\n")

    message = _refusal(LINES)

    assert "run `dvc pull`" in message
    assert str(files.PRODUCTION) in message


def test_a_pointer_with_its_content_is_no_obstacle() -> None:
    _lay(Path(f"{files.PRODUCTION}.dvc"), b"outs: []\n")
    _lay(files.PRODUCTION, [HEADING, f"{YOUNG},absence"])

    prepared, _ = _prepared(LINES)

    assert len(prepared) == len(PATIENTS) + 1


# The command


def _command(*before: str, timeout: int = 30) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *(before or ("-m", "stages.prepare"))],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def test_the_command_fails_with_the_message_alone() -> None:
    _lay(files.RAW, _with(6, "resting_bp", "999"))
    _lay_params()

    done = _command()

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(
        f"error: {files.RAW}: 1 problem\n"
        "  line 6: resting_bp is 999, expected a whole number from 60 to 260 mm Hg\n"
    )
    assert sorted(p.name for p in Path().rglob("*") if p.is_file()) == ["heart.csv", "params.yaml"]


def test_the_command_fails_with_the_message_alone_without_a_file() -> None:
    _lay_params()

    done = _command()

    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert str(files.RAW) in done.stderr
    assert len(done.stderr.splitlines()) == 1


# The largest resident set of a command; asked for in a process of its own, because a child starts
# with its parent's.
PEAK = """
import resource, subprocess, sys, time
start = time.monotonic()
subprocess.run([sys.executable, "-m", "stages.prepare"], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024, time.monotonic() - start)
"""


@pytest.mark.heavy
def test_a_million_patients_take_less_than_a_gibibyte(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    number = 1_000_000
    known = pd.DataFrame([row.split(",") for row in PATIENTS], columns=list(COLUMNS))
    table = known.iloc[rng.integers(len(known), size=number)].reset_index(drop=True)
    for m in MEASUREMENTS:
        if m.unit and not m.second_exam:
            steps = (table[m.name].astype(float) / m.step).round().astype(int)
            jittered = (steps + rng.integers(-5, 6, size=number)) * m.step
            table[m.name] = jittered.clip(m.low, m.high).map("{:g}".format)
    files.RAW.parent.mkdir(parents=True)
    table.to_csv(files.RAW, index=False)
    _lay_params()

    done = _command("-c", PEAK, timeout=60)

    assert done.returncode == 0, done.stderr
    peak, seconds = map(float, done.stdout.split())
    with capsys.disabled():
        print(f"\n{number} patients: {peak / 2**20:.0f} MiB, {seconds:.1f} s")
    assert json.loads(Path("metrics/prepare.json").read_text())["rows_in"] == number
    assert peak < 2**30


def test_inverted_outcomes_from_production_are_refused() -> None:
    _lay(files.PRODUCTION, _inverted([HEADING, *PATIENTS]))

    message = _refusal(LINES)

    assert message.startswith(f"{files.PRODUCTION}: the label looks inverted: 8 of 8")
    assert "correct the outcomes in this file" in message


def test_shuffled_labels_are_seldom_taken_for_inverted() -> None:
    _lay(files.RAW, LINES)
    columns, _ = translation.translate(read(files.RAW), codings.named("words"))
    source = pd.DataFrame({n: np.array(c.texts)[c.positions] for n, c in columns.items()})
    random = np.random.default_rng(0)

    together = [
        direction.associations(
            source.assign(heart_disease=random.permutation(source[OUTCOME.name]))
        )[1]
        for _ in range(200)
    ]

    assert np.std(together) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("options", [{}, {"keep": ["Source"]}, {"ignore": ["Source"]}])
def test_rows_that_are_marked_as_synthetic_are_refused(options: dict[str, Any]) -> None:
    marked = [f"{HEADING},Source", *(f"{line},hospital" for line in PATIENTS[:40])]
    marked += [f"{line},synthetic" for line in PATIENTS[40:]]

    with pytest.raises(UserError, match=rf"'Source' of {len(PATIENTS) - 40} rows"):
        _prepared(marked, **options)

    assert not files.PREPARED.exists()


def test_another_source_is_no_synthetic_one() -> None:
    prepared, _ = _prepared([f"{HEADING},source", *(f"{line},Cleveland" for line in PATIENTS)])

    assert set(prepared["source"]) == {files.RAW_SOURCE}
