"""What a prediction has beside the risk: the same for the API and the page, for one patient and for many."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from heart.schema import NAMES
from serve.api import queries
from serve.api.models import EXAMPLE, Prediction, Predictions
from serve.app import create_app
from serve.encoding import rows_of
from serve.explain import assess
from serve.ui.callbacks import Callbacks
from serve.ui.table import INPUTS
from tests.serve.small_service import model, parts

FULL = {**EXAMPLE, "major_vessels": 0, "thallium": "normal"}
LITTLE = {"age": 62, "sex": "female"}
DETAILS = ("interval", "hospital_interval", "average_risk", "missing_effects")
PARTS = (*DETAILS, "contributions", "baseline_risk")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(*parts(tmp_path), with_page=False)) as client:
        yield client


@pytest.mark.parametrize("patient", [EXAMPLE, FULL, LITTLE], ids=["some", "all", "little"])
def test_the_api_returns_what_the_page_shows(client: TestClient, patient: dict[str, Any]) -> None:
    answer = client.post("/predict?details=true&explain=true", json=patient).json()
    shown = assess(model(), {name: patient.get(name) for name in NAMES})

    assert answer["probability"] == pytest.approx(shown.risk)
    bounds = answer["interval"]
    assert (bounds["low"], bounds["high"]) == pytest.approx((shown.low, shown.high))
    assert (bounds["confidence"], bounds["covers"]) == (0.95, "training_sample")
    hospital = answer["hospital_interval"]
    assert (hospital["low"], hospital["high"]) == pytest.approx(
        (shown.hospital_low, shown.hospital_high)
    )
    assert hospital["low"] < bounds["low"]
    assert bounds["high"] < hospital["high"]
    assert hospital["covers"] == "unknown_hospital"
    assert answer["average_risk"] == pytest.approx(shown.average)
    assert answer["baseline_risk"] == pytest.approx(shown.start)
    assert answer["contributions"] == pytest.approx(shown.contributions)
    effects = {n: (e["low"], e["high"]) for n, e in answer["missing_effects"].items()}
    assert list(effects) == list(shown.risk_ranges)
    assert all(effects[n] == pytest.approx(shown.risk_ranges[n]) for n in effects)
    Prediction.model_validate(answer, strict=True)


def test_the_default_answer_has_none_of_it(client: TestClient) -> None:
    answer = client.post("/predict", json=EXAMPLE).json()

    assert [answer.get(name) for name in PARTS] == [None] * len(PARTS)


def test_each_parameter_adds_its_own_part(client: TestClient) -> None:
    details = client.post("/predict?details=true", json=EXAMPLE).json()
    explained = client.post("/predict?explain=true", json=EXAMPLE).json()

    assert [details.get(name) is not None for name in PARTS] == [True] * 4 + [False] * 2
    assert [explained.get(name) is not None for name in PARTS] == [False] * 4 + [True] * 2


@pytest.mark.parametrize("form", ["json", "csv"])
def test_a_batch_has_the_same_parts_as_its_patients(client: TestClient, form: str) -> None:
    patients = [LITTLE, {"age": 57, "sex": "male", "cholesterol": 600}]
    path = "/predict/batch?details=true&explain=true"
    if form == "json":
        answer = client.post(path, json={"patients": patients})
    else:
        table = "age,sex,cholesterol\n62,female,\n57,male,600\n"
        answer = client.post(path, content=table, headers={"content-type": "text/csv"})
    single = [client.post("/predict?details=true&explain=true", json=p).json() for p in patients]

    batch = answer.json()["predictions"]
    assert batch[1]["warnings"]
    for one, other in zip(batch, single, strict=True):
        for name in PARTS:
            if isinstance(one[name], dict) and name != "contributions":
                assert list(one[name]) == list(other[name])
            else:
                assert one[name] == pytest.approx(other[name])
    Predictions.model_validate(answer.json(), strict=True)


def test_a_batch_beyond_the_limit_of_a_part_is_rejected(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "MAX_EXPLAINED", 2)
    monkeypatch.setattr(queries, "MAX_DETAILED", 3)

    def send(count: int, query: str) -> Any:
        return client.post(f"/v1/predict/batch?{query}", json={"patients": [LITTLE] * count})

    assert send(2, "explain=true").status_code == send(3, "details=true").status_code == 200
    for count, query in ((3, "explain=true"), (4, "details=true")):
        answer = send(count, query)
        (error,) = answer.json()["errors"]
        assert answer.status_code == 422
        assert (error["location"], error["path"]) == ("query", query.partition("=")[0])
    assert send(4, "").status_code == 200
    assert client.app.state.service.log.count() == 9  # type: ignore[attr-defined]


def test_a_model_without_standard_errors_has_no_interval(client: TestClient) -> None:
    champion = client.app.state.service.champion  # type: ignore[attr-defined]
    object.__setattr__(champion.current, "error_network", None)
    try:
        answer = client.post("/predict?details=true", json=LITTLE).json()
    finally:
        model.cache_clear()

    assert answer["interval"] is answer["hospital_interval"] is None
    assert answer["average_risk"] == answer["probability"]


def test_the_page_computes_no_risk_a_second_time(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = client.app.state.service  # type: ignore[attr-defined]
    predicted: list[Any] = []
    original = type(service.model()).predict

    def predict(self: Any, rows: Any) -> Any:
        predicted.append(rows)
        return original(self, rows)

    monkeypatch.setattr(type(service.model()), "predict", predict)
    patient = {**LITTLE, "cholesterol": 240}
    fields = [patient.get(name) for name in INPUTS]
    assert client.portal is not None

    html, _ = client.portal.call(Callbacks(service).predict, "en", *fields)

    row = rows_of([patient])
    same = np.isclose(np.concatenate(predicted), row, equal_nan=True).all(axis=1)
    assert "%" in html
    assert same.sum() == 2  # the prediction, and all measurements among the subsets of Shapley
