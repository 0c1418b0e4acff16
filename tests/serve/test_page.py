"""The page without a browser: its handlers, its texts, and how it is served."""

import asyncio
import logging
import re
import string
import threading
from collections.abc import Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from schema import MEASUREMENTS, NAMES, Text
from serve.log_tables import SOURCES
from serve.page import (
    EXAMPLES,
    MAX_BODY_BYTES,
    MAX_FILE_BYTES,
    Handlers,
    LazyPage,
    _uploaded,
    _with_loop,
    build,
)
from serve.service import Service
from serve.texts import (
    FIGURES,
    FORM,
    GROUPS,
    MESSAGES,
    UNITS,
    for_browser,
    number,
    percent,
    preferred,
)
from tests.serve.page_fixture import PATIENT, OneModel, a_service, an_app, tiny_model

TOKEN = "correct-horse-battery"
CANARY = "canary-of-a-patient"
FILE = {"path": CANARY, "orig_name": CANARY, "meta": {"_type": "gradio.FileData"}}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with a_service(tmp_path) as made:
        yield made


@pytest.fixture
def handlers(service: Service) -> Handlers:
    return Handlers(service)


def values(**changes: Any) -> list[Any]:
    patient = {**PATIENT, **changes}
    return [patient.get(name) for name in NAMES]


def quiet(_share: float, _text: str) -> None:
    pass


# --- one patient


def test_an_answer_is_logged_and_shown(service: Service, handlers: Handlers) -> None:
    html, held = asyncio.run(handlers.predict("en", *values()))

    assert held is not None
    row = service.log.get(held["prediction_id"])
    assert row is not None
    assert f'value="{row["probability"]:.6f}"' in html
    assert held["prediction_id"] in html


def test_the_choice_not_measured_is_a_missing_value(handlers: Handlers) -> None:
    _, held = asyncio.run(handlers.predict("en", *values(thallium="not_measured")))

    assert held is not None
    assert held["patient"]["thallium"] is None


def test_a_patient_that_is_not_valid_is_not_logged(service: Service, handlers: Handlers) -> None:
    html, held = asyncio.run(handlers.predict("id", *values(age=200)))

    assert held is None
    assert "Usia berisi 200" in html
    assert service.log.count() == 0


def test_another_language_writes_the_answer_again_but_not_the_log(
    service: Service, handlers: Handlers
) -> None:
    _, held = asyncio.run(handlers.predict("en", *values()))
    html = asyncio.run(handlers.rewrite("id", held))

    assert "dari 100 orang seperti ini" in html
    assert service.log.count() == 1


def test_the_model_before_a_swap_still_explains_its_answers(tmp_path: Path) -> None:
    champion = OneModel()
    with a_service(tmp_path, champion) as service:
        handlers = Handlers(service)
        _, held = asyncio.run(handlers.predict("en", *values()))

        champion.previous, champion.current = champion.current, tiny_model("8")
        assert "people like this" in asyncio.run(handlers.rewrite("en", held))

        champion.previous = champion.current
        assert "The model has changed" in asyncio.run(handlers.rewrite("en", held))


@pytest.mark.parametrize(
    "held",
    [
        None,
        [],
        "x",
        {"patient": {}, "prediction_id": "x"},
        {"patient": 1, "prediction_id": 2, "model_version": "7"},
        {"patient": {"age": "<b>"}, "prediction_id": 2, "model_version": []},
    ],
)
def test_what_a_browser_claims_to_hold_is_not_trusted(handlers: Handlers, held: Any) -> None:
    assert asyncio.run(handlers.rewrite("en", held)).startswith('<p class="message info"')


def test_without_a_model_the_page_says_so(tmp_path: Path) -> None:
    with a_service(tmp_path, OneModel(None)) as service:
        handlers = Handlers(service)
        html, held = asyncio.run(handlers.predict("en", *values()))

        assert held is None
        assert "cannot answer now" in html
        assert "No model is loaded" in handlers.about("en")[0]


