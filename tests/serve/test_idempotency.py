"""A request that is repeated with its Idempotency-Key: one answer, one row of the log."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from heart.predictions.log import PredictionLog
from serve.api.models import EXAMPLE
from serve.app import create_app
from tests.fixtures.security import SecurityFigure
from tests.serve.small_service import model, parts

KEY = {"Idempotency-Key": "ward-7/2026-11-27/42"}
JSON = {"content-type": "application/json"}
SECRETS = {name: f"{name}-secret-of-some-length" for name in ("ward", "lab")}
BATCH = {"patients": [EXAMPLE, {"age": 62, "sex": "female"}]}


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(*parts(tmp_path), with_page=False)) as client:
        yield client


def count(client: TestClient) -> int:
    return int(client.app.state.service.log.count())  # type: ignore[attr-defined]


@pytest.fixture
def counted(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of patients that the metrics count."""
    patients: list[int] = []
    metrics = client.app.state.service.metrics.patients  # type: ignore[attr-defined]
    monkeypatch.setattr(
        metrics, "count_predictions", lambda _, counted: patients.append(len(counted.risks))
    )
    return patients


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/predict", EXAMPLE),
        ("/predict?details=true&explain=true", EXAMPLE),
        ("/predict/batch", BATCH),
        ("/v1/predict/batch?details=true", BATCH),
    ],
)
def test_a_repeated_request_has_the_same_answer_and_is_logged_once(
    client: TestClient, counted: list[int], path: str, body: Any
) -> None:
    first, second = (client.post(path, json=body, headers=KEY) for _ in range(2))
    plain = client.post(path, json=body)

    rows = len(body.get("patients", [body]))
    assert first.status_code == second.status_code == 200
    assert first.content == second.content
    assert first.headers["content-type"] == second.headers["content-type"]
    assert [answer.headers.get("idempotency-replayed") for answer in (first, second, plain)] == [
        None, "true", None,
    ]  # fmt: skip
    assert plain.content != first.content
    assert count(client) == 2 * rows
    assert counted == [rows, rows]


def test_the_answer_is_the_first_one_after_a_restart_with_another_model(tmp_path: Path) -> None:
    answers = []
    for version in ("1", "2"):
        settings, champion, log, metrics = parts(tmp_path)
        champion.current = model(version, 0.01)
        with TestClient(create_app(settings, champion, log, metrics, with_page=False)) as client:
            answers.append(client.post("/v1/predict", json=EXAMPLE, headers=KEY))
            assert count(client) == 1

    assert answers[0].content == answers[1].content


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/predict", {**EXAMPLE, "age": 58}),
        ("/predict?details=true", EXAMPLE),
        ("/predict/batch", {"patients": [EXAMPLE]}),
    ],
)
def test_a_key_is_not_for_another_request(client: TestClient, path: str, body: Any) -> None:
    client.post("/predict", json=EXAMPLE, headers=KEY)

    answer = client.post(path, json=body, headers=KEY)

    assert (answer.status_code, answer.json()["type"]) == (409, "/problems#idempotency-key-reused")
    assert count(client) == 1


def test_a_rejected_request_does_not_use_its_key(client: TestClient) -> None:
    rejected = client.post("/predict", json={"age": 300, "sex": "male"}, headers=KEY)
    accepted = client.post("/predict", json=EXAMPLE, headers=KEY)

    assert (rejected.status_code, accepted.status_code) == (422, 200)


@pytest.mark.parametrize("key", ["", "a b", "x" * 101, "ü"])
def test_an_invalid_key_is_rejected(client: TestClient, key: str) -> None:
    answer = client.post("/predict", json=EXAMPLE, headers={b"Idempotency-Key": key.encode()})

    (error,) = answer.json()["errors"]
    assert answer.status_code == 422
    assert (error["location"], error["path"]) == ("header", "Idempotency-Key")
    assert count(client) == 0


@pytest.mark.security
def test_keys_belong_to_their_token(tmp_path: Path, security_figure: SecurityFigure) -> None:
    tokens = "; ".join(f"{name} predict {secret}" for name, secret in SECRETS.items())
    with TestClient(create_app(*parts(tmp_path, tokens=tokens), with_page=False)) as client:
        answers = [
            client.post(
                "/predict", json=EXAMPLE, headers={**KEY, "Authorization": f"Bearer {secret}"}
            )
            for secret in SECRETS.values()
        ]

        assert [answer.status_code for answer in answers] == [200, 200]
        assert answers[0].json()["prediction_id"] != answers[1].json()["prediction_id"]
        assert "idempotency-replayed" not in answers[1].headers
        assert count(client) == 2
    security_figure(
        "another token's idempotency key with the same body", "0 answers of the other", "0 answers"
    )


