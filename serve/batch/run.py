"""One run from tables to scores: what is done already, what is left, and the end."""

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from filelock import FileLock, Timeout
from tqdm import tqdm

from heart.dataset.headings import PATIENT_ID
from heart.drift.baseline import Reference
from heart.registry.model_version import BESIDE, REFERENCE, Model
from heart.schema import fingerprint
from serve.batch import outcome
from serve.batch.errors import ScoreError
from serve.batch.layout import Choice
from serve.batch.storage import Place
from serve.batch.tables import Part, Table, find, parts, print_codings
from serve.batch.work import PREDICTION, PROBABILITY, WORK, Job, Record

FORMAT = 3  # of what a run keeps of itself: another one cannot go on with it
UNFINISHED, MANIFEST = ".unfinished", "manifest.json"

Engine = Callable[[Job, Sequence[Part]], Iterator[int]]  # yields how many more parts are done


@dataclass(frozen=True)
class Options:
    """What to score to where; `choice` is how to read it, `drift` asks for a report.

    With `raw_text` a CSV file has them as they are, though a spreadsheet may take them for formulas.
    """

    source: Place
    target: Place
    choice: Choice
    drift: bool
    raw_text: bool = False


def run(options: Options, model: Model, onnx: bytes, engine: Engine) -> outcome.Report:
    """Score all tables, or what an earlier run has left of them. Raises ScoreError."""
    target = options.target
    _check_free(target)
    _check_keep(options.choice.keep)
    job = _job(options, model, onnx)
    print_codings(job.tables)
    with _alone(job):
        _bind(job, _manifest(options, job, model))
        todo, known = parts(job.tables), _known(job)
        left = [part for part in todo if not _is_done(job, part, known)]
        with progress(len(todo), len(todo) - len(left)) as bar:
            for more in engine(job, left) if left else ():
                bar.update(more)
        _check_unchanged(job.tables)
        return outcome.finish(job, todo, target, model)


def progress(parts: int, done: int = 0) -> Any:
    """A bar that says how many parts are done."""
    return tqdm(total=parts, initial=done, unit="part", smoothing=0)


def _check_free(target: Place) -> None:
    """Raises ScoreError if something is there that is not this run's."""
    begun = (target.beside(UNFINISHED) / WORK / MANIFEST).exists()
    if there := outcome.in_the_way(target, begun):
        raise ScoreError(f"{' and '.join(map(str, there))}: there already; nothing is overwritten")


def _check_keep(keep: Sequence[str]) -> None:
    """Raises ScoreError if two columns of the output would have one name."""
    for name, times in Counter(keep).items():
        if name in (PROBABILITY, PREDICTION):
            raise ScoreError(
                f"--keep {name}: the output has a column of that name itself, expected another; "
                "rename it in the table"
            )
        if times > 1:
            raise ScoreError(f"--keep {name}: named {times} times, expected once")


def _job(options: Options, model: Model, onnx: bytes) -> Job:
    tables = tuple(find(options.source, options.choice))
    keep = options.choice.keep
    named = any(PATIENT_ID in table.layout.columns for table in tables)
    kept = (PATIENT_ID,) * (named and PATIENT_ID not in keep) + keep
    return Job(
        tables=tables,
        kept=kept,
        folder=options.target.beside(UNFINISHED),
        as_csv=options.target.suffix == ".csv",
        raw_text=options.raw_text,
        model=onnx,
        threshold=model.threshold,
        reference=reference_of(model) if options.drift else None,
    )


def reference_of(model: Model) -> Reference:
    """What drift is measured against. Raises ScoreError."""
    if model.reference is None:
        raise ScoreError(f"version {model.version} of {model.name} has no drift baseline")
    return model.reference


@contextlib.contextmanager
def _alone(job: Job) -> Iterator[None]:
    """Keep other runs on this machine from the same output meanwhile. Raises ScoreError."""
    job.folder.make_folder()
    job.work.make_folder()
    if not job.work.is_local:
        yield
        return
    # No lock by the file's existence as a fallback: that of a killed run would stay.
    lock = FileLock((job.work / "lock").path, timeout=0, mode=0o600, fallback_to_soft=False)
    try:
        with lock:
            yield
    except Timeout:
        raise ScoreError(f"{job.folder}: another run is using it; wait for its end") from None


def _manifest(options: Options, job: Job, model: Model) -> dict[str, Any]:
    """All that the scores depend on."""
    return {
        "format": FORMAT,
        "input": [[t.shown, t.size, t.changed, t.layout.coding.name] for t in job.tables],
        "model": model.sha256,
        "schema": fingerprint(),
        "threshold": model.threshold,
        "kept": list(job.kept),
        "raw text": job.raw_text,
        "drift baseline": model.tags.get(BESIDE[REFERENCE], "") if options.drift else None,
        "output": options.target.suffix,
    }


def _bind(job: Job, manifest: dict[str, Any]) -> None:
    """Begin a run, or go on with one of the same manifest. Raises ScoreError."""
    place = job.work / MANIFEST
    if not place.exists():
        place.write_whole(json.dumps(manifest, indent=1).encode())
        return
    before = _read_manifest(job, place.read())
    differ = [name for name in manifest if manifest[name] != before.get(name)]
    if differ:
        raise ScoreError(
            f"{job.folder}: an unfinished run of another {' and '.join(differ)} is there; "
            "delete the folder to restart, or restore the inputs to resume"
        )


def _read_manifest(job: Job, content: bytes) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads(content)
    except ValueError:  # as a power cut leaves it
        raise ScoreError(
            f"{job.folder}: its {MANIFEST} is no JSON; delete the folder to restart"
        ) from None
    return manifest


def _known(job: Job) -> dict[str, int]:
    """The files that earlier runs have written, and their sizes."""
    return {info.path: info.size for info in job.folder.walk()}


def _is_done(job: Job, part: Part, known: dict[str, int]) -> bool:
    """Whether a part has a record, and its scores and bad rows are all there."""
    place = job.record(part)
    if place.path not in known:
        return False
    content = place.read()
    try:
        record = Record.of(content)
    except (ValueError, TypeError):  # as a power cut leaves it
        return False
    sizes = known.get(job.scores(part).path), known.get(job.bad(part).path, 0)
    return sizes == (record.size, record.bad_size)


def _check_unchanged(tables: Sequence[Table]) -> None:
    """Raises ScoreError for a table that was changed while it was read."""
    for table in tables:
        info = table.place.info()
        if (info.size, info.mtime_ns or 0) != (table.size, table.changed):
            raise ScoreError(f"{table.place}: was changed while it was scored")
