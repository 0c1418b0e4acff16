"""Pages of other origins in a real browser, beside a visitor who is logged in: they can use nothing."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from heart.predictions.log import PredictionLog
from serve.api.models import EXAMPLE
from serve.app import create_app
from tests.serve.small_service import parts
from tests.serve.ui.page_fixture import serving, tiny_model

TOKEN = "correct-horse-battery"
PREDICT = "/gradio_api/run/predict"
JSON = {"content-type": "application/json"}

# Each sends a request and waits until it is answered, whether or not it may see the answer.
FETCH = """async ([url, options]) => {
  const signal = AbortSignal.timeout(10000);
  try { return (await fetch(url, {credentials: "include", signal, ...options})).status }
  catch { return "blocked" }
}"""
FORM = """([url, type, name, value]) => {
  const form = Object.assign(document.createElement("form"), {method: "POST", action: url});
  form.enctype = type;
  form.append(Object.assign(document.createElement("textarea"), {name, value}));
  document.body.append(form);
  form.submit();
}"""
POST = """async ([url, value]) => {
  const headers = {"content-type": "application/json"};
  return (await fetch(url, {method: "POST", headers, body: JSON.stringify(value)})).json()
}"""
STREAM = """url => new Promise(resolve => {
  const stream = new EventSource(url, {withCredentials: true});
  stream.onopen = () => resolve("open");
  setTimeout(() => resolve("waiting for an event"), 10000);
  stream.onerror = () => { stream.close(); resolve("blocked") };
})"""


@dataclass
class Target:
    """A service with its page, and its log."""

    url: str
    log: PredictionLog


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A service that asks for a token."""
    yield from served(tmp_path_factory.mktemp("closed"), api_token=TOKEN)


@pytest.fixture(scope="module")
def unlocked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A service that asks for none, as it is started without any setting."""
    yield from served(tmp_path_factory.mktemp("unlocked"), with_page=False)


def served(folder: Path, with_page: bool = True, **settings: Any) -> Iterator[Target]:
    given, champion, log, metrics = parts(folder, **settings)
    champion.current = tiny_model()
    app = create_app(given, champion, log, metrics, with_page=with_page)
    with serving(app, "/" if with_page else "/health/live") as url:
        yield Target(url, log)


class Blank(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>another page</title><body>")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def other_port() -> Iterator[int]:
    """The port of a server of another page, on this machine too."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Blank) as server:
        thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.02))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def visitor(browser: Any, closed: Target) -> Iterator[Any]:
    """The page of a visitor who has logged in."""
    context = browser.new_context(locale="en-GB")
    page = context.new_page()
    page.goto(closed.url)
    page.fill("input[type=text]", "anyone")
    page.fill("input[type=password]", TOKEN)
    page.get_by_role("button").click()
    page.wait_for_selector("html[data-ready] #age input")
    yield page
    context.close()


def assess(page: Any) -> tuple[str, dict[str, Any]]:
    """Assess a patient on the page. Returns the prediction's id, and what the page sent for it."""
    page.get_by_role("tab").first.click()
    page.fill("#age input", "61")
    page.check("#sex input[value=female]")
    before = page.evaluate("document.querySelector('.prediction-id')?.innerText ?? ''")
    with page.expect_request(f"**{PREDICT}") as sent:
        page.click("#predict")
    sent.value.response()
    page.wait_for_function(
        "before => (document.querySelector('.prediction-id')?.innerText ?? before) !== before",
        arg=before,
    )
    return page.inner_text(".prediction-id"), sent.value.post_data_json


def record(page: Any, prediction_id: str) -> dict[str, Any]:
    """Record an outcome on the page. Returns what the page sent for it."""
    page.get_by_role("tab", name="Record an outcome").click()
    page.fill("#prediction_id input, #prediction_id textarea", prediction_id)
    page.check("#outcome input[value=presence]")
    page.check("#source input[value=angiography]")
    with page.expect_request(f"**{PREDICT}") as sent:
        page.click("#record")
    page.wait_for_selector("#recorded .message.good")
    call: dict[str, Any] = sent.value.post_data_json
    return call


def other_page(visitor: Any, origin: str) -> Any:
    """A page of another origin in the same browser, which has the visitor's cookies."""
    page = visitor.context.new_page()
    page.goto(origin)
    return page


