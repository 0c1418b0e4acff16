"""What visitors of the page have in progress is limited, for one and for all, before a body is read."""

import asyncio
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response

from heart.http.concurrency import ConcurrencyLimiter
from heart.http.quotas import Attempts, Quota, QuotaExceeded, Reservations, client_of
from serve.page_paths import CALL, LOGIN, POSTED
from serve.ui import LazyPage
from serve.ui.visitors import EACH, LOGINS_EACH, MAX_CALL_BYTES, MAX_LOGIN_BYTES, TOTAL
from tests.fixtures.security import SecurityFigure
from tests.serve.ui.page_fixture import TOKEN, GradioPage


class Waiting:
    """A page whose events wait until they are released."""

    def __init__(self) -> None:
        self.released = asyncio.Event()
        self.page = LazyPage(self.build, ConcurrencyLimiter(1000, 10**9))
        self.read = 0  # requests of which a body was read

    def build(self, _: Path) -> FastAPI:
        app = FastAPI()

        @app.post(CALL)
        async def call(request: Request) -> int:
            length = len(await request.body())
            await self.released.wait()
            return length

        @app.post(LOGIN)
        async def login() -> Response:
            return Response(status_code=400)

        return app

    async def post(self, client: str, path: str = CALL, length: int = 2) -> tuple[int, str]:
        """The status and the Retry-After of the response to a request."""
        sent: list[Any] = []

        async def receive() -> Any:
            self.read += 1
            return {"type": "http.request", "body": b"x" * length, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": "POST", "path": path, "query_string": b"",
            "headers": [
                (b"content-length", b"%d" % length), (b"content-type", POSTED[path][0].encode()),
            ],
            "client": (client, 1),
            "http_version": "1.1", "scheme": "http", "server": ("a", 80), "root_path": "",
        }  # fmt: skip
        await self.page(scope, receive, send)
        return sent[0]["status"], dict(sent[0]["headers"]).get(b"retry-after", b"").decode()

    async def start(self) -> None:
        await self.page.start()
        assert await self.page.ready()


async def many(page: Waiting, clients: list[str], length: int = 2) -> list[int]:
    """The statuses of requests that wait at the same time."""
    tasks = [asyncio.create_task(page.post(client, length=length)) for client in clients]
    await asyncio.sleep(0)
    page.released.set()
    return [status for status, _ in await asyncio.gather(*tasks)]


@pytest.mark.security
@pytest.mark.parametrize(
    ("clients", "length", "expected"),
    [
        (["a"] * (EACH.requests + 5), 2, {200: EACH.requests, 429: 5}),
        (
            [f"{number % 9}" for number in range(TOTAL.requests + 9)],
            2,
            {200: TOTAL.requests, 503: 9},
        ),
        (["a"] * 5, MAX_CALL_BYTES, {200: 2, 429: 3}),
        ([f"{number}" for number in range(12)], MAX_CALL_BYTES, {200: 8, 503: 4}),
    ],
    ids=["events of one", "events of all", "files of one", "files of all"],
)
def test_events_and_files_in_progress_are_limited_before_they_are_read(
    request: pytest.FixtureRequest,
    clients: list[str],
    length: int,
    expected: dict[int, int],
    security_figure: SecurityFigure,
) -> None:
    async def story() -> tuple[list[int], int]:
        waiting = Waiting()
        await waiting.start()
        try:
            statuses = await many(waiting, clients, length)
            return statuses, waiting.read
        finally:
            await waiting.page.stop()

    statuses, read = asyncio.run(story())

    assert {status: statuses.count(status) for status in set(statuses)} == expected
    assert read == expected[200]
    what = request.node.callspec.id
    security_figure(
        f"the page: {len(clients)} {what} at the same time",
        f"{expected[200]} admitted, nothing of the others read",
        f"{expected[200]} at a time",
    )


@pytest.mark.security
def test_failed_log_ins_of_one_client_are_limited(security_figure: SecurityFigure) -> None:
    async def story() -> tuple[list[int], tuple[int, str], int, int]:
        waiting = Waiting()
        await waiting.start()
        try:
            failed = [(await waiting.post("a", LOGIN))[0] for _ in range(LOGINS_EACH)]
            read, refused = waiting.read, await waiting.post("a", LOGIN)
            assert waiting.read == read
            other = (await waiting.post("b", LOGIN))[0]
            return failed, refused, other, (await waiting.post("c", LOGIN, MAX_LOGIN_BYTES + 1))[0]
        finally:
            await waiting.page.stop()

    failed, (refused, retry_after), other, long = asyncio.run(story())

    assert (set(failed), refused, other, long) == ({400}, 429, 400, 413)
    assert 1 <= int(retry_after) <= 60
    security_figure(
        "guessing the token on the page, from one address",
        f"rejected from attempt {len(failed) + 1} on",
        f"{LOGINS_EACH} failures a minute",
    )


def test_a_log_in_takes_no_slot_and_successes_are_not_counted(closed_page: GradioPage) -> None:
    for _ in range(LOGINS_EACH + 1):
        closed_page.log_in()

    answer = closed_page.client.post("/login", data={"username": "x", "password": TOKEN + "x"})

    assert answer.status_code == 400


def test_the_period_of_attempts_ends() -> None:
    now = [0.0]
    attempts = Attempts(2, 3, 60, lambda: now[0])
    for client in ("a", "a"):
        attempts.check(client)
        attempts.fail(client)

    with pytest.raises(QuotaExceeded) as own:
        attempts.check("a")
    attempts.fail("b")
    with pytest.raises(QuotaExceeded) as total:
        attempts.check("c")
    now[0] = 60.0
    attempts.check("a")

    assert [(e.value.own, e.value.seconds) for e in (own, total)] == [(True, 60), (False, 60)]


def test_a_reservation_is_released_also_by_an_error() -> None:
    reservations = Reservations(Quota(1, 10), Quota(2, 15))
    with pytest.raises(RuntimeError), reservations.reserve("a", 10):
        raise RuntimeError

    with ExitStack() as stack:
        stack.enter_context(reservations.reserve("a", 10))
        with pytest.raises(QuotaExceeded), reservations.reserve("a", 0):
            pass
        with pytest.raises(QuotaExceeded), reservations.reserve("b", 6):
            pass
        stack.enter_context(reservations.reserve("b", 5))
    assert reservations.clients == 0
    with reservations.reserve("a", 10), reservations.reserve("b", 5):
        assert reservations.clients == 2


def test_a_host_is_one_client_whatever_address_of_its_network_it_uses() -> None:
    hosts = ("2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1", "192.0.2.1", "192.0.2.2", "unix")
    first, same, other, *rest = (client_of({"client": (host, 1)}) for host in hosts)

    assert first == same != other
    assert len({first, other, *rest}) == 5
    assert client_of({"client": None}) == ""