def test_without_a_log_the_page_gives_no_answer(service: Service, handlers: Handlers) -> None:
    service.log.close()
    html, held = asyncio.run(handlers.predict("en", *values()))

    assert held is None
    assert "cannot answer now" in html


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_a_valid_patient(handlers: Handlers, name: str) -> None:
    html, _ = asyncio.run(handlers.predict("en", *[EXAMPLES[name].get(n) for n in NAMES]))

    assert "people like this" in html


# --- a table


def upload(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "upload" / "patients.csv"
    path.parent.mkdir()
    path.write_bytes(content)
    return path


def test_a_table_is_scored_in_one_go_and_its_file_deleted(
    service: Service, handlers: Handlers, tmp_path: Path
) -> None:
    path = upload(tmp_path, b"age,sex\n57,male\n61,female\n")
    html = asyncio.run(handlers.score(path, "en", quiet))

    assert "Patients scored: 2" in html
    assert "data:text/csv" in html
    assert service.log.count() == 2
    assert service.log.stats.commits == 1
    assert not path.parent.exists()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"age,sex\n57,male\n7,female\n", "errors: 1"),
        (b"x" * (MAX_FILE_BYTES + 1), "larger than 2 MiB"),
    ],
)
def test_a_table_with_an_error_is_not_scored_at_all(
    service: Service, handlers: Handlers, tmp_path: Path, content: bytes, expected: str
) -> None:
    path = upload(tmp_path, content)

    assert expected in asyncio.run(handlers.score(path, "en", quiet))
    assert service.log.count() == 0
    assert not path.exists()


def test_only_what_was_uploaded_is_read(tmp_path: Path) -> None:
    path = upload(tmp_path, b"age,sex\n57,male\n")
    secret = tmp_path / "secret.csv"
    secret.write_text("57")
    link = path.parent / "link.csv"
    link.symlink_to(secret)

    assert _uploaded({"path": str(path)}, path.parent) == path
    claims = [str(secret), str(link), f"{path.parent}/../secret.csv", str(path.parent), "", "\0", 1]
    others: list[Any] = [None, "x", []]
    for claim in [*({"path": claim} for claim in claims), *others]:
        assert _uploaded(claim, path.parent) is None


# --- outcomes


def test_an_outcome_is_recorded(handlers: Handlers) -> None:
    _, held = asyncio.run(handlers.predict("en", *values()))
    assert held is not None

    def record(outcome: str, replace: bool = False) -> str:
        key = f" {held['prediction_id']} "
        return asyncio.run(handlers.record(key, outcome, "angiography", replace, "en"))

    assert "The outcome is recorded." in record("presence")
    assert "recorded already" in record("presence")
    assert "A different outcome is recorded." in record("absence")
    assert "The outcome was replaced." in record("absence", replace=True)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("0" * 32, "presence", "registry"), "no prediction with this id"),
        (("0", "presence", "registry"), "32 characters"),
        ((None, "presence", "registry"), "32 characters"),
        (("0" * 32, None, "registry"), "Choose an outcome"),
        (("0" * 32, "presence", ["registry"]), "Choose an outcome"),
        ((["x"], "presence", "registry"), "32 characters"),
    ],
)
def test_an_outcome_that_cannot_be_recorded(
    handlers: Handlers, given: tuple[Any, Any, Any], expected: str
) -> None:
    assert expected in asyncio.run(handlers.record(*given, replace=False, language="en"))


# --- texts


@pytest.mark.parametrize("texts", [FORM, MESSAGES, UNITS, FIGURES, GROUPS])
def test_both_languages_say_the_same_with_the_same_values(texts: dict[str, Text]) -> None:
    def placeholders(text: str) -> set[str | None]:
        return {name for _, name, _, _ in string.Formatter().parse(text)} - {None}

    for key, text in texts.items():
        assert text.en.strip(), key
        assert text.id.strip(), key
        assert placeholders(text.en) == placeholders(text.id), key


