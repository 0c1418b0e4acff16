"""The database of a URL."""

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from heart.predictions.tables import LogConfigurationError
from heart.predictions.writer import Store

URLS = "expected sqlite:///PATH or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"


def store_of(url: str) -> Store:
    """The store of a log's URL. Raises LogConfigurationError."""
    try:
        address = make_url(url)
    except (ArgumentError, ValueError):
        # Without the error, which may quote a password.
        raise LogConfigurationError(f"the prediction log's URL cannot be read: {URLS}") from None
    if address.get_backend_name() == "sqlite":
        from heart.predictions.sqlite import SqliteStore

        return SqliteStore(address)
    if address.get_backend_name() == "postgresql":
        from heart.predictions.postgres import PostgresStore

        return PostgresStore(address)
    raise LogConfigurationError(f"the prediction log cannot be in {address.drivername}: {URLS}")
