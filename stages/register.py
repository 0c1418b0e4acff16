"""Stage register: publish the model to MLflow; the promotion gate decides whether it becomes the champion.

Idempotent: a model whose hash is in the registry already keeps its verdict. In a `dvc exp run` the model
is logged as a run of an experiment and never registered.
"""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from heart import files
from heart.errors import run_main
from heart.ml.comparison import ALL, compare
from heart.ml.groups import source_group
from heart.ml.onnx_export import predict
from heart.registry import local_store, signing
from heart.registry import model_card as card
from heart.registry import publishing as registry
from heart.registry.aliases import (
    PASSED,
    REFERENCE,
    REJECTED,
    SCHEMA,
    STANDARD_ERROR,
    THRESHOLD,
    TRAINING,
    VERDICT,
    approved_version,
    set_champion,
)
from heart.registry.compare import Comparison, as_markdown, evaluate
from heart.schema import MEASUREMENTS, OUTCOME, fingerprint
from stages import params

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

RECORD = registry.FOLDER / "registered.json"
GROUP_ROWS = 10
# Groups of held-out patients: those on which every version is evaluated, and those of the service.
FROZEN, RECENT = source_group(files.RAW_SOURCE), source_group(files.PRODUCTION_SOURCE)
EXPERIMENT = "experiment"


@dataclass(frozen=True)
class Check:
    """One condition of the promotion gate: `value` must be at least (`at_most`: at most) `limit`."""

    name: str
    value: float
    limit: float
    passed: bool


def at_least(name: str, value: float | None, limit: float) -> Check:
    """A check that a value is at least a limit; a value that cannot be computed fails."""
    number = float("nan") if value is None else value
    return Check(f"{name} at least", number, limit, number >= limit)


def at_most(name: str, value: float | None, limit: float) -> Check:
    """A check that a value is at most a limit; a value that cannot be computed fails."""
    number = float("nan") if value is None else value
    return Check(f"{name} at most", number, limit, number <= limit)


def floors(figures: Mapping[str, Any], limits: params.Floors) -> list[Check]:
    """The floors of scores on the frozen hold-out and in each group of held-out patients.

    A group fails only if its whole interval is below the floor. A group without both outcomes, or with
    fewer patients than GROUP_ROWS, is not checked.
    """
    whole = figures["groups"].get(FROZEN, figures)
    checks = [
        at_least("roc_auc", whole["roc_auc"], limits.roc_auc),
        at_least("recall", whole["recall"], limits.recall),
        at_most("brier", whole["brier"], limits.brier),
    ]
    for name, group in figures["groups"].items():
        if group["roc_auc_high"] is not None and group["rows"] >= GROUP_ROWS:
            label = f"upper end of roc_auc of {name}"
            checks.append(at_least(label, group["roc_auc_high"], limits.group_roc_auc))
    return checks


def not_worse(against: Mapping[str, Any], options: params.Register) -> list[Check]:
    """Checks that the challenger is worse by less than the margins, from the figures of `compare`.

    For the ROC AUC and the Brier score: partly wrong outcomes move every risk to the middle, which does
    not change the ROC AUC. On the frozen hold-out, and on held-out patients of the service if there are
    enough: with fewer, the width of the interval alone would reject even an equal challenger.
    """
    frozen, recent = against.get(FROZEN, against[ALL]), against.get(RECENT)
    checks = _within("", frozen, options.margins)
    if recent and _smaller_class(recent) >= options.recent_per_class:
        checks += _within(f"{RECENT}: ", recent, options.margins)
    return checks


def not_far(against: Mapping[str, Any], options: params.Register) -> list[Check]:
    """Checks against the version that a person approved: overall, and in each group of sex and age.

    Many small steps, each of which passes against the champion before it, must not add up. Wrong
    outcomes of one group of patients move its Brier score before that of all.
    """
    frozen = against.get(FROZEN, against[ALL])
    checks = _within("", frozen, options.margins, "the approved version")
    for name, scores in against.items():
        if not name.startswith(("sex_", "age_")):
            continue
        if scores["rows"] >= GROUP_ROWS and _smaller_class(scores):
            label = f"{name}: brier against the approved version, upper end"
            checks.append(at_most(label, scores["brier"]["high"], options.margins.group_brier))
    return checks


