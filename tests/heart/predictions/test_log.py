"""The prediction log: records, rejections and queries. Reliability has its own file."""

import asyncio
import logging
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import NullPool, create_engine, make_url, text

from heart.predictions import changes, queries
from heart.predictions import writer as log_writer
from heart.predictions.log import (
    LogConfigurationError,
    LogError,
    LogQueueFull,
    LogRejected,
    LogUnavailable,
    OutcomeConflict,
    PredictionLog,
    Record,
    UnknownPrediction,
    new_ids,
)
from heart.schema import NAMES
from tests.heart.predictions.logs import ROOT, VALUES, Postgres, held, opened, records, until

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def log(url: str) -> Iterator[PredictionLog]:
    with opened(url, clock=lambda: NOON) as opened_log:
        yield opened_log


async def gathered(log: PredictionLog, batches: list[list[Record]]) -> list[Any]:
    """Append batches that reach the writer together; the result or error of each append."""
    with held(log):
        tasks = [asyncio.create_task(log.append(batch)) for batch in batches]
        await asyncio.sleep(0)
    return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)


# Records


@pytest.mark.parametrize("missing", [*NAMES, "none of them", "all of them"])
def test_a_prediction_is_read_as_it_was_appended(log: PredictionLog, missing: str) -> None:
    measurements = [
        None if missing in (name, "all of them") else value
        for name, value in zip(NAMES, VALUES, strict=True)
    ]
    (key,) = new_ids(1)

    log.append_sync([Record(key, "7", 0.1 + 0.2, measurements)])

    label: dict[str, Any] = {"outcome": None, "source": None, "recorded_at": None}
    expected = label | dict(zip(NAMES, measurements, strict=True))
    expected |= {"id": key, "created_at": NOON, "model_version": "7", "probability": 0.1 + 0.2}
    assert log.get(key) == expected
    assert log.last(1) == {name: [value] for name, value in expected.items() if name not in label}


@pytest.mark.parametrize("key", ["0" * 32, "", "z" * 32, "\0" * 32, "\ud800", "0" * 33, "A" * 32])
def test_an_unknown_id_of_any_form_is_unknown(log: PredictionLog, key: str) -> None:
    assert log.get(key) is None
    with pytest.raises(UnknownPrediction):
        log.record_outcome(key, "absence", "registry")
    with pytest.raises(UnknownPrediction):
        log.erase(key)
    assert log.stats.failures == 0


def test_ids_are_different_and_in_the_order_of_time() -> None:
    early = new_ids(1000)
    time.sleep(0.002)
    late = new_ids(1000)

    assert len({*early, *late}) == 2000
    assert max(early) < min(late)
    assert {len(key) for key in early} == {32}
    assert all(key == key.lower() and int(key, 16) for key in early)


def test_a_second_record_with_an_id_is_ignored(log: PredictionLog) -> None:
    (first,) = records(1, probability=0.25)
    again = first._replace(probability=0.75)

    log.append_sync([first, again])
    log.append_sync([again, *records(2)])

    assert log.count() == 3
    row = log.get(first.id)
    assert row is not None
    assert row["probability"] == 0.25


# Commits


def test_waiting_records_are_committed_together(url: str) -> None:
    commits: list[int] = []
    with opened(url, on_commit=lambda rows, seconds: commits.append(rows * (seconds > 0))) as log:
        answers = asyncio.run(gathered(log, [records(1) for _ in range(64)]))

        assert answers == [None] * 64
        assert (log.stats.commits, log.stats.rows, log.stats.failures) == (1, 64, 0)
        assert log.count() == 64
    assert commits == [64]


def test_a_batch_is_one_commit(log: PredictionLog) -> None:
    batch = records(10_000)

    asyncio.run(log.append(batch))

    assert (log.stats.commits, log.stats.rows) == (1, 10_000)
    assert log.last(20_000)["id"] == [record.id for record in reversed(batch)]


