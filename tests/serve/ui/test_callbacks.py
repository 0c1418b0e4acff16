"""What happens on the page, without a browser and without Gradio."""

import asyncio
import json
import re
from base64 import b64encode
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from heart.locale.language import translate
from serve.service import Service
from serve.ui.callbacks import WAITING_TABLES, Callbacks
from serve.ui.examples import EXAMPLES
from serve.ui.table import INPUTS
from serve.ui.uploads import MAX_ENCODED, MAX_FILE_BYTES
from tests.serve.ui.page_fixture import PATIENT, OneModel, a_service, tiny_model

ANSWER = '<data class="risk"'
UNAVAILABLE = translate("page.unavailable", "en")


@pytest.fixture
def handlers(service: Service) -> Callbacks:
    return Callbacks(service)


def values(**changes: Any) -> list[Any]:
    patient = {**PATIENT, **changes}
    return [patient.get(name) for name in INPUTS]


def content_of(state: str | None) -> dict[str, Any]:
    assert state is not None
    return dict(json.loads(state))


def test_an_answer_is_logged_and_shown(service: Service, handlers: Callbacks) -> None:
    html, state = asyncio.run(handlers.predict("en", *values()))

    prediction_id = content_of(state)["prediction_id"]
    row = service.log.get(prediction_id)
    assert row is not None
    assert f'value="{row["probability"]:.6f}"' in html
    assert prediction_id in html


@pytest.mark.parametrize(
    ("sent", "known"),
    [
        (57, 57),
        ('"><b>', '"><b>'),
        ("x" * 100, "x" * 64),
        (10**400, None),
        (float("nan"), None),
        ([], None),
    ],
)
def test_an_answer_carries_its_inputs_as_data(handlers: Callbacks, sent: Any, known: Any) -> None:
    html, _ = asyncio.run(handlers.predict("en", *values(age=sent)))

    (inputs,) = re.findall(r'data-inputs="([^"]*)"', html)
    assert json.loads(unescape(inputs)) == {name: PATIENT.get(name) for name in INPUTS} | {
        "age": known
    }
    assert "><b>" not in html


def test_the_choice_not_measured_is_a_missing_value(handlers: Callbacks) -> None:
    _, state = asyncio.run(handlers.predict("en", *values(thallium="not_measured")))

    assert content_of(state)["inputs"]["thallium"] is None


def test_a_patient_that_is_not_valid_is_not_logged(service: Service, handlers: Callbacks) -> None:
    html, state = asyncio.run(handlers.predict("id", *values(age=200)))

    assert state is None
    assert "Usia berisi 200" in html
    assert service.log.count() == 0


def test_another_language_writes_the_answer_again_but_not_the_log(
    service: Service, handlers: Callbacks
) -> None:
    _, state = asyncio.run(handlers.predict("en", *values()))
    html = asyncio.run(handlers.rewrite("id", state))

    assert re.search(r'<section [^>]*lang="id"', html)
    assert service.log.count() == 1


def test_the_model_before_a_swap_still_explains_its_answers(tmp_path: Path) -> None:
    champion = OneModel()
    with a_service(tmp_path, champion) as service:
        handlers = Callbacks(service)
        _, state = asyncio.run(handlers.predict("en", *values()))

        champion.previous, champion.current = champion.current, tiny_model("8")
        assert ANSWER in asyncio.run(handlers.rewrite("en", state))

        champion.previous = champion.current
        assert translate("answer.model_changed", "en") in unescape(
            asyncio.run(handlers.rewrite("en", state))
        )


@pytest.mark.parametrize(
    "state",
    [
        None,
        [],
        "x",
        57,
        "[1]",
        "[" * 9_000,
        '{"inputs": {}, "prediction_id": "x", "model_version": "7"}' + " " * 10_000,
        '{"inputs": {}, "prediction_id": "x"}',
        '{"inputs": 1, "prediction_id": 2, "model_version": "7"}',
        '{"inputs": {"age": "<b>"}, "prediction_id": 2, "model_version": []}',
    ],
)
def test_state_from_a_browser_is_not_trusted(handlers: Callbacks, state: Any) -> None:
    assert asyncio.run(handlers.rewrite("en", state)).startswith('<p class="message info"')


def test_page_reports_a_missing_model(tmp_path: Path) -> None:
    with a_service(tmp_path, OneModel(None)) as service:
        handlers = Callbacks(service)
        html, state = asyncio.run(handlers.predict("en", *values()))

        assert state is None
        assert UNAVAILABLE in html
        assert translate("page.no_model", "en") in handlers.about("en")[0]


def test_without_a_log_the_page_gives_no_answer(service: Service, handlers: Callbacks) -> None:
    service.log.close()
    html, state = asyncio.run(handlers.predict("en", *values()))

    assert state is None
    assert UNAVAILABLE in html


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_a_valid_patient(handlers: Callbacks, name: str) -> None:
    html, _ = asyncio.run(handlers.predict("en", *[EXAMPLES[name].get(n) for n in INPUTS]))

    assert ANSWER in html


