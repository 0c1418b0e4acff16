"""The candidates: signs of coefficients, missing values, and equality with their ONNX form."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from heart import files
from heart.dataset.reader import read
from heart.ml.estimators import (
    FEATURES,
    SIGNS,
    Array,
    ChainedLogisticRegression,
    candidates,
    expand,
    pattern,
    withhold,
)
from heart.ml.onnx_export import INPUT, OUTPUT, export, export_error, predict
from heart.registry.publishing import fictional_rows
from heart.schema import MEASUREMENTS, NAMES, encode
from stages import prepare
from stages.params import Prepare

RAW = Path(__file__).parents[3] / "data/raw/heart.csv"


@pytest.fixture(scope="module")
def patients() -> tuple[Array, npt.NDArray[np.int64]]:
    prepare.SOURCES.setdefault(RAW, "raw")
    table, _ = prepare.prepare([(RAW, read(RAW))], Prepare.load(RAW.parents[2] / "params.yaml"))
    rows, outcome = files.encoded(table)
    return rows.astype(np.float64), outcome


@pytest.fixture(scope="module")
def fitted(patients: tuple[Array, npt.NDArray[np.int64]]) -> dict[str, Any]:
    models = candidates([0.1], trees=20, min_samples_leaf=5, seed=0)
    return {name: settings[0].fit(*patients) for name, settings in models.items()}


@pytest.fixture(scope="module")
def many() -> Array:
    rows: Array = fictional_rows(20_000, seed=3).astype(np.float64)
    return rows


@pytest.mark.parametrize(
    "name", ["logistic_regression", "random_forest", "extra_trees", "gradient_boosting"]
)
def test_onnx_and_scikit_learn_agree_on_every_row(
    name: str, fitted: dict[str, Any], many: Array
) -> None:
    onnx_model = export(fitted[name]).SerializeToString()

    difference = np.abs(predict(onnx_model, many) - fitted[name].predict_proba(many)[:, 1])

    assert difference.max() < 1e-5


def test_negative_st_depression_is_read_as_zero(fitted: dict[str, Any], patients: Any) -> None:
    rows = patients[0][:50].copy()
    column = NAMES.index("st_depression")
    rows[:, column] = 0
    lower = rows.copy()
    lower[:, column] = -1.5

    for estimator in fitted.values():
        expected = estimator.predict_proba(rows)
        assert np.array_equal(estimator.predict_proba(lower), expected)
        model = export(estimator).SerializeToString()
        assert np.array_equal(predict(model, lower), predict(model, rows))


def test_the_onnx_model_has_one_input_and_one_output(fitted: dict[str, Any]) -> None:
    model = onnxruntime.InferenceSession(
        export(fitted["logistic_regression"]).SerializeToString(),
        providers=["CPUExecutionProvider"],
    )

    (argument,), (result,) = model.get_inputs(), model.get_outputs()

    assert (argument.name, argument.shape, argument.type) == (INPUT, ["n", 13], "tensor(float)")
    assert (result.name, result.shape, result.type) == (OUTPUT, ["n", 1], "tensor(float)")


@pytest.mark.parametrize(
    "measurement", [m for m in MEASUREMENTS if m.risk], ids=lambda m: str(m.name)
)
def test_a_number_changes_the_risk_only_in_the_established_direction(
    measurement: Any, fitted: dict[str, Any], many: Array
) -> None:
    column = NAMES.index(measurement.name)
    risks = []
    for value in np.linspace(measurement.low, measurement.high, 12).round():
        changed = many.copy()
        changed[:, column] = value
        risks.append(fitted["logistic_regression"].decision_function(changed))

    steps = measurement.risk * np.diff(risks, axis=0)

    assert steps.min() >= -1e-9


@pytest.mark.parametrize(
    "measurement", [m for m in MEASUREMENTS if m.choices], ids=lambda m: str(m.name)
)
def test_a_known_sign_never_lowers_the_risk(
    measurement: Any, fitted: dict[str, Any], many: Array
) -> None:
    column = NAMES.index(measurement.name)
    for code, choice in enumerate(measurement.choices):
        if choice.risk:
            without, with_sign = many.copy(), many.copy()
            without[:, column], with_sign[:, column] = 0.0, code
            model = fitted["logistic_regression"]
            gained = model.decision_function(with_sign) - model.decision_function(without)
            assert gained.min() >= -1e-9, choice.name


def test_the_order_of_columns_is_irrelevant(fitted: dict[str, Any]) -> None:
    table: dict[str, list[Any]] = {
        "age": [50, 60],
        "sex": ["male", "female"],
        "st_depression": [0.0, 2.5],
    }
    turned = dict(reversed(table.items()))

    model = fitted["logistic_regression"]

    assert np.array_equal(model.predict_proba(encode(table)), model.predict_proba(encode(turned)))


def test_without_the_further_tests_it_is_as_good_as_a_model_fitted_without_them(
    patients: tuple[Array, npt.NDArray[np.int64]],
) -> None:
    x, y = patients
    fold = np.random.default_rng(0).permutation(len(y)) % 10
    marginalized, reference = np.empty(len(y)), np.empty(len(y))
    for held_out in range(10):
        inside, outside = fold != held_out, fold == held_out
        incomplete = withhold(x[outside])
        marginalized[outside] = (
            ChainedLogisticRegression().fit(x[inside], y[inside]).predict_proba(incomplete)[:, 1]
        )
        reference[outside] = (
            ChainedLogisticRegression()
            .fit(withhold(x[inside]), y[inside])
            .predict_proba(incomplete)[:, 1]
        )

    assert roc_auc_score(y, marginalized) > roc_auc_score(y, reference) - 0.005
    assert brier_score_loss(y, marginalized) < brier_score_loss(y, reference) + 0.005


def test_missing_values_are_marginalized() -> None:
    # Two correlated numbers, one missing in half of the rows; the outcome is drawn from a logistic
    # model of both. The prediction without it must match the observed share of presence.
    random = np.random.default_rng(1)
    x = np.full((40_000, len(NAMES)), np.nan)
    pressure, rate = NAMES.index("resting_bp"), NAMES.index("max_heart_rate")
    common = random.normal(size=len(x))
    z_pressure = common + 0.5 * random.normal(size=len(x))
    z_rate = -common + 0.8 * random.normal(size=len(x))
    x[:, pressure], x[:, rate] = 130 + 15 * z_pressure, 150 + 20 * z_rate
    y = (random.random(len(x)) < 1 / (1 + np.exp(-z_pressure + 2 * z_rate))).astype(int)
    model = ChainedLogisticRegression(C=100).fit(x, y)

    p = model.predict_proba(withhold(x, [rate]))[:, 1]

    for part in np.array_split(np.argsort(p), 8):
        assert y[part].mean() == pytest.approx(p[part].mean(), abs=0.025)


def test_a_measurement_that_no_row_has_is_ignored(
    patients: tuple[Array, npt.NDArray[np.int64]],
) -> None:
    x, y = patients
    incomplete = withhold(x)

    model = ChainedLogisticRegression().fit(incomplete, y)

    assert np.isfinite(model.predict_proba(x)).all()
    assert np.allclose(model.predict_proba(x), model.predict_proba(incomplete))


def test_weights_count_like_repeated_rows(
    patients: tuple[Array, npt.NDArray[np.int64]],
) -> None:
    x, y = patients
    times = np.random.default_rng(0).integers(0, 3, size=len(y))

    weighted = ChainedLogisticRegression().fit(x, y, times)
    repeated = ChainedLogisticRegression().fit(np.repeat(x, times, axis=0), np.repeat(y, times))

    assert np.allclose(weighted.coef_, repeated.coef_, atol=1e-4)
    assert np.allclose(weighted.predict_proba(x), repeated.predict_proba(x), atol=1e-4)


def test_coefficients_keep_their_signs_even_against_the_data(
    patients: tuple[Array, npt.NDArray[np.int64]],
) -> None:
    x, y = patients

    inverted = ChainedLogisticRegression().fit(x, 1 - y)

    assert (SIGNS * inverted.coef_ >= 0).all()


def test_missing_patterns_have_unique_numbers() -> None:
    rows = np.where((np.arange(2**13)[:, None] >> np.arange(13)) & 1, np.nan, 1.0)

    assert np.array_equal(pattern(rows), np.arange(2**13))


def test_terms_of_a_missing_value_are_zero() -> None:
    rows = np.full((1, 13), np.nan)
    rows[0, NAMES.index("major_vessels")] = 2

    terms = dict(zip(FEATURES, expand(rows)[0], strict=True))

    vessels = NAMES.index("major_vessels")
    assert {f.kind: v for f, v in terms.items() if f.column == vessels} == {
        "value": 2.0,
        "at_least": 1.0,
    }
    assert all(v == 0 for f, v in terms.items() if f.column != vessels)


def test_fits_repeat_exactly(patients: tuple[Array, npt.NDArray[np.int64]]) -> None:
    for settings in candidates([0.1], trees=5, min_samples_leaf=5, seed=0).values():
        first, second = (export(settings[0].fit(*patients)).SerializeToString() for _ in range(2))
        assert first == second


def test_only_candidates_are_exported() -> None:
    with pytest.raises(TypeError, match="object is not a candidate"):
        export(object())


def test_the_standard_error_is_that_of_the_coefficients(
    fitted: dict[str, Any], many: Array
) -> None:
    # Complete rows, where the logit is linear in the coefficients.
    whole = many[~np.isnan(many).any(axis=1)][:500]
    model = fitted["logistic_regression"]
    error = predict(export_error(model).SerializeToString(), whole)

    design = np.column_stack([(expand(whole) - model.mean_) / model.scale_, np.ones(len(whole))])
    expected = np.sqrt(np.einsum("nk,kl,nl->n", design, model.covariance_, design))

    assert np.allclose(error, expected, rtol=1e-4)


@pytest.mark.parametrize("truth", ["the fitted model", "the prior"])
def test_the_interval_covers_the_true_risk(
    truth: str, patients: tuple[Array, npt.NDArray[np.int64]]
) -> None:
    x, y = patients
    random = np.random.default_rng(0)
    covered = []
    for _ in range(25):
        true = ChainedLogisticRegression().fit(x, y)
        if truth == "the prior":
            weights = random.normal(0, np.sqrt(true.C), len(FEATURES))
            true.coef_, true.intercept_ = np.where(SIGNS != 0, SIGNS * abs(weights), weights), 0.0
        risk = true.predict_proba(x)[:, 1]
        rows = random.integers(len(x), size=230)
        model = ChainedLogisticRegression().fit(x[rows], random.random(230) < risk[rows])
        width = 1.96 * predict(export_error(model).SerializeToString(), x)
        distance = np.abs(model.decision_function(x) - true.decision_function(x))
        covered.append((distance <= width).mean())

    assert 0.92 <= np.mean(covered) <= 0.98


def test_the_standard_error_of_trees_is_nan(fitted: dict[str, Any], many: Array) -> None:
    error = export_error(fitted["extra_trees"]).SerializeToString()

    assert np.isnan(predict(error, many[:5])).all()
