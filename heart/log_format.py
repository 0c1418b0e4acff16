"""Log format for programs that handle patients' data: errors have a type and a place, but no message.

The message of a library's error may quote the value that it could not process, which may be a patient's. The
same holds for the texts of warnings.
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
# These log bytes of requests.
SILENCED = ("python_multipart",)

logger = logging.getLogger(__name__)


def describe(error: BaseException) -> str:
    """The types and tracebacks of an error and of its causes, the first cause first."""
    return "\n".join(_describe_one(cause) for cause in reversed(list(_causes(error))))


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


def _describe_one(error: BaseException) -> str:
    lines = "".join(traceback.format_tb(error.__traceback__))
    return f"{lines}{type(error).__name__}"


class ErrorFormatter(logging.Formatter):
    """Formats the error of a log record without its message."""

    def formatException(  # noqa: N802 - the name in logging
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None]
        | tuple[None, None, None],
    ) -> str:
        return "" if ei[1] is None else describe(ei[1])


def configure() -> None:
    """Log to standard error from level INFO on, warnings included. To be called by `main` only."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(ErrorFormatter(FORMAT))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for name in SILENCED:
        logging.getLogger(name).setLevel(logging.CRITICAL)
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
    """For `loop.set_exception_handler`: asyncio's own handler logs the message and the arguments of calls."""
    error = context.get("exception")
    if error is None:
        logger.error("%s", context["message"])
    else:
        logger.error("Exception in a task or callback\n%s", describe(error))
