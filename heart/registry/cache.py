"""Versions on disk: after a restart the service starts with the version that it served last.

How a version gets into the cache and out again:

1. `keep` downloads its files into a folder `.part-*` and loads the model from there, with every check
   (`model_version.load`). A failure leaves nothing behind.
2. `seal` writes `SHA256SUMS`, with the hash of each other file.
3. One `rename` gives the folder its name, `NAME/NUMBER-HASH/`. Readers see a whole folder or none.
4. `last` reads `current.json`, which names one such folder, and `load` finds a folder by version. Both
   compare all hashes and repeat the checks; `load` also compares the tags with the registry's.

For example, `heart-disease/3-9f2c51ab04d7/` holds version 3, the hash of whose model begins with 9f2c51ab04d7.
A rename is atomic by POSIX (rename(2)), and `sha256sum -c SHA256SUMS` checks a folder by hand.
"""

import contextlib
import csv
import hashlib
import json
import logging
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from heart.registry.aliases import SCHEMA
from heart.registry.errors import VersionRejected
from heart.registry.model_version import (
    BESIDE,
    CALIBRATION,
    CARD,
    DECISION,
    EVALUATE,
    ROC,
    TRAIN,
    TRAINING,
    Card,
    Model,
    checked,
    load,
    read,
    read_json,
)
from heart.registry.resolver import Registry, Version

POINTER, PART = "current.json", ".part-"
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
    ) -> None:
        """`on_damage` is called once for each version whose files were changed."""
        self._root = root
        self._reference = reference
        self._on_damage = on_damage
        self._damaged: Path | None = None

    def folder(self, name: str, number: str, sha256: str) -> Path:
        """The folder of a version, whether it exists or not."""
        return self._root / name / f"{number}-{sha256[:12]}"

    def last(self) -> Model | None:
        """The model that was served last for the same HEART_MODEL. Raises VersionRejected."""
        try:
            pointer = json.loads((self._root / POINTER).read_bytes())
            if pointer["model"] != self._reference:
                return None
            version = pointer["name"], pointer["version"], pointer["sha256"]
            folder = self.folder(*version)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        self._damaged = folder
        model = _load_sealed(folder, from_cache=True)
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
            return _load_registered(folder, version)
        except VersionRejected as rejection:
            logger.warning("%s in the cache is rejected, downloading again: %s", folder, rejection)
            if folder != self._damaged:
                self._on_damage(rejection)
            self._damaged = None
        shutil.rmtree(folder, ignore_errors=True)  # a replica may have deleted it
        return None

    def keep(self, version: Version, registry: Registry) -> Model:
        """Download and check a version, then keep it. Raises VersionRejected, RegistryUnavailable."""
        folder = self.folder(version.name, version.number, version.sha256)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=PART, dir=folder.parent) as work:
            part, figures = Path(work) / "model", Path(work) / "figures"
            part.mkdir()
            figures.mkdir()
            registry.download(version, part)
            registry.download_figures(version, figures)
            _write(part / CARD, asdict(_card(version, part, figures)))
            model = load(part)
            seal(part)
            try:
                part.rename(folder)
            except OSError:
                if not folder.exists():  # otherwise a replica has kept the same version
                    raise
        return model

    def point_at(self, model: Model, previous: Model | None) -> None:
        """Make a model the one of the next start, and delete folders that are no longer needed."""
        folder = self._root / model.name
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=PART, dir=folder) as work:
            part = Path(work) / POINTER
            _write(part, {"model": self._reference, "name": model.name,
                          "version": model.version, "sha256": model.sha256})  # fmt: skip
            part.replace(self._root / POINTER)
        kept = {self.folder(m.name, m.version, m.sha256) for m in (model, previous) if m}
        for other in set(folder.iterdir()) - kept:
            with contextlib.suppress(FileNotFoundError):  # a replica may delete it at the same time
                if time.time() - other.stat().st_mtime > SECONDS_KEPT:
                    shutil.rmtree(other)


def seal(folder: Path) -> None:
    """Write the hash of every file of a version."""
    (folder / SUMS).write_text(_sums(folder))


def _load_sealed(folder: Path, *, from_cache: bool = False) -> Model:
    """The model in a folder, if every file has its recorded hash. Raises VersionRejected."""
    expected, actual = read(folder / SUMS), _sums(folder).encode()
    if expected != actual:
        different = set(expected.splitlines()) ^ set(actual.splitlines())
        names = sorted({line[66:].decode(errors="replace") for line in different})
        raise VersionRejected("hash", f"{', '.join(names) or SUMS}: changed since it was kept")
    return load(folder, from_cache=from_cache)


def _load_registered(folder: Path, version: Version) -> Model:
    """The model in a folder, if its tags are also those in the registry. Raises VersionRejected."""
    model = _load_sealed(folder)
    if not version.same(model):
        raise VersionRejected("hash", f"{CARD} differs from the version's tags in the registry")
    return model


def _sums(folder: Path) -> str:
    files = {
        path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()
    }
    files.pop(SUMS, None)
    return "".join(
        f"{hashlib.sha256(read(files[name])).hexdigest()}  {name}\n" for name in sorted(files)
    )


def _card(version: Version, folder: Path, figures: Path) -> Card:
    """The card of a version whose files were downloaded. Raises VersionRejected."""
    training: dict[str, Any] = {}
    if expected := version.tags.get(BESIDE[TRAINING]):
        checked(folder / TRAINING, expected)
        training = read_json(folder / TRAINING)
    return Card(
        version.name,
        version.number,
        version.run_id,
        version.sha256,
        version.tags.get(SCHEMA, ""),
        version.tags,
        _optional_json(figures / EVALUATE),
        _optional_json(figures / TRAIN),
        _points(figures, CALIBRATION),
        training,
        roc=_points(figures, ROC),
        decision=_points(figures, DECISION),
    )


def _optional_json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}


def _points(figures: Path, file: str) -> list[dict[str, float]]:
    """The points of a plot; empty if the version has none. Raises VersionRejected."""
    path = figures / file
    if not path.exists():
        return []
    try:
        rows = csv.DictReader(read(path).decode().splitlines(), strict=True)
        points = [{name: float(value) for name, value in row.items()} for row in rows]
    except (ValueError, TypeError, csv.Error) as error:
        raise VersionRejected("unreadable", f"{file}: {error}") from error
    return [point for point in points if all(map(math.isfinite, point.values()))]


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
