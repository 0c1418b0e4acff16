"""People and programs that use the stack, and the answers that they get."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import httpx

from tests.stack.engine import Stack, docker, inspected, succeeds

PATIENT = {"age": 57, "sex": "male", "chest_pain_type": "asymptomatic", "st_depression": 1.5}
PAUSE = 0.02
ASK = "import urllib.request as http; http.urlopen('http://127.0.0.1:8000/health/ready', timeout=5)"


def ready(container: str) -> bool:
    """Whether a replica can predict now, asked in its own container."""
    return succeeds("docker", "exec", container, "python", "-c", ASK)


def health(stack: Stack, service: str) -> str:
    return str(inspected(stack.containers(service)[0])["State"]["Health"]["Status"])


def crash(container: str) -> None:
    """End a replica's process as a fault would: no signal that it could answer."""
    with suppress(AssertionError):  # the command dies with the container
        docker("exec", container, "python", "-c", "import os; os.kill(-1, 9)")


def restarts(container: str) -> int:
    return int(inspected(container)["RestartCount"])


def client(stack: Stack, port: str = "APP_PORT") -> httpx.Client:
    """A program with the API's token."""
    headers = {"Authorization": f"Bearer {stack.values['HEART_API_TOKEN']}"}
    return httpx.Client(base_url=stack.url(port), headers=headers, timeout=30)


@dataclass
class Answers:
    """What was answered while a load lasted: acknowledged predictions, and other answers by kind."""

    acknowledged: list[str] = field(default_factory=list)
    failed_posts: list[int] = field(default_factory=list)
    failed_gets: list[int] = field(default_factory=list)
    slowest: float = 0.0


@contextmanager
def load(stack: Stack, clients: int = 4) -> Iterator[Answers]:
    """Clients that predict and read by turns, until the block ends."""
    message, stop = Answers(), threading.Event()
    threads = [threading.Thread(target=_use, args=(stack, message, stop)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield message
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _use(stack: Stack, answers: Answers, stop: threading.Event) -> None:
    with client(stack) as http:
        while not stop.is_set():
            start = time.monotonic()
            predicted = http.post("/predict", json=PATIENT)
            if predicted.status_code == 200:
                answers.acknowledged.append(predicted.json()["prediction_id"])
            else:
                answers.failed_posts.append(predicted.status_code)
            read = http.get("/model")
            if read.status_code != 200:
                answers.failed_gets.append(read.status_code)
            answers.slowest = max(answers.slowest, time.monotonic() - start)
            time.sleep(PAUSE)


def kept(stack: Stack) -> set[str]:
    """The ids in the prediction log."""
    return set(stack.sql("SELECT id FROM predictions").splitlines())
