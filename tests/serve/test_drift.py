"""GET /drift in each state."""

import threading
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from heart.drift.baseline import COLUMNS
from serve.api.drift import Feature
from serve.app import create_app
from tests.heart.drift.snapshots import measured, send, watching
from tests.heart.predictions.logs import until
from tests.serve.small_service import model, parts

TOKEN = "a-token-of-some-length"


def refusal(client: TestClient) -> str:
    response = client.get("/drift")
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    return str(response.json()["detail"])


def answer(client: TestClient) -> Any:
    response = client.get("/drift")
    assert response.status_code == 200
    return response.json()


def test_without_a_monitor_drift_is_unavailable(tmp_path: Path) -> None:
    with TestClient(create_app(*parts(tmp_path), with_page=False)) as client:
        assert refusal(client) == "no drift check: this process does not check for drift"


def test_version_without_a_baseline_has_no_drift_check(tmp_path: Path) -> None:
    with watching(tmp_path, model()) as (client, monitor):
        monitor.refresh()

        assert "version 1 has no drift baseline" in refusal(client)


def test_before_the_first_check_drift_is_unavailable(tmp_path: Path) -> None:
    with watching(tmp_path) as (client, _):
        assert "no drift check yet" in refusal(client)


def test_too_few_patients_have_no_verdict(tmp_path: Path) -> None:
    with watching(tmp_path) as (client, monitor):
        send(client, measured(12))
        monitor.refresh()

        assert answer(client) == {
            "model_version": "1",
            "window_rows": 10,
            "minimum_rows": 20,
            "drifted": None,
            "features": {},
        }


def test_patients_like_the_training_patients_have_not_drifted(tmp_path: Path) -> None:
    with watching(tmp_path) as (client, monitor):
        send(client, measured(120))
        monitor.refresh()

        result = answer(client)

    assert (result["window_rows"], result["drifted"]) == (100, False)
    assert list(result["features"]) == list(COLUMNS)
    for feature in result["features"].values():
        assert set(feature) == set(Feature.model_fields)
        assert feature["ratio"] * feature["limit"] - feature["score"] < 1e-9
        assert not feature["drifted"]


def test_drift_is_reported_with_its_features(tmp_path: Path) -> None:
    with watching(tmp_path) as (client, monitor):
        send(client, measured(100))
        send(client, measured(30, seed=1, thallium=None))
        monitor.refresh()

        result = answer(client)

    assert result["drifted"]
    thallium = result["features"]["thallium"]
    assert thallium["ratio"] > 1
    assert thallium["drifted"]
    assert thallium["summary"].startswith("thallium missing in ")


def test_drift_route_requires_the_token(tmp_path: Path) -> None:
    with watching(tmp_path, api_token=TOKEN) as (client, _):
        right = {"Authorization": f"Bearer {TOKEN}"}

        assert client.get("/drift").status_code == 401
        assert client.get("/drift", headers=right).status_code == 503


def test_every_part_of_the_answer_is_documented(tmp_path: Path) -> None:
    with watching(tmp_path) as (client, _):
        schemas = client.get("/openapi.json").json()["components"]["schemas"]

    for name in ("Drift", "Feature"):
        undocumented = [
            key for key, about in schemas[name]["properties"].items() if "description" not in about
        ]
        assert undocumented in ([], ["model_version"], ["drifted"])


def test_service_checks_for_drift_while_it_runs(tmp_path: Path) -> None:
    with watching(tmp_path, interval_seconds=0.05) as (client, _):
        send(client, measured(20))
        until(lambda: client.get("/drift").status_code == 200)
        until(lambda: answer(client)["window_rows"] == 20)

    assert "drift" not in {thread.name for thread in threading.enumerate()}
