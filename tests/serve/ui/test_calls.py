"""What a request can make Gradio do: no file is opened, no URL fetched, no session kept, nothing quoted."""

import json
import logging
import threading
import warnings
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from serve.middleware.instrumentation import NO_TELEMETRY
from serve.page_paths import CALL
from serve.ui.calls import CallFilter, is_allowed
from tests.serve.ui.page_fixture import GradioPage

CANARY = "canary-of-a-patient"
TABLE = f"patient_id,age,sex\n{CANARY},57,male\n"


# The filter alone


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """What comes through the filter."""
    request = Request(scope, receive)
    seen = {"body": (await request.body()).decode(), "query": scope["query_string"].decode()}
    await Response(json.dumps(seen))(scope, receive, send)


FILTER = TestClient(CallFilter(echo, {0: 2, 7: 0}))


@pytest.mark.parametrize(
    "data",
    [["en", 57], [None, 1.5], [True, "männlich"], [10**30, '{"path": "/etc/passwd"}']],
)
def test_scalars_are_passed_on_without_the_session(data: list[Any]) -> None:
    body = {"data": data, "fn_index": 0, "session_hash": "s", "trigger_id": 3, "event_data": {}}

    seen = FILTER.post(CALL, json=body).json()

    assert json.loads(seen["body"]) == {"data": data, "fn_index": 0}


def test_a_key_that_is_there_twice_is_read_as_it_was_checked() -> None:
    twice = '{"data": [{"path": "/etc/passwd"}, 1], "data": ["en", 1], "fn_index": 0}'

    assert json.loads(FILTER.post(CALL, content=twice).json()["body"])["data"] == ["en", 1]


@pytest.mark.parametrize(
    "body",
    [
        "",
        "null",
        "[]",
        "{",
        "\xff",
        '{"data": []}',
        '{"data": [], "fn_index": 1}',
        '{"data": [1], "fn_index": 0}',
        '{"data": [1, 2, 3], "fn_index": 0}',
        '{"data": [1, [2]], "fn_index": 0}',
        '{"data": [1, {}], "fn_index": 0}',
        '{"data": {"0": 1, "1": 2}, "fn_index": 0}',
        '{"data": "en", "fn_index": 0}',
        '{"data": [1, 2], "fn_index": "0"}',
        '{"data": [1, 2], "fn_index": false}',
        '{"data": [1, "\\ud800"], "fn_index": 0}',
        '{"data": [' + "[" * 100_000,
        '{"data": [' + "0," * 100_000 + '0], "fn_index": 0}',
    ],
)
def test_invalid_event_call_is_rejected(body: str) -> None:
    answer = FILTER.post(CALL, content=body.encode("latin-1"))

    assert answer.status_code == 422
    assert answer.json()["error"]


def test_query_strings_do_not_reach_gradio() -> None:
    assert FILTER.get("/config?deep_link=../x&page=y").json()["query"] == ""


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/gradio_api/file=/etc/passwd"),
        ("GET", "/gradio_api/file=http://127.0.0.1/"),
        ("HEAD", "/gradio_api/file=/dev/zero"),
        ("GET", "/gradio_api/file/etc/passwd"),
        ("GET", "/gradio_api/proxy=http://127.0.0.1/"),
        ("GET", "/gradio_api/heartbeat/s"),
        ("GET", "/gradio_api/queue/data"),
        ("GET", "/gradio_api/queue/status"),
        ("GET", "/gradio_api/deep_link"),
        ("GET", "/gradio_api/upload_progress"),
        ("GET", "/gradio_api/startup-events"),
        ("GET", "/gradio_api/custom_component/a/client/b/c"),
        ("GET", "/gradio_api/stream/s/r/1/playlist-file"),
        ("GET", "/monitoring"),
        ("GET", "/pwa_icon/100000"),
        ("POST", "/"),
        ("POST", "/gradio_api/run/other"),
        ("POST", "/gradio_api/run/predict/"),
        ("POST", "/gradio_api/api/predict"),
        ("POST", "/gradio_api/call/predict"),
        ("POST", "/gradio_api/call/v2/predict"),
        ("POST", "/gradio_api/queue/join"),
        ("POST", "/gradio_api/cancel"),
        ("POST", "/gradio_api/reset"),
        ("POST", "/gradio_api/component_server"),
        ("POST", "/gradio_api/stream/e"),
        ("POST", "/gradio_api/upload"),
        ("POST", "/gradio_api/process_recording"),
        ("PUT", "/gradio_api/run/predict"),
        ("DELETE", "/"),
    ],
)
def test_what_the_page_does_not_use_is_not_there(
    method: str, path: str, open_page: GradioPage
) -> None:
    assert not is_allowed(method, path)
    assert open_page.client.request(method, path).status_code == 404


