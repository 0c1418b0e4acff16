"""CDS Hooks: discovery, cards, and feedback on them."""

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from time import process_time
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient

from serve.app import create_app
from tests.fixtures.security import SecurityFigure
from tests.serve.small_service import parts

pytest.importorskip("fhir.resources", reason="requirements/fhir.txt is not installed")

from fhir.resources.R4B.operationoutcome import OperationOutcome
from fhir.resources.R4B.riskassessment import RiskAssessment

from serve.fhir.cards import OVERRIDE_REASONS, SERVICE_PATH
from serve.fhir.cds_hooks import MAX_BYTES
from serve.fhir.codes import ENTRIES
from serve.fhir.measurements import MAX_PATIENT_VALUES
from tests.serve.fhir.resources import (
    PATIENT_ID,
    bundle,
    complete,
    observation,
    patient,
    quantity,
    request,
)

FEEDBACK = f"{SERVICE_PATH}/feedback"
TIME = "2026-11-27T08:00:00Z"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    app = create_app(*parts(tmp_path, cds_hooks=True), with_page=False)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def card(client: TestClient, body: dict[str, Any]) -> dict[str, Any]:
    response = client.post(SERVICE_PATH, json=body)
    assert response.status_code == 200, response.text
    (result,) = response.json()["cards"]
    assert len(result["summary"]) < 140
    assert result["indicator"] == "info"
    assert result["source"]["label"]
    return dict(result)


def test_discovery_names_the_hook_and_a_prefetch_of_all_codes(client: TestClient) -> None:
    (service,) = client.get("/cds-services").json()["services"]

    assert f"/cds-services/{service['id']}" == SERVICE_PATH
    assert service["hook"] == "patient-view"
    assert service["prefetch"]["patient"] == "Patient/{{context.patientId}}"
    query = service["prefetch"]["observations"]
    assert query.startswith("Observation?patient={{context.patientId}}&")
    for entry in ENTRIES.values():
        for code in (*entry.codes, *entry.within):
            assert f"{code.system}|{code.code}" in query


def test_the_card_has_the_risk_of_the_api_and_its_interval(client: TestClient) -> None:
    result = card(client, request(*complete()[:4]))

    key = UUID(result["uuid"]).hex
    kept = client.app.state.service.log.get(key)  # type: ignore[attr-defined]
    assert kept["cholesterol"] == 240
    assert kept["resting_bp"] == 140
    assert kept["sex"] == "male"
    risk = f"{kept['probability']:.0%}"
    assert risk in result["summary"]
    intervals = re.findall(r"(\d+)% to (\d+)%", result["detail"])
    (low, high), (hospital_low, hospital_high) = [tuple(map(int, pair)) for pair in intervals]
    assert hospital_low < low < int(risk[:-1]) < high < hospital_high
    assert "7 of 13" in result["summary"]


def test_the_card_names_what_is_missing_what_is_not_used_and_the_use(client: TestClient) -> None:
    result = card(client, request(observation("resting_bp", quantity(14, "cm[Hg]"))))

    assert "11 of 13" in result["summary"]
    assert "cm[Hg]" in result["detail"]
    assert "medical device" in result["detail"]
    assert result["links"][0]["type"] == "absolute"
    assert result["links"][0]["url"].startswith("http://127.0.0.1:")


def test_the_suggestion_creates_a_valid_resource_of_the_patient(client: TestClient) -> None:
    result = card(client, request(*complete()))

    (suggestion,) = result["suggestions"]
    (action,) = suggestion["actions"]
    resource = RiskAssessment.model_validate(action["resource"])
    assert action["type"] == "create"
    assert action["description"]
    assert result["selectionBehavior"] == "at-most-one"
    assert resource.subject.reference == f"Patient/{PATIENT_ID}"
    assert resource.id is None
    assert isinstance(action["resource"]["prediction"][0]["probabilityDecimal"], float)


@pytest.mark.parametrize("changes", [{"gender": "unknown"}, {"birthDate": "1969"}])
def test_without_age_or_sex_there_is_no_risk_and_nothing_is_logged(
    client: TestClient, changes: dict[str, Any]
) -> None:
    result = card(client, request(*complete(), patient=patient(**changes)))

    assert "uuid" not in result
    assert client.app.state.service.log.count() == 0  # type: ignore[attr-defined]


