import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings

from heart.predictions.log import new_ids
from serve.api.models import EXAMPLE
from serve.app import create_app
from tests.serve.fhir.strategies import PREDICTIONS
from tests.serve.small_service import parts

pytest.importorskip("fhir.resources", reason="requirements/fhir.txt is not installed")

from datetime import UTC, datetime

from fhir.resources.R4B.operationoutcome import OperationOutcome
from fhir.resources.R4B.riskassessment import RiskAssessment

from serve.fhir.errors import FHIR_JSON
from serve.fhir.risk_assessment import risk_assessment
from serve.fhir.routes import prefers_fhir

TOKEN = "a-token-of-some-length"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    app = create_app(*parts(tmp_path, fhir=True), with_page=False)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def predict(client: TestClient, **headers: str) -> Any:
    response = client.post("/predict", json=EXAMPLE, headers=headers)
    assert response.status_code == 200, response.text
    return response.json()


def test_the_resource_has_what_the_prediction_has(client: TestClient) -> None:
    answer = predict(client)

    response = client.get(f"/fhir/RiskAssessment/{answer['prediction_id']}")

    assert response.headers["content-type"] == "application/fhir+json"
    resource = RiskAssessment.model_validate_json(response.content)
    assert resource.id == answer["prediction_id"]
    assert float(resource.prediction[0].probabilityDecimal) == pytest.approx(answer["probability"])
    contained = {part["id"]: part for part in response.json()["contained"]}
    assert contained["model"]["version"][0]["value"] == answer["model_version"]
    assert contained["patient"]["gender"] == EXAMPLE["sex"]
    assert contained["resting-bp"]["valueQuantity"]["value"] == EXAMPLE["resting_bp"]
    assert contained["provenance"]["target"] == [{"reference": "#"}]
    basis = {reference["reference"][1:] for reference in response.json()["basis"]}
    assert basis == contained.keys() - {"model", "patient", "provenance"}
    assert not basis & {name.replace("_", "-") for name in answer["missing"]}


def test_a_client_that_accepts_fhir_gets_the_resource_of_the_log(client: TestClient) -> None:
    response = client.post("/predict", json=EXAMPLE, headers={"Accept": FHIR_JSON})

    assert response.status_code == 200
    assert response.headers["content-type"] == FHIR_JSON
    key = RiskAssessment.model_validate_json(response.content).id
    assert client.get(f"/fhir/RiskAssessment/{key}").content == response.content


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("application/fhir+json", True),
        ("Application/FHIR+JSON; fhirVersion=4.0, */*;q=0.1", True),
        ("application/json;q=0.5, application/fhir+json", True),
        ("application/json, application/fhir+json", False),
        ("*/*", False),
        ("", False),
        ("application/fhir+json;q=0", False),
        ("application/fhir+json;q=x", False),
        ("text/html", False),
    ],
)
def test_the_preferred_media_type_decides(accept: str, expected: bool) -> None:
    assert prefers_fhir(accept) is expected


def test_an_invalid_patient_is_an_outcome_for_those_who_accept_fhir(client: TestClient) -> None:
    for headers, kind in (({"Accept": FHIR_JSON}, FHIR_JSON), ({}, "json")):
        response = client.post("/predict", json={"age": 7}, headers=headers)
        assert response.status_code == 422
        assert kind in response.headers["content-type"]
    outcome = client.post("/predict", json={"age": 7}, headers={"Accept": FHIR_JSON})
    assert OperationOutcome.model_validate_json(outcome.content).issue[0].code == "invalid"
    repeated = {"Accept": FHIR_JSON, "Idempotency-Key": "x"}
    assert client.post("/predict", json=EXAMPLE, headers=repeated).status_code == 400


def test_an_erased_prediction_is_gone(client: TestClient) -> None:
    key = predict(client)["prediction_id"]
    assert client.get(f"/fhir/RiskAssessment/{key}").status_code == 200

    assert client.delete(f"/predictions/{key}").status_code == 204

    response = client.get(f"/fhir/RiskAssessment/{key}")
    assert response.status_code == 404
    assert OperationOutcome.model_validate_json(response.content).issue[0].code == "not-found"


def test_an_unavailable_log_is_a_transient_error(client: TestClient) -> None:
    key = predict(client)["prediction_id"]
    client.app.state.service.log.store.reading = _broken  # type: ignore[attr-defined]

    response = client.get(f"/fhir/RiskAssessment/{key}")

    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1
    assert OperationOutcome.model_validate_json(response.content).issue[0].code == "transient"


def _broken() -> Any:
    raise OSError


@pytest.mark.parametrize(
    ("secret", "status", "code"),
    [("a-wrong-secret-of-nobody", 401, "login"), ("a-secret-for-outcomes", 403, "forbidden")],
)
def test_it_needs_a_token_with_the_scope(
    tmp_path: Path, secret: str, status: int, code: str
) -> None:
    given = {"fhir": True, "api_token": TOKEN, "tokens": "sender feedback a-secret-for-outcomes"}
    with TestClient(create_app(*parts(tmp_path, **given), with_page=False)) as client:
        key = predict(client, Authorization=f"Bearer {TOKEN}")["prediction_id"]
        path = f"/fhir/RiskAssessment/{key}"
        assert client.get(path, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200

        response = client.get(path, headers={"Authorization": f"Bearer {secret}"})

    assert response.status_code == status
    assert OperationOutcome.model_validate_json(response.content).issue[0].code == code


def test_without_the_setting_there_is_no_route(tmp_path: Path) -> None:
    with TestClient(create_app(*parts(tmp_path), with_page=False)) as client:
        key = predict(client)["prediction_id"]
        assert client.get(f"/fhir/RiskAssessment/{key}").status_code == 404
        assert "/fhir/RiskAssessment/{id}" not in client.get("/openapi.json").json()["paths"]


def is_valid(kept: dict[str, Any]) -> None:
    key = new_ids(1)[0]
    resource = risk_assessment({**kept, "id": key, "created_at": datetime.now(UTC)})
    again = RiskAssessment.model_validate_json(resource.model_dump_json())
    assert json.loads(again.model_dump_json()) == json.loads(resource.model_dump_json())
    assert float(again.prediction[0].probabilityDecimal) == kept["probability"]


@given(PREDICTIONS)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_predictions_are_valid_resources(kept: dict[str, Any]) -> None:
    is_valid(kept)


@pytest.mark.heavy
@given(PREDICTIONS)
@settings(max_examples=10_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_ten_thousand_predictions_are_valid_resources(kept: dict[str, Any]) -> None:
    is_valid(kept)
