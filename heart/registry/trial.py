"""A version is tried in a subprocess before it is loaded: it is hostile until it has answered.

ONNX Runtime is native code in the service's process. A graph of some hundred bytes can compute without end,
allocate gigabytes or crash it, and the service would end with it. `run` therefore starts
`python -m heart.registry.trial_process`, which does with the version what the service will do::

    service                                   subprocess
    files of the version      --- stdin -->   imports its libraries, then gives up all else: no new file,
                                              socket, thread or process, limits of memory and CPU time
                              <-- "ready"     checks the graph, loads the models, runs the self-test,
    load(files)               <-- verdict     predicts 1 row and 10,000 rows

It inherits no variable of the environment and no open file, has a lower priority than requests, is the first
to be killed if memory runs out, and the kernel ends it with its parent (prctl(2), PR_SET_PDEATHSIG). A trial that
exceeds a limit or crashes is a verdict like any other. The same bytes that were tried are then loaded. Limits: setrlimit(2); on systems other
than Linux the kernel enforces fewer of them, and the time limit here remains.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from heart.registry.errors import RegistryUnavailable, VersionRejected
from heart.registry.model_version import Files

READY = b"ready\n"
PROGRAM = "heart.registry.trial_process"


@dataclass(frozen=True)
class Limits:
    """Limits of a trial, the imports excepted: those take 0.3 s of CPU time and 60 MiB.

    CPU time does not depend on the load of the machine. `seconds` is the limit of the whole trial, for one
    that waits rather than computes. A champion takes 0.1 s, 300 unpruned trees less than a second.
    """

    cpu_seconds: int = 10
    seconds: float = 60
    memory_bytes: int = 512 * 1024 * 1024


LIMITS = Limits()


def run(files: Files, limits: Limits = LIMITS, program: str = PROGRAM) -> None:
    """Try a version in the module `program`. Raises VersionRejected, or RegistryUnavailable if no process could be started."""
    try:
        done = subprocess.run(
            _command(program, limits), input=_packed(files), capture_output=True, env=_environment(), cwd="/",
            timeout=limits.seconds, check=False,
            process_group=0,  # Ctrl-C is for the service only
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        output = error.output or b""
        if not output.startswith(READY):
            raise _unavailable(f"no start within {limits.seconds:g} s") from error
        raise VersionRejected("timeout", f"no verdict within {limits.seconds:g} s") from error
    except OSError as error:
        raise _unavailable(str(error)) from error
    if not done.stdout.startswith(READY):
        lines = done.stderr.decode(errors="replace").splitlines() or [f"code {done.returncode}"]
        raise _unavailable(lines[-1])
    _judge(done.returncode, done.stdout.removeprefix(READY), limits)


def _judge(code: int, output: bytes, limits: Limits) -> None:
    """Raises VersionRejected unless the process has ended with a good verdict."""
    if code == -signal.SIGXCPU:
        raise VersionRejected("timeout", f"no verdict within {limits.cpu_seconds} s of CPU time")
    if code == -signal.SIGKILL:
        raise VersionRejected("memory", "the trial was killed: the machine has too little memory")
    if code < 0:
        raise VersionRejected("crash", f"the trial ended by a signal: {signal.strsignal(-code)}")
    try:
        verdict = json.loads(output)
        rejection = (verdict["kind"], verdict["reason"]) if verdict else None
    except (ValueError, KeyError, TypeError) as error:
        raise VersionRejected("crash", f"the trial ended with exit code {code}") from error
    if rejection:
        raise VersionRejected(*rejection)


def _command(program: str, limits: Limits) -> Sequence[str]:
    arguments = (os.getpid(), limits.cpu_seconds, limits.memory_bytes)
    # It finds the same modules as this process, and no others.
    return [sys.executable, "-P", "-s", "-m", program, *map(str, arguments)]


def _environment() -> dict[str, str]:
    """Nothing of this process but where libraries are: its environment holds secrets."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    path = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)  # noqa: PTH100  # "" too
    return {**kept, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def _packed(files: Files) -> bytes:
    """The sizes of the files as one line of JSON, then their contents."""
    sizes = {name: len(content) for name, content in files.items()}
    return b"".join([json.dumps(sizes).encode(), b"\n", *files.values()])


def _unavailable(reason: str) -> RegistryUnavailable:
    return RegistryUnavailable(f"a version cannot be tried in a subprocess: {reason}")