def submit(visitor: Any, origin: str, url: str, kind: str, name: str, value: str) -> int:
    """The status of the answer to a form, which the browser shows instead of the other page."""
    page = other_page(visitor, origin)
    with page.expect_navigation() as answer:
        page.evaluate(FORM, [url, kind, name, value])
    page.close()
    return int(answer.value.status)


def follow(visitor: Any, origin: str, url: str) -> int:
    """The status of the answer to a link on the other page."""
    page = other_page(visitor, origin)
    with page.expect_navigation() as answer:
        page.evaluate("url => { location = url }", url)
    page.close()
    return int(answer.value.status)


def as_form(text: str) -> tuple[str, str]:
    """A field of a form that is this JSON once it is written as text/plain: NAME=VALUE."""
    return text[:-1] + ', "x": "', '"}'


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_another_origin_cannot_use_the_session_of_a_visitor(
    host: str, visitor: Any, closed: Target, other_port: int
) -> None:
    spare, prediction = assess(visitor)
    outcome = record(visitor, assess(visitor)[0])
    outcome["data"][0] = spare
    before = closed.log.count()
    origin = f"http://{host}:{other_port}/"
    page = other_page(visitor, origin)

    for sent in (prediction, outcome):
        body = json.dumps(sent)
        for path in (PREDICT, "/gradio_api/queue/join"):
            url = closed.url + path
            for options in (
                {"headers": JSON},
                {"mode": "no-cors"},
                {"mode": "no-cors", "headers": {"content-type": "text/plain"}},
            ):
                page.evaluate(FETCH, [url, {"method": "POST", "body": body, **options}])
        assert submit(visitor, origin, closed.url + PREDICT, "text/plain", *as_form(body)) == 403
    login = f"{closed.url}/login"
    assert (
        submit(visitor, origin, login, "application/x-www-form-urlencoded", "username", "x") == 403
    )
    upload = f"{closed.url}/gradio_api/upload"
    assert submit(visitor, origin, upload, "multipart/form-data", "files", "x") == 403
    stream = f"{closed.url}/gradio_api/queue/data?session_hash={prediction['session_hash']}"
    assert page.evaluate(STREAM, stream) == "blocked"
    assert page.evaluate(FETCH, [f"{closed.url}/config", {}]) == "blocked"
    page.evaluate(FETCH, [f"{closed.url}/logout", {"mode": "no-cors"}])
    assert follow(visitor, origin, f"{closed.url}/logout") == 403

    kept = closed.log.get(spare)
    assert closed.log.count() == before
    assert kept is not None
    assert kept["outcome"] is None
    # The visitor is still logged in, and comes by a link too.
    assert assess(visitor)[0] != spare
    page.evaluate("url => { location = url }", closed.url)
    page.wait_for_selector("html[data-ready] #age input")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_another_origin_cannot_use_a_service_without_a_token(
    host: str, browser: Any, unlocked: Target, other_port: int
) -> None:
    context = browser.new_context()
    own = context.new_page()
    own.goto(f"{unlocked.url}/docs")
    key = own.evaluate(POST, [f"{unlocked.url}/predict", EXAMPLE])["prediction_id"]
    before = unlocked.log.count()
    origin = f"http://{host}:{other_port}/"
    page = other_page(own, origin)

    outcome = {"prediction_id": key, "outcome": "presence", "source": "registry"}
    for path, sent in (("/predict", EXAMPLE), ("/feedback", outcome), ("/admin/reload", {"a": 1})):
        url, body = unlocked.url + path, json.dumps(sent)
        for options in ({"headers": JSON}, {"mode": "no-cors"}):
            page.evaluate(FETCH, [url, {"method": "POST", "body": body, **options}])
        assert submit(own, origin, url, "text/plain", *as_form(body)) == 403
    for method, path in (("DELETE", f"/predictions/{key}"), ("GET", "/model")):
        assert page.evaluate(FETCH, [unlocked.url + path, {"method": method}]) == "blocked"
    assert follow(own, origin, f"{unlocked.url}/docs") == 200
    context.close()

    kept = unlocked.log.get(key)
    assert unlocked.log.count() == before
    assert kept is not None
    assert kept["outcome"] is None
