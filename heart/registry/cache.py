"""Versions on disk: a restart serves at once what was served last, checked like a download."""

import contextlib
import csv
import json
import logging
import math
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from heart.registry.aliases import SCHEMA
from heart.registry.errors import VersionRejected
from heart.registry.model_version import (
    BESIDE,
    CALIBRATION,
    CARD,
    EVALUATE,
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
SECONDS_KEPT = 3600.0  # a replica may be reading a folder that this one no longer needs

logger = logging.getLogger(__name__)


class Cache:
    """Versions that passed every check, a folder each, and a pointer to the one that was served.

    Folders and pointer appear whole or not at all, so that a start after a crash, or a replica
    beside this one, never reads half of one. What is read is checked again.
    """

    def __init__(self, root: Path, reference: str) -> None:
        self._root = root
        self._reference = reference

    def folder(self, name: str, number: str, sha256: str) -> Path:
        """Where a version lies, or would."""
        return self._root / name / f"{number}-{sha256[:12]}"

    def last(self) -> Model | None:
        """The model that was served last for the same setting. Raises VersionRejected."""
        try:
            pointer = json.loads((self._root / POINTER).read_bytes())
            if pointer["model"] != self._reference:
                return None
            folder = self.folder(pointer["name"], pointer["version"], pointer["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return load(folder, from_cache=True)

    def load(self, version: Version) -> Model | None:
        """A version that was kept before; None if it is not there, or no longer what it was."""
        folder = self.folder(version.name, version.number, version.sha256)
        if not folder.exists():
            return None
        try:
            model = load(folder)
        except VersionRejected as refusal:
            logger.warning("%s in the cache is no good, downloading again: %s", folder, refusal)
        else:
            if model.sha256 == version.sha256:
                return model
        shutil.rmtree(folder)
        return None

    def keep(self, version: Version, registry: Registry) -> Model:
        """Download a version and check it; only then it is kept. Raises VersionRejected, RegistryUnavailable."""
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
            try:
                part.rename(folder)
            except OSError:
                if not folder.exists():  # else a replica was faster, and it has the same
                    raise
        return model

    def point_at(self, model: Model, previous: Model | None) -> None:
        """Make a model the one of the next start, and forget folders of no further use."""
        folder = self._root / model.name
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=PART, dir=folder) as work:
            part = Path(work) / POINTER
            _write(part, {"model": self._reference, "name": model.name,
                          "version": model.version, "sha256": model.sha256})  # fmt: skip
            part.replace(self._root / POINTER)
        kept = {self.folder(m.name, m.version, m.sha256) for m in (model, previous) if m}
        for other in set(folder.iterdir()) - kept:
            with contextlib.suppress(FileNotFoundError):  # a replica forgets them too
                if time.time() - other.stat().st_mtime > SECONDS_KEPT:
                    shutil.rmtree(other)


def _card(version: Version, folder: Path, figures: Path) -> Card:
    """What is known of a version whose files were downloaded. Raises VersionRejected."""
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
        _calibration(figures / CALIBRATION),
        training,
    )


def _optional_json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}


def _calibration(path: Path) -> list[dict[str, float]]:
    if not path.exists():
        return []
    try:
        rows = csv.DictReader(read(path).decode().splitlines(), strict=True)
        points = [{name: float(value) for name, value in row.items()} for row in rows]
    except (ValueError, TypeError, csv.Error) as error:
        raise VersionRejected("unreadable", f"{CALIBRATION}: {error}") from error
    return [point for point in points if all(map(math.isfinite, point.values()))]


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
