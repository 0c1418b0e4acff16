"""Drift with real processes: the service, simulated patients, the monitor and the report."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from heart.drift.baseline import MIN_CELL_COUNT
from tests.heart.drift.snapshots import tables
from tests.heart.registry.registry_fixture import ROOT
from tests.monitoring.stack import served, until
from tests.processes import free_port

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore:::mlflow")]

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def home(watched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pipeline's tables, and a registry whose champion has a drift baseline."""
    folder = tmp_path_factory.mktemp("home")
    shutil.copytree(watched, folder, dirs_exist_ok=True)
    tables(folder)
    return folder


@pytest.fixture(scope="module")
def settings(home: Path, environment: dict[str, str]) -> dict[str, str]:
    """The environment of processes in the folder."""
    others = {name: value for name, value in environment.items() if not name.startswith("HEART_")}
    return others | {
        "PYTHONPATH": str(ROOT),
        "HEART_TRACKING_URI": f"sqlite:///{home}/registry.db",
        "HEART_LOG_URL": f"sqlite:///{home}/log.db",
        "HEART_DRIFT_INTERVAL_SECONDS": "0.2",
    }


@pytest.fixture(scope="module")
def service(home: Path, settings: dict[str, str]) -> Iterator[httpx.Client]:
    with served(home / "registry" / "mlflow.db", home, settings) as (_, client):
        yield client


@pytest.fixture(scope="module")
def run(home: Path, settings: dict[str, str]) -> Run:
    """Run a module of the package `monitoring` in the folder."""

    def run_module(
        module: str, *arguments: str, **changes: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=home, env=settings | changes, check=False, capture_output=True, text=True,
            timeout=120,
        )  # fmt: skip

    return run_module


def simulate(run: Run, service: httpx.Client, *arguments: str) -> str:
    where = ("--url", str(service.base_url), "--rate", "0", "--seed", "1")
    done = run("monitoring.simulate", *where, *arguments)
    assert done.returncode == 0, done.stderr
    assert "patients/s" in done.stderr  # the progress bar
    return done.stdout


def drift(service: httpx.Client, rows: int) -> Any:
    """The response of GET /drift once this number of patients was checked."""
    until(lambda: service.get("/drift").json().get("window_rows") == rows)
    until(lambda: _settled(service))
    return service.get("/drift").json()


def _settled(service: httpx.Client) -> bool:
    before = _last_run(service)
    until(lambda: _last_run(service) != before)
    return True


def _last_run(service: httpx.Client) -> str:
    text = service.get("/metrics").text
    (time_,) = re.findall(r"^heart_drift_last_run_timestamp_seconds (\S+)", text, re.MULTILINE)
    return str(time_)


def drifted(answer: Any) -> set[str]:
    return {name for name, feature in answer["features"].items() if feature["drifted"]}


@pytest.fixture(scope="module")
def alarm(run: Run, service: httpx.Client) -> Any:
    """Normal patients, patients in wrong units, then those of another hospital: outputs and drift reports."""
    output = simulate(run, service, "--rows", "150", "--outcomes", "0.5")
    calm = drift(service, 100)
    rejected = simulate(run, service, "--rows", "20", "--shift", "wrong-units")
    simulate(run, service, "--rows", "60", "--shift", "other-hospital")
    return output, calm, rejected, drift(service, 100)


def test_normal_patients_raise_no_alarm_and_those_of_another_hospital_do(alarm: Any) -> None:
    _, calm, _, other = alarm

    assert not calm["drifted"]
    assert drifted(other) >= {"major_vessels", "thallium", "st_slope"}
    assert not drifted(other) & {"sex", "fasting_blood_sugar_over_120"}
    assert "major vessels missing in" in other["features"]["major_vessels"]["summary"]


def test_patients_in_wrong_units_are_rejected_and_counted(
    alarm: Any, service: httpx.Client
) -> None:
    assert alarm[2].startswith("0 patients answered, 20 rejected (422), 0 outcomes recorded")
    counted = r'heart_data_out_of_range_total\{feature="cholesterol"\} (\S+)'
    (count,) = re.findall(counted, service.get("/metrics").text)
    assert MIN_CELL_COUNT <= float(count) <= 20  # they are published in blocks


def test_outcomes_of_a_fraction_are_recorded(alarm: Any, service: httpx.Client) -> None:
    match = re.fullmatch(
        r"150 patients answered, 0 rejected \(422\), (\d+) outcomes recorded\. See \S+/drift\n",
        alarm[0],
    )

    assert match
    assert 50 < int(match[1]) < 100
    assert service.get("/model").json()["labeled"]["labels"] == int(match[1])


@pytest.mark.usefixtures("alarm")
def test_the_report_is_one_self_contained_file_and_a_run_in_mlflow(
    run: Run, home: Path, service: httpx.Client
) -> None:
    done = run("monitoring.report")
    assert done.returncode == 0, done.stderr
    text = (home / "reports" / "drift.html").read_text()

    assert "Drift in the last 100 patients of version 1" in text
    assert text.count("<section") == 1 + len(service.get("/drift").json()["features"])
    assert not re.search(r"https?:|//[a-z]|src=|href=|url\(|@import|<script|<link", text)
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{home}/registry.db")
    experiment = client.get_experiment_by_name("heart-disease-drift")
    (logged,) = client.search_runs([experiment.experiment_id])
    assert (logged.data.tags["model_version"], logged.data.tags["drifted"]) == ("1", "true")
    assert logged.data.metrics["ratio.major_vessels"] > 1
    assert logged.info.status == "FINISHED"
    (artifact,) = client.list_artifacts(logged.info.run_id)
    assert artifact.path == "drift.html"
    assert f"run {logged.info.run_id}" in done.stdout


# Bad input


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--shift", "younger"), "argument --shift: invalid choice: 'younger'"),
        (("--rows", "0"), "argument --rows: 0 "),
        (("--rows", "many"), "argument --rows: invalid int value: 'many'"),
        (("--rate", "-1"), "argument --rate: -1 "),
        (("--rate", "nan"), "argument --rate: nan "),
        (("--outcomes", "2"), "argument --outcomes: 2 is not a share from 0 to 1"),
        (("--url", "nonsense"), "argument --url: nonsense: "),
    ],
)
def test_wrong_arguments_are_explained(run: Run, arguments: tuple[str, ...], reason: str) -> None:
    done = run("monitoring.simulate", *arguments)

    assert done.returncode != 0
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unreachable_service_is_named(run: Run) -> None:
    url = f"http://127.0.0.1:{free_port()}"

    done = run("monitoring.simulate", "--url", url, "--rows", "3")

    assert done.returncode == 1
    assert f"error: no service at {url}" in done.stderr


def test_invalid_settings_end_the_report(run: Run) -> None:
    done = run("monitoring.report", HEART_DRIFT_WINDOW="5")

    assert done.returncode == 1
    assert done.stderr.startswith("error: HEART_DRIFT_WINDOW: ")
    assert done.stderr.count("\n") == 1


def test_without_a_registry_the_report_is_an_error_and_writes_nothing(
    run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "drift.html"

    done = run(
        "monitoring.report", str(path),
        HEART_TRACKING_URI=f"sqlite:///{tmp_path}/none.db", HEART_CACHE_DIR=str(tmp_path / "cache"),
    )  # fmt: skip

    assert done.returncode == 1
    assert f"{tmp_path}/none.db" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
