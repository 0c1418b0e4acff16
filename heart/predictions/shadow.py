"""Comparison of a challenger with the champion, aggregated by the database."""

from typing import Any, NamedTuple

from sqlalchemy import Select, case, func, select

from heart.predictions.tables import OUTCOMES, outcomes, predictions, shadows


class Side(NamedTuple):
    """A version, and the probability from which its prediction is presence."""

    version: str
    threshold: float


def differences(champion: Side, challenger: Side, newest: int) -> Select[Any]:
    """Over the challenger's newest rows that this champion has predicted too: their number (`rows`), the
    mean difference of the risks, and the share of different predictions.
    """
    version, key = shadows.c.model_version, shadows.c.prediction_id
    # A range, also in the order: see `log.newest`.
    recent = (
        select(key, shadows.c.probability)
        .where(version.between(challenger.version, challenger.version))
        .order_by(version.desc(), key.desc())
        .limit(newest)
        .subquery()
    )
    challenger_risk, champion_risk = recent.c.probability, predictions.c.probability
    different = (challenger_risk >= challenger.threshold) != (champion_risk >= champion.threshold)
    return (
        select(
            func.count().label("rows"),
            func.avg(challenger_risk - champion_risk).label("difference_mean"),
            func.avg(case((different, 1.0), else_=0.0)).label("disagreement_ratio"),
        )
        .join_from(recent, predictions, predictions.c.id == recent.c.prediction_id)
        .where(predictions.c.model_version == champion.version)
    )


def scores(champion: Side, challenger: Side) -> Select[Any]:
    """Over all patients with an outcome whom both have scored: their number (`labels`), and accuracy and
    Brier score of both.
    """
    champion_risk, challenger_risk = predictions.c.probability, shadows.c.probability
    positive = outcomes.c.outcome == OUTCOMES[1]
    truth = case((positive, 1.0), else_=0.0)
    columns: list[Any] = [func.count().label("labels")]
    for name, risk, side in (
        ("champion", champion_risk, champion),
        ("challenger", challenger_risk, challenger),
    ):
        right = (risk >= side.threshold) == positive
        columns += [
            func.avg(case((right, 1.0), else_=0.0)).label(f"{name}_accuracy"),
            func.avg((risk - truth) * (risk - truth)).label(f"{name}_brier"),
        ]
    return (
        select(*columns)
        .select_from(outcomes)
        .join(predictions)
        .join(shadows, shadows.c.prediction_id == predictions.c.id)
        .where(predictions.c.model_version == champion.version)
        .where(shadows.c.model_version == challenger.version)
    )
