"""The documents of a version: artifacts of its run, and files of `make governance`."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from heart import files
from heart.errors import UserError
from heart.governance import lineage
from heart.governance.answers import FILES, NOT_AVAILABLE
from heart.registry import governance, local_store
from heart.registry import publishing as registry
from heart.registry.aliases import VERDICT
from tests.answering import answering
from tests.heart.governance.documents import ROOT, VALIDATION, VERSION, figures

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")

NAME = "heart-disease"
DOCUMENTS = {
    "chai_model_card.xml", "hugging_face.md", "croissant.json", "tripod_ai.md", "tripod_ai.json", "hti_1.md",
    "hti_1.json",
}  # fmt: skip


@pytest.fixture
def version(store: Any, package_of: Any, model_of: Any, patients: pd.DataFrame) -> Any:
    """A registered version without documents, in a folder in which the pipeline has run."""
    package = package_of(model_of())
    experiment = local_store.experiment(store, NAME)
    made = registry.publish(store, NAME, experiment, package, "# The card\n")
    for stage, content in figures().items():
        files.write_metrics(stage, content)
    for path in (files.RAW, governance.PARAMS):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, path)
    files.write_table(files.TRAIN, patients.head(30))
    files.write_table(files.TEST, patients.tail(10))
    files.ONNX.parent.mkdir()
    files.ONNX.write_bytes(package.model)
    return made


@pytest.fixture
def lock() -> Callable[[], None]:
    """Write the lock of this checkout, as if it were of the model here."""

    def write() -> None:
        text = (ROOT / governance.LOCK).read_text()
        content = yaml.safe_load(text)
        [old] = [
            out["md5"]
            for out in content["stages"]["train"]["outs"]
            if out["path"] == str(files.ONNX)
        ]
        governance.LOCK.write_text(text.replace(old, files.md5(files.ONNX)))

    return write


def logged(store: Any, version: Any, folder: Path) -> dict[str, bytes]:
    path = Path(store.download_artifacts(version.run_id, governance.ARTIFACTS, str(folder)))
    return {file.name: file.read_bytes() for file in path.iterdir()}


def log(store: Any, version: Any) -> None:
    documents = governance.of_stages() | {"register": figures()["register"]}
    governance.log(store, version, documents)


def test_the_documents_are_artifacts_of_the_version(
    store: Any, version: Any, lock: Any, tmp_path: Path
) -> None:
    lock()

    log(store, version)

    content = logged(store, version, tmp_path)
    assert content.keys() == {*DOCUMENTS, governance.LINEAGE}
    items = {item["id"]: item["answer"] for item in json.loads(content["hti_1.json"])["items"]}
    assert f"{figures()['evaluate']['roc_auc']:.3f}" in items["7.i"]
    assert items["1.ii"] == NOT_AVAILABLE
    assert content["hugging_face.md"].endswith(b"# The card\n")
    *_, last = map(json.loads, content[governance.LINEAGE].splitlines())
    assert last["outputs"][0]["facets"]["version"]["datasetVersion"] == str(version.version)


def test_the_documents_of_the_test_are_those_of_a_version(version: Any) -> None:
    known = governance.of_version(version)

    assert known.keys() == VERSION.keys()
    assert {*governance.of_stages(), "register", "version", "validation"} == FILES.keys()


@pytest.mark.parametrize("missing", [True, False])
def test_without_its_lock_a_version_has_the_other_documents(
    missing: bool, store: Any, version: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not missing:
        shutil.copy(ROOT / governance.LOCK, governance.LOCK)  # of another model

    log(store, version)

    assert logged(store, version, tmp_path).keys() == DOCUMENTS
    assert "no OpenLineage events" in capsys.readouterr().err


def test_a_server_that_is_down_does_not_keep_a_version_from_its_documents(
    store: Any,
    version: Any,
    lock: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lock()
    with answering(lambda *_: (400, b"")) as address:
        monkeypatch.setenv(lineage.URL, address)
        log(store, version)

    assert governance.LINEAGE in logged(store, version, tmp_path)
    assert address in capsys.readouterr().err


# The command


@pytest.fixture
def verdict(store: Any, version: Any) -> Any:
    """The version has its verdict."""
    content = json.dumps(figures()["register"])
    store.set_model_version_tag(NAME, version.version, VERDICT, content)
    return version


def written(name: str) -> Any:
    return json.loads((governance.OUT / name).read_bytes())


def test_the_command_writes_the_documents_of_the_registered_version(verdict: Any) -> None:
    governance.main()

    assert {path.name for path in governance.OUT.iterdir()} == DOCUMENTS
    assert written("tripod_ai.json")["version"] == f"{NAME} {verdict.version}"


@pytest.mark.parametrize(("number", "available"), [("1", True), ("2", False)])
@pytest.mark.usefixtures("verdict")
def test_an_external_validation_counts_for_its_own_version(number: str, available: bool) -> None:
    report = VALIDATION | {"model": NAME, "version": number}
    files.write_json(governance.VALIDATION, report)

    governance.main()

    [item] = [item for item in written("hti_1.json")["items"] if item["id"] == "7.iii"]
    assert item["available"] == available


@pytest.mark.usefixtures("version")
def test_a_model_without_a_verdict_has_no_documents() -> None:
    with pytest.raises(UserError, match="make register"):
        governance.main()

    assert not governance.OUT.exists()
