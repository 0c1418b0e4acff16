import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from heart.predictions.log import PredictionLog
from heart.schema import MEASUREMENTS, NAMES
from serve import app as api
from serve.api.models import EXAMPLE, Prediction
from serve.app import create_app
from serve.encoding import rows_of
from serve.shapley import shapley
from tests.heart.predictions.logs import until
from tests.serve.small_service import model, parts

TOKEN = "a-token-of-some-length"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(*parts(tmp_path), with_page=False)) as client:
        yield client


def predict(client: TestClient, **changes: Any) -> Any:
    response = client.post("/predict", json={"age": 57, "sex": "male", **changes})
    assert response.status_code == 200, response.text
    return response.json()


def test_prediction_equals_the_models_and_is_logged(client: TestClient) -> None:
    answer = predict(client, **EXAMPLE)

    expected = model().predict(rows_of([EXAMPLE]))[0]
    assert answer["probability"] == pytest.approx(expected, abs=1e-7)
    assert answer["prediction"] == ("presence" if expected >= 0.5 else "absence")
    assert (answer["threshold"], answer["model_version"]) == (0.5, "1")
    assert answer["missing"] == ["major_vessels", "thallium"]
    assert answer["contributions"] is None
    kept = client.app.state.service.log.get(answer["prediction_id"])  # type: ignore[attr-defined]
    assert kept["probability"] == answer["probability"]
    assert {name: kept[name] for name in NAMES} == EXAMPLE


def test_direct_and_fastapi_routes_give_the_same_responses(client: TestClient) -> None:
    body = json.dumps(EXAMPLE)

    direct = client.post("/predict", content=body, headers={"Content-Type": "application/json"})
    with_query = client.post("/predict?explain=false", json=EXAMPLE)
    other_type = client.post(
        "/predict", content=body, headers={"Content-Type": "application/a+json"}
    )

    answers = [response.json() for response in (direct, with_query, other_type)]
    assert [answer.pop("prediction_id") for answer in answers]
    assert answers[0] == answers[1] == answers[2]
    assert direct.headers["content-type"] == "application/json"
    Prediction.model_validate(direct.json(), strict=True)


@pytest.mark.parametrize("body", ["{", "[]", "null", '{"age": NaN, "sex": "male"}', ""])
def test_direct_route_rejects_like_fastapi(client: TestClient, body: str) -> None:
    headers = {"Content-Type": "application/json", "X-Request-ID": "one"}

    direct = client.post("/predict", content=body, headers=headers)
    other = client.post("/predict?explain=false", content=body, headers=headers)

    assert direct.status_code == 422
    assert direct.json() == other.json()


def test_a_body_of_another_type_is_not_read_as_json(client: TestClient) -> None:
    body = json.dumps(EXAMPLE)
    types = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "json")

    for path in ("/predict", "/predict?explain=true", "/predict/batch", "/feedback"):
        for kind in types:
            answer = client.post(path, content=body, headers={"content-type": kind})
            assert answer.status_code == 415
            assert "application/json" in answer.json()["detail"]
    kinds = ("application/json;charset=UTF-8", "Application/JSON", "application/merge+json")
    answers = [
        client.post("/predict", content=body, headers={"content-type": kind}) for kind in kinds
    ]
    assert [answer.status_code for answer in answers] == [200] * 3
    log = client.app.state.service.log  # type: ignore[attr-defined]
    assert log.count() == 3


def test_only_age_and_sex_are_needed(client: TestClient) -> None:
    left_out = predict(client)
    as_null = predict(client, **dict.fromkeys(NAMES[2:]))

    assert left_out["probability"] == as_null["probability"]
    assert left_out["missing"] == as_null["missing"] == list(NAMES[2:])


def test_values_outside_the_training_range_are_warned_of(client: TestClient) -> None:
    assert predict(client, cholesterol=240)["warnings"] == []
    assert predict(client, cholesterol=600)["warnings"] == [
        "cholesterol is outside the training patients' 126 to 564"
    ]


def test_contributions_add_up_to_the_difference_from_the_average_patient(
    client: TestClient,
) -> None:
    answer = client.post("/predict?explain=true", json=EXAMPLE).json()

    average = model().predict(rows_of([{}]))[0]
    assert set(answer["contributions"]) == set(NAMES) - {"major_vessels", "thallium"}
    total = sum(answer["contributions"].values())
    assert total == pytest.approx(answer["probability"] - average, abs=1e-5)


def test_contributions_are_shapley_values() -> None:
    # A made-up game of three players whose values are known by hand: v = a + 2 b + 4 a c.
    row = np.full(len(NAMES), np.nan, dtype=np.float32)
    row[:3] = 1

    def value(rows: Any) -> Any:
        a, b, c = (~np.isnan(rows[:, i]) for i in range(3))
        return a + 2.0 * b + 4.0 * (a & c)

    moved, base = shapley(row, value)

    assert base == 0
    assert moved == pytest.approx({NAMES[0]: 3, NAMES[1]: 2, NAMES[2]: 2})


