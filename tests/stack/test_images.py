"""The images as an operator gets them."""

import time
from collections.abc import Iterator

import pytest

from tests.heart.predictions.logs import until
from tests.stack.engine import TAG, docker, inspected

pytestmark = [pytest.mark.stack, pytest.mark.usefixtures("stand_ins")]
SERVE, PIPELINE = f"heart-serve:{TAG}", f"heart-pipeline:{TAG}"
LARGEST = 900_000_000
CLOSED = (
    *("--read-only", "--tmpfs", "/tmp", "--network", "none"),  # noqa: S108
    *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
)
TOKEN = "sixteen-letters!"


@pytest.fixture
def server() -> Iterator[str]:
    """The service, shut in and without a registry: it lives, and has no model."""
    command = ("run", "--detach", "--init", *CLOSED, "--env", f"HEART_API_TOKEN={TOKEN}", SERVE)
    container = docker(*command).strip()
    yield container
    docker("rm", "--force", "--volumes", container)


def status(container: str, path: str) -> str:
    code = (
        "import sys, urllib.request as http, urllib.error as e\n"
        f"try: print(http.urlopen('http://127.0.0.1:8000{path}').status)\n"
        "except e.HTTPError as error: print(error.code)\n"
        "except OSError: print('-')"
    )
    return docker("exec", container, "python", "-c", code).strip()


def test_serving_image_is_small_without_build_tools() -> None:
    assert inspected(SERVE)["Size"] < LARGEST

    programs = (
        "for p in gcc cc git pip pip3 dvc curl; do command -v /opt/venv/bin/$p $p; done; true"
    )
    modules = (
        "import importlib.util as i;"
        "print([m for m in ('torch','ctgan','dvc','sklearn','mlflow.onnx','pip','stages','boto3')"
        " if i.find_spec(m.split('.')[0]) and (m != 'mlflow.onnx')])"
    )
    result = docker("run", "--rm", SERVE, "sh", "-c", programs).split()
    assert [path for path in result if path.startswith("/opt/")] == []
    assert not {path.split("/")[-1] for path in result} & {"gcc", "cc", "git", "dvc"}
    assert docker("run", "--rm", SERVE, "python", "-c", modules).strip() == "[]"


def test_the_pipelines_image_holds_all_that_stages_and_servers_import() -> None:
    modules = (
        "ctgan, dvc, torch, sklearn, skl2onnx, mlflow.server, flask_wtf, psycopg, boto3, fastapi"
    )

    shown = docker(
        "run", "--rm", "--entrypoint", "python", PIPELINE, "-c",
        f"import {modules}; print(torch.__version__, torch.version.cuda)", seconds=300,
    )  # fmt: skip
    assert shown.split()[-1] == "None"


@pytest.mark.parametrize("image", [SERVE, PIPELINE])
def test_an_image_is_not_root_and_says_what_it_is(image: str) -> None:
    config = inspected(image)["Config"]

    assert config["User"] == "1000:1000"
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_restricted_container_answers_and_reports_what_is_missing(server: str) -> None:
    until(lambda: status(server, "/health/live") == "200", 60)

    assert status(server, "/health/ready") == "503"
    assert docker("exec", server, "id", "-u").strip() == "1000"
    refused = docker("exec", server, "sh", "-c", "touch /app/x /opt/x 2>&1; true")
    assert refused.count("Read-only file system") == 2
    until(lambda: inspected(server)["State"]["Health"]["Status"] == "unhealthy", 120)


def test_without_a_token_it_does_not_start() -> None:
    message = docker("run", "--rm", *CLOSED, SERVE, "sh", "-c", "python -m serve 2>&1; echo $?")

    assert "HEART_API_TOKEN" in message
    assert message.splitlines()[-1] == "1"


def test_container_drains_on_sigterm(server: str) -> None:
    until(lambda: status(server, "/health/live") == "200", 60)

    start = time.monotonic()
    docker("stop", "--time", "20", server)

    state = inspected(server)["State"]
    assert time.monotonic() - start < 20
    assert (state["ExitCode"], state["OOMKilled"]) in {(0, False), (143, False)}