# With Gradio behind it


@pytest.fixture(params=["open", "logged in", "logged out"])
def page(request: pytest.FixtureRequest) -> GradioPage:
    """The page without a token, and with one for those who know it and those who do not."""
    name = "open_page" if request.param == "open" else "closed_page"
    made: GradioPage = request.getfixturevalue(name)
    made.client.cookies.clear()
    if request.param == "logged in":
        made.log_in()
    return made


@pytest.fixture(scope="module")
def fetched() -> Iterator[tuple[str, list[str]]]:
    """The URL of a server of this machine, and the paths requested from it."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(TABLE.encode())

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/table.csv", paths
    server.shutdown()
    thread.join()
    server.server_close()


def gradio_of(page: GradioPage) -> Any:
    """Gradio's own application."""
    return page.app.router.default._app.router.routes[-1].app  # type: ignore[attr-defined]


def claims(path: str) -> list[Any]:
    """Values that Gradio takes for a file, at once or further inside."""
    file = {"path": path, "orig_name": path, "meta": {"_type": "gradio.FileData"}}
    url = {**file, "path": None, "url": path}
    return [file, url, [file], {"value": file}, {"a": [{"b": [url, file]}]}, {**file, "data": path}]


def test_no_event_opens_a_file_or_fetches_a_url(
    page: GradioPage, tmp_path: Path, fetched: tuple[str, list[str]]
) -> None:
    url, paths = fetched
    secret = tmp_path / "secret.csv"
    secret.write_text(TABLE)
    link, of_gradio = tmp_path / "link.csv", page.folder / "another-visitor.csv"
    link.symlink_to(secret)
    of_gradio.write_text(TABLE)
    named = [secret, f"{page.folder}/../../{secret}", link, of_gradio, f"file://{secret}", url]
    before, kept = page.service.log.count(), sorted(page.folder.rglob("*"))
    # Without a session nothing of a call is read.
    expected = 401 if '"auth_required":true' in page.client.get("/").text else 422

    for place in [*map(str, named), "/proc/self/environ", "/dev/zero", "."]:
        for number, event in gradio_of(page).get_blocks().fns.items():
            data = list(islice(cycle(claims(place)), len(event.inputs) or 1))
            for body in (data, data[0]):
                answer = page.call(number, body)
                assert answer.status_code == expected
                assert CANARY not in answer.text

    of_gradio.unlink()
    assert page.service.log.count() == before
    assert sorted(page.folder.rglob("*")) == [path for path in kept if path != of_gradio]
    assert paths == []


def test_no_address_of_the_page_is_a_file_of_the_server(
    open_page: GradioPage, tmp_path: Path
) -> None:
    (tmp_path / "secret.csv").write_text(CANARY)
    (open_page.folder / "state.json").write_text(json.dumps([CANARY]))
    (open_page.folder / "link").symlink_to(tmp_path)

    for folder in ("assets", "static"):
        for place in (
            f"/{tmp_path}",
            f"../../{tmp_path}",
            f"%2e%2e/%2e%2e{tmp_path}",
            "//dev/zero",
        ):
            answer = open_page.client.get(f"/{folder}/{place}/secret.csv")
            assert answer.status_code in (403, 404)
    for deep_link in ("..", ".", "../link", str(open_page.folder)):
        for path in ("/", "/config"):
            answer = open_page.client.get(path, params={"deep_link": deep_link, "page": "x"})
            assert answer.status_code == 200
            assert CANARY not in answer.text


