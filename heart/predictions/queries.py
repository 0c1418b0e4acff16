"""Queries of the prediction log."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, func, select

from heart.predictions.tables import KEPT, history, outcomes, predictions


def newest(n: int, model_version: str | None, step: int = 1) -> Select[Any]:
    """The query of `last`: it reads an index from its end and stops after `n` rows."""
    version, seq = predictions.c.model_version, predictions.c.seq
    query = select(*KEPT).limit(n)
    if step > 1:
        end = select(func.max(predictions.alias().c.seq)).scalar_subquery()
        query = query.where(seq <= end // step * step)
    if model_version is None:
        return query.order_by(seq.desc())
    # A range, also in the order: with "=" PostgreSQL may read all newer rows of other versions.
    return query.where(version.between(model_version, model_version)).order_by(
        version.desc(), seq.desc()
    )


def entries(prediction_id: str | None) -> Select[Any]:
    """The entries of all outcomes (of one prediction), oldest first."""
    query = select(history).order_by(history.c.seq)
    return query if prediction_id is None else query.where(history.c.prediction_id == prediction_id)


def with_outcome(model_version: str | None, names: Sequence[str]) -> Select[Any]:
    """The columns `names` of all predictions (of one version) with an outcome, oldest first."""
    columns = {column.name: column for column in (*KEPT, *outcomes.columns)}
    query = select(*(columns[name] for name in names)).join_from(predictions, outcomes)
    if model_version is not None:
        query = query.where(predictions.c.model_version == model_version)
    return query.order_by(predictions.c.seq)


def one(prediction_id: str) -> Select[Any]:
    """A prediction and its outcome, if it has one."""
    label = (outcomes.c.outcome, outcomes.c.source, outcomes.c.recorded_at)
    query = select(*KEPT, *label).join_from(predictions, outcomes, isouter=True)
    return query.where(predictions.c.id == prediction_id)
