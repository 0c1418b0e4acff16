"""Measurements from FHIR: units, categories, times, and what is not used."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

pytest.importorskip("fhir.resources", reason="requirements/fhir.txt is not installed")

from heart.predictions.log import new_ids
from heart.schema import MEASUREMENTS, NAMES
from serve.fhir.codes import ENTRIES, EXERCISE_TEST, LOINC, SNOMED, Code
from serve.fhir.measurements import MAX_RESOURCES, MAX_VALUES, Reading, read
from serve.fhir.risk_assessment import risk_assessment
from tests.serve.fhir.resources import (
    PATIENT_ID,
    answer,
    complete,
    concept,
    observation,
    patient,
    quantity,
)
from tests.serve.fhir.strategies import PREDICTIONS

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
PRESSURE = "resting_bp"


def reading(*observations: Any, person: dict[str, Any] | None = None) -> Reading:
    return read(person or patient(), observations, PATIENT_ID, NOW)


def test_all_measurements_are_read_and_converted() -> None:
    result = reading(*complete())

    assert result.problems == []
    assert result.values == {
        "age": 57,
        "sex": "male",
        "chest_pain_type": "asymptomatic",
        "resting_bp": 140,
        "cholesterol": 240,
        "fasting_blood_sugar_over_120": "no",
        "resting_ecg": "left_ventricular_hypertrophy",
        "max_heart_rate": 125,
        "exercise_angina": "yes",
        "st_depression": 1.5,
        "st_slope": "flat",
        "major_vessels": 2,
        "thallium": "reversible_defect",
    }
    assert result.values.keys() == set(NAMES)


def test_what_is_absent_is_missing() -> None:
    result = reading()

    assert result.values.keys() == {"age", "sex"}
    assert result.problems == []


@pytest.mark.parametrize(
    ("unit", "value", "expected"),
    [("mg/dL", 121, "yes"), ("mmol/L", 6.6, "no"), ("g/L", 1.3, "yes")],
)
def test_fasting_glucose_is_compared_with_the_threshold(
    unit: str, value: float, expected: str
) -> None:
    name = "fasting_blood_sugar_over_120"

    assert reading(observation(name, quantity(value, unit))).values[name] == expected


@pytest.mark.parametrize("panel", ENTRIES[PRESSURE].within)
def test_the_systolic_pressure_may_be_a_component(panel: Code) -> None:
    component = {"code": concept(ENTRIES[PRESSURE].codes[0]), **quantity(132, "mm[Hg]")}
    whole = observation(PRESSURE, {}, code=concept(panel), component=[component])

    assert reading(whole).values[PRESSURE] == 132


def test_a_value_under_stress_is_none_at_rest() -> None:
    component = {"code": concept(ENTRIES[PRESSURE].codes[0]), **quantity(190, "mm[Hg]")}
    test = observation(PRESSURE, {}, code=concept(EXERCISE_TEST[2]), component=[component])
    alone = observation(PRESSURE, quantity(190, "mm[Hg]"), method=concept(EXERCISE_TEST[0]))

    assert PRESSURE not in reading(test, alone).values


def test_a_value_at_rest_is_none_under_stress() -> None:
    name = "st_depression"
    resting = observation(name, quantity(1, "mm"), method=None)

    assert name not in reading(resting).values


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ({"valueQuantity": {"value": 14, "unit": "cm[Hg]"}}, "cm[Hg]"),
        (quantity(140, "mmHg"), "mmHg"),
        ({"valueQuantity": {"value": 140, "unit": "mm[Hg]", "code": "mm[Hg]"}}, "mm[Hg]"),
        (quantity(400, "mm[Hg]"), "400"),
        (quantity(-140, "mm[Hg]"), "-140"),
        ({"valueString": "140 over 90"}, "String"),
        ({"valueCodeableConcept": {"text": "high"}}, "CodeableConcept"),
        (
            {"valueQuantity": quantity(140, "mm[Hg]")["valueQuantity"] | {"comparator": "<"}},
            "bound",
        ),
    ],
)
def test_what_cannot_be_mapped_is_reported(value: dict[str, Any], part: str) -> None:
    result = reading(observation(PRESSURE, value))

    assert PRESSURE not in result.values
    assert len(result.problems) == 1
    assert part in result.problems[0]


@pytest.mark.parametrize("count", [1.5, 0.5, -1, 4])
def test_a_count_is_not_rounded(count: float) -> None:
    result = reading(observation("major_vessels", quantity(count, "{vessels}")))

    assert "major_vessels" not in result.values
    assert len(result.problems) == 1


def test_an_unknown_or_an_ambiguous_category_is_reported() -> None:
    name = "thallium"
    other = {"valueCodeableConcept": concept(Code(SNOMED, "251056002", "Partially reversible"))}
    both = {"valueCodeableConcept": concept(*(code for code, _ in ENTRIES[name].answers))}

    for value in (other, both, {"valueCodeableConcept": {"text": "normal"}}):
        result = reading(observation(name, value))
        assert name not in result.values
        assert len(result.problems) == 1


def test_the_latest_of_several_values_counts() -> None:
    times = {"2019": 130, "2025-06-01T08:00:00+02:00": 150, "2025-05-31": 145, "2024-12": 120}
    result = reading(
        *(observation(PRESSURE, quantity(value, "mm[Hg]"), time) for time, value in times.items())
    )

    assert result.values[PRESSURE] == 150
    assert result.times[PRESSURE] == "2025-06-01"


@pytest.mark.parametrize(
    ("time", "other"),
    [
        ("2025", "2025-03-01"),
        ("2025-06", "2025-06-30T08:00:00Z"),
        ("2025-06-01", "2025-06-01T08:00:00+02:00"),
        ("2025", "2025-06"),
    ],
)
def test_it_is_no_guess_which_value_is_the_latest(time: str, other: str) -> None:
    first = observation(PRESSURE, quantity(130, "mm[Hg]"), time)
    second, same = (observation(PRESSURE, quantity(value, "mm[Hg]"), other) for value in (150, 130))
    newer = observation(PRESSURE, quantity(120, "mm[Hg]"), "2026")

    assert PRESSURE not in reading(first, second).values
    assert len(reading(first, second).problems) == 1
    assert reading(first, same).values[PRESSURE] == 130
    assert reading(first, second, newer).values[PRESSURE] == 120


@pytest.mark.parametrize("time", ["2025", "2025-06", "2025-06-01"])
def test_the_time_of_a_value_is_as_incomplete_as_in_the_record(time: str) -> None:
    assert reading(observation(PRESSURE, quantity(130, "mm[Hg]"), time)).times[PRESSURE] == time


def test_a_number_is_no_time() -> None:
    since_1970 = {"effectiveDateTime": 1_748_764_800}
    period = {"effectiveDateTime": None, "effectivePeriod": {"start": 0}}
    for changes in (since_1970, period):
        value = observation(PRESSURE, quantity(120, "mm[Hg]")) | changes
        value = {name: part for name, part in value.items() if part is not None}
        result = reading(value, person=patient(birthDate=0))

        assert result.values == {"sex": "male"}
        assert len(result.problems) == 2


def test_a_latest_value_that_cannot_be_used_is_not_replaced_by_an_older_one() -> None:
    older = observation(PRESSURE, quantity(120, "mm[Hg]"), "2020-01-01")
    latest = observation(PRESSURE, quantity(14, "cm"), "2025-01-01")

    result = reading(older, latest)

    assert PRESSURE not in result.values
    assert len(result.problems) == 1


def test_different_values_of_one_time_are_reported_and_equal_ones_are_not() -> None:
    values = [observation(PRESSURE, quantity(value, "mm[Hg]")) for value in (120, 120, 150)]

    assert reading(*values[:2]).values[PRESSURE] == 120
    assert PRESSURE not in reading(*values).values
    assert len(reading(*values).problems) == 1


def test_a_value_to_come_and_one_without_a_time_are_reported() -> None:
    past = observation(PRESSURE, quantity(120, "mm[Hg]"), "2020-01-01")
    to_come = observation(PRESSURE, quantity(150, "mm[Hg]"), "2062-01-01")
    undated = observation(PRESSURE, quantity(160, "mm[Hg]"), None)

    assert reading(past, to_come, undated).values[PRESSURE] == 120
    assert len(reading(past, to_come, undated).problems) == 2
    assert reading(undated).values[PRESSURE] == 160


@pytest.mark.parametrize(
    ("changes", "problems"),
    [
        ({"status": "entered-in-error"}, 0),
        ({"status": "cancelled"}, 0),
        ({"status": "preliminary"}, 1),
        ({"subject": {"reference": "Patient/other"}}, 1),
        ({"subject": {"reference": "Patient/xp1"}}, 1),
        ({"effectiveDateTime": "2026-13-01"}, 1),
        ({"bogus": 1}, 1),
        ({"valueQuantity": None, "dataAbsentReason": {"text": "not done"}}, 0),
        ({"code": {"text": "Systolic blood pressure"}}, 0),
    ],
)
def test_observations_that_do_not_count(changes: dict[str, Any], problems: int) -> None:
    value = observation(PRESSURE, quantity(120, "mm[Hg]"))
    changed = {name: part for name, part in (value | changes).items() if part is not None}

    result = reading(changed)

    assert PRESSURE not in result.values
    assert len(result.problems) == problems


def test_a_corrected_value_and_an_absolute_reference_count() -> None:
    subject = {"reference": f"https://ehr.example.org/fhir/Patient/{PATIENT_ID}"}
    value = observation(PRESSURE, quantity(120, "mm[Hg]"), status="corrected", subject=subject)

    assert reading(value).values[PRESSURE] == 120


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"gender": "other"}, "sex"),
        ({"gender": "unknown"}, "sex"),
        ({"gender": None}, "sex"),
        ({"birthDate": None}, "age"),
        ({"birthDate": "1969"}, "age"),
        ({"birthDate": "1969-11"}, "age"),
        ({"birthDate": "2020-01-01"}, "age"),
        ({"birthDate": "2062-01-01"}, "age"),
        ({"birthDate": "0001"}, "age"),
        ({"birthDate": "9999"}, "age"),
    ],
)
def test_age_and_sex_in_doubt_are_reported(changes: dict[str, Any], name: str) -> None:
    result = reading(person=patient(**changes))

    assert name not in result.values
    assert len(result.problems) == 1


@pytest.mark.parametrize(
    ("born", "age"),
    [("1969-11-27", 57), ("1969-11-28", 56), ("1969-02", 57), ("1969-12", 56), ("2004-02-29", 22)],
)
def test_the_age_is_that_of_today(born: str, age: int) -> None:
    assert reading(person=patient(birthDate=born)).values["age"] == age


@pytest.mark.parametrize(
    "changes", [{"deceasedBoolean": True}, {"deceasedDateTime": "2026-01"}, {}]
)
def test_a_deceased_patient_is_known(changes: dict[str, Any]) -> None:
    assert reading(person=patient(**changes)).deceased == bool(changes)


def test_no_text_of_the_client_becomes_markup() -> None:
    hostile = "<img src=x>](https://evil.example)`**"
    values = [
        observation(PRESSURE, quantity(1, hostile)),
        observation(
            "thallium",
            {"valueCodeableConcept": concept(Code(LOINC, hostile.replace(" ", ""), "x"))},
        ),
        observation("cholesterol", quantity(1, "mg/dL"), status="pre`<b>"),
    ]

    problems = "".join(reading(*values, person=patient(gender="o`<b>")).problems)

    assert not set("<>()*") & set(problems.replace("(s)", ""))


def test_resources_of_other_kinds_are_harmless() -> None:
    hostile: list[Any] = [None, 1, [], {}, {"resourceType": []}, {"resourceType": "Device"}]
    failed = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "x"}]}

    assert len(reading(*hostile, failed).problems) == 1


def test_no_more_resources_are_read_than_the_limit() -> None:
    late = observation(PRESSURE, quantity(120, "mm[Hg]"))

    result = reading(*[{} for _ in range(MAX_RESOURCES)], late)

    assert PRESSURE not in result.values
    assert len(result.problems) == 1


def test_observations_that_would_take_long_to_check_are_reported() -> None:
    large = observation("cholesterol", quantity(240, "mg/dL"), category=[{}] * MAX_VALUES)
    usual = [observation(PRESSURE, quantity(120, "mm[Hg]"))] * MAX_RESOURCES

    result = reading(large, *usual[1:])

    assert result.values.keys() == {"age", "sex", PRESSURE}
    assert len(result.problems) == 1


@given(PREDICTIONS)
@settings(max_examples=50, deadline=None, derandomize=True)
def test_what_is_written_is_read_again(kept: dict[str, Any]) -> None:
    kept = kept | {"id": new_ids(1)[0], "created_at": NOW}
    contained = risk_assessment(kept, PATIENT_ID).model_dump(mode="json")["contained"]

    values = reading(*contained).values

    for name, entry in ENTRIES.items():
        if entry.yes_above is not None or kept[name] is None:
            assert name not in values
        else:
            expected = round(kept[name], 1) if name == "st_depression" else kept[name]
            assert values[name] == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=8), inner, max_size=2)
    ),
    max_leaves=6,
)
VALUES = st.sampled_from([part for one in complete() for part in one.values()])
TIMES = st.sampled_from(["2026", "2026-05", "2026-05-02T08:00:00Z", "9999-12-31", "0001", "0000"])


@st.composite
def nearly_observations(draw: st.DrawFn) -> dict[str, Any]:
    """An Observation of which some elements are others' or anything."""
    content = dict(draw(st.sampled_from(complete())))
    for name in draw(
        st.lists(st.sampled_from([*content, "component", "effectivePeriod"]), max_size=2)
    ):
        content[name] = draw(JSON | VALUES | TIMES | st.sampled_from([[content], [{**content}]]))
    return content


@given(
    st.lists(nearly_observations(), max_size=4),
    st.dictionaries(st.sampled_from(["gender", "birthDate", "deceasedBoolean"]), JSON | TIMES),
)
@settings(max_examples=50, deadline=None, derandomize=True)
def test_whatever_is_read_is_valid_for_the_model(
    observations: list[Any], changes: dict[str, Any]
) -> None:
    try:
        result = reading(*observations, person=patient(**changes))
    except ValidationError:
        return  # of the Patient: the call is answered 422

    for name, value in result.values.items():
        measurement = next(m for m in MEASUREMENTS if m.name == name)
        assert measurement.text(measurement.encode(value))


def test_every_category_of_the_schema_has_a_code() -> None:
    for name, entry in ENTRIES.items():
        for _, category in entry.answers:
            assert reading(observation(name, answer(name, category))).values[name] == category
