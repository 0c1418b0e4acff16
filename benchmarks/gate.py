"""What becomes of recorded outcomes in a retraining: outcome check, ladder of updates, promotion gate.

In each draw a fifth of the 303 patients is held out and a champion fitted on the others. Then outcomes of further
patients are recorded: of similar ones, of another hospital, or wrong ones. The generator of `dvc repro` draws these
patients; it was fitted on most of the held-out patients too. A draw ends in one of four ways:

- quarantined: the outcome check finds that the outcomes do not agree with the measurements;
- kept: the ladder finds no evidence for a change, and there is no new version;
- rejected: there is a challenger, and the promotion gate rejects it;
- promoted: the challenger becomes champion. Its Brier score on fresh patients of the same kind is compared with
  the champion's.

The limits of the three were set by principle and on other seeds.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from joblib import Parallel, delayed
from tqdm import tqdm

from benchmarks.drift import wilson
from heart import files
from heart.errors import run_main
from heart.ml.estimators import Array, ChainedLogisticRegression
from heart.ml.outcome_check import check_outcomes
from heart.ml.training import Choice, Rows, ladder_of
from heart.ml.updating import KEEP, LEAST_OUTCOMES
from heart.registry.aliases import PASSED
from heart.registry.gate import Patients, evaluate_gate
from heart.schema import OUTCOME, decode
from monitoring.simulated_patients import SHIFTS, SimulatedPatients, load, with_share_ill
from stages import params
from stages.evaluate import evaluate

OUT = Path("benchmarks/gate.json")
DRAWS, HELD_OUT, FOLDS, BOOTSTRAP, FRESH, SEED = 400, 0.2, 5, 300, 2000, 2026
QUARANTINED, KEPT, REJECTED, PROMOTED = "quarantined", "kept", "rejected", "promoted"
ENDS = (QUARANTINED, KEPT, REJECTED, PROMOTED)
C = 0.1  # the choice of stage train for these patients
TARGETED = 25 / 62  # of all outcomes: ill patients who are reported healthy

Labels = npt.NDArray[np.int64]
Sample = tuple[Array, Labels]  # encoded patients [n, 13] and their outcomes 0 or 1 [n]
Random = np.random.Generator


def truthful(outcome: Labels, _: Random) -> Labels:
    return outcome


def shuffled(outcome: Labels, random: Random) -> Labels:
    return random.permutation(outcome)


def half_shuffled(outcome: Labels, random: Random) -> Labels:
    changed, half = outcome.copy(), random.permutation(len(outcome))[: len(outcome) // 2]
    changed[half] = random.permutation(changed[half])
    return changed


def inverted(outcome: Labels, _: Random) -> Labels:
    return 1 - outcome


def targeted(outcome: Labels, random: Random) -> Labels:
    changed, ill = outcome.copy(), np.flatnonzero(outcome)
    changed[random.permutation(ill)[: round(TARGETED * len(outcome))]] = 0
    return changed


def healthy_by_one(outcome: Labels, _: Random) -> Labels:
    return np.where(of_second_sender(outcome), 0, outcome)


def of_second_sender(outcome: Labels) -> npt.NDArray[np.bool_]:
    """Which outcomes a second sender reports: as many as in `targeted`."""
    return np.arange(len(outcome)) < round(TARGETED * len(outcome))


def nearly_all_ill(patients: SimulatedPatients, _: Random) -> SimulatedPatients:
    return with_share_ill(patients, 0.93)


Shift = Callable[[SimulatedPatients, Random], SimulatedPatients]


@dataclass(frozen=True)
class Case:
    """Recorded outcomes: how the patients differ, what happens to their outcomes, and their numbers."""

    name: str
    shift: Shift
    reported: Callable[[Labels, Random], Labels]
    counts: tuple[int, ...] = (60, 240)
    senders: int = 1


CASES = (
    Case("patients like the champion's", SHIFTS["none"], truthful, (20, 60, 240)),
    Case("patients of another hospital", SHIFTS["other-hospital"], truthful, (20, 60, 240)),
    Case("93 % of the patients ill", nearly_all_ill, truthful, (20, 60, 240)),
    Case("shuffled outcomes", SHIFTS["none"], shuffled),
    Case("half of the outcomes shuffled", SHIFTS["none"], half_shuffled),
    Case("inverted outcomes", SHIFTS["none"], inverted),
    Case("two in five outcomes ill, reported healthy", SHIFTS["none"], targeted, (62,)),
    Case("one of two senders reports all as healthy", SHIFTS["none"], healthy_by_one, (62,), 2),
)


def draw(patients: SimulatedPatients, count: int, random: Random) -> Sample:
    indices = random.choice(len(patients.rows), size=count, p=patients.weights)
    positive = np.array(patients.outcomes)[indices] == OUTCOME.choices[1].name
    return patients.rows[indices].astype(np.float64), positive.astype(np.int64)


def rows_of(sample: Sample, *, service: bool) -> Rows:
    """Rows of stage train with folds."""
    x, y = sample
    order = np.argsort(y, kind="stable")
    fold = np.empty(len(y), dtype=object)
    fold[order] = [str(number % FOLDS) for number in range(len(y))]
    none = np.zeros(len(y), dtype=bool)
    return Rows(x, y, fold, none, np.full(len(y), service))


def table_of(sample: Sample, source: str) -> pd.DataFrame:
    """The patients as a table of the pipeline."""
    x, y = sample
    columns = decode(x.astype(np.float32))
    names = [OUTCOME.choices[value].name for value in y]
    return pd.DataFrame({**columns, OUTCOME.name: names, "source": source})


def patients_of(sample: Sample, source: str, challenger: Array, champion: Array) -> Patients:
    """Patients of the gate; the champion is the version that a person approved too."""
    return Patients(table_of(sample, source), challenger, champion, champion)


def risk(model: Any, rows: Array) -> Array:
    return np.asarray(model.predict_proba(rows)[:, 1])


def outcome_of(
    case: Case,
    count: int,
    rows: Sample,
    simulated: SimulatedPatients,
    options: params.Register,
    seed: int,
) -> tuple[str, str, float]:
    """How a draw ends, the rung, and the champion's Brier score minus that of what serves afterwards."""
    random = np.random.default_rng([SEED, seed])
    x, y = rows
    side = random.random(len(y)) < HELD_OUT
    study = rows_of((x[~side], y[~side]), service=False)
    champion = ChainedLogisticRegression(C=C).fit(study.x, study.y)
    patients = case.shift(simulated, random)
    new, truth = draw(patients, count, random)
    reported = case.reported(truth, random)
    fresh = draw(patients, FRESH, random)
    kept = accepted(case, risk(champion, new), truth, reported)
    new, reported = new[kept], reported[kept]
    learned = random.random(len(new)) >= HELD_OUT
    service = rows_of((new[learned], reported[learned]), service=True)
    if not kept.any():
        return QUARANTINED, KEEP, 0.0
    if len(service.y) < LEAST_OUTCOMES or len(set(service.y.tolist())) < 2:
        return KEPT, KEEP, 0.0
    choice = Choice("logistic_regression", ChainedLogisticRegression(C=C), 0.0)
    ladder = ladder_of(choice, study, service, max(1.0, len(study.y) / len(service.y)))
    update, out_of_fold = ladder.update()
    rung = update.rung
    if rung == KEEP:
        return KEPT, rung, 0.0
    challenger = ladder.model(rung)
    frozen, held = (x[side], y[side]), ~learned
    recent = (np.vstack([service.x, new[held]]), np.append(service.y, reported[held]))
    risks = np.append(out_of_fold, risk(challenger, new[held]))
    verdict = evaluate_gate(
        patients_of(frozen, "raw", risk(challenger, frozen[0]), risk(champion, frozen[0])),
        patients_of(recent, "production", risks, risk(champion, recent[0])),
        figures_of(frozen, challenger),
        options,
    )
    if verdict["verdict"] != PASSED:
        return REJECTED, rung, 0.0
    return PROMOTED, rung, brier(champion, fresh) - brier(challenger, fresh)


