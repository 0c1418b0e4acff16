"""`python -m examples.demo`: from an empty directory to a better champion, and a rollback.

Pipeline, service, patients like those of the training, patients of another hospital with outcomes, the
alarm, the webhook in Grafana's format, a retraining, the promotion gate, the new champion under traffic, its
scores on new patients, a rollback. Ends with exit code 1 and the reason if any step fails.
"""

import argparse
import json
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from tqdm import tqdm

from examples.demo.clients import Patients, Stream, outcomes_of, predict_all, send_alert
from examples.demo.project import DemoFailed, copy, environment, free_port, run, serving, wait
from heart.errors import run_main
from heart.ml.comparison import paired
from heart.ml.onnx_export import predict
from heart.registry import publishing as registry
from heart.registry.aliases import PASSED
from heart.schema import NAMES, encode
from monitoring.simulated_patients import SHIFTS, SimulatedPatients, draw, load
from serve.api.models import Patient
from stages import params

NORMAL, OTHER, NEW = 200, 80, 500  # patients
RETRAINING_SECONDS = 1200


@dataclass
class Demo:
    """One run in a folder, with its progress printed."""

    folder: Path
    patients: Path  # the folder whose tables the patients are drawn from
    start: float = field(default_factory=time.monotonic)
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(1))

    def log(self, text: str) -> None:
        """Print a line with the time since the start."""
        minutes, seconds = divmod(int(time.monotonic() - self.start), 60)
        tqdm.write(f"{minutes:2}:{seconds:02}  {text}")

    def log_stage(self, line: str) -> None:
        """Print the name of a stage that starts."""
        if line.startswith("Running stage"):
            self.log(f"  {line.split(chr(39))[1]}")

    def draw(self, shift: str, count: int, half: int) -> Patients:
        """Patients from one half of the table; the halves have no patient in common."""
        table = load(self.patients)
        part = SimulatedPatients(table.rows[half::2], table.outcomes[half::2])
        return list(draw(SHIFTS[shift](part, self.random), count, self.random))

    def send(self, client: httpx.Client, patients: Patients, record: bool = False) -> list[float]:
        """The risks from the service, with a progress bar."""
        return list(
            tqdm(predict_all(client, patients, record), total=len(patients), unit=" patients")
        )


def expect(condition: object, failure: str) -> None:
    """Raises DemoFailed unless the condition is true."""
    if not condition:
        raise DemoFailed(failure)


def first_model(demo: Demo, variables: dict[str, str]) -> None:
    demo.log("pipeline:")
    run([sys.executable, "-m", "dvc", "repro"], demo.folder, variables, demo.log_stage)
    run([sys.executable, "-m", "heart.registry.summary"], demo.folder, variables, _figures(demo))
    verdict = json.loads((demo.folder / "metrics" / "register.json").read_text())
    failure = f"the promotion gate rejected the first model: {verdict['reasons']}"
    expect(verdict["verdict"] == PASSED, failure)


def normal_patients(demo: Demo, client: httpx.Client) -> None:
    demo.log(f"{NORMAL} patients like those of the training")
    demo.send(client, demo.draw("none", NORMAL, 0))
    report = drift_report(client, NORMAL)
    largest = max(report["features"].values(), key=lambda feature: float(feature["ratio"]))
    expect(not report["drifted"], f"a false alarm: {largest['summary']}")
    demo.log(f"  no alarm: the largest drift score is {largest['ratio']:.2f} of its limit")


def other_hospital(demo: Demo, client: httpx.Client) -> list[str]:
    """The features of the alarm."""
    demo.log(f"{OTHER} patients of another hospital, with their outcomes")
    demo.send(client, demo.draw("other-hospital", OTHER, 0), record=True)
    report = drift_report(client, NORMAL + OTHER)
    drifted = {name: f for name, f in report["features"].items() if f["drifted"]}
    expect(drifted, "no alarm after patients of another hospital")
    demo.log(f"  ALARM: {', '.join(drifted)}")
    worst = max(drifted.values(), key=lambda feature: float(feature["ratio"]))
    demo.log(f"  {worst['summary']}")
    return list(drifted)


def drift_report(client: httpx.Client, rows: int) -> Any:
    """The response of GET /drift once this number of patients was checked."""
    wait(
        lambda: client.get("/drift").json().get("window_rows") == rows,
        f"{rows} patients are checked",
    )
    return client.get("/drift").json()


def retrain(
    demo: Demo, receiver: httpx.Client, token: str, secret: str, features: list[str]
) -> None:
    demo.log("the webhook in Grafana's format")
    response = send_alert(receiver, token, secret, "1", features)
    expect(response.status_code == httpx.codes.ACCEPTED, f"the receiver answers {response.text}")
    demo.log("retraining:")
    last, shown = _run(receiver, token), 0
    end = time.monotonic() + RETRAINING_SECONDS
    while last["result"] is None:
        expect(time.monotonic() < end, f"no end after {RETRAINING_SECONDS} s: {last['log']}")
        time.sleep(0.5)
        lines = Path(last["log"]).read_text().splitlines()
        for line in lines[shown:]:
            demo.log_stage(line)
        shown, last = len(lines), _run(receiver, token)
    text = Path(last["log"]).read_text()
    expect("Retraining of" in text, f"the retraining failed: {text[-2000:]}")
    for line in text[text.index("Retraining of") :].splitlines():
        demo.log(f"  {line}")
    expect(text.endswith(f": {PASSED}\n"), "the promotion gate rejected the challenger")


