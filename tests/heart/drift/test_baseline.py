import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from heart.drift.baseline import COLUMNS, NotAReference, Reference
from heart.drift.detector import fit
from heart.drift.simulation import Sample
from tests.fixtures.drift import SMALL


def test_a_reference_is_the_same_after_a_round_trip_through_json(reference: Reference) -> None:
    text = reference.to_json()

    assert Reference.from_json(text) == reference
    assert Reference.from_json(text).to_json() == text


def test_equal_training_patients_give_equal_bytes(sample: Sample, reference: Reference) -> None:
    again = fit(sample.rows[::-1], sample.scores[::-1], SMALL)

    assert again.to_json() == reference.to_json()


def test_a_reference_is_small_and_contains_no_patient(sample: Sample, reference: Reference) -> None:
    document = json.loads(reference.to_json())

    assert len(reference.to_json()) < 16_000
    assert set(document) == {"format", "rows", "policy", "columns"}
    for column in document["columns"]:
        assert set(column) == {"name", "edges", "counts", "missing", "limits"}
        assert len(column["counts"]) <= SMALL.bins + 2
    assert len(sample.rows) > 10 * SMALL.bins


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[str], str]:
    def apply(text: str) -> str:
        document = json.loads(text)
        change(document)
        return json.dumps(document)

    return apply


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: "nonsense", "not a drift baseline: JSONDecodeError"),
        (lambda _: "[]", "not a drift baseline"),
        (changed(lambda d: d.pop("rows")), "not a drift baseline: KeyError\\('rows'\\)"),
        (changed(lambda d: d.update(format=2)), "format is 2, expected 1"),
        (changed(lambda d: d["policy"].update(speed=1)), "not a drift baseline: TypeError"),
        (changed(lambda d: d["policy"].update(windows=[10])), "expected at least 11"),
        (changed(lambda d: d.update(policy=[])), "not a drift baseline"),
        (changed(lambda d: d["policy"].update(step=0)), "not a drift baseline"),
        (changed(lambda d: d["columns"].pop()), f"expected {', '.join(COLUMNS)}"),
        (changed(lambda d: d["columns"][1].update(name="gender")), "columns are age, gender"),
        (changed(lambda d: d["columns"][1]["counts"].append(0)), "sex has 4 buckets, expected 3"),
        (changed(lambda d: d["columns"][1].update(missing=9)), "sex counts 312 .* expected 303"),
        (changed(lambda d: d["columns"][0]["limits"]["rare"].pop()), "age has 12 limits of rare"),
    ],
)
def test_an_invalid_reference_is_rejected(
    change: Callable[[str], str], message: str, reference: Reference
) -> None:
    with pytest.raises(NotAReference, match=message):
        Reference.from_json(change(reference.to_json()))


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        ((), "windows are \\(\\), expected increasing"),
        ((40, 20), "expected increasing"),
        ((20, 20), "expected increasing"),
        ((10, 20), "the smallest window is 10 patients, expected at least 11"),
        ((20, 45), "expected multiples of the step of 10 patients"),
    ],
)
def test_invalid_windows_are_rejected(windows: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, windows=windows)


@pytest.mark.parametrize("earlier", [-10, 15])
def test_an_invalid_number_of_earlier_patients_is_rejected(earlier: int) -> None:
    with pytest.raises(ValueError, match=f"earlier patients are {earlier}"):
        replace(SMALL, earlier=earlier)
