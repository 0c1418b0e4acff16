"""Parts of the demo: parameters, the copy, the record, the alert, and child processes."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from examples.demo import processes, project
from examples.demo.clients import notification
from examples.demo.processes import DemoFailed, child, environment
from examples.demo.project import change
from examples.demo.record import Record
from monitoring.retraining.webhook.notification import Notification
from tests.conftest import ROOT
from tests.heart.predictions.logs import until
from tests.processes import alive, children


def test_a_parameter_at_any_depth_is_changed() -> None:
    params = {"train": {"seed": 0}, "register": {"floors": {"roc_auc": 0.75}}}

    change(params, "register.floors.roc_auc", "0.9")
    change(params, "train.seed", "1")

    assert params == {"train": {"seed": 1}, "register": {"floors": {"roc_auc": 0.9}}}


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("trian.seed", "1", "-S trian.seed: trian is unknown, known are train"),
        ("train.sed", "1", "-S train.sed: sed is unknown, known are seed"),
        ("train.seed.x", "1", "-S train.seed.x: x is unknown, known are none"),
        ("train.seed", "[1", "'[1' is not valid YAML"),
    ],
)
def test_an_unknown_parameter_is_rejected(name: str, value: str, reason: str) -> None:
    with pytest.raises(DemoFailed, match=re.escape(reason)):
        change({"train": {"seed": 0}}, name, value)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small checkout with a remote, outcomes of its service, a cached output, and one that is in no lock."""
    files = {
        ".dvc/config": "[core]\n    remote = store\n['remote \"store\"']\n    url = /store\n",
        ".gitignore": "/.dvc/cache\n/ignored\n",
        "params.yaml": "train: {seed: 0}\n",
        "dvc.lock": "stages: {train: {outs: [{path: a, md5: aabb}, {path: b, md5: ccdd}]}}\n",
        ".dvc/cache/files/md5/aa/bb": "result",
        ".dvc/cache/files/md5/ee/ff": "other",
        "data/production/labelled.csv.dvc": "outs: []\n",
        "ignored": "",
    }
    root = tmp_path / "checkout"
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    monkeypatch.setattr(project, "ROOT", root)
    return root


def test_the_copy_has_results_of_the_pipeline_but_neither_remote_nor_outcomes(
    checkout: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    before = sorted(checkout.rglob("*"))

    project.copy(copy, {"train.seed": "7"})

    names = {str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file()}
    assert {name for name in names if not name.startswith(".git/")} == {
        ".dvc/config", ".gitignore", "params.yaml", "dvc.lock", ".dvc/cache/files/md5/aa/bb",
    }  # fmt: skip
    assert "remote" not in (copy / ".dvc/config").read_text()
    assert yaml.safe_load((copy / "params.yaml").read_text()) == {"train": {"seed": 7}}
    assert sorted(checkout.rglob("*")) == before
    assert yaml.safe_load((checkout / "params.yaml").read_text()) == {"train": {"seed": 0}}


def test_a_folder_without_git_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))

    with pytest.raises(DemoFailed, match=re.escape(str(tmp_path))):
        project.copy(tmp_path / "copy", {})


@pytest.mark.parametrize("error", [DemoFailed("the reason"), FileNotFoundError("the reason")])
def test_an_error_names_the_number_and_the_title_of_its_step(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    record = Record()
    with record.step("First"):
        record.say("a line")

    with pytest.raises(DemoFailed, match=re.escape("step 2 (Second): the reason")), record.step("Second"):  # fmt: skip
        raise error

    assert record.steps[0].lines == ["a line"]
    assert "a line" in capsys.readouterr().out


def test_the_alert_is_one_on_drift_for_the_receiver() -> None:
    text = yaml.safe_dump(notification("3", {"age": 1.4}), default_flow_style=True)

    alert = Notification.model_validate(yaml.safe_load(text))

    assert alert.drift
    assert "age" in alert.trigger


def test_programs_of_the_demo_get_no_settings_of_the_caller(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("HEART_LOG_URL", "MLFLOW_TRACKING_URI", "DVC_EXP_NAME", "GIT_DIR", "PYTHONPATH"):
        monkeypatch.setenv(name, "of the caller")

    assert "of the caller" not in environment(tmp_path).values()


# A command whose child ignores SIGTERM; both would run for an hour.
STUBBORN = (
    "import subprocess, sys, time; "
    "subprocess.Popen([sys.executable, '-c', 'import signal, time; "
    "signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(3600)']); time.sleep(3600)"
)
OWNER = f"""
import subprocess, sys
from pathlib import Path
from examples.demo.processes import child, environment
with child([sys.executable, "-c", {STUBBORN!r}], Path.cwd(), environment(Path.cwd()), None) as process:
    process.wait()
"""


@pytest.mark.integration
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_processes_end_with_a_killed_owner(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"1\n"
        started = children(owner.pid)
        os.kill(owner.pid, number)

    assert len(started) == 3
    until(lambda: not any(map(alive, started)), 60)


@pytest.mark.integration
def test_a_command_that_fails_names_its_log(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; print('why'); sys.exit(3)"]
    variables = {**environment(tmp_path), "PYTHONPATH": str(ROOT)}

    with pytest.raises(DemoFailed, match=r"ended with 3, expected 0: why; look at .*name\.log"):
        processes.run("name", command, tmp_path, variables)

    assert (tmp_path / "logs" / "name.log").read_text() == "why\n"


@pytest.mark.integration
def test_a_command_ends_with_its_block(tmp_path: Path) -> None:
    variables = {**environment(tmp_path), "PYTHONPATH": str(ROOT)}

    with child([sys.executable, "-c", STUBBORN], tmp_path, variables, subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        started = [process.pid, *children(process.pid)]

    assert len(started) == 3
    until(lambda: not any(map(alive, started)), 60)
