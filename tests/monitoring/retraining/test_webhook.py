"""The receiver: alerts that start a retraining, its process, and its records."""

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given
from hypothesis import settings as how
from hypothesis import strategies as st
from pydantic import ValidationError

from monitoring.retraining.webhook import process
from monitoring.retraining.webhook.api import create_app
from monitoring.retraining.webhook.notification import (
    CLOCK_SKEW_SECONDS,
    DRIFT_ALERTS,
    Notification,
)
from monitoring.retraining.webhook.runs import Runs
from tests.fixtures.security import SecurityFigure
from tests.monitoring.configuration import ROOT, alert_rules
from tests.monitoring.retraining import webhook
from tests.monitoring.retraining.webhook import (
    SECRET,
    TOKEN,
    alert,
    body,
    ended,
    headers,
    let_go,
    send,
    started,
    status,
)
from tests.monitoring.stack import until

LATER = "2026-11-25T10:05:00Z"
DRIFT = {"alertname": "Feature drift", "route": "drift"}
Receiver = Callable[..., tuple[TestClient, Runs]]


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    """Start a receiver, whose settings a test may change."""
    running: list[TestClient] = []

    def start(code: int = 0, *words: str, **changes: Any) -> tuple[TestClient, Runs]:
        settings = webhook.settings(tmp_path, code, *words, **changes)
        runs = Runs(settings.folder)
        client = TestClient(create_app(settings, runs))
        client.__enter__()
        running.append(client)
        return client, runs

    yield start
    for client in running:
        client.__exit__(None, None, None)


@pytest.fixture
def client(receiver: Receiver) -> TestClient:
    return receiver()[0]


@pytest.fixture
def idle(receiver: Receiver) -> TestClient:
    """A receiver that retrains at most once, with a command that ends at once."""
    return receiver(command="true", cooldown_seconds=3600)[0]


def metric(client: TestClient, series: str) -> float:
    (line,) = (line for line in client.get("/metrics").text.splitlines() if line.startswith(series))
    return float(line.split()[-1])


def is_alive(pid: int) -> bool:
    with suppress(ProcessLookupError, FileNotFoundError):
        os.kill(pid, 0)
        # Killed, but its exit code was not read yet.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


# Alerts


def test_an_alert_starts_a_retraining_whose_end_is_recorded(
    client: TestClient, tmp_path: Path
) -> None:
    let_go(tmp_path)
    before = time.time()

    answer = send(client, body(alert(), alert(feature="age"), alert(feature="thallium")))
    run = ended(client)

    assert (answer.status_code, answer.json()) == (202, {"status": "started"})
    assert run["trigger"] == "drift: thallium, age of model version 3"
    assert (run["exit_code"], run["result"]) == (0, "done")
    assert run["verdict"] == "promoted"
    assert run["started"] <= run["ended"]
    assert Path(run["log"]).read_text().startswith("ten new rows\n")
    (text,) = started(tmp_path)
    assert text.splitlines()[:2] == ["--trigger", run["trigger"]]
    assert metric(client, 'heart_retrain_runs_total{result="done"}') == 1
    assert metric(client, 'heart_retrain_hooks_total{response="started"}') == 1
    last = 'heart_retrain_last_run_timestamp_seconds{result="done"}'
    assert before <= metric(client, last) <= time.time()


def test_before_any_alert_all_series_are_zero(client: TestClient) -> None:
    for result in ("done", "waiting", "failed", "timed_out", "stopped"):
        assert metric(client, f'heart_retrain_runs_total{{result="{result}"}}') == 0
    for answer in ("started", "seen", "running", "cooling_down", "ignored", "rejected"):
        assert metric(client, f'heart_retrain_hooks_total{{response="{answer}"}}') == 0
    assert metric(client, "heart_retrain_running") == 0
    assert client.get("/health/live").json() == {"status": "live"}
    head = client.head("/health/live")
    assert (head.status_code, head.content) == (200, b"")
    assert status(client) == {
        "running": False,
        "cooldown_seconds_left": 0,
        "cooldown_until": None,
        "last_alert": None,
        "runs": [],
    }


