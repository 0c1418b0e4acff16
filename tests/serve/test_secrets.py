"""What the service must not do with patients, and what its metrics must be."""

import json
import re
import shutil
import socket
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from heart.drift.baseline import MIN_CELL_COUNT
from heart.registry.errors import Kind
from heart.schema import NAMES
from serve.api.models import EXAMPLE
from tests.conftest import Require
from tests.serve.server_process import Server, served

pytestmark = pytest.mark.integration

# Values that nothing else has, of a patient that is valid and of several that are not.
CANARY = {**EXAMPLE, "cholesterol": 647, "resting_bp": 251, "st_depression": 7.123456}
WRONG = {**CANARY, "sex": "canary_sex", "max_heart_rate": 99123, "canary_field": "canary_text"}
SHOWN = re.compile(r"(?<![\w.])(647|251|7\.123456|99123)(?![\w.])|canary|647\.0|251\.0")

# Everything that is printed below a warning, unpickled or imported, told in files.
WATCHED = """
import logging, os, runpy, signal, sys
logging.basicConfig(level=logging.DEBUG, format="%(levelname)s %(name)s: %(message)s")
def hook(event, arguments):
    if event == "pickle.find_class":
        open("unpickled", "a").write(f"{arguments}\\n")
def ended(*_):
    open("modules", "w").write("\\n".join(sys.modules))
    os._exit(0)
sys.addaudithook(hook)
signal.signal(signal.SIGTERM, ended)
runpy.run_module("serve", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def server(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The service, watched, after a day's work: answers, refusals, outcomes, its page."""
    registry = published / "registry" / "mlflow.db"
    command = (sys.executable, "-c", WATCHED)
    with served(tmp_path_factory.mktemp("server"), registry, command) as server:
        yield server.with_page()


@pytest.fixture(scope="module")
def ids(server: Server) -> list[str]:
    """The predictions of the canary, by the API and the page."""
    client = server.client
    single = client.post("/predict?explain=true", json=CANARY).json()["prediction_id"]
    batch = client.post("/predict/batch", json={"patients": [CANARY, CANARY]}).json()
    answers = [single, *(answer["prediction_id"] for answer in batch["predictions"])]
    for body in (WRONG, {**CANARY, "age": None}, "canary_text", [CANARY]):
        assert client.post("/predict", json=body).status_code == 422
    assert client.post("/predict/batch", json={"patients": [CANARY, WRONG]}).status_code == 422
    json = {"content-type": "application/json"}
    assert client.post("/predict", content=b'{"canary": 647', headers=json).status_code == 422
    other = {"content-type": "text/plain"}
    assert client.post("/predict", content=b'{"canary": 647', headers=other).status_code == 415
    assert client.get("/canary/647?canary=7.123456").status_code == 404
    answers.append(by_the_page(server))
    wrong_by_the_page(server)
    more = {"patients": [CANARY] * MIN_CELL_COUNT}  # or nothing of them would be in the metrics
    client.post("/predict/batch", json=more).raise_for_status()
    for outcome in ("presence", "absence"):
        given = {"prediction_id": single, "outcome": outcome, "source": "registry"}
        client.post("/feedback", json=given)
    assert client.delete(f"/predictions/{answers[1]}").status_code == 204
    return answers


def by_the_page(server: Server) -> str:
    """The prediction that the form gives."""
    config = server.client.get("/config").json()
    fields = {part["id"]: part["props"].get("elem_id") for part in config["components"]}
    for event in config["dependencies"]:
        inputs = [fields[part] for part in event["inputs"]]
        data = [CANARY.get(name, "en") for name in inputs]
        body = {"data": data, "fn_index": event["id"], "session_hash": "s"}
        answer = server.client.post("/gradio_api/run/predict", json=body)
        if set(NAMES) <= set(inputs):
            assert answer.status_code == 200
            return str(json.loads(answer.json()["data"][1])["prediction_id"])
    raise AssertionError("the page has no form")


