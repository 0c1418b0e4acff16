"""The model card: the description of a version in the registry."""

from collections.abc import Mapping
from typing import Any

from heart.governance.answers import table, with_interval
from heart.registry.publishing import Package

SHOWN = {
    "roc_auc": "ROC AUC",
    "accuracy": "Accuracy",
    "precision": "Precision",
    "recall": "Recall",
    "brier": "Brier score",
    "log_loss": "Log loss",
    "ece": "Calibration error",
}


MEMBERSHIP_LIMIT = 0.6  # as in heart/synthesis/attack.py, which this package does not import


def model_card(
    figures: Mapping[str, Any],
    trained: Mapping[str, Any],
    verdict: Mapping[str, Any],
    package: Package,
) -> str:
    """The card as Markdown."""
    facts = table("facts")
    sections = [
        f"# {facts['title']}",
        f"**{facts['not_a_device']}** {facts['purpose']}",
        f"Model: {trained['model'].replace('_', ' ')}, weight of synthetic rows "
        f"{trained['synthetic_weight']:g}. Input: 13 measurements, any but age and sex may be "
        "missing. Output: the probability that a vessel is narrowed by more than 50 %.",
        f"## Figures\n{figures['rows']} real held-out patients ({figures['presence']} with disease), "
        f"95 % bootstrap intervals, threshold {figures['threshold']:g}.",
        _scores(figures),
        _groups(figures["groups"]),
        f"Cross-validated on {trained['real_rows_used']} of {trained['real_rows']} training patients: "
        f"ROC AUC {trained['cv_roc_auc']:.3f}; without the further tests (slope, vessels, thallium) "
        f"{trained['cv_roc_auc_without_second_exam']:.3f}.",
        f"## Promotion gate\nVerdict: {'; '.join([verdict['verdict'], *verdict['reasons']])}.",
        *_membership(package.metrics),
        *_differential_privacy(package.metrics),
        f"## Limits\n{facts['limits']}",
        _origin(),
        "\n".join([f"model sha256 {package.sha256}", *map(" ".join, sorted(package.tags.items()))]),
    ]
    return "\n\n".join(sections) + "\n"


def _origin() -> str:
    data = next(iter(table("data_sets").values()))  # the table that the project comes with
    return (
        f"## Data and licenses\nThe table that the project comes with is {data['name']}. {data['setting']} "
        f"{data['dates']} {data['population']} {data['citation']}, {data['license']}. The tag train_md5 identifies the "
        "training rows of this version. Synthetic rows, if they have a weight, are drawn by the package ctgan "
        f"(BUSL-1.1). This project: {table('facts')['license']}."
    )


def _membership(metrics: Mapping[str, float]) -> list[str]:
    """The section on synthetic rows that may tell who was among the patients; none if they do not."""
    auc, low, high = (
        metrics.get(f"synthesize.membership_{end}", 0.0) for end in ("auc", "low", "high")
    )
    if high <= MEMBERSHIP_LIMIT:
        return []
    return [
        "## Synthetic rows\nA membership attack tells the patients of the generators from others with a ROC "
        f"AUC of {auc:.3f} ({low:.3f} to {high:.3f}). Keep the synthetic rows as private as the patients."
    ]


def _differential_privacy(metrics: Mapping[str, float]) -> list[str]:
    """The section on the guarantee of synthetic rows; none if they have none."""
    if "synthesize.dp_epsilon" not in metrics:
        return []
    epsilon, delta, whole = (
        metrics[f"synthesize.dp_{name}"]
        for name in ("epsilon", "delta", "epsilon_of_all_generators")
    )
    return [
        "## Differential privacy\nOf the synthetic rows alone: the model and its figures are learned from real patients "
        f"and have no guarantee. A generator has epsilon {epsilon:g} at delta {delta:g}, all generators together "
        f"{whole:.3g}, for one patient (patient_id) more or fewer among the training patients."
    ]


def _scores(figures: Mapping[str, Any]) -> str:
    rows = [f"| {label} | {with_interval(figures, name)} |" for name, label in SHOWN.items()]
    return "\n".join(["| score | value |", "|---|---|", *rows])


def _groups(groups: Mapping[str, Mapping[str, Any]]) -> str:
    lines = ["| group | patients | ROC AUC | Recall | Brier score |", "|---|---|---|---|---|"]
    for name, group in groups.items():
        cells = [with_interval(group, score) for score in ("roc_auc", "recall", "brier")]
        lines.append(f"| {' | '.join([name.replace('_', ' '), str(group['rows']), *cells])} |")
    return "\n".join(lines)