def test_alert_is_accepted_again_if_its_retraining_lacked_outcomes(
    receiver: Receiver, tmp_path: Path
) -> None:
    let_go(tmp_path)
    client, _ = receiver(os.EX_TEMPFAIL)
    send(client, body(alert()))
    run = ended(client)
    joined = body(alert(), alert(LATER, "age"))

    again = send(client, joined)

    assert (run["exit_code"], run["result"]) == (75, "waiting")
    assert (again.status_code, again.json()) == (202, {"status": "started"})
    assert metric(client, 'heart_retrain_runs_total{result="waiting"}') == 1
    ended(client)
    assert send(client, body(alert(LATER, "age"))).status_code == 202  # what joined is free too


def test_the_same_alert_again_starts_nothing(client: TestClient, tmp_path: Path) -> None:
    let_go(tmp_path)
    send(client)
    ended(client)

    again = send(client)

    assert (again.status_code, again.json()) == (200, {"status": "seen"})
    assert len(started(tmp_path)) == 1


def test_an_alert_that_joins_or_remains_of_an_episode_starts_nothing(
    client: TestClient, tmp_path: Path
) -> None:
    let_go(tmp_path)
    send(client, body(alert()))
    ended(client)

    joined = send(client, body(alert(), alert(LATER, "age")))
    left = send(client, body(alert(status="resolved"), alert(LATER, "age")))

    assert [joined.json(), left.json()] == [{"status": "seen"}] * 2


@pytest.mark.parametrize(
    "news", [{"alerts": [alert(LATER)]}, {"alerts": [alert()], "group": "that of version 4"}]
)
def test_another_start_or_another_group_is_a_new_alert(
    news: dict[str, Any], client: TestClient, tmp_path: Path
) -> None:
    let_go(tmp_path)
    send(client)
    ended(client)

    answer = send(client, body(*news["alerts"], group=news.get("group", webhook.GROUP)))

    assert answer.status_code == 202
    ended(client)
    assert len(started(tmp_path)) == 2


def test_a_resolved_alert_is_ignored(client: TestClient, tmp_path: Path) -> None:
    answer = send(client, body(alert(status="resolved")))

    assert (answer.status_code, answer.json()) == (200, {"status": "ignored"})
    assert started(tmp_path) == []
    assert send(client, body(alert())).status_code == 202  # and was not taken for seen


# Reasons of Grafana for a state that no value of the query explains.
UNMEASURED = [
    "Error, KeepLast", "NoData, KeepLast", "KeepLast", "Error", "NoData", "MissingSeries", "Paused",
    "a reason that Grafana does not have yet",
]  # fmt: skip


def unmeasured(reason: str, feature: str = "thallium", **changes: Any) -> dict[str, Any]:
    """An alert on drift whose last evaluation had no value."""
    fired = alert(feature=feature)
    annotations = {**fired["annotations"], "grafana_state_reason": reason}
    return {**fired, "annotations": annotations, "values": None, **changes}


def contact_point_test(**labels: str) -> bytes:
    """What the button "Test" of a contact point in Grafana sends, with labels that its user adds.

    After `newTestAlert` and `TestNotifier` of github.com/grafana/alerting, which also make the key of the group.
    """
    test = {
        "status": "firing",
        "labels": {"alertname": "TestAlert", "instance": "Grafana", **labels},
        "annotations": {"summary": "Notification test"},
        "startsAt": "2026-11-25T10:00:00.123456789Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "",
        "fingerprint": "57c6d9296de2ad39",
        "valueString": "[ metric='foo' labels={instance=bar} value=10 ]",
    }
    return body(test, group="webhook-57c6d9296de2ad39-1764064800")


