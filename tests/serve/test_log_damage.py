"""The service checks the file of its log when it starts, and readiness and metrics report damage."""

import os
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from serve.app import create_app
from tests.heart.predictions.logs import opened, records, until
from tests.serve.small_service import parts

pytestmark = pytest.mark.security


def test_a_service_with_a_damaged_log_is_not_ready(tmp_path: Path) -> None:
    with opened(f"sqlite:///{tmp_path}/log.db") as log:
        log.append_sync(records(5000))
    with (tmp_path / "log.db").open("r+b") as file:
        file.seek(60 * 4096)
        file.write(os.urandom(4096))

    with TestClient(create_app(*parts(tmp_path), with_page=False)) as client:
        until(lambda: client.get("/health/ready").status_code == 503)

        (reason,) = client.get("/health/ready").json()["reasons"]
        assert "log.db is damaged" in reason
        assert "heart_log_damaged 1.0" in client.get("/metrics").text


def test_a_service_with_a_sound_log_is_ready(tmp_path: Path) -> None:
    app = create_app(*parts(tmp_path), with_page=False)
    with TestClient(app) as client:
        until(lambda: app.state.service.log.inspection is not None)

        assert client.get("/health/ready").json() == {"status": "ready", "reasons": [], "notes": []}
        assert "heart_log_damaged 0.0" in client.get("/metrics").text
