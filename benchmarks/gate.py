"""The rates at which the promotion gate rejects good and bad challengers in its comparison with the champion.

In each draw a fifth of the 303 patients is held out and a champion fitted on the others, so that the limits
are not measured on the hold-out of the pipeline. A challenger is also fitted on further outcomes: of similar
patients, of other patients, or wrong ones. The generator of `dvc repro` draws these patients; it was fitted
on most of the held-out patients too. The figures are shares of draws in which the challenger is rejected.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from benchmarks.drift import wilson
from heart import files
from heart.errors import run_main
from heart.ml.comparison import ALL, paired
from heart.ml.estimators import Array, ChainedLogisticRegression
from heart.schema import OUTCOME
from monitoring.simulated_patients import SHIFTS, SimulatedPatients, load
from stages import params
from stages.register import not_worse

OUT = Path("benchmarks/gate.json")
DRAWS, HELD_OUT, BOOTSTRAP, SEED = 400, 0.2, 500, 0
OUTCOMES = (60, 240)  # further outcomes of the challenger
C = 0.1  # the choice of stage train for these patients

Labels = npt.NDArray[np.int64]
Sample = tuple[Array, Labels]  # encoded patients [n, 13] and their outcomes 0 or 1 [n]
Random = np.random.Generator


def truthful(outcome: Labels, _: Random) -> Labels:
    return outcome


def shuffled(outcome: Labels, random: Random) -> Labels:
    return random.permutation(outcome)


def inverted(outcome: Labels, _: Random) -> Labels:
    return 1 - outcome


# The shift of the patients (as in `make simulate`), and the change of their outcomes.
CHALLENGERS: dict[str, tuple[str, Callable[[Labels, Random], Labels]]] = {
    "patients like the champion's": ("none", truthful),
    "patients of another hospital": ("other-hospital", truthful),
    "shuffled outcomes": ("none", shuffled),
    "inverted outcomes": ("none", inverted),
}


def draw(patients: SimulatedPatients, shift: str, count: int, random: Random) -> Sample:
    shifted = SHIFTS[shift](patients, random)
    indices = random.choice(len(shifted.rows), size=count, p=shifted.weights)
    positive = np.array(shifted.outcomes)[indices] == OUTCOME.choices[1].name
    return shifted.rows[indices].astype(np.float64), positive.astype(np.int64)


def fit(rows: Array, outcome: Labels) -> ChainedLogisticRegression:
    return ChainedLogisticRegression(C=C).fit(rows, outcome)


def rejections(
    training: Sample, held_out: Sample, further: Sample, options: params.Register
) -> set[str]:
    """The scores for which a challenger with further outcomes is rejected."""
    held_out_rows, truth = held_out
    champion = fit(*training).predict_proba(held_out_rows)[:, 1]
    rows, outcome = (np.concatenate(parts) for parts in zip(training, further, strict=True))
    challenger = fit(rows, outcome).predict_proba(held_out_rows)[:, 1]
    scores = paired(truth.astype(float), challenger, champion, options)
    return {c.name.split()[0] for c in not_worse({ALL: scores}, options) if not c.passed}


def main() -> None:
    encoded, outcome = files.encoded(files.read_table(files.RAW))
    rows = encoded.astype(np.float64)
    simulated = load(Path())
    options = params.Register.load().model_copy(update={"bootstrap": BOOTSTRAP})
    report: dict[str, Any] = {"draws": DRAWS, "margins": options.margins.model_dump()}
    for name, (shift, reported) in CHALLENGERS.items():
        for count in OUTCOMES:
            random = np.random.default_rng(SEED)
            failures = []
            for _ in tqdm(range(DRAWS), desc=name, leave=False):
                side = random.random(len(rows)) < HELD_OUT
                new, outcomes = draw(simulated, shift, count, random)
                failures.append(
                    rejections(
                        (rows[~side], outcome[~side]),
                        (rows[side], outcome[side]),
                        (new, reported(outcomes, random)),
                        options,
                    )
                )
            rates = {
                score: wilson(sum(score in failed for failed in failures), DRAWS)
                for score in ("roc_auc", "brier")
            }
            report[f"{name}, {count}"] = rates | {"either": wilson(sum(map(bool, failures)), DRAWS)}
            print(f"{name}, {count} outcomes: {describe(report[f'{name}, {count}'])}")
    files.write_json(OUT, report)


def describe(rates: dict[str, Any]) -> str:
    either = rates["either"]
    return (
        f"rejected in {either['share']:.1%} of draws ({either['low']:.1%} to {either['high']:.1%}); "
        f"by ROC AUC {rates['roc_auc']['share']:.1%}, by Brier score {rates['brier']['share']:.1%}"
    )


if __name__ == "__main__":
    run_main(main)
