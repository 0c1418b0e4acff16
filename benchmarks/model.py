"""The procedure of the pipeline beside plain scikit-learn models, by repeated nested cross-validation.

All 303 patients, 5 x 10 stratified folds, the same for every model. The procedure (`recipe`) chooses a
candidate and its settings inside each training part, by the cross-validation of stage train, without
synthetic rows (a generator for each of the 50 x 5 inner folds would take hours). Intervals are those of the
corrected resampled t-test (Nadeau and Bengio 2003): folds share patients, and an interval that assumes
independent folds would be too narrow.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed
from scipy.stats import t
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RepeatedStratifiedKFold, StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from tqdm import tqdm

from heart import files
from heart.errors import run_main
from heart.ml.estimators import Array, candidates
from heart.ml.training import Rows, fit
from heart.schema import MEASUREMENTS
from stages import params
from stages.train import SCORES, choose, scores

OUT = Path("benchmarks/model.json")
REPEATS, FOLDS, INNER_FOLDS, SEED = 5, 10, 5, 0
Labels = npt.NDArray[np.int64]


def plain_models() -> dict[str, Pipeline]:
    """Usual first models, with imputation, scaling and one-hot encoding."""
    nominal = [i for i, m in enumerate(MEASUREMENTS) if len(m.choices) > 2]
    other = [i for i in range(len(MEASUREMENTS)) if i not in nominal]

    def encode() -> Any:
        return make_column_transformer(
            (
                make_pipeline(
                    SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")
                ),
                nominal,
            ),
            (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), other),
        )

    forest = RandomForestClassifier(500, min_samples_leaf=3, random_state=SEED)
    return {
        "logistic_regression_c_0.1": make_pipeline(
            encode(), LogisticRegression(C=0.1, max_iter=1000)
        ),
        "random_forest_500": make_pipeline(encode(), forest),
    }


def recipe(x: Array, y: Labels, options: params.Train) -> tuple[str, Any]:
    """The candidate that the pipeline chooses on these rows, fitted on all of them."""
    fold = np.empty(len(y), dtype=object)
    inner = StratifiedKFold(INNER_FOLDS, shuffle=True, random_state=SEED)
    for number, (_, held_out) in enumerate(inner.split(x, y)):
        fold[held_out] = str(number)
    rows = Rows(x, y, fold, *np.zeros((2, len(y)), dtype=bool))
    models = candidates(options.logistic_c, options.trees, options.min_samples_leaf, options.seed)
    choice, _, _ = choose(rows, models, [0.0])
    return choice.name, fit(choice.model, rows, 0.0, "")


def one_fold(
    x: Array, y: Labels, train: Labels, test: Labels, options: params.Train
) -> dict[str, Any]:
    """The scores of all models on one fold, and the name of the chosen candidate."""
    name, model = recipe(x[train], y[train], options)
    fitted = {"recipe": model}
    fitted |= {name: clone(m).fit(x[train], y[train]) for name, m in plain_models().items()}
    figures: dict[str, Any] = {
        model: scores(y[test], m.predict_proba(x[test])[:, 1]) for model, m in fitted.items()
    }
    return figures | {"chosen": name}


def corrected_interval(values: Array, confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean and interval of a figure over the folds of repeated cross-validation [repeats x folds]."""
    ratio = 1 / (FOLDS - 1)  # of test to training rows
    error = np.sqrt(values.var(ddof=1) * (1 / len(values) + ratio))
    width = float(t.ppf((1 + confidence) / 2, len(values) - 1) * error)
    mean = float(values.mean())
    return mean, mean - width, mean + width


def main() -> None:
    options = params.Train.load()
    encoded, y = files.encoded(files.read_table(files.PREPARED))
    x = encoded.astype(np.float64)
    folds = RepeatedStratifiedKFold(n_splits=FOLDS, n_repeats=REPEATS, random_state=SEED)
    parts = list(folds.split(x, y))
    jobs = (delayed(one_fold)(x, y, train, test, options) for train, test in parts)
    running = Parallel(n_jobs=-1, return_as="generator")(jobs)
    results = list(tqdm(running, total=len(parts), desc="outer folds"))
    report: dict[str, Any] = {"patients": len(y), "repeats": REPEATS, "folds": FOLDS}
    report["chosen"] = {
        name: sum(r["chosen"] == name for r in results) for name in {r["chosen"] for r in results}
    }
    print(f"\n{len(y)} patients, {REPEATS} x {FOLDS} folds, nested; 95 % intervals")
    for score in SCORES:
        recipe_scores = np.array([r["recipe"][score] for r in results])
        for suffix, value in zip(
            ("", "_low", "_high"), corrected_interval(recipe_scores), strict=True
        ):
            report[f"nested_{score}{suffix}"] = value
        print(f"{score:10} recipe {_shown(recipe_scores)}")
        for name in plain_models():
            peer_scores = np.array([r[name][score] for r in results])
            paired = corrected_interval(recipe_scores - peer_scores)
            report[f"{name}_{score}"] = float(peer_scores.mean())
            for suffix, value in zip(("", "_low", "_high"), paired, strict=True):
                report[f"difference_to_{name}_{score}{suffix}"] = value
            print(
                f"{'':10} {name} {peer_scores.mean():.4f}, "
                f"recipe minus it {_shown(recipe_scores - peer_scores)}"
            )
    files.write_json(OUT, report)
    print(json.dumps({"chosen": report["chosen"]}), "->", OUT)


def _shown(values: Array) -> str:
    mean, low, high = corrected_interval(values)
    return f"{mean:.4f} ({low:+.4f} to {high:+.4f})"


if __name__ == "__main__":
    run_main(main)
