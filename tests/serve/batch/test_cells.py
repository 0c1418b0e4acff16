from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from heart.dataset import codings
from heart.schema import MEASUREMENTS, NAMES, SchemaError
from serve.batch.cells import Encoder
from tests.serve.batch.conftest import ROWS, table

AGE, SEX, BP = (NAMES.index(name) for name in ("age", "sex", "resting_bp"))


def encoded(coding: str = "words", **columns: Any) -> tuple[Any, list[tuple[list[int], str]]]:
    result, problems = Encoder(codings.named(coding))(pa.record_batch(columns))
    return result, [(rows.tolist(), reason) for rows, reason in problems]


def test_a_table_of_valid_patients_is_encoded_as_the_schema_does_it() -> None:
    for kind in (None, pa.float32(), pa.string()):
        columns = {
            m.name: table()[m.name].combine_chunks().cast(kind)
            if kind and not m.choices
            else table()[m.name].combine_chunks()
            for m in MEASUREMENTS
        }

        result, problems = encoded(**columns)

        assert np.array_equal(result.T, ROWS, equal_nan=True)
        assert problems == []


def test_texts_numbers_and_dictionaries_mean_the_same() -> None:
    columns = {
        "float": [45.0, 46.0],
        "whole": pa.array([45, 46], pa.uint8()),
        "text": ["45", " 46 "],
        "dictionary": pa.array(["45", "46.0"]).dictionary_encode(),
        "view": pa.array(["45", "46"], pa.string_view()),
    }
    for column in columns.values():
        assert encoded(age=column)[0][AGE].tolist() == [45, 46]
    for sex in ([0, 1], [0.0, 1.0], [False, True], ["0", "1.0"]):
        assert encoded("uci", sex=sex)[0][SEX].tolist() == [0, 1]


TOKENS = [
    "",
    "?",
    "NA",
    "-9",
    "0",
    "1",
    "2",
    "3",
    "4",
    "6",
    "7",
    "2.0",
    "57",
    "57.5",
    "-0",
    "999",
    "inf",
    "x",
]


@pytest.mark.parametrize("coding", codings.NAMES)
def test_every_cell_is_translated_and_refused_as_in_prepare(coding: str) -> None:
    for position, measurement in enumerate(MEASUREMENTS):
        if measurement.required:
            continue
        result, problems = encoded(coding, **{measurement.name: TOKENS})

        message = {row: reason for rows, reason in problems for row in rows}
        for row, token in enumerate(TOKENS):
            try:
                text = codings.named(coding).translate(measurement.name, token)
                expected, reason = measurement.parse(text), None
            except SchemaError as error:
                expected, reason = np.nan, str(error)
            assert message.get(row) == reason
            assert np.array_equal(result[position, row], np.float32(expected), equal_nan=True)


@pytest.mark.parametrize("coding", codings.NAMES)
def test_numbers_are_translated_and_refused_as_their_text_is(coding: str) -> None:
    numbers = [0, 1, 2, 3, 4, 6, 7, 57, 57.5, -1, 1e9, 0.5]
    for position, measurement in enumerate(MEASUREMENTS):
        texts = [f"{number:.17g}" for number in numbers]
        result, problems = encoded(coding, **{measurement.name: np.array(numbers)})
        expected, same = encoded(coding, **{measurement.name: texts})

        assert [rows for rows, _ in problems] == [rows for rows, _ in same]
        assert np.array_equal(result[position], expected[position], equal_nan=True)


def test_a_missing_age_is_a_problem_and_a_missing_measurement_is_not() -> None:
    for column in ([50, None], [50.0, float("nan")], ["50", ""], ["50", "?"], ["50", None]):
        result, problems = encoded(age=pa.array(column), resting_bp=column)

        expected = "age is missing, expected a whole number from 18 to 110 years"
        assert [problem for problem in problems if "age" in problem[1]] == [([1], expected)]
        assert np.isnan(result[[AGE, BP], 1]).all()


def test_a_blood_pressure_of_zero_was_not_measured() -> None:
    for column in ([0, 120], [0.0, 120.0], ["0", "120"]):
        result, problems = encoded(resting_bp=column)

        assert np.isnan(result[BP, 0])
        assert result[BP, 1] == 120
        assert problems == []


def test_rejected_rows_are_reported_with_their_number() -> None:
    _, problems = encoded(age=[17, 50, 50.5, float("inf")], sex=["male", "mal", "male", "female"])

    assert problems == [
        ([0], "age is 17, expected a whole number from 18 to 110 years"),
        ([2], "age is 50.5, expected a whole number from 18 to 110 years"),
        ([3], "age is 'inf', expected a whole number from 18 to 110 years"),
        ([1], "sex is 'mal', expected one of 0 (female), 1 (male), female, male"),
    ]
