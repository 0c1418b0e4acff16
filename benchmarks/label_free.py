"""Performance estimated without outcomes, on simulated shifts with real outcomes, beside NannyML's CBPE.

The 303 patients are split into halves again and again. The model of the pipeline learns from one half; windows of the
other half are shifted by drawing patients with weights (covariate shift) or by withholding measurements. Outcomes are
the real ones, so the risks are as wrong as they are on new patients. Last, the disease itself is changed: the
estimate must fail there, and the outcomes must contradict it. CBPE gets the out-of-fold risks of the first half as
its reference, and its interval is its estimate +- 1.96 of its sampling errors.
"""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from benchmarks import peer
from heart import files
from heart.errors import run_main
from heart.ml.estimators import ChainedLogisticRegression
from heart.ml.label_free import FIGURES, contradiction, estimate
from heart.ml.scores import roc_auc
from heart.progress import progress
from heart.schema import NAMES

OUT = Path("benchmarks/label_free.json")
REPEATS, FOLDS, WINDOW, THRESHOLD, SEED = 60, 5, 60, 0.5, 0
C = 0.1  # of the logistic regression, as stage train chooses it
ALARM = np.log(100)
CBPE = ("accuracy", "roc_auc")
FURTHER_TESTS = {"major_vessels": 0.97, "thallium": 0.65, "st_slope": 0.4}

Array = npt.NDArray[Any]
Random = np.random.Generator
Shift = Callable[[Array, Array, Random], tuple[Array, Array]]


# Shifts: rows and outcomes of a window, from those of the held-out patients


def none(x: Array, y: Array, random: Random) -> tuple[Array, Array]:
    """A window without a shift."""
    return draw(x, y, np.ones(len(y)), random)


def covariate(x: Array, y: Array, random: Random) -> tuple[Array, Array]:
    """Older patients, and more women."""
    return draw(x, y, age_weights(x) * np.where(men(x), 0.5, 2.0), random)


def missing(x: Array, y: Array, random: Random) -> tuple[Array, Array]:
    """Further tests that are missing in 60 % of the patients."""
    rows, outcomes = none(x, y, random)
    return withhold(rows, dict.fromkeys(FURTHER_TESTS, 0.6), random), outcomes


def both(x: Array, y: Array, random: Random) -> tuple[Array, Array]:
    """Both of these."""
    rows, outcomes = covariate(x, y, random)
    return withhold(rows, dict.fromkeys(FURTHER_TESTS, 0.6), random), outcomes


def other_hospital(x: Array, y: Array, random: Random) -> tuple[Array, Array]:
    """Older, nearly all men, and rarely with further tests: the shares of UCI's other hospitals."""
    rows, outcomes = draw(x, y, age_weights(x) * np.where(men(x), 3.0, 1.0), random)
    return withhold(rows, FURTHER_TESTS, random), outcomes


def rarer(x: Array, y: Array, random: Random) -> tuple[Array, Array]:
    """A changed disease: half of those who would have it do not."""
    rows, outcomes = none(x, y, random)
    return rows, outcomes * (random.random(len(outcomes)) < 0.5)


def unrelated(x: Array, y: Array, random: Random) -> tuple[Array, Array]:
    """A changed disease: it no longer depends on the measurements."""
    rows, outcomes = none(x, y, random)
    return rows, random.permutation(outcomes)


def men(x: Array) -> Array:
    """Which patients are men."""
    return np.asarray(x[:, NAMES.index("sex")] == 1)


def age_weights(x: Array) -> Array:
    """Weights by which patients are older."""
    age = x[:, NAMES.index("age")]
    return np.asarray(np.exp((age - age.mean()) / age.std()))


def draw(x: Array, y: Array, weights: Array, random: Random) -> tuple[Array, Array]:
    """The patients of a window, each at most once."""
    chosen = random.choice(len(y), WINDOW, replace=False, p=weights / weights.sum())
    return x[chosen], y[chosen]


def withhold(x: Array, shares: dict[str, float], random: Random) -> Array:
    """Rows without some measurements, in shares of the patients."""
    rows = x.copy()
    for name, share in shares.items():
        rows[random.random(len(rows)) < share, NAMES.index(name)] = np.nan
    return rows


SHIFTS: dict[str, Shift] = {
    "none": none,
    "covariate shift": covariate,
    "missing measurements": missing,
    "both": both,
    "another hospital": other_hospital,
    "disease half as frequent": rarer,
    "disease unrelated to the measurements": unrelated,
}


# Estimates


def splits(x: Array, y: Array) -> list[tuple[Array, Array]]:
    """The rows of both halves, in either role, for each repeat."""
    pairs = []
    for repeat in range(REPEATS):
        halves = StratifiedKFold(2, shuffle=True, random_state=repeat)
        pairs += list(halves.split(x, y))
    return pairs


