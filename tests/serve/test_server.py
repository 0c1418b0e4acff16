"""The whole service, as a process, under what happens to it: its end, too much to do, slow clients."""

import asyncio
import resource
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import psycopg
import pytest
import uvicorn

import serve.server
from heart.http.concurrency import LONG_BODIES
from heart.http.limits import HttpLimits
from heart.http.sub_path import SubPath
from serve.api.models import EXAMPLE
from serve.app import create_app
from serve.server import DrainingServer
from tests.heart.predictions.logs import Postgres, opened, until
from tests.serve.http import Answer, answer, begun, request
from tests.serve.server_process import SERVE, Server, own_environment, served
from tests.serve.small_service import parts

pytestmark = pytest.mark.integration

PREDICT = request("/predict", EXAMPLE)
Start = Callable[..., Server]


@pytest.fixture
def start(published: Path, tmp_path: Path) -> Iterator[Start]:
    """Start the service, which ends with the test."""
    with ExitStack() as stack:
        registry = published / "registry" / "mlflow.db"
        yield lambda **options: stack.enter_context(served(tmp_path, registry, **options))


@contextmanager
def held_log(url: str) -> Iterator[None]:
    """While this lasts nothing can be written to the log, and so nothing is answered.

    PostgreSQL waits for a lock as long as it takes, SQLite would give up.
    """
    with psycopg.connect(url) as connection:
        connection.execute("LOCK TABLE predictions IN EXCLUSIVE MODE")
        yield


@asynccontextmanager
async def connections(
    port: int, count: int
) -> AsyncIterator[list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]:
    made = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
    try:
        yield made
    finally:
        for _, writer in made:
            writer.close()


def read_all_before(server: Server) -> None:
    """Two ways to the server and back: it has read what was sent before the second."""
    for _ in range(2):
        assert server.client.get("/health/live").status_code == 200


# The start


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (
            "mysql://heart:hunter2@db/heart",
            "the prediction log cannot be in mysql: expected sqlite:///PATH or "
            "postgresql+psycopg://USER:PASSWORD@HOST/DATABASE",
        ),
        (
            "postgresql://heart:hunter2@db:hunter2/heart",
            "expected a port from 1 to 65535 after the host",
        ),
        (
            "sqlite:///taken.db",
            "another process writes taken.db: more than one process needs PostgreSQL",
        ),
    ],
    ids=["another database", "no port", "taken"],
)
def test_unusable_log_ends_the_start_with_one_line(tmp_path: Path, url: str, reason: str) -> None:
    with opened(f"sqlite:///{tmp_path}/taken.db"):
        done = subprocess.run(
            SERVE, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=60,
            env=own_environment(log_url=url, port=0),
        )  # fmt: skip

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: HEART_LOG_URL: {reason}\n"


def test_the_address_that_is_printed_is_the_one_that_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app = create_app(*parts(tmp_path), with_page=False)

    async def story() -> int:
        server = DrainingServer(uvicorn.Config(app, port=0, log_level="warning"))
        running = asyncio.create_task(server.serve())
        await asyncio.to_thread(until, lambda: server.started)
        port: int = server.servers[0].sockets[0].getsockname()[1]
        server.should_exit = True
        await running
        return port

    port = asyncio.run(story())

    assert capsys.readouterr().out.startswith(f"http://127.0.0.1:{port}  page /  ")