def brier(model: Any, sample: Sample) -> float:
    """The Brier score of a model."""
    return float(((risk(model, sample[0]) - sample[1]) ** 2).mean())


def accepted(case: Case, risks: Array, truth: Labels, reported: Labels) -> npt.NDArray[np.bool_]:
    """Which outcomes [n] the outcome check does not quarantine."""
    second = of_second_sender(truth)
    senders = {"first": ~second, "second": second} if case.senders == 2 else {}
    return np.asarray(~check_outcomes(risks, reported.astype(float), senders).quarantined)


def figures_of(frozen: Sample, challenger: Any) -> dict[str, Any]:
    """The figures of stage evaluate."""
    options = params.Evaluate.load().model_copy(update={"bootstrap": BOOTSTRAP})
    truth = frozen[1].astype(float)
    return dict(evaluate(table_of(frozen, "raw"), truth, risk(challenger, frozen[0]), options))


def summary(results: list[tuple[str, str, float]]) -> dict[str, Any]:
    """The shares of the ends and of the rungs, and what the promotions changed."""
    ends, rungs = Counter(end for end, _, _ in results), Counter(rung for _, rung, _ in results)
    gains = np.array([gain for _, _, gain in results])
    return {
        **{end: wilson(ends[end], len(results)) for end in ENDS},
        "not_promoted": wilson(len(results) - ends[PROMOTED], len(results)),
        "refused": wilson(ends[QUARANTINED] + ends[REJECTED], len(results)),
        "better": wilson(int((gains > 0).sum()), len(results)),
        "worse": wilson(int((gains < 0).sum()), len(results)),
        "brier_gain": float(gains.mean()),
        "rungs": {rung: number / len(results) for rung, number in sorted(rungs.items())},
    }


def main() -> None:
    encoded, outcome = files.encoded(files.read_table(files.RAW))
    rows = encoded.astype(np.float64), outcome
    simulated = load(Path())
    options = params.Register.load().model_copy(update={"bootstrap": BOOTSTRAP})
    margins = options.margins.model_dump()
    report: dict[str, Any] = {"draws": DRAWS, "margins": margins, "cases": []}
    for case in CASES:
        for count in case.counts:
            jobs = [
                delayed(outcome_of)(case, count, rows, simulated, options, seed)
                for seed in range(DRAWS)
            ]
            running = Parallel(n_jobs=-1, return_as="generator")(jobs)
            results = list(tqdm(running, total=DRAWS, desc=case.name, leave=False))
            figures = summary(results)
            report["cases"].append([f"{case.name}, {count}", figures])
            print(f"{case.name}, {count} outcomes: {describe(figures)}", flush=True)
    files.write_json(OUT, report)


def describe(figures: dict[str, Any]) -> str:
    shares = ", ".join(f"{end} {figures[end]['share']:.1%}" for end in ENDS)
    low, high = (figures["better"][key] for key in ("low", "high"))
    return (
        f"{shares}; better for fresh patients {figures['better']['share']:.1%} ({low:.1%} to {high:.1%}), "
        f"Brier score {-figures['brier_gain']:+.4f}"
    )


if __name__ == "__main__":
    run_main(main)