@pytest.mark.parametrize("measurement", MEASUREMENTS, ids=lambda m: str(m.name))
def test_invalid_value_is_rejected_with_the_expectation(
    measurement: Any, client: TestClient
) -> None:
    wrong = ["nonsense", True, [1]]
    wrong += ["0", 1] if measurement.choices else [measurement.low - 1, measurement.high + 1, "60"]
    for value in wrong:
        response = client.post("/predict", json={**EXAMPLE, measurement.name: value})

        (problem,) = response.json()["errors"]
        assert response.status_code == 422
        assert (problem["field"], problem["value"]) == (measurement.name, value)
        assert problem["expected"] == measurement.expected
        if not measurement.choices:
            assert (problem["unit"], problem["minimum"]) == (measurement.unit, measurement.low)


def test_unknown_and_missing_fields_are_named(client: TestClient) -> None:
    response = client.post("/predict", json={"sex": "male", "shoe_size": 43})

    problems = {problem["field"]: problem["type"] for problem in response.json()["errors"]}
    assert problems == {"age": "missing", "shoe_size": "extra_forbidden"}


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("oldpeak", "st_depression"),
        ("Chest pain type", "chest_pain_type"),
        ("cholestrol", "cholesterol"),
    ],
)
def test_an_unknown_field_is_answered_with_the_one_that_is_meant(
    name: str, meant: str, client: TestClient
) -> None:
    for path, body in (
        ("/predict", {"age": 57, "sex": "male", name: 1}),
        ("/predict/batch", {"patients": [EXAMPLE, {"age": 57, "sex": "male", name: 1}]}),
    ):
        (problem,) = client.post(path, json=body).json()["errors"]
        assert meant in problem["message"]
        assert problem["choices"] == list(NAMES)


@pytest.mark.parametrize("name", ["age", "thallium"])
def test_a_field_that_is_given_twice_is_rejected(name: str, client: TestClient) -> None:
    one = json.dumps(EXAMPLE)
    twice = f'{one[:-1]}, "{name}": {json.dumps(EXAMPLE[name])}}}'
    kind = {"content-type": "application/json"}
    for path, body, row in (
        ("/predict", twice, None),
        ("/predict/batch", f'{{"patients": [{one}, {twice}, {one}]}}', 1),
    ):
        answer = client.post(path, content=body, headers=kind)
        assert answer.status_code == 422, path
        (problem,) = answer.json()["errors"]
        assert (problem["type"], problem["field"]) == ("duplicate_key", name)
        assert problem.get("row") == row


def test_a_long_batch_with_a_field_given_twice_is_rejected(client: TestClient) -> None:
    patients = [json.dumps(EXAMPLE)] * 900
    patients[700] = patients[700][:-1] + ', "sex": "female"}'
    body = f'{{"patients":[{",".join(patients)}]}}'

    answer = client.post(
        "/predict/batch", content=body, headers={"content-type": "application/json"}
    )

    (problem,) = answer.json()["errors"]
    assert (problem["field"], problem["row"]) == ("sex", 700)


def test_a_wrong_unit_is_answered_with_the_unit(client: TestClient) -> None:
    detail = client.post("/predict", json={**EXAMPLE, "cholesterol": 5.2}).json()["detail"]

    assert "mg/dl" in detail


def test_an_unknown_coding_is_an_error_of_the_query(client: TestClient) -> None:
    for kind, body in (
        ("text/csv", "age,sex\n57,1\n"),
        ("application/json", json.dumps({"patients": [EXAMPLE]})),
    ):
        answer = client.post(
            "/predict/batch?coding=foo", content=body, headers={"content-type": kind}
        )
        (problem,) = answer.json()["errors"]
        assert (problem["location"], problem["path"], problem["value"]) == (
            "query",
            "coding",
            "foo",
        )


def test_an_unknown_field_beside_the_patients_is_answered_with_the_known_ones(
    client: TestClient,
) -> None:
    (problem,) = client.post("/predict/batch", json={"patients": [EXAMPLE], "age": 3}).json()[
        "errors"
    ]

    assert problem["choices"] == ["patients"]
    assert "age" not in problem["message"]


def test_a_long_unknown_field_is_not_compared_at_length(client: TestClient) -> None:
    body = {"age": 57, "sex": "male", **{f"{row}{'x' * 500}": 1 for row in range(25)}}

    answer = client.post("/predict", json=body).json()

    assert (len(answer["errors"]), answer["more"]) == (20, True)
    assert all(len(problem["message"]) < 200 for problem in answer["errors"])


