"""The command that withdraws the outcomes of a sender."""

import json

import httpx
import pytest

from monitoring.withdraw import arguments, withdraw


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


@pytest.mark.parametrize("time", ["yesterday", "2026-11-20T00:00:00"])
def test_a_time_without_zone_is_rejected(time: str) -> None:
    with pytest.raises(SystemExit):
        arguments(["lab", "--since", time])
