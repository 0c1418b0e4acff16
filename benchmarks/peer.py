"""Peers: libraries that run in environments of their own, with other versions than the project's.

`make .venv-peers/NAME` installs the requirements of benchmarks/peers/NAME.txt and benchmarks/peers/NAME.py
runs there. The script imports nothing of the project outside its folder, gets arguments, reads and writes
files, and prints one JSON object.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

from heart.errors import UserError

ENVIRONMENTS = Path(".venv-peers")
REASON_LENGTH = 300  # characters of the output of a failed installation or script


def reason_of_absence(name: str) -> str | None:
    """The reason why a peer is not installed; None if it is."""
    folder = ENVIRONMENTS / name
    if not folder.exists():
        return f"{folder} does not exist: make {folder}"
    reason = folder / "not-installed.txt"
    return " ".join(reason.read_text().split())[:REASON_LENGTH] if reason.exists() else None


def absent(names: tuple[str, ...]) -> dict[str, str]:
    """The peers that are not installed, with the reasons, which are printed."""
    reasons = {name: reason for name in names if (reason := reason_of_absence(name))}
    for name, reason in reasons.items():
        print(f"{name} is left out: {reason}")
    return reasons


def command(name: str, *arguments: object, script: str | None = None) -> list[str]:
    """The command of a peer's script, which usually has its name, in its environment."""
    python = (ENVIRONMENTS / name / "bin/python").absolute()
    return [str(python), "-m", f"benchmarks.peers.{script or name}", *map(str, arguments)]


def run(name: str, *arguments: object, script: str | None = None) -> dict[str, Any]:
    """The output of a peer's script. Raises UserError with the end of its errors."""
    line = command(name, *arguments, script=script)
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(
            f"benchmarks/peers/{script or name}.py: {done.stderr.strip()[-REASON_LENGTH:]}"
        )
    output: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return output


def version(name: str) -> str:
    """The installed version of a peer."""
    program = f"from importlib.metadata import version; print(version({name!r}))"
    python = command(name)[0]
    return subprocess.run(
        [python, "-c", program], capture_output=True, text=True, check=True
    ).stdout.strip()
