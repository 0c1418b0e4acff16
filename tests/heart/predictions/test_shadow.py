"""Predictions of a challenger: stored beside the champion's, deleted with them, compared by the database."""

import sqlite3
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heart.predictions.log import LogUnavailable, PredictionLog, ShadowRecord, Side, new_ids
from heart.predictions.sqlite import SHADOW_ROWS, capacity_of
from tests.heart.predictions.logs import execute, opened, records

CHAMPION, CHALLENGER = Side("7", 0.5), Side("8", 0.4)
NOTHING = {"rows": 0, "difference_mean": None, "disagreement_ratio": None, "labels": 0}


def stored(url: str) -> list[Any]:
    query = "SELECT prediction_id, model_version, probability FROM shadow_predictions ORDER BY 1, 2"
    return [tuple(row) for row in execute(url, query)]


def shadowed(log: PredictionLog, champion: list[float], challenger: list[float]) -> list[str]:
    """Log predictions of version 7, and those of version 8 for the same patients; their ids."""
    batch = [records(1, "7", risk)[0] for risk in champion]
    log.append_sync(batch)
    log.append_shadows(
        [ShadowRecord(record.id, "8", risk) for record, risk in zip(batch, challenger, strict=True)]
    )
    return [record.id for record in batch]


def test_a_shadow_is_kept_once_and_only_beside_its_prediction(url: str) -> None:
    with opened(url) as log:
        first, second = records(2)
        log.append_sync([first, second])
        rows = [ShadowRecord(first.id, "8", 0.1 + 0.2), ShadowRecord(second.id, "8", 0.5)]

        log.append_shadows([*rows, ShadowRecord(new_ids(1)[0], "8", 0.5)])
        log.append_shadows([rows[0]._replace(probability=0.9), ShadowRecord(first.id, "9", 1.0)])
        log.append_shadows([])

        assert stored(url) == sorted([*rows, ShadowRecord(first.id, "9", 1.0)])
        assert log.ready() is None


def test_shadows_of_any_number_are_kept(url: str) -> None:
    batch = records(2 * SHADOW_ROWS + 65)
    with opened(url) as log:
        log.append_sync(batch)

        log.append_shadows([ShadowRecord(record.id, "8", 0.5) for record in batch])
        for count in (1, 63, 64, 65):
            log.append_shadows(
                [ShadowRecord(record.id, f"{count}", 0.5) for record in batch[:count]]
            )

        query = "SELECT model_version, count(*) FROM shadow_predictions GROUP BY 1 ORDER BY 2"
        counts = {"1": 1, "63": 63, "64": 64, "65": 65, "8": len(batch)}
        assert dict(tuple(row) for row in execute(url, query)) == counts


def test_five_statements_suffice_for_any_number_of_shadows() -> None:
    capacities = {rows: capacity_of(rows) for rows in range(1, SHADOW_ROWS + 1)}

    assert all(rows <= capacity <= SHADOW_ROWS for rows, capacity in capacities.items())
    assert len(set(capacities.values())) == 5  # each is compiled once


def test_a_shadow_is_deleted_with_its_prediction(url: str) -> None:
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    with opened(url, retention_days=30, clock=lambda: noon) as log:
        erased, purged, labelled = shadowed(log, [0.2, 0.3, 0.4], [0.3, 0.4, 0.5])
        log.record_outcome(labelled, "presence", "registry")

        log.erase(erased)
        assert {row[0] for row in stored(url)} == {purged, labelled}

        log.purge(noon + timedelta(days=31))
        assert [row[0] for row in stored(url)] == [labelled]


def test_an_erased_shadow_is_in_no_file_of_sqlite(tmp_path: Path) -> None:
    with opened(f"sqlite:///{tmp_path}/log.db") as log:
        ids = shadowed(log, [0.5] * 50, [0.25] * 50)

        log.erase(ids[20])

        content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        assert ids[20].encode() not in content
        assert ids[21].encode() in content


