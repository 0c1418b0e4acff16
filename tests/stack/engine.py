"""Docker as the tests use it: images, made where they cannot be had, and a stack on ports of its own."""

import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from tests.processes import free_port
from tests.stack.compose_file import COMPOSE, ROOT, required, services

STAND_INS = Path(__file__).parent / "stand_ins"
PYTHON = "python:3.11-slim-bookworm"
STAND_IN = "heart-stand-in/services"
TAG = "test"
# The same each time: it is an argument of the build, whose cache would be of no use.
INDEX_PORT = 38917
# Grafana has no stand-in.
FOREIGN = {s["image"] for n, s in services().items() if "build" not in s and n != "grafana"}


def run(*command: str | Path, seconds: float = 120, **settings: str) -> str:
    """What a command prints. Fails with all of it if the command does."""
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"DOCKER_BUILDKIT": "0"} | settings, check=False,
        capture_output=True, text=True, timeout=seconds,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def docker(*arguments: str, seconds: float = 120) -> str:
    return run("docker", *arguments, seconds=seconds)


def succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def available() -> bool:
    return shutil.which("docker") is not None and succeeds("docker", "info")


def compose_command() -> list[str]:
    plugin = succeeds("docker", "compose", "version")
    return ["docker", "compose"] if plugin else ["docker-compose"]


def _there(image: str) -> bool:
    """Whether an image is here, or can be had."""
    commands = ("image inspect", "pull --quiet")
    return any(succeeds("docker", *command.split(), image) for command in commands)


@contextmanager
def torch_index() -> Iterator[list[str]]:
    """Build arguments for torch, from a folder of wheels if this machine's pip has one that holds it."""
    folders = (Path(folder) for folder in os.environ.get("PIP_FIND_LINKS", "").split())
    wheels = next((folder for folder in folders if any(folder.glob("torch-*.whl"))), None)
    if wheels is None:
        yield []
        return

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def translate_path(self, path: str) -> str:
            return super().translate_path(path.removeprefix("/torch"))

    server = ThreadingHTTPServer(("127.0.0.1", INDEX_PORT), partial(Handler, directory=str(wheels)))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield ["--build-arg", f"TORCH_INDEX=http://127.0.0.1:{server.server_port}"]
    finally:
        server.shutdown()
        server.server_close()


def _build(*arguments: str | Path) -> None:
    """Build with this machine's network and what its pip trusts."""
    trusted = ["--build-arg", "PIP_CERT"] if "PIP_CERT" in os.environ else []
    run("docker", "build", "--network", "host", *trusted, *arguments, seconds=3600)


def _python_image() -> str:
    if _there(PYTHON):
        return PYTHON
    return _debian(f"heart-stand-in/{PYTHON}", "bookworm")


def _debian(image: str, suite: str) -> str:
    if not _there(image):
        run(STAND_INS / "debian.sh", image, suite, seconds=1200)
    return image


def build_images() -> bool:
    """Build both images of the project. Returns whether services need stand-ins, which are built then."""
    base = ["--build-arg", f"PYTHON_IMAGE={_python_image()}"]
    with torch_index() as index:
        for target in ("serve", "pipeline"):
            _build(*base, *index, "--target", target, "--tag", f"heart-{target}:{TAG}", ".")
    if all(_there(image) for image in FOREIGN):
        return False
    debian = _debian("heart-stand-in/debian:forky", "forky")
    lock = (ROOT / "requirements" / "lock.txt").read_text().splitlines()
    (moto,) = (line for line in lock if line.startswith("moto=="))
    pinned = ["--build-arg", f"MOTO={moto.replace('moto', 'moto[server]')}"]
    _build("--build-arg", f"DEBIAN_IMAGE={debian}", *pinned, "--tag", STAND_IN, STAND_INS)
    return True


@dataclass
class Stack:
    """A Compose project of its own, with secrets and ports of its own, on the loopback only."""

    folder: Path
    repository: Path
    stand_ins: bool
    name: str = field(default_factory=lambda: f"heart-test-{secrets.token_hex(3)}")
    values: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ports = ("APP_PORT", "PAGE_PORT", "GRAFANA_PORT", "MLFLOW_PORT", "PROMETHEUS_PORT")
        self.values = {
            **{name: secrets.token_urlsafe(24) for name in sorted(required())},
            **self.values,
            **{name: str(free_port()) for name in ports},
            "PUBLISH_ADDRESS": "127.0.0.1",
            "REPOSITORY": str(self.repository / ".git"),
            "HEART_POLL_SECONDS": "2",
            "TAG": TAG,
        }
        self.environment = self.folder / f"{self.name}.env"
        lines = [f"{name}={value}\n" for name, value in self.values.items()]
        self.environment.write_text("".join(lines))

    @property
    def command(self) -> list[str]:
        files = [COMPOSE, *([STAND_INS / "compose.yml"] if self.stand_ins else [])]
        return [
            *compose_command(), "--env-file", str(self.environment), "--project-name", self.name,
            *(part for file in files for part in ("--file", str(file))),
        ]  # fmt: skip

    def compose(self, *arguments: str, seconds: float = 300) -> str:
        return run(*self.command, *arguments, seconds=seconds)

    def containers(self, service: str) -> list[str]:
        """The ids of a service's running containers."""
        return self.compose("ps", "--quiet", service).split()

    def inside(self, service: str, *command: str) -> str:
        """What a command prints in a service's first container."""
        return docker("exec", self.containers(service)[0], *command)

    def sql(self, query: str, database: str = "heart") -> str:
        program = ["psql", "--username=postgres", f"--dbname={database}", "--tuples-only"]
        return self.inside("postgres", *program, "--no-align", "--command", query).strip()

    def url(self, port: str) -> str:
        return f"http://127.0.0.1:{self.values[port]}"

    def remove(self) -> None:
        self.compose("down", "--volumes", "--timeout", "5")

    def logs(self) -> str:
        done = subprocess.run(
            [*self.command, "logs", "--no-color", "--tail", "30"],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.stdout


def inspected(container: str) -> Mapping[str, Any]:
    result: Mapping[str, Any] = json.loads(docker("inspect", container))[0]
    return result