@pytest.mark.security
@pytest.mark.parametrize(
    "content",
    [
        contact_point_test(),
        contact_point_test(alertname="Feature drift", route="drift", feature="age"),
        contact_point_test(alertname="Feature drift", route="drift", instance=""),
        body({**alert(), "labels": {**alert()["labels"], "instance": ""}}),
        body({**alert(), "labels": {"alertname": "Service down", "route": "service"}}),
        *(
            body({**alert(), "labels": {**alert()["labels"], "alertname": name}})
            for name in ("DatasourceNoData", "DatasourceError", "A rule of somebody else", "")
        ),
        *(body(unmeasured(reason)) for reason in UNMEASURED),
        *(body(unmeasured(reason, values=alert()["values"])) for reason in UNMEASURED),
        body({**alert(), "values": None}),
        body({**alert(), "values": {}}),
        body({name: value for name, value in alert().items() if name != "values"}),
    ],
)
def test_no_other_notification_than_drift_starts_a_retraining(
    content: bytes, receiver: Receiver, tmp_path: Path, security_figure: SecurityFigure
) -> None:
    client, _ = receiver(cooldown_seconds=600)

    answer = send(client, content)

    assert (answer.status_code, answer.json()) == (200, {"status": "ignored"})
    assert started(tmp_path) == []
    assert status(client)["cooldown_seconds_left"] == 0
    let_go(tmp_path)
    assert send(client).status_code == 202  # an alert on drift afterwards is not delayed
    security_figure(
        'Grafana\'s "Test" button, other alerts, alerts without data',
        "ignored, no retraining, no cool-down",
        "no retraining",
    )


def test_of_several_alerts_only_the_measured_ones_count(client: TestClient, tmp_path: Path) -> None:
    let_go(tmp_path)
    lost = unmeasured("Error, KeepLast", "age", startsAt=LATER)

    answer = send(client, body(lost, alert(feature="thallium")))

    assert answer.status_code == 202
    assert ended(client)["trigger"] == "drift: thallium of model version 3"
    measured_later = send(client, body(alert(LATER, "age")))
    assert measured_later.json() == {"status": "started"}


@pytest.mark.security
def test_a_retraining_that_only_waited_starts_no_cool_down(
    receiver: Receiver, tmp_path: Path, security_figure: SecurityFigure
) -> None:
    let_go(tmp_path)
    client, _ = receiver(os.EX_TEMPFAIL, cooldown_seconds=600)
    send(client)
    run = ended(client)

    left = status(client)["cooldown_seconds_left"]

    assert (run["result"], left) == ("waiting", 0)
    assert send(client, body(alert(LATER))).status_code == 202
    security_figure(
        "alert while another retraining holds the lock", "waits, no cool-down", "no cool-down"
    )


def test_an_alert_during_a_retraining_counts_when_it_is_repeated(
    client: TestClient, tmp_path: Path
) -> None:
    send(client)
    until(lambda: started(tmp_path), pause=0.01)

    meanwhile = send(client, body(alert(LATER)))
    running = status(client)

    assert (meanwhile.status_code, meanwhile.json()) == (200, {"status": "running"})
    assert metric(client, "heart_retrain_running") == 1
    assert running["running"]
    assert [run["ended"] for run in running["runs"]] == [None]
    let_go(tmp_path)
    ended(client)
    assert metric(client, "heart_retrain_running") == 0
    assert send(client, body(alert(LATER))).status_code == 202


def test_after_a_retraining_alerts_wait_for_the_cool_down(
    receiver: Receiver, tmp_path: Path
) -> None:
    client, runs = receiver(cooldown_seconds=600)
    let_go(tmp_path)
    assert send(client).status_code == 202  # none ran before
    ended(client)

    early = send(client, body(alert(LATER)))

    assert (early.status_code, early.json()) == (200, {"status": "cooling_down"})
    assert 590 <= status(client)["cooldown_seconds_left"] <= 600
    now = status(client)
    assert now["last_alert"]["response"] == "cooling_down"
    assert now["last_alert"]["trigger"] == "drift: thallium of model version 3"
    assert runs.last_alert() is not None  # in the file: it survives a restart
    left = datetime.fromisoformat(now["cooldown_until"]) - datetime.now(UTC)
    assert 580 <= left.total_seconds() <= 600
    runs.clock = lambda: time.time() + 601
    assert send(client, body(alert(LATER))).status_code == 202


def test_a_clock_that_was_set_back_does_not_block_retraining(
    receiver: Receiver, tmp_path: Path
) -> None:
    client, runs = receiver(cooldown_seconds=600)
    let_go(tmp_path)
    send(client)
    ended(client)

    runs.clock = lambda: time.time() - 3600

    assert send(client, body(alert(LATER))).status_code == 202


# The process


