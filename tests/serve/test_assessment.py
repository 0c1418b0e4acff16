"""What the page says about patients, against the model itself and against brute force."""

import csv
import io
import math
import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from schema import MEASUREMENTS, NAMES, encode
from serve.assessment import (
    BY_NAME,
    Table,
    about_html,
    answer_html,
    assess,
    calibration,
    gauge,
    icons,
    interval,
    read_form,
    read_table,
    scored_csv,
    scored_html,
    table_problems_html,
)
from serve.patients import MAX_BATCH
from serve.texts import LANGUAGES, Language
from tests.serve.page_fixture import PATIENT, tiny_model

ID = "0123456789abcdef0123456789abcdef"


def risk_of(**patient: Any) -> float:
    return float(tiny_model().predict(encode({n: [patient.get(n)] for n in NAMES}))[0])


def random_patient(random: np.random.Generator) -> dict[str, Any]:
    """A valid patient; of what may be missing, some is."""
    found: dict[str, Any] = {}
    for m in MEASUREMENTS:
        if m.required or random.random() < 0.6:
            steps = int(random.integers(round((m.high - m.low) / m.step) + 1))
            pick = int(random.integers(max(len(m.choices), 1)))
            found[m.name] = m.choices[pick].name if m.choices else m.low + steps * m.step
    return found


def table(text: str, language: Language = "en") -> tuple[Table, list[tuple[int, str, str]]]:
    found, problems = read_table(text.encode(), language)
    return found, [(problem.line, problem.name, problem.text) for problem in problems]


# --- one patient


def test_the_risk_and_the_average_are_the_models() -> None:
    found = assess(tiny_model(), PATIENT)

    assert found.risk == pytest.approx(risk_of(**PATIENT))
    assert found.average == pytest.approx(risk_of(age=57, sex="male"))
    assert found.start == pytest.approx(risk_of())
    assert (found.given, found.version, found.threshold) == (7, "7", 0.5)


def test_the_interval_is_that_of_the_logit() -> None:
    found = assess(tiny_model(), PATIENT)
    error = tiny_model().standard_error(encode({n: [PATIENT.get(n)] for n in NAMES}))

    assert found.low is not None
    assert found.high is not None
    assert error is not None
    assert 0 < found.low < found.risk < found.high < 1
    width = math.log(found.high / (1 - found.high)) - math.log(found.low / (1 - found.low))
    assert width == pytest.approx(2 * 1.959964 * float(error[0]), rel=1e-5)


@pytest.mark.parametrize("error", [None, np.array([np.nan], dtype=np.float32)])
def test_a_model_without_standard_errors_states_no_interval(error: Any) -> None:
    assert interval(0.3, error) == (None, None)


def test_a_certain_model_still_has_an_interval_within_0_and_1() -> None:
    low, high = interval(1.0, np.array([2.0], dtype=np.float32))

    assert low is not None
    assert high is not None
    assert 0 < low < high <= 1


def test_contributions_add_up_to_what_moved_the_risk() -> None:
    random = np.random.default_rng(0)
    for _ in range(10):
        patient = random_patient(random)
        found = assess(tiny_model(), patient)

        assert set(found.contributions) == set(patient)
        assert sum(found.contributions.values()) == pytest.approx(
            found.risk - found.start, abs=1e-5
        )


def test_what_is_missing_could_move_the_risk_as_far_as_its_values_do() -> None:
    found = assess(tiny_model(), PATIENT)
    numbers = tiny_model().training["numbers"]

    assert set(found.could_be) == set(NAMES) - set(PATIENT)
    for name, (low, high) in found.could_be.items():
        codes = range(len(BY_NAME[name].choices)) or numbers[name]["quantiles"]
        rows = np.repeat(encode({n: [PATIENT.get(n)] for n in NAMES}), len(codes), axis=0)
        rows[:, NAMES.index(name)] = codes
        risks = tiny_model().predict(rows)
        assert (low, high) == pytest.approx((risks.min(), risks.max()))
    widths = [high - low for low, high in found.could_be.values()]
    assert widths == sorted(widths, reverse=True)


def test_without_known_quantiles_nothing_is_said_of_missing_numbers() -> None:
    found = assess(replace(tiny_model(), training={}), PATIENT)

    assert set(found.could_be) == {m.name for m in MEASUREMENTS if m.choices} - set(PATIENT)
    assert found.warnings == ()


def test_a_value_unlike_the_training_patients_is_warned_of() -> None:
    found = assess(tiny_model(), PATIENT | {"cholesterol": 690})

    assert [(w.name, w.value, w.high) for w in found.warnings] == [("cholesterol", 690, 564)]
    assert "564 mg/dl" in answer_html(found, ID, "en")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, ("higher than", "man of 57", "lebih tinggi daripada", "laki-laki berusia 57")),
        (
            {"sex": "female", "chest_pain_type": "non_anginal_pain", "exercise_angina": "no"},
            ("lower than", "woman of 57", "lebih rendah daripada", "perempuan berusia 57"),
        ),
    ],
)
def test_the_sentence_says_it_in_both_languages(
    change: dict[str, Any], expected: tuple[str, ...]
) -> None:
    patient = PATIENT | {"resting_bp": None, "cholesterol": None, "st_depression": None} | change
    sentences = assess(tiny_model(), patient).sentence

    assert all(words in sentences["en"] for words in expected[:2])
    assert all(words in sentences["id"] for words in expected[2:])


def test_with_age_and_sex_alone_the_sentence_says_average() -> None:
    assert "about the average" in assess(tiny_model(), {"age": 57, "sex": "male"}).sentence["en"]


# --- a form and a table


def form(**values: Any) -> list[Any]:
    return [values.get(name) for name in NAMES]