def window_risks(x: Array, y: Array, train: Array, test: Array, number: int) -> dict[str, Array]:
    """Risks and outcomes of the reference and of a window of each shift."""
    model = ChainedLogisticRegression(C=C)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED)
    out_of_fold = cross_val_predict(model, x[train], y[train], cv=folds, method="predict_proba")
    model.fit(x[train], y[train])
    windows = []
    for place, shift in enumerate(SHIFTS.values()):
        rows, outcomes = shift(x[test], y[test], np.random.default_rng([SEED, number, place]))
        windows.append(np.stack([model.predict_proba(rows)[:, 1], outcomes]))
    return {
        "reference": np.stack([out_of_fold[:, 1], y[train]]),
        "windows": np.stack(windows),  # [shifts, 2, patients]
    }


def observed(risks: Array, outcomes: Array) -> dict[str, float]:
    """The scores on the outcomes."""
    return {
        "accuracy": float(((risks >= THRESHOLD) == outcomes).mean()),
        "brier": float(((risks - outcomes) ** 2).mean()),
        "roc_auc": roc_auc(outcomes, risks),
    }


def results_of(windows: Array, cbpe: Any, place: int) -> dict[str, Any]:
    """What was estimated and observed for the windows [splits, shifts, 2, patients] of a shift."""
    truth, project, contradicted = [], [], []
    for number, (risks, outcomes) in enumerate(windows[:, place]):
        truth.append(observed(risks, outcomes))
        project.append(estimate(risks, THRESHOLD, number))
        contradicted.append(contradiction(risks, outcomes, THRESHOLD) >= ALARM)
    report: dict[str, Any] = {"contradicted": float(np.mean(contradicted))}
    for name in FIGURES:
        values = np.array([each[name] for each in truth])
        triples = [(f.value, f.low, f.high) for each in project if (f := each[name])]
        report[name] = {"observed": float(values.mean()), "project": quality(triples, values)}
        if cbpe and name in CBPE:
            pairs = np.array(cbpe[name])[:, place]
            triples = [(v, v - 1.96 * error, v + 1.96 * error) for v, error in pairs]
            report[name]["nannyml"] = quality(triples, values)
    return report


def quality(triples: list[tuple[float, float, float]], observed: Array) -> dict[str, float]:
    """Mean estimate, mean absolute error, share of intervals that hold the observed score, mean width."""
    value, low, high = np.array(triples).T
    return {
        "estimate": float(value.mean()),
        "error": float(np.abs(value - observed).mean()),
        "coverage": float(((low <= observed) & (observed <= high)).mean()),
        "width": float((high - low).mean()),
    }


def main() -> None:
    encoded, outcomes = files.encoded(files.read_table(files.PREPARED))
    x, y = encoded.astype(np.float64), outcomes.astype(np.float64)
    pairs = splits(x, y)
    runs = [
        window_risks(x, y, train, test, number)
        for number, (train, test) in enumerate(progress(pairs, "halves", "halves"))
    ]
    windows = np.stack([run["windows"] for run in runs])
    absent = peer.absent(("nannyml",))
    cbpe = None if absent else run_cbpe(runs)
    report = {
        "shifts": {name: results_of(windows, cbpe, place) for place, name in enumerate(SHIFTS)},
        "windows": len(runs),
        "patients": WINDOW,
        "versions": {} if absent else {"nannyml": peer.version("nannyml")},
        "absent": absent,
    }
    files.write_json(OUT, report)
    show(report)


def run_cbpe(runs: list[dict[str, Array]]) -> dict[str, Any]:
    """NannyML's estimates and their sampling errors by figure [splits, shifts, 2]."""
    with TemporaryDirectory() as folder:
        source = Path(folder, "risks.npz")
        arrays: dict[str, Any] = {f"reference{n}": run["reference"] for n, run in enumerate(runs)}
        arrays |= {f"windows{n}": run["windows"] for n, run in enumerate(runs)}
        np.savez(source, **arrays)
        return peer.run("nannyml", source, THRESHOLD, script="nannyml_cbpe")


def show(report: dict[str, Any]) -> None:
    """Print the table."""
    print(f"{report['windows']} windows of {report['patients']} patients for each shift")
    for shift, figures in report["shifts"].items():
        print(f"{shift}: contradicted by the outcomes in {figures['contradicted']:.0%}")
        for name in FIGURES:
            one = figures[name]
            for who in ("project", "nannyml"):
                if q := one.get(who):
                    print(
                        f"  {name:<9} {who:<8} observed {one['observed']:.3f}, estimated "
                        f"{q['estimate']:.3f}, error {q['error']:.3f}, in the interval "
                        f"{q['coverage']:.0%}, width {q['width']:.3f}"
                    )
    print("->", OUT)


if __name__ == "__main__":
    run_main(main)