def test_an_invalid_batch_is_not_written_and_the_others_are(log: PredictionLog) -> None:
    good = [records(700), records(1), records(90)]
    # A version that is not valid Unicode passes all checks except the driver's.
    bad = [*records(600), *records(1, version="\ud800"), *records(600)]

    answers = asyncio.run(gathered(log, [good[0], good[1], bad, good[2]]))

    assert [type(answer) for answer in answers] == [type(None), type(None), LogRejected, type(None)]
    expected = {record.id for batch in good for record in batch}
    assert set(log.last(10_000)["id"]) == expected
    assert log.ready() is None


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"id": "short"}, "id"),
        ({"probability": 1.01}, "probability"),
        ({"probability": float("nan")}, "probability"),
        ({"measurements": VALUES[1:]}, "13 measurements"),
        ({"measurements": ("old", *VALUES[1:])}, "age is not a whole number"),
        ({"measurements": (float("inf"), *VALUES[1:])}, "age is not a whole number"),
        ({"measurements": (54, "Ms Smith", *VALUES[2:])}, "sex is not one of female, male"),
    ],
)
def test_invalid_records_do_not_reach_the_database(
    log: PredictionLog, change: dict[str, Any], complaint: str
) -> None:
    first, second = records(2)

    with pytest.raises(LogRejected, match=f"record 1.*{complaint}"):
        asyncio.run(log.append([first, second._replace(**change)]))

    assert log.count() == 0


def test_an_empty_batch_makes_no_commit(log: PredictionLog) -> None:
    asyncio.run(log.append([]))
    log.append_sync([])

    assert log.stats.commits == 0


def test_a_full_queue_rejects_records_and_keeps_the_waiting_ones(url: str) -> None:
    with opened(url, queue_limit=10) as log:

        async def fill() -> None:
            with held(log):
                waiting = asyncio.create_task(log.append(records(8)))
                await asyncio.sleep(0)
                with pytest.raises(LogQueueFull) as refused:
                    await log.append(records(3))
                assert refused.value.retry_after > 0
                more = asyncio.create_task(log.append(records(2)))
                await asyncio.sleep(0)
            await asyncio.wait_for(asyncio.gather(waiting, more), 20)

        asyncio.run(fill())
        asyncio.run(log.append(records(10)))
        assert log.count() == 20


def test_a_cancelled_append_does_not_affect_the_others(log: PredictionLog) -> None:
    async def cancel_one() -> None:
        with held(log):
            tasks = [asyncio.create_task(log.append(records(1))) for _ in range(3)]
            await asyncio.sleep(0)
            tasks[1].cancel()
            await asyncio.sleep(0)
        answers = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)
        assert [type(answer) for answer in answers] == [
            type(None),
            asyncio.CancelledError,
            type(None),
        ]

    asyncio.run(cancel_one())

    assert log.count() == 3


def test_an_append_to_a_database_that_does_not_answer_times_out(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "COMMIT_SECONDS", 0.2)

    with opened(url) as log:
        with held(log), pytest.raises(LogUnavailable, match=r"no answer within 0\.2 s"):
            asyncio.run(log.append(records(1)))
        log.append_sync(records(1))

        assert log.count() == 2  # the record is written nevertheless


