"""Decision, report, lock and history of a retraining; tests/contract/test_retraining.py runs all of it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from heart.errors import UserError, run_main
from monitoring.retraining import lock as run_lock
from monitoring.retraining import run as retraining
from monitoring.retraining import supervised
from monitoring.retraining.collect import Change
from monitoring.retraining.history import UNTIL, RetrainingHistory
from monitoring.retraining.run import (
    NewOutcomes,
    Retrain,
    metrics,
    new_outcomes,
    report,
    run_pipeline,
)
from tests.heart.predictions.logs import until
from tests.processes import ROOT, alive, children

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ENOUGH = Retrain(outcomes=5, per_class=2)


def labelled(*outcomes: str) -> pd.DataFrame:
    """Outcomes recorded every hour from noon."""
    times = [NOON + timedelta(hours=n) for n in range(len(outcomes))]
    return pd.DataFrame({"heart_disease": outcomes, "recorded_at": times, "outcome_sender": "ward"})


# Enough outcomes


def test_outcomes_since_the_last_retraining_are_new() -> None:
    table = labelled("presence", "absence", "absence", "presence", "absence")

    assert new_outcomes(table, None).counts == {"absence": 3, "presence": 2}
    assert new_outcomes(table, None).senders == {"ward": 5}
    assert new_outcomes(table, NOON + timedelta(hours=2)).counts == {"absence": 1, "presence": 1}
    assert new_outcomes(table.head(0), None).counts == {"absence": 0, "presence": 0}


@pytest.mark.parametrize(
    ("absence", "presence", "missing"),
    [
        (3, 2, []),
        (2, 2, ["1 more outcomes"]),
        (9, 1, ["1 more with presence"]),
        (0, 0, ["5 more outcomes", "2 more with absence", "2 more with presence"]),
    ],
)
def test_the_missing_outcomes_are_listed(absence: int, presence: int, missing: list[str]) -> None:
    assert NewOutcomes({"absence": absence, "presence": presence}).missing(ENOUGH) == missing


# The report


SCORES = {"champion": 0.9, "challenger": 0.93, "difference": 0.03, "low": 0.01, "high": 0.05}
BRIER = {"champion": 0.11, "challenger": 0.12, "difference": 0.01, "low": -0.01, "high": 0.03}
VERDICT = {
    "model": "heart-disease",
    "version": 4,
    "champion": 2,
    "verdict": "rejected",
    "reasons": ["recall at least 0.6: it is 0.5"],
    "against_champion": {
        "all": {"rows": 90, "roc_auc": SCORES, "brier": BRIER},
        "sex_female": {
            "rows": 9,
            "roc_auc": dict.fromkeys(SCORES, None),
            "brier": dict.fromkeys(SCORES, None),
        },
    },
}
GAIN = Change(120, 60, 1), NewOutcomes({"absence": 40, "presence": 20})


def test_the_report_has_rows_verdict_reasons_and_both_models_by_group() -> None:
    text = report(VERDICT, *GAIN, "drift in age")

    assert "triggered by drift in age" in text
    assert "120 labelled rows, 60 gained, 1 lost; 60 outcomes since" in text
    assert "because    recall at least 0.6: it is 0.5" in text
    assert "champion   version 2" in text
    assert "0.900       0.930  +0.030 (+0.010 to +0.050)" in text
    assert "0.110       0.120  +0.010 (-0.010 to +0.030)" in text
    assert text.splitlines()[-2].split() == ["sex_female", "9", "-"]
    assert text.splitlines()[-1] == "challenger version 4: rejected"


def test_the_report_without_a_champion() -> None:
    text = report(VERDICT | {"champion": None, "against_champion": {}}, *GAIN, "hand")

    assert "none to compare with" in text


def test_figures_that_cannot_be_computed_are_no_metrics() -> None:
    assert metrics(VERDICT)["all.roc_auc.difference"] == 0.03
    assert not [name for name in metrics(VERDICT) if name.startswith("sex")]


# Commands


def test_the_commands_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/register.json").write_text(json.dumps(VERDICT))
    commands: list[str] = []

    def run(*command: str) -> int:
        commands.append(" ".join(command))
        return 0

    verdict = run_pipeline(GAIN[0], run)

    assert verdict == VERDICT
    assert commands == [
        "python -m dvc add data/production/labelled.csv",
        "python -m dvc repro",
        "python -m stages.register",
    ]


def test_a_failed_command_ends_the_pipeline() -> None:
    with pytest.raises(UserError, match="dvc repro ended with 3"):
        run_pipeline(Change(0, 0, 0), lambda *command: 3 * ("repro" in command))


# One at a time


def test_the_error_of_a_held_lock_names_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "registry" / "retrain.lock"

    with run_lock.hold(path) as lock:
        assert lock.leftover is None
        with (
            pytest.raises(UserError, match=rf"process {os.getpid()} has held it for \d+ s"),
            run_lock.hold(path),
        ):
            pass
    with run_lock.hold(path) as lock:
        assert lock.leftover is None


def test_a_held_lock_is_the_exit_code_of_a_temporary_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["run"])

    with run_lock.hold(retraining.LOCK), pytest.raises(SystemExit) as end:
        run_main(retraining.main)

    assert end.value.code == os.EX_TEMPFAIL
    assert capsys.readouterr().err.startswith(f"error: {retraining.LOCK}: process {os.getpid()} ")


HOLD = (
    "import pathlib, time; from monitoring.retraining import lock as run_lock\n"
    "with run_lock.hold(pathlib.Path('lock')) as lock:\n"
    "    lock.note(run_id='abc'); print(flush=True); time.sleep(60)\n"
)


@pytest.mark.integration
def test_lock_of_a_dead_process_is_taken_over_with_its_note(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], cwd=tmp_path, stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as holder:  # fmt: skip
        assert holder.stdout
        holder.stdout.readline()
        with pytest.raises(UserError), run_lock.hold(tmp_path / "lock"):
            pass
        holder.kill()

    with run_lock.hold(tmp_path / "lock") as lock:
        assert lock.leftover
        assert (lock.leftover["pid"], lock.leftover["run_id"]) == (holder.pid, "abc")


def test_the_note_of_a_dead_process_stays_until_a_holder_ends_normally(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text('{"pid": 1, "since": 0, "run_id": "abc"}')
    with pytest.raises(UserError), run_lock.hold(tmp_path / "lock"):
        raise UserError("the registry does not answer")

    with run_lock.hold(tmp_path / "lock") as lock:
        assert lock.leftover
        assert (lock.leftover["pid"], lock.leftover["run_id"]) == (os.getpid(), "abc")
    with run_lock.hold(tmp_path / "lock") as lock:
        assert lock.leftover is None


START = HOLD.replace(
    "print(flush=True)",
    "import subprocess\n"
    "    subprocess.Popen(['sh', '-c', 'sleep 1; touch ended'], pass_fds=[lock.descriptor])\n"
    "    print(flush=True)",
)


@pytest.mark.integration
def test_the_lock_of_a_dead_holder_is_held_until_its_commands_have_ended(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", START], cwd=tmp_path, stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as holder:  # fmt: skip
        assert holder.stdout
        holder.stdout.readline()
        holder.kill()

    with run_lock.hold(tmp_path / "lock") as lock:
        assert (tmp_path / "ended").exists()
        assert lock.leftover


def test_a_kept_descriptor_is_open_in_a_supervised_command(tmp_path: Path) -> None:
    with (tmp_path / "output").open("w") as file:
        script = f"import os; os.write({file.fileno()}, b'open')"
        code = supervised.run(sys.executable, "-c", script, keep=[file.fileno()])

    assert code == 0
    assert (tmp_path / "output").read_text() == "open"


@pytest.mark.parametrize("content", ["", "{", "[]", "\0"])
def test_a_lock_file_without_a_valid_note_can_be_locked(tmp_path: Path, content: str) -> None:
    (tmp_path / "lock").write_text(content)

    with run_lock.hold(tmp_path / "lock") as lock:
        assert lock.leftover is None


# Supervised commands


@pytest.mark.integration
def test_all_started_processes_end_with_their_owner(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", "from monitoring.retraining import supervised; supervised.run('sh', '-c', 'sleep 99; :')"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        until(lambda: len(children(owner.pid)) >= 3)
        started = children(owner.pid)
    finally:
        owner.send_signal(signal.SIGKILL)
        owner.wait()

    until(lambda: not any(map(alive, started)))


@pytest.mark.parametrize("code", [0, 3])
def test_a_supervised_command_returns_its_exit_code(
    tmp_path: Path, command: Callable[..., Any], code: int
) -> None:
    script = f"from monitoring.retraining import supervised; raise SystemExit(supervised.run('sh','-c','exit {code}'))"
    (tmp_path / "main.py").write_text(script)

    start = time.monotonic()
    command("python main.py", tmp_path, code=code, PYTHONPATH=str(ROOT))

    assert time.monotonic() - start < 30


# The history


def test_only_finished_retrainings_have_used_outcomes(store: Any) -> None:
    history = RetrainingHistory(store, "heart")
    assert history.used_until() is None

    first, failed, killed = (history.begin({"trigger": "test"}) for _ in range(3))
    history.finish(first, {UNTIL: NOON.isoformat(), "verdict": "rejected"}, {"a": 1.0}, "report")
    history.fail(failed, "dvc repro ended with 1")
    history.interrupted(killed)
    history.interrupted(first)

    assert history.used_until() == NOON
    runs = [store.get_run(run) for run in (first, failed, killed)]
    assert [run.info.status for run in runs] == ["FINISHED", "FAILED", "KILLED"]
    assert runs[1].data.tags["reason"] == "dvc repro ended with 1"
    assert (runs[0].data.tags["verdict"], runs[0].data.metrics) == ("rejected", {"a": 1.0})
