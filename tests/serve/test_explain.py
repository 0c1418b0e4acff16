"""What is said about a patient, against the model itself and against brute force."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from heart.ml.transfer import BETWEEN_HOSPITALS
from heart.schema import BY_NAME, MEASUREMENTS, NAMES, encode
from serve.explain import assess, interval
from serve.ui.answer import answer_html, sentence
from tests.serve.ui.page_fixture import ID, PATIENT, random_patient, tiny_model


def risk_of(**patient: Any) -> float:
    return float(tiny_model().predict(encode({n: [patient.get(n)] for n in NAMES}))[0])


def test_the_risk_and_the_average_are_the_models() -> None:
    result = assess(tiny_model(), PATIENT)

    assert result.risk == pytest.approx(risk_of(**PATIENT))
    assert result.average == pytest.approx(risk_of(age=57, sex="male"))
    assert result.start == pytest.approx(risk_of())
    assert (result.measurement_count, result.threshold) == (7, 0.5)


def test_the_interval_is_that_of_the_logit() -> None:
    result = assess(tiny_model(), PATIENT)
    error = tiny_model().standard_error(encode({n: [PATIENT.get(n)] for n in NAMES}))

    assert result.low is not None
    assert result.high is not None
    assert error is not None
    assert 0 < result.low < result.risk < result.high < 1
    width = math.log(result.high / (1 - result.high)) - math.log(result.low / (1 - result.low))
    assert width == pytest.approx(2 * 1.959964 * float(error[0]), rel=1e-5)


def test_the_interval_at_another_hospital_adds_the_variance_between_hospitals() -> None:
    result = assess(tiny_model(), PATIENT)
    error = tiny_model().standard_error(encode({n: [PATIENT.get(n)] for n in NAMES}))

    assert error is not None
    assert result.hospital_low is not None
    assert result.hospital_high is not None
    odds = [p / (1 - p) for p in (result.hospital_low, result.hospital_high)]
    expected = 2 * 1.959964 * math.hypot(float(error[0]), BETWEEN_HOSPITALS)
    assert math.log(odds[1] / odds[0]) == pytest.approx(expected, rel=1e-5)
    assert interval(0.3, np.array([0.0], dtype=np.float32), 0.5) == pytest.approx(
        (0.1386, 0.5332), abs=1e-3
    )


@pytest.mark.parametrize("error", [None, np.array([np.nan], dtype=np.float32)])
def test_a_model_without_standard_errors_states_no_interval(error: Any) -> None:
    assert interval(0.3, error) == (None, None)
    assert interval(0.3, error, BETWEEN_HOSPITALS) == (None, None)


def test_a_certain_model_still_has_an_interval_within_0_and_1() -> None:
    low, high = interval(1.0, np.array([2.0], dtype=np.float32))

    assert low is not None
    assert high is not None
    assert 0 < low < high <= 1


def test_contributions_add_up_to_the_difference_in_risk() -> None:
    random = np.random.default_rng(0)
    for _ in range(10):
        patient = random_patient(random)
        result = assess(tiny_model(), patient)

        assert set(result.contributions) == set(patient)
        assert sum(result.contributions.values()) == pytest.approx(
            result.risk - result.start, abs=1e-5
        )


def test_missing_measurement_has_the_risk_range_of_its_values() -> None:
    result = assess(tiny_model(), PATIENT)
    numbers = tiny_model().training["numbers"]

    assert set(result.risk_ranges) == set(NAMES) - set(PATIENT)
    for name, (low, high) in result.risk_ranges.items():
        codes = range(len(BY_NAME[name].choices)) or numbers[name]["quantiles"]
        rows = np.repeat(encode({n: [PATIENT.get(n)] for n in NAMES}), len(codes), axis=0)
        rows[:, NAMES.index(name)] = codes
        risks = tiny_model().predict(rows)
        assert (low, high) == pytest.approx((risks.min(), risks.max()))
    widths = [high - low for low, high in result.risk_ranges.values()]
    assert widths == sorted(widths, reverse=True)


def test_without_quantiles_missing_numbers_have_no_risk_range() -> None:
    result = assess(replace(tiny_model(), training={}), PATIENT)

    assert set(result.risk_ranges) == {m.name for m in MEASUREMENTS if m.choices} - set(PATIENT)
    assert result.warnings == ()


def test_value_outside_the_training_range_is_warned_of() -> None:
    result = assess(tiny_model(), PATIENT | {"cholesterol": 690})

    assert [(w.name, w.value, w.high) for w in result.warnings] == [("cholesterol", 690, 564)]
    assert "564 mg/dl" in answer_html(result, ID, "en", tiny_model())


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, ("higher than", "57-year-old man", "lebih tinggi daripada", "laki-laki berusia 57")),
        (
            {"sex": "female", "chest_pain_type": "non_anginal_pain", "exercise_angina": "no"},
            ("lower than", "57-year-old woman", "lebih rendah daripada", "perempuan berusia 57"),
        ),
    ],
)
def test_the_sentence_says_it_in_both_languages(
    change: dict[str, Any], expected: tuple[str, ...]
) -> None:
    patient = PATIENT | {"resting_bp": None, "cholesterol": None, "st_depression": None} | change
    result = assess(tiny_model(), patient)

    assert all(words in sentence(result, "en") for words in expected[:2])
    assert all(words in sentence(result, "id") for words in expected[2:])


def test_with_age_and_sex_alone_the_sentence_says_average() -> None:
    result = assess(tiny_model(), {"age": 57, "sex": "male"})

    assert "about the average" in sentence(result, "en")