def test_a_failure_is_recorded(receiver: Receiver, tmp_path: Path) -> None:
    client, _ = receiver(3)
    let_go(tmp_path)

    send(client)
    run = ended(client)

    assert (run["exit_code"], run["result"]) == (3, "failed")
    assert metric(client, 'heart_retrain_runs_total{result="failed"}') == 1


def test_a_missing_command_is_a_failure(receiver: Receiver) -> None:
    client, _ = receiver(command="/nowhere/retrain")

    assert send(client).status_code == 202
    run = ended(client)

    assert (run["result"], run["exit_code"]) == ("failed", None)
    assert run["verdict"].endswith(": No such file or directory")


def test_at_the_time_limit_all_its_processes_end(receiver: Receiver, tmp_path: Path) -> None:
    client, _ = receiver(0, "--child", time_limit_seconds=2)

    send(client)
    run = ended(client)

    assert (run["result"], run["exit_code"]) == ("timed_out", None)
    assert "2 s" in run["verdict"]
    assert not is_alive(int((tmp_path / "child").read_text()))


def test_a_process_that_ignores_sigterm_is_killed(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "GRACE_SECONDS", 0.2)
    deaf = "trap '' TERM; echo $$ > pid; for i in $(seq 600); do sleep 0.1; done"
    monkeypatch.chdir(tmp_path)
    client, _ = receiver(command=f'sh -c "{deaf}"', time_limit_seconds=0.3)

    send(client)

    assert ended(client)["result"] == "timed_out"
    assert not is_alive(int((tmp_path / "pid").read_text()))


def test_child_processes_end_with_the_retraining(receiver: Receiver, tmp_path: Path) -> None:
    client, _ = receiver(0, "--child")
    let_go(tmp_path)

    send(client)

    assert ended(client)["result"] == "done"
    assert not is_alive(int((tmp_path / "child").read_text()))


