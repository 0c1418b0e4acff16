"""The tables of docs/benchmarks.md, from the files that the benchmarks write."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from docs.markdown import figures, table

Row = Sequence[str]

PEERS = {
    "nothing": "an endpoint that returns a constant",
    "mlflow": "`mlflow models serve`",
    "bentoml": "BentoML",
    "challenger": "this service without a challenger",
}
OVERLOAD = {
    "that_wait": "wait as long as `Retry-After` says",
    "that_ask_again_at_once": "retry at once",
}
DRIFTS = {
    "age + 0.5 sd": "age + 0.5 sd",
    "sex .68 -> .50 men": "men from 68 % to 50 %",
    "30 % of thallium missing": "thallium missing in 30 %",
    "another hospital": "another hospital",
    "all numbers + 0.5 sd, sex": "all numbers + 0.5 sd, and sex",
}
HORIZON = 2000  # patients of a stream with drift
SYNTHESIS = {
    "tstr_auc": "AUC, synthetic rows alone",
    "merged_auc": "AUC, with real rows",
    "dcr_ratio": "distance",
    "copied": "copies",
    "invalid": "invalid",
    "seconds": "seconds",
}
SCORES = {
    "roc_auc": "ROC AUC",
    "accuracy": "accuracy",
    "brier": "Brier score",
    "log_loss": "log loss",
}
MODELS = {
    "logistic_regression_c_0.1": "logistic regression, C = 0.1",
    "random_forest_500": "random forest, 500 trees",
}
CHALLENGERS = (
    "patients like the champion's",
    "patients of another hospital",
    "shuffled outcomes",
    "inverted outcomes",
)
LEARNED = (60, 240)  # outcomes that a challenger has learned beside the champion's
MILLION = 1e6


def milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f}"


def serving() -> str:
    """Requests a second and latency beside other servers."""
    found = figures("benchmarks/serve.json")

    def rows() -> Iterator[Row]:
        for peer, label in PEERS.items():
            for count in (1, 16, 64):
                if run := found.get(f"{peer}_{count}"):
                    yield [
                        label, str(count), f"{run['per_second']:,.0f}", f"{run['ratio']:.2f} x",
                        milliseconds(run["latency"]["p99"]), f"{run['p99_ratio']:.2f} x",
                    ]  # fmt: skip

    heading = ["compared with", "connections", "requests/s", "ratio", "p99 in ms", "ratio of p99"]
    return table(heading, rows())


def overload() -> str:
    """What five times as many clients as are admitted experience."""
    found = figures("benchmarks/serve.json")

    def rows() -> Iterator[Row]:
        for key, label in OVERLOAD.items():
            if run := found.get(f"overload_clients_{key}"):
                yield [
                    label, f"{run['answered_ratio']:.2f} x", f"{run['refused_ratio']:.0%}",
                    milliseconds(run["refused_median_seconds"]), milliseconds(run["p99_seconds"]),
                    f"{run['memory_mib']:.0f}",
                ]  # fmt: skip

    heading = [
        "clients", "answers/s, of the peak", "rejected", "median rejection in ms", "p99 of answers in ms",
        "MiB",
    ]  # fmt: skip
    return table(heading, rows())


def service() -> str:
    """What else was measured of the service."""
    found = figures("benchmarks/serve.json")
    rows = [
        [
            "batches of 10,000, all in the log",
            f"{found['batch_patients_per_second']:,.0f} patients/s",
        ],
        ["memory at rest", f"{found['memory_mib_at_rest']:.0f} MiB"],
        ["memory before a million predictions", f"{found['memory_mib']:.1f} MiB"],
        ["memory after a million predictions", f"{found['memory_mib_after_a_million']:.1f} MiB"],
        ["first answer after a restart", f"{found['seconds_to_first_answer']:.1f} s"],
        [
            "first answer without a cached model",
            f"{found['seconds_to_first_answer_without_cache']:.1f} s",
        ],
        ["rows scored and logged by a challenger", f"{found['challenger_rows']['rows']:,.0f}"],
        ["rows dropped by a challenger", f"{found['challenger_rows']['dropped']:,.0f}"],
    ]
    for connections in (1, 16, 64):
        ratios = found[f"challenger_{connections}"]["p99_ratios"]
        # The 4th and the 12th of 15 rounds hold their median with a confidence of 96 %.
        rows.append(
            [
                f"ratio of p99 with a challenger, {connections} connections, 96 % interval",
                f"{ratios[3]:.2f} to {ratios[11]:.2f}",
            ]
        )
    return table(["figure", "value"], rows)


def drift() -> str:
    """False alarms and delays of the drift check and of rules of single windows."""
    promise = figures("benchmarks/drift.json")["promise"]
    alarms = promise["false_alarms"]
    late = "project, after 1000 patients without drift"

    def rows() -> Iterator[Row]:
        for rule in (*alarms, late):
            run = alarms.get(rule)
            share = _share(run) if run else "as above"
            yield [_project(rule), share, *_delays(promise, rule)]

    return table(["rule", "false alarms", *DRIFTS.values()], rows())


def drift_peers() -> str:
    """The same of libraries."""
    promise = figures("benchmarks/drift_peers.json")["promise"]

    def rows() -> Iterator[Row]:
        for rule, run in promise["no drift"].items():
            yield [_project(rule), f"{run['streams']}", _share(run), *_delays(promise, rule)]

    return table(["rule", "streams", "false alarms", *DRIFTS.values()], rows())


def drift_cost() -> str:
    """Seconds of one check by library and number of patients."""
    cost = figures("benchmarks/drift_peers.json")["cost"]
    sizes = (200, 10_000, 1_000_000)
    rows = [
        [_project(name), *(f"{seconds[str(size)]:.4f}" for size in sizes)]
        for name, seconds in cost.items()
    ]
    return table(["library", *(f"{size:,} patients" for size in sizes)], rows)


def drift_own_cost() -> str:
    """What the drift check of this project costs."""
    cost = figures("benchmarks/drift.json")["cost"]
    rows = [
        ["check of the last 200 patients", f"{milliseconds(cost['last_200_seconds'])} ms"],
        ["check of a million patients", f"{cost['window_of_1000000_seconds']:.2f} s"],
        ["memory for a million patients", f"{cost['window_of_1000000_mebibytes']:.1f} MiB"],
        [
            "reading, log of 10,000 rows",
            f"{milliseconds(cost['look_into_log_of_10000_seconds'])} ms",
        ],
        [
            "reading, log of 10,240,000 rows",
            f"{milliseconds(cost['look_into_log_of_10240000_seconds'])} ms",
        ],
    ]
    return table(["step", "cost"], rows)


def _project(rule: str) -> str:
    return rule.replace("project", "this project").replace("_", "-")


def _share(run: Mapping[str, float]) -> str:
    return f"{run['share']:.3f} ({run['low']:.3f} to {run['high']:.3f})"


def _delays(promise: Mapping[str, Any], rule: str) -> list[str]:
    medians = [promise[name][rule]["median"] for name in DRIFTS]
    return [f"{median:.0f}" if median else f"> {HORIZON}" for median in medians]


def synthesis() -> str:
    """Generators beside each other."""
    measured = figures("benchmarks/synthesis.json")
    methods = measured["methods"]
    rows = [
        [
            method,
            *(
                f"{run['mean']:.3f} ({run['low']:.3f} to {run['high']:.3f})"
                for run in (found[figure] for figure in SYNTHESIS)
            ),
        ]
        for method, found in methods.items()
    ]
    rows.append(["real rows alone", f"{measured['real_auc']:.3f}", *[""] * (len(SYNTHESIS) - 1)])
    return table(["method", *SYNTHESIS.values()], rows)


def scale() -> str:
    """Batch scoring and drift counts of large tables."""
    found = figures("benchmarks/scale.json")

    def rows() -> Iterator[Row]:
        for key, label in (("local", "Parquet, scores"), ("drift", "Parquet, drift counts")):
            for size, runs in found["parquet"].items():
                yield _scaled(label, int(size), runs[key])
        yield _scaled("the model alone, without reading and writing", 10_000_000, found["model"])
        yield _scaled("CSV, scores", 5_000_000, found["csv"]["local"])
        yield _scaled("CSV read by pyarrow, and scores", 5_000_000, found["csv"]["pyarrow"])

    heading = [
        "task", "rows", "seconds", "million rows a second", "million rows a second of processor time",
        "peak memory in MiB",
    ]  # fmt: skip
    return table(heading, rows())


def _scaled(label: str, rows: int, run: Mapping[str, float]) -> Row:
    rates = [rows / run[key] / MILLION for key in ("seconds", "cpu_seconds")]
    return [
        label, f"{rows:,}", f"{run['seconds']:.1f}", *(f"{rate:.2f}" for rate in rates),
        f"{run['mebibytes']:.0f}",
    ]  # fmt: skip


def spark() -> str:
    """Rows a second by Spark once it has started."""
    runs = figures("benchmarks/scale.json")["spark"]
    rows = [
        [f"`--master '{master}'`", f"{20_000_000 / run['seconds']:,.0f}"]
        for master, run in runs.items()
    ]
    return table(["Spark, Parquet, 20,000,000 rows", "rows a second"], rows)


def model() -> str:
    """Nested cross-validation beside plain models."""
    found = figures("benchmarks/model.json")

    def difference(key: str) -> str:
        mean, low, high = (found[f"difference_to_{key}{end}"] for end in ("", "_low", "_high"))
        return f"{mean:+.3f} ({low:+.3f} to {high:+.3f})"

    rows = [["this project", *(f"{found[f'nested_{score}']:.3f}" for score in SCORES)]]
    for key, label in MODELS.items():
        rows.append([label, *(f"{found[f'{key}_{score}']:.3f}" for score in SCORES)])
        rows.append(["difference", *(difference(f"{key}_{score}") for score in SCORES)])
    return table(["model", *SCORES.values()], rows)


def gate() -> str:
    """Which challengers the promotion gate rejects."""
    found = figures("benchmarks/gate.json")

    def rows() -> Iterator[Row]:
        for challenger in CHALLENGERS:
            for count in LEARNED:
                run = found[f"{challenger}, {count}"]
                either = run["either"]
                interval = f"{either['share']:.1%} ({either['low']:.1%} to {either['high']:.1%})"
                alone = [f"{run[score]['share']:.1%}" for score in ("roc_auc", "brier")]
                yield [challenger, str(count), interval, *alone]

    return table(["outcomes learned", "number", "rejected", "by ROC AUC", "by Brier score"], rows())


def pipeline() -> str:
    """Seconds of each stage."""
    found = figures("benchmarks/pipeline.json")
    seconds = found["seconds"]
    stages = [*seconds.items(), ("total", sum(seconds.values()))]
    rows = [[_stage(name), f"{value:.1f}"] for name, value in stages]
    rows.append(["share of the fits", f"{found['share_in_fits']:.0%}"])
    rows.append(["`dvc repro` with nothing to do", f"{found['noop_to_status']:.2f} x `dvc status`"])
    return table(["stage", "seconds"], rows)


def million() -> str:
    """Seconds and memory of each stage on a million patients."""
    found = figures("benchmarks/million.json")
    seconds, processor, memory = (found[key] for key in ("seconds", "cpu_seconds", "mebibytes"))
    stages = {name: (seconds[name], processor[name], memory[name]) for name in seconds}
    stages["total"] = sum(seconds.values()), sum(processor.values()), max(memory.values())
    rows = [
        [_stage(name), f"{wall:.1f}", f"{used:.1f}", f"{mebibytes:,.0f}"]
        for name, (wall, used, mebibytes) in stages.items()
    ]
    return table(["stage", "seconds", "seconds of processor time", "peak memory in MiB"], rows)


def million_facts() -> str:
    """What came out of the pipeline on a million patients."""
    found = figures("benchmarks/million.json")
    used = found["rows_used"]
    interval = f"{found['roc_auc_low']:.4f} to {found['roc_auc_high']:.4f}"
    rows = [
        ["time", f"{found['total_seconds'] / 60:.1f} minutes"],
        ["peak memory", f"{found['most_mebibytes'] / 1024:.1f} GiB"],
        ["load average before the start", f"{found['load_before']:.1f}"],
        ["patients without duplicates", f"{found['rows']:,}"],
        ["patients from which synthesis learns", f"{used['synthesize']:,}"],
        ["patients on which candidates are compared", f"{used['train']:,}"],
        ["patients on which the chosen model is fitted", f"{found['rows_fitted']:,}"],
        ["patients in the drift baseline", f"{used['reference']:,}"],
        ["held-out patients", f"{found['test_rows']:,}"],
        ["ROC AUC on held-out patients", f"{found['roc_auc']:.4f} ({interval})"],
        ["best possible ROC AUC, all patients", f"{found['best_roc_auc']:.4f}"],
        ["calibration error", f"{found['ece']:.4f}"],
        ["ROC AUC of a model trained on synthetic rows alone", f"{found['tstr_auc']:.3f}"],
    ]
    return table(["figure", "value"], rows)


def _stage(name: str) -> str:
    return "DVC itself" if name == "dvc itself" else name


def versions() -> str:
    """The versions of what this project is compared with: those of the lock, then those measured apart."""
    lock = Path("requirements/lock.txt").read_text()
    locked = [
        [name, *re.findall(rf"^{name}==(\S+)", lock, re.MULTILINE)]
        for name in ("mlflow", "pyarrow", "pyspark", "scikit-learn")
    ]
    apart = [
        [name.replace("_", "-"), version]
        for file in ("serve", "drift_peers", "synthesis")
        for name, version in figures(f"benchmarks/{file}.json").get("versions", {}).items()
    ]
    return table(["package", "version"], [*locked, *apart])


def absent() -> str:
    """The peers that were not measured, with the reason."""
    files = ("serve", "drift_peers", "synthesis")
    reasons = {
        peer: reason
        for name in files
        for peer, reason in figures(f"benchmarks/{name}.json").get("absent", {}).items()
    }
    lines = [f"- {peer}: {reason}" for peer, reason in reasons.items()]
    return "\n".join(lines or ["All peers were installed and measured."])


BLOCKS = {
    "benchmark-serving": serving,
    "benchmark-overload": overload,
    "benchmark-service": service,
    "benchmark-drift-own-cost": drift_own_cost,
    "benchmark-drift": drift,
    "benchmark-drift-peers": drift_peers,
    "benchmark-drift-cost": drift_cost,
    "benchmark-synthesis": synthesis,
    "benchmark-scale": scale,
    "benchmark-spark": spark,
    "benchmark-model": model,
    "benchmark-gate": gate,
    "benchmark-pipeline": pipeline,
    "benchmark-million": million,
    "benchmark-million-facts": million_facts,
    "benchmark-versions": versions,
    "benchmark-absent": absent,
}
