from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from heart.errors import UserError
from heart.files import ALL
from heart.ml.estimators import ChainedLogisticRegression, candidates
from heart.ml.training import Choice, Rows, fit, joined, out_of_fold, train
from heart.ml.updating import KEEP, logits
from heart.registry.publishing import fictional_rows
from stages.train import (
    choose,
    choose_and_cross_validate,
    improves_beyond_se,
    losses,
    parity,
)

MODELS = {"logistic_regression": [ChainedLogisticRegression(C=0.1)]}


def rows(useful: bool = True, real: int = 90, folds: int = 3) -> Rows:
    """Patients whose outcome depends on the first columns, and synthetic ones that are useful or noise."""
    random = np.random.default_rng(4)
    synthetic = 600
    x = fictional_rows(real + synthetic, seed=1).astype(np.float64)
    score = 0.03 * (x[:, 0] - 64) + 1.5 * (x[:, 1] - 0.5) + 0.5 * np.nan_to_num(x[:, 9] - 5)
    y = (random.random(len(x)) < 1 / (1 + np.exp(-score))).astype(np.int64)
    if not useful:
        y[real:] = random.permutation(y[real:])
    tags = [str(i) for i in range(folds)] + [ALL]
    fold = [str(i % folds) for i in range(real)] + [tags[i % len(tags)] for i in range(synthetic)]
    simulated = np.arange(len(x)) >= real
    return Rows(x, y, np.array(fold, dtype=object), simulated, np.zeros(len(x), dtype=bool))


class Spy(ChainedLogisticRegression):
    """Records the rows on which it was fitted."""

    seen: list[tuple[Any, Any]] = []  # noqa: RUF012

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "Spy":
        Spy.seen.append((X, sample_weight))
        super().fit(X, y, sample_weight)
        return self


def test_a_fold_is_scored_by_a_model_and_a_generator_without_its_rows() -> None:
    data = rows()
    Spy.seen = []

    losses(Spy(), data, synthetic_weight=0.5)

    for fold, (x, weight) in zip(data.folds(), Spy.seen, strict=True):
        used = {row.tobytes() for row in x}
        for row, of_fold, synthetic in zip(data.x, data.fold, data.synthetic, strict=True):
            allowed = of_fold == fold if synthetic else of_fold != fold
            assert (row.tobytes() in used) == allowed
        assert weight[weight < 1].sum() == pytest.approx(0.5 * (weight == 1).sum())


def test_useful_synthetic_rows_get_a_weight_and_noise_does_not() -> None:
    earned, _, by_weight = choose(rows(useful=True), MODELS, [0.0, 1.0])
    with_noise, _, _ = choose(rows(useful=False), MODELS, [0.0, 1.0])

    assert by_weight[1.0].mean() < by_weight[0.0].mean()
    assert earned.synthetic_weight == 1.0
    assert with_noise.synthetic_weight == 0.0


def test_a_gain_within_the_standard_error_gives_no_weight() -> None:
    plain = np.array([0.40, 0.35, 0.50, 0.45])

    assert improves_beyond_se(plain, plain - [0.02, 0.03, 0.02, 0.03])
    assert not improves_beyond_se(plain, plain - [0.20, -0.15, 0.10, -0.10])
    assert not improves_beyond_se(plain, plain)


