"""An invalid body costs little, whatever it holds, and its errors are named all the same."""

import asyncio
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import ValidationError

from heart.http.concurrency import LONG_BODIES, SHORT_BODY_BYTES
from serve import service
from serve.api import bodies, protected
from serve.api.bodies import MAX_ERRORS, MAX_KEPT, MAX_PATIENT_BYTES, InvalidBody, validate_batch
from serve.api.models import EXAMPLE, Batch
from serve.api.protected import LARGE_BATCH_BYTES
from serve.app import create_app
from serve.service import LARGE_ROWS
from serve.settings import MAX_BATCH
from tests.serve.small_service import parts

MIB = 2**20
JSON = {"content-type": "application/json"}
PATIENT = b'{"age":57,"sex":"male"}'
UNKNOWN = b"{" + b",".join(b'"%d":1' % number for number in range(115)) + b"}"


def repeated(opening: bytes, part: bytes, closing: bytes, size: int = 4 * MIB) -> bytes:
    count = (size - len(opening) - len(closing)) // (len(part) + 1)
    return opening + b",".join([part] * count) + closing


def names(count: int) -> bytes:
    return b"{" + b",".join(b'"%d":1' % number for number in range(count)) + b"}"


def batch(*patients: bytes) -> bytes:
    return b'{"patients":[' + b",".join(patients) + b"]}"


SHAPES: dict[str, Callable[[], bytes]] = {
    "115 unknown keys a row": lambda: batch(*[UNKNOWN] * MAX_BATCH),
    "13 bad values a row": lambda: batch(*[json.dumps(dict.fromkeys(EXAMPLE, "x")).encode()] * MAX_BATCH),
    "nulls": lambda: repeated(b'{"patients":[', b"null", b"]}"),
    "empty lists": lambda: repeated(b'{"patients":[', b"[]", b"]}"),
    "empty objects": lambda: repeated(b'{"patients":[', b"{}", b"]}"),
    "lists in a value": lambda: repeated(b'{"patients":[{"age":[', b"[]", b"]}]}"),
    "objects in a value": lambda: repeated(b'{"patients":[{"age":[', b"{}", b"]}]}"),
    "300,000 unknown keys": lambda: batch(names(300_000)),
    "300,000 unknown keys beside the patients": lambda: names(300_000),
    "one key again and again": lambda: repeated(b'{"patients":[{', b'"age":57', b"}]}"),
    "deep": lambda: b"[" * (4 * MIB),
    "deep objects": lambda: b'{"a":' * MIB,
    "long number": lambda: batch(b'{"age":' + b"9" * (4 * MIB) + b"}"),
    "long fraction": lambda: batch(b'{"age":5.' + b"9" * (4 * MIB) + b"}"),
    "long text": lambda: batch(b'{"sex":"' + b"x" * (4 * MIB) + b'"}'),
    "white space": lambda: batch(b'{"age":57,' + b" " * (4 * MIB) + b'"sex":"male"}'),
    "braces in a text": lambda: batch(b'{"sex":"' + b"},{" * (2 * MIB) + b'"}'),
    "no batch": lambda: repeated(b"[", b"1", b"]"),
}  # fmt: skip