def test_page_visit_leaves_no_state(open_page: GradioPage) -> None:
    (load,) = [e for e in open_page.events() if e["backend_fn"] and e["targets"][0][1] == "load"]

    for visit in range(3):
        answer = open_page.call(load["id"], ["id"], session_hash=f"visitor{visit}")
        assert answer.status_code == 200

    gradio = gradio_of(open_page)
    assert not gradio.state_holder.session_data
    assert not gradio.iterators
    assert not gradio.get_blocks()._queue.event_ids_to_events


def test_a_table_is_scored_from_its_call_alone(open_page: GradioPage) -> None:
    event = open_page.event_of("upload")
    before, kept = open_page.service.log.count(), sorted(open_page.folder.rglob("*"))

    answer = open_page.call(event["id"], [b64encode(TABLE.encode()).decode(), "en", "auto"])

    assert "Patients scored: 1" in answer.json()["data"][0]
    assert open_page.service.log.count() == before + 1
    assert sorted(open_page.folder.rglob("*")) == kept


# What is printed


def test_no_application_records_requests_for_telemetry(open_page: GradioPage) -> None:
    built = open_page.app.router.default._app  # type: ignore[attr-defined]

    for app in (built, gradio_of(open_page)):
        assert not any(app._telemetry[kind] for kind in NO_TELEMETRY)


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/json", "content-encoding": "gzip"},
        {},
    ],
)
def test_a_call_is_plain_json(headers: dict[str, str], open_page: GradioPage) -> None:
    assert open_page.client.post(CALL, content=b"{}", headers=headers).status_code == 415


def test_the_page_answers_head(open_page: GradioPage) -> None:
    head = open_page.client.head("/")

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"].startswith("text/html")


def test_no_value_of_a_call_is_printed(
    page: GradioPage, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.WARNING, "httpx2")  # the client's own log quotes what it sends
    form = {"username": CANARY, "password": CANARY, CANARY: CANARY}
    kinds = ("application/x-www-form-urlencoded", f"multipart/form-data; boundary={CANARY}")
    with warnings.catch_warnings(record=True) as caught:
        for number in range(-1, 20):
            for count in (0, 1, 2, 5, 14, 20):
                page.call(number, [CANARY] * count, event_data=CANARY)
        page.call(0, CANARY)
        page.call(0, [CANARY], fn_index=CANARY)
        page.call(0, [CANARY], trigger_id=CANARY)
        json_type = {"content-type": "application/json"}
        page.client.post(CALL, content=f'{{"data": "{CANARY}', headers=json_type)
        page.client.get(f"/{CANARY}?{CANARY}={CANARY}")
        for kind in kinds:
            page.client.post("/login", content=CANARY, headers={"content-type": kind})
        page.client.post("/login", data=form, files={CANARY: CANARY})
    written = capfd.readouterr()

    printed = written.out + written.err + caplog.text + "".join(str(w.message) for w in caught)
    assert CANARY not in printed


@pytest.mark.parametrize(
    "raised", [RuntimeError(CANARY), UnicodeEncodeError("utf-8", CANARY, 0, 1, "x")]
)
def test_error_of_a_handler_is_reported_without_its_message(
    raised: Exception,
    open_page: GradioPage,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(*_: Any) -> Any:
        raise raised

    monkeypatch.setattr(open_page.service, "predict", fail)
    event = open_page.event_of("age")

    answer = open_page.call(event["id"], ["en", 57, "male", *[None] * (len(event["inputs"]) - 3)])
    written = capfd.readouterr()

    assert answer.status_code == 500
    assert "server" in answer.json()["error"]
    assert type(raised).__name__ in caplog.text
    assert CANARY not in written.out + written.err + caplog.text + answer.text
