"""The outcome check of a retraining, with a real registry."""

import getpass
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from heart import files
from heart.ml.onnx_export import predict
from heart.registry import publishing as registry
from heart.registry.aliases import set_champion
from monitoring.retraining import collect
from monitoring.retraining.quarantine import check, options, release, subsets

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")

NAME = "heart-disease"
NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
Labelled = Callable[..., pd.DataFrame]


@pytest.fixture
def client(
    store: Any, package_of: Any, model_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """A registry whose champion was fitted on patients that are not in `labelled`."""
    monkeypatch.chdir(tmp_path)
    experiment = store.create_experiment(NAME)
    version = registry.publish(store, NAME, experiment, package_of(model_of()), "")
    set_champion(store, NAME, version.version)
    return store


@pytest.fixture
def labelled(patients: pd.DataFrame, model_of: Any) -> Labelled:
    """Outcomes of patients as `collect.labelled` returns them; those of `wrong` are inverted."""

    def make(senders: dict[str, int], wrong: tuple[str, ...] = ()) -> pd.DataFrame:
        count = sum(senders.values())
        held_out = patients[patients.index % 3 == 0].head(count).reset_index(drop=True)
        rows, _ = files.encoded(held_out)
        random = np.random.default_rng(0)
        ill = random.random(count) < predict(model_of(), rows)
        names = np.repeat(list(senders), list(senders.values()))
        ill = np.where(np.isin(names, wrong), ~ill, ill)
        changed: dict[str, Any] = {
            collect.PATIENT: [f"{number:032x}" for number in range(count)],
            collect.SENDER: names,
            collect.SOURCE: "production",
            collect.RECORDED: [NOON + timedelta(seconds=number) for number in range(count)],
            "heart_disease": np.where(ill, "presence", "absence"),
        }
        return held_out.drop(columns="source").assign(**changed)

    return make


def test_honest_outcomes_are_kept(client: Any, labelled: Labelled) -> None:
    result = check(labelled({"ward": 60}), client, NAME)

    assert (len(result.kept), len(result.quarantined), result.summary) == (60, 0, "")


def test_outcomes_of_a_wrong_sender_are_quarantined_and_named(
    client: Any, labelled: Labelled
) -> None:
    result = check(labelled({"ward": 60, "lab": 40}, wrong=("lab",)), client, NAME)

    assert set(result.quarantined[collect.SENDER]) == {"lab"}
    assert set(result.kept[collect.SENDER]) == {"ward"}
    assert "sender lab" in result.summary
    assert "make release-outcomes" in result.summary


def test_released_outcomes_are_not_quarantined_again(client: Any, labelled: Labelled) -> None:
    table = labelled({"ward": 60, "lab": 40}, wrong=("lab",))
    tags = {"sender": "lab", "since": "", "by": "ana", "reason": "another disease"}

    release(client, NAME, **tags, until=(NOON - timedelta(days=1)).isoformat())
    assert len(check(table, client, NAME).quarantined) == 40

    release(client, NAME, **tags, until=(NOON + timedelta(days=1)).isoformat())
    assert len(check(table, client, NAME).quarantined) == 0


def test_outcomes_that_were_learned_from_are_not_checked_again_unless_they_change(
    client: Any, labelled: Labelled
) -> None:
    table = labelled({"lab": 60}, wrong=("lab",))
    files.PRODUCTION.parent.mkdir(parents=True)
    files.write_table(files.PRODUCTION, table.drop(columns=collect.RECORDED))

    assert len(check(table, client, NAME).quarantined) == 0

    honest = labelled({"lab": 60})
    files.write_table(files.PRODUCTION, honest.drop(columns=collect.RECORDED))
    assert len(check(table, client, NAME).quarantined) == 60


def test_without_a_champion_nothing_is_quarantined(client: Any, labelled: Labelled) -> None:
    client.delete_registered_model_alias(NAME, "champion")

    assert len(check(labelled({"lab": 60}, wrong=("lab",)), client, NAME).kept) == 60


def test_outcomes_are_checked_by_sender_source_hour_sex_and_age(labelled: Labelled) -> None:
    table = labelled({"ward": 20, "lab": 20})
    table.loc[20:, collect.RECORDED] += timedelta(hours=1)

    parts = subsets(table)

    assert {"sender ward", "sender lab", "source production", "sex female", "sex male"} <= set(
        parts
    )
    assert parts["hour 2026-11-27 13:00 UTC"].tolist() == [False] * 20 + [True] * 20
    assert all(len(rows) == 40 and rows.dtype == bool for rows in parts.values())


@pytest.mark.parametrize(
    "arguments",
    [["lab"], ["lab", "--reason", "x", "--since", "2026-11-27T08:00:00"], ["--reason", "x"]],
)
def test_a_release_needs_a_sender_a_reason_and_times_with_a_zone(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        options(arguments)


def test_the_user_of_a_release_is_known() -> None:
    assert options(["lab", "--reason", "x"]).by == getpass.getuser()