def test_an_error_in_on_commit_affects_no_append(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(rows: int, seconds: float) -> None:
        raise RuntimeError(f"{rows} {seconds}")

    with opened(url, on_commit=fail) as log:
        for _ in range(2):
            asyncio.run(asyncio.wait_for(log.append(records(1)), 20))

        assert "on_commit" in caplog.text


def test_closing_writes_waiting_records_and_rejects_further_ones(url: str) -> None:
    log = PredictionLog(url)
    with pytest.raises(LogUnavailable, match="not started"):
        log.append_sync(records(1))

    async def close() -> None:
        log.start()
        with held(log):
            waiting = asyncio.create_task(log.append(records(5)))
            closing = asyncio.create_task(asyncio.to_thread(log.close))
            await asyncio.to_thread(until, lambda: not log.writer.accepts)
            with pytest.raises(LogUnavailable, match="closed"):
                await log.append(records(1))
            assert log.ready() == "it is closed"
        await asyncio.wait_for(asyncio.gather(waiting, closing), 20)

    asyncio.run(close())
    log.close()

    with opened(url) as again:
        assert again.count() == 5


# Outcomes, erasure, retention


def test_an_outcome_is_recorded_repeated_rejected_and_replaced(log: PredictionLog) -> None:
    (record,) = records(1)
    log.append_sync([record])

    assert log.record_outcome(record.id, "presence", "clinician") == "created"
    assert log.record_outcome(record.id, "presence", "clinician") == "same"
    assert log.record_outcome(record.id, "presence", "registry") == "same"
    with pytest.raises(OutcomeConflict, match="presence already"):
        log.record_outcome(record.id, "absence", "angiography")
    assert _label(log, record.id) == ("presence", "clinician", NOON)
    assert log.record_outcome(record.id, "presence", "registry", replace=True) == "replaced"
    assert log.record_outcome(record.id, "absence", "angiography", replace=True) == "replaced"
    assert log.record_outcome(record.id, "absence", "angiography", replace=True) == "same"
    assert _label(log, record.id) == ("absence", "angiography", NOON)


def _label(log: PredictionLog, key: str) -> tuple[Any, ...]:
    row = log.get(key)
    assert row is not None
    return row["outcome"], row["source"], row["recorded_at"]


@pytest.mark.parametrize(("outcome", "source"), [("maybe", "clinician"), ("absence", "a friend")])
def test_an_unknown_outcome_or_source_is_rejected(
    log: PredictionLog, outcome: str, source: str
) -> None:
    log.append_sync(batch := records(1))

    with pytest.raises(ValueError, match="one of"):
        log.record_outcome(batch[0].id, outcome, source)


def test_labelled_predictions_are_by_version_and_oldest_first(log: PredictionLog) -> None:
    old, new = records(3, "7", 0.2), records(2, "8", 0.6)
    log.append_sync([*old, *new])
    for record in (new[0], old[2], old[0]):
        log.record_outcome(record.id, "presence" if record in new else "absence", "registry")

    assert log.labelled() == {
        "probability": [0.2, 0.2, 0.6],
        "outcome": ["absence", "absence", "presence"],
    }
    assert log.labelled("8", ["id", "age", "source"]) == {
        "id": [new[0].id],
        "age": [VALUES[0]],
        "source": ["registry"],
    }
    assert log.labelled("9") == {"probability": [], "outcome": []}


def test_erasure_deletes_the_row_and_its_outcome_and_is_counted(log: PredictionLog) -> None:
    first, second = records(2)
    log.append_sync([first, second])
    log.record_outcome(first.id, "presence", "registry")

    log.erase(first.id)

    assert log.get(first.id) is None
    assert log.labelled()["outcome"] == []
    assert log.last(10)["id"] == [second.id]
    assert log.totals() == {"erased": 1, "purged": 0, "withdrawn": 0}
    with pytest.raises(UnknownPrediction):
        log.erase(first.id)
    assert log.totals()["erased"] == 1


def test_an_erased_row_is_in_no_file_of_sqlite(tmp_path: Path) -> None:
    def bytes_on_disk() -> bytes:
        return b"".join(path.read_bytes() for path in tmp_path.iterdir())

    with opened(f"sqlite:///{tmp_path}/log.db") as log:
        batch = records(200)
        log.append_sync(batch)
        assert batch[77].id.encode() in bytes_on_disk()

        log.erase(batch[77].id)

        assert batch[77].id.encode() not in bytes_on_disk()
        assert batch[78].id.encode() in bytes_on_disk()


def test_the_purge_deletes_old_rows_without_an_outcome(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "PURGE_ROWS", 3)
    times = [NOON - timedelta(days=days) for days in (40, 35, 31, 29, 1)]
    clock = iter(times)
    options = {"clock_confirmed": NOON.date(), "clock": lambda: next(clock, NOON)}
    with opened(url, retention_days=30, **options) as log:
        batches = [records(2) for _ in times]
        for batch in batches:
            log.append_sync(batch)
        log.record_outcome(batches[0][0].id, "absence", "registry")

        assert log.purge() == 5

        remaining = [batches[0][0], *batches[3], *batches[4]]
        assert log.last(20)["id"] == [record.id for record in reversed(remaining)]
        assert log.totals() == {"erased": 0, "purged": 5, "withdrawn": 0}
        assert log.purge() == 0
        assert log.purge(NOON + timedelta(days=2)) == 2


def test_without_a_retention_nothing_is_purged(log: PredictionLog) -> None:
    log.append_sync(records(2))

    assert log.purge(NOON + timedelta(days=10_000)) == 0
    assert log.count() == 2


# The newest rows


def test_the_newest_rows_are_by_version_and_newest_first(log: PredictionLog) -> None:
    old, new = records(5, "7"), records(3, "8")
    log.append_sync(old)
    log.append_sync(new)
    log.append_sync(late := records(1, "7"))

    def ids(batch: list[Record]) -> list[str]:
        return [record.id for record in batch]

    assert log.last(3)["id"] == ids([late[0], new[2], new[1]])
    assert log.last(2, "7")["id"] == ids([late[0], old[4]])
    assert log.last(50, "8")["id"] == ids(new[::-1])
    assert log.last(3, "9")["id"] == []
    assert list(log.last(3, "9")) == ["id", "created_at", "model_version", "probability", *NAMES]


def test_with_a_step_the_newest_rows_end_at_a_multiple_of_it(
    log: PredictionLog,
) -> None:
    batches = [records(count, version) for count, version in ((8, "7"), (4, "8"), (7, "7"))]
    for batch in batches:
        log.append_sync(batch)
    first, second, third = ([record.id for record in batch] for batch in batches)

    def newest(version: str, step: int = 10) -> list[Any]:
        return log.last(50, version, step)["id"][::-1]

    assert newest("7") == first
    assert newest("8") == second[:2]
    assert newest("7", 5) == [*first, *third[:3]]
    log.append_sync(records(1, "9"))
    assert newest("7") == [*first, *third]
    log.erase(first[0])
    assert newest("7") == [*first[1:], *third]
    assert newest("8", 50) == []


@pytest.mark.parametrize("step", [1, 10])
@pytest.mark.parametrize("version", [None, "rare", "common"])
def test_the_cost_of_the_newest_rows_does_not_depend_on_the_length_of_the_log(
    url: str, version: str | None, step: int
) -> None:
    with opened(url) as log:
        log.append_sync(records(60, "rare"))
        log.append_sync(records(20_000, "common"))
        log.append_sync(records(60, "other"))
        assert len(log.last(50, version, step)["id"]) == 50

    assert _work(url, version, step) <= 50


def _work(url: str, version: str | None, step: int) -> int:
    """The number of rows that the database visits for the newest 50, without sorting."""
    engine = create_engine(make_url(url).set(drivername=_driver(url)), poolclass=NullPool)
    query = str(
        queries.newest(50, version, step).compile(engine, compile_kwargs={"literal_binds": True})
    )
    with engine.begin() as connection:
        connection.execute(text("ANALYZE"))
        if engine.name == "postgresql":
            plan = connection.scalar(text(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}"))
            nodes = list(_nodes(plan[0]["Plan"]))
            assert not any("Sort" in node["Node Type"] for node in nodes)
            visits = [node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in nodes]
        else:
            steps = [row.detail for row in connection.execute(text(f"EXPLAIN QUERY PLAN {query}"))]
            assert not any("TEMP B-TREE" in step for step in steps)
            visits = [_visited(connection.connection.driver_connection, query)]
    return int(max(visits))


def _driver(url: str) -> str:
    return "sqlite" if url.startswith("sqlite") else "postgresql+psycopg"


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", []):
        yield from _nodes(part)


def _visited(connection: Any, query: str) -> int:
    """The number of rows: SQLite's virtual machine takes about 25 steps for each, at most 40."""
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    connection.set_progress_handler(count, 1)
    connection.execute(query).fetchall()
    connection.set_progress_handler(None, 0)
    return steps // 40


# Databases


def test_a_newer_log_is_rejected(url: str) -> None:
    with opened(url):
        pass
    _execute(url, "UPDATE log_state SET value = 5 WHERE name = 'schema_version'")

    with (
        pytest.raises(LogConfigurationError, match=r"version 5 .* this program knows 4"),
        opened(url),
    ):
        pass


def test_a_log_of_another_schema_is_rejected(url: str) -> None:
    with opened(url):
        pass
    _execute(url, "ALTER TABLE predictions ADD COLUMN troponin REAL")

    with pytest.raises(LogConfigurationError, match="troponin"), opened(url):
        pass


def _execute(url: str, statement: str) -> None:
    engine = create_engine(make_url(url).set(drivername=_driver(url)), poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text(statement))


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("sqlite://", "not durable"),
        ("sqlite:///:memory:", "not durable"),
        ("mysql://localhost/log", "cannot be in mysql: expected sqlite:///PATH or postgresql"),
        ("predictions.db", "cannot be read: expected sqlite:///PATH or postgresql"),
        ("postgresql://heart:hunter2@db:hunter2/log", "cannot be read: expected"),
    ],
)
def test_other_databases_are_rejected(address: str, complaint: str) -> None:
    with pytest.raises(LogConfigurationError, match=complaint) as error:
        PredictionLog(address)

    assert "hunter2" not in "".join(traceback.format_exception(error.value))


