"""What happens on the page, without a browser and without Gradio."""

import asyncio
import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from heart.schema import NAMES
from serve.service import Service
from serve.ui.callbacks import MAX_FILE_BYTES, Callbacks, uploaded
from serve.ui.examples import EXAMPLES
from tests.serve.ui.page_fixture import PATIENT, OneModel, a_service, tiny_model


@pytest.fixture
def handlers(service: Service) -> Callbacks:
    return Callbacks(service)


def values(**changes: Any) -> list[Any]:
    patient = {**PATIENT, **changes}
    return [patient.get(name) for name in NAMES]


def quiet(_share: float, _text: str) -> None:
    pass


def test_an_answer_is_logged_and_shown(service: Service, handlers: Callbacks) -> None:
    html, held = asyncio.run(handlers.predict("en", *values()))

    assert held is not None
    row = service.log.get(held["prediction_id"])
    assert row is not None
    assert f'value="{row["probability"]:.6f}"' in html
    assert held["prediction_id"] in html


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
    assert json.loads(unescape(inputs)) == {name: PATIENT.get(name) for name in NAMES} | {
        "age": known
    }
    assert "><b>" not in html


def test_the_choice_not_measured_is_a_missing_value(handlers: Callbacks) -> None:
    _, held = asyncio.run(handlers.predict("en", *values(thallium="not_measured")))

    assert held is not None
    assert held["patient"]["thallium"] is None


def test_a_patient_that_is_not_valid_is_not_logged(service: Service, handlers: Callbacks) -> None:
    html, held = asyncio.run(handlers.predict("id", *values(age=200)))

    assert held is None
    assert "Usia berisi 200" in html
    assert service.log.count() == 0


def test_another_language_writes_the_answer_again_but_not_the_log(
    service: Service, handlers: Callbacks
) -> None:
    _, held = asyncio.run(handlers.predict("en", *values()))
    html = asyncio.run(handlers.rewrite("id", held))

    assert "dari 100 orang seperti ini" in html
    assert service.log.count() == 1


def test_the_model_before_a_swap_still_explains_its_answers(tmp_path: Path) -> None:
    champion = OneModel()
    with a_service(tmp_path, champion) as service:
        handlers = Callbacks(service)
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
def test_what_a_browser_claims_to_hold_is_not_trusted(handlers: Callbacks, held: Any) -> None:
    assert asyncio.run(handlers.rewrite("en", held)).startswith('<p class="message info"')


def test_without_a_model_the_page_says_so(tmp_path: Path) -> None:
    with a_service(tmp_path, OneModel(None)) as service:
        handlers = Callbacks(service)
        html, held = asyncio.run(handlers.predict("en", *values()))

        assert held is None
        assert "cannot answer now" in html
        assert "No model is loaded" in handlers.about("en")[0]


def test_without_a_log_the_page_gives_no_answer(service: Service, handlers: Callbacks) -> None:
    service.log.close()
    html, held = asyncio.run(handlers.predict("en", *values()))

    assert held is None
    assert "cannot answer now" in html


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_a_valid_patient(handlers: Callbacks, name: str) -> None:
    html, _ = asyncio.run(handlers.predict("en", *[EXAMPLES[name].get(n) for n in NAMES]))

    assert "people like this" in html


def upload(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "upload" / "patients.csv"
    path.parent.mkdir()
    path.write_bytes(content)
    return path


def test_a_table_is_scored_in_one_go_and_its_file_deleted(
    service: Service, handlers: Callbacks, tmp_path: Path
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
    service: Service, handlers: Callbacks, tmp_path: Path, content: bytes, expected: str
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

    assert uploaded({"path": str(path)}, path.parent) == path
    claims = [str(secret), str(link), f"{path.parent}/../secret.csv", str(path.parent), "", "\0", 1]
    others: list[Any] = [None, "x", []]
    for claim in [*({"path": claim} for claim in claims), *others]:
        assert uploaded(claim, path.parent) is None


def test_an_outcome_is_recorded(handlers: Callbacks) -> None:
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
    handlers: Callbacks, given: tuple[Any, Any, Any], expected: str
) -> None:
    assert expected in asyncio.run(handlers.record(*given, replace=False, language="en"))
