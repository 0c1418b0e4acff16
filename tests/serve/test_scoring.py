"""Batches are scored by column; each patient gets what it would get alone."""

import math
import random
from collections import Counter
from typing import Any

import pytest

from heart.predictions.log import LogRejected, Record, check, new_ids
from heart.predictions.tables import MANY
from heart.schema import MEASUREMENTS, NAMES
from serve.encoding import encode_rows, values_of
from serve.patient_metrics import MISSING, OUT_OF_RANGE, PREDICTION, RISK, RISK_SUM
from serve.scoring import ABSENCE, PRESENCE, score
from tests.heart.predictions.logs import VALUES
from tests.serve.small_service import model


def patients(count: int) -> list[dict[str, Any]]:
    """Patients with any measurements missing, as a key without a value or without the key."""
    source = random.Random(0)
    rows = []
    for _ in range(count):
        row: dict[str, Any] = {}
        for m in MEASUREMENTS:
            value: Any = source.choice([choice.name for choice in m.choices]) if m.choices else 0
            value = value or source.randint(math.ceil(m.low), math.floor(m.high))
            if m.required or source.random() < 0.7:
                row[m.name] = value
            elif source.random() < 0.5:
                row[m.name] = None
        rows.append(row)
    return rows


def test_a_batch_is_scored_as_its_patients_one_by_one() -> None:
    rows = patients(200)

    together, alone = score(model(), rows), [score(model(), [row]) for row in rows]

    predictions = together.predictions()
    for prediction, one, row in zip(predictions, alone, rows, strict=True):
        (expected,) = one.predictions()
        assert prediction["probability"] == pytest.approx(expected["probability"], abs=1e-6)
        kept = {name: value for name, value in row.items() if value is not None}
        assert prediction["missing"] == [name for name in NAMES if name not in kept]
        for key in ("missing", "warnings", "threshold", "model_version", "contributions"):
            assert prediction[key] == expected[key]
    assert [record.measurements for record in together.records] == [values_of(row) for row in rows]
    assert [r.id for r in together.records] == [p["prediction_id"] for p in predictions]
    assert any(prediction["warnings"] for prediction in predictions)


def test_the_counts_of_a_batch_are_the_sums_of_its_patients() -> None:
    rows = patients(200)

    together, alone = score(model(), rows).counts, [score(model(), [row]).counts for row in rows]

    sums = Counter[Any]()
    for counts in alone:
        sums.update(counts)
    assert together == pytest.approx({key: sums[key] for key in together})
    assert {key for key, count in sums.items() if count} <= set(together)
    kinds = {key[0] if isinstance(key, tuple) else key for key in together}
    assert kinds == {RISK_SUM, RISK, PREDICTION, MISSING, OUT_OF_RANGE}
    assert sum(together[PREDICTION, name] for name in (ABSENCE, PRESENCE)) == len(rows)


def test_no_patient_has_no_rows() -> None:
    assert encode_rows([]).shape == (0, len(NAMES))


NUMBER = next(place for place, m in enumerate(MEASUREMENTS) if not m.choices)
CHOICE = next(place for place, m in enumerate(MEASUREMENTS) if m.choices)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (NUMBER, math.nan),
        (NUMBER, math.inf),
        (NUMBER, 10**400),
        (NUMBER, "57"),
        (CHOICE, "no such category"),
        (CHOICE, 1),
        (CHOICE, ["a list"]),
    ],
)
def test_one_bad_value_among_many_records_is_found_with_its_place(place: int, value: Any) -> None:
    rows = [list(VALUES) for _ in range(2 * MANY)]
    rows[MANY + 3][place] = value
    records = [
        Record(key, "1", 0.5, row) for key, row in zip(new_ids(len(rows)), rows, strict=True)
    ]

    with pytest.raises((LogRejected, TypeError), match=f"record {MANY + 3}: |unhashable"):
        check(records)


@pytest.mark.parametrize(
    "bad",
    [
        Record("short", "1", 0.5, VALUES),
        Record("0" * 32, "1", 1.5, VALUES),
        Record("0" * 32, "1", 0.5, ()),
    ],
    ids=["id", "probability", "measurements"],
)
def test_one_bad_record_among_many_is_found(bad: Record) -> None:
    records = [Record(key, "1", 0.5, VALUES) for key in new_ids(2 * MANY)]

    check(records)
    with pytest.raises(LogRejected, match=f"record {2 * MANY}"):
        check([*records, bad])
