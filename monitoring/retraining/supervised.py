"""Run a command that ends, with all processes that it starts, no later than its owner.

`run` starts `python -m monitoring.retraining.supervised COMMAND` in a process group of its own, with a pipe
that only the owner holds open. When the owner ends in any way, the pipe closes and the group is killed.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from heart.errors import run_main


def run(*command: str, keep: Sequence[int] = ()) -> int:
    """The exit code of a command that ends with this process, even if this one is killed.

    The file descriptors `keep` stay open while it runs.
    """
    # DVC and the commands of dvc.yaml use this Python.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    with subprocess.Popen(
        [sys.executable, "-m", "monitoring.retraining.supervised", *command],
        stdin=subprocess.PIPE, process_group=0, pass_fds=keep, env=os.environ | {"PATH": path},
    ) as guardian:  # fmt: skip
        try:
            # Not communicate: it would close the pipe.
            return guardian.wait()
        except BaseException:
            os.killpg(guardian.pid, signal.SIGKILL)
            raise


def _watch() -> None:
    os.read(0, 1)  # returns when the owner ends: it never writes
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    with subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, close_fds=False) as process:
        threading.Thread(target=_watch, daemon=True).start()
        code = process.wait()
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    run_main(main)
