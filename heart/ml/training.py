"""Fitting the model of stage train on real, synthetic and recorded patients.

The outcomes that the service recorded update the model of the study's patients: `train` climbs the ladder of
`heart/ml/updating.py` with them.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from sklearn.base import clone

from heart import files
from heart.errors import UserError
from heart.ml.estimators import Array
from heart.ml.outcome_check import check_outcomes
from heart.ml.updating import (
    LEAST_OUTCOMES,
    POOLED,
    WEIGHTED,
    Ladder,
    Recalibrated,
    Update,
    logits,
)


@dataclass(frozen=True)
class Rows:
    """Encoded rows [n, 13], outcomes 0 or 1 [n], each row's fold [n], and whether it is synthetic, or of the service."""

    x: Array
    y: npt.NDArray[np.int64]
    fold: npt.NDArray[np.object_]
    synthetic: npt.NDArray[np.bool_]
    service: npt.NDArray[np.bool_]

    def folds(self) -> list[str]:
        """The folds of the real rows."""
        return sorted(set(self.fold[~self.synthetic]))

    def real(self, fold: str) -> "Rows":
        """The real rows of one fold."""
        return self.take(~self.synthetic & (self.fold == fold))

    def without(self, *held_out: str) -> "Rows":
        """All rows but the real ones of some folds."""
        return self.take(self.synthetic | ~np.isin(self.fold, held_out))

    def take(self, which: npt.NDArray[np.bool_]) -> "Rows":
        return Rows(
            self.x[which],
            self.y[which],
            self.fold[which],
            self.synthetic[which],
            self.service[which],
        )


@dataclass(frozen=True)
class Choice:
    """The result of the choice: a candidate with its settings, and the weight of synthetic rows."""

    name: str
    model: Any
    synthetic_weight: float


def fit(
    model: Any, rows: Rows, synthetic_weight: float, generator: str, service_weight: float = 1.0
) -> Any:
    """A fitted copy of the model: real rows, and those of one generator at `synthetic_weight`.

    The weight is that of all synthetic rows together, relative to all real ones; `service_weight` is that of
    each row of the service, relative to one of the study.
    """
    synthetic = rows.synthetic & (rows.fold == generator)
    used = ~rows.synthetic | (synthetic if synthetic_weight > 0 else False)
    if synthetic_weight > 0 and not synthetic.any():
        raise UserError(
            f"{files.MERGED}: no synthetic row of generator {generator!r}, expected some for each fold: "
            "run `dvc repro`"
        )
    real_rows, synthetic_rows = int((~rows.synthetic).sum()), max(int(synthetic.sum()), 1)
    weight = np.where(rows.service, service_weight, 1.0)
    weight[rows.synthetic] = synthetic_weight * real_rows / synthetic_rows
    return clone(model).fit(rows.x[used], rows.y[used], weight[used])


def out_of_fold(choice: Choice, training: Rows, rows: Rows, service_weight: float = 1.0) -> Array:
    """The log odds of presence of each real row [n], from a model that was fitted without its fold.

    The models are fitted on `training`, which is `rows` or a part of them.
    """
    real = np.flatnonzero(~rows.synthetic)
    result = np.empty(len(real))
    for fold in rows.folds():
        inside = training.without(fold)
        fitted = fit(choice.model, inside, choice.synthetic_weight, fold, service_weight)
        result[rows.fold[real] == fold] = logits(fitted, rows.real(fold).x)
    return result


@dataclass(frozen=True)
class Trained:
    """The model, the out-of-fold probabilities of the real rows [n], and the evidence of the ladder."""

    model: Any
    out_of_fold: Array
    update: Update | None = None


def train(choice: Choice, training: Rows, rows: Rows) -> Trained:
    """The model of the choice, updated with the outcomes of the service among the rows.

    It is fitted on `training`, which is `rows` or a part of them.
    """
    service = training.take(training.service)
    study = training.take(~training.service)
    if len(service.y) < LEAST_OUTCOMES or len(set(service.y.tolist())) < 2:
        fitted = fit(choice.model, study, choice.synthetic_weight, files.ALL)
        return Trained(fitted, expit(out_of_fold(choice, study, rows)))
    weight = max(1.0, int((~study.synthetic).sum()) / len(service.y))
    ladder = ladder_of(choice, study, service, weight)
    update, service_risks = ladder.update()
    model = ladder.model(update.rung)
    if update.rung == POOLED:
        z = out_of_fold(choice, training, rows)
    elif update.rung == WEIGHTED:
        z = out_of_fold(choice, training, rows, weight)
    else:
        z = out_of_fold(choice, study, rows)
    if isinstance(model, Recalibrated):
        z = model.intercept + model.slope * z
    probability = expit(z)
    if len(service.y) == rows.service.sum():
        probability[rows.service[~rows.synthetic]] = service_risks
    return Trained(model, probability, update)


def ladder_of(choice: Choice, study: Rows, service: Rows, weight: float) -> Ladder:
    """The candidates of an update of the study's model with outcomes of the service."""
    base = fit(choice.model, study, choice.synthetic_weight, files.ALL)
    outcome = service.y.astype(float)
    # Whether the outcomes agree with the measurements: of those that hardly do, only the share is learned.
    check = check_outcomes(expit(logits(base, service.x)), outcome, {})

    def fit_with(used: npt.NDArray[np.bool_], service_weight: float) -> Any:
        if not used.any():
            return base
        together = joined(study, service.take(used))
        return fit(choice.model, together, choice.synthetic_weight, files.ALL, service_weight)

    return Ladder(
        fit_with,
        service.x,
        outcome,
        service.fold,
        weight,
        intercept_only=bool(check.findings) or check.intercept_only,
    )


def joined(first: Rows, second: Rows) -> Rows:
    """The rows of both."""
    both = ([getattr(rows, field.name) for rows in (first, second)] for field in fields(Rows))
    return Rows(*map(np.concatenate, both))
