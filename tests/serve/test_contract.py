"""The API against its own description: schemathesis, and any value in any field."""

import json
import math
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heart.http.concurrency import SHORT_BODY_BYTES
from heart.schema import MEASUREMENTS, NAMES, Measurement
from serve.api.models import EXAMPLE
from tests.serve.server_process import TOKEN, Server, served_with_token

pytestmark = pytest.mark.integration

JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def server(watched: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served_with_token(tmp_path_factory.mktemp("server"), watched) as server:
        yield server


@pytest.mark.parametrize("examples", [30, pytest.param(1000, marks=pytest.mark.heavy)])
def test_every_response_matches_the_openapi_document(
    server: Server, examples: int, tmp_path: Path
) -> None:
    # No schema of a text says what a table of patients is, so generated ones may be rejected. Generated
    # idempotency keys are used again, also after an erasure.
    (tmp_path / "schemathesis.toml").write_text(
        '[[operations]]\ninclude-name = "POST /v1/predict/batch"\n'
        "checks.positive_data_acceptance.expected-statuses = [200, 409, 410, 422]\n"
        '[[operations]]\ninclude-name = "POST /v1/predict"\n'
        "checks.positive_data_acceptance.expected-statuses = [200, 409, 410]\n"
    )
    done = subprocess.run(
        [
            "schemathesis", "run", f"{server.client.base_url}/openapi.json", "--checks=all",
            f"--header=Authorization: Bearer {TOKEN}", "--generation-deterministic", f"--max-examples={examples}", "--no-color",
        ],
        cwd=tmp_path, check=False, capture_output=True, text=True, timeout=600,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout


# Any value in any field

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def values(measurement: Measurement) -> st.SearchStrategy[Any]:
    """Values of a measurement: right ones, ones that are nearly right, and any at all."""
    if measurement.choices:
        names = [choice.name for choice in measurement.choices]
        return st.sampled_from([None, *names, names[0].upper(), f"{names[0]} ", "", 0, 1]) | ANY
    low, high = measurement.low, measurement.high
    edges = [low, high, math.nextafter(low, -math.inf), math.nextafter(high, math.inf)]
    near = [None, *edges, low + 1e-9, high - 1e-9, low + 0.1, str(low), True, math.inf, math.nan]
    whole = st.integers(int(low), int(high))
    return st.sampled_from(near) | whole | whole.map(float) | st.floats(low - 1, high + 1) | ANY


def fits(measurement: Measurement, value: Any) -> bool:
    """Whether the schema allows a value of JSON."""
    if value is None:
        return not measurement.required
    if measurement.choices:
        return isinstance(value, str) and value in [choice.name for choice in measurement.choices]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    within = measurement.low <= value <= measurement.high
    return within and (measurement.step != 1 or float(value).is_integer())


@cache
def changed_patients() -> st.SearchStrategy[dict[str, Any]]:
    """A right patient in which some fields have other values, and some unknown ones come along."""
    some = {m.name: values(m) for m in MEASUREMENTS}
    unknown = st.dictionaries(st.text(), ANY, max_size=1)
    return st.builds(
        lambda changes, more: {**EXAMPLE, **changes, **more},
        st.fixed_dictionaries({}, optional=some),
        st.just({}) | unknown,
    )


@settings(derandomize=True, deadline=None, max_examples=400)
@given(patient=changed_patients())
def test_any_value_of_a_field_is_accepted_or_rejected_by_name(
    server: Server, patient: dict[str, Any]
) -> None:
    wrong = {m.name for m in MEASUREMENTS if not fits(m, patient[m.name])}
    wrong |= patient.keys() - set(NAMES)

    answer = server.client.post("/predict", content=json.dumps(patient), headers=JSON)

    assert answer.status_code == (422 if wrong else 200), answer.text
    if not wrong:
        assert 0 <= answer.json()["probability"] <= 1
        return
    problems = {problem["field"]: problem for problem in answer.json()["errors"]}
    assert problems.keys() == {name.encode("utf-8", "replace").decode()[:100] for name in wrong}
    for measurement in MEASUREMENTS:
        if measurement.name in problems:
            check(problems[measurement.name], measurement, patient[measurement.name])


def check(problem: dict[str, Any], measurement: Measurement, value: Any) -> None:
    """It says what was given and what was expected."""
    assert problem["expected"] == measurement.expected
    if value is None or isinstance(value, bool) or (isinstance(value, int) and abs(value) < 10**50):
        assert problem["value"] == value
    if measurement.choices:
        assert problem["choices"] == [choice.name for choice in measurement.choices]
    else:
        bounds = (problem["unit"], problem["minimum"], problem["maximum"])
        assert bounds == (measurement.unit, measurement.low, measurement.high)


@given(body=st.binary() | ANY.map(lambda value: json.dumps(value).encode()))
@settings(derandomize=True, deadline=None, max_examples=100)
@pytest.mark.parametrize("path", ["/predict", "/predict/batch", "/feedback"])
def test_any_other_body_is_rejected(server: Server, path: str, body: bytes) -> None:
    answer = server.client.post(path, content=body, headers=JSON)

    assert answer.status_code == 422
    assert answer.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [
        "[" * 100_000,
        '{"age": ' + "[" * 950 + "]" * 950 + "}",
        '{"age": ' + "9" * 5000 + "}",
        '{"age": 57, "sex": "\\ud800"}',
        '{"\\udfff": 57}',
        '{"age": 57.00000000001, "sex": "male"}',
    ],
    ids=["deep", "less deep", "long number", "half a character", "as a name", "nearly whole"],
)
@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
def test_unusual_json_is_rejected(server: Server, path: str, body: str) -> None:
    batch = f'{{"patients": [{body}]}}' if path.endswith("batch") else body

    answer = server.client.post(path, content=batch, headers=JSON)

    too_long = len(body) > SHORT_BODY_BYTES and path == "/predict"
    assert answer.status_code == (413 if too_long else 422)
    assert answer.json()["detail"]


def test_a_problem_of_the_query_names_its_parameter(server: Server) -> None:
    answer = server.client.post("/predict?explain=perhaps", json=EXAMPLE)

    (problem,) = answer.json()["errors"]
    assert (problem["field"], problem["value"]) == ("explain", "perhaps")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/predict", "POST"),
        ("PUT", "/model", "GET, HEAD"),
        ("POST", "/metrics", "GET, HEAD"),
    ],
)
def test_wrong_method_is_rejected_with_the_allowed_ones(
    server: Server, method: str, path: str, allowed: str
) -> None:
    answer = server.client.request(method, path)

    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
