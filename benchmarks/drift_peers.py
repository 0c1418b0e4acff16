"""The drift check beside libraries, each with its defaults, on streams as in `benchmarks.drift`.

References and patients are drawn as there, with other seeds; each stream is the same for all. A library
checks each full window once; the project checks every 10 patients, which gives it more chances of a false
alarm. Libraries take seconds where the project's simulation takes milliseconds, so that they get fewer
streams and have wider intervals. For them a missing category is one more category.
"""

from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
from joblib import Parallel, cpu_count, delayed
from tqdm import tqdm

from benchmarks import peer
from benchmarks.drift import DRIFTS, HORIZON, ROWS, SEED, median, scored, share, show_streams
from benchmarks.drift_cost import longer, seconds
from heart import files
from heart.drift.baseline import Policy
from heart.drift.detector import check, fit
from heart.drift.simulation import Sample, delays
from heart.errors import run_main
from heart.schema import MEASUREMENTS, NAMES
from heart.synthesis.generator import CONTINUOUS
from stages import params
from stages.reference import policy_of

OUT = Path("benchmarks/drift_peers.json")
STREAMS = {"evidently": 20, "nannyml": 100, "alibi_detect": 100}
PROJECT_STREAMS = 1000
WINDOWS = (100, 400)
LARGE = (200, 10_000, 1_000_000)

Array = npt.NDArray[Any]
BEFORE = "no drift"


# The same streams, as tables


def draw_stream(before: Sample, after: Sample, patients: int, stream: int) -> list[Array]:
    """The reference and the patients of a stream in their order, as for `delays` and `single_delays`."""
    random = np.random.default_rng([SEED, stream])
    reference = table(before)[random.integers(len(before.rows), size=ROWS)]
    return [reference, table(after.draw(random, patients))]


def table(sample: Sample) -> Array:
    """Measurements and score, a missing category as -1 [n, 14]."""
    rows = np.column_stack([sample.rows, sample.scores]).astype(float)
    categories = [column for column in range(rows.shape[1]) if column not in continuous()]
    rows[:, categories] = np.nan_to_num(rows[:, categories], nan=-1)
    return rows


def continuous() -> list[int]:
    """The columns that are not categories: those of stage synthesize, and the score."""
    return [*(NAMES.index(name) for name in CONTINUOUS), len(MEASUREMENTS)]


# The libraries


def run_library(name: str, windows: Sequence[int], **tables: Any) -> dict[str, Any]:
    """The output of a library for streams, or for large windows."""
    with TemporaryDirectory() as folder:
        source = Path(folder, "tables.npz")
        np.savez(source, continuous=continuous(), **tables)
        return peer.run(name, source, *windows)


def first_alarms(name: str, before: Sample, after: Sample, patients: int) -> dict[str, Array]:
    """The number of patients until each rule of a library alarms in each stream; infinity for never."""
    pairs = [draw_stream(before, after, patients, stream) for stream in range(STREAMS[name])]
    references, streams = map(np.stack, zip(*pairs, strict=True))
    by_rule = run_library(name, WINDOWS, references=references, streams=streams)["alarms"]
    return {
        rule: np.array([np.inf if alarm is None else alarm for alarm in alarms])
        for rule, alarms in by_rule.items()
    }


def promise(policy: Policy, names: list[str]) -> dict[str, Any]:
    """False alarms and delays of the libraries and of the project, by drift and rule."""
    rows, _ = files.encoded(files.read_table(files.PREPARED))
    samples = {BEFORE: scored(rows)} | {name: drift(rows) for name, drift in DRIFTS.items()}
    before = samples[BEFORE]
    by_drift: dict[str, dict[str, Array]] = {drift: {} for drift in samples}
    jobs = list(product(names, samples))
    patients = {drift: policy.stream if drift == BEFORE else HORIZON for drift in samples}
    running = Parallel(n_jobs=-1, prefer="threads", return_as="generator")(
        delayed(first_alarms)(name, before, samples[drift], patients[drift]) for name, drift in jobs
    )
    for (_, drift), alarms in zip(jobs, tqdm(running, total=len(jobs)), strict=True):
        by_drift[drift] |= alarms
    for drift, after in samples.items():
        by_drift[drift]["project"] = delays(
            before, after, ROWS, policy, patients[drift], PROJECT_STREAMS, SEED, workers=cpu_count()
        )
    return {
        drift: {
            rule: (share if drift == BEFORE else median)(alarms) for rule, alarms in rules.items()
        }
        for drift, rules in by_drift.items()
    }


def costs(policy: Policy, names: list[str]) -> dict[str, dict[str, float]]:
    """The seconds of one check by rows in the window."""
    rows, _ = files.encoded(files.read_table(files.PREPARED))
    sample = scored(rows)
    reference = table(sample)[None, :ROWS]
    random = np.random.default_rng(SEED)
    orders = [random.integers(len(rows), size=size) for size in LARGE]
    large = {f"large{i}": table(sample)[order] for i, order in enumerate(orders)}
    empty = np.empty((0, *reference.shape[1:]))
    report = {
        name: run_library(name, (), references=reference, streams=empty, **large)["seconds"]
        for name in names
    }
    project = fit(sample.rows[:ROWS], sample.scores[:ROWS], policy)
    report["project"] = {}
    for order in orders:
        wide = longer(project, len(order)) if len(order) > max(policy.windows) else project
        times = seconds(partial(check, sample.rows[order], sample.scores[order], wide), 5)
        report["project"][str(len(order))] = float(np.median(times))
    return report


def main() -> None:
    policy = policy_of(params.Reference.load())
    absent = peer.absent(tuple(STREAMS))
    names = [name for name in STREAMS if name not in absent]
    report = {
        "cost": costs(policy, names),
        "promise": promise(policy, names),
        "versions": {name: peer.version(name) for name in names},
        "absent": absent,
    }
    files.write_json(OUT, report)
    show(report)


def show(report: dict[str, Any]) -> None:
    """Print the tables."""
    show_streams(report["promise"][BEFORE], report["promise"])
    print("\nseconds of a check, by rows")
    for name, times in report["cost"].items():
        print(f"  {name:<46} {', '.join(f'{rows}: {s:.3g}' for rows, s in times.items())}")
    print("->", OUT)


if __name__ == "__main__":
    run_main(main)