def test_the_figures_cover_the_patients_that_both_versions_have_scored(url: str) -> None:
    random = np.random.default_rng(0)
    champion_risk, challenger_risk = random.random((2, 60)).tolist()
    positive = random.random(60) < 0.5
    with opened(url) as log:
        assert log.compared(CHAMPION, CHALLENGER, 100) == NOTHING | {
            f"{role}_{score}": None
            for role in ("champion", "challenger")
            for score in ("accuracy", "brier")
        }
        ids = shadowed(log, champion_risk, challenger_risk)
        log.append_sync(records(5, "7", 0.9))
        time.sleep(0.002)  # ids of one millisecond have no order
        others = records(2, "6", 0.9)
        log.append_sync(others)
        log.append_shadows([ShadowRecord(record.id, "8", 0.1) for record in others])
        for key, presence in [*zip(ids[:40], positive, strict=False), (others[0].id, True)]:
            log.record_outcome(key, "presence" if presence else "absence", "registry")

        figures = log.compared(CHAMPION, CHALLENGER, 100)
        newest = [log.compared(CHAMPION, CHALLENGER, rows)["rows"] for rows in (1, 30, 61, 62, 63)]

    a, b = np.array(champion_risk), np.array(challenger_risk)
    different = (a >= 0.5) != (b >= 0.4)
    assert figures.pop("rows") == 60
    assert figures.pop("labels") == 40
    assert figures == pytest.approx(
        {
            "difference_mean": (b - a).mean(),
            "disagreement_ratio": different.mean(),
            "champion_accuracy": ((a >= 0.5) == positive)[:40].mean(),
            "challenger_accuracy": ((b >= 0.4) == positive)[:40].mean(),
            "champion_brier": ((a - positive) ** 2)[:40].mean(),
            "challenger_brier": ((b - positive) ** 2)[:40].mean(),
        }
    )
    # Two of all 62 belong to predictions of another version; they have the newest ids.
    assert newest == [0, 28, 59, 60, 60]


def test_without_the_database_a_shadow_is_rejected(tmp_path: Path) -> None:
    with opened(f"sqlite:///{tmp_path}/log.db") as log:
        (record,) = records(1)
        log.append_sync([record])
    with pytest.raises(LogUnavailable):
        log.append_shadows([ShadowRecord(record.id, "8", 0.5)])


# Older logs


def downgrade(url: str) -> None:
    """Make it a log of version 1 of the tables, without shadow predictions and senders."""
    execute(
        url,
        "DROP TABLE answers",
        "DROP TABLE shadow_predictions",
        "DROP TABLE outcome_history",
        "ALTER TABLE outcomes DROP COLUMN sender",
        "DELETE FROM log_state WHERE name = 'withdrawn'",
        "UPDATE log_state SET value = 1 WHERE name = 'schema_version'",
    )


def test_an_older_log_is_upgraded_and_keeps_its_rows(url: str) -> None:
    with opened(url) as log:
        old = records(3)
        log.append_sync(old)
        log.record_outcome(old[0].id, "presence", "registry")
    downgrade(url)

    for _ in range(2):
        with opened(url) as log:
            assert log.ready() is None
            assert log.count() == 3
            assert log.labelled("7", ["id", "sender"]) == {"id": [old[0].id], "sender": ["unknown"]}
            assert log.history()["outcome"] == ["presence"]
            assert log.history()["sender"] == ["unknown"]
            assert log.totals() == {"erased": 0, "purged": 0, "withdrawn": 0}
            log.append_shadows([ShadowRecord(old[1].id, "8", 0.5)])

    assert stored(url) == [(old[1].id, "8", 0.5)]
    assert execute(url, "SELECT value FROM log_state WHERE name = 'schema_version'") == [(4,)]


def test_a_failed_upgrade_is_rolled_back(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    with opened(url) as log:
        log.append_sync(records(1))
    downgrade(url)
    # A table has the name of the index, so that creating it fails after the table was created.
    execute(url, "CREATE TABLE shadow_predictions_by_version (x)")

    with opened(url) as log:
        assert log.ready() is not None

    with sqlite3.connect(tmp_path / "log.db") as file:
        names = {name for (name,) in file.execute("SELECT name FROM sqlite_master")}
    file.close()
    assert "shadow_predictions" not in names
    assert execute(url, "SELECT value FROM log_state WHERE name = 'schema_version'") == [(1,)]
