"""How the page is served, without Gradio and with it."""

import asyncio
import json
import logging
import re
import shutil
import subprocess
import sys
import threading
from functools import partial
from html import unescape
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from heart.http.concurrency import ConcurrencyLimiter
from heart.http.tokens import Tokens
from heart.locale.language import translate
from serve.service import Service
from serve.ui import LazyPage
from serve.ui.mounting import build, build_in_loop
from serve.ui.visitors import MAX_CALL_BYTES
from tests.heart.predictions.logs import records
from tests.heart.registry.registry_fixture import ROOT
from tests.serve.ui.page_fixture import TOKEN, GradioPage, gradio_page


def gated() -> tuple[LazyPage, threading.Event, list[Path]]:
    """A page that is built once the gate opens, and the folders that were given to it."""
    gate, folders = threading.Event(), []

    def build_late(folder: Path) -> FastAPI:
        gate.wait(10)
        folders.append(folder)
        (folder / "patients.csv").write_text("57")
        app = FastAPI()
        app.get("/")(lambda: "built")
        return app

    return LazyPage(build_late, ConcurrencyLimiter(10, 10**6)), gate, folders


def test_gradio_is_not_imported_before_the_page_is_built() -> None:
    script = "import sys, serve.app; sys.exit('gradio' in sys.modules)"

    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


def test_page_under_construction_is_announced_and_reloads() -> None:
    page, gate, folders = gated()

    async def story() -> list[Any]:
        await page.start()
        client = TestClient(page)
        pages = [await asyncio.to_thread(client.get, "/", headers={"accept-language": "id"})]
        gate.set()
        assert await page.ready()
        pages.append(await asyncio.to_thread(client.get, "/"))
        await page.stop()
        return pages

    waiting, built = asyncio.run(story())
    assert (waiting.status_code, waiting.headers["retry-after"]) == (503, "2")
    assert 'http-equiv="refresh"' in waiting.text
    assert "Halaman sedang dimulai" in waiting.text
    assert built.json() == "built"
    assert not folders[0].exists()


def test_failed_page_does_not_affect_the_api(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(_: Path) -> FastAPI:
        raise RuntimeError("no Gradio here")

    async def story() -> Any:
        page = LazyPage(fail, ConcurrencyLimiter(10, 10**6))
        await page.start()
        assert not await page.ready()
        answer = await asyncio.to_thread(TestClient(page).get, "/")
        await page.stop()
        return answer

    with caplog.at_level(logging.ERROR):
        answer = asyncio.run(story())
    assert answer.status_code == 503
    assert translate("page.broken", "en") in unescape(answer.text)
    assert "no Gradio here" in caplog.text


@pytest.mark.parametrize(
    ("method", "path", "headers", "expected"),
    [
        ("GET", "/", {}, 503),
        ("GET", "/gradio_api/file=/etc/passwd", {}, 404),
        ("GET", "/prefix/gradio_api/heartbeat/x", {}, 404),
        ("POST", "/gradio_api/process_recording", {}, 404),
        ("POST", "/gradio_api/upload", {"content-length": "2"}, 404),
        ("POST", "/gradio_api/queue/join", {"content-length": "2"}, 404),
        ("POST", "/gradio_api/run/predict", {"content-length": str(MAX_CALL_BYTES + 1)}, 413),
        ("POST", "/gradio_api/run/predict", {"content-length": "x"}, 411),
        ("POST", "/gradio_api/run/predict", {"content-length": "2"}, 503),
        ("PUT", "/", {}, 404),
    ],
)
def test_unused_routes_do_not_reach_gradio(
    method: str, path: str, headers: dict[str, str], expected: int
) -> None:
    page, _, _ = gated()

    assert TestClient(page).request(method, path, headers=headers).status_code == expected


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/", "GET, HEAD"),
        ("/config", "GET, HEAD"),
        ("/assets/x.js", "GET, HEAD"),
        ("/login", "POST"),
    ],
)
def test_options_names_the_methods_of_a_path(path: str, allowed: str) -> None:
    page, _, _ = gated()

    answer = TestClient(page).options(path)

    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    assert answer.json()["type"] == "/problems#method-not-allowed"


def test_redirects_of_the_page_name_no_host(closed_page: GradioPage) -> None:
    client = closed_page.log_in()
    proxied = {"x-forwarded-host": "localhost", "x-forwarded-proto": "https"}

    answer = client.get("/logout", headers=proxied, follow_redirects=False)

    assert answer.is_redirect
    assert answer.headers["location"] == "/"


def test_page_requires_the_token(closed_page: GradioPage) -> None:
    client = closed_page.log_in()
    event = next(e["id"] for e in closed_page.events() if e["backend_fn"] and len(e["inputs"]) == 1)
    client.cookies.clear()

    assert '"auth_required":true' in client.get("/").text
    assert closed_page.call(event, ["en"]).status_code == 401
    for password in ("", "wrong", TOKEN + "x", "ä"):
        answer = client.post("/login", data={"username": "anyone", "password": password})
        assert answer.status_code in (400, 422)
    closed_page.log_in()
    assert '"auth_required":true' not in client.get("/").text
    assert closed_page.call(event, ["en"]).status_code == 200


