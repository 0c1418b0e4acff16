"""The outcome check of a retraining: outcomes that do not agree with their measurements are not learned from.

Outcomes that are not in the file yet are checked, once, with the risks of the champion: all of them, and by sender,
source, hour, sex and age. `heart/ml/outcome_check.py` has the tests. Quarantined outcomes stay in the prediction log;
every retraining checks them again. There are two ways out: `make withdraw` for wrong ones, and for right ones
`make release-outcomes`, which is recorded with who, when and why.
"""

import argparse
import getpass
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from heart import files
from heart.errors import UserError, run_main
from heart.ml.groups import groups
from heart.ml.onnx_export import predict
from heart.ml.outcome_check import ALL, CONTRADICTED, Finding, OutcomeCheck, check_outcomes
from heart.params import Registered
from heart.registry import local_store
from heart.registry import publishing as registry
from heart.registry.aliases import CHAMPION, SCHEMA, aliases
from heart.schema import OUTCOME, fingerprint
from monitoring.retraining import collect
from monitoring.times import time

if TYPE_CHECKING:
    from mlflow import MlflowClient

HOUR_OUTCOMES = 10  # fewer recorded within an hour are no subset of their own
RELEASE = ("sender", "since", "until", "by", "reason")  # the tags of a release


@dataclass(frozen=True)
class Quarantine:
    """The outcomes that may be learned from, and why others may not."""

    kept: pd.DataFrame
    quarantined: pd.DataFrame
    findings: tuple[Finding, ...] = ()

    @property
    def summary(self) -> str:
        """The findings in one line, with the ways out; empty without findings."""
        if not self.findings:
            return ""
        reasons = "; ".join(map(describe, self.findings))
        senders = collect.by_sender(collect.count_senders(self.quarantined))
        return (
            f"{len(self.quarantined)} outcomes are quarantined ({senders}), nothing is learned from them: {reasons}. "
            "If they are wrong: make withdraw SENDER=…. If they are right: make release-outcomes SENDER=… REASON=…"
        )


def describe(finding: Finding) -> str:
    """A finding in plain words."""
    whom = "of all new outcomes" if finding.subset == ALL else f"of {finding.subset}"
    ill = f"{finding.with_disease} of {finding.patients} with disease"
    if finding.auc is None or (finding.reason == CONTRADICTED and finding.subset != ALL):
        return f"{whom}: {ill}, about {finding.expected_with_disease:.0f} expected from the others"
    auc = f"{finding.auc:.2f} ({finding.auc_low:.2f} to {finding.auc_high:.2f})"
    return f"{whom} ({ill}): ROC AUC {auc}, about {finding.expected_auc:.2f} expected: {finding.reason}"


def check(labelled: pd.DataFrame, client: "MlflowClient", name: str) -> Quarantine:
    """Separate the outcomes of `collect.labelled` that do not agree with their measurements.

    Without a champion of this schema there are no risks to check with, and all are kept.
    """
    champion = _champion(client, name)
    new = ~labelled[collect.PATIENT].isin(_known(labelled)) & ~_released(labelled, client, name)
    if champion is None or not new.any():
        return Quarantine(labelled, labelled.head(0))
    table = labelled[new]
    rows, outcome = files.encoded(table)
    risk = predict(champion, rows).astype(float)
    result: OutcomeCheck = check_outcomes(risk, outcome.astype(float), subsets(table))
    quarantined = new.copy()
    quarantined[new] = result.quarantined
    return Quarantine(
        labelled[~quarantined].reset_index(drop=True),
        labelled[quarantined].reset_index(drop=True),
        result.findings,
    )