def test_an_address_that_is_taken_is_not_printed(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = subprocess.run(
            SERVE, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=60,
            env=own_environment(port=taken.getsockname()[1]),
        )  # fmt: skip

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: HEART_HOST=127.0.0.1, HEART_PORT=")
    assert "ddress already in use" in done.stderr
    assert len(done.stderr.splitlines()) == 1


# The end


# In the suite other tests take the processor meanwhile.
@pytest.mark.parametrize("within", [60, pytest.param(8, marks=pytest.mark.heavy)])
def test_requests_before_the_end_are_answered(
    start: Start, postgres: Postgres, within: int
) -> None:
    url = postgres.database()
    server = start(log_url=url).with_page()
    open_page = begun(server.port, request("/gradio_api/run/predict", "x" * 99)[:-50])

    async def story() -> tuple[list[Answer], float]:
        async with connections(server.port, 50) as clients:
            with held_log(url):
                for _, writer in clients:
                    writer.write(PREDICT)
                    await writer.drain()
                await asyncio.to_thread(read_all_before, server)
                server.process.send_signal(signal.SIGTERM)
                query = time.monotonic()
                assert not await asyncio.to_thread(is_ready, server)
            return [await answer(reader) for reader, _ in clients], query

    answers, query = asyncio.run(story())
    server.process.wait(60)
    open_page.close()

    assert time.monotonic() - query < within
    assert [result.status for result in answers] == [200] * 50
    ids = {result.json()["prediction_id"] for result in answers}
    assert ids == logged(url)


def is_ready(server: Server) -> bool:
    try:
        return httpx.get(f"{server.client.base_url}/health/ready", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def logged(url: str) -> set[str]:
    """The ids of the predictions in the log."""
    with opened(url) as log:
        return set(log.last(10**9)["id"])


def test_shutdown_under_load_rejects_no_request(start: Start) -> None:
    server = start().with_page()
    answers: list[Answer] = []

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        message = None
        while message != "close":
            writer.write(PREDICT)
            answers.append(await answer(reader))
            message = answers[-1].headers.get("connection")

    async def story() -> None:
        async with connections(server.port, 16) as clients:
            tasks = [asyncio.create_task(client(*pair)) for pair in clients]
            await asyncio.to_thread(until, lambda: len(answers) > 64)
            server.process.send_signal(signal.SIGTERM)
            await asyncio.gather(*tasks)

    asyncio.run(story())
    server.process.wait(60)

    assert len(answers) > 64
    assert {result.status for result in answers} == {200}
    assert {result.json()["prediction_id"] for result in answers} <= logged(
        f"sqlite:///{server.output.with_name('log.db')}"
    )


# Too much to do


def test_overload_is_rejected_at_once_and_the_rest_answered(
    start: Start, postgres: Postgres
) -> None:
    url = postgres.database()
    server = start(max_concurrent=4, log_url=url)

    async def story() -> tuple[list[Answer], list[Answer]]:
        async with connections(server.port, 10) as clients:
            with held_log(url):
                for _, writer in clients:
                    writer.write(PREDICT)
                refused = [await answer(reader) for reader, _ in clients[4:]]
            return refused, [await answer(reader) for reader, _ in clients[:4]]

    refused, answered = asyncio.run(story())
    after = [server.client.post("/predict", json=EXAMPLE) for _ in range(10)]

    assert [result.status for result in refused] == [503] * 6
    assert {result.headers["retry-after"] for result in refused} == {"1"}
    assert [result.status for result in answered] == [200] * 4
    assert [result.status_code for result in after] == [200] * 10
    assert server.metric("heart_requests_rejected_total") == 6
    assert len(logged(url)) == 14


# Slow clients


LIMITED = ("bash", "-c", 'ulimit -Sn 128; exec "$@"', "-", *SERVE)
HALF_A_HEAD, HALF_A_BODY = PREDICT[:30], PREDICT[:-5]


@pytest.mark.parametrize("count", [300, pytest.param(2000, marks=pytest.mark.heavy)])
def test_slow_clients_do_not_delay_others(start: Start, count: int) -> None:
    allow_files(count + 500)
    server = start(command=LIMITED, max_concurrent=4).with_page()
    server.client.post("/predict", json=EXAMPLE)
    before = server.settled()
    with ExitStack() as stack:
        slow = [
            stack.enter_context(begun(server.port, data))
            for _ in range(count // 3)
            for data in (HALF_A_HEAD, HALF_A_BODY, b"")
        ]
        read_all_before(server)
        answers = []
        for position in range(30):
            slow[2 * position].sendall(b" ")
            answers.append(httpx.post(f"{server.client.base_url}/predict", json=EXAMPLE, timeout=5))
        grown = server.resident() - before

    assert [result.status_code for result in answers] == [200] * 30
    assert grown < 20e6 + count * 50e3


def allow_files(count: int) -> None:
    """Let this process have so many files open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))


def test_arriving_long_bodies_are_limited_together(start: Start) -> None:
    server = start(max_body_bytes=100_000)
    long = request("/predict/batch", "x" * 99_000)[:-1]
    refused = 'heart_requests_total{method="POST",route="/predict/batch",status="503"}'

    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(begun(server.port, long))

        until(lambda: server.metric(refused) >= 20 - LONG_BODIES)
        assert server.client.post("/predict", json=EXAMPLE).status_code == 200
    until(lambda: server.client.post("/predict/batch", json="x" * 98_000).status_code == 422)


def test_connection_without_a_request_is_closed(tmp_path: Path) -> None:
    app = create_app(*parts(tmp_path), with_page=False)
    config = uvicorn.Config(app, port=0, log_level="warning")

    async def story() -> list[bytes]:
        server = DrainingServer(config, HttpLimits(head_seconds=0.2))
        running = asyncio.create_task(server.serve())
        await asyncio.to_thread(until, lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        async with connections(port, 4) as clients:
            for (_, writer), data in zip(
                clients, (b"", HALF_A_HEAD, PREDICT, PREDICT), strict=True
            ):
                writer.write(data)
            assert (await answer(clients[2][0])).status == 200
            assert (await answer(clients[3][0])).status == 200
            clients[3][1].write(HALF_A_HEAD)
            ended = [await clients[number][0].read() for number in (0, 1, 3)]
            clients[2][1].write(PREDICT)  # it owed nothing
            assert (await answer(clients[2][0])).status == 200
        server.should_exit = True
        await running
        return ended

    assert asyncio.run(asyncio.wait_for(story(), 20)) == [b"", b"", b""]


def test_draining_server_answers_not_ready_and_closes_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve.server, "LEAVE_SECONDS", 60)
    app = create_app(*parts(tmp_path), with_page=False)
    server = DrainingServer(uvicorn.Config(app, port=0, log_level="warning"))

    async def story() -> list[Answer]:
        running = asyncio.create_task(server.serve())
        await asyncio.to_thread(until, lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        async with connections(port, 2) as ((reader, writer), (other_reader, other_writer)):
            writer.write(PREDICT)
            answers = [await answer(reader)]
            server.handle_exit(signal.SIGTERM, None)
            writer.write(PREDICT)
            answers.append(await answer(reader))
            other_writer.write(request("/health/ready", None, "GET"))
            answers.append(await answer(other_reader))
            assert await reader.read() == b""
        server.should_exit = True
        # Without its signal, which `serve` would raise again.
        server._captured_signals.clear()
        await running
        return answers

    before, after, ready = asyncio.run(asyncio.wait_for(story(), 20))
    assert [before.status, after.status, ready.status] == [200, 200, 503]
    assert "connection" not in before.headers
    assert [after.headers["connection"], ready.headers["connection"]] == ["close", "close"]
    assert ready.json()["reasons"] == ["stopping"]


def test_endless_request_head_is_rejected(start: Start) -> None:
    server = start()
    before = server.resident()
    with begun(server.port, PREDICT[:30]) as client:
        client.settimeout(10)
        for _ in range(100):
            client.sendall(b"X-Filler: y\r\n" * 20_000)

        assert client.recv(1000).startswith(b"HTTP/1.1 431 ")
        assert server.resident() - before < 20e6


@pytest.mark.parametrize("accepted", [False, True])
def test_request_that_arrives_during_shutdown_is_answered(accepted: bool) -> None:
    client = socket.socket()

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"answered"})

    # Without a gate, every request is admitted.
    app.state = SimpleNamespace(gate=None, sub_path=SubPath())  # type: ignore[attr-defined]

    def ask() -> None:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")

    class Ends(DrainingServer):
        """Ends once somebody has connected; the request comes before or just after."""

        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            if accepted:
                client.connect(self.servers[0].sockets[0].getsockname())

        async def on_tick(self, counter: int) -> bool:
            await super().on_tick(counter)
            if counter == 0:  # nothing has had time to be accepted
                return False
            if accepted:
                asyncio.get_running_loop().call_later(0.05, ask)
            else:
                client.connect(self.servers[0].sockets[0].getsockname())
                ask()
            assert len(self.server_state.connections) == accepted
            return True

    with client:
        config = uvicorn.Config(app, port=0, lifespan="off", log_level="error")
        Ends(config).run()
        client.settimeout(5)
        assert b"answered" in client.recv(1000)
