"""What the gate's comparison with the champion lets through, over challengers whose worth is known.

In each draw a fifth of the 303 patients is held out and a champion fitted on the others: no limit is
tried on the hold-out that it is meant for. A challenger learns some outcomes more, of patients like
them, of others, or wrong ones, which the generator of `dvc repro` draws: it has learned from most of the
held-out patients too. The figures are shares of draws in which it is refused.
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
OUTCOMES = (60, 240)  # that a challenger has learned beside the champion's
C = 0.1  # what stage train chooses for these patients

Labels = npt.NDArray[np.int64]
Sample = tuple[Array, Labels]  # encoded patients [n, 13] and their outcomes 0 or 1 [n]
Random = np.random.Generator


def truthful(outcome: Labels, _: Random) -> Labels:
    return outcome


def shuffled(outcome: Labels, random: Random) -> Labels:
    return random.permutation(outcome)


def inverted(outcome: Labels, _: Random) -> Labels:
    return 1 - outcome


# Who came (a shift of `make simulate`), and what was reported of them.
CHALLENGERS: dict[str, tuple[str, Callable[[Labels, Random], Labels]]] = {
    "patients like the champion's": ("none", truthful),
    "patients of another hospital": ("other-hospital", truthful),
    "shuffled outcomes": ("none", shuffled),
    "inverted outcomes": ("none", inverted),
}


def came(people: SimulatedPatients, shift: str, count: int, random: Random) -> Sample:
    some = SHIFTS[shift](people, random)
    chosen = random.choice(len(some.rows), size=count, p=some.weights)
    positive = np.array(some.outcomes)[chosen] == OUTCOME.choices[1].name
    return some.rows[chosen].astype(np.float64), positive.astype(np.int64)


def fitted(rows: Array, outcome: Labels) -> ChainedLogisticRegression:
    return ChainedLogisticRegression(C=C).fit(rows, outcome)


def refusals(
    known: Sample, held_out: Sample, learned: Sample, options: params.Register
) -> set[str]:
    """The scores for which a challenger is refused that has learned some outcomes more."""
    held_out_rows, truth = held_out
    champion = fitted(*known).predict_proba(held_out_rows)[:, 1]
    more = np.vstack([known[0], learned[0]]), np.concatenate([known[1], learned[1]])
    challenger = fitted(*more).predict_proba(held_out_rows)[:, 1]
    scores = paired(truth.astype(float), challenger, champion, options)
    return {c.name.split()[0] for c in not_worse({ALL: scores}, options) if not c.passed}


def main() -> None:
    encoded, outcome = files.encoded(files.read_table(files.RAW))
    rows = encoded.astype(np.float64)
    people = load(Path())
    options = params.Register.load().model_copy(update={"bootstrap": BOOTSTRAP})
    report: dict[str, Any] = {"draws": DRAWS, "margins": options.margins.model_dump()}
    for name, (shift, reported) in CHALLENGERS.items():
        for count in OUTCOMES:
            random = np.random.default_rng(SEED)
            failures = []
            for _ in tqdm(range(DRAWS), desc=name, leave=False):
                side = random.random(len(rows)) < HELD_OUT
                new, had = came(people, shift, count, random)
                failures.append(
                    refusals(
                        (rows[~side], outcome[~side]),
                        (rows[side], outcome[side]),
                        (new, reported(had, random)),
                        options,
                    )
                )
            by = {
                score: wilson(sum(score in one for one in failures), DRAWS)
                for score in ("roc_auc", "brier")
            }
            report[f"{name}, {count}"] = by | {"either": wilson(sum(map(bool, failures)), DRAWS)}
            print(f"{name}, {count} outcomes: {told(report[f'{name}, {count}'])}")
    files.write_json(OUT, report)


def told(rates: dict[str, Any]) -> str:
    either = rates["either"]
    return (
        f"refused in {either['share']:.1%} of draws ({either['low']:.1%} to {either['high']:.1%}); "
        f"by ROC AUC {rates['roc_auc']['share']:.1%}, by Brier score {rates['brier']['share']:.1%}"
    )


if __name__ == "__main__":
    run_main(main)
