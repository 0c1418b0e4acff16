"""The tables of docs/benchmarks.md on drift, synthesis, model and promotion gate, and on the versions of peers."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from docs.markdown import figures, milliseconds, table

Row = Sequence[str]

DRIFTS = {
    "age + 0.5 sd": "age + 0.5 sd",
    "sex .68 -> .50 men": "men from 68 % to 50 %",
    "30 % of thallium missing": "thallium missing in 30 %",
    "another hospital": "another hospital",
    "all numbers + 0.5 sd, sex": "all numbers + 0.5 sd, and sex",
}
LABEL_FREE = {
    "none": "none",
    "covariate shift": "older, more women",
    "missing measurements": "further tests missing in 60 %",
    "both": "both",
    "another hospital": "another hospital",
    "disease half as frequent": "changed disease: half as frequent",
    "disease unrelated to the measurements": "changed disease: unrelated to the measurements",
}
HORIZON = 2000  # patients of a stream with drift
SYNTHESIS = {
    "tstr_auc": "AUC, synthetic rows alone",
    "merged_auc": "AUC, with real rows",
    "attack_distance": "attack by distance",
    "attack_density": "attack by density",
    "attack_high": "its upper end",
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
ENDS = ("quarantined", "kept", "rejected", "promoted")


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
        ["check of the last 2,000 patients", f"{milliseconds(cost['last_2000_seconds'])} ms"],
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
                for run in (numbers[figure] for figure in SYNTHESIS)
            ),
        ]
        for method, numbers in methods.items()
    ]
    rows.append(["real rows alone", f"{measured['real_auc']:.3f}", *[""] * (len(SYNTHESIS) - 1)])
    return table(["method", *SYNTHESIS.values()], rows)


def _with_interval(run: Mapping[str, float], sign: str = "") -> str:
    return f"{run['mean']:{sign}.3f} ({run['low']:{sign}.3f} to {run['high']:{sign}.3f})"


def private_synthesis() -> str:
    """The utility of private rows by epsilon."""
    measured = figures("benchmarks/private_synthesis.json")
    rows = [
        [f"epsilon {epsilon}", _with_interval(run["tstr_auc"]), f"{run['seconds']:.2f}"]
        for epsilon, run in sorted(measured["by_epsilon"].items(), key=lambda item: float(item[0]))
    ]
    rows.append(["CTGAN, no privacy", f"{measured['ctgan_auc']:.3f}", ""])
    rows.append(["real rows", f"{measured['real_auc']:.3f}", ""])
    return table(["trained on", "AUC on real patients", "seconds of a fit"], rows)


def learning_curves() -> str:
    """Whether synthetic rows help where real ones are scarce."""
    rows = [
        [
            str(run["patients"]),
            run["model"].replace("_", " "),
            _with_interval(run["real"]),
            *(_with_interval(run[generator], "+") for generator in ("ctgan", "dp")),
        ]
        for run in figures("benchmarks/private_synthesis.json")["curves"]
    ]
    return table(["real patients", "model", "AUC", "with CTGAN's", "with private rows"], rows)


def model() -> str:
    """Nested cross-validation beside plain models."""
    numbers = figures("benchmarks/model.json")

    def difference(key: str) -> str:
        mean, low, high = (numbers[f"difference_to_{key}{end}"] for end in ("", "_low", "_high"))
        return f"{mean:+.3f} ({low:+.3f} to {high:+.3f})"

    rows = [["this project", *(f"{numbers[f'nested_{score}']:.3f}" for score in SCORES)]]
    for key, label in MODELS.items():
        rows.append([label, *(f"{numbers[f'{key}_{score}']:.3f}" for score in SCORES)])
        rows.append(["difference", *(difference(f"{key}_{score}") for score in SCORES)])
    return table(["model", *SCORES.values()], rows)


def gate() -> str:
    """What becomes of recorded outcomes."""
    numbers = figures("benchmarks/gate.json")

    def rows() -> Iterator[Row]:
        for name, run in numbers["cases"]:
            better = run["better"]
            yield [
                *name.rsplit(", ", 1),
                *(f"{run[end]['share']:.1%}" for end in ENDS),
                f"{better['share']:.1%} ({better['low']:.1%} to {better['high']:.1%})",
                f"{-run['brier_gain']:+.4f}",
            ]

    heading = ["outcomes", "number", *ENDS, "better", "Brier score"]
    return table(heading, rows())


def label_free() -> str:
    """Performance estimated without outcomes: observed, estimated, and how often the interval holds it."""
    shifts = figures("benchmarks/label_free.json")["shifts"]

    def rows() -> Iterator[Row]:
        for shift, label in LABEL_FREE.items():
            for name in ("accuracy", "brier", "roc_auc"):
                one = shifts[shift][name]
                project, peer = one["project"], one.get("nannyml")
                yield [
                    label, SCORES[name], f"{one['observed']:.3f}", f"{project['estimate']:.3f}",
                    f"{project['coverage']:.0%}", f"{peer['estimate']:.3f}" if peer else "-",
                    f"{peer['coverage']:.0%}" if peer else "-",
                    f"{shifts[shift]['contradicted']:.0%}",
                ]  # fmt: skip

    heading = [
        "shift", "figure", "observed", "this project", "in its interval", "nannyml", "in its interval",
        "contradicted",
    ]  # fmt: skip
    return table(heading, rows())


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
    files = ("serve", "drift_peers", "label_free", "synthesis")
    reasons = {
        peer: reason
        for name in files
        for peer, reason in figures(f"benchmarks/{name}.json").get("absent", {}).items()
    }
    lines = [f"- {peer}: {reason}" for peer, reason in reasons.items()]
    return "\n".join(lines or ["All peers were installed and measured."])


BLOCKS = {
    "benchmark-drift": drift,
    "benchmark-drift-peers": drift_peers,
    "benchmark-drift-cost": drift_cost,
    "benchmark-drift-own-cost": drift_own_cost,
    "benchmark-label-free": label_free,
    "benchmark-synthesis": synthesis,
    "benchmark-private-synthesis": private_synthesis,
    "benchmark-learning-curves": learning_curves,
    "benchmark-model": model,
    "benchmark-gate": gate,
    "benchmark-versions": versions,
    "benchmark-absent": absent,
}
