"""What benchmarks/README.md says was measured is what the benchmarks printed."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.drift import DRIFTS, HORIZON
from benchmarks.drift_peers import BEFORE, LARGE
from benchmarks.gate import CHALLENGERS, OUTCOMES
from benchmarks.scale import CSV_ROWS, SIZES, SPARK_ROWS
from benchmarks.serve import CONNECTIONS, bounds
from benchmarks.synthesis import FIGURES
from stages.params import SECTIONS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "benchmarks/README.md").read_text()
WORDS = " ".join(PAGE.split())
README = " ".join((ROOT / "README.md").read_text().split())
FILES = (
    "serve",
    "drift",
    "drift_peers",
    "synthesis",
    "scale",
    "model",
    "gate",
    "pipeline",
    "million",
)
FOUND: dict[str, Any] = {  # what is not measured yet is not there
    name: json.loads(path.read_text())
    for name in FILES
    if (path := ROOT / f"benchmarks/{name}.json").exists()
}
LOCK = (ROOT / "requirements/lock.txt").read_text()


def milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f}"


def serving() -> Iterator[str]:
    found = FOUND["serve"]
    peers = {
        "nothing": "an endpoint that does nothing",
        "mlflow": "`mlflow models serve`",
        "bentoml": "BentoML",
        "challenger": "the same without a challenger",
    }
    for peer, what in peers.items():
        counts = sorted(
            int(name.split("_")[1]) for name in found if re.fullmatch(rf"{peer}_\d+", name)
        )
        for count in counts:
            run = found[f"{peer}_{count}"]
            yield (
                f"| {what} | {count} | {run['per_second']:,.0f} | {run['ratio']:.2f} x | "
                f"{milliseconds(run['latency']['p99'])} | {run['p99_ratio']:.2f} x |"
            )
    for clients in ("that wait", "that ask again at once"):
        run = found[f"overload_clients_{clients.replace(' ', '_')}"]
        yield (
            f"| {clients} | {run['answered_ratio']:.2f} x | {run['refused_ratio']:.0%} | "
            f"{milliseconds(run['refused_median_seconds'])} | {milliseconds(run['p99_seconds'])} | "
            f"{run['memory_mib']:.0f} |"
        )


def drift() -> Iterator[str]:
    promise = FOUND["drift"]["promise"]
    alarms = promise["false_alarms"]
    for rule in (*alarms, "project, after 1000 patients without drift"):
        run = alarms.get(rule)
        share = f"{run['share']:.4g} ({run['low']:.4f} to {run['high']:.4f})" if run else "as above"
        delays = [promise[name][rule]["median"] for name in DRIFTS]
        yield line(rule, [share, *(f"{n:.0f}" if n else f"> {HORIZON}" for n in delays)])


def drift_peers() -> Iterator[str]:
    if found := FOUND.get("drift_peers"):
        promise = found["promise"]
        for rule, run in promise[BEFORE].items():
            share = f"{run['share']:.4g} ({run['low']:.4f} to {run['high']:.4f})"
            delays = [promise[name][rule]["median"] for name in DRIFTS]
            numbers = [f"{n:.0f}" if n else f"> {HORIZON}" for n in delays]
            yield line(rule, [f"{run['streams']}", share, *numbers])
        for name, seconds in found["cost"].items():
            yield line(name, [f"{seconds[str(rows)]:.4f}" for rows in LARGE])


def synthesis() -> Iterator[str]:
    for name, figures in FOUND.get("synthesis", {"methods": {}})["methods"].items():
        runs = [figures[figure] for figure in FIGURES]
        yield line(name, [f"{r['mean']:.3f} ({r['low']:.3f} to {r['high']:.3f})" for r in runs])


def scale() -> Iterator[str]:
    for name, what in (("local", "Parquet, scores"), ("drift", "Parquet, drift counts")):
        for rows in (SIZES[0], SIZES[-1]):
            yield measured(what, rows, FOUND["scale"]["parquet"][f"{rows}"][name])
    yield measured("CSV, scores", CSV_ROWS, FOUND["scale"]["csv"]["local"])
    yield measured("CSV by pyarrow, and scores", CSV_ROWS, FOUND["scale"]["csv"]["pyarrow"])
    for master, run in FOUND["scale"]["spark"].items():
        rate = SPARK_ROWS / run["seconds"] / 1e6
        yield f"| Parquet, scores, Spark `{master}` | {SPARK_ROWS:,} | {rate:.2f} | - | - |"


def measured(what: str, rows: int, run: dict[str, float]) -> str:
    rate, each = rows / run["seconds"] / 1e6, rows / run["cpu_seconds"] / 1e6
    return f"| {what} | {rows:,} | {rate:.2f} | {each:.2f} | {run['mebibytes']:.0f} |"


def model() -> Iterator[str]:
    scores = ("roc_auc", "accuracy", "brier", "log_loss")
    peers = {
        "logistic_regression_c_0.1": "logistic regression, C = 0.1",
        "random_forest_500": "random forest of 500",
    }
    yield line("this project's recipe", [figure(f"nested_{score}") for score in scores])
    for name, what in peers.items():
        yield line(what, [figure(f"{name}_{score}") for score in scores])
        yield line("the recipe minus it", [difference(f"{name}_{score}") for score in scores])


def figure(key: str) -> str:
    return f"{FOUND['model'][key]:.3f}"


def difference(key: str) -> str:
    mean, low, high = (FOUND["model"][f"difference_to_{key}{end}"] for end in ("", "_low", "_high"))
    return f"{mean:+.3f} ({low:+.3f} to {high:+.3f})"


def line(what: str, cells: list[str]) -> str:
    return f"| {' | '.join([what, *cells])} |"


def gate() -> Iterator[str]:
    for who in CHALLENGERS:
        for count in OUTCOMES:
            found = FOUND["gate"][f"{who}, {count}"]
            either, roc_auc, brier = (found[score] for score in ("either", "roc_auc", "brier"))
            share = f"{either['share']:.1%} ({either['low']:.1%} to {either['high']:.1%})"
            alone = [f"{score['share']:.1%}" for score in (roc_auc, brier)]
            yield line(who, [str(count), share, *alone])


def pipeline() -> Iterator[str]:
    seconds = FOUND["pipeline"]["seconds"]
    for name, value in (*seconds.items(), ("all", sum(seconds.values()))):
        yield line(name, [f"{value:.1f}"])


def million() -> Iterator[str]:
    found = FOUND["million"]
    columns = [found[column] for column in ("seconds", "cpu_seconds", "mebibytes")]
    stages = {name: [column[name] for column in columns] for name in columns[0]}
    stages["all"] = [sum(columns[0].values()), sum(columns[1].values()), max(columns[2].values())]
    for name, (seconds, cpu_seconds, mebibytes) in stages.items():
        yield line(name, [f"{seconds:.1f}", f"{cpu_seconds:.1f}", f"{mebibytes:,.0f}"])


TABLES = {
    "Serving": serving,
    "Drift": drift,
    "Drift beside libraries": drift_peers,
    "Synthesis": synthesis,
    "Scale": scale,
    "Model": model,
    "Gate": gate,
    "Pipeline": pipeline,
    "A million patients": million,
}


@pytest.mark.parametrize("title", TABLES)
def test_every_line_of_a_table_is_what_was_printed(title: str) -> None:
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0].splitlines()

    lines = [
        line
        for line, after in zip(section, [*section[1:], ""], strict=True)
        if line.startswith("| ") and not after.startswith("|---")
    ]
    assert lines == list(TABLES[title]())


def test_the_figures_in_the_text_are_what_was_printed() -> None:
    serve, cost, pipe = FOUND["serve"], FOUND["drift"]["cost"], FOUND["pipeline"]
    after, rest = serve["memory_mib_after_a_million"], serve["memory_mib_at_rest"]
    synthesized = json.loads((ROOT / "metrics/synthesize.json").read_text())

    for text in (
        f"{serve['batch_patients_per_second']:,.0f} patients a second",
        f"{rest:.0f} MiB at rest, {serve['memory_mib']:.1f} before and {after:.1f} after",
        f"{serve['seconds_to_first_answer']:.1f} s after a restart",
        f"{serve['seconds_to_first_answer_without_cache']:.1f} s without a cached model",
        f"last 200 patients takes {milliseconds(cost['last_200_seconds'])} ms",
        f"of a million {cost['window_of_1000000_seconds']:.2f} s",
        f"{cost['window_of_1000000_mebibytes']:.1f} MiB",
        f"{milliseconds(cost['look_into_log_of_10000_seconds'])} ms in a log of 10,000",
        f"{milliseconds(cost['look_into_log_of_10240000_seconds'])} ms in one of 10,240,000",
        f"{pipe['share_in_fits']:.0%} of the time",
        f"{pipe['noop_to_status']:.2f} x `dvc status`",
        f"ROC AUC {synthesized['tstr_auc']:.3f}",
        f"on real ones {synthesized['trtr_auc']:.3f}, on both {synthesized['merged_auc']:.3f}",
        f"distance {synthesized['dcr_ratio']:.2f} x",
    ):
        assert text in WORDS
    for connections in CONNECTIONS:
        low, high = bounds(serve[f"challenger_{connections}"])
        assert f"{low:.2f} to {high:.2f} on {connections}" in WORDS


def test_the_text_says_of_a_million_patients_what_was_printed() -> None:
    found = FOUND["million"]
    used = found["rows_used"]

    for text in (
        f"{found['rows']:,} patients are left of a million",
        f"synthesis learns from {used['synthesize']:,} of them, the candidates are compared on "
        f"{used['train']:,}, the drift reference counts {used['reference']:,}",
        f"the chosen {found['model'].replace('_', ' ')} is fitted on all {found['rows_fitted']:,}",
        f"{found['test_rows']:,} held-out patients: ROC AUC {found['roc_auc']:.4f} "
        f"({found['roc_auc_low']:.4f} to {found['roc_auc_high']:.4f})",
        f"have {found['best_roc_auc']:.4f} of all patients",
        f"calibration error {found['ece']:.4f}",
        f"{found['tstr_auc']:.3f} if it is trained on synthetic patients alone",
        f"load average before the start was {found['load_before']:.1f}",
        f"took {found['total_seconds'] / 60:.1f} minutes and {found['most_mebibytes'] / 1024:.1f} GiB",
    ):
        assert text in WORDS


def test_the_readme_says_the_same_of_the_service() -> None:
    serve = FOUND["serve"]

    assert f"{round(serve['nothing_16']['per_second'], -2):,.0f} requests/s on 16" in README
    assert f"{serve['nothing_16']['ratio']:.2f} x an endpoint that does nothing" in README
    assert f"{serve['mlflow_16']['ratio']:.1f} x `mlflow models serve`" in README
    assert f"{serve['memory_mib_after_a_million']:.0f} MiB over a million" in README


def test_every_benchmark_has_its_command_and_its_file() -> None:
    makefile = (ROOT / "Makefile").read_text()

    for target in re.findall(r"^(bench-[a-z-]+):", makefile, re.MULTILINE):
        name = target.removeprefix("bench-").replace("-", "_")
        assert f"| `make {target}` | `{name}.json` |" in PAGE
    assert len(FILES) == len(re.findall(r"\| `make bench-", PAGE))


def test_the_versions_of_the_peers_are_the_locked_ones() -> None:
    versions = re.findall(r"\b(mlflow|scikit-learn|pyarrow|pyspark) (\d[\d.]*\d)", PAGE)

    assert len(versions) == 4
    for name, version in versions:
        assert f"\n{name}=={version}\n" in LOCK


def test_the_versions_of_the_peers_apart_are_those_that_are_installed_and_measured() -> None:
    measured = {
        name: version
        for found in FOUND.values()
        for name, version in found.get("versions", {}).items()
    }

    for path in (ROOT / "benchmarks/peers").glob("*.txt"):
        found = re.search(r"^([\w-]+)==([\w.]+)$", path.read_text(), re.MULTILINE)
        assert found, f"{path} pins no version"
        name, version = found.groups()
        assert f"{name} {version}" in PAGE
        assert measured.get(path.stem, version) == version


def test_what_is_not_in_the_files_yet_is_said_and_nothing_else() -> None:
    missing = section_of_missing()

    assert [s for s in SECTIONS if s not in FOUND["pipeline"]["seconds"]] == re.findall(
        r"of stage `(\w+)`", missing
    )
    for name in FILES:
        assert (f"`make bench-{name.replace('_', '-')}` was not run" in missing) != (name in FOUND)
    for found in FOUND.values():
        for peer, reason in found.get("absent", {}).items():
            assert peer in missing
            assert reason in missing
    for peer in re.findall(r"\*\*([\w.-]+)\*\*", missing):
        assert f"\n{peer.lower()}==" not in LOCK, f"{peer} is installed: measure it"


def section_of_missing() -> str:
    return " ".join(PAGE.split("\n## Not measured yet\n")[1].split())