def test_a_deceased_patient_has_no_card(client: TestClient) -> None:
    body = request(patient=patient(deceasedDateTime="2026-01-01"))

    assert client.post(SERVICE_PATH, json=body).json() == {"cards": []}
    assert client.app.state.service.log.count() == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "observations",
    [
        None,
        {},
        {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "timeout"}]},
        {"resourceType": "Bundle", "entry": 7, "link": "next"},
        {"resourceType": "Bundle", "entry": [1, {"resource": 2}]},
        [],
        "text",
    ],
)
def test_a_prefetch_without_observations_leaves_all_missing(
    client: TestClient, observations: Any
) -> None:
    result = card(client, request(observations=observations))

    assert "11 of 13" in result["summary"]
    is_bundle = isinstance(observations, dict) and observations.get("resourceType") == "Bundle"
    assert ("Not used" in result["detail"]) is not is_bundle


def test_further_pages_are_reported(client: TestClient) -> None:
    link = [{"relation": "next", "url": "https://ehr.example.org/fhir/Observation?page=2"}]
    first = card(client, request(observations=bundle()))
    second = card(client, request(observations=bundle(link=link)))

    assert "Not used" not in first["detail"]
    assert "Not used" in second["detail"]


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"prefetch": None}, 412, "required"),
        ({"prefetch": {"observations": bundle()}}, 412, "required"),
        ({"prefetch": {"patient": None}}, 412, "required"),
        ({"prefetch": {"patient": {"resourceType": "Device"}}}, 412, "required"),
        ({"prefetch": {"patient": patient(id="other")}}, 422, "invalid"),
        ({"prefetch": {"patient": patient(birthDate="yesterday")}}, 422, "invalid"),
        ({"prefetch": {"patient": patient(name=[1] * MAX_PATIENT_VALUES)}}, 413, "too-long"),
        ({"hook": "order-sign"}, 422, "invalid"),
        ({"context": {"patientId": "a/../b", "userId": "Practitioner/1"}}, 422, "invalid"),
        ({"context": {}}, 422, "invalid"),
        ({"hookInstance": None}, 422, "invalid"),
    ],
)
def test_invalid_calls_are_answered_with_an_outcome(
    client: TestClient, changes: dict[str, Any], status: int, code: str
) -> None:
    response = client.post(SERVICE_PATH, json=request() | changes)

    assert response.status_code == status
    issue = OperationOutcome.model_validate_json(response.content).issue[0]
    assert issue.code == code
    assert "yesterday" not in issue.diagnostics


