"""A batch as text/csv: read as in stage prepare, answered as JSON, invalid with its lines."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from heart import files
from heart.dataset.codings import NUMBERED
from heart.schema import NAMES
from serve.app import create_app
from serve.settings import MAX_BATCH
from tests.serve.small_service import parts

with (Path(__file__).parents[2] / files.RAW).open() as raw:
    PATIENTS = list(csv.DictReader(raw))
BINARY = {
    "sex": {"female": "0", "male": "1"},
    "fasting_blood_sugar_over_120": {"no": "0", "yes": "1"},
    "exercise_angina": {"no": "0", "yes": "1"},
}
HEADING = "age,sex,cp,trestbps,chol,fbs,restecg,thalach,exang,oldpeak,slope,ca,thal"
DOUBTFUL = f"{HEADING}\n61,1,3,141,251,0,2,121,1,2.1,1,2,2\n49,0,0,127,219,1,0,171,0,0.3,0,0,0\n"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(*parts(tmp_path), with_page=False)) as client:
        yield client


def send(client: TestClient, body: str | bytes, **query: str) -> Any:
    return client.post(
        "/predict/batch",
        content=body,
        params=query,
        headers={"content-type": "text/csv; charset=x"},
    )


def table(coding: str, separator: str = ",") -> str:
    codes = BINARY | {
        name: {text: code for code, text in own.items() if text}
        for name, own in NUMBERED[coding].items()
    }
    rows = [[codes.get(n, {}).get(p[n], p[n]) for n in NAMES] for p in PATIENTS[:60]]
    return "\n".join(separator.join(row) for row in [HEADING.split(","), *rows])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1"])
@pytest.mark.parametrize(("coding", "separator"), [("uci", ","), ("heart_csv", ";")])
def test_a_table_has_the_predictions_of_the_same_patients_as_json(
    client: TestClient, coding: str, separator: str, encoding: str
) -> None:
    numbers = {
        "age",
        "resting_bp",
        "cholesterol",
        "max_heart_rate",
        "st_depression",
        "major_vessels",
    }
    patients = [
        {n: float(p[n]) if n in numbers and p[n] else p[n] or None for n in NAMES}
        for p in PATIENTS[:60]
    ]

    as_json = client.post("/predict/batch", json={"patients": patients}).json()
    answer = send(client, table(coding, separator).encode(encoding))

    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert np.array_equal(
        [p["probability"] for p in body["predictions"]],
        [p["probability"] for p in as_json["predictions"]],
    )
    assert body["read_as"].endswith(f"coding {coding}")
    assert body["coding_log10_odds"]["thallium"] > 4
    assert "read_as" not in as_json


def test_bad_cells_and_lines_are_named_and_nothing_is_predicted(client: TestClient) -> None:
    answer = send(client, "age,sex\n50,male\n7,male\n51\n52,x\n")

    assert answer.status_code == 422
    problems = answer.json()["errors"]
    assert [(p["line"], p.get("field"), p.get("value")) for p in problems] == [
        (3, "age", "7"),
        (4, None, None),
        (5, "sex", "x"),
    ]
    assert problems[0]["maximum"] == 110
    assert client.app.state.service.log.count() == 0  # type: ignore[attr-defined]


def test_of_a_table_of_invalid_cells_only_the_first_problems_are_kept(client: TestClient) -> None:
    rows = "\n".join(",".join([f"x{i}"] * 13) for i in range(999))

    answer = send(client, f"{','.join(NAMES)}\n{rows}", coding="words").json()

    assert [problem["line"] for problem in answer["errors"]] == [2] * 13 + [3] * 7
    assert answer["more"]


def test_a_coding_in_doubt_is_rejected_until_the_query_sets_it(client: TestClient) -> None:
    refused = send(client, DOUBTFUL)
    accepted = send(client, DOUBTFUL, coding="uci_from_0")

    assert refused.status_code == 422
    assert "coding" in refused.json()["errors"][0]["message"]
    assert "uci_from_0" in refused.json()["errors"][0]["message"]
    assert accepted.json()["read_as"] == "commas; coding uci_from_0"


@pytest.mark.parametrize(
    ("body", "query"),
    [
        ("", {}),
        ("\x00\x01", {}),
        ("PK\x03\x04", {}),
        ("age,sex\n", {}),
        ("age,sex,ward\n50,male,x\n", {}),
        ("sex\nmale\nmale\n", {}),
        ("age,sex\n50,male\n", {"coding": "excel"}),
        ("age,sex\n" + "50,male\n" * (MAX_BATCH + 1), {}),
        ("age,sex\n" + "\n" * (3 * MAX_BATCH) + "50,male\n", {}),
        (",".join(["age,sex", *[""] * 600]) + "\n", {}),
    ],
    ids=range(10),
)
def test_what_is_no_table_of_patients_is_rejected(
    client: TestClient, body: str, query: dict[str, str]
) -> None:
    answer = send(client, body, **query)

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["message"]


def test_other_types_and_other_routes_take_no_table(client: TestClient) -> None:
    as_form = client.post(
        "/predict/batch", content="age,sex\n", headers={"content-type": "text/plain"}
    )
    single = client.post("/predict", content="age,sex\n", headers={"content-type": "text/csv"})

    assert (as_form.status_code, single.status_code) == (415, 415)


def test_the_documentation_shows_both_types(client: TestClient) -> None:
    operation = client.get("/openapi.json").json()["paths"]["/v1/predict/batch"]["post"]

    assert set(operation["requestBody"]["content"]) == {"application/json", "text/csv"}
    assert [parameter["name"] for parameter in operation["parameters"]] == [
        "explain",
        "details",
        "coding",
        "Idempotency-Key",
    ]
