"""No line of the service's own log has the message of an error: it may quote a patient."""

import asyncio
import gc
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from heart.log_format import FORMAT, ErrorFormatter, describe
from serve.app import create_app
from tests.heart.registry.registry_fixture import ROOT
from tests.serve.small_service import parts

CANARY = "canary-of-a-patient"

# What libraries do with an error, in a process that logs as the service does.
PROCESS = f"""
import asyncio, gc, logging, warnings
from heart.log_format import configure, report_loop_error
configure()
async def fail(): raise KeyError({CANARY!r})
async def forgotten():
    asyncio.get_running_loop().set_exception_handler(report_loop_error)
    task = asyncio.create_task(fail())
    asyncio.get_running_loop().call_soon(int, {CANARY!r})
    await asyncio.sleep(0.01)
    del task
    gc.collect()
try:
    {{}}[{CANARY!r}]
except KeyError:
    logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
warnings.warn({CANARY!r}, UserWarning)
logging.getLogger("python_multipart.multipart").warning({CANARY!r})
asyncio.run(forgotten())
"""


def failure() -> Exception:
    """An error that came from another, which came while a third was handled."""

    def number() -> int:
        return int(CANARY)

    def look_up() -> int:
        try:
            return number()
        except ValueError:
            return {"": 1}[CANARY]

    def fail() -> None:
        try:
            look_up()
        except KeyError as error:
            raise RuntimeError(CANARY) from error

    with pytest.raises(RuntimeError) as raised:
        fail()
    return raised.value


def test_an_error_is_described_by_types_and_places() -> None:
    text = describe(failure())

    types = [line for line in text.splitlines() if not line.startswith(" ")]
    assert types == ["ValueError", "KeyError", "RuntimeError"]
    assert Path(__file__).name in text


def test_a_record_is_written_without_the_message_of_its_error() -> None:
    error = failure()
    record = logging.LogRecord(
        "x", logging.ERROR, __file__, 1, "it failed", None, (type(error), error, None)
    )

    text = ErrorFormatter(FORMAT).format(record)

    assert text.startswith("ERROR x: it failed\n")
    assert "RuntimeError" in text
    assert CANARY not in text


def test_process_logs_no_messages_of_errors_and_warnings() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROCESS], cwd=ROOT, check=True, capture_output=True, text=True
    )

    assert done.stdout == ""
    assert CANARY not in done.stderr
    assert "ERROR uvicorn.error: Exception in ASGI application" in done.stderr
    assert done.stderr.count("KeyError") == 2
    assert "ValueError" in done.stderr
    assert "UserWarning at <string>:" in done.stderr


def test_error_of_a_task_is_logged_without_its_message(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> None:
        raise LookupError(CANARY)

    async def forget() -> None:
        task = asyncio.create_task(fail())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        del task
        gc.collect()

    with TestClient(create_app(*parts(tmp_path), with_page=False)) as client:
        assert client.portal is not None
        client.portal.call(forget)

    assert "LookupError" in caplog.text
    assert CANARY not in caplog.text