def test_the_page_is_closed_where_gradio_is_open(closed_page: GradioPage) -> None:
    config = closed_page.log_in().get("/config").json()

    assert config["run_history"] is False
    assert config["analytics_enabled"] is False
    assert config["footer_links"] == []
    assert config["show_error"] is False
    assert {event["api_visibility"] for event in config["dependencies"]} == {"private"}
    assert not [event for event in config["dependencies"] if event["queue"] and event["backend_fn"]]


def test_requests_from_pages_of_another_origin_are_rejected(closed_page: GradioPage) -> None:
    client = closed_page.log_in()
    foreign = {"origin": "http://testserver:7860"}
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", "/", {}),
        ("GET", "/config", {}),
        ("GET", "/logout", {}),
        ("POST", "/gradio_api/run/predict", {"json": {"data": []}}),
        ("POST", "/gradio_api/upload", {"files": {"files": b"age"}}),
        ("POST", "/login", {"data": {"username": "x", "password": TOKEN}}),
        ("OPTIONS", "/gradio_api/run/predict", {}),
    ]

    for method, path, given in calls:
        response = client.request(method, path, headers=foreign, **given)
        assert response.status_code == 403, path
        assert not [name for name in response.headers if name.startswith("access-control-")]
    own = client.get("/config", headers={"origin": "http://testserver"})
    assert own.status_code == 200
    assert not [name for name in own.headers if name.startswith("access-control-")]
    assert own.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_session_cookie_is_for_this_host_and_hidden_from_scripts(
    closed_page: GradioPage, scheme: str
) -> None:
    form = {"username": "anyone", "password": TOKEN}

    response = closed_page.client.post(f"{scheme}://testserver/login", data=form)

    cookies = response.headers.get_list("set-cookie")
    assert len(cookies) == 2
    for cookie in cookies:
        attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
        secure = {"secure"} if scheme == "https" else set()
        assert attributes == {"path=/", "httponly", "samesite=lax"} | secure


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_call_that_is_not_declared_as_json_is_not_read(closed_page: GradioPage, kind: str) -> None:
    client = closed_page.log_in()
    event = next(e["id"] for e in closed_page.events() if e["backend_fn"] and len(e["inputs"]) == 1)
    body = json.dumps({"data": ["en"], "fn_index": event})

    response = client.post("/gradio_api/run/predict", content=body, headers={"content-type": kind})

    assert response.status_code in (415, 422)


def test_the_page_loads_nothing_from_elsewhere(closed_page: GradioPage) -> None:
    client = closed_page.log_in()
    html = client.get("/").text
    css = client.get("/theme.css").text

    loaded = re.findall(r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)=[\"']?([^\"' >]+)", html)
    assert loaded
    # A path from the root would leave the sub-path of a proxy.
    assert not [url for url in loaded if url.startswith(("http:", "https:", "/"))]
    assert not re.findall(r"(?:url\(|@import)[\"' ]*(?:https?:)?//", css)


def test_the_folder_of_gradio_is_the_pages_own(
    tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "")
    build_in_loop(partial(build, service, Tokens()), tmp_path / "uploads")

    from gradio.utils import get_upload_folder

    assert get_upload_folder() == str(tmp_path / "uploads")


def test_a_second_page_makes_no_folder_of_the_first(
    tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "")
    for name in ("first", "second"):
        build_in_loop(partial(build, service, Tokens()), tmp_path / name)
        shutil.rmtree(tmp_path / name)

    assert list(tmp_path.glob("first")) == []


def test_the_built_page_leaves_the_event_loop_idle(service: Service) -> None:
    async def story() -> int:
        page = LazyPage(partial(build, service, Tokens()), ConcurrencyLimiter(10, 10**6))
        await page.start()
        assert await page.ready()
        await asyncio.sleep(0.1)  # its tasks have started
        loop = asyncio.get_running_loop()
        with patch.object(loop, "call_later", wraps=loop.call_later) as timers:
            await asyncio.sleep(0.2)
        await page.stop()
        return timers.call_count

    assert asyncio.run(story()) < 5


@pytest.mark.security
def test_an_outcome_from_the_page_carries_the_name_of_the_login(tmp_path: Path) -> None:
    secret = "a-secret-of-some-length"
    with gradio_page(tmp_path, tokens=f"ward predict,feedback {secret}", api_token=TOKEN) as page:
        (record,) = records(1)
        page.service.log.append_sync([record])
        for user, password, status in (
            ("x", secret, 400),
            ("ward", TOKEN, 400),
            ("ward", secret, 200),
        ):
            form = {"username": user, "password": password}
            assert page.client.post("/login", data=form).status_code == status

        event = page.event_of("prediction_id")["id"]
        answer = page.call(event, [record.id, "presence", "registry", False, "en"])

        assert answer.status_code == 200
        assert page.service.log.history()["sender"] == ["ward"]
