"""Run a command that ends, with its process group, no later than the demo, even if the demo is killed.

`processes.child` starts it in a process group of its own, with a pipe as standard input that only the demo holds
open. When the demo closes the pipe or ends in any way, the group gets SIGTERM, so that the receiver can stop its
retraining, and what is left of it after GRACE_SECONDS gets SIGKILL.
"""

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

from heart.errors import run_main

GRACE_SECONDS = 15.0  # more than the receiver takes to end a retraining


class Owner:
    """The process at the other end of the standard input."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        os.read(0, 1)  # returns when the owner ends: it never writes
        self._ended.set()
        os.killpg(0, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE_SECONDS)
        os.killpg(0, signal.SIGKILL)  # this process too

    def end_group(self) -> None:
        """If the owner has ended, wait until the group is killed: the command may have left processes."""
        if self._ended.is_set():
            self._thread.join()


def main() -> None:
    # A handler and not SIG_IGN, which the command would inherit.
    signal.signal(signal.SIGTERM, lambda *_: None)
    with subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL) as process:
        owner = Owner(process)
        code = process.wait()
    owner.end_group()
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    run_main(main)
