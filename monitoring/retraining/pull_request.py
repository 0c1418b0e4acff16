"""The text of a pull request with a retrained model: its report, the comparison with the last commit's, and plots.

`python -m monitoring.retraining.pull_request REPORT` prints it; run it before the commit of the metrics.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from heart import files
from heart.errors import run_main
from heart.registry.compare import WORKSPACE, as_markdown, compare, load

POINTS = 21  # of a line; Mermaid draws them at equal distances
REPORT_LENGTH = 20_000  # characters, the last ones; GitHub takes 65,536 for all


def text(report: str, comparison: str, charts: list[str]) -> str:
    """The text as Markdown."""
    # Indented text is code, whatever it contains.
    lines = [f"    {line}" for line in report[-REPORT_LENGTH:].splitlines()]
    fenced = [f"```mermaid\n{chart}\n```" for chart in charts]
    return "\n\n".join(
        [
            "## Report",
            "\n".join(lines),
            "## Before (A) and after (B)",
            comparison,
            "## Plots",
            *fenced,
        ]
    )


def line_chart(title: str, table: pd.DataFrame, x: str, y: str) -> str:
    """A Mermaid chart of a curve, given by its points in the order of x."""
    low, high = table[x].iloc[0], table[x].iloc[-1]
    heights = np.interp(np.linspace(low, high, POINTS), table[x], table[y])
    return "\n".join(
        [
            "xychart-beta",
            f'  title "{title}"',
            f'  x-axis "{_words(x)}" {low:.3g} --> {high:.3g}',
            f'  y-axis "{_words(y)}" 0 --> 1',
            f"  line [{', '.join(f'{height:.3f}' for height in heights)}]",
        ]
    )


def bar_chart(title: str, table: pd.DataFrame, name: str, value: str) -> str:
    """A Mermaid chart with one bar for each row."""
    names = ", ".join(f'"{_words(label)}"' for label in table[name])
    return "\n".join(
        [
            "xychart-beta horizontal",
            f'  title "{title}"',
            f"  x-axis [{names}]",
            f'  y-axis "{_words(value)}"',
            f"  bar [{', '.join(f'{number:.4f}' for number in table[value])}]",
        ]
    )


def _words(name: str) -> str:
    return name.replace("_", " ")


def charts(folder: Path) -> list[str]:
    """The charts of the plots of stage evaluate."""
    roc, calibration, importance = (
        pd.read_csv(folder / f"{name}.csv") for name in ("roc", "calibration", "importance")
    )
    return [
        line_chart("ROC on held-out patients", roc, "false_positive_rate", "true_positive_rate"),
        line_chart("Predicted risk and share of presence", calibration, "predicted", "observed"),
        bar_chart(
            "ROC AUC lost when a measurement is withheld", importance, "measurement", "roc_auc_lost"
        ),
    ]


def main() -> None:
    (report,) = sys.argv[1:]
    comparison = compare(load("HEAD"), load(WORKSPACE))
    print(text(Path(report).read_text(), as_markdown(comparison), charts(files.PLOTS)))


if __name__ == "__main__":
    run_main(main)
