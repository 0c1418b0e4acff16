"""A hostile version ends its trial, never the process that wants to load it."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from heart.registry import trial
from heart.registry.errors import RegistryUnavailable, VersionRejected
from heart.registry.model_version import read_files
from heart.registry.publishing import as_json
from heart.registry.publishing import self_test as recorded
from heart.registry.trial import Limits
from heart.registry.trial_process import MANY_ROWS, random_patients
from heart.schema import MEASUREMENTS, decode
from serve.model_manager import ModelManager
from serve.settings import MAX_BATCH
from tests.fixtures.security import SecurityFigure
from tests.heart.registry import hostile
from tests.heart.registry.registry_fixture import ROOT, Shelf, until

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore:::mlflow")]

UNCHECKED, CRASHING, KILLED, REPORTING = (
    f"tests.heart.registry.trials.{kind}"
    for kind in ("unchecked", "crashing", "killed", "reporting")
)
LIMITS = Limits(cpu_seconds=1)


def children() -> set[str]:
    """The processes that this one has started and that have not been waited for."""
    folder = Path("/proc/self/task")
    return {pid for task in folder.iterdir() for pid in (task / "children").read_text().split()}


def rejected(
    model: bytes, program: str = trial.PROGRAM, limits: Limits = LIMITS
) -> VersionRejected:
    before = children()
    with pytest.raises(VersionRejected) as rejection:
        trial.run(hostile.files_of(model), limits, program)
    assert children() <= before, "a process is left"
    return rejection.value


def cpu_seconds() -> float:
    """The CPU time of all processes that this one has waited for; it does not depend on the machine's load."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@pytest.mark.security
def test_a_good_version_passes_at_little_cost(
    shelf: Shelf, security_figure: SecurityFigure
) -> None:
    ModelManager(shelf.settings()).refresh()
    (card,) = (shelf.folder / "cache").rglob("model.json")
    files = read_files(card.parent)
    before = cpu_seconds()

    trial.run(files)

    seconds = cpu_seconds() - before
    assert seconds < 2
    security_figure("none: a good version is tried", f"{seconds:.1f} s of CPU time", "2 s")


def test_a_simple_graph_of_the_same_kind_passes() -> None:
    trial.run(hostile.files_of(hostile.half([hostile.sums("x")], "sum", columns=hostile.COLUMNS)))


@pytest.mark.security
@pytest.mark.parametrize(
    "model",
    [hostile.endless_loop, hostile.large_tensor, hostile.large_batches, hostile.endless_tree],
)
def test_the_check_of_the_graph_rejects_it_first(model: object) -> None:
    assert callable(model)
    assert rejected(model()).kind == "operators"


@pytest.mark.security
@pytest.mark.parametrize(
    ("name", "model", "program"),
    [
        ("an endless Loop", hostile.endless_loop(), UNCHECKED),
        ("a model that is slow for batches only", hostile.slow_batches(), UNCHECKED),
        ("an endless tree for one age", hostile.endless_tree(), UNCHECKED),
    ],
)
def test_endless_computation_is_ended(
    name: str, model: bytes, program: str, security_figure: SecurityFigure
) -> None:
    start = time.perf_counter()

    assert rejected(model, program).kind == "timeout"

    assert time.perf_counter() - start < LIMITS.seconds + 30  # on a busy machine
    security_figure(f"{name}, {len(model):,} bytes", "rejected", "1 s of CPU time in a subprocess")


@pytest.mark.security
@pytest.mark.parametrize(
    ("name", "model", "program"),
    [
        ("a tensor of 3 GiB", hostile.large_tensor(), UNCHECKED),
        ("gigabytes for batches only", hostile.large_batches(), UNCHECKED),
    ],
)
def test_memory_is_limited(
    name: str, model: bytes, program: str, security_figure: SecurityFigure
) -> None:
    assert rejected(model, program, Limits()).kind == "memory"
    mebibytes = Limits().memory_bytes >> 20
    security_figure(f"{name}, {len(model):,} bytes", "rejected", f"{mebibytes} MiB in a subprocess")


@pytest.mark.security
def test_a_crash_is_a_verdict(security_figure: SecurityFigure) -> None:
    model = hostile.half([hostile.sums("x")], "sum", columns=hostile.COLUMNS)

    rejection = rejected(model, CRASHING)

    assert rejection.kind == "crash"
    assert str(signal.strsignal(signal.SIGSEGV)) in str(rejection)
    security_figure("the runtime crashes while it loads a version", "rejected", "a subprocess ends")


@pytest.mark.security
def test_a_trial_that_the_kernel_killed_had_too_little_memory() -> None:
    model = hostile.half([hostile.sums("x")], "sum", columns=hostile.COLUMNS)

    assert rejected(model, KILLED).kind == "memory"


