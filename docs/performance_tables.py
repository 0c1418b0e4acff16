"""The tables of docs/benchmarks.md on speed and memory, from the files that the benchmarks write."""

from collections.abc import Iterator, Mapping, Sequence

from docs.markdown import figures, milliseconds, table

Row = Sequence[str]

PEERS = {
    "nothing": "an endpoint that returns a constant",
    "floor": "the same after one fdatasync",
    "mlflow": "`mlflow models serve`",
    "bentoml": "BentoML",
    "challenger": "this service without a challenger",
}
OVERLOAD = {
    "that_wait": "wait as long as `Retry-After` says",
    "that_ask_again_at_once": "retry at once",
}
MILLION = 1e6


def serving() -> str:
    """Requests a second and latency beside other servers."""
    numbers = figures("benchmarks/serve.json")

    def rows() -> Iterator[Row]:
        for peer, label in PEERS.items():
            for count in (1, 16, 64):
                if run := numbers.get(f"{peer}_{count}"):
                    yield [
                        label, str(count), f"{run['per_second']:,.0f}", f"{run['ratio']:.2f} x",
                        milliseconds(run["latency"]["p99"]), f"{run['p99_ratio']:.2f} x",
                    ]  # fmt: skip

    heading = ["compared with", "connections", "requests/s", "ratio", "p99 in ms", "ratio of p99"]
    return table(heading, rows())


def overload() -> str:
    """What five times as many clients as are admitted experience."""
    numbers = figures("benchmarks/serve.json")

    def rows() -> Iterator[Row]:
        for key, label in OVERLOAD.items():
            if run := numbers.get(f"overload_clients_{key}"):
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
    numbers = figures("benchmarks/serve.json")
    rows = [
        [
            "batches of 10,000, in a log of 2,000,000 rows",
            f"{numbers['batch_patients_per_second']:,.0f} patients/s",
        ],
        ["memory at rest", f"{numbers['memory_mib_at_rest']:.0f} MiB"],
        ["memory before a million predictions", f"{numbers['memory_mib']:.1f} MiB"],
        ["memory after a million predictions", f"{numbers['memory_mib_after_a_million']:.1f} MiB"],
        ["first answer after a restart", f"{numbers['seconds_to_first_answer']:.1f} s"],
        [
            "first answer without a cached model",
            f"{numbers['seconds_to_first_answer_without_cache']:.1f} s",
        ],
        ["rows scored and logged by a challenger", f"{numbers['challenger_rows']['rows']:,.0f}"],
        ["rows dropped by a challenger", f"{numbers['challenger_rows']['dropped']:,.0f}"],
    ]
    if floor := numbers.get("floor_1"):
        label = "median latency on one connection, of that of the constant after one fdatasync"
        rows.append([label, f"{floor['p50_ratio']:.2f} x"])
    for connections in (1, 16, 64):
        ratios = numbers[f"challenger_{connections}"]["p99_ratios"]
        # The 4th and the 12th of 15 rounds hold their median with a confidence of 96 %.
        rows.append(
            [
                f"ratio of p99 with a challenger, {connections} connections, 96 % interval",
                f"{ratios[3]:.2f} to {ratios[11]:.2f}",
            ]
        )
    return table(["figure", "value"], rows)


def scale() -> str:
    """Batch scoring and drift counts of large tables."""
    numbers = figures("benchmarks/scale.json")

    def rows() -> Iterator[Row]:
        for key, label in (("local", "Parquet, scores"), ("drift", "Parquet, drift counts")):
            for size, runs in numbers["parquet"].items():
                yield _scaled(label, int(size), runs[key])
        yield _scaled("the model alone, without reading and writing", 10_000_000, numbers["model"])
        yield _scaled("CSV, scores", 5_000_000, numbers["csv"]["local"])
        yield _scaled("CSV read by pyarrow, and scores", 5_000_000, numbers["csv"]["pyarrow"])

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


def pipeline() -> str:
    """Seconds of each stage."""
    numbers = figures("benchmarks/pipeline.json")
    seconds = numbers["seconds"]
    stages = [*seconds.items(), ("total", sum(seconds.values()))]
    rows = [[_stage(name), f"{value:.1f}"] for name, value in stages]
    rows.append(["share of the fits", f"{numbers['share_in_fits']:.0%}"])
    rows.append(
        ["`dvc repro` with nothing to do", f"{numbers['noop_to_status']:.2f} x `dvc status`"]
    )
    return table(["stage", "seconds"], rows)


def million() -> str:
    """Seconds and memory of each stage on a million patients."""
    numbers = figures("benchmarks/million.json")
    seconds, processor, memory = (numbers[key] for key in ("seconds", "cpu_seconds", "mebibytes"))
    stages = {name: (seconds[name], processor[name], memory[name]) for name in seconds}
    stages["total"] = sum(seconds.values()), sum(processor.values()), max(memory.values())
    rows = [
        [_stage(name), f"{wall:.1f}", f"{used:.1f}", f"{mebibytes:,.0f}"]
        for name, (wall, used, mebibytes) in stages.items()
    ]
    return table(["stage", "seconds", "seconds of processor time", "peak memory in MiB"], rows)


def million_facts() -> str:
    """What came out of the pipeline on a million patients."""
    numbers = figures("benchmarks/million.json")
    used = numbers["rows_used"]
    interval = f"{numbers['roc_auc_low']:.4f} to {numbers['roc_auc_high']:.4f}"
    rows = [
        ["time", f"{numbers['total_seconds'] / 60:.1f} minutes"],
        ["peak memory", f"{numbers['most_mebibytes'] / 1024:.1f} GiB"],
        ["load average before the start", f"{numbers['load_before']:.1f}"],
        ["patients without duplicates", f"{numbers['rows']:,}"],
        ["patients from which synthesis learns", f"{used['synthesize']:,}"],
        ["patients on which candidates are compared", f"{used['train']:,}"],
        ["patients on which the chosen model is fitted", f"{numbers['rows_fitted']:,}"],
        ["patients in the drift baseline", f"{used['reference']:,}"],
        ["held-out patients", f"{numbers['test_rows']:,}"],
        ["ROC AUC on held-out patients", f"{numbers['roc_auc']:.4f} ({interval})"],
        ["best possible ROC AUC, all patients", f"{numbers['best_roc_auc']:.4f}"],
        ["calibration error", f"{numbers['ece']:.4f}"],
        ["ROC AUC of a model trained on synthetic rows alone", f"{numbers['tstr_auc']:.3f}"],
    ]
    return table(["figure", "value"], rows)


def _stage(name: str) -> str:
    return "DVC itself" if name == "dvc itself" else name


def attacks() -> str:
    """What the attacks and faults of `make test-security` measured."""
    rows = (
        [attack, figure["measured"], figure["limit"]]
        for attack, figure in sorted(figures("benchmarks/security.json").items())
    )
    return table(["attack or fault", "measured", "limit"], rows)


BLOCKS = {
    "attacks": attacks,
    "benchmark-serving": serving,
    "benchmark-overload": overload,
    "benchmark-service": service,
    "benchmark-scale": scale,
    "benchmark-spark": spark,
    "benchmark-pipeline": pipeline,
    "benchmark-million": million,
    "benchmark-million-facts": million_facts,
}
