"""Stage train: choose the model and the weight of synthetic rows by cross-validation on real rows.

Outcomes that the service recorded do not take part in that choice: the ladder of `heart/ml/updating.py` decides how
far they change the model of the study's patients, from not at all to a new fit. The generators of synthetic rows
have seen these patients too, so that no synthetic rows are used then.

A model for a held-out fold uses only synthetic rows of the generator that was fitted without that fold.
Synthetic rows are used only if their best weight improves the cross-validated loss by more than one standard
error of the paired difference over the folds.

For very large tables, the choice uses a subsample of the real rows. The logistic regression is then fitted
on all rows; trees, which take long and whose ONNX graph grows with the rows, on the subsample.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from joblib import Parallel, cpu_count, delayed, parallel_config
from joblib.externals.loky import get_reusable_executor

from heart import files
from heart.errors import UserError, run_main
from heart.ml.estimators import Array, ChainedLogisticRegression, candidates, withhold
from heart.ml.onnx_export import export, export_error, predict
from heart.ml.scores import all_scores
from heart.ml.training import Choice, Rows, fit, train
from heart.progress import progress
from heart.schema import MEASUREMENTS, SECOND_EXAM
from heart.subsample import subsample
from heart.workers import end_with
from stages import params

PARITY = 1e-5  # limit of the difference between scikit-learn's and ONNX probabilities
PART = 100_000  # rows of one comparison
SCORES = ("roc_auc", "accuracy", "brier", "log_loss")


class Selection(NamedTuple):
    """The choice, the mean loss of each candidate, and the losses on the folds for each synthetic weight."""

    choice: Choice
    by_candidate: dict[str, float]
    by_weight: dict[float, Array]


def rows_of(merged: pd.DataFrame) -> Rows:
    """The encoded rows of data/merged.csv."""
    x, y = files.encoded(merged)
    return Rows(
        x.astype(np.float64),
        y,
        merged["fold"].astype(str).to_numpy(dtype=object),
        (merged["source"] == files.SYNTHETIC_SOURCE).to_numpy(),
        (merged["source"] == files.PRODUCTION_SOURCE).to_numpy(),
    )


def losses(model: Any, rows: Rows, synthetic_weight: float) -> Array:
    """The loss on each fold of models fitted without it [folds].

    It is the mean of the log losses with all measurements and without the further tests (slope, vessels,
    thallium): the model must predict well in both cases.
    """
    fold_losses = []
    for fold in rows.folds():
        fitted = fit(model, rows.without(fold), synthetic_weight, fold)
        held_out = rows.real(fold)
        views = (held_out.x, withhold(held_out.x))
        fold_losses.append(
            np.mean([scores(held_out.y, fitted.predict_proba(x)[:, 1])["log_loss"] for x in views])
        )
    return np.array(fold_losses)


def decision_subset(merged: pd.DataFrame, max_rows: int, seed: int) -> npt.NDArray[np.bool_]:
    """The rows [n] for the choice: all synthetic ones, and at most `max_rows` of the real ones."""
    synthetic = (merged["source"] == files.SYNTHETIC_SOURCE).to_numpy()
    subset = synthetic.copy()
    subset[~synthetic] = subsample(merged[~synthetic], max_rows, seed)
    return subset


def scores(y: npt.ArrayLike, p: npt.ArrayLike) -> dict[str, float]:
    """The scores of one sample, at threshold 0.5."""
    by_score = all_scores(y, p, np.ones((1, len(np.asarray(y)))), threshold=0.5, bins=1)
    return {name: float(by_score[name][0]) for name in SCORES}


def choose(rows: Rows, models: Mapping[str, Sequence[Any]], weights: Iterable[float]) -> Selection:
    """The best candidate on real rows alone, then the weight of synthetic rows."""
    results = [(name, model, losses(model, rows, 0.0)) for name in models for model in models[name]]
    name, model, plain = min(results, key=lambda item: float(item[2].mean()))
    by_candidate: dict[str, float] = {}
    for candidate, _, loss in results:
        by_candidate[candidate] = min(float(loss.mean()), by_candidate.get(candidate, np.inf))
    by_weight = {0.0: plain}
    by_weight |= {weight: losses(model, rows, weight) for weight in weights if weight > 0}
    best = min(by_weight, key=lambda weight: float(by_weight[weight].mean()))
    weight = best if improves_beyond_se(plain, by_weight[best]) else 0.0
    return Selection(Choice(name, model, weight), by_candidate, by_weight)


def improves_beyond_se(plain: Array, merged: Array) -> bool:
    """Whether losses [folds] with synthetic rows are smaller than without by more than a standard error."""
    gain = plain - merged
    return bool(gain.mean() > gain.std(ddof=1) / np.sqrt(len(gain)))


def choose_and_cross_validate(
    rows: Rows, models: Mapping[str, Sequence[Any]], weights: Sequence[float], workers: int = 1
) -> tuple[Selection, dict[str, float]]:
    """The result of `choose`, and the mean scores over the folds of the whole procedure.

    For those, the choice is repeated without each fold. All of these choices are independent, so that
    `workers` processes make them side by side; the results are the same for any number of them.
    """
    work = [delayed(choose)(rows, models, weights)]
    work += [delayed(cross_validated)(rows, models, weights, fold) for fold in rows.folds()]
    ends = {"initializer": end_with, "initargs": (os.getpid(),)}
    with parallel_config(backend="loky", inner_max_num_threads=1, **ends):
        results = Parallel(workers, return_as="generator")(work)
        selection, *folds = progress(results, "choice and cross-validation", "choices", len(work))
    if workers > 1:
        get_reusable_executor().shutdown()  # or the processes would stay for minutes
    return selection, _figures(folds)


def cross_validated(
    rows: Rows, models: Mapping[str, Sequence[Any]], weights: Sequence[float], fold: str
) -> dict[str, dict[str, float]]:
    """The scores on a fold of the model that is chosen and fitted without it.

    In that choice, synthetic rows are from generators of other folds, which were fitted with this one;
    the rows on which a model is fitted are not. "withheld" withholds the further tests from the fitted
    model; "reference" is the same model fitted without them.
    """
    inside, held_out = rows.without(fold), rows.real(fold)
    choice, _, _ = choose(inside, models, weights)
    fitted = fit(choice.model, inside, choice.synthetic_weight, fold)
    incomplete = replace(inside, x=withhold(inside.x))
    reference = fit(choice.model, incomplete, choice.synthetic_weight, fold)
    return {
        name: scores(held_out.y, model.predict_proba(x)[:, 1])
        for name, model, x in (
            ("full", fitted, held_out.x),
            ("withheld", fitted, withhold(held_out.x)),
            ("reference", reference, withhold(held_out.x)),
        )
    }


def _figures(folds: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, float]:
    """The means over the folds, by their names in metrics/train.json."""
    mean = {
        name: {score: float(np.mean([f[name][score] for f in folds])) for score in SCORES}
        for name in folds[0]
    }
    return {
        **{f"cv_{score}": mean["full"][score] for score in SCORES},
        "cv_roc_auc_std": float(np.std([f["full"]["roc_auc"] for f in folds])),
        **{f"cv_{s}_without_second_exam": mean["withheld"][s] for s in ("roc_auc", "brier")},
        **{
            f"reference_{s}_without_second_exam": mean["reference"][s] for s in ("roc_auc", "brier")
        },
    }


def parity(fitted: Any, onnx_model: bytes, x: Array) -> float:
    """The largest difference between the two forms of the model. Raises UserError from PARITY on."""
    parts = np.split(x, range(PART, len(x), PART))
    difference = float(np.max([largest_difference(fitted, onnx_model, part) for part in parts]))
    if not difference < PARITY:
        raise UserError(
            f"{files.ONNX}: probabilities differ from scikit-learn's by {difference:.2g}, "
            f"expected less than {PARITY:g}"
        )
    return difference


def largest_difference(fitted: Any, onnx_model: bytes, x: Array) -> float:
    """`parity` of some rows, as they are, without the further tests, and with age and sex alone."""
    optional = [place for place, m in enumerate(MEASUREMENTS) if not m.required]
    views = np.vstack([x, withhold(x), withhold(x, optional)])
    views = views.astype(np.float32).astype(np.float64)
    return float(np.abs(fitted.predict_proba(views)[:, 1] - predict(onnx_model, views)).max())


def main() -> None:
    options = params.Train.load()
    merged = files.read_table(files.MERGED)
    rows = rows_of(merged)
    models: Mapping[str, Sequence[Any]] = candidates(
        options.logistic_c, options.trees, options.min_samples_leaf, options.seed
    )
    if options.model != "auto":
        models = {options.model: models[options.model]}
    subset = rows.take(decision_subset(merged, options.max_rows, options.seed))
    study, weights = subset.take(~subset.service), options.synthetic_weights
    if subset.service.any():
        weights = [0.0]
    selection, figures = choose_and_cross_validate(study, models, weights, cpu_count())
    choice = selection.choice
    training = rows if isinstance(choice.model, ChainedLogisticRegression) else subset
    trained = train(choice, training, rows)
    onnx_model = export(trained.model).SerializeToString(deterministic=True)
    difference = parity(trained.model, onnx_model, rows.x)
    with files.replacing(files.ONNX) as part:
        part.write_bytes(onnx_model)
    with files.replacing(files.ERROR) as part:
        part.write_bytes(export_error(trained.model).SerializeToString(deterministic=True))
    real = pd.DataFrame({"patient_id": merged["patient_id"][~rows.synthetic]})
    files.write_table(files.OUT_OF_FOLD, real.assign(probability=trained.out_of_fold.round(8)))
    files.write_metrics(
        "train",
        {
            **figures,
            "model": choice.name,
            "settings": {k: v for k, v in choice.model.get_params(deep=False).items() if k == "C"},
            "synthetic_weight": choice.synthetic_weight,
            "loss_by_candidate": selection.by_candidate,
            "loss_by_synthetic_weight": {
                f"{w:g}": float(v.mean()) for w, v in selection.by_weight.items()
            },
            "onnx_difference": difference,
            "second_exam": list(SECOND_EXAM),
            "update": trained.update and asdict(trained.update),
            "real_rows": int((~rows.synthetic).sum()),
            "real_rows_used": int((~subset.synthetic).sum()),  # for the choice and its figures
            "real_rows_fitted": int((~training.synthetic).sum()),
        },
    )


if __name__ == "__main__":
    run_main(main)
