import numpy as np
import pandas as pd
import pytest

from heart.errors import UserError
from heart.ml.curves import POINTS, calibration, confusion, decision
from heart.ml.estimators import ChainedLogisticRegression
from heart.ml.groups import groups
from heart.ml.onnx_export import export
from heart.registry.publishing import fictional_rows
from heart.schema import NAMES, OUTCOME
from stages import params
from stages.evaluate import curves, evaluate, headline, importance

OPTIONS = params.Evaluate(threshold=0.5, bootstrap=50, bins=4, seed=0)


def patients(rows: int = 80) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    random = np.random.default_rng(2)
    outcome = (random.random(rows) < 0.5).astype(float)
    table = pd.DataFrame(
        {
            "sex": random.choice(["male", "female"], rows),
            "age": random.integers(30, 80, rows).astype(str),
            "source": "raw",
            OUTCOME.name: np.where(outcome == 1, "presence", "absence"),
        }
    )
    return table, outcome, np.clip(0.4 * outcome + 0.6 * random.random(rows), 0, 1)


def test_figures_come_with_intervals_overall_and_by_group() -> None:
    table, outcome, probability = patients()

    figures = evaluate(table, outcome, probability, OPTIONS)

    for score in ("roc_auc", "accuracy", "precision", "recall", "f1", "brier", "log_loss", "ece"):
        assert figures[f"{score}_low"] <= figures[f"{score}_high"]
    assert figures["roc_auc_low"] <= figures["roc_auc"] <= figures["roc_auc_high"]
    assert set(figures["groups"]) == {
        "sex_female", "sex_male", "age_under_50", "age_50_to_59", "age_60_and_over",
    }  # fmt: skip
    by_sex = [figures["groups"][name]["rows"] for name in ("sex_female", "sex_male")]
    assert sum(by_sex) == figures["rows"] == len(table)


def test_the_threshold_changes_only_the_figures_of_binary_predictions() -> None:
    table, outcome, probability = patients()

    low, high = (
        evaluate(table, outcome, probability, OPTIONS.model_copy(update={"threshold": threshold}))
        for threshold in (0.1, 0.9)
    )

    assert low["recall"] > high["recall"]
    assert low["roc_auc"] == high["roc_auc"]


def test_values_of_a_kept_column_are_groups() -> None:
    table, _, _ = patients()
    table["kept_dataset"] = ["VA Long Beach", "Cleveland", ""] * 26 + ["Cleveland"] * 2

    masks = groups(table)

    assert masks["dataset_va_long_beach"].sum() == 26
    assert masks["dataset_cleveland"].sum() == 28
    assert "dataset_" not in masks


def test_a_kept_column_that_identifies_patients_makes_no_groups() -> None:
    table, _, _ = patients()
    table["kept_id"] = [str(n) for n in range(len(table))]

    assert not [name for name in groups(table) if name.startswith("id_")]


def test_sources_are_groups_once_there_are_two() -> None:
    table, _, _ = patients()
    table.loc[:9, "source"] = "production"

    masks = groups(table)

    assert masks["source_production"].sum() == 10


def test_one_outcome_alone_cannot_be_evaluated() -> None:
    table, outcome, probability = patients()

    with pytest.raises(UserError, match="all 80 outcomes are equal"):
        evaluate(table, np.ones_like(outcome), probability, OPTIONS)


def test_net_benefit_is_that_of_the_definition() -> None:
    outcome = np.array([1.0, 1.0, 0.0, 0.0])
    probability = np.array([0.9, 0.3, 0.6, 0.1])

    benefit = decision(outcome, probability).set_index("threshold")

    assert benefit["model"][0.5] == pytest.approx(0.0)  # one hit, one false alarm
    assert benefit["model"][0.8] == pytest.approx(0.25)  # one hit
    assert benefit["treat_all"][0.5] == pytest.approx(0.0)
    assert (benefit["treat_none"] == 0.0).all()


def test_calibration_points_hold_every_patient_once() -> None:
    _, outcome, probability = patients()

    points = calibration(outcome, probability, 7)

    assert points["patients"].sum() == len(outcome)
    assert points["predicted"].is_monotonic_increasing
    assert (points["observed"] * points["patients"]).sum() == pytest.approx(outcome.sum())


def test_the_measurement_that_determines_the_outcome_is_the_most_important() -> None:
    rows = fictional_rows(400, seed=1)
    outcome = (np.nan_to_num(rows[:, NAMES.index("st_depression")], nan=5) > 5).astype(int)
    model = export(ChainedLogisticRegression().fit(rows, outcome)).SerializeToString()

    table = importance(model, rows, outcome.astype(float))

    assert table["measurement"].iloc[0] == "st depression"
    assert len(table) == len(NAMES)


def test_calibration_intervals_hold_the_observed_share() -> None:
    _, outcome, probability = patients()

    points = calibration(outcome, probability, 7)

    assert (points["low"] <= points["observed"]).all()
    assert (points["observed"] <= points["high"]).all()
    # Wilson's interval of 0 of 12 patients ends at z^2 / (12 + z^2).
    none = calibration(np.zeros(12), np.linspace(0, 1, 12), 1)
    assert none[["low", "high"]].iloc[0].tolist() == pytest.approx([0, 0.24249], abs=1e-5)


def test_the_confusion_matrix_counts_every_patient() -> None:
    outcome = np.array([1.0, 1.0, 1.0, 0.0, 0.0])
    positive = np.array([True, True, False, True, False])

    table = confusion(outcome, positive).set_index(["actual", "predicted"])["patients"]

    assert table.to_dict() == {
        ("presence", "presence"): 2,
        ("presence", "absence"): 1,
        ("absence", "presence"): 1,
        ("absence", "absence"): 1,
    }


def test_every_plot_has_points() -> None:
    table, outcome, probability = patients()
    figures = evaluate(table, outcome, probability, OPTIONS)

    plots = curves(outcome, probability, figures, OPTIONS)

    assert set(plots) == {"roc", "precision_recall", "calibration", "confusion", "decision"}
    assert all(len(points) > 3 for points in plots.values())
    assert f"{figures['roc_auc']:.3f}" in plots["roc"]["label"][0]


def test_the_curves_of_many_patients_have_some_of_their_points() -> None:
    table, outcome, probability = patients(5000)
    figures = evaluate(table, outcome, probability, OPTIONS)

    plots = curves(outcome, probability, figures, OPTIONS)

    recall, precision = plots["precision_recall"][["recall", "precision"]].to_numpy().T
    assert len(recall) == POINTS > len(plots["roc"]) * 0.5
    assert (recall[0], recall[-1], precision[-1]) == (1, 0, 1)
    assert (np.diff(recall) <= 0).all()


def test_the_headline_figures_are_those_of_the_reports() -> None:
    table, outcome, probability = patients()
    figures = evaluate(table, outcome, probability, OPTIONS)
    trained = {"cv_roc_auc": 0.9, "cv_brier": 0.1, "cv_log_loss": 0.4}

    chosen = headline(figures, trained)

    assert chosen.items() <= (figures | trained).items()
    assert {"roc_auc", "roc_auc_low", "roc_auc_high", "cv_roc_auc"} <= set(chosen)
    assert len(chosen) <= 12