def test_no_fit_of_a_fold_uses_its_rows() -> None:
    data = rows()
    Spy.seen = []

    models: dict[str, list[Any]] = {"logistic_regression": [Spy()]}
    choose(data, models, [0.0, 0.5])
    for_choice = len(Spy.seen)
    Spy.seen = []

    choose_and_cross_validate(data, models, [0.0, 0.5])

    of_folds = Spy.seen[for_choice:]
    a_fold = len(of_folds) // len(data.folds())
    for number, (x, _) in enumerate(of_folds):
        held_out = data.real(data.folds()[number // a_fold]).x
        used = {row[:10].tobytes() for row in x}
        assert not any(row[:10].tobytes() in used for row in held_out)


def test_the_candidate_with_the_smallest_loss_is_chosen() -> None:
    models = candidates([0.1, 1e-4], trees=5, min_samples_leaf=20, seed=0)

    choice, by_candidate, _ = choose(rows(), models, [0.0])

    assert choice.name == min(by_candidate, key=lambda name: by_candidate[name])
    assert choice.model.get_params().get("C") != 1e-4


def test_the_out_of_fold_score_is_of_a_model_fitted_without_the_patient() -> None:
    data = rows()
    choice = Choice("logistic_regression", MODELS["logistic_regression"][0], 0.5)

    probability = expit(out_of_fold(choice, data, data))

    for fold in data.folds():
        fitted = fit(choice.model, data.without(fold), 0.5, fold)
        own = data.fold[~data.synthetic] == fold
        assert probability[own] == pytest.approx(fitted.predict_proba(data.real(fold).x)[:, 1])
    whole = fit(choice.model, data, 0.5, ALL).predict_proba(data.x[~data.synthetic])[:, 1]
    assert np.abs(probability - whole).max() > 0.01


def test_a_generator_without_rows_is_an_error() -> None:
    with pytest.raises(UserError, match="no synthetic row of generator 'nobody'"):
        fit(ChainedLogisticRegression(), rows(), 1.0, "nobody")


def test_cross_validation_reports_both_views_and_uses_no_outcome_that_it_predicts() -> None:
    data = rows()
    shuffled = replace(data, y=np.random.default_rng(0).permutation(data.y))

    _, figures = choose_and_cross_validate(data, MODELS, [0.0])
    _, nothing = choose_and_cross_validate(shuffled, MODELS, [0.0])

    assert figures["cv_roc_auc"] > 0.75
    assert nothing["cv_roc_auc"] == pytest.approx(0.5, abs=0.15)
    assert figures["cv_brier_without_second_exam"] == pytest.approx(
        figures["reference_brier_without_second_exam"], abs=0.005
    )


def test_the_results_are_the_same_for_any_number_of_processes() -> None:
    data, weights = rows(), [0.0, 1.0]

    one, figures = choose_and_cross_validate(data, MODELS, weights, workers=1)
    two, others = choose_and_cross_validate(data, MODELS, weights, workers=2)

    assert figures == others
    assert one.by_candidate == two.by_candidate
    assert one.choice.synthetic_weight == two.choice.synthetic_weight


def test_a_model_whose_onnx_form_differs_is_rejected() -> None:
    from heart.ml.onnx_export import export

    data = rows()
    model, other = (ChainedLogisticRegression(C=c).fit(data.x, data.y) for c in (0.1, 1.0))

    assert parity(model, export(model).SerializeToString(), data.x) < 1e-5
    with pytest.raises(UserError, match="differ from scikit-learn's by"):
        parity(model, export(other).SerializeToString(), data.x)


def test_a_large_table_is_compared_in_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from heart.ml.onnx_export import export

    data = rows()
    model = ChainedLogisticRegression(C=0.1).fit(data.x, data.y)
    onnx = export(model).SerializeToString()
    whole = parity(model, onnx, data.x)
    gaps: list[int] = []

    def gap(_fitted: Any, _onnx: bytes, part: Any) -> float:
        gaps.append(len(part))
        return 0.0

    monkeypatch.setattr("stages.train.PART", 100)
    monkeypatch.setattr("stages.train.largest_difference", gap)

    assert parity(model, onnx, data.x) == 0.0 < whole
    assert sum(gaps) == len(data.x)
    assert max(gaps) == 100
    monkeypatch.setattr("stages.train.largest_difference", lambda *_: np.nan)
    with pytest.raises(UserError, match="differ from scikit-learn's by nan"):
        parity(model, onnx, data.x)


# Outcomes of the service


def recorded(count: int, intercept: float = 0.0) -> Rows:
    """Patients of the service, whose log odds are higher by `intercept` than those of the study."""
    random = np.random.default_rng(9)
    x = fictional_rows(count, seed=2).astype(np.float64)
    base = fit(MODELS["logistic_regression"][0], study(), 0.0, ALL)
    y = (random.random(count) < expit(intercept + logits(base, x))).astype(np.int64)
    fold = np.array([str(number % 3) for number in range(count)], dtype=object)
    none = np.zeros(count, dtype=bool)
    return Rows(x, y, fold, none, ~none)


def study() -> Rows:
    """The real patients of `rows`, more of them."""
    data = rows(real=240)
    return data.take(~data.synthetic)


def trained(service: Rows) -> Any:
    together = joined(study(), service)
    choice = Choice("logistic_regression", MODELS["logistic_regression"][0], 0.0)
    return train(choice, together, together)


def test_a_few_outcomes_of_the_service_change_nothing() -> None:
    result = trained(recorded(11, intercept=3))
    alone = trained(recorded(0))

    assert result.update is None
    assert logits(result.model, study().x) == pytest.approx(logits(alone.model, study().x))
    assert len(result.out_of_fold) == 240 + 11


def test_outcomes_of_a_hospital_with_more_ill_patients_recalibrate_the_model() -> None:
    result, before = trained(recorded(60, intercept=2)), trained(recorded(0))
    fresh = recorded(2000, intercept=2)

    def brier(model: Any) -> float:
        return float(((model.predict_proba(fresh.x)[:, 1] - fresh.y) ** 2).mean())

    assert result.update.rung != KEEP
    assert brier(result.model) < brier(before.model) - 0.02
    # The drift baseline has the scores of the new model, also for the study's patients.
    assert result.out_of_fold[:240].mean() > before.out_of_fold[:240].mean() + 0.1


def test_out_of_fold_risks_of_service_patients_are_from_models_without_them() -> None:
    service = recorded(60, intercept=2)
    changed = replace(service, y=service.y.copy())
    changed.y[0] = 1 - changed.y[0]  # of fold 0

    first, second = (trained(part).out_of_fold[240:] for part in (service, changed))

    assert first[service.fold == "0"] == pytest.approx(second[service.fold == "0"])
