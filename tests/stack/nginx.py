"""The stack's own nginx.conf in a real nginx, on the loopback."""

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.heart.predictions.logs import until
from tests.processes import free_port
from tests.stack.compose_file import ROOT


def installed() -> str | None:
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


def configuration(folder: Path, port: int, backend: int, changes: Mapping[str, str]) -> str:
    """The stack's, on the loopback and in front of this backend, with texts replaced."""
    text = (ROOT / "deploy/nginx/nginx.conf").read_text()
    text = text.replace("/tmp/", f"{folder}/")  # noqa: S108  # of the container
    text, servers = re.subn(r"server app:8000 resolve", f"server 127.0.0.1:{backend}", text)
    text, listeners = re.subn(r"(?s)listen 8000;\s+listen 7860;", f"listen 127.0.0.1:{port};", text)
    assert (servers, listeners) == (1, 1)
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return text.replace("worker_processes auto", "worker_processes 1")


@contextmanager
def running(
    program: Path, folder: Path, backend: int, changes: Mapping[str, str] | None = None
) -> Iterator[int]:
    """The port of an nginx before the port of a backend."""
    port = free_port()
    (folder / "nginx.conf").write_text(configuration(folder, port, backend, changes or {}))
    configured = str(folder / "nginx.conf")
    command = [str(program), "-e", "stderr", "-c", configured, "-g", "daemon off;"]
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        until(lambda: process.poll() is not None or _answers(port))
        assert process.poll() is None, (folder / "output").read_text()
        yield port
    finally:
        process.terminate()
        process.wait(20)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
