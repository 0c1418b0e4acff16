"""Versions on disk: after a restart the service starts with the version that it served last.

How a version gets into the cache and out again:

1. `keep` downloads its files into a folder `.part-*` and loads the model from there, with every check
   (`model_version.load`), after a trial in a subprocess (`trial.py`). A failure leaves nothing behind.
2. `seal` writes `SHA256SUMS`, with the hash of each other file.
3. One `rename` gives the folder its name, `NAME/NUMBER-HASH/`. Readers see a whole folder or none.
4. `point_at` writes `current.json`, which names one such folder and the hash of its `SHA256SUMS`: one hash
   for all that an answer depends on.
5. `last` reads the folder that `current.json` names, and `load` finds a folder by version. Both read each
   file once, compare all hashes and repeat trial and checks; `load` also compares the registry's tags.

For example, `heart-disease/3-9f2c51ab04d7/` holds version 3, the hash of whose model begins with 9f2c51ab04d7.
A rename is atomic by POSIX (rename(2)), and `sha256sum -c SHA256SUMS` checks a folder by hand.
"""

import contextlib
import errno
import hashlib
import json
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from heart.registry import figures
from heart.registry.aliases import SCHEMA
from heart.registry.errors import EXHAUSTED, CacheUnwritable, RegistryUnavailable, VersionRejected
from heart.registry.model_version import (
    BESIDE,
    CARD,
    TRAINING,
    Card,
    Files,
    Model,
    check_hash,
    describe,
    load,
    read_files,
    read_json,
    text_of,
)
from heart.registry.resolver import Registry, Version
from heart.registry.signing import Signatures
from heart.registry.trial import run
from heart.registry.verdicts import Trial, Verdicts

POINTER, PART, VERDICTS = "current.json", ".part-", "verdicts.json"
SUMS = "SHA256SUMS"  # the hashes of all other files of a folder, in the format of sha256sum
SECONDS_KEPT = 3600.0  # a replica may be reading a folder that this one no longer needs

logger = logging.getLogger(__name__)


