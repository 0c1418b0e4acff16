"""How the methods of the prediction log reach the database: changes on the writing thread, queries beside it."""

from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Connection, Select
from sqlalchemy.exc import SQLAlchemyError

from heart.predictions.tables import LogConfigurationError, LogUnavailable
from heart.predictions.writer import GroupCommitWriter, Store

T = TypeVar("T")
Columns = dict[str, list[Any]]


class Access:
    """A store and its writer. Every method raises LogUnavailable.

    Both can be reached as `store` and `writer` for what has no method here.
    """

    def __init__(self, store: Store, writer: GroupCommitWriter, retry_after: float) -> None:
        self.store = store
        self.writer = writer
        self._retry_after = retry_after

    def _change(
        self, work: Callable[[Connection], T], timeout: float | None = None, rows: int = 0
    ) -> T:
        def job() -> T:
            with self.store.transaction() as connection:
                return work(connection)

        return self._on_writer(job, timeout, rows)

    def _on_writer(self, job: Callable[[], T], timeout: float | None = None, rows: int = 0) -> T:
        try:
            return self.writer.run_on_writer(job, timeout, rows)
        except LogConfigurationError as error:  # the database was replaced since the start
            raise LogUnavailable(str(error), self._retry_after) from error

    def _columns(self, query: Select[Any]) -> Columns:
        try:
            with self.store.reading() as connection:
                result = connection.execute(query)
                names, rows = list(result.keys()), result.all()
        except (SQLAlchemyError, OSError) as error:
            reason = self.store.reason(error)
        else:
            columns = map(list, zip(*rows, strict=True)) if rows else ([] for _ in names)
            return dict(zip(names, columns, strict=True))
        raise LogUnavailable(reason, self._retry_after)