def encoded(content: bytes) -> str:
    """A file as the browser sends it."""
    return b64encode(content).decode()


def test_a_table_is_scored_in_one_transaction(service: Service, handlers: Callbacks) -> None:
    table = encoded(b"age,sex\n57,male\n61,female\n")
    html = asyncio.run(handlers.score(table, "en", "auto"))

    assert "Patients scored: 2" in html
    assert "data:text/csv" in html
    assert service.log.count() == 2
    assert service.log.stats.commits == 1


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (encoded(b"age,sex\n57,male\n7,female\n"), "Errors: 1"),
        (encoded(b""), "the file is empty"),
        (encoded(b"x" * (MAX_FILE_BYTES + 1)), "larger than 2 MiB"),
        ("/" * (MAX_ENCODED + 1), "larger than 2 MiB"),
        ("/etc/passwd", "not text"),
        ("ä", "not text"),
        (57, "not text"),
    ],
    ids=[
        "a wrong value",
        "empty",
        "a byte too long",
        "much too long",
        "a path",
        "no base64",
        "a number",
    ],
)
def test_a_table_with_an_error_is_not_scored_at_all(
    service: Service, handlers: Callbacks, content: Any, expected: str
) -> None:
    assert expected in asyncio.run(handlers.score(content, "en", "auto"))
    assert service.log.count() == 0


def test_a_coding_in_doubt_is_explained_and_can_be_chosen(handlers: Callbacks) -> None:
    table = encoded(
        b"age,sex,cp,trestbps,chol,fbs,restecg,thalach,exang,oldpeak,slope,ca,thal\n"
        b"61,1,3,141,251,0,2,121,1,2.1,1,2,2\n49,0,0,127,219,1,0,171,0,0.3,0,0,0\n"
    )

    doubt = asyncio.run(handlers.score(table, "id", "auto"))
    chosen = asyncio.run(handlers.score(table, "en", "uci_from_0"))

    assert translate("table.unreadable", "id") in doubt
    assert "uci_from_0" in doubt
    assert translate("table.read_as", "en", layout="commas; coding uci_from_0") in chosen


def test_a_coding_that_the_page_does_not_offer_is_not_used(handlers: Callbacks) -> None:
    table = encoded(b"age,sex\n57,male\n")

    for coding in ("excel", "", None, 7, "thallium=uci"):
        html = asyncio.run(handlers.score(table, "en", coding))
        assert translate("table.read_as", "en", layout="commas; coding words") in html


def test_without_a_file_the_message_is_empty(handlers: Callbacks) -> None:
    assert asyncio.run(handlers.score(None, "en", "auto")) == ""


def test_concurrent_and_queued_tables_are_limited(handlers: Callbacks) -> None:
    table = encoded(b"age,sex\n57,male\n")

    async def story() -> tuple[str, list[str]]:
        occupied = [object() for _ in range(int(handlers.tables.total_tokens))]
        for one in occupied:
            await handlers.tables.acquire_on_behalf_of(one)
        waiting = [
            asyncio.create_task(handlers.score(table, "en", "auto")) for _ in range(WAITING_TABLES)
        ]
        await asyncio.sleep(0)
        refused = await asyncio.wait_for(handlers.score(table, "en", "auto"), 5)
        for one in occupied:
            handlers.tables.release_on_behalf_of(one)
        return refused, await asyncio.gather(*waiting)

    refused, scored = asyncio.run(story())

    assert UNAVAILABLE in refused
    assert all("Patients scored: 1" in html for html in scored)


def test_an_outcome_is_recorded(handlers: Callbacks) -> None:
    _, state = asyncio.run(handlers.predict("en", *values()))
    prediction_id = content_of(state)["prediction_id"]

    def record(outcome: str, replace: bool = False) -> str:
        key = f" {prediction_id} "
        return asyncio.run(handlers.record(key, outcome, "angiography", replace, "en"))

    assert translate("outcome.created", "en") in record("presence")
    assert translate("outcome.same", "en") in record("presence")
    assert translate("outcome.conflict", "en") in record("absence")
    assert translate("outcome.replaced", "en") in record("absence", replace=True)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("0" * 32, "presence", "registry"), "outcome.unknown_id"),
        (("0", "presence", "registry"), "outcome.invalid_id"),
        ((None, "presence", "registry"), "outcome.invalid_id"),
        (("0" * 32, None, "registry"), "outcome.incomplete"),
        (("0" * 32, "presence", ["registry"]), "outcome.incomplete"),
        ((["x"], "presence", "registry"), "outcome.invalid_id"),
    ],
)
def test_an_outcome_that_cannot_be_recorded(
    handlers: Callbacks, given: tuple[Any, Any, Any], expected: str
) -> None:
    html = asyncio.run(handlers.record(*given, replace=False, language="en"))

    assert translate(expected, "en") in html
