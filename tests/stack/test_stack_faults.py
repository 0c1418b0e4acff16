"""What may fail without harm, and what comes back after the worst."""

import time
from pathlib import Path

import pytest

from tests.heart.predictions.logs import until
from tests.stack.conftest import REPLICAS
from tests.stack.drive import PATIENT, client, crash, health, kept, load, ready, restarts
from tests.stack.engine import Stack, docker, run

pytestmark = pytest.mark.stack
CLIENTS = 4
RESTARTS = 20


def test_a_replica_may_crash_under_load(stack: Stack) -> None:
    victim = stack.containers("app")[0]
    before = restarts(victim)

    with load(stack, CLIENTS) as message:
        time.sleep(2)
        crash(victim)
        time.sleep(8)

    # A prediction on its way to the replica may be in the log: nginx must not send it again.
    assert len(message.failed_posts) <= CLIENTS
    assert set(message.failed_posts) <= {502}
    assert message.failed_gets == []
    assert len(message.acknowledged) > 50
    assert set(message.acknowledged) <= kept(stack)
    until(lambda: restarts(victim) == before + 1, 30)
    until(lambda: ready(victim), 120)


def test_service_rejects_without_the_database_and_recovers(stack: Stack) -> None:
    with client(stack) as http:
        stack.compose("stop", "postgres")
        try:
            until(lambda: http.post("/predict", json=PATIENT).status_code == 503, 30)
            refused = http.post("/predict", json=PATIENT)
            assert refused.status_code == 503
            assert int(refused.headers["Retry-After"]) >= 1
            assert http.get("/health/live").status_code == 200
            assert http.get("/health/ready").status_code == 503
        finally:
            stack.compose("start", "postgres")
        until(lambda: http.get("/health/ready").status_code == 200, 120)
        until(lambda: http.post("/predict", json=PATIENT).status_code == 200, 60)


def test_a_database_that_restarts_under_load_loses_nothing_acknowledged(stack: Stack) -> None:
    with load(stack, CLIENTS) as message:
        time.sleep(2)
        stack.compose("restart", "--timeout", "20", "postgres")
        until(lambda: health(stack, "postgres") == "healthy", 120)
        time.sleep(10)

    assert set(message.failed_posts) <= {503}
    assert message.failed_gets == [] or set(message.failed_gets) <= {503}
    assert len(message.acknowledged) > 50
    assert set(message.acknowledged) <= kept(stack)


def test_rolling_restart_fails_no_request(stack: Stack) -> None:
    replicas = stack.containers("app")
    with load(stack, CLIENTS) as message:
        for number in range(RESTARTS):
            replica = replicas[number % len(replicas)]
            docker("restart", "--time", "20", replica)
            until(lambda replica=replica: ready(replica), 120)  # type: ignore[misc]

    assert (message.failed_posts, message.failed_gets) == ([], [])
    assert len(message.acknowledged) > 10 * RESTARTS
    assert set(message.acknowledged) <= kept(stack)


# Backup and restore


def answers(stack: Stack) -> dict[str, object]:
    """What the champion is, and what it says of a patient."""
    with client(stack) as http:
        model = http.get("/model").json()
        answer = http.post("/predict?explain=true", json=PATIENT).json()
    del answer["prediction_id"]
    return {**answer, **{key: model[key] for key in ("name", "version", "run_id", "sha256")}}


def rows(stack: Stack) -> list[str]:
    """The rows of the log, by table."""
    query = "SELECT count(*), md5(string_agg(t::text, ',' ORDER BY t::text)) FROM {} AS t"
    return [stack.sql(query.format(table)) for table in ("predictions", "outcomes")]


def test_restore_into_an_empty_stack_gives_the_same_state(stack: Stack, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    message, logged = answers(stack), rows(stack)
    run("make", "backup", f"BACKUP={backup}", COMPOSE=" ".join(stack.command))
    assert {path.name for path in backup.iterdir()} == {
        "heart.dump", "mlflow.dump", "buckets.tar", "SHA256SUMS",
    }  # fmt: skip

    other = Stack(tmp_path, stack.repository, stack.stand_ins, values=dict(stack.values))
    try:
        run("make", "restore", f"BACKUP={backup}", COMPOSE=" ".join(other.command), seconds=600)
        until(lambda: all(map(ready, other.containers("app"))), 120)
        assert rows(other) == logged
        assert answers(other) == message
    finally:
        other.remove()


def test_a_damaged_backup_is_refused_and_changes_nothing(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "heart.dump").write_text("x")
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  ./heart.dump\n")
    before = rows(stack)

    with pytest.raises(AssertionError, match=r"heart\.dump: FAILED"):
        run("make", "restore", f"BACKUP={tmp_path}", COMPOSE=" ".join(stack.command))

    assert rows(stack) == before
    assert len(stack.containers("app")) == REPLICAS