def test_a_form_with_age_and_sex_is_a_patient() -> None:
    patient, problems = read_form(form(age=57, sex="male", cholesterol=""), "en")

    assert problems == []
    assert patient == dict.fromkeys(NAMES) | {"age": 57, "sex": "male"}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"sex": "male"}, "Age is needed."),
        ({"age": 57}, "Sex is needed."),
        ({"age": 12, "sex": "male"}, "Age is 12; expected a whole number from 18 to 110 years."),
        ({"age": 57.5, "sex": "male"}, "Age is 57.5; expected a whole number"),
        ({"age": float("nan"), "sex": "male"}, "Age is needed."),
        ({"age": float("inf"), "sex": "male"}, "Age is inf;"),
        ({"age": [1], "sex": "male"}, "Age is ?;"),
        ({"age": True, "sex": "male"}, "Age is ?;"),
        ({"age": 57, "sex": "x"}, "Sex is x; expected one of Female, Male."),
        ({"age": 57, "sex": 1}, "Sex is 1; expected one of Female, Male."),
        ({"age": 57, "sex": "male", "st_depression": 10**400}, "ST depression"),
    ],
)
def test_a_form_says_what_is_wrong(values: dict[str, Any], expected: str) -> None:
    _, problems = read_form(form(**values), "en")

    assert len(problems) == 1
    assert problems[0].text.startswith(expected)


def test_a_form_says_it_in_indonesian_too() -> None:
    _, problems = read_form(form(age=57.5, sex="male"), "id")

    assert problems[0].text == (
        "Usia berisi 57,5; seharusnya bilangan bulat dari 18 sampai 110 tahun."
    )


def test_a_table_gives_patients_and_what_is_handed_back() -> None:
    found, problems = table(
        "\ufeffpatient_id,sex,age,st_depression\n\na,male,57,1.5\nb,female,61,\n"
    )

    assert problems == []
    assert [p["age"] for p in found.patients] == [57, 61]
    assert [p["st_depression"] for p in found.patients] == [1.5, None]
    assert found.echoed == {"patient_id": ["a", "b"]}


def test_a_table_of_a_spreadsheet_with_decimal_commas() -> None:
    found, problems = table("age;sex;st_depression\r\n57;male;1,5\r\n")

    assert problems == []
    assert found.patients[0]["st_depression"] == 1.5


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
def test_a_table_says_what_is_wrong_on_which_line(text: str, expected: list[Any]) -> None:
    _, problems = table(text)

    assert [problem[:2] for problem in problems] == expected


def test_a_table_that_is_no_text() -> None:
    assert [p.line for p in read_table(b"\xff\xfe\x00", "en")[1]] == [1]


def test_a_table_has_at_most_so_many_patients() -> None:
    found, problems = table("age,sex\n" + "57,male\n" * (MAX_BATCH + 1))

    assert len(found.patients) == MAX_BATCH
    assert problems == [(MAX_BATCH + 2, "", "More than 10,000 patients.")]


def answer(probability: float = 0.25) -> dict[str, Any]:
    return {
        "probability": probability,
        "prediction": "absence",
        "model_version": "7",
        "prediction_id": ID,
    }


def test_the_scored_table_can_be_read_again() -> None:
    found, _ = table("patient_id,age,sex,st_depression\n=1+1,57,male,1.5\n")
    (row,) = csv.DictReader(io.StringIO(scored_csv(found, [answer()])))

    assert (row["age"], row["sex"], row["st_depression"], row["thallium"]) == (
        "57",
        "male",
        "1.5",
        "",
    )
    assert (row["probability"], row["prediction_id"]) == ("0.250000", ID)
    assert row["patient_id"] == "'=1+1"  # no formula for whoever opens it


# --- what is drawn


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_answer_is_well_formed(language: Language) -> None:
    random = np.random.default_rng(1)
    for _ in range(10):
        found = assess(tiny_model(), random_patient(random))
        ET.fromstring(answer_html(found, "<b>&", language).replace("<br>", "<br/>"))  # noqa: S314


def test_the_answer_holds_the_number_itself() -> None:
    found = assess(tiny_model(), PATIENT)
    html = answer_html(found, ID, "en")

    assert f'value="{found.risk:.6f}"' in html
    assert f"{found.frequency} of 100 people like this" in html
    assert "7 of 13 measurements given" in html
    assert ID in html


def test_as_many_circles_are_filled_as_people_are_sick() -> None:
    drawn = icons(28, "en")

    assert (drawn.count('class="sick"'), drawn.count('class="well"')) == (28, 72)


def test_drawings_are_described() -> None:
    found = assess(tiny_model(), PATIENT)
    for drawn in (gauge(found, "en"), icons(3, "en"), calibration(tiny_model().calibration, "en")):
        assert 'role="img"><title>' in drawn


def test_what_people_give_is_escaped() -> None:
    found, _ = table("patient_id,age,sex\n<script>alert(1)</script>,57,male\n")
    _, problems = read_table(b"age,sex,<script>\n57,male,1\n", "en")

    for html in (
        scored_html(found, [answer()], "en"),
        table_problems_html(problems, "en"),
        about_html(tiny_model(), "en"),
    ):
        assert "<script>" not in html
        assert "source_<b>" not in html


def test_about_the_model_shows_figures_with_intervals() -> None:
    html = about_html(tiny_model(), "id")

    assert "0,93 (0,86–0,98)" in html  # noqa: RUF001 - as written there
    assert "73 pasien uji" in html


def test_about_a_model_without_figures_says_so() -> None:
    html = about_html(replace(tiny_model(), figures={}, calibration=[]), "en")

    assert "No figures came with this version." in html