def test_what_the_browser_chooses_has_nothing_to_fill_in() -> None:
    for language in ("en", "id"):
        for text in for_browser(language).values():
            assert not re.search(r"[{}<>&]", text)


def test_every_unit_and_source_has_words() -> None:
    assert {m.unit for m in MEASUREMENTS if m.unit} == set(UNITS)
    assert {f"source_{source}" for source in SOURCES} <= set(FORM)


@pytest.mark.parametrize(
    ("heading", "expected"),
    [
        ("", "en"),
        ("id", "id"),
        ("id-ID,id;q=0.9,en;q=0.8", "id"),
        ("en-GB,en;q=0.9,id;q=0.8", "en"),
        ("de,in;q=0.3", "id"),
        ("id;q=0,en;q=0.1", "en"),
        (";;,q=,*", "en"),
    ],
)
def test_the_language_is_the_one_that_is_preferred(heading: str, expected: str) -> None:
    assert preferred(heading) == expected


def test_numbers_are_written_as_the_language_writes_them() -> None:
    assert number(1234.5, "id", ",.1f") == "1.234,5"
    assert number(1234.5, "en", ",.1f") == "1,234.5"
    assert [percent(share) for share in (0.001, 0.284, 0.999)] == ["<1%", "28%", ">99%"]


# --- how it is served


def gated() -> tuple[LazyPage, threading.Event, list[Path]]:
    """A page that is built once the gate opens, and the folders that were given to it."""
    gate, folders = threading.Event(), []

    def build_late(folder: Path) -> FastAPI:
        gate.wait(10)
        folders.append(folder)
        (folder / "patients.csv").write_text("57")
        app = FastAPI()
        app.get("/")(lambda: "built")
        app.post("/")(lambda: "posted")
        return app

    return LazyPage(build_late), gate, folders


def test_before_the_page_is_built_it_says_so_and_opens_itself_again() -> None:
    page, gate, folders = gated()

    async def story() -> list[Any]:
        await page.start()
        client = TestClient(page)
        found = [await asyncio.to_thread(client.get, "/", headers={"accept-language": "id"})]
        gate.set()
        assert await page.ready()
        found.append(await asyncio.to_thread(client.get, "/"))
        await page.stop()
        return found

    waiting, built = asyncio.run(story())
    assert (waiting.status_code, waiting.headers["retry-after"]) == (503, "2")
    assert 'http-equiv="refresh"' in waiting.text
    assert "Halaman sedang dimulai" in waiting.text
    assert built.json() == "built"
    assert not folders[0].exists()


def test_a_page_that_cannot_be_built_leaves_the_rest_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(_: Path) -> FastAPI:
        raise RuntimeError("no Gradio here")

    async def story() -> Any:
        page = LazyPage(fail)
        await page.start()
        assert not await page.ready()
        answer = await asyncio.to_thread(TestClient(page).get, "/")
        await page.stop()
        return answer

    with caplog.at_level(logging.ERROR):
        answer = asyncio.run(story())
    assert answer.status_code == 503
    assert "could not be started" in answer.text
    assert "no Gradio here" in caplog.text


@pytest.mark.parametrize(
    ("method", "path", "headers", "expected"),
    [
        ("GET", "/", {}, 503),
        ("GET", "/gradio_api/file=/etc/passwd", {}, 404),
        ("GET", "/prefix/gradio_api/heartbeat/x", {}, 404),
        ("POST", "/gradio_api/process_recording", {}, 404),
        ("POST", "/gradio_api/upload", {"content-length": str(MAX_BODY_BYTES + 1)}, 413),
        ("POST", "/gradio_api/upload", {"content-length": "x"}, 411),
        ("POST", "/gradio_api/run/predict", {"content-length": "2"}, 503),
    ],
)
def test_what_the_page_does_not_ask_for_does_not_reach_gradio(
    method: str, path: str, headers: dict[str, str], expected: int
) -> None:
    page, _, _ = gated()

    assert TestClient(page).request(method, path, headers=headers).status_code == expected