@pytest.mark.parametrize(
    "body", [b"", b"no json", b"[1]", b"\xff\xfe", b'{"age": NaN, "sex": "male"}']
)
def test_body_that_is_no_patient_is_rejected(body: bytes, client: TestClient) -> None:
    response = client.post("/predict", content=body, headers={"content-type": "application/json"})

    assert response.status_code in (400, 422)
    assert "detail" in response.json()


def test_batch_keeps_its_order_and_is_rejected_as_a_whole(client: TestClient) -> None:
    batch = [{"age": age, "sex": "female"} for age in range(30, 80)]

    answers = client.post("/predict/batch", json={"patients": batch}).json()["predictions"]
    refused = client.post(
        "/predict/batch", json={"patients": [*batch, {"age": 300, "sex": "male"}]}
    )

    log = client.app.state.service.log  # type: ignore[attr-defined]
    assert np.allclose([a["probability"] for a in answers], model().predict(rows_of(batch)))
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["row"] == len(batch)
    assert refused.json()["errors"][0]["field"] == "age"
    assert log.count() == len(batch)


def test_outcome_is_replaced_only_on_request(client: TestClient) -> None:
    key = predict(client)["prediction_id"]
    positive = {"prediction_id": key, "outcome": "presence", "source": "angiography"}
    healthy = {**positive, "outcome": "absence"}

    message = [client.post("/feedback", json=positive) for _ in range(2)]
    other = client.post("/feedback", json=healthy)
    replaced = client.post("/feedback", json={**healthy, "replace": True})
    unknown = client.post("/feedback", json={**positive, "prediction_id": "0" * 32})

    assert [response.json()["status"] for response in message] == ["created", "same"]
    assert other.status_code == 409
    assert replaced.json()["status"] == "replaced"
    assert unknown.status_code == 404


def test_an_erased_prediction_is_gone_and_its_count_stays(client: TestClient) -> None:
    key = predict(client)["prediction_id"]

    first, second = (client.delete(f"/predictions/{key}") for _ in range(2))

    log = client.app.state.service.log  # type: ignore[attr-defined]
    assert (first.status_code, second.status_code) == (204, 404)
    assert log.get(key) is None
    assert log.totals()["erased"] == 1
    assert 'heart_predictions_total{model_version="1"' in client.get("/metrics").text


def test_model_route_describes_the_model(client: TestClient) -> None:
    message = client.get("/model").json()

    assert message["version"] == "1"
    assert message["figures"]["roc_auc"] == 0.93
    assert message["tags"] == {"train_md5": "123", "threshold": "0.5"}
    assert message["labeled"] is None


def test_labeled_scores_appear_with_the_eleventh_outcome(client: TestClient) -> None:
    for number in range(11):
        assert client.get("/model").json()["labeled"] is None
        assert "heart_labeled" not in client.get("/metrics").text
        answer = predict(client, age=30 + 5 * number)
        outcome = "presence" if number > 5 else "absence"
        given = {"prediction_id": answer["prediction_id"], "outcome": outcome, "source": "registry"}
        client.post("/feedback", json=given)

    assert client.get("/model").json()["labeled"]["roc_auc"] == 1.0
    assert 'heart_labeled_roc_auc_ratio{model_version="1"} 1.0' in client.get("/metrics").text


@pytest.mark.parametrize("inverted", [False, True])
def test_outcomes_that_contradict_the_risks_are_reported(
    client: TestClient, inverted: bool
) -> None:
    random = np.random.default_rng(0)
    for number in range(60):
        assert (client.get("/model").json()["estimate_check"] is None) == (number < 11)
        answer = predict(client, age=30 + number % 60, chest_pain_type="asymptomatic")
        risk = answer["probability"]
        present = random.random() < (1 - risk if inverted else risk)
        outcome = "presence" if present else "absence"
        given = {"prediction_id": answer["prediction_id"], "outcome": outcome, "source": "registry"}
        client.post("/feedback", json=given)

    check = client.get("/model").json()["estimate_check"]
    alarm = 'heart_estimate_contradicted{model_version="1"} '
    assert check["labels"] == 60
    assert check["contradicted"] == inverted
    assert f"{alarm}{float(inverted)}" in client.get("/metrics").text


def test_service_without_a_model_is_live_but_not_ready(tmp_path: Path) -> None:
    settings, champion, log, metrics = parts(tmp_path)
    champion.current = None
    with TestClient(create_app(settings, champion, log, metrics, with_page=False)) as client:
        ready, live = client.get("/health/ready"), client.get("/health/live")
        predicted = client.post("/predict", json=EXAMPLE)

        champion.current = model()
        later = client.get("/health/ready")

    assert (ready.status_code, live.status_code) == (503, 200)
    assert ready.json()["reasons"] == ["no model is loaded yet"]
    assert predicted.status_code == 503
    assert "Retry-After" in predicted.headers
    assert later.json()["status"] == "ready"