@pytest.mark.security
def test_a_waiting_trial_is_ended_too() -> None:
    """The limit of CPU time would not end it."""
    rejection = rejected(hostile.endless_loop(), UNCHECKED, Limits(cpu_seconds=600, seconds=3))

    assert rejection.kind == "timeout"


@pytest.mark.security
def test_a_risk_that_depends_on_other_patients_is_rejected() -> None:
    model = hostile.other_patients()
    files = hostile.files_of(model, as_json(recorded(model)))

    with pytest.raises(VersionRejected) as rejection:
        trial.run(files, program=UNCHECKED)

    assert rejection.value.kind == "self_test"


@pytest.mark.security
def test_a_version_is_tried_on_patients_that_it_cannot_know_before(
    security_figure: SecurityFigure,
) -> None:
    """Its graph and its self-test are in order."""
    rejection = rejected(hostile.nan_for_one_age(), limits=Limits())

    assert rejection.kind == "self_test"
    assert f"[{hostile.MARK}, " in str(rejection)
    security_figure(
        "a risk that is NaN for one age only", "rejected", "9,900 random valid patients"
    )


def test_random_patients_are_valid_and_cover_every_value() -> None:
    rows = random_patients(20_000, np.random.default_rng(0))

    assert rows.dtype == np.float32
    texts = decode(rows)
    for column, measurement in enumerate(MEASUREMENTS):
        cells = [measurement.parse(text) for text in texts[measurement.name]]
        assert np.array_equal(np.array(cells, dtype=np.float32), rows[:, column], equal_nan=True)
        share = float(np.mean(np.isnan(rows[:, column])))
        assert share == 0 if measurement.required else 0.2 < share < 0.5
        values = set(rows[:, column][~np.isnan(rows[:, column])].tolist())
        steps = (measurement.high - measurement.low) / measurement.step + 1
        assert len(values) == (len(measurement.choices) or round(steps)), measurement.name


def test_a_trial_that_cannot_start_is_no_verdict() -> None:
    files = hostile.files_of(b"")
    with pytest.raises(RegistryUnavailable, match="no_such_module"):
        trial.run(files, LIMITS, "no_such_module")
    with pytest.raises(RegistryUnavailable):
        trial.run(files, Limits(seconds=0.01))


@pytest.mark.security
def test_a_trial_has_no_secret_no_socket_and_no_right_to_open_one(
    monkeypatch: pytest.MonkeyPatch, security_figure: SecurityFigure
) -> None:
    for name in ("HEART_API_TOKEN", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "a secret")
    model = hostile.half([hostile.sums("x")], "sum", columns=hostile.COLUMNS)
    with socket.create_server(("127.0.0.1", 0)) as server:
        os.set_inheritable(server.fileno(), True)
        rejection = rejected(model, REPORTING)

    report = json.loads(str(rejection))
    assert set(report["variables"]) <= {
        "PYTHONPATH", "LD_LIBRARY_PATH", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "LC_CTYPE",
        "ORT_DISABLE_TELEMETRY",
    }  # fmt: skip
    assert (report["files"], report["folder"]) == (3, "/")
    assert not report["open"]
    assert not report["socket"]
    assert (report["processes"], report["threads"]) == (0, 1)
    security_figure(
        "a version looks for secrets and sockets in its trial",
        f"{report['files']} open files, no socket", "3 open files, no socket",
    )  # fmt: skip


PARENT = """
from heart.registry import trial
from tests.heart.registry import hostile
limits = trial.Limits(cpu_seconds=600, seconds=600)
trial.run(hostile.files_of(hostile.endless_loop()), limits, "tests.heart.registry.trials.unchecked")
"""


def processes(*words: str) -> list[int]:
    """The processes that have these words in their command line."""
    numbers = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words_of_process = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if all(word.encode() in words_of_process for word in words):
            numbers.append(int(path.parent.name))
    return numbers


def first_to_be_killed(pids: list[int]) -> bool:
    """Whether there is one process, and the kernel would kill it first if memory ran out."""
    return [Path(f"/proc/{pid}/oom_score_adj").read_text().strip() for pid in pids] == ["1000"]


@pytest.mark.security
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it ends at its limit of CPU time")
def test_a_trial_ends_with_its_parent(security_figure: SecurityFigure) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], cwd=ROOT) as parent:
        words = (UNCHECKED, str(parent.pid))
        try:
            until(lambda: first_to_be_killed(processes(*words)), 120)
        finally:
            parent.kill()

    until(lambda: not processes(*words), 30)
    security_figure("the service is killed while it tries a version", "the trial ends", "at once")


def test_the_largest_batch_of_the_service_is_tried() -> None:
    assert MANY_ROWS >= MAX_BATCH