# --- Gradio itself


@pytest.fixture(scope="module")
def gradio_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, TestClient]]:
    folder = tmp_path_factory.mktemp("gradio")
    with a_service(folder) as made:
        app, page = an_app(made, api_token=TOKEN)
        with TestClient(app) as client:
            assert client.portal is not None
            assert client.portal.call(page.ready)
            yield made, client


def logged_in(client: TestClient) -> TestClient:
    answer = client.post("/login", data={"username": "anyone", "password": TOKEN})
    assert answer.status_code == 200
    return client


def test_the_page_asks_for_the_token(gradio_app: tuple[Service, TestClient]) -> None:
    _, client = gradio_app
    client.cookies.clear()

    assert '"auth_required":true' in client.get("/").text
    assert client.post("/gradio_api/run/predict", json={"data": []}).status_code == 401
    for password in ("", "wrong", TOKEN + "x", "ä"):
        answer = client.post("/login", data={"username": "anyone", "password": password})
        assert answer.status_code in (400, 422)
    logged_in(client)
    assert '"auth_required":true' not in client.get("/").text


def test_the_page_is_closed_where_gradio_is_open(gradio_app: tuple[Service, TestClient]) -> None:
    _, client = gradio_app
    config = logged_in(client).get("/config").json()

    assert config["run_history"] is False
    assert config["analytics_enabled"] is False
    assert config["footer_links"] == []
    assert config["show_error"] is False
    assert config["max_file_size"] == MAX_FILE_BYTES
    assert {event["api_visibility"] for event in config["dependencies"]} == {"private"}
    queued = [event for event in config["dependencies"] if event["queue"] and event["backend_fn"]]
    assert len(queued) == 1  # the scoring of a table, with its progress bar


def test_the_page_loads_nothing_from_elsewhere(gradio_app: tuple[Service, TestClient]) -> None:
    _, client = gradio_app
    html = logged_in(client).get("/").text
    css = client.get("/theme.css").text

    loaded = re.findall(r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)=[\"']?([^\"' >]+)", html)
    assert loaded
    assert not [url for url in loaded if url.startswith(("http:", "https:", "//"))]
    assert not re.findall(r"(?:url\(|@import)[\"' ]*(?:https?:)?//", css)


def test_no_value_of_a_patient_reaches_a_log(
    gradio_app: tuple[Service, TestClient],
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    _, client = gradio_app
    logged_in(client)
    with caplog.at_level(logging.DEBUG):
        config = client.get("/config").json()
        files = {part["id"] for part in config["components"] if part["type"] == "file"}
        for event in config["dependencies"]:
            data = [FILE if part in files else CANARY for part in event["inputs"]]
            body = {"data": data, "fn_index": event["id"], "session_hash": "s"}
            client.post("/gradio_api/run/predict", json=body)
    written = capfd.readouterr()

    # Gradio's own: two events are for the browser alone.
    assert "function has no backend method" in written.err
    assert CANARY not in written.out + written.err + caplog.text


def test_the_folder_for_uploads_is_the_pages_own(
    tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "")
    _with_loop(partial(build, service, None), tmp_path / "uploads")

    from gradio.utils import get_upload_folder

    assert get_upload_folder() == str(tmp_path / "uploads")


def test_the_answer_has_all_that_the_assessment_has() -> None:
    from serve.assessment import Assessment

    # Whoever adds a field decides here whether it is shown.
    assert {field.name for field in fields(Assessment)} == {
        "patient", "version", "threshold", "risk", "low", "high", "average", "start",
        "contributions", "could_be", "warnings",
    }  # fmt: skip
