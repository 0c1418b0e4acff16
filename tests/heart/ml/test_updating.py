"""The ladder of updates, on simulated hospitals whose truth is known."""

from typing import Any

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from heart.ml.estimators import ChainedLogisticRegression
from heart.ml.onnx_export import export, export_error, predict
from heart.ml.updating import INTERCEPT, KEEP, SLOPE, Ladder, Recalibrated, logits
from heart.schema import NAMES

WEIGHTS = np.array([1.2, -0.8, 0.5])


def hospital(
    count: int, seed: int, intercept: float = 0.0, slope: float = 1.0, weights: Any = WEIGHTS
) -> tuple[np.ndarray, np.ndarray]:
    """Patients with three measurements, and outcomes of which a logistic model is the truth."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, len(weights)))
    y = random.random(count) < expit(intercept + slope * (x @ weights))
    return x, y.astype(float)


def ladder(x: np.ndarray, y: np.ndarray, **options: Any) -> Ladder:
    study, outcome = hospital(400, seed=0)

    def fit(used: np.ndarray, weight: float) -> Any:
        rows, truth = np.vstack([study, x[used]]), np.append(outcome, y[used])
        weights = np.append(np.ones(len(study)), np.full(used.sum(), weight))
        return LogisticRegression(C=1e3).fit(rows, truth, weights)

    return Ladder(fit, x, y, np.arange(len(y)) % 5, max(1.0, 400 / len(y)), **options)


def log_loss(model: Any, x: np.ndarray, y: np.ndarray) -> float:
    p = model.predict_proba(x)[:, 1]
    return float(-(y * np.log(p) + (1 - y) * np.log(1 - p)).mean())


@pytest.mark.parametrize("count", [20, 60])
def test_a_hospital_like_the_study_changes_nothing(count: int) -> None:
    rungs = [ladder(*hospital(count, seed)).update()[0].rung for seed in range(1, 11)]

    assert rungs.count(KEEP) >= 6


@pytest.mark.parametrize("intercept", [-2.0, 2.0])
def test_another_share_of_ill_patients_changes_the_intercept(intercept: float) -> None:
    own = ladder(*hospital(60, 1, intercept))
    update, _ = own.update()
    model = own.model(update.rung)

    fresh = hospital(4000, 2, intercept)
    assert update.rung == INTERCEPT
    assert model.intercept == pytest.approx(intercept, abs=1)
    assert log_loss(model, *fresh) < log_loss(own.model(KEEP), *fresh) - 0.1


def test_risks_that_are_too_extreme_change_the_slope() -> None:
    own = ladder(*hospital(300, 1, slope=0.3))
    update, _ = own.update()
    model = own.model(update.rung)

    assert update.rung == SLOPE
    assert model.slope == pytest.approx(0.3, abs=0.2)


def test_another_disease_needs_a_refit() -> None:
    others = np.array([-0.5, 0.5, 2.0])
    own = ladder(*hospital(400, 1, weights=others))
    update, _ = own.update()

    fresh = hospital(4000, 2, weights=others)
    chosen, *recalibrations = (
        log_loss(own.model(rung), *fresh) for rung in (update.rung, KEEP, INTERCEPT, SLOPE)
    )
    assert update.rung.startswith("pooled")
    assert chosen < min(recalibrations) - 0.05


def test_with_outcomes_in_doubt_only_their_share_is_learned() -> None:
    x, y = hospital(300, 1, intercept=2.0, slope=0.3)

    assert ladder(x, y, intercept_only=True).update()[0].rung == INTERCEPT


def test_few_outcomes_of_one_kind_never_reverse_the_ranks() -> None:
    x, y = hospital(60, 1)
    y[:] = 1
    y[np.argsort(x @ WEIGHTS)[-4:]] = 0  # the healthy are those with the highest risks
    own = ladder(x, y)

    assert own.model(SLOPE).slope > 0


def test_out_of_fold_risks_do_not_depend_on_the_patients_own_fold() -> None:
    x, y = hospital(60, 1, intercept=2.0)
    changed = y.copy()
    own = np.arange(60) % 5 == 0
    changed[own] = 1 - changed[own]

    first, second = (ladder(x, outcome).out_of_fold() for outcome in (y, changed))

    assert first[own] == pytest.approx(second[own])
    assert first[~own] != pytest.approx(second[~own])


def test_a_procedure_that_is_worse_than_no_change_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = ladder(*hospital(60, 1, intercept=2.0))
    monkeypatch.setattr(own, "out_of_fold", lambda: np.full(60, 0.01))

    update, risks = own.update()

    assert (update.rung, update.nested_gain is not None and update.nested_gain < 0) == (KEEP, True)
    assert risks == pytest.approx(own.model(KEEP).predict_proba(hospital(60, 1, 2.0)[0])[:, 1])


def test_a_recalibrated_model_is_the_same_in_onnx(patients: Any) -> None:
    from heart import files

    rows, outcome = files.encoded(patients)
    base = ChainedLogisticRegression(C=0.1).fit(rows, outcome)
    model = Recalibrated(base, -1.5, 0.6)
    rows[::3, NAMES.index("thallium")] = np.nan

    exported, error, of_base = (
        graph.SerializeToString()
        for graph in (export(model), export_error(model), export_error(base))
    )

    assert predict(exported, rows) == pytest.approx(model.predict_proba(rows)[:, 1], abs=1e-5)
    assert logits(model, rows) == pytest.approx(-1.5 + 0.6 * logits(base, rows))
    assert predict(error, rows) == pytest.approx(0.6 * predict(of_base, rows), rel=1e-3)
