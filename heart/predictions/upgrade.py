"""The creation of the prediction log's tables, and their upgrade from older versions."""

from typing import Any

from sqlalchemy import Connection, insert, inspect, select, text, update

from heart.predictions.sources import UNKNOWN
from heart.predictions.tables import (
    SCHEMA_VERSION,
    LogConfigurationError,
    answers,
    history,
    metadata,
    outcomes,
    predictions,
    shadows,
    state,
)


def prepare(connection: Connection) -> None:
    """Create the tables in an empty database; otherwise check them and upgrade old ones.

    Raises LogConfigurationError.
    """
    if inspect(connection).has_table(state.name):
        _check(connection)
        return
    metadata.create_all(connection)
    start: list[dict[str, Any]] = [
        {"name": "schema_version", "value": SCHEMA_VERSION},
        {"name": "erased", "value": 0},
        {"name": "purged", "value": 0},
        {"name": "withdrawn", "value": 0},
    ]
    connection.execute(insert(state), start)


def _check(connection: Connection) -> None:
    is_version = state.c.name == "schema_version"
    version = connection.scalar(select(state.c.value).where(is_version))
    if version is None or version > SCHEMA_VERSION:
        raise LogConfigurationError(
            f"the prediction log has version {version} of its tables, "
            f"this program knows {SCHEMA_VERSION}: use the newer program, or restore the backup from before "
            "the upgrade"
        )
    columns = {column["name"] for column in inspect(connection).get_columns(predictions.name)}
    if difference := columns.symmetric_difference(predictions.columns.keys()):
        raise LogConfigurationError(
            f"the prediction log has the tables of another schema, columns {sorted(difference)} differ: "
            "set HEART_LOG_URL to a new log"
        )
    if version < SCHEMA_VERSION:
        _upgrade(connection, version)
        connection.execute(update(state).where(is_version).values(value=SCHEMA_VERSION))


def _upgrade(connection: Connection, version: int) -> None:
    """Bring older tables up to date; outcomes without a sender get UNKNOWN."""
    answers.create(connection)
    if version > 2:
        return
    if version < 2:
        shadows.create(connection)
    history.create(connection)
    column = f"ALTER TABLE outcomes ADD COLUMN sender TEXT NOT NULL DEFAULT '{UNKNOWN}'"
    connection.execute(text(column))
    names = ("prediction_id", "outcome", "source", "sender", "recorded_at")
    before = select(*(outcomes.c[name] for name in names)).order_by(outcomes.c.recorded_at)
    connection.execute(insert(history).from_select(names, before))
    connection.execute(insert(state).values(name="withdrawn", value=0))
