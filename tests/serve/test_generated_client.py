"""A client that is generated from the OpenAPI document calls every operation of a running service."""

import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from serve.api.models import EXAMPLE
from tests.heart.registry.registry_fixture import ROOT
from tests.serve.server_process import TOKEN, Server, served_with_token

pytestmark = pytest.mark.integration

# In an environment of its own: it needs an older typer than Gradio.
GENERATOR = ROOT / ".venv-tools/bin/openapi-python-client"
PACKAGE = "generated_heart_client"


@pytest.fixture(scope="module")
def server(watched: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served_with_token(tmp_path_factory.mktemp("server"), watched) as server:
        yield server


@pytest.fixture(scope="module")
def package(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The generated client."""
    if not GENERATOR.exists():
        reason = "the generator is not installed: make .venv-tools"
        if os.environ.get("HEART_TEST_REQUIRE_PROGRAMS"):
            pytest.fail(reason)
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("client")
    (folder / "openapi.json").write_bytes(server.client.get("/openapi.json").content)
    (folder / "config.yml").write_text("post_hooks: []\n")
    done = subprocess.run(
        [
            GENERATOR, "generate", "--path", "openapi.json", "--output-path", PACKAGE,
            "--meta", "none", "--config", "config.yml",
        ],
        cwd=folder, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    # The generator knows JSON only; a table is the other form of a batch.
    assert done.stdout.count("WARNING") == done.stdout.count("Unsupported content type text/csv")
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module(PACKAGE)
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
            del sys.modules[name]


class Calls:
    """The operations of the generated client, by their ids; each call is checked against the document."""

    def __init__(self, package: ModuleType, server: Server, document: Any) -> None:
        self.client = package.AuthenticatedClient(
            base_url=str(server.client.base_url), token=TOKEN, raise_on_unexpected_status=True
        )
        self.models = importlib.import_module(f"{PACKAGE}.models")
        self.called: set[str] = set()
        operations = (o for paths in document["paths"].values() for o in paths.values())
        self.modules = {o["operationId"]: o["tags"][0] for o in operations}

    def __call__(self, operation: str, *arguments: Any, status: int = 200, **options: Any) -> Any:
        """The parsed response to a call."""
        module = importlib.import_module(f"{PACKAGE}.api.{self.modules[operation]}.{operation}")
        response = module.sync_detailed(*arguments, client=self.client, **options)
        assert response.status_code == status, response.content
        self.called.add(operation)
        return response.parsed


@pytest.fixture
def calls(package: ModuleType, server: Server) -> Iterator[Calls]:
    calls = Calls(package, server, server.client.get("/openapi.json").json())
    with calls.client:
        yield calls


def test_a_generated_client_calls_every_operation(calls: Calls) -> None:
    models = calls.models
    patient = models.Patient.from_dict(EXAMPLE)

    answer = calls("predict", body=patient, details=True, explain=True, idempotency_key="client-1")
    assert isinstance(answer, models.Prediction)
    assert answer.interval.low < answer.probability < answer.interval.high
    assert answer.missing_effects["thallium"].low < answer.missing_effects["thallium"].high
    assert 0 < answer.average_risk < 1
    assert calls(
        "predict", body=patient, details=True, explain=True, idempotency_key="client-1"
    ) == (answer)
    batch = calls("predict_batch", body=models.Batch(patients=[patient] * 2))
    assert [row.probability for row in batch.predictions] == [answer.probability] * 2

    key = answer.prediction_id
    outcome = models.Feedback.from_dict(
        {"prediction_id": key, "outcome": "presence", "source": "registry"}
    )
    assert calls("record_outcome", body=outcome).status == "created"
    stored = calls("read_prediction", key)
    assert stored.outcome.source == "registry"
    assert stored.measurements["age"] == EXAMPLE["age"]

    description = calls("describe_model")
    assert (description.version, description.labeled) == (answer.model_version, None)
    assert calls("check_drift").model_version == answer.model_version
    assert calls("health_live").status == "live"
    assert calls("health_ready").status == "ready"
    assert calls("reload_model").after == answer.model_version
    assert calls("withdraw_outcomes", body=models.Withdrawal(sender="default")).withdrawn == 1
    assert calls("erase_prediction", key, status=204) is None

    assert calls.called == calls.modules.keys()


def test_errors_are_typed(calls: Calls) -> None:
    models = calls.models

    missing = calls("read_prediction", "0" * 32, status=404)
    invalid = calls(
        "record_outcome",
        body=models.Feedback.from_dict(
            {"prediction_id": "x", "outcome": "presence", "source": "registry"}
        ),
        status=422,
    )

    assert isinstance(missing, models.ProblemDetails)
    assert missing.type_ == "/problems#unknown-prediction"
    assert missing.instance
    assert isinstance(invalid, models.InvalidRequest)
    assert [error.path for error in invalid.errors] == ["/prediction_id"]


def test_every_documented_example_is_valid(server: Server) -> None:
    """The examples of the request bodies are accepted."""
    document = server.client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    post: Callable[..., Any] = server.client.post

    key = post("/v1/predict", json=schemas["Patient"]["examples"][0]).json()["prediction_id"]
    outcome = {**schemas["Feedback"]["examples"][0], "prediction_id": key}
    assert post("/v1/feedback", json=outcome).status_code == 200
    withdrawal = schemas["Withdrawal"]["examples"][0]
    assert post("/v1/admin/outcomes/withdraw", json=withdrawal).status_code == 200
