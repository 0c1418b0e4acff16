"""The programs of the demo as child processes that never outlive it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from heart.errors import UserError

START_SECONDS = 60
LOGS = "logs"


class DemoFailed(UserError):
    """A step of the demo failed; the message describes it and says what to look at."""


def environment(folder: Path, **settings: str) -> dict[str, str]:
    """The environment with the programs of this Python and without the settings of the caller.

    DVC and git read no configuration outside of the folder: a remote there would get the demo's patients.
    """
    prefixes = ("HEART_", "MLFLOW_", "DVC_", "PYTHON", "GIT_")
    others = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
    dvc = folder / ".dvc" / "tmp"
    temporary = dvc / "programs"
    temporary.mkdir(parents=True, exist_ok=True)
    own = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONPATH": str(folder),
        "PYTHONUNBUFFERED": "1",
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(dvc / "site"),
        "DVC_GLOBAL_CONFIG_DIR": str(dvc / "global"),
        "DVC_SYSTEM_CONFIG_DIR": str(dvc / "system"),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "TMPDIR": str(temporary),  # in which torch, for example, leaves a cache
    }
    return others | own | settings


@contextmanager
def child(
    command: list[str], folder: Path, variables: Mapping[str, str], output: Any
) -> "Iterator[subprocess.Popen[str]]":
    """A command that ends, with its process group, at the end of the block, or when this process is killed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "examples.demo.guardian", *command],
        cwd=folder, env=variables, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT,
        text=True, process_group=0,
    )  # fmt: skip
    assert process.stdin is not None
    try:
        yield process
    finally:
        process.stdin.close()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def run(
    name: str,
    command: list[str],
    folder: Path,
    variables: Mapping[str, str],
    on_line: Callable[[str], None] = lambda _: None,
    code: int = 0,
) -> list[str]:
    """The lines of output of a command that runs to its end, each given to `on_line` as it comes.

    They are in logs/NAME.log too. Raises DemoFailed for an exit code other than `code`.
    """
    lines: list[str] = []
    path = _log(folder, name)
    with path.open("w") as log, child(command, folder, variables, subprocess.PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            lines.append(line.rstrip())
            on_line(lines[-1])
        ended = process.wait()
    if ended != code:
        last = next(filter(None, reversed(lines)), "no output")
        raise DemoFailed(f"{name} ended with {ended}, expected {code}: {last}; look at {path}")
    return lines


@contextmanager
def serving(
    module: str, folder: Path, variables: Mapping[str, str], url: str, ready: str
) -> Iterator[None]:
    """A server of the project, which runs during the block. Raises DemoFailed if it does not start."""
    log = _log(folder, module)
    with (
        log.open("w") as output,
        child([sys.executable, "-m", module], folder, variables, output) as process,
    ):
        wait(lambda: _answers(url + ready, process, log), f"{module} is ready; look at {log}")
        yield


def _log(folder: Path, name: str) -> Path:
    path = folder / LOGS / f"{name}.log"
    path.parent.mkdir(exist_ok=True)
    return path


def _answers(url: str, process: "subprocess.Popen[str]", log: Path) -> bool:
    if process.poll() is not None:
        raise DemoFailed(f"{log.stem} ended with {process.returncode}; look at {log}")
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


def wait(condition: Callable[[], object], what: str, seconds: float = START_SECONDS) -> None:
    """Wait until a condition is true. Raises DemoFailed."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise DemoFailed(f"not true within {seconds:g} s: {what}")
        time.sleep(0.1)


def expect(condition: object, failure: str) -> None:
    """Raises DemoFailed unless the condition is true."""
    if not condition:
        raise DemoFailed(failure)


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
