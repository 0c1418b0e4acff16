"""Batches are scored by column; each patient gets what it would get alone."""

import math
import random
from collections import Counter
from typing import Any

import pytest

from heart.registry.errors import ScoringFailed
from heart.schema import MEASUREMENTS, NAMES
from serve.blocks import Counts
from serve.encoding import encode_rows, values_of
from serve.patient_metrics import MISSING, OUT_OF_RANGE, PREDICTION, RISK, RISK_SUM, tally
from serve.scoring import ABSENCE, PRESENCE, score
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


def counts_of(rows: list[dict[str, Any]]) -> Counts:
    _, predicted = score(model(), rows).predictions()
    return tally([predicted])


def test_a_batch_is_scored_as_its_patients_one_by_one() -> None:
    rows = patients(200)

    together, alone = score(model(), rows), [score(model(), [row]) for row in rows]

    predictions, _ = together.predictions()
    for prediction, one, row in zip(predictions, alone, rows, strict=True):
        ((expected,), _) = one.predictions()
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

    together, alone = counts_of(rows), [counts_of([row]) for row in rows]

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


def test_a_risk_that_is_no_probability_is_not_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = model()
    for risk in (math.nan, 1.5, -0.1):
        monkeypatch.setattr(
            type(broken), "predict", lambda _, rows, risk=risk: rows[:, 0] * 0 + risk
        )
        with pytest.raises(ScoringFailed, match="version 1"):
            score(broken, patients(2))
