"""Accuracy and ROC AUC of a version on predictions with an outcome, aggregated by the database.

ROC AUC is the probability that a patient with the disease has a higher risk than one without (ties count
half). It follows from the sum R of the ranks of the P patients with the disease among all P + N, where
equal risks share the mean of their ranks: AUC = (R - P (P + 1) / 2) / (P N). See Mann and Whitney (1947).
"""

from typing import Any

from sqlalchemy import Select, case, func, select

from heart.predictions.shadow import Side
from heart.predictions.tables import OUTCOMES, outcomes, predictions


def ranked(side: Side) -> Select[Any]:
    """Over all predictions of a version with an outcome: their number (`labels`), the number with the
    disease (`positive`), the number of right predictions (`right`), and `rank_sum`.
    """
    risk = predictions.c.probability
    is_positive = outcomes.c.outcome == OUTCOMES[1]
    ties = func.count().over(partition_by=risk)
    rows = (
        select(
            case((is_positive, 1), else_=0).label("positive"),
            case(((risk >= side.threshold) == is_positive, 1), else_=0).label("is_right"),
            (func.rank().over(order_by=risk) + (ties - 1) / 2.0).label("place"),
        )
        .join_from(outcomes, predictions)
        .where(predictions.c.model_version == side.version)
        .subquery()
    )
    columns: list[Any] = [
        func.count().label("labels"),
        func.sum(rows.c.positive).label("positive"),
        func.sum(rows.c.is_right).label("right"),
        func.sum(case((rows.c.positive == 1, rows.c.place), else_=0.0)).label("rank_sum"),
    ]
    return select(*columns).select_from(rows)


def scores(counts: dict[str, Any]) -> dict[str, float] | None:
    """The number of labels, accuracy and ROC AUC from the counts of `ranked`; None without both outcomes."""
    labels, positive = int(counts["labels"] or 0), int(counts["positive"] or 0)
    negative = labels - positive
    if not positive or not negative:
        return None
    wins = float(counts["rank_sum"]) - positive * (positive + 1) / 2
    return {
        "labels": float(labels),
        "accuracy": int(counts["right"]) / labels,
        "roc_auc": wins / (positive * negative),
    }