def test_a_second_process_on_sqlite_is_rejected_while_the_first_runs(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    program = f"from heart.predictions.log import PredictionLog; PredictionLog({url!r}).start(); print('in')"

    def second() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    with opened(url) as log:
        assert "more than one process needs PostgreSQL" in second().stderr
        with pytest.raises(LogConfigurationError, match="another process writes"), opened(url):
            pass
        log.append_sync(records(1))

    assert second().stdout == "in\n"


def test_several_processes_share_postgresql(postgres: Postgres) -> None:
    url = postgres.database()
    batch = records(300)
    logs = [PredictionLog(url) for _ in range(4)]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(PredictionLog.start, logs))
        list(pool.map(lambda log: [log.append_sync([record]) for record in batch], logs))
        answers = pool.map(lambda log: log.record_outcome(batch[0].id, "absence", "registry"), logs)

        assert sorted(answers) == ["created", "same", "same", "same"]
    assert [log.count() for log in logs] == [300] * 4
    assert [log.stats.failures for log in logs] == [0] * 4
    for log in logs:
        log.close()


@pytest.mark.parametrize("change", ["outcome", "erasure"])
def test_two_processes_change_the_same_prediction(postgres: Postgres, change: str) -> None:
    url = postgres.database()
    (record,) = records(1)
    with opened(url) as log, psycopg.connect(url) as other, ThreadPoolExecutor(1) as pool:
        log.append_sync([record])
        other.execute("INSERT INTO outcomes VALUES (%s, 'absence', 'registry', now())", [record.id])
        if change == "outcome":
            change_of_log: Any = pool.submit(log.record_outcome, record.id, "presence", "clinician")
        else:
            change_of_log = pool.submit(log.erase, record.id)
        until(lambda: _blocked(url))
        other.commit()

        if change == "outcome":
            with pytest.raises(OutcomeConflict):
                change_of_log.result(20)
        else:
            change_of_log.result(20)
            assert log.labelled()["outcome"] == []
        assert log.stats.failures == 0