def _run(receiver: httpx.Client, token: str) -> Any:
    response = receiver.get("/status", headers={"Authorization": f"Bearer {token}"})
    return response.raise_for_status().json()["runs"][0]


def served_version(client: httpx.Client) -> str:
    """The version that the service uses."""
    return str(client.get("/model").json()["version"])


def new_patients(demo: Demo, client: httpx.Client) -> None:
    demo.log(f"{NEW} new patients of that hospital, which no model was trained on")
    patients = demo.draw("other-hospital", NEW, 1)
    risks = np.array(demo.send(client, patients))

    measurements = [Patient(**patient).model_dump() for patient, _ in patients]
    rows = encode({name: [row[name] for row in measurements] for name in NAMES})
    options = params.Register.load()
    before = registry.connect().get_model_version_by_alias(options.model_name, "previous")
    scores = paired(
        np.array(outcomes_of(patients)), risks, predict(registry.load(before), rows), options
    )
    for name, f in scores.items():
        demo.log(
            f"  {name:<8} champion {f['challenger']:.3f}, before {f['champion']:.3f}: "
            f"{f['difference']:+.3f} "
            f"({options.confidence:.0%} paired interval {f['low']:+.3f} to {f['high']:+.3f})"
        )
    high = scores["brier"]["high"]
    expect(high is not None and high < 0, "the new champion is not better on new patients")


def roll_back(demo: Demo, client: httpx.Client, variables: dict[str, str]) -> None:
    demo.log("rollback")
    command = [sys.executable, "-m", "heart.registry.promote", "--rollback"]
    run(command, demo.folder, variables, lambda line: demo.log(f"  {line.strip()}"))
    client.post("/admin/reload").raise_for_status()
    expect(served_version(client) == "1", "version 1 is not in use after the rollback")
    demo.log("  version 1 is in use again")


def run_demo(demo: Demo, changes: dict[str, str]) -> None:
    """All steps. Raises DemoFailed."""
    demo.log(f"an empty directory: {demo.folder}")
    copy(demo.folder, changes)
    port, hooks, token, secret = free_port(), free_port(), secrets.token_hex(), secrets.token_hex()
    variables = environment(
        demo.folder,
        HEART_PORT=str(port),
        HEART_POLL_SECONDS="1",
        HEART_DRIFT_INTERVAL_SECONDS="0.5",
        HEART_RETRAIN_PORT=str(hooks),
        HEART_RETRAIN_TOKEN=token,
        HEART_RETRAIN_SECRET=secret,
    )
    first_model(demo, variables)
    url, retrainer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{hooks}"
    with (
        serving("serve", demo.folder, variables, url, "/health/ready") as client,
        serving(
            "monitoring.retraining.webhook", demo.folder, variables, retrainer, "/health/live"
        ) as hook,
    ):
        demo.log(f"service on {url}, version {served_version(client)}; receiver on {retrainer}")
        normal_patients(demo, client)
        features = other_hospital(demo, client)
        with Stream(url, demo.draw("other-hospital", NEW, 0)) as stream:
            retrain(demo, hook, token, secret, features)
            wait(lambda: served_version(client) == "2", "version 2 is in use")
            wait(lambda: stream.versions[-1:] == ["2"], "version 2 answers a patient")
        expect(not stream.failures, f"requests failed: {stream.failures[:3]}")
        expect(
            stream.versions == ["1", "2"],
            f"the order of versions was {stream.versions}, expected 1, 2",
        )
        demo.log(f"version 2 is in use; none of {stream.answered} requests failed")
        with inside(demo.folder):
            new_patients(demo, client)
        roll_back(demo, client, variables)
    demo.log("done")


def _figures(demo: Demo) -> Any:
    return lambda line: demo.log(f"  {line.strip()}") if "ROC AUC" in line else None


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Make the folder the current one, for its registry and parameters."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _change(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form SECTION.NAME=VALUE")
    return name, value


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="do not delete the directory")
    parser.add_argument("--patients", type=Path, help="folder with other tables of patients")
    parser.add_argument(
        "-S", "--set-param", action="append", default=[], metavar="SECTION.NAME=VALUE", type=_change,
        help="a parameter of the pipeline, as in dvc exp run",
    )  # fmt: skip
    return parser.parse_args()


def main() -> None:
    options = arguments()
    folder = Path(tempfile.mkdtemp(prefix="heart-demo-"))
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    try:
        run_demo(Demo(folder, options.patients or folder), dict(options.set_param))
    except DemoFailed as error:
        sys.exit(f"error: {error}\nThe folder was kept: {folder}")
    if not options.keep:
        shutil.rmtree(folder)


if __name__ == "__main__":
    run_main(main)
