"""A copy of the project in an empty directory, and the programs that run in it."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import yaml

ROOT = Path(__file__).parents[2]
START_SECONDS = 60


class DemoFailed(Exception):
    """A step of the demo failed; the message describes it."""


def copy(folder: Path, changes: Mapping[str, str]) -> None:
    """Copy the files of this checkout that git does not ignore, change parameters, and commit."""
    listing = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for name in listing.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    params = yaml.safe_load((folder / "params.yaml").read_text())
    for name, value in changes.items():
        change(params, name, value)
    if changes:
        (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    author = ("-c", "user.name=demo", "-c", "user.email=demo@example.org")
    for words in (("init", "--quiet"), ("add", "--all"), (*author, "commit", "-qm", "demo")):
        subprocess.run(["git", *words], cwd=folder, check=True)


def change(params: dict[str, Any], name: str, value: str) -> None:
    """Set a parameter, SECTION.NAME or deeper, to a value in YAML. Raises DemoFailed."""
    *sections, last = name.split(".")
    place: Any = params
    for key in (*sections, last):
        known = place if isinstance(place, dict) else {}
        if key not in known:
            raise DemoFailed(f"-S {name}: {key} is unknown, known are {', '.join(known) or 'none'}")
        holder, place = place, place[key]
    try:
        holder[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise DemoFailed(f"-S {name}: {value!r} is not valid YAML") from error


def environment(folder: Path, **settings: str) -> dict[str, str]:
    """The environment with the programs of this Python and without the settings of the caller."""
    prefixes = ("HEART_", "MLFLOW_", "DVC_", "PYTHON")
    others = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    own = {"PATH": path, "PYTHONPATH": str(folder), "DVC_NO_ANALYTICS": "1"}
    return others | own | {"MLFLOW_DISABLE_TELEMETRY": "true"} | settings


def run(
    command: list[str], folder: Path, variables: Mapping[str, str], on_line: Callable[[str], None]
) -> None:
    """Run a command to its end and call `on_line` with each line of output. Raises DemoFailed."""
    lines: list[str] = []
    with subprocess.Popen(
        command, cwd=folder, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            on_line(line)
    if process.returncode:
        output = "".join(lines[-20:])
        raise DemoFailed(f"{' '.join(command)} ended with {process.returncode}:\n{output}")


@contextmanager
def serving(
    module: str, folder: Path, variables: Mapping[str, str], url: str, ready: str
) -> Iterator[httpx.Client]:
    """A client of a server of the project, which runs during the block. Raises DemoFailed."""
    output = folder / f"{module}.log"
    with output.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", module], cwd=folder, env=variables,
            stdout=file, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        with httpx.Client(base_url=url, timeout=30) as client:
            wait(lambda: _answers(client, ready, process, output), f"{module} is ready")
            yield client
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()


def _answers(client: httpx.Client, path: str, process: subprocess.Popen[bytes], log: Path) -> bool:
    if process.poll() is not None:
        raise DemoFailed(f"{log.stem} ended: {log.read_text()[-2000:]}")
    try:
        return client.get(path).is_success
    except httpx.TransportError:
        return False


def wait(condition: Callable[[], object], what: str, seconds: float = START_SECONDS) -> None:
    """Wait until a condition is true. Raises DemoFailed."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise DemoFailed(f"not true within {seconds:g} s: {what}")
        time.sleep(0.2)


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
