"""The model card: what a version says of itself in the registry."""

from collections.abc import Mapping
from typing import Any

from stages.registry import Package

SHOWN = {
    "roc_auc": "ROC AUC",
    "accuracy": "Accuracy",
    "precision": "Precision",
    "recall": "Recall",
    "brier": "Brier score",
    "log_loss": "Log loss",
    "ece": "Calibration error",
}


def with_interval(figures: Mapping[str, Any], name: str) -> str:
    """A figure with its interval, or a dash where it cannot be computed."""
    if figures[name] is None:
        return "-"
    return f"{figures[name]:.3f} ({figures[f'{name}_low']:.3f} to {figures[f'{name}_high']:.3f})"


def model_card(
    figures: Mapping[str, Any],
    trained: Mapping[str, Any],
    verdict: Mapping[str, Any],
    package: Package,
) -> str:
    """The card as Markdown."""
    lines = [
        "# Risk of coronary artery disease",
        "",
        "**Not a medical device.** For research and teaching; no basis for a decision about a patient.",
        "",
        f"Model: {trained['model'].replace('_', ' ')}, weight of synthetic rows "
        f"{trained['synthetic_weight']:g}. Input: 13 measurements, any but age and sex may be "
        "missing. Output: the probability that a vessel is narrowed by more than 50 %.",
        "",
        "## Figures",
        f"{figures['rows']} real held-out patients ({figures['presence']} with disease), 95 % "
        f"bootstrap intervals, threshold {figures['threshold']:g}.",
        "",
        "| score | value |",
        "|---|---|",
        *(f"| {label} | {with_interval(figures, name)} |" for name, label in SHOWN.items()),
        "",
        "| group | patients | ROC AUC | Recall | Brier score |",
        "|---|---|---|---|---|",
        *(
            f"| {name.replace('_', ' ')} | {group['rows']} | "
            + " | ".join(with_interval(group, score) for score in ("roc_auc", "recall", "brier"))
            + " |"
            for name, group in figures["groups"].items()
        ),
        "",
        f"Cross-validated on {trained['real_rows_used']} of {trained['real_rows']} training patients: "
        f"ROC AUC {trained['cv_roc_auc']:.3f}; without a "
        f"second examination {trained['cv_roc_auc_without_second_exam']:.3f}.",
        "",
        "## Gate",
        f"Verdict: {'; '.join([verdict['verdict'], *verdict['reasons']])}.",
        "",
        "## Limits",
        "One hospital, 1981 to 1984, patients already referred for angiography, two thirds men. "
        "With so few held-out patients the intervals are wide, by group above all.",
        "",
        "## Data and licences",
        "UCI Heart Disease, processed Cleveland file: Janosi, Steinbrunn, Pfisterer and Detrano "
        "(1988), DOI 10.24432/C52P4X, CC BY 4.0. Synthetic rows by CTGAN (BUSL-1.1). "
        "This project: Apache-2.0.",
        "",
        f"model sha256 {package.sha256}",
        *(f"{key} {value}" for key, value in sorted(package.tags.items())),
    ]
    return "\n".join(lines) + "\n"
