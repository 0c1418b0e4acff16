"""Peers that run in environments of their own, apart from the project's versions.

`make .venv-peers/NAME` installs what benchmarks/peers/NAME.txt names, and benchmarks/peers/NAME.py is run
there. It imports nothing of the project but its neighbours, is told what to do by its arguments, reads
and writes files, and prints one JSON object.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

from heart.errors import UserError

ENVIRONMENTS = Path(".venv-peers")
SAID = 300  # characters of an installer's reasons, of a failed script's last words


def why_not(name: str) -> str | None:
    """Why a peer is not there to be measured; None if it is."""
    folder = ENVIRONMENTS / name
    if not folder.exists():
        return f"{folder} does not exist: make {folder}"
    reason = folder / "not-installed.txt"
    return " ".join(reason.read_text().split())[:SAID] if reason.exists() else None


def absent(names: tuple[str, ...]) -> dict[str, str]:
    """Those of some peers that are not there, with the reasons, which are printed."""
    found = {name: why for name in names if (why := why_not(name))}
    for name, why in found.items():
        print(f"{name} is left out: {why}")
    return found


def command(name: str, *arguments: object) -> list[str]:
    """A peer's script in its environment."""
    python = (ENVIRONMENTS / name / "bin/python").absolute()
    return [str(python), "-m", f"benchmarks.peers.{name}", *map(str, arguments)]


def run(name: str, *arguments: object) -> dict[str, Any]:
    """What a peer's script printed. Raises UserError with its last words."""
    done = subprocess.run(command(name, *arguments), capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"benchmarks/peers/{name}.py: {done.stderr.strip()[-SAID:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def version(name: str) -> str:
    """The installed version of a peer."""
    translate = f"from importlib.metadata import version; print(version({name!r}))"
    python = command(name)[0]
    return subprocess.run(
        [python, "-c", translate], capture_output=True, text=True, check=True
    ).stdout.strip()
