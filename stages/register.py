"""Stage register: publish the model to MLflow; the promotion gate decides whether it becomes the champion.

Idempotent: a model whose hash is in the registry already keeps its verdict. In a `dvc exp run` the model
is logged as a run of an experiment and never registered.
"""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from heart import files
from heart.errors import run_main
from heart.ml.onnx_export import predict
from heart.registry import governance, local_store, signing
from heart.registry import model_card as card
from heart.registry import publishing as registry
from heart.registry.aliases import (
    PASSED,
    REFERENCE,
    SCHEMA,
    STANDARD_ERROR,
    THRESHOLD,
    TRAINING,
    VERDICT,
    approved_version,
    set_champion,
)
from heart.registry.compare import Comparison, as_markdown, evaluate, trained_on
from heart.registry.gate import Patients, evaluate_gate
from heart.schema import MEASUREMENTS, OUTCOME, fingerprint
from stages import params

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

RECORD = registry.FOLDER / "registered.json"
EXPERIMENT = "experiment"


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
    attack = json.loads((files.METRICS / "synthesize.json").read_text())["membership_attack"]
    metrics |= {f"synthesize.membership_{end}": attack[end] for end in ("auc", "low", "high")}
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
            if values.empty:
                continue  # no training patient has it
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


def labelled(
    package: registry.Package,
    test: pd.DataFrame,
    trained: pd.DataFrame | None,
    champion: "ModelVersion | None",
    approved: "ModelVersion | None",
) -> tuple[Patients, Patients | None]:
    """The frozen hold-out, and the recent patients of the service, from whom no model has learned.

    `trained` are the challenger's training rows with their out-of-fold `probability`. A training patient of an
    older version whose data are not in DVC's cache is left out, since it may have learned from it.
    """
    others = [
        version if version and _comparable(version) else None for version in (champion, approved)
    ]
    service = test["source"] == files.PRODUCTION_SOURCE
    frozen = _with_risks(test[~service] if (~service).any() else test, package, None, others)
    recent = [_with_risks(test[service], package, None, others)]
    if trained is not None:
        own = trained[trained["source"] == files.PRODUCTION_SOURCE]
        recent.append(
            _with_risks(own, package, own["probability"].astype(float).to_numpy(), others)
        )
    parts = [part for part in recent if len(part.table)]
    if not parts or not (~service).any():
        return frozen, None
    risks = zip(*((p.challenger, p.champion, p.approved) for p in parts), strict=True)
    together = Patients(
        pd.concat([part.table for part in parts], ignore_index=True),
        *(None if part[0] is None else np.concatenate(part) for part in risks),  # type: ignore[arg-type]
    )
    known = [~np.isnan(r) for r in (together.champion, together.approved) if r is not None]
    return frozen, together.take(
        np.all(known, axis=0) if known else np.ones(len(together.table), bool)
    )


def _with_risks(
    table: pd.DataFrame,
    package: registry.Package,
    out_of_fold: Any,
    others: "Sequence[ModelVersion | None]",
) -> Patients:
    """Patients with the risks of the challenger and of other versions; NaN where one may have learned from them."""
    rows, _ = files.encoded(table)
    own = predict(package.model, rows).astype(float) if out_of_fold is None else out_of_fold
    held_out = out_of_fold is None
    return Patients(table, own, *(v and _risks(v, table, rows, held_out=held_out) for v in others))


def _risks(version: "ModelVersion", table: pd.DataFrame, rows: Any, *, held_out: bool) -> Any:
    risks = predict(registry.load(version), rows).astype(float)
    if held_out:  # for every version: the side depends on the patient's id alone
        return risks
    known = trained_on(version)
    if known is None:
        return np.full(len(table), np.nan)
    seen = table["patient_id"].map(known)
    return np.where(seen.isna(), risks, seen.astype(float))


def register(package: registry.Package, figures: Mapping[str, Any], trained: Mapping[str, Any],
             test: pd.DataFrame, options: params.Register,
             training_rows: pd.DataFrame | None = None,
             documents: Mapping[str, Any] | None = None) -> dict[str, Any]:  # fmt: skip
    """Publish a version, and promote it if it passes the gate. Returns the verdict, a tag of the version.

    Raises UserError if the version is there already and its model has been changed or lost.

    `training_rows` have the challenger's out-of-fold `probability`; without them, only held-out patients decide.
    `documents` have the figures of all stages, from which the version gets its model cards and checklists.
    """
    client = registry.connect()
    name = options.model_name
    # Without the lock, two processes could each publish a version of this model.
    with registry.exclusive(client):
        version = registry.find(client, name, package)
        if version is not None and VERDICT in version.tags:
            registry.load(version)  # its file may have been changed or lost since
            return dict(json.loads(version.tags[VERDICT]))
        champion = registry.version_to_beat(client, name, version)
        approved = approved_version(client, name)
        model, approved_model = _comparable(champion), _comparable(approved)
        patients = labelled(package, test, training_rows, champion, approved)
        verdict = evaluate_gate(*patients, figures, options)
        if version is None:
            experiment = local_store.experiment(client, name)
            text = card.model_card(figures, trained, verdict, package)
            version = registry.publish(client, name, experiment, package, text)
        signing.sign(client, name, version.version)  # before an alias names it
        verdict |= {"model": name, "version": int(version.version), "update": _rung(trained)}
        verdict["champion"] = int(champion.version) if champion is not None and model else None
        verdict["approved"] = int(approved.version) if approved and approved_model else None
        if verdict["verdict"] == PASSED:
            set_champion(client, name, version.version)
        client.set_tag(version.run_id, "verdict", verdict["verdict"])
        if champion is not None and model is not None:
            text = _comparison(test, (champion, model), (version, package))
            client.log_text(version.run_id, text, "comparison.md")
        if documents is not None:
            governance.log(client, version, {**documents, "register": verdict})
        client.set_model_version_tag(name, version.version, VERDICT, json.dumps(verdict))
        return verdict


def _rung(trained: Mapping[str, Any]) -> str | None:
    """The rung of the ladder of updates; None without outcomes of the service."""
    return (trained.get("update") or {}).get("rung")


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
        rows = files.read_table(files.TRAIN).merge(
            files.read_table(files.OUT_OF_FOLD), on="patient_id"
        )
        test = files.read_table(files.TEST)
        documents = governance.of_stages()
        verdict = register(published, figures, trained, test, options, rows, documents)
    files.write_metrics("register", verdict)
    files.write_json(RECORD, {"model_sha256": published.sha256})
    version = f"version {verdict['version']}, " if "version" in verdict else ""
    print(f"{verdict['model']}: {version}{'; '.join([verdict['verdict'], *verdict['reasons']])}")


if __name__ == "__main__":
    run_main(main)