class Cache:
    """Versions that passed every check, one folder for each, and a pointer to the one served last.

    Every byte is checked again when it is read: a threshold or a range that a disk fault or an editor has
    changed is as wrong as a changed model. A writer of the folder could also write new sums, so that the
    version is compared with the registry as well, once it answers (`Version.same`).
    """

    def __init__(
        self,
        root: Path,
        reference: str,
        on_damage: Callable[[VersionRejected], None] = lambda _: None,
        trial: Trial = run,
        signatures: Signatures = Signatures(),  # noqa: B008
    ) -> None:
        """`on_damage` is called once for each version whose files were changed."""
        self._root = root
        self._reference = reference
        self._on_damage = on_damage
        self._damaged: Path | None = None
        self._signatures = signatures
        self.verdicts = Verdicts(root / VERDICTS, trial)

    def folder(self, name: str, number: str, sha256: str) -> Path:
        """The folder of a version, whether it exists or not."""
        return self._root / name / f"{number}-{sha256[:12]}"

    def last(self) -> Model | None:
        """The model that was served last for the same HEART_MODEL. Raises VersionRejected, RegistryUnavailable."""
        try:
            pointer = json.loads((self._root / POINTER).read_bytes())
            if pointer["model"] != self._reference:
                return None
            version = pointer["name"], pointer["version"], pointer["sha256"]
            entry, folder = pointer["entry"], self.folder(*version)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise VersionRejected("unreadable", f"{POINTER}: {error!r}") from error
        self._damaged = folder
        files = _sealed(folder)
        if _digest(files) != entry:
            raise VersionRejected("hash", f"{folder.name} has other hashes than in {POINTER}")
        model = self._verified(files, from_cache=True)
        if (model.name, model.version, model.sha256) != version:
            raise VersionRejected("hash", f"{folder.name} holds version {model.version}")
        self._damaged = None
        return model

    def load(self, version: Version) -> Model | None:
        """A version from the cache; None if it is absent, or if its files were changed."""
        folder = self.folder(version.name, version.number, version.sha256)
        if not folder.exists():
            return None
        try:
            model = self._verified(_sealed(folder))
        except VersionRejected as error:
            if error.kind in EXHAUSTED:
                raise  # the files are those that were downloaded
            self._report(folder, error)
        else:
            if version.same(model):
                return model
            self._report(
                folder, VersionRejected("hash", f"{CARD} differs from the registry's tags")
            )
        shutil.rmtree(folder, ignore_errors=True)  # a replica may have deleted it
        return None

    def _report(self, folder: Path, error: VersionRejected) -> None:
        """Log and count damaged files, unless `last` has raised it."""
        if folder != self._damaged:
            logger.warning("%s in the cache is rejected, downloading again: %s", folder, error)
            self._on_damage(error)
        self._damaged = None

    def keep(self, version: Version, registry: Registry) -> Model:
        """Download and check a version, then keep it.

        Raises VersionRejected, RegistryUnavailable, CacheUnwritable.
        """
        self._signatures.require(version.name, version.number, version.tags)  # before any download
        try:
            return self._keep(version, registry)
        except OSError as error:
            raise self._unwritable(error) from error

    def _keep(self, version: Version, registry: Registry) -> Model:
        folder = self.folder(version.name, version.number, version.sha256)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=PART, dir=folder.parent) as work:
            part, run = Path(work) / "model", Path(work) / "figures"
            part.mkdir()
            run.mkdir()
            registry.download(version, part)
            card = _card(version, read_files(part), _figures(version, registry, run))
            _write(part / CARD, asdict(card))
            model = self._verified(read_files(part))
            seal(part)
            try:
                part.rename(folder)
            except OSError:
                if not folder.exists():  # otherwise a replica has kept the same version
                    raise
        return model

    def _unwritable(self, error: OSError) -> CacheUnwritable:
        """Which folder cannot be written, why, and the way out."""
        reason = error.strerror or str(error)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return CacheUnwritable(
                f"HEART_CACHE_DIR: {self._root}: {reason}, expected a writable folder"
            )
        with contextlib.suppress(OSError):
            reason += f" ({shutil.disk_usage(self._root).free >> 20} MiB are free)"
        return CacheUnwritable(
            f"HEART_CACHE_DIR: {self._root}: {reason}: free some space on its disk, or set "
            "HEART_CACHE_DIR to a folder on a larger one"
        )

    def _verified(self, files: Files, *, from_cache: bool = False) -> Model:
        card = describe(files)  # what needs no process comes first
        self._signatures.require(card.name, card.version, card.tags)
        self.verdicts.require(files, _digest(files))
        return load(files, from_cache=from_cache)

    def point_at(self, model: Model, previous: Model | None) -> None:
        """Make a model the one of the next start, and delete folders that are no longer needed."""
        folder = self._root / model.name
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=PART, dir=folder) as work:
            part = Path(work) / POINTER
            entry = _digest(_sealed(self.folder(model.name, model.version, model.sha256)))
            _write(part, {"model": self._reference, "name": model.name, "version": model.version,
                          "sha256": model.sha256, "entry": entry})  # fmt: skip
            part.replace(self._root / POINTER)
        kept = {self.folder(m.name, m.version, m.sha256) for m in (model, previous) if m}
        for other in set(folder.iterdir()) - kept:
            with contextlib.suppress(FileNotFoundError):  # a replica may delete it at the same time
                if time.time() - other.stat().st_mtime > SECONDS_KEPT:
                    shutil.rmtree(other)


def seal(folder: Path) -> None:
    """Write the hash of every file of a version."""
    (folder / SUMS).write_text(_sums(read_files(folder)))


def _sealed(folder: Path) -> Files:
    """The files of a version, if each has its recorded hash. Raises VersionRejected."""
    files = read_files(folder)
    expected, actual = text_of(files, SUMS), _sums(files).encode()
    if expected != actual:
        different = set(expected.splitlines()) ^ set(actual.splitlines())
        names = sorted({line[66:].decode(errors="replace") for line in different})
        raise VersionRejected("hash", f"{', '.join(names) or SUMS}: changed since it was kept")
    return files


def _sums(files: Files) -> str:
    return "".join(
        f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n"
        for name in sorted(files)
        if name != SUMS
    )


def _digest(files: Files) -> str:
    """One hash of all files of a version."""
    return hashlib.sha256(_sums(files).encode()).hexdigest()


def _figures(version: Version, registry: Registry, folder: Path) -> dict[str, Any]:
    """The parts of the card from the version's run; without a run, or with a damaged one, they are empty.

    `mlflow gc` may have removed the run. No prediction depends on its figures.
    """
    try:
        registry.download_figures(version, folder)
        return figures.parts(read_files(folder))
    except (RegistryUnavailable, VersionRejected) as error:
        logger.warning("version %s has no figures: %s", version.number, error)
        return figures.parts({})


def _card(version: Version, files: Files, parts: Mapping[str, Any]) -> Card:
    """The card of a version whose files were downloaded. Raises VersionRejected."""
    training: dict[str, Any] = {}
    if expected := version.tags.get(BESIDE[TRAINING]):
        check_hash(files, TRAINING, expected)
        training = read_json(files, TRAINING)
    return Card(
        name=version.name,
        version=version.number,
        run_id=version.run_id,
        sha256=version.sha256,
        schema_fingerprint=version.tags.get(SCHEMA, ""),
        tags=version.tags,
        training=training,
        **parts,
    )


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
