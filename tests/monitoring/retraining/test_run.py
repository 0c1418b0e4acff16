"""What a retraining decides and tells; the whole way is in tests/contract/test_retraining.py."""

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

from heart.errors import UserError
from monitoring.retraining import lock as single
from monitoring.retraining import supervised as owned
from monitoring.retraining.collect import Change
from monitoring.retraining.history import UNTIL, RetrainingHistory
from monitoring.retraining.run import New, Retrain, metrics, new_outcomes, report, run_pipeline
from tests.heart.predictions.logs import until
from tests.processes import ROOT, alive, children

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ENOUGH = Retrain(outcomes=5, per_class=2)


def labelled(*outcomes: str) -> pd.DataFrame:
    """Outcomes that came in an hour apart from noon on."""
    times = [NOON + timedelta(hours=n) for n in range(len(outcomes))]
    return pd.DataFrame({"heart_disease": outcomes, "recorded_at": times})


# Enough outcomes


def test_outcomes_since_the_last_retraining_are_new() -> None:
    table = labelled("presence", "absence", "absence", "presence", "absence")

    assert new_outcomes(table, None).counts == {"absence": 3, "presence": 2}
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
def test_what_is_missing_is_told(absence: int, presence: int, missing: list[str]) -> None:
    assert New({"absence": absence, "presence": presence}).missing(ENOUGH) == missing


# The report


