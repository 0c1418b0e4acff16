"""The command that withdraws the outcomes of a sender."""

import json

import httpx
import pytest

from heart.errors import UserError
from monitoring import client as clients
from monitoring.withdraw import arguments, withdraw
from tests.answering import silent


def client(status: int, content: object, requests: list[httpx.Request]) -> httpx.Client:
    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(status, json=content)

    return httpx.Client(base_url="http://service", transport=httpx.MockTransport(answer))


def test_the_command_sends_sender_and_times() -> None:
    requests: list[httpx.Request] = []
    options = arguments(["lab", "--since", "2026-11-20T00:00:00Z"])

    withdrawn = withdraw(client(200, {"sender": "lab", "withdrawn": 62}, requests), options)

    assert withdrawn == 62
    assert requests[0].url.path == "/admin/outcomes/withdraw"
    assert json.loads(requests[0].content) == {
        "sender": "lab",
        "since": "2026-11-20T00:00:00+00:00",
        "until": None,
    }


def test_a_rejection_is_reported() -> None:
    with pytest.raises(SystemExit, match="403"):
        withdraw(client(403, {"detail": "the scope admin is required"}, []), arguments(["lab"]))


def test_an_error_has_the_reason_and_a_hint_only_if_the_token_is_refused() -> None:
    for status, hinted in ((401, True), (403, True), (422, False), (503, False)):
        answer = client(status, {"type": "/problems#x", "detail": "the reason"}, [])
        with pytest.raises(SystemExit) as end:
            withdraw(answer, arguments(["lab"]))
        assert "the reason" in str(end.value)
        assert "/problems" not in str(end.value)
        assert ("HEART_API_TOKEN" in str(end.value)) is hinted


def test_a_failed_commit_is_not_said_to_have_withdrawn_nothing() -> None:
    endings = []
    for status in (422, 503):
        with pytest.raises(SystemExit) as end:
            withdraw(client(status, {"detail": "no"}, []), arguments(["lab"]))
        endings.append("nothing is withdrawn" in str(end.value))
    assert endings == [True, False]


def test_a_sender_without_outcomes_is_an_error() -> None:
    with pytest.raises(SystemExit, match="labb"):
        withdraw(client(200, {"sender": "labb", "withdrawn": 0}, []), arguments(["labb"]))


@pytest.mark.parametrize(
    "time",
    [
        "yesterday",
        "2026-11-20T00:00:00",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-00:01",
    ],
)
@pytest.mark.parametrize("option", ["--since", "--until"])
def test_a_time_without_zone_or_outside_of_utc_is_rejected(option: str, time: str) -> None:
    with pytest.raises(SystemExit) as end:
        arguments(["lab", option, time])

    assert end.value.code == 2


def test_the_first_and_last_time_are_accepted() -> None:
    options = arguments(["lab", "--since=0001-01-01T00:00:00Z", "--until=9999-12-31T23:59:59Z"])

    assert (options.since[:4], options.until[:4]) == ("0001", "9999")


def test_a_silent_service_is_an_error_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "ANSWER_SECONDS", 0.2)

    with silent() as url, pytest.raises(UserError) as error, clients.service(url, seconds=60):
        pytest.fail("there is no service")

    assert str(error.value).startswith(f"no service at {url}: ")


@pytest.mark.parametrize("url", ["nonsense", "localhost:8000", "http://", "http://localhost:80000"])
def test_an_address_that_is_none_is_rejected(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments(["lab", "--url", url])

    assert "argument --url: " in capsys.readouterr().err
