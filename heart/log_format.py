"""The service's own log: of an error its type and place, never its message.

A message of a library may quote the value that it could not use, and that is what somebody wrote of a
patient. The same holds for texts of warnings.
"""

import asyncio
import logging
import sys
import traceback
import warnings
from collections.abc import Iterator
from types import TracebackType
from typing import Any, TextIO

FORMAT = "%(levelname)s %(name)s: %(message)s"
# It says which byte of a form it could not use.
NOISY = ("python_multipart",)

logger = logging.getLogger(__name__)


def described(error: BaseException) -> str:
    """The types and places of an error and of those that it came from, the first of them first."""
    return "\n".join(_one(link) for link in reversed(list(_chain(error))))


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _one(error: BaseException) -> str:
    where = "".join(traceback.format_tb(error.__traceback__))
    return f"{where}{type(error).__name__}"


class ErrorFormatter(logging.Formatter):
    """Formats a record with its error as `described`."""

    def formatException(  # noqa: N802 - the name in logging
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None]
        | tuple[None, None, None],
    ) -> str:
        return "" if ei[1] is None else described(ei[1])


def configure() -> None:
    """Log to standard error from the level INFO, warnings too; for a process's own main."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(ErrorFormatter(FORMAT))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for noisy in NOISY:
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    warnings.showwarning = _show_warning


def _show_warning(
    message: Warning | str,  # noqa: ARG001 - it may quote a value
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,  # noqa: ARG001
    line: str | None = None,  # noqa: ARG001
) -> None:
    logger.warning("%s at %s:%d", category.__name__, filename, lineno)


def report_loop_error(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """For `loop.set_exception_handler`: asyncio's own would print the error, and what was called with."""
    error = context.get("exception")
    if error is None:
        logger.error("%s", context["message"])
    else:
        logger.error("An error that nothing waited for\n%s", described(error))