def test_imports_of_the_first_poll_are_frozen_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, champion, log, metrics = parts(tmp_path)
    frozen: list[bool] = []
    monkeypatch.setattr(api, "FREEZE_POLL_SECONDS", 0.005)
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(champion.polled))

    with TestClient(create_app(settings, champion, log, metrics, with_page=False)) as client:
        for _ in range(20):
            client.get("/health/live")
        champion.polled = True
        until(lambda: bool(frozen))

    assert frozen == [True]


def test_token_is_required_if_it_is_set(tmp_path: Path) -> None:
    with TestClient(create_app(*parts(tmp_path, api_token=TOKEN), with_page=False)) as client:
        without = client.post("/predict", json=EXAMPLE)
        wrong = client.post("/predict", json=EXAMPLE, headers={"Authorization": "Bearer wrong"})
        right = client.post("/predict", json=EXAMPLE, headers={"Authorization": f"Bearer {TOKEN}"})
        live = client.get("/health/live")

    assert [r.status_code for r in (without, wrong, right, live)] == [401, 401, 200, 200]


def test_too_long_body_is_rejected_with_and_without_content_length(tmp_path: Path) -> None:
    with TestClient(create_app(*parts(tmp_path, max_body_bytes=1000), with_page=False)) as client:
        declared = client.post("/predict", content=b" " * 1001)
        streamed = client.post("/predict", content=iter([b" " * 600] * 2))
        small = client.post("/predict", json=EXAMPLE)

    assert [r.status_code for r in (declared, streamed, small)] == [413, 413, 200]


def test_requests_beyond_the_concurrency_limit_are_rejected(tmp_path: Path) -> None:
    app = create_app(*parts(tmp_path, max_concurrent=1), with_page=False)
    with TestClient(app) as client:
        with app.state.limiter:
            refused = client.post("/predict", json=EXAMPLE)
        answered = client.post("/predict", json=EXAMPLE)

        assert (refused.status_code, answered.status_code) == (503, 200)
        assert refused.headers["Retry-After"] == "1"
        assert "heart_requests_rejected_total 1.0" in client.get("/metrics").text


def test_errors_of_the_log_are_reported(tmp_path: Path) -> None:
    settings, champion, _, metrics = parts(tmp_path)
    log = PredictionLog(settings.log_url, queue_limit=0)
    with TestClient(create_app(settings, champion, log, metrics, with_page=False)) as client:
        full = client.post("/predict", json=EXAMPLE)
        (tmp_path / "log.db").rename(tmp_path / "away")
        unread = client.get("/model")

    assert (full.status_code, unread.status_code) == (503, 503)
    assert full.json()["detail"] == "the prediction log's queue is full"
    assert unread.json()["detail"] == "the prediction log is unavailable"
    assert {answer.json()["type"] for answer in (full, unread)} == {"/problems#log-unavailable"}


def test_every_answer_carries_the_security_headers(client: TestClient) -> None:
    for response in (client.get("/health/live"), client.post("/predict", json={})):
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'self'" in response.headers["content-security-policy"]


def test_documentation_loads_nothing_from_other_hosts(client: TestClient) -> None:
    page = client.get("/docs").text

    assert "http://" not in page
    assert "https://" not in page
    assert client.get("/static-offline-docs/swagger-ui-bundle.js").status_code == 200


def test_every_field_is_documented(client: TestClient) -> None:
    fields = client.get("/openapi.json").json()["components"]["schemas"]["Patient"]

    assert fields["required"] == ["age", "sex"]
    assert set(fields["properties"]) == set(NAMES)
    for measurement in MEASUREMENTS:
        field = fields["properties"][measurement.name]
        assert measurement.expected in field["description"]
        assert field["examples"]


def test_routes_are_counted_by_their_template(client: TestClient) -> None:
    predict(client)
    client.delete("/predictions/canary-4711")
    client.get("/canary-4711")

    text = client.get("/metrics").text

    assert 'heart_requests_total{method="POST",route="/predict",status="200"} 1.0' in text
    assert 'route="/predictions/{prediction_id}",status="404"' in text
    assert "canary" not in text


def test_server_errors_of_patient_routes_start_at_0(client: TestClient) -> None:
    text = client.get("/metrics").text

    for method, route in (("POST", "/predict"), ("DELETE", "/predictions/{prediction_id}")):
        for status in (500, 503):
            labels = f'method="{method}",route="{route}",status="{status}"'
            assert f"heart_requests_total{{{labels}}} 0.0" in text