def subsets(table: pd.DataFrame) -> dict[str, Any]:
    """The parts of the outcomes that are checked by themselves, by name."""
    parts = {
        f"sender {name}": table[collect.SENDER] == name for name in table[collect.SENDER].unique()
    }
    parts |= {
        f"source {name}": table[collect.SOURCE] == name for name in table[collect.SOURCE].unique()
    }
    hours = table[collect.RECORDED].dt.strftime("%Y-%m-%d %H:00 UTC")
    counts = hours.value_counts()
    parts |= {f"hour {hour}": hours == hour for hour in counts[counts >= HOUR_OUTCOMES].index}
    masks = {name: np.asarray(rows, dtype=bool) for name, rows in parts.items()}
    return masks | {
        name.replace("_", " "): rows
        for name, rows in groups(table.assign(source=files.PRODUCTION_SOURCE)).items()
        if name.startswith(("sex_", "age_"))
    }


def _known(labelled: pd.DataFrame) -> set[str]:
    """The patients in the current file with the same outcome: they were checked, and learned from."""
    if not files.PRODUCTION.exists():
        return set()
    table = files.read_table(files.PRODUCTION)
    if collect.PATIENT not in table or OUTCOME.name not in table:
        return set()
    both = table.merge(labelled, on=[collect.PATIENT, OUTCOME.name])
    return set(both[collect.PATIENT])


def _champion(client: "MlflowClient", name: str) -> bytes | None:
    number = aliases(client, name).get(CHAMPION)
    version = client.get_model_version(name, number) if number else None
    if version is None or version.tags.get(SCHEMA) != fingerprint():
        return None
    return registry.load(version)


def release(client: "MlflowClient", name: str, **tags: str) -> None:
    """Record that a person has looked at outcomes and says that they are right; see RELEASE for the tags."""
    run = client.create_run(
        _experiment(client, name), tags=tags, run_name=f"release {tags['sender']}"
    )
    client.set_terminated(run.info.run_id)


def _released(labelled: pd.DataFrame, client: "MlflowClient", name: str) -> pd.Series:
    """Which outcomes a person has released."""
    released = pd.Series(data=False, index=labelled.index)
    for run in client.search_runs([_experiment(client, name)]):
        sender, since, until = (run.data.tags.get(key, "") for key in RELEASE[:3])
        rows = labelled[collect.SENDER] == sender
        rows &= labelled[collect.RECORDED] <= datetime.fromisoformat(until)
        if since:
            rows &= labelled[collect.RECORDED] >= datetime.fromisoformat(since)
        released |= rows
    return released


def _experiment(client: "MlflowClient", name: str) -> str:
    return str(local_store.experiment(client, f"{name}-released-outcomes"))


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m monitoring.retraining.quarantine",
        description="Release quarantined outcomes of a sender: you have looked at them and they are right. The next "
        "retraining learns from them. Who, when and why is recorded.",
    )
    parser.add_argument("sender", help="the name of the token that sent them")
    parser.add_argument("--reason", required=True, help="why they are right")
    parser.add_argument("--since", type=time, help="the first time, such as 2026-11-27T08:00:00Z")
    parser.add_argument("--until", type=time, help="the last time; now, if it is not given")
    parser.add_argument("--by", help="who says so; this user, if it is not given")
    given = parser.parse_args(arguments)
    given.by = given.by or getpass.getuser()  # which fails for a user without a name
    return given


def main(arguments: Sequence[str] | None = None) -> None:
    given = options(arguments)
    client, name = registry.connect(), Registered.load().model_name
    until = given.until or datetime.now(UTC).isoformat(timespec="microseconds")
    with collect.opened() as log:
        labelled = collect.labelled(log)
    if not (labelled[collect.SENDER] == given.sender).any():
        known = ", ".join(sorted(set(labelled[collect.SENDER]))) or "none"
        raise UserError(f"no outcome is from the sender {given.sender}; known: {known}")
    release(
        client,
        name,
        sender=given.sender,
        since=given.since or "",
        until=until,
        by=given.by,
        reason=given.reason,
    )
    print(f"outcomes of {given.sender} until {until} are released; `make retrain` learns from them")


if __name__ == "__main__":
    run_main(main)
