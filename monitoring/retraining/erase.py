"""Erase patients: from the prediction log, the labelled rows, the files made of them, and DVC's cache.

A patient is known by the id of the prediction, which is `patient_id` in every table. A file that contains an
id is deleted, except data/production/labelled.csv, which is written again without the rows; the pipeline makes
the others again. What this cannot reach is printed, and described in docs/upgrade_and_backup.md.
"""

import argparse
import mmap
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from heart import files
from heart.errors import UserError, run_main
from heart.predictions.log import LogError, PredictionLog
from heart.predictions.tables import is_id
from heart.settings import SharedSettings, read
from monitoring.retraining import collect
from monitoring.retraining import lock as run_lock
from monitoring.retraining.run import DVC, LOCK
from monitoring.retraining.webhook.runs import LOGS
from monitoring.retraining.webhook.settings import RetrainerSettings

DVC_FOLDER = Path(".dvc")
TEMPORARY = DVC_FOLDER / "tmp"  # queued experiments have copies of the data there
OTHERS = (Path("models"), files.METRICS, files.PLOTS, Path("reports"))
UNUSED = "needed-by-the-receiver-alone"  # the receiver's settings must have secrets


@dataclass
class Erasure:
    """What was done, and which files still contain an id."""

    predictions: int = 0
    rows: int = 0
    deleted: list[Path] = field(default_factory=list)
    remaining: list[Path] = field(default_factory=list)

    @property
    def nothing(self) -> bool:
        """Whether no place had any of the ids."""
        return not (self.predictions or self.rows or self.deleted or self.remaining)


@dataclass(frozen=True)
class Cache:
    """DVC's cache of this checkout, and the names of its remotes."""

    folder: Path
    remotes: Sequence[str]

    @staticmethod
    def of_checkout() -> "Cache":
        """From DVC's configuration, which may put the cache elsewhere."""
        if not (DVC_FOLDER / "config").exists():
            return Cache(files.CACHE, ())
        from dvc.repo import Repo

        with Repo() as repo:
            return Cache(Path(repo.cache.local.path).parents[1], tuple(repo.config["remote"]))


def erase_from_log(ids: Sequence[str]) -> int:
    """Erase predictions from the log, also from free space in its files; the number that was there.

    Raises UserError while a service writes a log in SQLite that contains any of them.
    """
    with collect.opened() as reader:
        present = [key for key in ids if reader.get(key)]
    try:
        with closing(PredictionLog(read(SharedSettings).log_url)) as log:
            log.start()
            for key in present:
                log.erase(key)
            log.compact()
    except LogError as error:
        if not present:
            print(f"note: the log's free space was not rewritten: {error}", file=sys.stderr)
            return 0
        raise UserError(
            f"{error}; if the service runs, erase there with DELETE /predictions/ID, then repeat this "
            "for the files, or stop the service first"
        ) from None
    return len(present)


def erase_from_files(ids: Sequence[str], cache: Cache) -> Erasure:
    """Write the labelled rows again, and delete all other files with an id. Raises UserError."""
    pattern = re.compile(b"|".join(key.encode() for key in ids))
    result = Erasure(rows=_rewrite(set(ids)) if _contains(files.PRODUCTION, pattern) else 0)
    tracked = _tracked()
    # The cache last: DVC may restore a file from it as long as the file is asked for.
    for path in _files(files.DATA, *OTHERS, _logs(), TEMPORARY, cache.folder):
        if not _contains(path, pattern):
            continue
        if path in tracked:
            result.remaining.append(path)
        else:
            path.unlink()
            result.deleted.append(path)
    return result


def _logs() -> Path:
    """The folder with the output of retrainings, which may quote rows of patients."""
    folder = read(RetrainerSettings, token=UNUSED, secret=UNUSED).folder / LOGS
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder


def _files(*folders: Path) -> Iterator[Path]:
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                yield path


def _contains(path: Path, pattern: re.Pattern[bytes]) -> bool:
    if not path.is_file() or not path.stat().st_size:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return pattern.search(content) is not None


