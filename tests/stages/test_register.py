import contextlib
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from heart import files
from heart.errors import UserError
from heart.ml.estimators import ChainedLogisticRegression
from heart.ml.onnx_export import export, predict
from heart.registry import governance, local_store
from heart.registry import publishing as registry
from heart.registry.aliases import SCHEMA, VERDICT, set_champion
from heart.registry.gate import Patients, at_least, at_most, evaluate_gate, floors
from heart.registry.model_card import model_card
from heart.registry.model_version import check_ranges
from heart.registry.publishing import Dataset
from heart.schema import MEASUREMENTS, NAMES
from stages import params
from stages.evaluate import evaluate
from stages.register import git_commit, log_experiment, register, training

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")

NAME = "heart-disease"
LIMITS = params.Floors(roc_auc=0.8, recall=0.6, brier=0.18, group_roc_auc=0.65)
OPTIONS = params.Register(
    model_name=NAME,
    margins=params.Margins(
        roc_auc=0.03,
        brier=0.03,
        recent_brier=0.02,
        frozen_roc_auc=0.1,
        frozen_brier=0.06,
        group_brier=0.06,
    ),
    confidence=0.9,
    recent_outcomes=20,
    floors=LIMITS,
    bootstrap=200,
    seed=0,
)
TRAINED = {
    "model": "logistic_regression",
    "synthetic_weight": 0.25,
    "cv_roc_auc": 0.9123,
    "cv_roc_auc_without_second_exam": 0.8765,
    "real_rows": 9000,
    "real_rows_used": 5000,
}

Register = Callable[..., dict[str, Any]]


def group(low: float | None, high: float | None, rows: int = 40) -> dict[str, Any]:
    middle = None if low is None or high is None else (low + high) / 2
    return {"roc_auc": middle, "roc_auc_low": low, "roc_auc_high": high, "rows": rows}


def figures(**changed: Any) -> dict[str, Any]:
    """Figures that pass every floor, with changes."""
    return {
        "roc_auc": 0.9,
        "recall": 0.8,
        "brier": 0.12,
        "groups": {"sex_female": group(0.8, 0.97), "sex_male": group(0.82, 0.95)},
    } | changed


def failed(checks: Any) -> list[str]:
    return [check.name for check in checks if not check.passed]


@pytest.fixture
def held_out(patients: pd.DataFrame) -> pd.DataFrame:
    """The patients that no model of `model_of` was fitted on."""
    return patients[patients.index % 3 == 0]


@pytest.fixture
def figures_of(held_out: pd.DataFrame) -> Callable[[bytes], dict[str, Any]]:
    """The figures of stage evaluate for a model."""
    options = params.Evaluate(threshold=0.5, bootstrap=50, bins=8, seed=0)

    def evaluated(model: bytes) -> dict[str, Any]:
        rows, outcome = files.encoded(held_out)
        return evaluate(held_out, outcome.astype(float), predict(model, rows), options)

    return evaluated


@pytest.fixture
def run(
    store: Any,  # noqa: ARG001
    package_of: Any,
    model_of: Any,
    held_out: pd.DataFrame,
    figures_of: Any,
) -> Register:
    """Register a model as the stage does."""

    def registered(options: params.Register = OPTIONS, **model: Any) -> dict[str, Any]:
        package = package_of(model_of(**model))
        return register(package, figures_of(package.model), TRAINED, held_out, options)

    return registered


def aliases(store: Any) -> dict[str, Any]:
    return dict(store.get_registered_model(NAME).aliases)


def runs(store: Any, experiment: str = NAME) -> list[Any]:
    entry = store.get_experiment_by_name(experiment)
    return list(store.search_runs([entry.experiment_id])) if entry else []