def _within(
    where: str,
    scores: Mapping[str, Any],
    margins: params.Margins,
    other: str = "the champion",
) -> list[Check]:
    def label(score: str, end: str) -> str:
        return f"{where}{score} against {other}, {end} end"

    return [
        at_least(label("roc_auc", "lower"), scores["roc_auc"]["low"], -margins.roc_auc),
        at_most(label("brier", "upper"), scores["brier"]["high"], margins.brier),
    ]


def _smaller_class(figures: Mapping[str, Any]) -> int:
    return int(min(figures["presence"], figures["rows"] - figures["presence"]))


def evaluate_gate(
    model: bytes,
    test: pd.DataFrame,
    figures: Mapping[str, Any],
    champion: bytes | None,
    options: params.Register,
    approved: bytes | None = None,
) -> dict[str, Any]:
    """The verdict of the promotion gate, with every check.

    `champion` is None if there is none to beat, `approved` if there is no version that a person approved.
    """
    checks = floors(figures, options.floors)
    against: dict[str, Any] = {}
    if champion is not None:
        against = _against(model, champion, test, options)
        checks += not_worse(against, options)
    if approved is not None:
        far = against if approved == champion else _against(model, approved, test, options)
        checks += not_far(far, options)
    failed = [check for check in checks if not check.passed]
    return {
        "verdict": REJECTED if failed else PASSED,
        "reasons": [f"{c.name} {c.limit:g}: it is {c.value:.3g}" for c in failed],
        "checks": [asdict(check) for check in checks],
        "against_champion": against,
    }


def _against(
    model: bytes, other: bytes, test: pd.DataFrame, options: params.Register
) -> dict[str, Any]:
    rows, _ = files.encoded(test)
    return compare(test, predict(model, rows), predict(other, rows), options)


def package(
    model: bytes, figures: Mapping[str, Any], trained: Mapping[str, Any]
) -> registry.Package:
    """The version to publish, with the origin of its data."""
    by_stage = {"evaluate": figures, "train": trained}
    metrics = {
        f"{stage}.{name}": float(value)
        for stage, content in by_stage.items()
        for name, value in content.items()
        if isinstance(value, int | float)
    }
    parameters = {
        f"{section}.{name}": value
        for section, model_class in params.SECTIONS.items()
        for name, value in model_class.load().model_dump(mode="json").items()
    }
    return registry.Package(
        model,
        figures["threshold"],
        {
            STANDARD_ERROR: files.ERROR.read_bytes(),
            REFERENCE: files.REFERENCE.read_bytes(),
            TRAINING: registry.as_json(training(files.read_table(files.TRAIN))),
        },
        parameters,
        metrics,
        {
            "git_commit": git_commit(),
            # The hashes in dvc.lock, by which the rows of every model can be found.
            "train_md5": files.md5(files.TRAIN),
            "test_md5": files.md5(files.TEST),
            "out_of_fold_md5": files.md5(files.OUT_OF_FOLD),
            "requirements_md5": files.md5(files.LOCK),
        },
        # Not metrics/register.json: it is of another model until the promotion gate has run.
        [files.METRICS / f"{stage}.json" for stage in params.SECTIONS if stage != "register"]
        + sorted(files.PLOTS.iterdir()),
        run_name=str(trained["model"]),
        datasets={
            "heart-train": _dataset(files.TRAIN, "training"),
            "heart-test": _dataset(files.TEST, "evaluation"),
        },
    )


def _dataset(path: Path, context: str) -> registry.Dataset:
    return registry.Dataset(files.read_table(path), path, context, files.md5(path))


def training(train: pd.DataFrame) -> dict[str, Any]:
    """Ranges and quantiles of the training patients for the service, never a row."""
    numbers = {}
    for measurement in MEASUREMENTS:
        if not measurement.choices:
            values = pd.to_numeric(train[measurement.name], errors="coerce").dropna()
            low, *middle, high = values.quantile([0, 0.05, 0.5, 0.95, 1]).tolist()
            numbers[measurement.name] = {"low": low, "quantiles": middle, "high": high}
    return {
        "rows": len(train),
        "presence": float((train[OUTCOME.name] == OUTCOME.choices[1].name).mean()),
        "numbers": numbers,
    }


