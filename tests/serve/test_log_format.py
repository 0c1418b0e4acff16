"""No line of the service's own log has the message of an error: it may quote a patient."""

import asyncio
import gc
import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from heart.log_format import REQUEST_ID, ErrorFormatter, describe
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

    text = ErrorFormatter().format(record)

    assert " ERROR x: it failed\n" in text
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


def _record(message: str = "a message") -> logging.LogRecord:
    record = logging.LogRecord("serve.app", logging.WARNING, "f.py", 1, message, None, None)
    record.created, record.msecs = 1_795_749_165.12, 120.0
    return record


def test_a_line_has_the_time_in_utc_the_level_and_the_request() -> None:
    token = REQUEST_ID.set("abc-1")
    try:
        line = ErrorFormatter().format(_record())
    finally:
        REQUEST_ID.reset(token)

    assert line == "2026-11-27T03:12:45.120Z WARNING serve.app: a message [request abc-1]"
    assert ErrorFormatter().format(_record()).endswith("serve.app: a message")


def test_json_is_one_object_a_line_without_the_message_of_an_error() -> None:
    record = _record("two\nlines")
    record.exc_info = (RuntimeError, failure(), None)

    line = ErrorFormatter("json").format(record)

    document = json.loads(line)
    assert "\n" not in line
    assert (document["time"], document["level"]) == ("2026-11-27T03:12:45.120Z", "WARNING")
    assert document["message"] == "two\nlines"
    assert "RuntimeError" in document["error"]
    assert CANARY not in line


def test_a_request_id_is_returned_and_an_invalid_one_replaced(tmp_path: Path) -> None:
    with TestClient(create_app(*parts(tmp_path))) as client:
        own = client.get("/health/live", headers={"X-Request-ID": "visit-7.a_B"})
        forged = client.get("/health/live", headers={"X-Request-ID": "a b"})
        first, second = (client.get("/nowhere").headers["x-request-id"] for _ in range(2))

    assert own.headers.get_list("x-request-id") == ["visit-7.a_B"]
    assert re.fullmatch("[0-9a-f]{16}", forged.headers["x-request-id"])
    assert first != second


def test_the_access_log_has_the_route_and_the_id_and_nothing_of_the_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.handler.setFormatter(ErrorFormatter())
    caplog.set_level(logging.INFO, "serve.access")
    with TestClient(create_app(*parts(tmp_path, access_log=True))) as client:
        client.post("/predict", json={"age": 57, "sex": "male"}, headers={"X-Request-ID": "r1"})
        client.get(f"/predictions/{CANARY}?{CANARY}")

    lines = [line for line in caplog.text.splitlines() if "serve.access" in line]
    assert re.search(r"INFO serve\.access: POST /predict 200 [0-9.]+ ms \[request r1\]$", lines[0])
    assert len(lines) == 2
    assert CANARY not in caplog.text


def test_without_the_setting_there_is_no_access_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "serve.access")

    with TestClient(create_app(*parts(tmp_path))) as client:
        client.get("/health/live")

    assert "serve.access" not in caplog.text