def _rewrite(ids: set[str]) -> int:
    """Write data/production/labelled.csv without the rows of the ids; their number."""
    table = files.read_table(files.PRODUCTION)
    if collect.PATIENT not in table:
        raise UserError(
            f"{files.PRODUCTION} contains an id, but has no column {collect.PATIENT}: remove the rows by hand"
        )
    rest = table[~table[collect.PATIENT].isin(ids)]
    if len(rest):
        files.write_table(files.PRODUCTION, rest)
    else:
        files.POINTER.unlink(missing_ok=True)  # first: a pointer without the file is an error
        files.PRODUCTION.unlink()
    return len(table) - len(rest)


def _tracked() -> set[Path]:
    """The files that git tracks: to delete them here would leave them in its history."""
    try:
        done = subprocess.run(
            ["git", "ls-files", "-z", str(files.DATA), *map(str, OTHERS)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        return set()
    return {Path(name) for name in done.stdout.split("\0") if name}


def version_rows() -> None:
    """Point DVC at the labelled rows as they are now. Raises UserError."""
    if not files.POINTER.exists():
        return
    done = subprocess.run(
        [*DVC, "add", "--quiet", str(files.PRODUCTION)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise UserError(f"dvc add {files.PRODUCTION}: {done.stdout.strip()}")
    files.close_folders()


def report(erasure: Erasure, cache: Cache) -> Iterator[str]:
    """What was done and what remains, as lines."""
    in_cache = sum(path.is_relative_to(cache.folder) for path in erasure.deleted)
    yield (
        f"erased: {erasure.predictions} from the prediction log, {erasure.rows} from {files.PRODUCTION}; "
        f"deleted: {len(erasure.deleted) - in_cache} derived files, {in_cache} versions in {cache.folder}"
    )
    for path in erasure.remaining:
        yield f"remains: {path}, which git tracks: remove the row there and from git's history"
    for name in cache.remotes:
        yield f"may remain: DVC remote {name}"
    yield (
        "may remain: models trained with the patient, backups, other clones "
        "(docs/upgrade_and_backup.md, Erasure)"
    )
    if erasure.deleted or erasure.rows:
        yield "next: make repro, then commit dvc.lock, metrics/ and the pointer of the labelled rows"


def erase(ids: Sequence[str]) -> tuple[Erasure, Cache]:
    """Erase patients everywhere in this checkout and from its log. Raises UserError.

    Safe to repeat. The log comes first: the next collection would bring its rows back.
    """
    cache = Cache.of_checkout()
    predictions = erase_from_log(ids)
    result = erase_from_files(ids, cache)
    result.predictions = predictions
    version_rows()
    if result.nothing:
        raise UserError(
            f"{', '.join(ids[:3])}{' ...' if len(ids) > 3 else ''}: in no row of the prediction log or of a "
            "file, expected the prediction_id of an answer; if it was erased before, there is nothing to do"
        )
    return result, cache


def checked(texts: Iterable[str]) -> list[str]:
    """The ids, each once. Raises UserError for a text that is none, or without any."""
    ids = list(dict.fromkeys(text.strip() for text in texts if text.strip()))
    for text in ids:
        if not is_id(text):
            raise UserError(f"{text!r} is no prediction_id, expected 32 hexadecimal digits")
    if not ids:
        raise UserError(
            "no id is given: make erase ID=prediction_id, or IDS=FILE with one in each line"
        )
    return ids


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m monitoring.retraining.erase", description=__doc__
    )
    parser.add_argument("id", nargs="*", help="prediction_id of a patient")
    parser.add_argument("--ids", type=Path, help="file with one prediction_id in each line")
    options = parser.parse_args()
    lines = options.ids.read_text().splitlines() if options.ids else []
    ids = checked([*options.id, *lines])
    with run_lock.hold(LOCK):  # a retraining would write the rows that it has read
        erasure, cache = erase(ids)
    print("\n".join(report(erasure, cache)))


if __name__ == "__main__":
    run_main(main)
