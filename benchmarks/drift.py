"""False alarms and delays of the drift check on streams, beside rules of single windows; cost of a check.

All patients are drawn from the same 303 real ones with the model's scores. Each stream has a reference of
242 drawn with replacement, and is checked every 10 patients. A drift begins with the stream's first
patient, or after 1,000 without drift. All rules use the same buckets; a rule of single windows alarms at
the first window that it rejects.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed
from scipy.stats import binom, binomtest
from tqdm import tqdm

from benchmarks.drift_cost import costs
from benchmarks.rules import RULES, single_delays
from heart import files
from heart.drift.baseline import Policy
from heart.drift.simulation import Sample, delays
from heart.errors import run_main
from heart.ml.onnx_export import predict
from heart.schema import MEASUREMENTS, NAMES, Floats
from stages import params
from stages.reference import policy_of

OUT = Path("benchmarks/drift.json")
ROWS, NO_DRIFT, WITH_DRIFT, SINGLE, SEED = 242, 10_000, 1000, 200, 2  # patients; streams
HORIZON, LATE, CHUNK = 2000, 1000, 50

Array = npt.NDArray[Any]


# Patients with and without drift


def scored(rows: Floats, weights: Array | None = None) -> Sample:
    """Patients with the scores of the model."""
    model = files.ONNX.read_bytes()
    return Sample(rows, predict(model, rows).astype(np.float32).ravel(), weights)


def older(rows: Floats) -> Sample:
    """Patients who are older by half a standard deviation, in whole years."""
    age = NAMES.index("age")
    moved = rows.copy()
    moved[:, age] += np.round(rows[:, age].std() / 2)
    return scored(moved)


def more_women(rows: Floats) -> Sample:
    """As many women as men, with unchanged measurements in each sex."""
    men = rows[:, NAMES.index("sex")] == 1
    return scored(rows, np.where(men, 0.5 / men.mean(), 0.5 / (1 - men.mean())))


def withheld(rows: Floats, shares: dict[str, float]) -> Sample:
    """Measurements that are missing in shares of the patients, independently of each other."""
    parts, weights = [rows], [np.ones(len(rows))]
    for name, share in shares.items():
        copies = [part.copy() for part in parts]
        for part in copies:
            part[:, NAMES.index(name)] = np.nan
        weights = [w * (1 - share) for w in weights] + [w * share for w in weights]
        parts += copies
    return scored(np.vstack(parts), np.concatenate(weights))


def other_hospital(rows: Floats) -> Sample:
    """Older, nearly all men, and rarely with further tests: the shares of UCI's other hospitals."""
    moved = older(rows).rows
    sample = withheld(moved, {"major_vessels": 0.97, "thallium": 0.65, "st_slope": 0.4})
    men = sample.rows[:, NAMES.index("sex")] == 1
    return replace(
        sample, weights=sample.weights * np.where(men, 0.9 / men.mean(), 0.1 / (1 - men.mean()))
    )


def all_shifted(rows: Floats) -> Sample:
    """Every number half a standard deviation higher, and as many women as men."""
    moved = rows.copy()
    for column, m in enumerate(MEASUREMENTS):
        if not m.choices:
            half = np.nanstd(rows[:, column]) / 2
            moved[:, column] = np.minimum(rows[:, column] + np.ceil(half / m.step) * m.step, m.high)
    return replace(more_women(rows), rows=moved, scores=scored(moved).scores)


DRIFTS: dict[str, Callable[[Floats], Sample]] = {
    "age + 0.5 sd": older,
    "sex .68 -> .50 men": more_women,
    "30 % of thallium missing": lambda rows: withheld(rows, {"thallium": 0.3}),
    "another hospital": other_hospital,
    "all numbers + 0.5 sd, sex": all_shifted,
}


# Figures


def share(alarms: Array) -> dict[str, float]:
    """The share of streams with an alarm, with its 95 % interval (Wilson)."""
    return {"streams": len(alarms), **wilson(int(np.isfinite(alarms).sum()), len(alarms))}


def wilson(hits: int, trials: int) -> dict[str, float]:
    """A share, with its 95 % interval (Wilson)."""
    low, high = binomtest(hits, trials).proportion_ci(method="wilson")
    return {"share": hits / trials, "low": float(low), "high": float(high)}