@pytest.fixture
def twice_at_once(run: Register, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The verdicts of two registrations of one model that started at the same time."""
    published, both = registry.publish, threading.Barrier(2)
    verdicts: list[dict[str, Any]] = []

    def publish(*arguments: Any) -> Any:
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(0.3)  # for the other one, unless a lock keeps it away
        return published(*arguments)

    monkeypatch.setattr(registry, "publish", publish)
    threads = [threading.Thread(target=lambda: verdicts.append(run())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return verdicts


# The floors


@pytest.mark.parametrize(
    ("value", "passed"),
    [(0.81, True), (0.8, True), (0.79, False), (None, False), (float("nan"), False)],
)
def test_at_least(value: float | None, passed: bool) -> None:
    check = at_least("recall", value, 0.8)

    assert (check.name, check.limit, check.passed) == ("recall at least", 0.8, passed)


@pytest.mark.parametrize(
    ("value", "passed"),
    [(0.17, True), (0.18, True), (0.19, False), (None, False), (float("nan"), False)],
)
def test_at_most(value: float | None, passed: bool) -> None:
    check = at_most("brier", value, 0.18)

    assert (check.name, check.limit, check.passed) == ("brier at most", 0.18, passed)


def test_a_good_model_passes_every_floor() -> None:
    checks = floors(figures(), LIMITS)

    assert failed(checks) == []
    assert [check.name for check in checks] == [
        "roc_auc at least",
        "recall at least",
        "brier at most",
        "upper end of roc_auc of sex_female at least",
        "upper end of roc_auc of sex_male at least",
    ]


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"roc_auc": 0.79}, "roc_auc at least"),
        ({"recall": 0.59}, "recall at least"),
        ({"brier": 0.19}, "brier at most"),
        ({"brier": None}, "brier at most"),
        ({"roc_auc": float("nan")}, "roc_auc at least"),
    ],
)
def test_each_floor_alone_can_reject(changed: dict[str, Any], name: str) -> None:
    assert failed(floors(figures(**changed), LIMITS)) == [name]


@pytest.mark.parametrize(
    ("figures_of_group", "rejected"),
    [
        (group(0.3, 0.64), True),  # the whole interval lies below the floor
        (group(0.3, 0.66), False),  # the interval includes the floor
        (group(0.64, 0.65), False),
        (group(None, None), False),  # one outcome only: no check
    ],
)
def test_a_group_fails_if_its_whole_interval_is_below_the_floor(
    figures_of_group: dict[str, Any], rejected: bool
) -> None:
    checks = floors(figures(groups={"sex_female": figures_of_group}), LIMITS)

    assert failed(checks) == (["upper end of roc_auc of sex_female at least"] if rejected else [])


def test_a_small_group_is_not_checked() -> None:
    # Two patients, the one with absence with the higher risk: the ROC AUC is 0 in every draw.
    checks = floors(figures(groups={"age_under_50": group(0.0, 0.0, rows=2)}), LIMITS)

    assert failed(checks) == []


def test_the_floors_apply_to_the_frozen_patients_if_there_are_others() -> None:
    recent = group(0.6, 0.7) | {"recall": 0.1, "brier": 0.3}
    frozen = group(0.8, 0.9) | {"recall": 0.7, "brier": 0.1}
    mixed = figures(
        roc_auc=0.7, brier=0.2, groups={"source_raw": frozen, "source_production": recent}
    )

    assert failed(floors(mixed, LIMITS)) == []
    frozen["recall"] = 0.5
    assert failed(floors(mixed, LIMITS)) == ["recall at least"]


# Challenger against champion

ROC_AUC = "roc_auc against the champion, lower end at least"
BRIER = "brier against the champion, upper end at most"
RECENT_BRIER = "recent patients of the service: brier against the champion at most"


def patients_of(
    table: pd.DataFrame,
    challenger: bytes,
    champion: bytes | None = None,
    approved: bytes | None = None,
) -> Patients:
    """Patients with the risks of these models."""
    rows, _ = files.encoded(table)
    others: list[Any] = [m and predict(m, rows).astype(float) for m in (champion, approved)]
    return Patients(table, predict(challenger, rows).astype(float), *others)


def verdict_of(held_out: pd.DataFrame, *models: Any, **changed: Any) -> dict[str, Any]:
    """The verdict without recent patients."""
    return evaluate_gate(patients_of(held_out, *models), None, figures(**changed), OPTIONS)


def ill_more_often(held_out: pd.DataFrame, count: int = 40) -> Patients:
    """Recent patients of whom nearly all are ill; the challenger knows it, the champion does not."""
    ill = held_out[held_out["heart_disease"] == "presence"].head(count - 4)
    healthy = held_out[held_out["heart_disease"] == "absence"].head(4)
    table = pd.concat([ill, healthy]).assign(source="production")
    return Patients(table, np.full(len(table), 0.9), np.full(len(table), 0.5))


def test_without_recent_patients_the_frozen_hold_out_decides(
    held_out: pd.DataFrame, model_of: Any
) -> None:
    verdict = verdict_of(held_out, model_of(), model_of())

    assert verdict["verdict"] == "passed"
    assert verdict["decided_by"] == "frozen hold-out"
    assert [c["name"] for c in verdict["checks"]][-2:] == [ROC_AUC, BRIER]


def test_recent_patients_decide_and_the_frozen_ones_guard_against_collapse(
    held_out: pd.DataFrame, model_of: Any
) -> None:
    """A model for a hospital where more are ill is wrong for the study's patients, and may be promoted."""
    frozen = patients_of(held_out, model_of(), model_of())
    shifted = replace(frozen, challenger=1 / (1 + np.exp(-2) * (1 / frozen.challenger - 1)))
    poor = figures(brier=0.25, recall=0.99)

    alone = evaluate_gate(shifted, None, poor, OPTIONS)
    verdict = evaluate_gate(shifted, ill_more_often(held_out), poor, OPTIONS)

    assert alone["verdict"] == "rejected"
    assert (verdict["verdict"], verdict["decided_by"]) == (
        "passed",
        "recent patients of the service",
    )
    assert verdict["against_champion"]["source_production"]["brier"]["difference"] < -0.1


def test_a_challenger_that_is_worse_for_recent_patients_is_rejected(
    held_out: pd.DataFrame, model_of: Any
) -> None:
    recent = ill_more_often(held_out)
    exchanged = Patients(recent.table, np.full(len(recent.table), 0.5), recent.challenger)

    verdict = evaluate_gate(
        patients_of(held_out, model_of(), model_of()), exchanged, figures(), OPTIONS
    )

    assert failed_names(verdict) == [RECENT_BRIER]


def test_a_collapse_on_the_frozen_patients_is_rejected(
    held_out: pd.DataFrame, model_of: Any
) -> None:
    frozen = patients_of(held_out, model_of(shuffled=True), model_of())

    verdict = evaluate_gate(frozen, ill_more_often(held_out), figures(), OPTIONS)

    assert failed_names(verdict) == [f"frozen hold-out: {name}" for name in (ROC_AUC, BRIER)]


@pytest.mark.parametrize(("count", "decides"), [(19, False), (20, True)])
def test_recent_patients_decide_from_a_number_of_outcomes_on(
    count: int, decides: bool, held_out: pd.DataFrame
) -> None:
    assert ill_more_often(held_out, count).decide(OPTIONS) == decides


def test_recent_patients_of_one_outcome_do_not_decide(held_out: pd.DataFrame) -> None:
    recent = ill_more_often(held_out)

    assert not recent.take((recent.table["heart_disease"] == "presence").to_numpy()).decide(OPTIONS)


# The verdict


def failed_names(verdict: dict[str, Any]) -> list[str]:
    return [check["name"] for check in verdict["checks"] if not check["passed"]]


def test_without_a_champion_the_floors_decide(held_out: pd.DataFrame, model_of: Any) -> None:
    verdict = verdict_of(held_out, model_of())

    assert verdict["verdict"] == "passed"
    assert (verdict["reasons"], verdict["against_champion"]) == ([], {})
    assert len(verdict["checks"]) == 5
    assert all(check["passed"] for check in verdict["checks"])


def test_every_reason_of_a_rejection_is_named(held_out: pd.DataFrame, model_of: Any) -> None:
    verdict = verdict_of(held_out, model_of(), recall=0.512345, brier=None)

    assert verdict["verdict"] == "rejected"
    assert verdict["reasons"] == [
        "recall at least 0.6: it is 0.512",
        "brier at most 0.18: it is nan",
    ]


def test_the_champion_is_scored_on_the_same_patients(held_out: pd.DataFrame, model_of: Any) -> None:
    verdict = verdict_of(held_out, model_of(shuffled=True), model_of())

    assert verdict["verdict"] == "rejected"
    roc_auc, brier = verdict["reasons"]
    assert roc_auc.startswith(f"{ROC_AUC} -0.03: it is -0.")
    assert brier.startswith(f"{BRIER} 0.03: it is 0.")
    assert verdict["against_champion"]["all"]["roc_auc"]["difference"] < -0.2


def test_risks_with_the_same_ranks_but_a_worse_brier_score_are_rejected(
    held_out: pd.DataFrame, model_of: Any
) -> None:
    [reason] = verdict_of(held_out, model_of(strength=0.001), model_of())["reasons"]

    assert reason.startswith(BRIER)


def test_shuffled_outcomes_are_rejected_for_every_permutation(
    patients: pd.DataFrame, held_out: pd.DataFrame, model_of: Any
) -> None:
    rows, outcome = files.encoded(patients.drop(held_out.index))
    later = rows + np.eye(len(NAMES))[NAMES.index("age")]
    random = np.random.default_rng(0)

    def verdict(had: Any) -> Any:
        """The verdict on a model that is fitted also on the same patients a year later, with these outcomes."""
        x, y = np.vstack([rows, later]), np.concatenate([outcome, had])
        model = export(ChainedLogisticRegression(C=0.1).fit(x, y)).SerializeToString()
        return verdict_of(held_out, model, model_of())["verdict"]

    assert verdict(outcome) == "passed"
    assert [verdict(random.permutation(outcome)) for _ in range(10)] == ["rejected"] * 10


# Registering


def test_the_first_good_model_becomes_champion(run: Register, store: Any) -> None:
    verdict = run()

    assert (verdict["verdict"], verdict["model"], verdict["version"]) == ("passed", NAME, 1)
    assert verdict["champion"] is None
    assert aliases(store) == {"champion": 1}
    tag = store.get_model_version(NAME, "1").tags[VERDICT]
    assert json.loads(tag) == verdict


def test_a_first_model_below_the_floors_is_kept_without_alias(run: Register, store: Any) -> None:
    verdict = run(shuffled=True)

    assert verdict["verdict"] == "rejected"
    assert aliases(store) == {}
    assert json.loads(store.get_model_version(NAME, "1").tags[VERDICT]) == verdict


def test_a_clearly_worse_challenger_leaves_the_champion(run: Register, store: Any) -> None:
    run()

    verdict = run(shuffled=True)

    assert (verdict["verdict"], verdict["version"], verdict["champion"]) == ("rejected", 2, 1)
    for name in (ROC_AUC, BRIER):
        assert any(reason.startswith(name) for reason in verdict["reasons"])
    assert aliases(store) == {"champion": 1}
    assert "Verdict: rejected; " in store.get_model_version(NAME, "2").description


def test_an_equally_good_challenger_becomes_champion(run: Register, store: Any) -> None:
    run()

    verdict = run(strength=0.12)

    assert (verdict["verdict"], verdict["version"]) == ("passed", 2)
    assert aliases(store) == {"champion": 2, "previous": 1}


def test_a_better_challenger_becomes_champion(run: Register, store: Any) -> None:
    no_floors = params.Floors(roc_auc=0.01, recall=0.01, brier=0.99, group_roc_auc=0.01)
    run(OPTIONS.model_copy(update={"floors": no_floors}), shuffled=True)

    verdict = run()

    assert verdict["verdict"] == "passed"
    assert verdict["against_champion"]["all"]["roc_auc"]["low"] > 0
    assert aliases(store) == {"champion": 2, "previous": 1}


def test_the_run_of_a_version_has_its_number_verdict_and_card(run: Register, store: Any) -> None:
    run()

    (logged,) = runs(store)

    assert logged.info.run_name.startswith("version 1: ")
    assert logged.data.tags["verdict"] == "passed"
    assert logged.data.tags["mlflow.note.content"] == store.get_model_version(NAME, "1").description


def test_the_run_of_a_challenger_has_the_comparison_with_the_champion(
    run: Register, store: Any, tmp_path: Path
) -> None:
    run()
    run(shuffled=True)

    first, second = sorted(runs(store), key=lambda entry: entry.info.run_name)
    text = Path(store.download_artifacts(second.info.run_id, "comparison.md", tmp_path)).read_text()

    assert "A: `version 1`, B: `version 2`" in text
    assert text.count("| worse |") >= 2
    assert "comparison.md" not in [f.path for f in store.list_artifacts(first.info.run_id)]


def test_the_tables_of_a_run_are_known_by_hash_and_columns_without_a_row(
    store: Any, package_of: Any, model_of: Any, held_out: pd.DataFrame
) -> None:
    table = Dataset(held_out, Path("data/test.csv"), "evaluation", "ab" * 16)
    package = replace(package_of(model_of()), datasets={"heart-test": table})

    with registry.run(store.create_experiment("tables"), package):
        pass

    (logged,) = runs(store, "tables")
    (used,) = logged.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("heart-test", "ab" * 16)
    assert json.loads(used.dataset.profile) == {
        "num_rows": len(held_out), "num_elements": held_out.size,
    }  # fmt: skip


def test_the_same_model_twice_at_once_is_one_version(
    twice_at_once: list[dict[str, Any]], store: Any
) -> None:
    first, second = twice_at_once

    assert first == second
    assert len(store.search_model_versions(f"name = '{NAME}'")) == len(runs(store)) == 1


def test_the_same_model_again_changes_nothing(run: Register, store: Any) -> None:
    first = run()
    before = store.get_model_version(NAME, "1"), store.get_registered_model(NAME), len(runs(store))

    again = run()

    assert again == first
    after = store.get_model_version(NAME, "1"), store.get_registered_model(NAME), len(runs(store))
    assert list(map(str, after)) == list(map(str, before))
    assert after[2] == 1
    assert len(store.search_model_versions(f"name = '{NAME}'")) == 1


@pytest.mark.parametrize("damage", [lambda file: file.write_bytes(b"other"), Path.unlink])
def test_a_damaged_version_does_not_keep_its_verdict(
    run: Register, store: Any, damage: Callable[[Path], Any]
) -> None:
    run()
    folder = store.get_model_version_download_uri(NAME, "1").removeprefix("file://")
    damage(Path(folder) / "model.onnx")

    with pytest.raises(UserError, match=r"heart-disease version 1: model\.onnx"):
        run()


def test_a_rejected_model_stays_rejected(run: Register, store: Any) -> None:
    verdict = run(shuffled=True)
    run()

    assert run(shuffled=True) == verdict
    assert aliases(store) == {"champion": 2}


def test_an_interruption_before_the_verdict_is_completed(
    run: Register, store: Any, package_of: Any, model_of: Any
) -> None:
    experiment = local_store.experiment(store, NAME)
    registry.publish(store, NAME, experiment, package_of(model_of()), "a card")

    verdict = run()

    assert (verdict["verdict"], verdict["version"]) == ("passed", 1)
    assert len(store.search_model_versions(f"name = '{NAME}'")) == 1
    assert len(runs(store)) == 1
    assert aliases(store) == {"champion": 1}
    assert json.loads(store.get_model_version(NAME, "1").tags[VERDICT]) == verdict


def test_an_interruption_after_the_promotion_is_completed(
    run: Register, store: Any, package_of: Any, model_of: Any
) -> None:
    run()
    experiment = local_store.experiment(store, NAME)
    second = package_of(model_of(strength=0.12))
    set_champion(store, NAME, registry.publish(store, NAME, experiment, second, "a card").version)

    verdict = run(strength=0.12)

    assert (verdict["verdict"], verdict["version"], verdict["champion"]) == ("passed", 2, 1)
    assert aliases(store) == {"champion": 2, "previous": 1}


def test_a_champion_with_another_schema_is_not_compared(run: Register, store: Any) -> None:
    run()
    store.set_model_version_tag(NAME, "1", SCHEMA, "another")

    verdict = run(strength=0.12)

    assert (verdict["verdict"], verdict["against_champion"]) == ("passed", {})
    assert verdict["champion"] is None
    assert aliases(store) == {"champion": 2, "previous": 1}


# The card


def test_the_card_has_figures_verdict_and_the_note_on_medical_devices(
    run: Register, store: Any, model_of: Any, figures_of: Any
) -> None:
    run()

    card = store.get_model_version(NAME, "1").description

    scores = figures_of(model_of())
    assert "**Not a medical device.**" in card
    assert (
        f"| ROC AUC | {scores['roc_auc']:.3f} "
        f"({scores['roc_auc_low']:.3f} to {scores['roc_auc_high']:.3f}) |" in card
    )
    assert f"{scores['rows']} real held-out patients ({scores['presence']} with disease)" in card
    for name, group in scores["groups"].items():
        assert f"| {name.replace('_', ' ')} | {group['rows']} | {group['roc_auc']:.3f} (" in card
    assert "Model: logistic regression, weight of synthetic rows 0.25" in card
    assert "Cross-validated on 5000 of 9000 training patients" in card
    assert "ROC AUC 0.912; " in card
    assert " 0.876." in card
    assert "Verdict: passed." in card
    assert "CC BY 4.0" in card


def test_the_card_shows_a_dash_for_figures_that_cannot_be_computed(
    package_of: Any, model_of: Any, figures_of: Any
) -> None:
    scores = figures_of(model_of())
    for end in ("", "_low", "_high"):
        scores[f"precision{end}"] = None

    card = model_card(scores, TRAINED, {"verdict": "passed", "reasons": []}, package_of(model_of()))

    assert "| Precision | - |" in card


@pytest.mark.parametrize(("high", "warned"), [(0.6, False), (0.61, True)])
def test_the_card_warns_of_synthetic_rows_that_tell_who_was_among_the_patients(
    high: float, warned: bool, package_of: Any, model_of: Any, figures_of: Any
) -> None:
    attack = {"auc": 0.55, "low": 0.5, "high": high}
    package = package_of(model_of())
    figures = {f"synthesize.membership_{end}": value for end, value in attack.items()}
    package = replace(package, metrics=package.metrics | figures)

    card = model_card(
        figures_of(model_of()), TRAINED, {"verdict": "passed", "reasons": []}, package
    )

    assert (f"0.550 (0.500 to {high:.3f})" in card) == warned


@pytest.mark.parametrize("private", [False, True])
def test_the_card_states_the_guarantee_of_private_synthetic_rows(
    private: bool, package_of: Any, model_of: Any, figures_of: Any
) -> None:
    package = package_of(model_of())
    guarantee = {"epsilon": 1.5, "delta": 0.00001, "epsilon_of_all_generators": 3.25}
    if private:
        figures = {f"synthesize.dp_{name}": value for name, value in guarantee.items()}
        package = replace(package, metrics={**package.metrics, **figures})

    card = model_card(
        figures_of(model_of()), TRAINED, {"verdict": "passed", "reasons": []}, package
    )

    assert [text in card for text in ("epsilon 1.5", "1e-05", "3.25")] == [private] * 3


# The governance documents


def test_a_version_gets_its_documents_before_its_verdict(
    store: Any,
    package_of: Any,
    model_of: Any,
    held_out: pd.DataFrame,
    figures_of: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[dict[str, Any]] = []

    def log(_: Any, version: Any, documents: dict[str, Any]) -> None:
        assert VERDICT not in store.get_model_version(NAME, str(version.version)).tags
        given.append(documents)

    monkeypatch.setattr(governance, "log", log)
    package = package_of(model_of())
    arguments = package, figures_of(package.model), TRAINED, held_out, OPTIONS

    verdict = register(*arguments, documents={"train": TRAINED})
    register(*arguments, documents={"train": TRAINED})

    assert given == [{"train": TRAINED, "register": verdict}]


# Experiments


def test_an_experiment_is_logged_but_never_registered(
    run: Register,
    store: Any,
    package_of: Any,
    model_of: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run()
    monkeypatch.setenv("DVC_EXP_NAME", "forest")

    verdict = log_experiment(package_of(model_of(strength=0.3)), OPTIONS)

    assert verdict["verdict"] == "experiment"
    assert "dvc exp apply" in verdict["reasons"][0]
    assert "version" not in verdict
    [logged] = runs(store, f"{NAME}-experiments")
    assert logged.data.tags["dvc_experiment"] == logged.info.run_name == "forest"
    assert logged.data.metrics == {"evaluate.roc_auc": 0.9}
    assert len(store.search_model_versions(f"name = '{NAME}'")) == 1
    assert aliases(store) == {"champion": 1}


# The origin of a model


def test_the_training_summary_has_ranges_and_quantiles_but_no_patient(
    patients: pd.DataFrame,
) -> None:
    train = patients.assign(cholesterol=["", *patients["cholesterol"][1:]])

    summary = training(train)

    assert set(summary) == {"rows", "presence", "numbers"}
    assert summary["rows"] == len(train)
    assert summary["presence"] == pytest.approx((train["heart_disease"] == "presence").mean())
    assert set(summary["numbers"]) == {m.name for m in MEASUREMENTS if not m.choices}
    for name, numbers in summary["numbers"].items():
        values = pd.to_numeric(train[name])
        assert (numbers["low"], numbers["high"]) == (values.min(), values.max())
        assert (
            numbers["low"]
            <= numbers["quantiles"][0]
            <= numbers["quantiles"][1]
            <= numbers["quantiles"][2]
        )
        assert numbers["quantiles"][1] == values.median()


def test_a_measurement_that_no_training_patient_has_does_not_make_a_version_invalid(
    patients: pd.DataFrame,
) -> None:
    summary = training(patients.assign(cholesterol=""))

    assert "cholesterol" not in summary["numbers"]
    check_ranges(json.loads(json.dumps(summary)))


def test_the_commit_has_a_suffix_if_files_differ_from_it(
    command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    outside = git_commit()
    (tmp_path / "file").write_text("one")
    for line in ("git init --quiet", "git add file", "git commit --quiet -m one"):
        command(line, tmp_path)
    head = command("git rev-parse HEAD", tmp_path).stdout.strip()
    clean = git_commit()
    (tmp_path / "file").write_text("two")

    assert (outside, clean, git_commit()) == ("", head, f"{head}-dirty")


def test_md5_is_the_hash_of_dvc(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")

    assert files.md5(tmp_path / "file") == "900150983cd24fb0d6963f7d28e17f72"


# The approved version


@pytest.mark.security
def test_small_wrong_steps_do_not_add_up(
    patients: pd.DataFrame, held_out: pd.DataFrame, figures_of: Any, security_figure: Any
) -> None:
    """Each step has a few more wrong outcomes of women than the one before it."""
    training = patients[patients.index % 3 != 0]
    rows, outcome = files.encoded(training)
    wrong = np.flatnonzero((training["sex"] == "female").to_numpy())

    def model(count: int) -> bytes:
        reported = outcome.copy()
        reported[wrong[:count]] = 1 - reported[wrong[:count]]
        estimator = ChainedLogisticRegression(C=0.1).fit(rows, reported)
        return bytes(export(estimator).SerializeToString(deterministic=True))

    steps = [model(count) for count in range(0, len(wrong), 3)]
    first, champion, alone, together = steps[0], steps[0], [], []
    for step in steps[1:]:
        alone.append(
            evaluate_gate(patients_of(held_out, step, champion), None, figures_of(step), OPTIONS)
        )
        both = patients_of(held_out, step, champion, first)
        together.append(evaluate_gate(both, None, figures_of(step), OPTIONS))
        champion = step

    passed_alone, passed = (
        [verdict["verdict"] for verdict in [*verdicts, {"verdict": "rejected"}]].index("rejected")
        for verdicts in (alone, together)
    )
    assert passed < passed_alone
    security_figure(
        "steps of 3 more wrong outcomes each, compared with the champion alone and cumulatively",
        f"{passed_alone} steps pass alone, {passed} cumulatively",
        "fewer pass cumulatively",
    )