def test_a_retraining_has_the_environment_without_the_secrets(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEART_RETRAIN_TOKEN", TOKEN)
    monkeypatch.setenv("heart_retrain_secret", SECRET)
    monkeypatch.setenv("HEART_LOG_URL", "sqlite:///log.db")
    let_go(tmp_path)

    send(client)
    ended(client)

    (text,) = started(tmp_path)
    assert "HEART_LOG_URL=sqlite:///log.db" in text
    assert TOKEN not in text
    assert SECRET not in text


def test_only_the_newest_logs_are_kept(receiver: Receiver, tmp_path: Path) -> None:
    client, _ = receiver(kept_logs=2)
    let_go(tmp_path)

    for minute in range(4):
        send(client, body(alert(f"2026-11-25T10:0{minute}:00Z")))
        ended(client)

    names = sorted(path.name for path in (tmp_path / "state" / "logs").iterdir())
    assert names == ["000003.log", "000004.log"]
    assert [run["number"] for run in status(client)["runs"]] == [4, 3, 2, 1]


def test_logs_open_in_a_moved_folder(tmp_path: Path) -> None:
    before = Runs(tmp_path / "before")
    number = before.begin([], "drift").number
    before.close()
    (tmp_path / "before").rename(tmp_path / "after")

    after = Runs(tmp_path / "after")
    [run] = after.last(1)
    after.close()

    assert run.log == str(tmp_path / "after" / "logs" / f"{number:06d}.log")


@pytest.mark.parametrize(
    ("labels", "trigger"),
    [
        ({"feature": "$(reboot)", "model_version": "3; ls"}, "drift: an alert"),
        ({"feature": "--force", "model_version": "3"}, "drift: an alert of model version 3"),
        ({"feature": "age\n\x00", "model_version": "1" * 50}, "drift: an alert"),
        ({}, "drift: an alert"),
        ({"alertname": "Score drift", "feature": "score"}, "drift: score"),
    ],
)
def test_only_names_and_numbers_of_an_alert_become_arguments(
    labels: dict[str, str], trigger: str, client: TestClient, tmp_path: Path
) -> None:
    let_go(tmp_path)

    send(client, body({**alert(), "labels": {**DRIFT, **labels}}))

    assert ended(client)["trigger"] == trigger


# Access


@pytest.mark.parametrize(
    "changes",
    [
        {"authorization": None},
        {"authorization": "Bearer " + TOKEN[:-1]},
        {"authorization": "Basic " + TOKEN},
        {"x_grafana_alerting_signature": None},
        {"x_grafana_alerting_signature": ""},
        {"x_grafana_alerting_signature": "0" * 64},
        {"x_grafana_alerting_signature": headers(body(alert(LATER)))["x-grafana-alerting-signature"]},
        {"x_grafana_alerting_timestamp": None},
        {"x_grafana_alerting_timestamp": str(int(time.time()) + 1)},
    ],
)  # fmt: skip
def test_a_request_without_valid_token_or_signature_is_rejected(
    changes: dict[str, Any], client: TestClient, tmp_path: Path
) -> None:
    assert send(client, **changes).status_code == 401

    assert started(tmp_path) == []
    assert status(client)["runs"] == []
    assert metric(client, 'heart_retrain_hooks_total{response="rejected"}') == 1


@pytest.mark.parametrize("timestamp", ["", "now", "-1", "1e9", "12.5", " 12", "9" * 12, "9" * 5000])
def test_an_invalid_time_stamp_is_rejected_even_if_it_is_signed(
    timestamp: str, client: TestClient
) -> None:
    content = body()
    signature = headers(content, timestamp or " ")["x-grafana-alerting-signature"]
    values = headers(content, x_grafana_alerting_signature=signature)

    answer = client.post(
        "/hooks/grafana",
        content=content,
        headers=values | {"x-grafana-alerting-timestamp": timestamp},
    )

    assert answer.status_code == 401


@pytest.mark.parametrize("sign", [-1, 1])
def test_five_minutes_of_clock_skew_are_allowed(sign: int, client: TestClient) -> None:
    now = int(time.time())

    far = send(client, timestamp=str(now + sign * (CLOCK_SKEW_SECONDS + 30)))
    near = send(client, timestamp=str(now + sign * (CLOCK_SKEW_SECONDS - 30)))

    assert (far.status_code, near.status_code) == (401, 202)


def test_the_run_history_requires_the_token(client: TestClient) -> None:
    assert client.get("/status").status_code == 401


def test_browsers_and_other_hosts_are_rejected(client: TestClient, tmp_path: Path) -> None:
    hosts = [send(client, host="evil.example"), client.get("/metrics", headers={"host": "evil"})]
    pages = [
        send(client, origin="http://localhost:3000"),
        send(client, sec_fetch_site="same-site"),
        client.get("/metrics", headers={"origin": "http://localhost:3000"}),
    ]

    assert [answer.status_code for answer in hosts] == [421] * 2
    assert "HEART_RETRAIN_ALLOWED_HOSTS" in hosts[0].json()["detail"]
    assert [answer.status_code for answer in pages] == [403] * 3
    assert started(tmp_path) == []
    calls = [
        client.get("/metrics", headers={"host": host}) for host in ("localhost", "10.1.2.3:80")
    ]
    assert [answer.status_code for answer in calls] == [200] * 2
    for answer in (*hosts, *pages, *calls):
        assert answer.headers["x-frame-options"] == "DENY"


def test_no_line_of_the_log_has_a_secret_or_the_body(
    client: TestClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    let_go(tmp_path)
    send(client, body({**alert(), "labels": {**DRIFT, "feature": "Patient Zero"}}))
    ended(client)
    send(client, b"Patient Zero")
    send(client, x_grafana_alerting_signature="Patient Zero")

    assert "retraining 1 ended: done" in caplog.text
    for canary in (TOKEN, SECRET, "Patient Zero"):
        assert canary not in caplog.text


# Invalid bodies


def test_a_compressed_body_is_not_unpacked(client: TestClient) -> None:
    assert send(client, content_encoding="gzip").status_code == 415


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", None])
def test_a_body_of_another_type_is_not_read_as_json(
    kind: str | None, client: TestClient, tmp_path: Path
) -> None:
    assert send(client, content_type=kind).status_code == 415
    assert started(tmp_path) == []


def test_a_body_that_is_too_long_is_rejected(receiver: Receiver) -> None:
    client, _ = receiver(max_body_bytes=len(body()))

    assert send(client, body() + b" ").status_code == 413
    assert send(client, body()).status_code == 202


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b"[" * 100_000, b'{"groupKey": "\\ud800"}']
)
def test_a_body_that_is_not_json_is_rejected(content: bytes, client: TestClient) -> None:
    answer = send(client, content)

    assert (answer.status_code, answer.json()["type"]) == (400, "/problems#bad-request")
    assert "line 1 column" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        ({"alerts": []}, "groupKey: Field required"),
        ({"groupKey": "g", "alerts": None}, "alerts: Input should be a valid array"),
        ({"groupKey": "g", "alerts": [{"status": "firing"}]}, "alerts.0.startsAt: Field required"),
        ([], "body: Input should be"),
    ],
)
def test_an_invalid_notification_is_rejected_with_the_place(
    content: Any, detail: str, client: TestClient
) -> None:
    answer = send(client, json.dumps(content).encode())

    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(detail)


