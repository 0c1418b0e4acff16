"""The registry as the service sees it: which version is meant, and its files.

It is only read from, save that the champion may be taken back (`roll_back`).
"""

import contextlib
import logging
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from heart.registry import local_store
from heart.registry.aliases import (
    BESIDE_FOLDER,
    CHAMPION,
    SHA256,
    VERDICT,
    AliasError,
    aliases,
    first_line,
    roll_back,
    set_up_client,
    without_password,
)
from heart.registry.errors import RegistryUnavailable, Rejection, VersionRejected
from heart.registry.model_version import (
    BESIDE,
    CALIBRATION,
    EVALUATE,
    IDENTITY,
    MAX_BYTES,
    ONNX,
    SELF_TEST,
    TRAIN,
    Card,
)
from heart.settings import MODEL


@dataclass(frozen=True)
class Version:
    """A registered version, as the registry describes it."""

    name: str
    number: str
    run_id: str
    tags: Mapping[str, str]

    @property
    def sha256(self) -> str:
        """The hash of its model, empty if its tag is none."""
        tag = self.tags.get(SHA256, "")
        return tag if re.fullmatch(r"[0-9a-f]{64}", tag) else ""

    def same(self, known: Card | Rejection) -> bool:
        """Whether that is this version, with all that its answers depend on."""
        if (known.version, known.sha256) != (self.number, self.sha256):
            return False
        return isinstance(known, Rejection) or all(
            known.tags.get(tag) == self.tags.get(tag) for tag in IDENTITY
        )


class Registry:
    """The registry, to read from. Every method raises Unavailable within seconds if it is down."""

    def __init__(self, uri: str, reference: str) -> None:
        self._uri = uri
        parts = MODEL.fullmatch(reference)
        if not parts:
            raise ValueError(f"{reference!r} is no model")
        self.name: str = parts["name"]
        self._alias, self._number = parts["alias"], parts["number"]
        self._client: Any = None

    def resolve(self) -> Version:
        """The version that the alias, the number or `newest` means now."""
        with self._asking() as client:
            return _described(self._find(client))

    def aliased(self, *wanted: str) -> dict[str, Version]:
        """The version of each of these aliases that a version has."""
        with self._asking() as client:
            held = aliases(client, self.name)
            return {
                alias: _described(client.get_model_version(self.name, held[alias]))
                for alias in wanted
                if alias in held
            }

    @property
    def follows_champion(self) -> bool:
        """Whether what is served changes with the alias `champion`."""
        return self._alias == CHAMPION

    def roll_back(self, champion: str) -> str:
        """Take a champion back. Returns the version that is it now; raises AliasError."""
        with self._asking() as client:
            return roll_back(client, self.name, champion)

    def _find(self, client: Any) -> Any:
        if self._alias:
            return client.get_model_version_by_alias(self.name, self._alias)
        if self._number != "newest":
            return client.get_model_version(self.name, self._number)
        found = client.search_model_versions(
            f"name = '{self.name}'", max_results=1, order_by=["version_number DESC"]
        )
        if not found:
            raise RegistryUnavailable(f"the registry holds no version of {self.name}")
        return found[0]

    def download(self, version: Version, folder: Path) -> None:
        """Bring the model and the files beside it into a folder."""
        wanted = (ONNX, SELF_TEST, *(file for file, tag in BESIDE.items() if tag in version.tags))
        with self._asking() as client:
            uri = client.get_model_version_download_uri(version.name, version.number)
            brought = self._bring(uri, ("", BESIDE_FOLDER), wanted, folder)
        for file in set(wanted) - brought:
            # Not the version's fault: a folder that was not restored, a share not mounted.
            raise RegistryUnavailable(f"version {version.number}: {file} is not where it should be")

    def download_figures(self, version: Version, folder: Path) -> None:
        """Bring the run's figures into a folder, as far as there are any."""
        if version.run_id:
            with self._asking() as client:
                uri = client.get_run(version.run_id).info.artifact_uri
                self._bring(uri, ("metrics", "plots"), (EVALUATE, TRAIN, CALIBRATION), folder)

    def _bring(self, uri: str, folders: Sequence[str], wanted: Sequence[str], to: Path) -> set[str]:
        """Download those of the wanted files that there are. Returns their names."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        uri = local_store.resolve(uri, self._uri)
        store = get_artifact_repository(uri, tracking_uri=self._uri, registry_uri=self._uri)
        listed = [file for name in folders for file in store.list_artifacts(name or None)]
        sizes = {file.path: file.file_size for file in listed}
        there = set(wanted) & sizes.keys()
        for file in there:
            if (sizes[file] or 0) > MAX_BYTES:
                raise VersionRejected("size", f"{file} is larger than {MAX_BYTES} bytes")
            store.download_artifacts(file, str(to))
        return there

    @contextlib.contextmanager
    def _asking(self) -> Iterator[Any]:
        try:
            self._probe()
            self._client = self._client or _mlflow_client(self._uri)
            yield self._client
        except (RegistryUnavailable, VersionRejected, AliasError):
            raise
        except Exception as error:
            # Whatever store it is, its client has exceptions of its own: one for all.
            raise RegistryUnavailable(without_password(first_line(error))) from error

    def _probe(self) -> None:
        """Leave a SQLite file alone that is absent or empty: MLflow would make it, and its tables."""
        path = local_store.sqlite_path(self._uri)
        if path is None:
            return
        if not path.exists():
            raise RegistryUnavailable(
                f"{path} does not exist: `make register` creates it; if its folder was renamed, restart"
            )
        # Not read-only: only a connection that may write undoes what a killed stage has left half-done.
        with contextlib.closing(
            sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True)
        ) as file:
            if not file.execute("SELECT 1 FROM registered_models LIMIT 1").fetchone():
                raise RegistryUnavailable("the registry holds no model")


def _described(found: Any) -> Version:
    return Version(
        str(found.name),
        str(found.version),
        str(found.run_id or ""),
        # The verdict is set after the alias: it would be there for one replica only.
        {name: value for name, value in found.tags.items() if name != VERDICT},
    )


def _mlflow_client(uri: str) -> Any:
    set_up_client()
    # A pooled connection would go on reading a SQLite file that was replaced by another.
    os.environ.setdefault("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")
    from mlflow import MlflowClient

    # What goes wrong is said here, once, without a stack trace.
    for noisy in ("alembic", "mlflow", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)