def peak_bytes() -> int:
    """The most memory that this process has had since the peak was reset."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


@pytest.mark.parametrize("shape", SHAPES)
def test_invalid_body_of_any_shape_takes_little_time_and_memory(shape: str) -> None:
    body = SHAPES[shape]()
    Path("/proc/self/clear_refs").write_text("5")
    before, start = peak_bytes(), time.process_time()

    with pytest.raises(InvalidBody) as refused:
        validate_batch(body)

    assert time.process_time() - start < 1  # usual are 10 to 100 ms, without pieces up to 30 s
    assert peak_bytes() - before < 32 * MIB
    assert 1 <= len(refused.value.errors) <= MAX_KEPT
    assert not refused.value.complete


def longest_wait(app: FastAPI, body: bytes) -> tuple[httpx.Response, float]:
    """The answer to a batch, and for how long at most the event loop came to nothing else meanwhile."""
    gaps: list[float] = []

    async def beat() -> None:
        while True:
            start = time.perf_counter()
            await asyncio.sleep(0.001)
            gaps.append(time.perf_counter() - start)

    async def story() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
        ):
            await client.post("/predict/batch", content=batch(PATIENT), headers=JSON)
            beating = asyncio.create_task(beat())
            answer = await client.post("/predict/batch", content=body, headers=JSON)
            await asyncio.sleep(0.01)
            beating.cancel()
            return answer

    return asyncio.run(story()), max(gaps)


def test_the_service_answers_others_while_it_validates(tmp_path: Path) -> None:
    app = create_app(*parts(tmp_path), with_page=False)

    answer, seconds = longest_wait(app, SHAPES["115 unknown keys a row"]())

    assert answer.status_code == 422
    assert len(answer.json()["errors"]) == MAX_ERRORS
    assert answer.json()["more"]
    assert seconds < 2  # usual are 20 ms; it was 15 s


def test_a_full_batch_is_validated_and_scored_in_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app(*parts(tmp_path), with_page=False)
    threads: list[str] = []
    for module, name in ((protected, "validate_batch"), (service, "score")):
        original = getattr(module, name)

        def recorder(*arguments: Any, original: Any = original) -> Any:
            if len(arguments[-1]) > LARGE_ROWS:
                threads.append(threading.current_thread().name)
            return original(*arguments)

        monkeypatch.setattr(module, name, recorder)

    answer, _ = longest_wait(app, batch(*[json.dumps(EXAMPLE).encode()] * MAX_BATCH))

    assert len(answer.json()["predictions"]) == MAX_BATCH
    assert len(threads) == 2
    assert threading.current_thread().name not in threads


# What is valid stays so


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "PIECE_BYTES", 60)
    monkeypatch.setattr(bodies, "MAX_PATIENT_BYTES", 700)


FRAGMENTS = (
    "{", "}", "[", "]", ",", ":", '"', " ", "\n", "},{", "}, {", '"patients":', '{"patients":[', "]}",
    "57", "null", "\\", "NaN", '"sex":"male"', '{"age":57,"sex":"male"},', '"a},{b"',
)  # fmt: skip
ROWS = (
    PATIENT.decode(), "{}", "1", '{"age":57,"sex":"male","x":{"a":1},"y":[{"b":1},{"c":2}]}',
    '{"age":5},{"age":57,"sex":"ma},{le"}', '{"age":57,"sex":"male"}],"patients":[{"age":58,"sex":"male"}',
)  # fmt: skip


def any_body(chance: random.Random) -> bytes:
    """A batch with a change or two somewhere, often at a cut."""
    rows = [ROWS[0]] * chance.randint(1, 12)
    if chance.random() < 0.5:
        rows[chance.randrange(len(rows))] = chance.choice(ROWS)
    ends = ["]}"] * 5 + ['],"z":1}', "]", "]}x"]
    text = '{"patients":[' + chance.choice([",", " , ", ",\n"]).join(rows) + chance.choice(ends)
    for _ in range(chance.choice((0, 0, 1, 2))):
        at = chance.randrange(len(text))
        text = text[:at] + chance.choice(FRAGMENTS) + text[at + chance.randint(0, 3) :]
    return text.encode()


@pytest.mark.usefixtures("small_pieces")
def test_validation_in_pieces_equals_validation_as_a_whole() -> None:
    chance = random.Random(1)
    valid = 0
    for _ in range(3000):
        body = any_body(chance)
        try:
            expected = Batch.model_validate_json(body).patients
        except ValidationError:
            expected = None

        try:
            result = validate_batch(body).patients
        except InvalidBody:
            result = None
            if body.count(b'"patients"') > 1:  # pydantic takes the last list
                continue

        assert result == expected, body
        valid += result is not None
    assert 500 < valid < 2500


def test_full_batch_is_valid_in_any_formatting() -> None:
    patients = [{**EXAMPLE, "age": 20 + number % 80} for number in range(MAX_BATCH)]
    for indent in (None, 4):
        text = json.dumps({"patients": patients}, indent=indent)

        result = validate_batch(b"\xef\xbb\xbf \n" + text.encode() + b"\n").patients

        assert [patient.__dict__ for patient in result] == patients


# What is wrong is named


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(*parts(tmp_path), with_page=False)) as client:
        yield client


def refused(client: TestClient, body: bytes, path: str = "/predict/batch") -> Any:
    answer = client.post(path, content=body, headers=JSON)
    assert answer.status_code == 422, answer.text
    return answer.json()


def test_errors_far_apart_are_all_listed_with_their_rows(client: TestClient) -> None:
    patients = [PATIENT] * MAX_BATCH
    wrong = (0, 1, 4711, 4712, MAX_BATCH - 1)
    for row in wrong:
        patients[row] = b'{"age":300,"sex":"male"}'

    answer = refused(client, batch(*patients))

    result = [(p["row"], p["field"], p["value"]) for p in answer["errors"]]
    assert result == [(row, "age", 300) for row in wrong]
    assert not answer["more"]


def test_response_with_twenty_errors_says_there_may_be_more(client: TestClient) -> None:
    at_limit = refused(client, batch(*[b'{"age":57}'] * MAX_ERRORS))
    above_limit = refused(client, batch(*[b'{"age":57}'] * (MAX_ERRORS + 1)))
    single = refused(client, names(MAX_ERRORS - 2), "/predict")

    assert (len(at_limit["errors"]), at_limit["more"]) == (MAX_ERRORS, False)
    assert (len(above_limit["errors"]), above_limit["more"]) == (MAX_ERRORS, True)
    assert (len(single["errors"]), single["more"]) == (MAX_ERRORS, False)


@pytest.mark.parametrize(
    ("wrong", "kind", "field"),
    [
        (b'{"age":57,"sex":"male","x":[{"a":1},{"b":2}]}', "extra_forbidden", "x"),
        (b'{"age":57,"sex":"},{"}', "literal_error", "sex"),
        (b'{"age":57,"sex":"\\ud800"}', "string_unicode", "sex"),
        (b'{"age":57,"sex":', "json_invalid", None),
        (b'{"age":57,' + b" " * 2 * MAX_PATIENT_BYTES + b'"sex":"male"}', "too_long", None),
        (b"null", "model_type", None),
    ],
    ids=["nested", "braces", "half a character", "no JSON", "long", "no object"],
)
@pytest.mark.usefixtures("small_pieces")
def test_an_error_at_a_cut_has_its_name_and_row(
    client: TestClient, wrong: bytes, kind: str, field: str | None
) -> None:
    for before in range(6):  # at one of them the cut is within the patient
        answer = refused(client, batch(*[PATIENT] * before, wrong, *[PATIENT] * 6))

        first = answer["errors"][0]
        assert (first["type"], first.get("field")) == (kind, field)
        if kind != "json_invalid":
            assert first["row"] == before


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (batch(*[PATIENT] * (MAX_BATCH + 1)), "too_long"),
        (b'{"patients":[' + PATIENT + b'],"patients":[' + PATIENT + b"]}", "duplicate_key"),
        (b'{"patients":[]}', "too_short"),
        (b"{}", "missing"),
        (b"", "json_invalid"),
        (batch(*[PATIENT] * 1000)[:-2], "json_invalid"),
        (batch(*[PATIENT] * 1000)[:-1] + b',"more":1}', "extra_forbidden"),
    ],
    ids=["too many", "twice", "none", "missing", "empty", "cut off", "more keys"],
)
def test_invalid_list_of_patients_is_rejected(client: TestClient, body: bytes, kind: str) -> None:
    assert [problem["type"] for problem in refused(client, body)["errors"]] == [kind]


# Limits


@pytest.mark.parametrize("path", ["/predict", "/predict?explain=true", "/feedback"])
def test_only_a_batch_may_be_long(client: TestClient, path: str) -> None:
    long = client.post(path, content=names(300_000), headers=JSON)
    shorter = client.post(path, content=b" " * SHORT_BODY_BYTES, headers=JSON)

    assert (long.status_code, shorter.status_code) == (413, 422)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "json", None])
@pytest.mark.parametrize("path", ["/predict", "/predict/batch", "/feedback"])
def test_body_of_another_content_type_is_rejected(
    client: TestClient, path: str, kind: str | None
) -> None:
    headers = {} if kind is None else {"content-type": kind}

    answer = client.post(path, content=PATIENT, headers=headers)

    assert answer.status_code == 415
    assert kind is None or kind in answer.json()["detail"]


def test_number_of_long_bodies_in_progress_is_limited(tmp_path: Path) -> None:
    app = create_app(*parts(tmp_path), with_page=False)
    body = batch(*[PATIENT] * 4000)
    assert len(body) > LARGE_BATCH_BYTES
    with TestClient(app) as client:
        with ExitStack() as others:
            for _ in range(LONG_BODIES):
                others.enter_context(app.state.limiter.long_body())
            full = client.post("/predict/batch", content=body, headers=JSON)
            short = client.post("/predict/batch", content=batch(PATIENT), headers=JSON)
        after = [client.post("/predict/batch", content=body, headers=JSON) for _ in range(2)]

    assert (full.status_code, short.status_code) == (503, 200)
    assert full.headers["retry-after"] == "1"
    assert [answer.status_code for answer in after] == [200, 200]
