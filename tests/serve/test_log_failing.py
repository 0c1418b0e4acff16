"""The metric of a prediction log that cannot be written stays until a write succeeds."""

from pathlib import Path

from fastapi.testclient import TestClient

from serve.api.models import EXAMPLE
from serve.app import create_app
from tests.serve.small_service import parts


def test_a_log_counts_as_failing_until_a_write_succeeds(tmp_path: Path) -> None:
    def failing() -> bool:
        return "heart_log_failing 1.0" in client.get("/metrics").text

    with TestClient(create_app(*parts(tmp_path), with_page=False)) as client:
        assert client.post("/predict", json=EXAMPLE).status_code == 200
        assert not failing()

        (tmp_path / "log.db").rename(tmp_path / "away")
        assert client.post("/predict", json=EXAMPLE).status_code == 503
        assert [failing(), failing()] == [True, True]  # without a further request

        (tmp_path / "away").rename(tmp_path / "log.db")
        assert failing()
        assert client.get("/health/ready").status_code == 200
        assert not failing()


def test_a_log_that_only_a_probe_has_found_unwritable_counts_as_failing(tmp_path: Path) -> None:
    with TestClient(create_app(*parts(tmp_path), with_page=False)) as client:
        assert "heart_log_failing 0.0" in client.get("/metrics").text
        (tmp_path / "log.db").rename(tmp_path / "away")

        assert client.get("/health/ready").status_code == 503

        assert "heart_log_failing 1.0" in client.get("/metrics").text
