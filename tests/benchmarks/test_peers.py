"""Peers in environments of their own: which are there, what is said to them, what is made of it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import peer
from benchmarks.drift import SEED
from benchmarks.drift_peers import continuous, draw_stream, table
from benchmarks.peers.windows import first_alarms
from benchmarks.synthesis import REAL, FittedGenerator, Replay, interval, patients
from heart.drift.baseline import Policy
from heart.drift.simulation import Sample
from heart.errors import UserError
from heart.registry.publishing import fictional_rows
from heart.schema import NAMES

POLICY = Policy((20,), 10, 100, 0.01, 10, 1000, 0)


def sample(rows: int, weights: np.ndarray | None = None) -> Sample:
    codes = fictional_rows(rows, 0)
    codes[::2, NAMES.index("thallium")] = np.nan
    return Sample(codes, np.linspace(0, 1, rows, dtype=np.float32), weights)


# Environments


def test_a_peer_that_is_not_installed_is_left_out_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".venv-peers/installed").mkdir(parents=True)
    Path(".venv-peers/failed").mkdir()
    Path(".venv-peers/failed/not-installed.txt").write_text("no version\n  for Python 3.14\n")

    absent = peer.absent(("installed", "failed", "not_made"))

    assert absent["failed"] == "no version for Python 3.14"
    assert "make .venv-peers/not_made" in absent["not_made"]
    assert "installed" not in absent
    assert "failed is left out: no version for Python 3.14" in capsys.readouterr().out


def test_the_error_of_a_failed_peer_has_the_end_of_its_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / ".venv-peers/failing/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho no such column >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.chdir(tmp_path)

    with pytest.raises(UserError, match=r"peers/failing.py: no such column"):
        peer.run("failing")


# Drift


@pytest.mark.parametrize("weighted", [False, True])
def test_a_library_gets_the_stream_of_the_project(weighted: bool) -> None:
    before, after = sample(30), sample(30, np.arange(30.0) if weighted else None)

    reference, stream = draw_stream(before, after, 50, stream=3)

    random = np.random.default_rng([SEED, 3])
    np.testing.assert_array_equal(reference, table(before)[random.integers(30, size=242)])
    np.testing.assert_array_equal(stream[:, -1], after.draw(random, 50).scores)


def test_a_missing_category_is_a_category() -> None:
    rows = table(sample(4))

    assert rows[:, NAMES.index("thallium")].tolist()[::2] == [-1, -1]
    assert NAMES.index("age") in continuous()
    assert NAMES.index("thallium") not in continuous()


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_the_first_alarm_comes_at_the_end_of_the_first_window_that_alarms(at_once: int) -> None:
    stream = np.arange(50)[:, None]

    def detect(rows: np.ndarray) -> dict[str, list[bool]]:
        windows = rows[:, 0].reshape(-1, 10)
        return {
            "early": [bool(w[0] >= 10) for w in windows],
            "late": [bool(w[-1] == 49) for w in windows],
            "never": [False for _ in windows],
        }

    delays = first_alarms(detect, stream, 10, at_once)

    assert delays == {"early": 20, "late": 50, "never": None}


# Synthesis


def test_a_bootstrap_draws_real_rows_of_the_other_folds() -> None:
    real = pd.DataFrame({"patient": ["a", "b", "c"], "fold": ["0", "1", "1"]})

    rows, draws = patients(REAL, real, 50, seed=0)

    assert set(rows.loc[rows["fold"] == "0", "patient"]) == {"b", "c"}
    assert set(rows.loc[rows["fold"] == "1", "patient"]) == {"a"}
    assert draws["copied"] == 1


def test_each_row_of_a_peer_is_used_once_and_counted() -> None:
    generator = FittedGenerator(Replay(pd.DataFrame({"age": range(5)})), seconds=0)

    assert generator.sample(2)["age"].tolist() == [0, 1]
    assert generator.sample(3)["age"].tolist() == [2, 3, 4]
    assert generator.rows == 5
    with pytest.raises(UserError, match="5 times"):
        generator.sample(1)


def test_interval_over_seeds_is_students_t() -> None:
    figure = interval([1.0, 2.0, 3.0])

    assert figure["mean"] == 2
    assert figure["high"] - 2 == pytest.approx(4.303 / 3**0.5, rel=1e-3)
