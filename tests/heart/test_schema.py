import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heart import schema
from heart.schema import (
    MEASUREMENTS,
    NAMES,
    OUTCOME,
    Measurement,
    SchemaError,
    decode,
    encode,
)

NUMBERS = [m for m in MEASUREMENTS if not m.choices]
WHOLE_NUMBERS = [m for m in NUMBERS if m.step == 1]
CATEGORIES = [m for m in (*MEASUREMENTS, OUTCOME) if m.choices]
AGE = MEASUREMENTS[NAMES.index("age")]
SEX = MEASUREMENTS[NAMES.index("sex")]

# The same examples on every machine and in every run.
fixed = settings(derandomize=True, deadline=None, max_examples=60)


def _values(measurement: Measurement) -> st.SearchStrategy[Any]:
    if measurement.choices:
        return st.sampled_from([choice.name for choice in measurement.choices]) | st.none()
    steps = st.integers(
        round(measurement.low / measurement.step), round(measurement.high / measurement.step)
    )
    number = steps.map(lambda n: n if measurement.step == 1 else n / round(1 / measurement.step))
    return number | number.map(str) | st.none()


patients = st.lists(st.fixed_dictionaries({m.name: _values(m) for m in MEASUREMENTS}), min_size=1)


def _columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in NAMES}


def _canonical(measurement: Measurement, value: Any) -> str:
    if value is None:
        return ""
    return str(value) if measurement.choices else f"{float(value):g}"


@fixed
@given(patients)
def test_decode_gives_back_what_encode_was_given(rows: list[dict[str, Any]]) -> None:
    columns = _columns(rows)

    encoded = encode(columns)

    assert encoded.shape == (len(rows), len(NAMES))
    assert encoded.dtype == np.float32
    assert decode(encoded) == {
        m.name: [_canonical(m, value) for value in columns[m.name]] for m in MEASUREMENTS
    }


@fixed
@given(patients)
def test_decoded_texts_encode_to_the_same_rows(rows: list[dict[str, Any]]) -> None:
    encoded = encode(_columns(rows))

    again = encode(decode(encoded))

    np.testing.assert_array_equal(again, encoded)


@fixed
@given(patients, st.permutations(NAMES))
def test_column_order_is_irrelevant(rows: list[dict[str, Any]], order: list[str]) -> None:
    columns = _columns(rows)

    reordered = encode({name: columns[name] for name in order})

    np.testing.assert_array_equal(reordered, encode(columns))


@fixed
@given(patients, st.sets(st.sampled_from(NAMES), max_size=len(NAMES) - 1))
def test_a_measurement_left_out_is_missing_in_every_row(
    rows: list[dict[str, Any]], left_out: set[str]
) -> None:
    columns = _columns(rows)

    encoded = encode({name: cells for name, cells in columns.items() if name not in left_out})

    blanked = columns | {name: [None] * len(rows) for name in left_out}
    np.testing.assert_array_equal(encoded, encode(blanked))


@pytest.mark.parametrize("measurement", [*MEASUREMENTS, OUTCOME], ids=lambda m: m.name)
@pytest.mark.parametrize("nothing", [None, math.nan, np.float32("nan"), ""], ids=repr)
def test_missing_is_nan_and_nan_is_an_empty_text(measurement: Measurement, nothing: Any) -> None:
    code = measurement.encode(nothing)

    assert math.isnan(code)
    assert measurement.text(code) == ""


def test_a_category_is_the_position_of_its_name() -> None:
    for measurement in CATEGORIES:
        codes = [measurement.encode(choice.name) for choice in measurement.choices]

        assert codes == list(range(len(measurement.choices)))


@pytest.mark.parametrize("measurement", NUMBERS, ids=lambda m: m.name)
def test_both_bounds_are_accepted(measurement: Measurement) -> None:
    for bound in (measurement.low, measurement.high):
        assert measurement.encode(bound) == bound
        assert measurement.encode(f"{bound:g}") == bound


@pytest.mark.parametrize("measurement", NUMBERS, ids=lambda m: m.name)
@fixed
@given(st.integers(1, 90_000), st.booleans(), st.booleans())
def test_beyond_a_bound_the_value_and_what_was_expected_are_named(
    measurement: Measurement, distance: int, above: bool, as_text: bool
) -> None:
    value = int(measurement.high) + distance if above else int(measurement.low) - distance

    with pytest.raises(SchemaError) as refusal:
        measurement.encode(str(value) if as_text else value)

    message = str(refusal.value)
    assert message.startswith(f"{measurement.name} is {value}, expected ")
    assert f"from {measurement.low:g} to {measurement.high:g} {measurement.unit}" in message


@pytest.mark.parametrize("given_value", ["260.0004", "1234567"])
def test_rejected_number_is_quoted_as_given(given_value: str) -> None:
    # Rounded, it would read "resting_bp is 260, expected a whole number from 60 to 260".
    resting_bp = MEASUREMENTS[NAMES.index("resting_bp")]

    with pytest.raises(SchemaError) as refusal:
        resting_bp.parse(given_value)

    assert given_value in str(refusal.value)


