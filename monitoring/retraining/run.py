"""Retrain: collect outcomes, run the pipeline with the promotion gate, and report.

A lock allows one retraining at a time. It may be killed at any moment: the service keeps its champion, and
the next call completes the work. With too few new outcomes, or if another process holds the lock, the exit code
is 75 (EX_TEMPFAIL of sysexits.h).
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Annotated, Any

import pandas as pd
from pydantic import Field

from heart import files
from heart.errors import UserError, run_main
from heart.ml import comparison
from heart.ml.updating import KEEP
from heart.params import Registered, Section
from heart.registry import publishing as registry
from heart.schema import OUTCOME
from monitoring.retraining import collect, quarantine, supervised
from monitoring.retraining import lock as run_lock
from monitoring.retraining.history import UNTIL, RetrainingHistory

LOCK = registry.FOLDER / "retrain.lock"
# Not the script `dvc`: in a moved checkout, the scripts of .venv name a Python that does not exist.
DVC = ("python", "-m", "dvc")

TITLES = {
    "roc_auc": "ROC AUC, not trained on",
    "brier": "Brier, not trained on",
}  # comparison.SCORES

Run = Callable[..., int]


class Retrain(Section):
    """The numbers of new outcomes that a retraining requires."""

    stage = "retrain"
    outcomes: Annotated[int, Field(ge=1)]
    per_class: Annotated[int, Field(ge=1)]


class TooFewOutcomes(Exception):
    """There are too few new outcomes; the message has the missing numbers."""


@dataclass(frozen=True)
class NewOutcomes:
    """The number of outcomes recorded since the last retraining, by outcome and by sender."""

    counts: Mapping[str, int]
    senders: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """The number of both outcomes."""
        return sum(self.counts.values())

    def missing(self, options: Retrain) -> list[str]:
        """The missing numbers of outcomes, as texts; empty if there are enough."""
        missing = {"outcomes": options.outcomes - self.total}
        missing |= {f"with {name}": options.per_class - n for name, n in self.counts.items()}
        return [f"{number} more {what}" for what, number in missing.items() if number > 0]


def new_outcomes(labelled: pd.DataFrame, since: datetime | None) -> NewOutcomes:
    """The outcomes that were recorded after `since`; a corrected one counts as new."""
    rows = labelled if since is None else labelled[labelled[collect.RECORDED] > since]
    counts = rows[OUTCOME.name].value_counts()
    return NewOutcomes(
        {choice.name: int(counts.get(choice.name, 0)) for choice in OUTCOME.choices},
        collect.count_senders(rows),
    )


def run_pipeline(change: collect.Change, run: Run) -> dict[str, Any]:
    """Version the rows, run the pipeline; returns the verdict. Raises UserError if a command fails."""
    if change.rows:
        _succeed(run, *DVC, "add", str(files.PRODUCTION))
    _succeed(run, *DVC, "repro")
    _succeed(run, "python", "-m", "stages.register")
    return dict(json.loads((files.METRICS / "register.json").read_text()))


def push(run: Run) -> bool:
    """Push to the DVC remote; False if there is none. Raises UserError if the push fails."""
    from dvc.repo import Repo

    with Repo() as repo:
        remote = repo.config["core"].get("remote")
    if remote:
        _succeed(run, *DVC, "push")
    return bool(remote)


def _succeed(run: Run, *command: str) -> None:
    code = run(*command)
    if code:
        raise UserError(f"{' '.join(command)} ended with {code}; its output above has the reason")


def report(
    verdict: Mapping[str, Any],
    change: collect.Change,
    new: NewOutcomes,
    trigger: str,
    quarantined: str = "",
) -> str:
    """The text of the report: the verdict, and both models by group."""
    model, champion = verdict["model"], verdict.get("champion")
    lines = [
        f"Retraining of {model}, triggered by {trigger}",
        f"  rows       {change}; {new.total} outcomes since the last retraining",
        f"  senders    of new outcomes: {collect.by_sender(new.senders) or 'none'}",
        *([f"  quarantine {quarantined}"] if quarantined else []),
        f"  update     {verdict.get('update') or 'none'}",
        f"  decided by the {verdict.get('decided_by', 'frozen hold-out')}",
        *(f"  because    {reason}" for reason in verdict["reasons"]),
    ]
    # The last line: the receiver of alerts shows only that one.
    end = f"challenger version {verdict['version']}: {verdict['verdict']}"
    if verdict.get("update") == KEEP:
        end = f"{end}, with the risks of before: the outcomes support no change"
    if quarantined:
        end = f"{end}; {quarantined}"
    if champion is None:
        return "\n".join([*lines, "  champion   none to compare with", end])
    lines.append(f"  champion   version {champion}")
    for score, title in TITLES.items():
        lines += [
            "",
            f"  {title:<22} {'rows':>5}  champion  challenger  difference (paired interval)",
        ]
        lines += [
            _line(name, scores, score) for name, scores in verdict["against_champion"].items()
        ]
    return "\n".join([*lines, end])


def _line(name: str, scores: Mapping[str, Any], score: str) -> str:
    figures = scores[score]
    if figures["difference"] is None:
        return f"  {name:<22} {scores['rows']:>5}  -"
    return (
        f"  {name:<22} {scores['rows']:>5}  {figures['champion']:8.3f}  {figures['challenger']:10.3f}  "
        f"{figures['difference']:+.3f} ({figures['low']:+.3f} to {figures['high']:+.3f})"
    )


def metrics(verdict: Mapping[str, Any]) -> dict[str, float]:
    """The figures of both models on all held-out patients and by source, for the history."""
    return {
        f"{group}.{score}.{figure}": value
        for group, scores in verdict["against_champion"].items()
        if group == comparison.ALL or group.startswith("source_")
        for score in TITLES
        for figure, value in scores[score].items()
        if value is not None
    }


def retrain(trigger: str, force: bool, run: Run, lock: run_lock.Lock) -> str:
    """Retrain if there are enough outcomes; returns the report. Raises TooFewOutcomes, UserError."""
    options, name = Retrain.load(), Registered.load().model_name
    client = registry.connect()
    history = RetrainingHistory(client, name)
    if lock.leftover and "run_id" in lock.leftover:
        history.interrupted(lock.leftover["run_id"])
    with collect.opened() as log:
        labelled, erased = collect.labelled(log), collect.removals(log)
    checked = quarantine.check(labelled, client, name)
    new = new_outcomes(checked.kept, history.used_until())
    if (missing := new.missing(options)) and not force:
        reasons = [
            f"{', '.join(missing)} required (--force retrains nevertheless)",
            checked.summary,
        ]
        raise TooFewOutcomes(f"No retraining: {'. '.join(filter(None, reasons))}")
    start = {"trigger": trigger, "forced": force, "new_outcomes": new.total}
    run_id = history.begin({**start, **{f"new_{k}": n for k, n in new.counts.items()}})
    lock.note(run_id=run_id)
    try:
        change = collect.write(checked.kept, erased + len(checked.quarantined))
        verdict = run_pipeline(change, run)
        pushed = push(run)
    except BaseException as error:
        history.fail(run_id, str(error) or type(error).__name__)
        raise
    text = report(verdict, change, new, trigger, checked.summary)
    tags = outcome_tags(verdict, change, checked.kept) | {"pushed": pushed}
    tags |= {"quarantined": len(checked.quarantined), "quarantine": checked.summary}
    history.finish(run_id, tags, metrics(verdict), text)
    return text


def outcome_tags(
    verdict: Mapping[str, Any], change: collect.Change, labelled: pd.DataFrame
) -> dict[str, Any]:
    """The tags of a retraining in the history; UNTIL is the time after which outcomes are new."""
    tags: dict[str, Any] = {key: verdict.get(key) for key in ("verdict", "version", "champion")}
    tags |= {"rows": change.rows, "gained": change.gained, "lost": change.lost}
    tags["reason"] = "; ".join(verdict["reasons"])
    tags["senders"] = collect.by_sender(change.senders)
    if len(labelled):
        tags[UNTIL] = labelled[collect.RECORDED].max().isoformat()
        tags["labelled_md5"] = files.md5(files.PRODUCTION)
    return tags


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m monitoring.retraining.run", description=__doc__
    )
    parser.add_argument(
        "--force", action="store_true", help="retrain even with too few new outcomes"
    )
    parser.add_argument(
        "--trigger", default="hand", help="reason of the retraining, for the history"
    )
    return parser.parse_args()


def main() -> None:
    options = arguments()
    with run_lock.hold(LOCK) as lock:
        run = partial(supervised.run, keep=[lock.descriptor])
        try:
            text, code = retrain(options.trigger, options.force, run, lock), 0
        except TooFewOutcomes as reason:
            text, code = str(reason), os.EX_TEMPFAIL
    print(text)
    sys.exit(code)


if __name__ == "__main__":
    run_main(main)
