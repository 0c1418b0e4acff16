"""The promotion gate: whether a challenger may take the place of the champion.

Two kinds of patients with known outcomes take part, none of whom a model that is compared has learned from:

- The frozen hold-out of the study, on which every version is evaluated.
- The recent patients of the service: those held out, and by cross-fitting also those trained on. The challenger's
  risk is then from a model without the patient; so is the champion's, if it was trained on the patient.

With enough recent outcomes, the recent patients decide, since they are whom the model serves: the challenger must not
have a clearly larger Brier score there. It exists only if the outcomes support it (`heart/ml/updating.py`), so that
no interval is asked for twice: with 20 to 60 outcomes that would reject most good updates. The frozen hold-out then guards against collapse, with looser bounds and on ranks: a model that was
recalibrated for a hospital at which more patients are ill is wrong for the study's by intention, and only by a
common shift of all log odds. So both models are first fitted to the share of ill patients in the hold-out
(`recentered`). What remains is a change that outcomes of one group caused, for example.

Without recent outcomes, the frozen hold-out decides, with the strict bounds and as it is.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from heart import files
from heart.ml.comparison import ALL, BootstrapOptions, compare
from heart.ml.groups import source_group
from heart.ml.scores import Array
from heart.ml.validation import fit, recalibrated
from heart.registry.aliases import PASSED, REJECTED
from heart.schema import OUTCOME

GROUP_ROWS = 10
# Groups of held-out patients: those on which every version is evaluated, and those of the service.
FROZEN, RECENT = source_group(files.RAW_SOURCE), source_group(files.PRODUCTION_SOURCE)
FROZEN_HOLD_OUT, RECENT_PATIENTS = "frozen hold-out", "recent patients of the service"
CHAMPION, APPROVED = "the champion", "the approved version"


class Floors(Protocol):
    """What a model must reach on the frozen hold-out, whatever the champion does."""

    @property
    def roc_auc(self) -> float: ...
    @property
    def recall(self) -> float: ...
    @property
    def brier(self) -> float: ...
    @property
    def group_roc_auc(self) -> float: ...


class Margins(Protocol):
    """By how much a challenger may be worse on the same patients; those of the frozen hold-out if others decide."""

    @property
    def roc_auc(self) -> float: ...
    @property
    def brier(self) -> float: ...
    @property
    def recent_brier(self) -> float: ...
    @property
    def frozen_roc_auc(self) -> float: ...
    @property
    def frozen_brier(self) -> float: ...
    @property
    def group_brier(self) -> float: ...


class Options(BootstrapOptions, Protocol):
    """Section `register` of params.yaml."""

    @property
    def margins(self) -> Margins: ...
    @property
    def floors(self) -> Floors: ...
    @property
    def recent_outcomes(self) -> int: ...


@dataclass(frozen=True)
class Check:
    """One condition of the promotion gate: `value` must be at least (`at_most`: at most) `limit`."""

    name: str
    value: float
    limit: float
    passed: bool


@dataclass(frozen=True)
class Patients:
    """Patients with an outcome, and the risks [n] of models that did not learn from them; None for no such model."""

    table: pd.DataFrame
    challenger: Array
    champion: Array | None = None
    approved: Array | None = None

    @property
    def outcome(self) -> Array:
        """1 for presence, 0 for absence [n]."""
        positive = self.table[OUTCOME.name] == OUTCOME.choices[1].name
        return positive.to_numpy().astype(float)

    def take(self, which: Any) -> "Patients":
        """Some of the patients."""
        risks = (r if r is None else r[which] for r in (self.champion, self.approved))
        return Patients(self.table[which], self.challenger[which], *risks)

    def decide(self, options: Options) -> bool:
        """Whether there are enough outcomes to decide."""
        both = 0 < self.outcome.sum() < len(self.table)
        return bool(both and len(self.table) >= options.recent_outcomes)


def at_least(name: str, value: float | None, limit: float) -> Check:
    """A check that a value is at least a limit; a value that cannot be computed fails."""
    number = float("nan") if value is None else value
    return Check(f"{name} at least", number, limit, number >= limit)


def at_most(name: str, value: float | None, limit: float) -> Check:
    """A check that a value is at most a limit; a value that cannot be computed fails."""
    number = float("nan") if value is None else value
    return Check(f"{name} at most", number, limit, number <= limit)


def evaluate_gate(
    frozen: Patients, recent: Patients | None, figures: Mapping[str, Any], options: Options
) -> dict[str, Any]:
    """The verdict of the promotion gate, with every check.

    `figures` are those of stage evaluate. Without a champion, only the floors are checked.
    """
    recent_decide = recent is not None and recent.decide(options)
    checks = floors(figures, options.floors, ranks_only=recent_decide)
    against: dict[str, Any] = {}
    for other, name in ((CHAMPION, "champion"), (APPROVED, "approved")):
        if getattr(frozen, name) is None:
            continue
        if recent is not None and recent_decide:
            checks += not_worse_for_recent(recent, name, other, options)
            checks += no_collapse(frozen, name, other, options)
        else:
            checks += not_worse(frozen, name, other, options)
    if frozen.champion is not None:
        against = compare_all(frozen, recent, options)
    failed = [check for check in checks if not check.passed]
    return {
        "verdict": REJECTED if failed else PASSED,
        "reasons": [f"{c.name} {c.limit:g}: it is {c.value:.3g}" for c in failed],
        "decided_by": RECENT_PATIENTS if recent_decide else FROZEN_HOLD_OUT,
        "checks": [asdict(check) for check in checks],
        "against_champion": against,
    }


def compare_all(frozen: Patients, recent: Patients | None, options: Options) -> dict[str, Any]:
    """Challenger and champion on all patients, and by group; `source_production` are the recent ones."""
    parts = [part for part in (frozen, recent) if part is not None and part.champion is not None]
    challenger = np.concatenate([part.challenger for part in parts])
    champion = np.concatenate([np.asarray(part.champion) for part in parts])
    table = pd.concat([part.table for part in parts], ignore_index=True)
    return compare(table, challenger, champion, options)


def floors(figures: Mapping[str, Any], limits: Floors, *, ranks_only: bool = False) -> list[Check]:
    """The floors of scores on the frozen hold-out and in each group of held-out patients.

    A group fails only if its whole interval is below the floor. A group without both outcomes, or with
    fewer patients than GROUP_ROWS, is not checked. With `ranks_only`, the ROC AUC alone has floors.
    """
    whole = figures["groups"].get(FROZEN, figures)
    checks = [at_least("roc_auc", whole["roc_auc"], limits.roc_auc)]
    if not ranks_only:
        checks.append(at_least("recall", whole["recall"], limits.recall))
        checks.append(at_most("brier", whole["brier"], limits.brier))
    for name, group in figures["groups"].items():
        if ranks_only and name == RECENT:
            continue  # they are compared with the champion, and may be harder than the study's
        if group["roc_auc_high"] is not None and group["rows"] >= GROUP_ROWS:
            label = f"upper end of roc_auc of {name}"
            checks.append(at_least(label, group["roc_auc_high"], limits.group_roc_auc))
    return checks


def not_worse(frozen: Patients, name: str, other: str, options: Options) -> list[Check]:
    """Checks on the frozen hold-out that the challenger is worse by less than the margins.

    For the ROC AUC and the Brier score: partly wrong outcomes move every risk to the middle, which does not
    change the ROC AUC. Against the approved version also the Brier score in each group of sex and age.
    """
    margins = options.margins
    scores = _compare(frozen, name, options)
    return _within(scores, other, margins.roc_auc, margins.brier) + _in_groups(
        scores, other, options
    )


def no_collapse(frozen: Patients, name: str, other: str, options: Options) -> list[Check]:
    """The same with looser bounds, after both models have been fitted to the hold-out's share of ill patients."""
    risks = {key: getattr(frozen, key) for key in ("challenger", name)}
    fitted = Patients(
        frozen.table, **{key: recentered(frozen.outcome, risk) for key, risk in risks.items()}
    )
    scores, margins = _compare(fitted, name, options), options.margins
    return [
        Check(f"{FROZEN_HOLD_OUT}: {check.name}", check.value, check.limit, check.passed)
        for check in _within(scores, other, margins.frozen_roc_auc, margins.frozen_brier)
        + _in_groups(scores, other, options, end="difference")
    ]