@pytest.mark.parametrize(
    "text", ["twelve", "nan", "inf", "-inf", "1e400", "0x3f", "63,0", "6_3", "63 years"]
)
def test_text_that_is_no_plain_number_is_rejected(text: str) -> None:
    with pytest.raises(SchemaError, match=r"age is .*, expected a whole number from 18 to 110"):
        AGE.parse(text)


@pytest.mark.parametrize("measurement", WHOLE_NUMBERS, ids=lambda m: m.name)
def test_whole_number_measurements_refuse_fractions(measurement: Measurement) -> None:
    value = measurement.low + 0.5

    with pytest.raises(SchemaError, match=f"is {value:g}, expected a whole number"):
        measurement.encode(value)


def test_a_measurement_in_tenths_takes_tenths() -> None:
    st_depression = MEASUREMENTS[NAMES.index("st_depression")]

    assert st_depression.step == 0.1
    assert (st_depression.parse("2.3"), st_depression.parse("-1.5")) == (2.3, -1.5)
    assert st_depression.expected == "a number from -3 to 10 mm"


@pytest.mark.parametrize(
    ("one", "other"), [("0", "-0.0"), ("0", "-0"), ("2", "2.0"), ("2", "+2"), ("2.5", "2.50")]
)
def test_equal_values_have_one_text(one: str, other: str) -> None:
    # The patient's id is a hash of these texts.
    st_depression = MEASUREMENTS[NAMES.index("st_depression")]

    texts = {st_depression.text(st_depression.parse(text)) for text in (one, other)}

    assert texts == {one}


@pytest.mark.parametrize("measurement", CATEGORIES, ids=lambda m: m.name)
@pytest.mark.parametrize("value", ["maybe", "0", "No ", 0, 1.0, True], ids=repr)
def test_an_unknown_category_is_refused_with_the_known_ones(
    measurement: Measurement, value: Any
) -> None:
    with pytest.raises(SchemaError) as refusal:
        measurement.encode(value)

    known = ", ".join(choice.name for choice in measurement.choices)
    assert str(refusal.value) == f"{measurement.name} is {value!r}, expected one of {known}"


def test_encode_names_the_row_of_a_bad_value() -> None:
    with pytest.raises(SchemaError, match=r"^row 2: sex is 'other', expected one of female, male$"):
        encode({"age": [50, 60, 70], "sex": ["male", "female", "other"]})


def test_encode_refuses_a_table_without_any_measurement() -> None:
    with pytest.raises(SchemaError, match="no measurement among the columns, expected some of age"):
        encode({"patient_id": ["a"], OUTCOME.name: ["presence"]})


@pytest.mark.parametrize("sexes", [["male"], ["male", "female"], []], ids=["one", "two", "none"])
def test_encode_refuses_columns_of_different_lengths(sexes: list[str]) -> None:
    # A column of one value must not be taken for every row.
    with pytest.raises(SchemaError, match="sex"):
        encode({"age": [50, 60, 70], "sex": sexes})


def _with(measurement: Measurement) -> tuple[Measurement, ...]:
    return tuple(measurement if m.name == measurement.name else m for m in MEASUREMENTS)


_FEMALE, _MALE = SEX.choices
_OTHER_MEANINGS = {
    "unit": _with(replace(AGE, unit="months")),
    "lower bound": _with(replace(AGE, low=0)),
    "upper bound": _with(replace(AGE, high=120)),
    "category renamed": _with(replace(SEX, choices=(_FEMALE, replace(_MALE, name="man")))),
    "category added": _with(replace(SEX, choices=(*SEX.choices, schema.Choice("x")))),
    "categories swapped": _with(replace(SEX, choices=(_MALE, _FEMALE))),
    "measurement renamed": tuple(replace(m, name=f"{m.name}_2") for m in MEASUREMENTS),
    "measurements swapped": (MEASUREMENTS[1], MEASUREMENTS[0], *MEASUREMENTS[2:]),
    "measurement removed": MEASUREMENTS[:-1],
}


@pytest.mark.parametrize("measurements", _OTHER_MEANINGS.values(), ids=_OTHER_MEANINGS.keys())
def test_the_fingerprint_changes_with_the_meaning(
    measurements: tuple[Measurement, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = schema.fingerprint()

    monkeypatch.setattr(schema, "MEASUREMENTS", measurements)

    assert schema.fingerprint() != before


def test_the_fingerprint_changes_with_the_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    before = schema.fingerprint()

    monkeypatch.setattr(schema, "OUTCOME", replace(OUTCOME, choices=OUTCOME.choices[::-1]))

    assert schema.fingerprint() != before


def test_names_are_unique_and_numbers_have_a_range() -> None:
    assert len({*NAMES, OUTCOME.name}) == len(NAMES) + 1
    assert all(m.low < m.high and m.unit for m in NUMBERS)