def wrong_by_the_page(server: Server) -> None:
    """Calls that do not fit any event, a table that does not fit the schema, and forms that are none."""
    row = [CANARY.get(name) for name in NAMES]
    table = b64encode(b"canary,age\n7.123456,647\n").decode()
    for number in range(-1, 20):
        for data in ([], row, ["canary", *row], [table, "canary"], [CANARY, WRONG], {"a": CANARY}):
            body = {"data": data, "fn_index": number, "event_data": CANARY}
            server.client.post("/gradio_api/run/predict", json=body)
    for path in ("/gradio_api/run/predict", "/gradio_api/queue/join", "/login", "/canary"):
        for kind in ("application/json", "multipart/form-data; boundary=canary", "canary"):
            for content in (b'{"canary": 647', b"--canary\r\nContent-Canary: 647", b"canary=647"):
                server.client.post(path, content=content, headers={"content-type": kind})
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"CANARY /canary?647 HTTP/9.9\r\ncanary 647\r\n\r\n")
        assert connection.recv(12).startswith(b"HTTP/1.1 400")


def test_no_value_of_a_patient_is_printed_even_when_debugging(
    server: Server, ids: list[str]
) -> None:
    printed = server.output.read_text()

    assert "DEBUG" in printed
    assert not SHOWN.search(printed), SHOWN.search(printed)
    assert not [key for key in ids if key in printed]


def test_no_value_of_a_patient_is_a_metric(server: Server, ids: list[str]) -> None:
    metrics = server.client.get("/metrics").text
    # How many requests there were until the page was built may be any number.
    metrics = re.sub(r"^(heart_request\w+(?:\{.*\})?) .*", r"\1", metrics, flags=re.MULTILINE)

    assert 'heart_predictions_total{model_version="1"' in metrics
    assert not SHOWN.search(metrics), SHOWN.search(metrics)
    assert not [key for key in ids if key in metrics]


def test_the_metrics_are_as_prometheus_wants_them(server: Server, require: Require) -> None:
    promtool = require(shutil.which("promtool"), "prometheus")
    metrics = server.client.get("/metrics").text

    done = subprocess.run(
        [promtool, "check", "metrics"], input=metrics, text=True, check=False, capture_output=True
    )

    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    names = re.findall(r"^# TYPE (\S+)", metrics, re.MULTILINE)
    assert len(names) > 15
    assert not [name for name in names if not name.startswith(("heart_", "process_"))]


def test_every_known_series_starts_at_zero(published: Path, tmp_path: Path) -> None:
    with served(tmp_path, published / "registry" / "mlflow.db") as server:
        fresh = server.client.get("/metrics").text

    known = [
        *(f'heart_missing_measurements_total{{feature="{name}"}}' for name in NAMES),
        *(f'heart_out_of_training_range_total{{feature="{name}"}}' for name in NAMES),
        *(f'heart_champion_rejections_total{{kind="{kind}"}}' for kind in get_args(Kind)),
        *(
            f'heart_feedback_total{{outcome="{outcome}",source="{source}"}}'
            for outcome in ("absence", "presence")
            for source in ("angiography", "clinician", "registry")
        ),
        *(
            f'heart_predictions_total{{model_version="1",prediction="{prediction}"}}'
            for prediction in ("absence", "presence")
        ),
        "heart_requests_rejected_total",
        "heart_erasures_total",
        "heart_log_failures_total",
        "heart_registry_failures_total",
    ]
    lines = fresh.splitlines()
    assert [sample for sample in known if f"{sample} 0.0" not in lines] == []


def test_nothing_is_unpickled_and_no_training_library_imported(
    server: Server, ids: list[str]
) -> None:
    folder = server.output.parent

    server.process.terminate()
    server.process.wait(60)

    assert ids
    assert not (folder / "unpickled").exists(), (folder / "unpickled").read_text()
    modules = set((folder / "modules").read_text().split())
    assert {"serve.app", "gradio", "mlflow"} <= modules
    assert not modules & {"sklearn", "torch", "joblib", "onnx", "skl2onnx", "stages", "dvc"}