@pytest.mark.parametrize(
    "alerts",
    [
        [[]] * 1000,
        [{}] * 1000,
        *(
            [{**alert(), name: {key: [] for key in "abcdefghi"}}]
            for name in ("labels", "annotations", "values")
        ),
    ],
    ids=["lists", "empty", "labels", "annotations", "values"],
)
def test_validation_stops_at_the_first_error(alerts: Any) -> None:
    with pytest.raises(ValidationError) as error:
        Notification.model_validate({"groupKey": "g", "alerts": alerts})

    assert {problem["loc"][1] for problem in error.value.errors()} == {0}
    assert error.value.error_count() <= 2


def test_without_a_writable_history_nothing_starts(receiver: Receiver, tmp_path: Path) -> None:
    client, runs = receiver()
    runs.close()

    answer = send(client)

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "60"
    assert metric(client, 'heart_retrain_hooks_total{response="unavailable"}') == 1
    assert started(tmp_path) == []


def json_values() -> st.SearchStrategy[Any]:
    return st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=6,
    )


NOTIFICATIONS = st.fixed_dictionaries(
    {},
    optional={
        "groupKey": st.text() | json_values(),
        "alerts": st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "status": st.sampled_from(["firing", "resolved"]) | json_values(),
                    "startsAt": st.text() | json_values(),
                    "labels": st.dictionaries(st.text(), st.text()) | json_values(),
                    "annotations": st.dictionaries(st.text(), st.text()) | json_values(),
                    "values": st.dictionaries(st.text(), st.floats()) | json_values(),
                },
            ),
            max_size=3,
        ),
    },
)
BODIES = st.binary() | (json_values() | NOTIFICATIONS).map(lambda value: json.dumps(value).encode())


@how(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=BODIES, signature=st.binary(max_size=80) | st.none())
def test_every_body_and_every_signature_has_a_response(
    content: bytes, signature: bytes | None, idle: TestClient
) -> None:
    values: dict[str, Any] = headers(content)
    if signature is not None:
        values["x-grafana-alerting-signature"] = signature.hex()

    answer = idle.post("/hooks/grafana", content=content, headers=values)

    expected = {200, 202, 400, 422} if signature is None else {401}
    assert answer.status_code in expected


# Parts


def test_the_alerts_that_start_a_retraining_are_those_of_the_rules_on_drift() -> None:
    rules = [rule for rule in alert_rules().values() if rule["labels"]["route"] == "drift"]

    assert {rule["title"] for rule in rules} == set(DRIFT_ALERTS)


def test_the_receiver_imports_nothing_of_the_service() -> None:
    code = "import sys, monitoring.retraining.webhook.api; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()

    assert {"fastapi", "heart.http.concurrency"} <= set(loaded)
    heavy = {
        "sqlalchemy",
        "onnxruntime",
        "mlflow",
        "gradio",
        "heart.predictions.log",
        "serve.metrics",
    }
    assert heavy.isdisjoint(loaded)


@pytest.mark.parametrize(
    ("log", "verdict"),
    [
        ("", ""),
        ("\n \n", ""),
        ("one\ntwo\n\n", "two"),
        ("one\rtwo", "two"),
        ("x" * 10_000, "x" * 200),
        ("\x1b[2Jcleared\x07", "[2Jcleared"),
    ],
)
def test_the_verdict_is_the_last_line(log: str, verdict: str, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(log)

    assert process.last_line(path) == verdict