def _blocked(url: str) -> bool:
    with psycopg.connect(url) as connection:
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        return connection.execute(waiting).fetchone() != (0,)


def test_sqlite_syncs_to_the_disk_and_readers_cannot_write(tmp_path: Path) -> None:
    with opened(f"sqlite:///{tmp_path}/log.db") as log:
        pragmas = ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
        with log.store.transaction() as writing:
            values = [writing.exec_driver_sql(f"PRAGMA {name}").scalar() for name in pragmas]
        assert values == ["wal", 2, 1, 1]
        with log.store.reading() as reader, pytest.raises(Exception, match="readonly"):
            reader.execute(text("DELETE FROM predictions"))
    assert (tmp_path / "log.db").stat().st_mode & 0o777 == 0o600


def test_postgresql_syncs_to_the_disk_whatever_the_setting_of_the_server(
    postgres: Postgres,
) -> None:
    url = postgres.database()
    _execute(url, f"ALTER DATABASE {make_url(url).database} SET synchronous_commit = 'off'")

    with opened(url) as log, log.store.transaction() as connection:
        assert connection.scalar(text("SHOW synchronous_commit")) == "on"


def test_a_row_has_the_types_of_the_schema(log: PredictionLog, url: str) -> None:
    """The tables have constraints beside the checks in Python."""
    log.append_sync(records(1))
    table = "UPDATE predictions SET "
    for change in ("age = 'old'", "probability = 2", "id = 'short'", "model_version = NULL"):
        with pytest.raises(Exception, match=r"(?i)constraint|cannot store|invalid input"):
            _execute(url, table + change)


