"""Forms and tables of patients."""

import csv
import io
import re
from html import unescape
from typing import Any

import pytest

from heart.locale.language import translate
from heart.schema import NAMES
from serve.settings import MAX_BATCH
from serve.ui.scores import scored_html, table_problems_html
from serve.ui.table import read_form, read_table, scored_csv
from tests.heart.spreadsheet_reader import FORMULAS, NO_FORMULAS, formulas
from tests.serve.ui.page_fixture import ID, a_table, an_answer


def form(**values: Any) -> list[Any]:
    return [values.get(name) for name in NAMES]


def test_a_form_with_age_and_sex_is_a_patient() -> None:
    patient, problems = read_form(form(age=57, sex="male", cholesterol=""), "en")

    assert problems == []
    assert patient == dict.fromkeys(NAMES) | {"age": 57, "sex": "male"}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"sex": "male"}, "Age is required."),
        ({"age": 57}, "Sex is required."),
        ({"age": 12, "sex": "male"}, "Age is 12; expected a whole number from 18 to 110 years."),
        ({"age": 57.5, "sex": "male"}, "Age is 57.5; expected a whole number"),
        ({"age": float("nan"), "sex": "male"}, "Age is required."),
        ({"age": float("inf"), "sex": "male"}, "Age is inf;"),
        ({"age": [1], "sex": "male"}, "Age is ?;"),
        ({"age": True, "sex": "male"}, "Age is ?;"),
        ({"age": 57, "sex": "x"}, "Sex is x; expected one of Female, Male."),
        ({"age": 57, "sex": 1}, "Sex is 1; expected one of Female, Male."),
        ({"age": 57, "sex": "male", "st_depression": 10**400}, "ST depression"),
    ],
)
def test_form_errors_are_explained(values: dict[str, Any], expected: str) -> None:
    _, problems = read_form(form(**values), "en")

    assert len(problems) == 1
    assert problems[0].text.startswith(expected)


def test_form_errors_are_explained_in_indonesian() -> None:
    _, problems = read_form(form(age=57.5, sex="male"), "id")

    assert problems[0].text == (
        "Usia berisi 57,5; seharusnya bilangan bulat dari 18 sampai 110 tahun."
    )


def test_a_table_gives_patients_and_what_is_handed_back() -> None:
    table, problems = a_table(
        "\ufeffpatient_id,sex,age,st_depression\n\na,male,57,1.5\nb,female,61,\n"
    )

    assert problems == []
    assert [p["age"] for p in table.patients] == [57, 61]
    assert [p["st_depression"] for p in table.patients] == [1.5, None]
    assert table.echoed == {"patient_id": ["a", "b"]}


def test_a_table_of_a_spreadsheet_with_decimal_commas() -> None:
    table, problems = a_table("age;sex;st_depression\r\n57;male;1,5\r\n")

    assert problems == []
    assert table.patients[0]["st_depression"] == 1.5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [(1, "age"), (1, "sex")]),
        ("age\n57\n", [(1, "sex")]),
        ("age,sex,name\n57,male,x\n", [(1, "name")]),
        ("age,sex,age\n57,male,57\n", [(1, "age")]),
        ("age,sex\n", [(1, "")]),
        ("age,sex\n57,male\n57\n", [(3, "")]),
        ("age,sex\n17,male\n57,m\n,male\n", [(2, "age"), (3, "sex"), (4, "age")]),
        ('age,sex\n"57\n', [(2, "")]),
    ],
)
def test_table_errors_have_line_numbers(text: str, expected: list[Any]) -> None:
    _, problems = a_table(text)

    assert [problem[:2] for problem in problems] == expected


def test_a_table_that_is_no_text() -> None:
    assert [p.line for p in read_table(b"\xff\xfe\x00", "en")[1]] == [1]


def test_invalid_csv_has_a_message_of_its_own() -> None:
    _, problems = a_table(f'age,sex\n57,"{"x" * 200_000}"\n')

    assert problems == [(2, "", translate("table.not_csv", "en"))]


def test_a_table_has_at_most_so_many_patients() -> None:
    table, problems = a_table("age,sex\n" + "57,male\n" * (MAX_BATCH + 1))

    assert len(table.patients) == MAX_BATCH
    assert problems == [(MAX_BATCH + 2, "", "More than 10,000 patients.")]


def test_the_scored_table_can_be_read_again() -> None:
    table, _ = a_table("patient_id,age,sex,st_depression\n=1+1,57,male,1.5\n")
    (row,) = csv.DictReader(io.StringIO(scored_csv(table, [an_answer()])))

    assert (row["age"], row["sex"], row["st_depression"], row["thallium"]) == (
        "57",
        "male",
        "1.5",
        "",
    )
    assert (row["probability"], row["prediction_id"]) == ("0.250000", ID)
    assert row["patient_id"] == "'=1+1"  # no formula for whoever opens it


def test_texts_of_a_table_are_no_formulas_when_downloaded_or_copied() -> None:
    file = io.StringIO()
    out = csv.writer(file)
    out.writerow(["patient_id", "age", "sex"])
    out.writerows([text, 57, "male"] for text in (*FORMULAS, *NO_FORMULAS))
    table, problems = a_table(file.getvalue())
    answers = [an_answer()] * len(table.patients)

    assert problems == []
    assert formulas(scored_csv(table, answers)) == set()
    shown = re.findall(r"<td[^>]*>([^<]*)</td>", scored_html(table, answers, "en"))
    assert formulas("\n".join(map(unescape, shown))) == set()
    _, bad = read_table(b"=1+1,age,sex,;@SUM(A1)\n", "en")
    shown = re.findall(r"<td[^>]*>([^<]*)</td>", table_problems_html(bad, "en"))
    assert formulas("\n".join(map(unescape, shown))) == set()
