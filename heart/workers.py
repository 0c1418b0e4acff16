"""Processes that a stage starts to share its work end with it."""

import os
import threading
import time

PAUSE_SECONDS = 1.0


def end_with(owner: int) -> None:
    """In a process that `owner` has started: end it soon after the owner, even if that is killed.

    Otherwise it would finish its work and then wait for more, forever.
    """
    threading.Thread(target=_watch, args=(owner,), daemon=True).start()


def _watch(owner: int) -> None:
    while os.getppid() == owner:
        time.sleep(PAUSE_SECONDS)
    os._exit(1)
