"""The command that shows what the receiver of alerts has done."""

from typing import Any

import httpx
import pytest

from monitoring.retraining.status import describe, fetch, main

ALERT = {
    "received": "2026-11-25T10:00:31+00:00",
    "trigger": "drift: age",
    "response": "cooling_down",
}
RUN = {
    "number": 7,
    "trigger": "drift: thallium",
    "log": "/state/logs/000007.log",
    "started": "2026-11-25T09:00:00+00:00",
    "ended": "2026-11-25T09:05:00+00:00",
    "exit_code": 0,
    "result": "done",
    "verdict": "challenger version 4: rejected",
}
NOTHING: dict[str, Any] = {
    "running": False,
    "cooldown_seconds_left": 0,
    "cooldown_until": None,
    "last_alert": None,
    "runs": [],
}


def client(status: int, content: object) -> httpx.Client:
    answer = httpx.MockTransport(lambda _: httpx.Response(status, json=content))
    return httpx.Client(base_url="http://receiver", transport=answer)


def test_the_command_needs_the_token_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HEART_RETRAIN_TOKEN", "a-token-of-the-receiver")
    monkeypatch.delenv("HEART_RETRAIN_SECRET", raising=False)
    monkeypatch.setattr("sys.argv", ["status", "--url", "http://127.0.0.1:9"])

    with pytest.raises(SystemExit, match="no receiver at"):
        main()


def test_a_receiver_without_alerts_has_a_status() -> None:
    text = describe(fetch(client(200, NOTHING)))

    assert len(text.splitlines()) == 4


def test_the_status_has_alert_verdict_log_and_cooldown() -> None:
    until = "2026-11-25T10:05:00+00:00"
    text = describe({**NOTHING, "cooldown_until": until, "last_alert": ALERT, "runs": [RUN]})

    for shown in (ALERT["received"], ALERT["trigger"], RUN["verdict"], RUN["log"], until, "done"):
        assert str(shown) in text


def test_a_run_under_way_is_not_taken_for_the_last_one() -> None:
    now = {**RUN, "number": 8, "ended": None, "result": None, "verdict": None}

    text = describe({**NOTHING, "running": True, "runs": [now, RUN]})

    assert "retraining 8 runs" in text
    assert "last run     7" in text


def test_a_rejection_is_reported() -> None:
    with pytest.raises(SystemExit, match="401"):
        fetch(client(401, {"detail": "a token is required"}))
