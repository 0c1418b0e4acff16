"""The receiver as a process: concurrent alerts, restarts, signals, and invalid settings."""

import os
import shlex
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from monitoring.retraining.webhook.api import CONNECTIONS
from tests.monitoring.configuration import ROOT
from tests.monitoring.retraining.test_webhook import is_alive
from tests.monitoring.retraining.webhook import (
    COMMAND,
    SECRET,
    STAND_IN,
    TOKEN,
    body,
    ended,
    let_go,
    of_process,
    send,
    started,
    status,
)
from tests.monitoring.stack import until
from tests.processes import free_port

pytestmark = pytest.mark.integration


class Receiver:
    """A process, started and stopped by a test; its folder stays."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "receiver.log"
        port = free_port()
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)
        words = [sys.executable, str(STAND_IN), str(folder), "0", "--child"]
        self.settings = of_process(folder, port, shlex.join(words))

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                COMMAND, cwd=self.folder, env=os.environ | self.settings, stdout=log, stderr=log
            )
        until(self._is_live)

    def _is_live(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        with suppress(httpx.TransportError):
            return self.client.get("/health/live").status_code == 200
        return False

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.wait(20)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    receiver = Receiver(tmp_path)
    receiver.start()
    yield receiver
    receiver.stop()
    receiver.client.close()
    with suppress(FileNotFoundError, ProcessLookupError):
        os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)


def at_once(receiver: Receiver, contents: list[bytes]) -> Counter[tuple[int, str]]:
    """The number of each answer to concurrent alerts."""
    with ThreadPoolExecutor(len(contents)) as threads:
        answers = list(threads.map(lambda content: send(receiver.client, content), contents))
    return Counter((answer.status_code, answer.json()["status"]) for answer in answers)


def test_of_concurrent_alerts_one_starts_a_retraining(receiver: Receiver, tmp_path: Path) -> None:
    same = at_once(receiver, [body()] * 20)
    news = at_once(receiver, [body(group=f"group {number}") for number in range(20)])

    assert same == {(202, "started"): 1, (200, "seen"): 19}
    assert news == {(200, "running"): 20}
    let_go(tmp_path)
    ended(receiver.client)
    assert len(started(tmp_path)) == 1
    news = at_once(receiver, [body(group=f"group {number}") for number in range(20)])
    assert news[202, "started"] >= 1
    assert set(news) <= {(202, "started"), (200, "running")}


def test_after_a_restart_the_receiver_knows_earlier_alerts(
    receiver: Receiver, tmp_path: Path
) -> None:
    let_go(tmp_path)
    send(receiver.client)
    run = ended(receiver.client)

    receiver.stop()
    receiver.start()

    assert send(receiver.client).json() == {"status": "seen"}
    assert status(receiver.client)["runs"] == [run]
    last = 'heart_retrain_last_run_timestamp_seconds{result="done"} '
    assert f"\n{last}0.0" not in receiver.client.get("/metrics").text


def test_a_stopped_receiver_ends_its_retraining(receiver: Receiver, tmp_path: Path) -> None:
    send(receiver.client)
    (text,) = until(lambda: started(tmp_path), pause=0.01)
    child = int((tmp_path / "child").read_text())

    receiver.stop()

    assert "--trigger" in text
    assert not is_alive(child)
    receiver.start()
    run = ended(receiver.client)
    assert (run["result"], run["verdict"]) == ("stopped", "the receiver was stopped")
    assert send(receiver.client).json() == {"status": "seen"}


def test_a_killed_receiver_loses_no_alert(receiver: Receiver, tmp_path: Path) -> None:
    send(receiver.client)
    until(lambda: started(tmp_path), pause=0.01)

    receiver.stop(signal.SIGKILL)
    receiver.start()

    run = ended(receiver.client)
    assert run["result"] == "stopped"
    assert run["verdict"].startswith("the receiver was killed")
    assert send(receiver.client).json() == {"status": "seen"}
    let_go(tmp_path)


def test_no_secret_is_printed(receiver: Receiver, tmp_path: Path) -> None:
    let_go(tmp_path)
    send(receiver.client)
    ended(receiver.client)
    send(receiver.client, authorization="Bearer another-token")
    receiver.client.get(f"/{TOKEN}?secret={SECRET}")

    receiver.stop()

    printed = receiver.log.read_text()
    assert "retraining 1 ended: done" in printed
    for secret in (TOKEN, SECRET, "another-token"):
        assert secret not in printed
    receiver.start()


# Clients without a token


def connected(receiver: Receiver) -> socket.socket:
    url = receiver.client.base_url
    return socket.create_connection((url.host, url.port), timeout=10)


def test_an_alert_is_accepted_in_spite_of_silent_connections(
    receiver: Receiver, tmp_path: Path
) -> None:
    let_go(tmp_path)
    with ExitStack() as stack:
        for _ in range(2 * CONNECTIONS):
            stack.enter_context(connected(receiver))
        client = stack.enter_context(httpx.Client(base_url=receiver.client.base_url, timeout=10))

        assert send(client).status_code == 202


def test_an_endless_request_head_is_rejected(receiver: Receiver) -> None:
    with connected(receiver) as client:
        client.sendall(b"GET / HTTP/1.1\r\n" + b"X-Filler: y\r\n" * 10_000)

        assert client.recv(1000).startswith(b"HTTP/1.1 431 ")


# Invalid settings


def rejection(folder: Path, **settings: str) -> str:
    others = {n: value for n, value in os.environ.items() if not n.upper().startswith("HEART_")}
    done = subprocess.run(
        COMMAND, cwd=folder, env=others | {"PYTHONPATH": str(ROOT)} | settings,
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return done.stderr


def test_receiver_does_not_start_without_secrets(tmp_path: Path) -> None:
    assert rejection(tmp_path, HEART_RETRAIN_TOKEN="too-short") == (
        "error: invalid settings:\n"
        "HEART_RETRAIN_TOKEN: expected at least 16 ASCII characters without spaces\n"
        "HEART_RETRAIN_SECRET: Field required\n"
    )


def test_two_receivers_do_not_share_a_folder(receiver: Receiver, tmp_path: Path) -> None:
    message = rejection(tmp_path, **receiver.settings)

    assert message.startswith(f"error: HEART_RETRAIN_FOLDER={tmp_path}/state: database is locked")


def test_an_invalid_folder_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    settings = {"HEART_RETRAIN_TOKEN": TOKEN, "HEART_RETRAIN_SECRET": SECRET}

    message = rejection(tmp_path, **settings, HEART_RETRAIN_FOLDER="state")

    assert message.startswith(f"error: HEART_RETRAIN_FOLDER={tmp_path}/state: ")