def git_commit() -> str:
    """The current commit, with a suffix if files differ from it; empty outside of git."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return ""
    return described.stdout.strip()


def _comparable(version: "ModelVersion | None") -> bytes | None:
    """The model of a version with the schema of this one; None without one."""
    if version is None or version.tags.get(SCHEMA) != fingerprint():
        return None
    return registry.load(version)


def register(package: registry.Package, figures: Mapping[str, Any], trained: Mapping[str, Any],
             test: pd.DataFrame, options: params.Register) -> dict[str, Any]:  # fmt: skip
    """Publish a version, and promote it if it passes the gate. Returns the verdict, a tag of the version."""
    client = registry.connect()
    name = options.model_name
    # Without the lock, two processes could each publish a version of this model.
    with registry.exclusive(client):
        version = registry.find(client, name, package)
        if version is not None and VERDICT in version.tags:
            return dict(json.loads(version.tags[VERDICT]))
        champion = registry.version_to_beat(client, name, version)
        approved = approved_version(client, name)
        model, approved_model = _comparable(champion), _comparable(approved)
        verdict = evaluate_gate(package.model, test, figures, model, options, approved_model)
        if version is None:
            experiment = local_store.experiment(client, name)
            text = card.model_card(figures, trained, verdict, package)
            version = registry.publish(client, name, experiment, package, text)
        signing.sign(client, name, version.version)  # before an alias names it
        verdict |= {"model": name, "version": int(version.version)}
        verdict["rival"] = int(champion.version) if champion is not None and model else None
        verdict["approved"] = int(approved.version) if approved and approved_model else None
        if verdict["verdict"] == PASSED:
            set_champion(client, name, version.version)
        client.set_tag(version.run_id, "verdict", verdict["verdict"])
        if champion is not None and model is not None:
            text = _comparison(test, (champion, model), (version, package))
            client.log_text(version.run_id, text, "comparison.md")
        client.set_model_version_tag(name, version.version, VERDICT, json.dumps(verdict))
        return verdict


def _comparison(
    test: pd.DataFrame,
    champion: tuple["ModelVersion", bytes],
    challenger: tuple["ModelVersion", registry.Package],
) -> str:
    """The comparison with the champion on the held-out patients as Markdown."""
    (old, model), (new, package) = champion, challenger
    part = evaluate(test, (model, float(old.tags[THRESHOLD])), (package.model, package.threshold))
    if part is None:
        return "Too few held-out patients of one outcome to compare with the champion."
    return as_markdown(Comparison(f"version {old.version}", f"version {new.version}", part, None))


def log_experiment(package: registry.Package, options: params.Register) -> dict[str, Any]:
    """Log the model of a `dvc exp run` as a run of the experiments; nothing is registered."""
    client = registry.connect()
    experiment = local_store.experiment(client, f"{options.model_name}-experiments")
    name = os.environ.get("DVC_EXP_NAME", "")
    named_package = replace(package, run_name=name, tags={**package.tags, "dvc_experiment": name})
    with registry.run(experiment, named_package):
        pass
    return {"verdict": EXPERIMENT, "model": options.model_name, "reasons": [
        "experiments are not registered: run `dvc exp apply`, commit, then `make register`"
    ]}  # fmt: skip


def main() -> None:
    options = params.Register.load()
    figures = json.loads((files.METRICS / "evaluate.json").read_text())
    trained = json.loads((files.METRICS / "train.json").read_text())
    published = package(files.ONNX.read_bytes(), figures, trained)
    if "DVC_EXP_BASELINE_REV" in os.environ:
        verdict = log_experiment(published, options)
    else:
        verdict = register(published, figures, trained, files.read_table(files.TEST), options)
    files.write_metrics("register", verdict)
    files.write_json(RECORD, {"model_sha256": published.sha256})
    version = f"version {verdict['version']}, " if "version" in verdict else ""
    print(f"{verdict['model']}: {version}{'; '.join([verdict['verdict'], *verdict['reasons']])}")


if __name__ == "__main__":
    run_main(main)