@pytest.mark.security
@pytest.mark.parametrize(("path", "body"), [("/predict", EXAMPLE), ("/predict/batch", BATCH)])
def test_an_erased_prediction_is_not_answered_again(
    client: TestClient, path: str, body: Any, security_figure: SecurityFigure
) -> None:
    answer = client.post(path, json=body, headers=KEY).json()
    ids = [p["prediction_id"] for p in answer.get("predictions", [answer])]
    client.delete(f"/predictions/{ids[-1]}")

    again = client.post(path, json=body, headers=KEY)

    assert (again.status_code, again.json()["type"]) == (410, "/problems#prediction-erased")
    assert ids[-1] not in again.text
    assert count(client) == len(ids) - 1
    security_figure(
        "a request is repeated with its idempotency key after an erasure", "not answered", "410"
    )


def test_of_requests_at_the_same_time_one_is_logged(client: TestClient, counted: list[int]) -> None:
    def send(_: int) -> Any:
        return client.post("/predict", content=json.dumps(EXAMPLE), headers={**KEY, **JSON})

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(send, range(12)))

    assert [answer.status_code for answer in answers] == [200] * 12
    assert len({answer.content for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    assert count(client) == 1
    assert counted == [1]


def test_a_log_that_cannot_be_written_answers_503_and_keeps_no_key(
    client: TestClient, tmp_path: Path
) -> None:
    (tmp_path / "log.db").rename(tmp_path / "away")
    failed = client.post("/predict", json=EXAMPLE, headers=KEY)
    (tmp_path / "away").rename(tmp_path / "log.db")

    assert (failed.status_code, failed.json()["type"]) == (503, "/problems#log-unavailable")


# Reading a prediction


def test_a_stored_prediction_is_what_was_answered(client: TestClient) -> None:
    patient = {**EXAMPLE, "cholesterol": 600}
    answer = client.post("/predict", json=patient).json()
    key = answer["prediction_id"]

    stored = client.get(f"/v1/predictions/{key}").json()
    outcome = {"prediction_id": key, "outcome": "absence", "source": "clinician"}
    client.post("/feedback", json=outcome)
    later = client.get(f"/predictions/{key}").json()

    same = ("prediction_id", "probability", "prediction", "threshold", "model_version", "missing")
    assert {name: stored[name] for name in (*same, "warnings")} == {
        name: answer[name] for name in (*same, "warnings")
    }
    assert stored["measurements"] == patient
    assert isinstance(stored["measurements"]["age"], int)
    assert stored["outcome"] is None
    recorded = later.pop("outcome")
    assert (recorded["outcome"], recorded["source"]) == ("absence", "clinician")
    assert recorded["recorded_at"]
    assert later == {name: value for name, value in stored.items() if name != "outcome"}


def test_a_prediction_of_a_version_that_is_not_loaded_has_no_threshold(client: TestClient) -> None:
    key = client.post("/predict", json=EXAMPLE).json()["prediction_id"]
    champion = client.app.state.service.champion  # type: ignore[attr-defined]
    champion.current = model("2", 0.01)

    stored = client.get(f"/predictions/{key}").json()

    assert stored["model_version"] == "1"
    assert [stored[name] for name in ("threshold", "prediction", "warnings")] == [None] * 3
    champion.current, champion.previous = model("2", 0.01), model()
    assert client.get(f"/predictions/{key}").json()["threshold"] == 0.5


@pytest.mark.parametrize("key", ["x", "0" * 32, "0" * 31 + "%00"])
def test_an_unknown_or_erased_prediction_is_not_found(client: TestClient, key: str) -> None:
    known = client.post("/predict", json=EXAMPLE).json()["prediction_id"]
    assert client.get(f"/predictions/{known}").status_code == 200
    client.delete(f"/predictions/{known}")

    assert client.get(f"/predictions/{known}").status_code == 404
    assert client.get(f"/predictions/{key}").status_code == 404


def test_keys_end_after_a_day(tmp_path: Path) -> None:
    settings, champion, _, metrics = parts(tmp_path)
    now = [datetime(2026, 3, 1, 12, tzinfo=UTC)]
    log = PredictionLog(settings.log_url, clock=lambda: now[0])
    with TestClient(create_app(settings, champion, log, metrics, with_page=False)) as client:
        client.post("/predict", json=EXAMPLE, headers=KEY)
        now[0] += timedelta(hours=24, seconds=1)

        answer = client.post("/predict", json=EXAMPLE, headers=KEY)

        assert answer.status_code == 200
        assert "idempotency-replayed" not in answer.headers
        assert count(client) == 2
