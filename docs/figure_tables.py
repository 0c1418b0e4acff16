"""Tables of the model's figures, from metrics/*.json."""

from collections.abc import Mapping
from typing import Any

from docs.markdown import figure, figures, table
from heart.governance.answers import with_interval
from heart.registry.model_card import SHOWN
from heart.registry.summary import summary

EVALUATED, TRAINED = "metrics/evaluate.json", "metrics/train.json"


def last_lines() -> str:
    """What `make repro` prints last, in a block of code."""
    printed = summary(figures(EVALUATED), figures(TRAINED), figures("metrics/register.json"), "")
    return f"```text\n{printed.strip()}\n```"


def held_out() -> str:
    """The figures on held-out patients."""
    values = figures(EVALUATED)
    rows = [[label, with_interval(values, name)] for name, label in SHOWN.items()]
    return table(["figure", "value (95 % interval)"], rows)


def groups() -> str:
    """The figures by group of held-out patients."""

    def row(name: str, group: Mapping[str, Any]) -> list[str]:
        scores = [with_interval(group, score) for score in ("roc_auc", "recall", "brier")]
        return [name.replace("_", " "), str(group["rows"]), str(group["presence"]), *scores]

    rows = [row(name, group) for name, group in figures(EVALUATED)["groups"].items()]
    return table(["group", "patients", "with disease", "ROC AUC", "recall", "Brier score"], rows)


def candidates() -> str:
    """The cross-validated loss of each candidate, the best first."""
    losses = figures(TRAINED)["loss_by_candidate"]
    rows = [[name, f"{losses[name]:.4f}"] for name in sorted(losses, key=losses.__getitem__)]
    return table(["candidate", "cross-validated loss"], rows)


def weights() -> str:
    """The cross-validated loss by weight of the synthetic rows."""
    losses = figures(TRAINED)["loss_by_synthetic_weight"]
    rows = [[weight, f"{loss:.4f}"] for weight, loss in losses.items()]
    return table(["weight of synthetic rows", "cross-validated loss"], rows)


def cross_validation() -> str:
    """Cross-validated figures, with all measurements and without the further tests."""

    def row(label: str, *keys: str) -> list[str]:
        return [label, *(figure(TRAINED, key) for key in keys)]

    rows = [
        row("all measurements", "cv_roc_auc", "cv_brier"),
        row(
            "further tests withheld",
            "cv_roc_auc_without_second_exam", "cv_brier_without_second_exam",
        ),
        row(
            "a model that never had the further tests",
            "reference_roc_auc_without_second_exam", "reference_brier_without_second_exam",
        ),
    ]  # fmt: skip
    return table(["", "ROC AUC", "Brier score"], rows)


def synthesis() -> str:
    """Quality and privacy of the synthetic rows."""
    attacks = figures("metrics/synthesize.json")["membership_attack"]["by_attacker"]
    rows = [
        [
            f"membership attack by {name}, ROC AUC",
            f"{part['auc']:.3f} ({part['low']:.3f} to {part['high']:.3f})",
        ]
        for name, part in attacks.items()
    ]
    rows += [
        [label, figure("metrics/synthesize.json", key)]
        for key, label in (
            ("column_shapes", "similarity of single columns, 0 to 1 (sdmetrics)"),
            ("pair_trends", "similarity of pairs of columns, 0 to 1 (sdmetrics)"),
        )
    ]
    return table(["figure", "value"], rows)


def utility() -> str:
    """How models do on real patients, by the rows that they are trained on."""
    rows = [
        [label, figure("metrics/merge.json", f"{key}_auc")]
        for key, label in (
            ("trtr", "real rows"),
            ("tstr", "synthetic rows"),
            ("merged", "real and synthetic rows"),
        )
    ]
    return table(["trained on", "ROC AUC on real rows"], rows)


BLOCKS = {
    "last-lines": last_lines,
    "held-out": held_out,
    "groups": groups,
    "candidates": candidates,
    "weights": weights,
    "cross-validation": cross_validation,
    "synthesis": synthesis,
    "utility": utility,
}
