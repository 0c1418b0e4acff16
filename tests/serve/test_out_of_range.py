"""Values that the schema does not allow are refused, and counted by measurement."""

from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from heart.drift.baseline import MIN_CELL_COUNT
from heart.schema import MEASUREMENTS, NAMES
from serve.api.models import EXAMPLE
from serve.app import create_app
from serve.ui.callbacks import Callbacks
from serve.ui.table import INPUTS
from tests.serve.small_service import parts


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(*parts(tmp_path), with_page=False)) as made:
        yield made


def refused(client: TestClient) -> dict[str, float]:
    families = text_string_to_metric_families(client.get("/metrics").text)
    (family,) = [family for family in families if family.name == "heart_data_out_of_range"]
    result = [sample for sample in family.samples if sample.name.endswith("_total")]
    assert {s.labels["feature"] for s in result} == set(NAMES)
    return {s.labels["feature"]: s.value for s in result if s.value}


@pytest.mark.parametrize("measurement", MEASUREMENTS, ids=lambda m: str(m.name))
def test_a_value_out_of_range_is_counted_by_its_measurement(
    measurement: Any, client: TestClient
) -> None:
    wrong = ["1", 0] if measurement.choices else [measurement.low - 1, measurement.high + 1, "x"]
    for given_value in wrong:
        patient = {**EXAMPLE, measurement.name: given_value}
        client.post("/predict/batch", json={"patients": [patient] * MIN_CELL_COUNT})

    assert refused(client) == {measurement.name: len(wrong) * MIN_CELL_COUNT}


def test_a_value_of_a_single_patient_is_counted_like_those_of_a_batch(client: TestClient) -> None:
    for _ in range(MIN_CELL_COUNT):
        client.post("/predict", json={**EXAMPLE, "cholesterol": 5.2})

    assert refused(client) == {"cholesterol": MIN_CELL_COUNT}


def test_every_patient_of_a_batch_in_wrong_units_is_counted(client: TestClient) -> None:
    wrong = [{"age": 57, "sex": "male", "cholesterol": 5.2}] * 50

    response = client.post("/predict/batch", json={"patients": [EXAMPLE, *wrong]})

    assert response.status_code == 422
    assert refused(client) == {"cholesterol": 50}


def test_what_is_missing_or_unknown_is_not_out_of_range(client: TestClient) -> None:
    for _ in range(MIN_CELL_COUNT):
        client.post("/predict", json={"sex": "male", "shoe_size": 43})
        client.post("/predict", json={"sex": "male", "age": None})
        client.post("/feedback", json={"prediction_id": "0" * 32, "age": 1000})
        client.post("/predict", content=b"{", headers={"content-type": "application/json"})

    assert refused(client) == {}


def test_the_page_counts_them_too(client: TestClient) -> None:
    handlers = Callbacks(client.app.state.service)  # type: ignore[attr-defined]
    rows = ["57,male,5.2", ",male,", *["61,x,6.1"] * 9]
    table = b64encode("\n".join(["age,sex,cholesterol", *rows, ""]).encode()).decode()
    form = [{**EXAMPLE, "age": 300}.get(name) for name in INPUTS]
    empty = [None] * len(INPUTS)
    portal = client.portal
    assert portal is not None

    portal.call(handlers.predict, "en", *form)
    portal.call(handlers.predict, "en", *empty)
    portal.call(handlers.score, table, "en", "auto")

    assert refused(client) == {"age": 1, "cholesterol": 10, "sex": 9}