SCORES = {"champion": 0.9, "challenger": 0.93, "difference": 0.03, "low": 0.01, "high": 0.05}
BRIER = {"champion": 0.11, "challenger": 0.12, "difference": 0.01, "low": -0.01, "high": 0.03}
VERDICT = {
    "model": "heart-disease",
    "version": 4,
    "rival": 2,
    "verdict": "refused",
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
GAIN = Change(120, 60, 1), New({"absence": 40, "presence": 20})


def test_the_report_tells_rows_verdict_reasons_and_both_models_by_group() -> None:
    told = report(VERDICT, *GAIN, "drift in age")

    assert "triggered by drift in age" in told
    assert "120 labelled rows, 60 gained, 1 lost; 60 outcomes since" in told
    assert "because    recall at least 0.6: it is 0.5" in told
    assert "champion   version 2" in told
    assert "0.900       0.930  +0.030 (+0.010 to +0.050)" in told
    assert "0.110       0.120  +0.010 (-0.010 to +0.030)" in told
    assert told.splitlines()[-2].split() == ["sex_female", "9", "-"]
    assert told.splitlines()[-1] == "challenger version 4: refused"


def test_without_a_champion_the_report_says_so() -> None:
    told = report(VERDICT | {"rival": None, "against_champion": {}}, *GAIN, "hand")

    assert "there was none to compare with" in told


def test_figures_that_cannot_be_computed_are_no_metrics() -> None:
    assert metrics(VERDICT)["all.roc_auc.difference"] == 0.03
    assert not [name for name in metrics(VERDICT) if name.startswith("sex")]


# Commands


def test_the_commands_run_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/register.json").write_text(json.dumps(VERDICT))
    ran: list[str] = []

    def run(*command: str) -> int:
        ran.append(" ".join(command))
        return 0

    verdict = run_pipeline(GAIN[0], run)

    assert verdict == VERDICT
    assert ran == [
        "python -m dvc add data/production/labelled.csv",
        "python -m dvc repro",
        "python -m stages.register",
    ]


def test_a_command_that_fails_ends_it() -> None:
    with pytest.raises(UserError, match="dvc repro ended with 3"):
        run_pipeline(Change(0, 0, 0), lambda *command: 3 * ("repro" in command))


# One at a time


def test_a_second_one_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "registry" / "retrain.lock"

    with single.only_one(path) as lock:
        assert lock.left is None
        with (
            pytest.raises(UserError, match=rf"process {os.getpid()} has held it for \d+ s"),
            single.only_one(path),
        ):
            pass
    with single.only_one(path) as lock:
        assert lock.left is None


HOLD = (
    "import pathlib, time; from monitoring.retraining import lock as single\n"
    "with single.only_one(pathlib.Path('lock')) as lock:\n"
    "    lock.note(run_id='abc'); print(flush=True); time.sleep(60)\n"
)


def test_the_lock_of_a_dead_process_is_taken_over_with_its_note(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], cwd=tmp_path, stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as holder:  # fmt: skip
        assert holder.stdout
        holder.stdout.readline()
        with pytest.raises(UserError), single.only_one(tmp_path / "lock"):
            pass
        holder.kill()

    with single.only_one(tmp_path / "lock") as lock:
        assert lock.left
        assert (lock.left["pid"], lock.left["run_id"]) == (holder.pid, "abc")


def test_the_note_of_a_dead_process_stays_until_a_holder_ends_well(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text('{"pid": 1, "since": 0, "run_id": "abc"}')
    with pytest.raises(UserError), single.only_one(tmp_path / "lock"):
        raise UserError("the registry does not answer")

    with single.only_one(tmp_path / "lock") as lock:
        assert lock.left
        assert (lock.left["pid"], lock.left["run_id"]) == (os.getpid(), "abc")
    with single.only_one(tmp_path / "lock") as lock:
        assert lock.left is None


START = HOLD.replace(
    "print(flush=True)",
    "import subprocess\n"
    "    subprocess.Popen(['sh', '-c', 'sleep 1; touch ended'], pass_fds=[lock.descriptor])\n"
    "    print(flush=True)",
)


def test_the_lock_is_free_once_all_that_its_dead_holder_started_has_ended(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", START], cwd=tmp_path, stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as holder:  # fmt: skip
        assert holder.stdout
        holder.stdout.readline()
        holder.kill()

    with single.only_one(tmp_path / "lock") as lock:
        assert (tmp_path / "ended").exists()
        assert lock.left


def test_what_is_kept_open_stays_open_in_an_owned_command(tmp_path: Path) -> None:
    with (tmp_path / "kept").open("w") as file:
        script = f"import os; os.write({file.fileno()}, b'open')"
        code = owned.run(sys.executable, "-c", script, keep=[file.fileno()])

    assert code == 0
    assert (tmp_path / "kept").read_text() == "open"


@pytest.mark.parametrize("content", ["", "{", "[]", "\0"])
def test_a_lock_file_that_says_nothing_is_no_obstacle(tmp_path: Path, content: str) -> None:
    (tmp_path / "lock").write_text(content)

    with single.only_one(tmp_path / "lock") as lock:
        assert lock.left is None


# What a retraining starts ends with it


def test_all_that_was_started_ends_with_its_owner(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", "from monitoring.retraining import supervised as owned; owned.run('sh', '-c', 'sleep 99; :')"],
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
def test_an_owned_command_gives_its_exit_code(
    tmp_path: Path, command: Callable[..., Any], code: int
) -> None:
    script = f"from monitoring.retraining import supervised as owned; raise SystemExit(owned.run('sh','-c','exit {code}'))"
    (tmp_path / "main.py").write_text(script)

    start = time.monotonic()
    command("python main.py", tmp_path, code=code, PYTHONPATH=str(ROOT))

    assert time.monotonic() - start < 30


# The journal


def test_only_finished_retrainings_say_what_was_learnt(store: Any) -> None:
    journal = RetrainingHistory(store, "heart")
    assert journal.learnt_until() is None

    first, failed, killed = (journal.begin({"trigger": "test"}) for _ in range(3))
    journal.finish(first, {UNTIL: NOON.isoformat(), "verdict": "refused"}, {"a": 1.0}, "report")
    journal.fail(failed, "dvc repro ended with 1")
    journal.interrupted(killed)
    journal.interrupted(first)

    assert journal.learnt_until() == NOON
    runs = [store.get_run(run) for run in (first, failed, killed)]
    assert [run.info.status for run in runs] == ["FINISHED", "FAILED", "KILLED"]
    assert runs[1].data.tags["reason"] == "dvc repro ended with 1"
    assert (runs[0].data.tags["verdict"], runs[0].data.metrics) == ("refused", {"a": 1.0})