def not_worse_for_recent(recent: Patients, name: str, other: str, options: Options) -> list[Check]:
    """The check on recent patients: their Brier score, which needs ranks and calibration."""
    difference = _compare(recent, name, options)[ALL]["brier"]["difference"]
    label = f"{RECENT_PATIENTS}: brier against {other}"
    return [at_most(label, difference, options.margins.recent_brier)]


def recentered(outcome: Array, risk: Array) -> Array:
    """Risks whose log odds are shifted so that they fit the share of ill patients."""
    z = np.log(np.clip(risk, 1e-6, 1 - 1e-6) / np.clip(1 - risk, 1e-6, 1 - 1e-6))
    return recalibrated(risk, fit(outcome, z, 1).coefficients, 1)


def _compare(patients: Patients, name: str, options: Options) -> dict[str, Any]:
    return compare(patients.table, patients.challenger, getattr(patients, name), options)


def _within(scores: Mapping[str, Any], other: str, roc_auc: float, brier: float) -> list[Check]:
    whole = scores[ALL]
    return [
        at_least(f"roc_auc against {other}, lower end", whole["roc_auc"]["low"], -roc_auc),
        at_most(f"brier against {other}, upper end", whole["brier"]["high"], brier),
    ]


def _in_groups(
    scores: Mapping[str, Any], other: str, options: Options, end: str = "high"
) -> list[Check]:
    """Checks against the version that a person approved, in each group of sex and age.

    Many small steps, each of which passes against the champion before it, must not add up. Wrong outcomes of
    one group of patients move its Brier score before that of all.
    """
    if other != APPROVED:
        return []
    checks = []
    for name, group in scores.items():
        ill, rows = (group["presence"], group["rows"])
        if name.startswith(("sex_", "age_")) and rows >= GROUP_ROWS and 0 < ill < rows:
            label = f"{name}: brier against {other}{', upper end' if end == 'high' else ''}"
            checks.append(at_most(label, group["brier"][end], options.margins.group_brier))
    return checks
