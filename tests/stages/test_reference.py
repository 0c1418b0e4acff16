from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from heart.drift.detector import fit
from heart.errors import UserError
from stages import params
from stages.reference import false_alarms, figures, policy_of, sample_of

OPTIONS = params.Reference(
    windows=[20, 100, 200], earlier=200, step=10, stream=400, false_alarms=0.05, bins=5, simulations=1000,
    check_streams=20, max_rows=1000, seed=0,
)  # fmt: skip


@pytest.fixture
def train(patients: pd.DataFrame) -> pd.DataFrame:
    return patients.assign(patient_id=[f"p{i}" for i in patients.index])


@pytest.fixture
def scored(train: pd.DataFrame) -> pd.DataFrame:
    scores = np.random.default_rng(0).random(len(train)).round(8)
    return pd.DataFrame({"patient_id": train["patient_id"], "probability": scores.astype(str)})


def test_the_policy_is_that_of_the_parameters() -> None:
    policy = policy_of(OPTIONS)

    parameters = OPTIONS.model_dump(exclude={"check_streams", "max_rows"})
    assert vars(policy) == parameters | {"windows": tuple(parameters["windows"])}


def test_parameters_of_an_invalid_policy_are_rejected() -> None:
    options = OPTIONS.model_copy(update={"windows": [10, 100]})

    with pytest.raises(UserError, match=r"params.yaml: reference: the smallest window is 10"):
        policy_of(options)


def test_every_patient_has_its_own_score(train: pd.DataFrame, scored: pd.DataFrame) -> None:
    sample = sample_of(train, scored)

    assert sample.rows[:, 0].tolist() == train["age"].astype(float).tolist()
    assert sample.scores == pytest.approx(scored["probability"].astype(float))


def test_scores_of_other_patients_are_rejected(train: pd.DataFrame, scored: pd.DataFrame) -> None:
    for other in (scored[::-1], scored[:-1]):
        with pytest.raises(UserError, match=f"its {len(other)} patients are not the 303 of"):
            sample_of(train, other)


def test_the_rate_of_false_alarms_has_its_interval(
    train: pd.DataFrame, scored: pd.DataFrame
) -> None:
    rate = false_alarms(sample_of(train, scored), policy_of(OPTIONS), 20)

    assert rate["streams"] == 20
    assert rate["rate"] == rate["alarms"] / 20
    assert rate["rate_low"] <= rate["rate"] < rate["rate_high"] < 1


def test_limits_with_too_many_false_alarms_are_rejected(
    train: pd.DataFrame, scored: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = policy_of(OPTIONS)
    monkeypatch.setattr("heart.drift.detector.limits", lambda *_, **__: (2.0,) * policy.views)

    with pytest.raises(UserError, match=r"of 20 streams .* a share of at most 0.05 \(reference"):
        false_alarms(sample_of(train, scored), replace(policy, seed=1), 20)


def test_one_alarm_in_a_small_number_of_streams_is_not_significant_and_two_are(
    train: pd.DataFrame, scored: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample, policy = sample_of(train, scored), replace(policy_of(OPTIONS), false_alarms=0.01)
    first = np.full(5, np.inf)
    monkeypatch.setattr("stages.reference.delays", lambda *_, **__: first)

    first[0] = 20
    assert false_alarms(sample, policy, 5)["alarms"] == 1

    first[1] = 30
    with pytest.raises(UserError, match="2 of 5 streams without drift raise an alarm"):
        false_alarms(sample, policy, 5)


def test_the_metrics_have_the_missing_measurements(
    train: pd.DataFrame, scored: pd.DataFrame
) -> None:
    sample = sample_of(train, scored)

    content: Any = figures(fit(sample.rows, sample.scores, policy_of(OPTIONS)), {"rate": 0.01})

    assert content == {
        "rows": 303,
        "missing": {"major_vessels": 4, "thallium": 2},
        "minimum_rows": 20,
        "window_rows": 200,
        "false_alarms": {"rate": 0.01},
    }


def test_only_real_training_rows_and_scores_out_of_fold_reach_the_reference(
    small_pipeline: Path,
) -> None:
    from heart import files
    from heart.drift.baseline import Reference

    train = files.read_table(small_pipeline / files.TRAIN)
    scored = files.read_table(small_pipeline / files.OUT_OF_FOLD)
    reference = Reference.from_json((small_pipeline / files.REFERENCE).read_text())

    assert scored["patient_id"].tolist() == train["patient_id"].tolist()
    sample = sample_of(train, scored)
    assert reference == fit(sample.rows, sample.scores, reference.policy)
