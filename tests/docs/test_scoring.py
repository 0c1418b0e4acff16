"""What docs/scoring.md says was measured is what `make bench-scale` printed."""

import json
from pathlib import Path
from typing import Any

from benchmarks.scale import CSV_ROWS, SIZES, SPARK_ROWS
from serve.batch.__main__ import _parser

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/scoring.md").read_text()
FOUND: dict[str, Any] = json.loads((ROOT / "benchmarks/scale.json").read_text())


def test_every_option_is_explained() -> None:
    options = {o for action in _parser()._actions for o in action.option_strings}

    for option in options - {"-h", "--help"}:
        assert f"`{option} " in PAGE or f"`{option}`" in PAGE or f" {option} " in PAGE, option


def line(what: str, rows: int, run: dict[str, float]) -> str:
    cpu, seconds = run["cpu_seconds"], run["seconds"]
    return (
        f"| {what} | {rows:,} | {rows / cpu / 1e6:.2f} | {seconds:.1f} | {run['mebibytes']:.0f} |"
    )


def test_the_figures_are_those_that_were_printed() -> None:
    for rows in SIZES:
        for name, what in (("local", "Parquet, scores"), ("drift", "Parquet, drift counts")):
            assert line(what, rows, FOUND["parquet"][f"{rows}"][name]) in PAGE
    assert line("the model alone", SIZES[1], FOUND["model"]) in PAGE
    assert line("CSV, scores", CSV_ROWS, FOUND["csv"]["local"]) in PAGE
    assert line("CSV read by pyarrow, and scores", CSV_ROWS, FOUND["csv"]["pyarrow"]) in PAGE
    for master, found in FOUND["spark"].items():
        rate = SPARK_ROWS / found["seconds"]
        assert f"| `--master '{master}'` | {rate:,.0f} |" in PAGE
