"""The registry for the service: which version HEART_MODEL names, and the download of its files.

The service only reads from it, except for the automatic rollback (`roll_back`).
"""

import contextlib
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heart.errors import store_reason
from heart.registry import local_store
from heart.registry.aliases import (
    BESIDE_FOLDER,
    CHAMPION,
    IDENTITY,
    SHA256,
    VERDICT,
    AliasError,
    aliases,
    roll_back,
    set_up_client,
)
from heart.registry.download import copy
from heart.registry.errors import (
    CacheUnwritable,
    NoSuchVersion,
    RegistryUnavailable,
    Rejection,
    VersionRejected,
)
from heart.registry.model_version import (
    BESIDE,
    FIGURES,
    ONNX,
    SELF_TEST,
    Card,
)
from heart.settings import MODEL

MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # codes of MLflow's errors
BUSY_SECONDS = 5.0  # limit of the wait for a lock that another process holds on a SQLite file


@dataclass(frozen=True)
class Version:
    """A registered version, as the registry describes it."""

    name: str
    number: str
    run_id: str
    tags: Mapping[str, str]

    @property
    def sha256(self) -> str:
        """The hash of its model; empty if the tag is not a SHA-256."""
        tag = self.tags.get(SHA256, "")
        return tag if re.fullmatch(r"[0-9a-f]{64}", tag) else ""

    def same(self, other: Card | Rejection) -> bool:
        """Whether the other is this version, with the same values of all tags on which predictions depend."""
        if (other.version, other.sha256) != (self.number, self.sha256):
            return False
        return isinstance(other, Rejection) or all(
            other.tags.get(tag) == self.tags.get(tag) for tag in IDENTITY
        )

    def rejected(self, last: Rejection | None) -> bool:
        """Whether this is the version that was rejected last, and is not yet to be tried again."""
        return last is not None and self.same(last) and time.time() < last.retry_at


class Registry:
    """The registry. Every method raises RegistryUnavailable within seconds if it does not answer."""

    def __init__(self, uri: str, reference: str) -> None:
        self._uri = uri
        parts = MODEL.fullmatch(reference)
        if not parts:
            raise ValueError(f"{reference!r} is not the name of a model")
        self.name: str = parts["name"]
        self._alias, self._number = parts["alias"], parts["number"]
        self._client: Any = None
        self._asked_at: float | None = None

    @property
    def silent_seconds(self) -> float:
        """Since when a server owes the answer to a question; 0 if it owes none."""
        asked_at = self._asked_at
        return 0.0 if asked_at is None else time.monotonic() - asked_at

    def resolve(self) -> Version:
        """The version that the alias, the number or `newest` names now."""
        with self._connected() as client, self._asking():
            return _version(self._find(client))

    def aliased(self, *names: str) -> dict[str, Version]:
        """The version of each of these aliases; those that no version has are left out."""
        with self._connected() as client, self._asking():
            numbers = aliases(client, self.name)
            return {
                alias: _version(client.get_model_version(self.name, numbers[alias]))
                for alias in names
                if alias in numbers
            }

    @property
    def follows_champion(self) -> bool:
        """Whether HEART_MODEL names the alias `champion`."""
        return self._alias == CHAMPION

    def roll_back(self, champion: str) -> str:
        """Replace a champion by `previous`. Returns the new champion; raises AliasError."""
        with self._connected() as client:
            return roll_back(client, self.name, champion)

    def _find(self, client: Any) -> Any:
        if self._alias:
            return client.get_model_version_by_alias(self.name, self._alias)
        if self._number != "newest":
            return client.get_model_version(self.name, self._number)
        versions = client.search_model_versions(
            f"name = '{self.name}'", max_results=1, order_by=["version_number DESC"]
        )
        if not versions:
            raise NoSuchVersion(f"the registry holds no version of {self.name}")
        return versions[0]

    def download(self, version: Version, folder: Path) -> None:
        """Download the model and the files beside it into a folder."""
        names = (ONNX, SELF_TEST, *(file for file, tag in BESIDE.items() if tag in version.tags))
        with self._connected() as client:
            uri = client.get_model_version_download_uri(version.name, version.number)
            files = self._download(uri, ("", BESIDE_FOLDER), names, folder)
        for file in set(names) - files:
            # The version may be intact: perhaps a folder was not restored, or a share is not mounted.
            raise RegistryUnavailable(f"version {version.number}: {file} is missing in {uri}")

    def download_figures(self, version: Version, folder: Path) -> None:
        """Download the figures of the run into a folder, as far as there are any."""
        if version.run_id:
            with self._connected() as client:
                uri = client.get_run(version.run_id).info.artifact_uri
                self._download(uri, ("metrics", "plots"), FIGURES, folder)

    def _download(
        self, uri: str, folders: Sequence[str], names: Sequence[str], target: Path
    ) -> set[str]:
        """Download those of the named files that exist. Returns their names.

        Raises VersionRejected and CacheUnwritable.
        """
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        uri = local_store.resolve(uri, self._uri)
        store = get_artifact_repository(uri, tracking_uri=self._uri, registry_uri=self._uri)
        artifacts = [file for folder in folders for file in store.list_artifacts(folder or None)]
        listed = {file.path: file for file in artifacts if file.path in names}
        for file in listed.values():
            copy(store, file, target)
        return set(listed)

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        """Measure how long a server does not answer; opening a database for the first time takes long too."""
        if self._uri.startswith(("http://", "https://")):
            self._asked_at = time.monotonic()
        try:
            yield
        finally:
            self._asked_at = None

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Any]:
        try:
            self._probe()
            self._client = self._client or _mlflow_client(self._uri)
            yield self._client
        except (RegistryUnavailable, VersionRejected, AliasError, CacheUnwritable):
            raise
        except Exception as error:
            # Each kind of store has exceptions of its own: one for all.
            kind = NoSuchVersion if _is_missing(error) else RegistryUnavailable
            raise kind(store_reason(error)) from error

    def _probe(self) -> None:
        """Raises RegistryUnavailable for a missing or empty SQLite file, in which MLflow would create tables."""
        path = local_store.sqlite_path(self._uri)
        if path is None:
            return
        if not path.exists():
            raise RegistryUnavailable(
                f"{path} does not exist: `make register` creates it; if its folder was renamed, restart"
            )
        with contextlib.closing(local_store.open_database(path, BUSY_SECONDS)) as file:
            if not file.execute("SELECT 1 FROM registered_models LIMIT 1").fetchone():
                raise NoSuchVersion("the registry holds no model")


def _is_missing(error: Exception) -> bool:
    """Whether a registry says that it has no such model, version or alias."""
    return getattr(error, "error_code", "") in MISSING and "not found" in str(error)


def _version(entry: Any) -> Version:
    return Version(
        str(entry.name),
        str(entry.version),
        str(entry.run_id or ""),
        # Without the verdict: it is set after the alias, so that only some replicas would see it.
        {name: value for name, value in entry.tags.items() if name != VERDICT},
    )


def _mlflow_client(uri: str) -> Any:
    set_up_client()
    # A pooled connection would continue to read a SQLite file that was replaced.
    os.environ.setdefault("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)
