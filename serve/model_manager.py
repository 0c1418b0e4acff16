"""The champion in service: resolved in the registry, verified, cached on disk, and swapped while requests run.

One thread polls the registry. Requests read `ModelManager.current` without a lock, because the swap is one
assignment, which is atomic in Python: each request takes the reference once and uses that model to its end.

    thread of requests                       thread of the registry
    model = manager.current   version 1
    score(model, patients)                   version = resolve("@champion")    version 2
    log(model.version)        version 1      model = download and verify(version)
    model = manager.current   version 2      manager.current = model

So a response never mixes two versions, no request waits for a download, and a version that fails a check
leaves the previous one in service. `refresh` holds a lock, because /admin/reload calls it too, from threads
of requests. The pattern is read-copy-update (https://www.kernel.org/doc/html/latest/RCU/whatisRCU.html).

A version is data, never code: its files are compared with the hashes in its tags, tried in a subprocess
(`heart/registry/trial.py`) and passed to ONNX Runtime as bytes. Nothing is unpickled, and no prediction needs
MLflow. MLflow takes a second to import and another one to open its store, so a restart first serves the cached
version, which is verified and tried like a download.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from heart.registry.aliases import CHALLENGER, PREVIOUS, SHA256
from heart.registry.cache import Cache
from heart.registry.errors import (
    NoSuchVersion,
    RegistryUnavailable,
    Rejection,
    ScoringFailed,
    VersionRejected,
)
from heart.registry.model_version import Model
from heart.registry.resolver import Registry, Version
from heart.registry.signing import Signatures
from heart.registry.trial import run
from heart.registry.verdicts import Trial
from serve.aliased_model import AliasedModel
from serve.settings import Settings

Event = Literal["loaded", "rejected", "registry_failed"]

SECONDS_WITHOUT_MODEL = 2.0  # between polls as long as no model is loaded
SECONDS_OF_SILENCE = 1.5  # of the registry, after which a reload no longer waits for it
SECONDS_TO_FIRST_POLL = 2.0  # with a cached model: importing MLflow would slow down the start
# Why no poll succeeds. The error itself may name addresses, so it is in the log alone.
NO_REGISTRY = "the registry has been unavailable"
NO_VERSION = "the registry has had no version that HEART_MODEL names"
NO_CACHE = "the folder HEART_CACHE_DIR could not be written"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class State:
    """`reasons` why no prediction is possible, empty if one is; `notes` about the model in service."""

    reasons: tuple[str, ...]
    notes: tuple[str, ...]


class ModelManager:
    """Loads the champion, follows its alias in the registry, and swaps the model in service.

    `current` is the model in service. Besides it are the `challenger`, which scores the same patients for
    comparison (`serve/shadow.py`), and the `fallback`, the version to which a rollback would return.

    Counters, since the start of the process: `reloads` (models put into service), `rejections` by kind of
    check, `registry_failures`, `scoring_failures` (requests that could not be scored) by version. `polled` is whether the registry has answered once. `on_event(event, detail)`
    is called with each count, in the thread that counts; the detail is a version, a kind or empty.
    """

    def __init__(
        self,
        settings: Settings,
        on_event: Callable[[Event, str], None] = lambda *_: None,
        trial: Trial = run,
    ) -> None:
        """`trial` tries a version before it is loaded."""
        self.current: Model | None = None
        self.previous: Model | None = None
        self.polled = False
        self.reloads = 0
        self.rejections: Counter[str] = Counter()
        self.registry_failures = 0
        self.scoring_failures: Counter[str] = Counter()
        self.registry_down_since: datetime | None = None  # since when no poll has succeeded
        self._trouble = NO_REGISTRY  # why
        self.rejection: Rejection | None = None
        self._registry = Registry(settings.tracking_uri, settings.model)
        self._cache = Cache(
            settings.cache_dir,
            settings.model,
            self._count,
            trial,
            Signatures(settings.signing_public_keys, settings.minimum_version),
        )
        self._cache_is_due = True
        self.challenger = AliasedModel(CHALLENGER, self._load, self._count)
        self.fallback = AliasedModel(PREVIOUS, self._load, self._count)
        self._poll_seconds = settings.poll_seconds
        self._on_event = on_event
        self._refresh_lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="champion", daemon=True)
        self._reload: threading.Thread | None = None
        self._reload_lock = threading.Lock()

    def start(self) -> None:
        """Serve the cached version, if there is one, and start to poll the registry.

        It returns within a second, or after the time limits of a trial if that version has become bad;
        without a cached version `current` is set later.
        """
        self._serve_cached()
        self._thread.start()

    def stop(self) -> None:
        """Stop polling the registry; `current` stays."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=1)

    def state(self) -> State:
        """Why no prediction is possible, or notes about the model in service."""
        current, since, rejection = self.current, self.registry_down_since, self.rejection
        notes = []
        if since is not None:
            notes.append(f"{self._trouble} since {since:%Y-%m-%dT%H:%M:%SZ}, the log says why")
        if rejection is not None:
            notes.append(f"version {rejection.version} was rejected ({rejection.kind})")
        notes += [note for model in (self.challenger, self.fallback) for note in model.notes()]
        if current is None:
            return State(("no model is loaded yet", *notes), ())
        if current.run_id and not current.figures:
            notes.append(f"the figures of version {current.version} are missing: see the log")
        if current.from_cache:
            notes.insert(0, f"version {current.version} is served from the local cache")
        if failures := self.scoring_failures[current.version]:
            notes.append(
                f"version {current.version} could not score the patients of {failures} requests, "
                "the log says why"
            )
        return State((), tuple(notes))

    def count_scoring_failure(self, error: ScoringFailed) -> None:
        """Count and log a request whose patients could not be scored; call it from the event loop."""
        self.scoring_failures[error.version] += 1
        logger.error("%s", error)

    def refresh(self, *, retry_rejected: bool = False) -> bool:
        """Poll the registry once, and swap if it names another version that passes the checks.

        Returns whether it swapped. A rejected version is tried again only if the registry has named another
        one since then, with `retry_rejected`, or when its verdict expires (`heart/registry/verdicts.py`).
        """
        with self._refresh_lock:
            if retry_rejected:
                self._cache.verdicts.clear()
            try:
                swapped = self._update(self._registry.resolve(), retry_rejected)
            except NoSuchVersion as error:
                self._fail(str(error), NO_VERSION)
                return False
            except RegistryUnavailable as error:
                self._fail(str(error))
                return False
            except OSError as error:
                self._fail(str(error), NO_CACHE)
                return False
            self._update_aliased(retry_rejected)
            self.polled = True
            return swapped

    def reload(self) -> None:
        """Poll the registry now, and try rejected versions again. Raises RegistryUnavailable.

        A registry that accepts connections and does not answer would hold the request until MLflow gives
        up, so the poll runs in a thread of its own, one at a time, and goes on after the error.
        """
        with self._reload_lock:
            if self._reload is None or not self._reload.is_alive():
                self._reload = threading.Thread(target=self._poll_again, name="reload", daemon=True)
                self._reload.start()
            thread = self._reload
        while thread.is_alive():
            if self._registry.silent_seconds > SECONDS_OF_SILENCE:
                raise RegistryUnavailable(
                    f"the registry has not answered for {SECONDS_OF_SILENCE:g} s; the service keeps "
                    "trying, /health/ready shows the state"
                )
            thread.join(0.05)
        if self.registry_down_since is not None:
            raise RegistryUnavailable(f"{self._trouble}, the log says why")

    def roll_back(self, champion: Model) -> bool:
        """Move the champion alias back in the registry, for all replicas, and serve the fallback.

        Returns whether it did: not if another version is in service by now, or if the setting names no
        alias. Raises AliasError, RegistryUnavailable.
        """
        if self.current is not champion or not self._registry.follows_champion:
            return False
        number = self._registry.roll_back(champion.version)
        logger.warning("rolled back version %s to version %s", champion.version, number)
        self.refresh()
        return True

    def _serve_cached(self) -> None:
        try:
            model = self._cache.last()
        except VersionRejected as error:
            self._reject("in the cache", "", error)
        except RegistryUnavailable as error:
            logger.warning("the cached version cannot be loaded yet: %s", error)
            return  # tried again before the next poll
        else:
            if model is not None:
                self._swap(model)
        self._cache_is_due = False

    def _poll(self) -> None:
        pause = min(SECONDS_TO_FIRST_POLL, self._poll_seconds) if self.current else 0.0
        while not self._stopped.wait(pause):
            try:
                if self._cache_is_due and self.current is None:
                    self._serve_cached()
                self.refresh()
            except Exception:
                # If the thread ended, no later champion would be served, without any sign of it.
                logger.exception("polling the registry failed")
            pause = self._poll_seconds
            if self.current is None:
                pause = min(SECONDS_WITHOUT_MODEL, pause)

    def _poll_again(self) -> None:
        try:
            self.refresh(retry_rejected=True)
        except Exception:
            logger.exception("polling the registry failed")
            self._fail("an unexpected error")

    def _update(self, version: Version, retry_rejected: bool) -> bool:
        swapped = False
        self._drop_contradicted(version)
        if self.current is not None and version.same(self.current):
            if self.current.from_cache:
                self.current = replace(self.current, from_cache=False)
            self.rejection = None
        elif retry_rejected or not version.rejected(self.rejection):
            try:
                self._swap(self._load(version))
                swapped = True
            except VersionRejected as error:
                self._reject(version.number, version.sha256, error)
        self._recover()
        return swapped

    def _drop_contradicted(self, version: Version) -> None:
        """Stop serving a cached version if the registry describes the same version differently."""
        current = self.current
        if current is None or not current.from_cache or version.same(current):
            return
        if (current.version, current.sha256) == (version.number, version.sha256):
            logger.error("cached version %s differs from the one in the registry", current.version)
            self.current = None

    def _update_aliased(self, retry_rejected: bool) -> None:
        try:
            versions = self._registry.aliased(CHALLENGER, PREVIOUS)
        except RegistryUnavailable:
            return  # the next poll for the champion reports it
        for model in (self.challenger, self.fallback):
            model.update(versions.get(model.alias), self.current, retry_rejected=retry_rejected)

    def _load(self, version: Version) -> Model:
        for model in (self.previous, self.fallback.current, self.challenger.current):
            if model is not None and version.same(model):
                return replace(model, from_cache=False)
        if not version.sha256:
            raise VersionRejected("hash", f"its tag {SHA256} is not a SHA-256")
        return self._cache.load(version) or self._cache.keep(version, self._registry)

    def _swap(self, model: Model) -> None:
        self.previous, self.current = self.current, model
        self.rejection = None
        self.reloads += 1
        logger.info("serving %s version %s", model.name, model.version)
        self._on_event("loaded", model.version)
        if not model.from_cache:
            try:
                self._cache.point_at(model, self.previous)
            except (OSError, VersionRejected) as error:
                logger.warning("version %s cannot be cached: %s", model.version, error)

    def _reject(self, version: str, sha256: str, error: VersionRejected) -> None:
        self.rejection = Rejection(version, sha256, error.kind, str(error), error.retry_at)
        logger.error("version %s is rejected (%s): %s", version, error.kind, error)
        self._count(error)

    def _count(self, error: VersionRejected) -> None:
        self.rejections[error.kind] += 1
        self._on_event("rejected", error.kind)

    def _fail(self, reason: str, trouble: str = NO_REGISTRY) -> None:
        self.registry_failures += 1
        if self.registry_down_since is None or self._trouble != trouble:
            self.registry_down_since, self._trouble = datetime.now(UTC), trouble
            logger.error("%s: %s", trouble, reason)
        self._on_event("registry_failed", "")

    def _recover(self) -> None:
        if self.registry_down_since is not None:
            logger.info("the registry is available again")
            self.registry_down_since = None
