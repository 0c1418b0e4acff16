"""A request to a direct route gets what the framework's router would give it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from starlette.types import Receive, Scope, Send

from serve.api.models import EXAMPLE
from serve.app import create_app
from serve.service import NoModel
from tests.serve.small_service import parts

PATHS = ("/predict", "/v1/predict")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(*parts(tmp_path), with_page=False)) as client:
        yield client


@pytest.fixture
def routed(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that the framework's router has got."""
    paths: list[str] = []
    router = client.app.router  # type: ignore[attr-defined]
    app = router.middleware_stack

    async def record(scope: Scope, receive: Receive, send: Send) -> None:
        paths.append(scope["path"])
        await app(scope, receive, send)

    monkeypatch.setattr(router, "middleware_stack", record)
    return paths


def test_only_predictions_do_not_take_the_router(client: TestClient, routed: list[str]) -> None:
    for path in PATHS:
        assert client.post(path, json=EXAMPLE).status_code == 200
        assert client.post(f"{path}/batch", json={"patients": [EXAMPLE]}).status_code == 200
    assert routed == []

    assert client.get("/health/live").status_code == 200
    assert client.get("/predict").status_code == 405
    assert client.post("/predict/", json=EXAMPLE, follow_redirects=False).status_code == 307
    assert client.post("/predict/other", json=EXAMPLE).status_code == 404
    assert routed == ["/health/live", "/predict", "/predict/", "/predict/other"]


@pytest.mark.parametrize("path", PATHS)
def test_errors_are_problems(
    client: TestClient, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.post(path, json={"age": 7}).status_code == 422
    assert client.post(path, content="age=7").status_code == 415
    service = client.app.state.service  # type: ignore[attr-defined]

    def absent() -> None:
        raise NoModel("none is registered")

    def broken() -> None:
        raise ArithmeticError("a patient's data")

    for error, status, kind in ((absent, 503, "no-model"), (broken, 500, "internal-error")):
        monkeypatch.setattr(service, "model", error)
        response = client.post(path, json=EXAMPLE)
        assert response.status_code == status
        assert response.json()["type"].endswith(kind)
        assert "patient's data" not in response.text


def test_responses_are_counted_by_their_route(client: TestClient) -> None:
    for path in PATHS:
        client.post(path, json=EXAMPLE)
        client.post(path, json={"age": 7})
    text = client.get("/metrics").text
    for status in (200, 422):
        assert (
            f'heart_requests_total{{method="POST",route="/predict",status="{status}"}} 2.0' in text
        )