@pytest.mark.security
@pytest.mark.parametrize("element", ["note", "component", "category"])
def test_a_prefetch_of_many_small_values_is_not_checked_value_by_value(
    client: TestClient, element: str, security_figure: SecurityFigure
) -> None:
    many: list[Any] = [{}] * (MAX_BYTES // 4)
    hostile = observation("cholesterol", quantity(240, "mg/dL")) | {element: many}

    before = process_time()
    result = card(client, request(hostile, observation("resting_bp", quantity(120, "mm[Hg]"))))
    seconds = process_time() - before

    assert "10 of 13" in result["summary"]
    assert seconds < 2
    security_figure(
        "a CDS Hooks call with 260,000 values in an Observation of 1 MB",
        "the Observation is not checked, and reported",
        "2 s of CPU time",
    )


def test_a_body_that_is_no_json_is_rejected(client: TestClient) -> None:
    for content, kind, status in (
        (b"{", "application/json", 422),
        (b'{"prefetch":' + b"[" * 5000, "application/json", 422),
        (b"hook=patient-view", "application/x-www-form-urlencoded", 415),
        (b"[" + b" " * MAX_BYTES, "application/json", 413),
    ):
        response = client.post(SERVICE_PATH, content=content, headers={"content-type": kind})
        assert response.status_code == status
        OperationOutcome.model_validate_json(response.content)


def test_without_a_model_the_error_is_transient(client: TestClient) -> None:
    client.app.state.service.champion.current = None  # type: ignore[attr-defined]

    response = client.post(SERVICE_PATH, json=request())

    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1
    assert OperationOutcome.model_validate_json(response.content).issue[0].code == "transient"


@pytest.mark.security
def test_a_call_never_reaches_the_address_that_it_names(
    client: TestClient, security_figure: SecurityFigure
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/fhir"
        link = [{"relation": "next", "url": f"{url}/Observation?page=2"}]
        access = {"access_token": "secret", "token_type": "Bearer", "expires_in": 300}
        body = request(observations=bundle(link=link))
        card(client, body | {"fhirServer": url, "fhirAuthorization": access})
        with pytest.raises(TimeoutError):
            listener.accept()

    security_figure(
        "a CDS Hooks call that names a FHIR server, a next page and an access token",
        "0 connections",
        "no connection to an address of a request",
    )


def feedback(key: str, outcome: str = "overridden", **changes: Any) -> dict[str, Any]:
    return {"card": key, "outcome": outcome, "outcomeTimestamp": TIME, **changes}


def reason(code: str) -> dict[str, Any]:
    coding = {"code": code, "system": "http://127.0.0.1/fhir/CodeSystem/override-reasons"}
    return {"overrideReason": {"reason": coding, "userComment": "Mr. Miller is well"}}


def counts(client: TestClient) -> dict[tuple[str, str | None], int]:
    rows = client.app.state.service.log.card_feedback()  # type: ignore[attr-defined]
    return {(row["outcome"], row["reason"]): row["cards"] for row in rows}


def test_feedback_is_recorded_and_the_last_one_counts(client: TestClient) -> None:
    keys = [card(client, request())["uuid"] for _ in range(3)]
    known = next(iter(OVERRIDE_REASONS))
    first = [feedback(key) for key in keys]
    second = [
        feedback(keys[0], "accepted", acceptedSuggestions=[{"id": str(uuid4())}]),
        feedback(keys[1], **reason(known)),
        feedback(keys[2], **reason("of-the-client")),
    ]

    for entries in (first, first, second):
        assert client.post(FEEDBACK, json={"feedback": entries}).status_code == 200

    assert counts(client) == {
        ("accepted", None): 1,
        ("overridden", known): 1,
        ("overridden", "other"): 1,
    }


def test_no_comment_of_a_clinician_is_kept(client: TestClient, tmp_path: Path) -> None:
    key = card(client, request())["uuid"]

    client.post(FEEDBACK, json={"feedback": [feedback(key, **reason("known"))]})

    assert counts(client) == {("overridden", "known"): 1}
    assert all(b"Miller" not in file.read_bytes() for file in tmp_path.glob("log.db*"))


def test_feedback_is_erased_with_its_prediction(client: TestClient) -> None:
    key = card(client, request())["uuid"]
    client.post(FEEDBACK, json={"feedback": [feedback(key)]})

    assert client.delete(f"/predictions/{UUID(key).hex}").status_code == 204

    assert counts(client) == {}
    assert client.post(FEEDBACK, json={"feedback": [feedback(key)]}).status_code == 404
    assert counts(client) == {}


def test_of_several_cards_the_known_ones_are_recorded(client: TestClient) -> None:
    key = card(client, request())["uuid"]

    response = client.post(FEEDBACK, json={"feedback": [feedback(str(uuid4())), feedback(key)]})

    assert response.status_code == 404
    assert counts(client) == {("overridden", None): 1}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"feedback": []},
        {"feedback": [{}]},
        {"feedback": [feedback("1")]},
        {"feedback": [feedback(str(uuid4()), "ignored")]},
        {"feedback": [feedback(str(uuid4())) | {"outcomeTimestamp": "2026-11-27"}]},
        {"feedback": [feedback(str(uuid4())) | {"outcomeTimestamp": "0001-01-01T00:00:00+14:00"}]},
        {"feedback": [feedback(str(uuid4()))] * 101},
    ],
)
def test_invalid_feedback_is_rejected(client: TestClient, body: dict[str, Any]) -> None:
    response = client.post(FEEDBACK, json=body)

    assert response.status_code == 422
    OperationOutcome.model_validate_json(response.content)
    assert counts(client) == {}


def test_without_the_setting_there_are_no_routes(tmp_path: Path) -> None:
    with TestClient(create_app(*parts(tmp_path, fhir=True), with_page=False)) as client:
        assert client.get("/cds-services").status_code == 404
        assert client.post(SERVICE_PATH, json=request()).status_code == 404


def test_a_token_of_the_service_is_required_where_one_is_set(tmp_path: Path) -> None:
    tokens = "ehr predict,feedback a-secret-of-the-ehr; lab feedback a-secret-of-the-lab"
    with TestClient(
        create_app(*parts(tmp_path, cds_hooks=True, tokens=tokens), with_page=False)
    ) as client:
        assert client.get("/cds-services").status_code == 200
        for secret, status in (("of-nobody-at-all", 401), ("a-secret-of-the-lab", 403)):
            headers = {"Authorization": f"Bearer {secret}"}
            response = client.post(SERVICE_PATH, json=request(), headers=headers)
            assert response.status_code == status
        headers = {"Authorization": "Bearer a-secret-of-the-ehr"}
        assert client.post(SERVICE_PATH, json=request(), headers=headers).status_code == 200


def test_the_routes_are_documented(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]

    assert {"/cds-services", SERVICE_PATH, FEEDBACK} <= paths.keys()
    assert "hookInstance" in json.dumps(client.get("/openapi.json").json())
