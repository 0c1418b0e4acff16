"""`python -m examples.demo`: from an empty directory to a better champion, and back.

Pipeline, service, patients like those of the training, patients of another hospital with outcomes,
the alarm, the webhook as Grafana sends it, a retraining, the gate, the new champion under traffic, its
worth on fresh patients, a rollback. Ends with exit code 1 and the reason if any of this fails.
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

from examples.demo.clients import Patients, Stream, ask, ill, send_alert
from examples.demo.project import DemoFailed, copy, environment, free_port, run, serving, wait
from heart.ml.comparison import paired
from heart.ml.onnx_export import predict
from heart.registry import publishing as registry
from heart.registry.aliases import PASSED
from heart.schema import NAMES, encode
from monitoring.simulated_patients import SHIFTS, SimulatedPatients, draw, load
from serve.api.models import Patient
from stages import params

QUIET, OTHERS, FRESH = 200, 80, 500  # patients
RETRAINING_SECONDS = 1200


@dataclass
class Demo:
    """One run in a folder, told as it goes on."""

    folder: Path
    patients: Path  # the folder whose tables the patients are drawn from
    start: float = field(default_factory=time.monotonic)
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(1))

    def translate(self, text: str) -> None:
        """One line, with the time since the start."""
        minutes, seconds = divmod(int(time.monotonic() - self.start), 60)
        tqdm.write(f"{minutes:2}:{seconds:02}  {text}")

    def stages(self, line: str) -> None:
        """Tell of a stage that starts."""
        if line.startswith("Running stage"):
            self.translate(f"  {line.split(chr(39))[1]}")

    def drawn(self, shift: str, count: int, half: int) -> Patients:
        """Patients of one half of the table: nobody is in both."""
        people = load(self.patients)
        part = SimulatedPatients(people.rows[half::2], people.outcomes[half::2])
        return list(draw(SHIFTS[shift](part, self.random), count, self.random))

    def send(self, client: httpx.Client, patients: Patients, tell: bool = False) -> list[float]:
        """The risks that the service gives, with a progress bar."""
        return list(tqdm(ask(client, patients, tell), total=len(patients), unit=" patients"))


def expect(holds: object, otherwise: str) -> None:
    """Raises DemoFailed with what is so otherwise."""
    if not holds:
        raise DemoFailed(otherwise)


def quiet(demo: Demo, client: httpx.Client) -> None:
    demo.translate(f"{QUIET} patients like those of the training")
    demo.send(client, demo.drawn("none", QUIET, 0))
    report = looked_at(client, QUIET)
    largest = max(report["features"].values(), key=lambda feature: float(feature["ratio"]))
    expect(not report["drifted"], f"a false alarm: {largest['summary']}")
    demo.translate(f"  no alarm: the largest evidence is {largest['ratio']:.2f} of its limit")


def other_hospital(demo: Demo, client: httpx.Client) -> list[str]:
    """The features of the alarm."""
    demo.translate(f"{OTHERS} patients of another hospital, and what they turned out to have")
    demo.send(client, demo.drawn("other-hospital", OTHERS, 0), tell=True)
    report = looked_at(client, QUIET + OTHERS)
    drifted = {name: f for name, f in report["features"].items() if f["drifted"]}
    expect(drifted, "no alarm, although everything has changed")
    demo.translate(f"  ALARM: {', '.join(drifted)}")
    worst = max(drifted.values(), key=lambda feature: float(feature["ratio"]))
    demo.translate(f"  {worst['summary']}")
    return list(drifted)


def looked_at(client: httpx.Client, rows: int) -> Any:
    """What GET /drift says once so many patients were looked at."""
    wait(lambda: client.get("/drift").json().get("window_rows") == rows, f"{rows} are looked at")
    return client.get("/drift").json()


def retrained(
    demo: Demo, receiver: httpx.Client, token: str, secret: str, features: list[str]
) -> None:
    demo.translate("the webhook, as Grafana sends it")
    taken = send_alert(receiver, token, secret, "1", features)
    expect(taken.status_code == httpx.codes.ACCEPTED, f"the receiver answers {taken.text}")
    demo.translate("retraining:")
    last, shown = _run(receiver, token), 0
    end = time.monotonic() + RETRAINING_SECONDS
    while last["result"] is None:
        expect(time.monotonic() < end, f"no end after {RETRAINING_SECONDS} s: {last['log']}")
        time.sleep(0.5)
        lines = Path(last["log"]).read_text().splitlines()
        for line in lines[shown:]:
            demo.stages(line)
        shown, last = len(lines), _run(receiver, token)
    text = Path(last["log"]).read_text()
    expect("Retraining of" in text, f"the retraining failed: {text[-2000:]}")
    for line in text[text.index("Retraining of") :].splitlines():
        demo.translate(f"  {line}")
    expect(text.endswith(f": {PASSED}\n"), "the gate refused the challenger")


def _run(receiver: httpx.Client, token: str) -> Any:
    answer = receiver.get("/status", headers={"Authorization": f"Bearer {token}"})
    return answer.raise_for_status().json()["runs"][0]


def answering(client: httpx.Client) -> str:
    """The version that answers."""
    return str(client.get("/model").json()["version"])


def fresh(demo: Demo, client: httpx.Client) -> None:
    demo.translate(f"{FRESH} fresh patients of that hospital, whom no model has learnt from")
    patients = demo.drawn("other-hospital", FRESH, 1)
    new = np.array(demo.send(client, patients))

    measurements = [Patient(**patient).model_dump() for patient, _ in patients]
    rows = encode({name: [one[name] for one in measurements] for name in NAMES})
    options = params.Register.load()
    before = registry.connect().get_model_version_by_alias(options.model_name, "previous")
    scores = paired(np.array(ill(patients)), new, predict(registry.load(before), rows), options)
    for name, f in scores.items():
        demo.translate(
            f"  {name:<8} champion {f['challenger']:.3f}, before {f['champion']:.3f}: "
            f"{f['difference']:+.3f} "
            f"({options.confidence:.0%} paired interval {f['low']:+.3f} to {f['high']:+.3f})"
        )
    high = scores["brier"]["high"]
    expect(high is not None and high < 0, "the new champion is no better on fresh patients")


def rolled_back(demo: Demo, client: httpx.Client, variables: dict[str, str]) -> None:
    demo.translate("rollback")
    command = [sys.executable, "-m", "heart.registry.promote", "--rollback"]
    run(command, demo.folder, variables, lambda line: demo.translate(f"  {line.strip()}"))
    client.post("/admin/reload").raise_for_status()
    expect(answering(client) == "1", "version 1 does not answer after the rollback")
    demo.translate("  version 1 answers again")


def story(demo: Demo, changes: dict[str, str]) -> None:
    """All of it. Raises DemoFailed."""
    demo.translate(f"an empty directory: {demo.folder}")
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
    demo.translate("pipeline:")
    run([sys.executable, "-m", "dvc", "repro"], demo.folder, variables, demo.stages)
    run([sys.executable, "-m", "heart.registry.summary"], demo.folder, variables, _figures(demo))
    verdict = json.loads((demo.folder / "metrics" / "register.json").read_text())
    expect(verdict["verdict"] == PASSED, f"the gate refused the first model: {verdict['reasons']}")
    url, retrainer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{hooks}"
    with (
        serving("serve", demo.folder, variables, url, "/health/ready") as client,
        serving(
            "monitoring.retraining.webhook", demo.folder, variables, retrainer, "/health/live"
        ) as hook,
    ):
        demo.translate(f"service on {url}, version {answering(client)}; receiver on {retrainer}")
        quiet(demo, client)
        features = other_hospital(demo, client)
        with Stream(url, demo.drawn("other-hospital", FRESH, 0)) as stream:
            retrained(demo, hook, token, secret, features)
            wait(lambda: answering(client) == "2", "version 2 answers")
            wait(lambda: stream.versions[-1:] == ["2"], "a patient is answered by version 2")
        expect(not stream.failures, f"requests failed: {stream.failures[:3]}")
        expect(stream.versions == ["1", "2"], f"versions answered in the order {stream.versions}")
        demo.translate(f"version 2 answers; of {stream.answered} requests meanwhile none failed")
        with inside(demo.folder):
            fresh(demo, client)
        rolled_back(demo, client, variables)
    demo.translate("done")


def _figures(demo: Demo) -> Any:
    return lambda line: demo.translate(f"  {line.strip()}") if "ROC AUC" in line else None


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """The folder as the current one: the registry and the parameters are those of the demo."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _change(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not SECTION.NAME=VALUE")
    return name, value


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the directory behind")
    parser.add_argument("--patients", type=Path, help="folder with other tables of patients")
    parser.add_argument(
        "-S", "--set-param", action="append", default=[], metavar="SECTION.NAME=VALUE", type=_change,
        help="a parameter of the pipeline, as for dvc exp run",
    )  # fmt: skip
    return parser.parse_args()


def main() -> None:
    options = arguments()
    folder = Path(tempfile.mkdtemp(prefix="heart-demo-"))
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    try:
        story(Demo(folder, options.patients or folder), dict(options.set_param))
    except DemoFailed as error:
        sys.exit(f"error: {error}\nWhat there is lies in {folder}")
    if not options.keep:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