def median(delays: Array) -> dict[str, float | None]:
    """The median of delays, with its 95 % interval by order statistics; None beyond the horizon."""
    ordered = np.sort(delays)
    ranks = {
        "median": (len(delays) - 1) // 2,
        "low": int(binom.ppf(0.025, len(delays), 0.5)) - 1,
        "high": int(binom.ppf(0.975, len(delays), 0.5)),
    }
    return {
        name: float(ordered[rank]) if np.isfinite(ordered[rank]) else None
        for name, rank in ranks.items()
    }


def in_chunks(job: Callable[..., Any], streams: int, description: str) -> Array:
    """The results of jobs for streams 0 to `streams` - 1, on all processors."""
    jobs = [delayed(job)(start, min(start + CHUNK, streams)) for start in range(0, streams, CHUNK)]
    running = Parallel(n_jobs=-1, return_as="generator")(jobs)
    return np.concatenate(list(tqdm(running, total=len(jobs), desc=description)))


def project_job(
    before: Sample, after: Sample, policy: Policy, patients: int, start: int
) -> Callable[..., Array]:
    """A job: the delays of some streams with the project's drift check."""

    def job(first: int, end: int) -> Array:
        return delays(before, after, ROWS, policy, patients, end - first, SEED + first, start)

    return job


def single_window_job(
    before: Sample, after: Sample, policy: Policy, patients: int
) -> Callable[..., Array]:
    """A job: the delays of some streams with each rule of single windows [streams, rules]."""

    def job(first: int, end: int) -> Array:
        streams = range(first, end)
        return np.array(
            [single_delays(before, after, ROWS, policy, patients, [SEED, s]) for s in streams]
        )

    return job


def promise(policy: Policy) -> dict[str, Any]:
    """False alarms and delays of all rules."""
    rows, _ = files.encoded(files.read_table(files.PREPARED))
    before = scored(rows)
    unchanged = in_chunks(
        project_job(before, before, policy, policy.stream, 0), NO_DRIFT, "no drift"
    )
    single = in_chunks(
        single_window_job(before, before, policy, policy.stream), SINGLE, "single windows"
    )
    names = [rule.name for rule in RULES]
    report: dict[str, Any] = {"false_alarms": {"project": share(unchanged)}}
    report["false_alarms"] |= {name: share(single[:, i]) for i, name in enumerate(names)}
    for name, drift in DRIFTS.items():
        after = drift(rows)
        rates = {
            "project": median(
                in_chunks(project_job(before, after, policy, HORIZON, 0), WITH_DRIFT, name)
            ),
            f"project, after {LATE} patients without drift": median(
                in_chunks(
                    project_job(before, after, policy, HORIZON, LATE), WITH_DRIFT, f"{name}, later"
                )
            ),
        }
        single = in_chunks(
            single_window_job(before, after, policy, HORIZON), SINGLE, "single windows"
        )
        report[name] = rates | {rule: median(single[:, i]) for i, rule in enumerate(names)}
    return report


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drift", description=__doc__)
    parser.add_argument("--cost", action="store_true", help="measure only the cost again")
    only_cost = parser.parse_args().cost
    policy = policy_of(params.Reference.load())
    rows, _ = files.encoded(files.read_table(files.PREPARED))
    streams = json.loads(OUT.read_text())["promise"] if only_cost else promise(policy)
    report = {"promise": streams, "cost": costs(policy, scored(rows))}
    files.write_json(OUT, report)
    show(report)


def show(report: dict[str, Any]) -> None:
    """Print the tables."""
    show_streams(report["promise"]["false_alarms"], report["promise"])
    print()
    for name, value in report["cost"].items():
        print(f"{name}: {value:.3g}")
    print("->", OUT)


def show_streams(false_alarms: dict[str, Any], delays: dict[str, Any]) -> None:
    """Print the rates of false alarms by rule, and the delays by drift and rule."""
    print("\nstreams of 10,000 patients without drift that raise an alarm (95 % interval)")
    for rule, rate in false_alarms.items():
        interval = f"{rate['share']:.4f} ({rate['low']:.4f} to {rate['high']:.4f})"
        print(f"  {rule:<46} {interval} of {rate['streams']}")
    for name in DRIFTS:
        print(f"\n{name}: patients until the first alarm, median (95 % interval)")
        for rule, delay in delays[name].items():
            # By name: a report that was read from JSON has its keys in another order.
            numbers = [delay[key] for key in ("median", "low", "high")]
            texts = [f">{HORIZON}" if n is None else f"{n:g}" for n in numbers]
            print(f"  {rule:<46} {texts[0]} ({texts[1]} to {texts[2]})")


if __name__ == "__main__":
    run_main(main)
