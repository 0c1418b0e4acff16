"""OpenLineage events follow dvc.lock from the raw table to the registered version, and can be sent."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from heart import files
from heart.errors import UserError
from heart.governance import lineage
from heart.governance.lineage import Event, events, send
from tests.answering import answering
from tests.heart.governance.documents import ROOT, VERSION

MODEL = b"model"


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The lock of this checkout, as if its model were the file here."""
    monkeypatch.chdir(tmp_path)
    files.ONNX.parent.mkdir()
    files.ONNX.write_bytes(MODEL)
    content: dict[str, Any] = yaml.safe_load((ROOT / "dvc.lock").read_text())
    for stage in content["stages"].values():
        for entry in (*stage.get("deps", ()), *stage.get("outs", ())):
            if entry["path"] == str(files.ONNX):
                entry["md5"] = files.md5(files.ONNX)
    return content


def names(entries: list[Event]) -> set[str]:
    return {entry["name"] for entry in entries}


def test_every_stage_is_a_run_whose_inputs_others_have_made(lock: dict[str, Any]) -> None:
    content = events(lock, VERSION)

    assert {event["job"]["name"] for event in content} == lock["stages"].keys()
    made = {
        (f["name"], f["facets"]["version"]["datasetVersion"]) for e in content for f in e["outputs"]
    }
    read = {
        (f["name"], f["facets"]["version"]["datasetVersion"]) for e in content for f in e["inputs"]
    }
    assert {name for name, _ in read - made} == {"data/raw/heart.csv", "data/production"}


def test_the_last_run_makes_the_version_from_its_model(lock: dict[str, Any]) -> None:
    *_, last = events(lock, VERSION)

    assert str(files.ONNX) in names(last["inputs"])
    [model] = last["outputs"]
    assert model["facets"]["version"]["datasetVersion"] == VERSION["number"]
    assert {tag["key"]: tag["value"] for tag in model["facets"]["tags"]["tags"]} == {
        key: VERSION[key] for key in ("model_sha256", "git_commit")
    }


def test_the_same_stage_is_the_same_run_and_another_one_is_not(lock: dict[str, Any]) -> None:
    first = {e["job"]["name"]: e["run"]["runId"] for e in events(lock, VERSION)}
    lock["stages"]["split"]["params"]["params.yaml"]["split"]["seed"] = 1

    second = {e["job"]["name"]: e["run"]["runId"] for e in events(lock, VERSION)}

    assert {name for name in first if first[name] != second[name]} == {"split"}
    assert len(set(first.values())) == len(first)


def test_a_lock_of_another_model_is_rejected(lock: dict[str, Any]) -> None:
    files.ONNX.write_bytes(b"another")

    with pytest.raises(UserError, match="make repro"):
        events(lock, VERSION)


def facets(content: Any) -> Iterator[dict[str, Any]]:
    """Every facet in nested events."""
    if isinstance(content, dict):
        if "_schemaURL" in content:
            yield content
        content = list(content.values())
    if isinstance(content, list):
        for item in content:
            yield from facets(item)


def test_facets_have_the_keys_and_revisions_of_the_specification(lock: dict[str, Any]) -> None:
    from openlineage.client import facet_v2

    modules = [module for module in vars(facet_v2).values() if isinstance(module, ModuleType)]
    known = {name: value for module in modules for name, value in vars(module).items()}
    content = events(lock, VERSION)

    for facet in facets(content):
        kind = known[facet["_schemaURL"].rpartition("/")[2]]
        values = {key: value for key, value in facet.items() if not key.startswith("_")}
        assert kind(**values)._get_schema() == facet["_schemaURL"]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, Event]]]:
    """A server of OpenLineage: path and content of what it was sent."""
    taken: list[tuple[str, Event]] = []

    def answer(request: Any, body: bytes) -> tuple[int, bytes]:
        taken.append((request.path, json.loads(body)))
        return 201, b""

    with answering(answer) as address:
        monkeypatch.setenv(lineage.URL, address)
        yield taken


def test_what_is_sent_is_what_the_file_has(
    lock: dict[str, Any], server: list[tuple[str, Event]]
) -> None:
    content = events(lock, VERSION)

    send(content)

    assert {path for path, _ in server} == {"/api/v1/lineage"}
    for (_, sent), event in zip(server, content, strict=True):
        del sent["run"]["facets"]["tags"]  # which the library adds: its own version
        for entry in sent["inputs"] + sent["outputs"]:
            entry.pop("inputFacets", None)
            entry.pop("outputFacets", None)
        assert sent == event


def test_a_server_that_rejects_events_is_named(
    lock: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(lambda *_: (400, b"")) as address:
        monkeypatch.setenv(lineage.URL, address.replace("//", "//me:s3cret@"))

        with pytest.raises(UserError, match=address.removeprefix("http://")) as error:
            send(events(lock, VERSION))

    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize("url", ["me:s3cret@marquez:5000", "http://", "http://[::1", "marquez"])
def test_a_text_that_is_no_url_is_an_error_without_its_password(
    lock: dict[str, Any], monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv(lineage.URL, url)

    with pytest.raises(UserError, match=lineage.URL) as error:
        send(events(lock, VERSION))

    assert "s3cret" not in str(error.value)


def test_without_the_library_the_message_says_how_to_install_it(
    lock: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openlineage.client", None)

    with pytest.raises(UserError, match=r"install\.py lineage"):
        send(events(lock, VERSION))