# Texts without measurements


CANARY = 73.1919191
# A database that quotes the row in its errors: for a constraint and for a full disk.
QUOTE = """
ALTER TABLE predictions ADD CHECK (model_version <> 'rejected');
CREATE FUNCTION quote() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.model_version = 'no room' THEN
        RAISE EXCEPTION 'no room for %', NEW USING ERRCODE = 'disk_full';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER quote BEFORE INSERT ON predictions FOR EACH ROW EXECUTE FUNCTION quote();
"""


def test_no_measurement_is_in_an_error_or_a_log_line(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    patient = (54, "male", "asymptomatic", CANARY, *VALUES[4:])
    with opened(url, retry_after=0.0) as log:
        good = records(1)[0]._replace(measurements=patient)
        errors = [
            _error(log, good._replace(model_version="\ud800"), LogRejected),
            _error(log, good._replace(measurements=("CANARY", *patient[1:])), LogRejected),
        ]
        if url.startswith("postgresql"):
            _execute(url, QUOTE)
            errors.append(_error(log, good._replace(model_version="rejected"), LogRejected))
            errors.append(_error(log, good._replace(model_version="no room"), LogUnavailable))
            assert "DiskFull (53100)" in str(errors[-1])
        log.append_sync([good])
        _execute(url, "ALTER TABLE predictions RENAME TO elsewhere")
        errors.append(_error(log, good, LogUnavailable))
        with pytest.raises(LogUnavailable) as error:
            log.last(1)
        output = f"{log.ready()} {_everything(error.value)}"

    output += caplog.text + "".join(map(_everything, errors))
    assert "cannot be written" in output
    assert "CANARY" not in output
    assert str(CANARY) not in output


def _error(log: PredictionLog, record: Record, kind: type[LogError]) -> LogError:
    with pytest.raises(kind) as raised:
        log.append_sync([record])
    return raised.value


def _everything(error: BaseException | None) -> str:
    """All that a report of this error could show, suppressed causes included."""
    text = ""
    while error:
        text += repr(error) + "".join(traceback.format_exception(error))
        error = error.__context__
    return text
