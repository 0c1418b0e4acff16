"""Forms and tables of patients."""

import csv
import io
import re
from base64 import b64decode
from html import unescape
from typing import Any

import pytest

from heart.errors import UserError
from heart.locale.language import category_labels, translate
from heart.schema import NAMES, OUTCOME
from serve.settings import MAX_BATCH
from serve.ui.examples import EXAMPLES
from serve.ui.scores import scored_html, table_help_html, table_problems_html
from serve.ui.table import INPUTS, read_form, read_table, scored_csv
from tests.heart.spreadsheet_reader import FORMULAS, NO_FORMULAS, formulas
from tests.serve.ui.page_fixture import ID, a_table, an_answer


def form(**values: Any) -> list[Any]:
    return [values.get(name) for name in INPUTS]


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
        ("age,sex\n57,male\n57\n", [(3, "")]),
        ("age,sex\n17,male\n57,x\n,male\n", [(2, "age"), (3, "sex"), (4, "age")]),
    ],
)
def test_table_errors_have_line_numbers(text: str, expected: list[Any]) -> None:
    _, problems = a_table(text)

    assert [problem[:2] for problem in problems] == expected


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"age\n57\n",
        b"age,sex,name\n57,male,x\n",
        b"age,sex,age\n57,male,57\n",
        b"age,sex\n",
        b"\x00\x01\x02",
        b"PK\x03\x04",
        b"age,sex\n" + b"57,male\n" * (MAX_BATCH + 1),
    ],
    ids=["empty", "no sex", "unknown", "twice", "no rows", "binary", "Excel", "too many"],
)
def test_a_file_that_is_no_table_of_patients_has_a_reason(content: bytes) -> None:
    with pytest.raises(UserError):
        read_table(content, "auto", "en")


def test_a_table_in_codes_is_read_as_in_the_pipeline() -> None:
    table, problems = a_table(
        "id;age;sex;cp;thal\n1;57;1;4;7\n2;61;0;3;3\n3;50;1;2;6\n", coding="uci"
    )

    assert problems == []
    assert [p["thallium"] for p in table.patients] == [
        "reversible_defect",
        "normal",
        "fixed_defect",
    ]
    assert table.read_as == "semicolons; coding uci"
    assert table.ignored == ["id"]


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


def test_the_scored_table_says_that_a_prediction_is_a_comparison_with_the_threshold() -> None:
    table, _ = a_table("age,sex\n57,male\n61,female\n")
    answers = [an_answer(0.25), {**an_answer(0.75), "prediction": "presence"}]
    (heading, *_) = csv.reader(io.StringIO(scored_csv(table, answers)))
    html = scored_html(table, answers, "en")

    assert [name for name in heading if "prediction" in name] == [
        "prediction (threshold 50 %)",
        "prediction_id",
    ]
    assert re.findall(r">((?:At or above|Below))<", html) == ["Below", "At or above"]
    assert translate("table.prediction", "en", threshold="50%") in html
    for category in category_labels(OUTCOME, "en").values():
        assert f">{category}<" not in html


def test_the_template_is_a_table_that_can_be_scored() -> None:
    (content,) = re.findall(r"base64,([^\"]+)", table_help_html("en"))
    table, problems = read_table(b64decode(content), "auto", "en")

    assert problems == []
    assert table.patients == [dict.fromkeys(NAMES) | patient for patient in EXAMPLES.values()]
    assert list(table.echoed) == ["patient_id"]
    assert table.ignored == []


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
    _, bad = read_table(b"age,sex,cp\n57,male,=1+1\n57,male,@SUM(A1)\n", "auto", "en")
    shown = re.findall(r"<td[^>]*>([^<]*)</td>", table_problems_html(bad, "en"))
    assert formulas("\n".join(map(unescape, shown))) == set()
