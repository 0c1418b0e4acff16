"""Log format for programs that handle patients' data: errors have a type and a place, but no message.

The message of a library's error may quote the value that it could not process, which may be a patient's. The
same holds for the texts of warnings.
"""

import asyncio
import json
import logging
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, Literal, TextIO

Form = Literal["text", "json"]
# The id of the request in progress; empty outside of one.
REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
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
    """Lines of text, or of JSON: time in UTC, level, logger, id of the request, message, error without its message.

    2026-11-27T03:12:45.120Z INFO serve.app: a message [request 5f2c9ab01d7e4c33]
    {"time": "2026-11-27T03:12:45.120Z", "level": "INFO", "logger": "serve.app", "message": ...}
    """

    def __init__(self, form: Form = "text") -> None:
        super().__init__()
        self._form = form

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        stamp = f"{moment}.{int(record.msecs):03d}Z"
        message, request = record.getMessage(), REQUEST_ID.get()
        error = describe(record.exc_info[1]) if record.exc_info and record.exc_info[1] else ""
        if self._form == "text":
            suffix = f" [request {request}]" if request else ""
            line = f"{stamp} {record.levelname} {record.name}: {message}{suffix}"
            return f"{line}\n{error}" if error else line
        fields = {
            "time": stamp,
            "level": record.levelname,
            "logger": record.name,
            "message": message,
        }
        optional = {"request_id": request, "error": error}
        return json.dumps(fields | {key: value for key, value in optional.items() if value})


def configure(form: Form = "text") -> None:
    """Log to standard error from level INFO on, warnings included. To be called by `main` only."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(ErrorFormatter(form))
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
