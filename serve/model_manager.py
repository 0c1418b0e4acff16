"""The model that is served: found in the registry, checked, kept on disk, swapped as a whole.

A version is data, never code: its files are downloaded, compared with the hashes in its tags and
handed to ONNX Runtime as bytes. Nothing is unpickled, and MLflow is no part of a prediction.

MLflow takes a second to import and another to open its store. So a restart serves at once what
the cache holds, checked like a download, and looks into the registry shortly after.
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
from heart.registry.errors import RegistryUnavailable, Rejection, VersionRejected
from heart.registry.model_version import Model
from heart.registry.resolver import Registry, Version
from serve.aliased_model import AliasedModel
from serve.settings import Settings

Event = Literal["loaded", "refused", "registry_failed"]

# Without a model, look this often: it will come any moment.
SECONDS_WITHOUT_MODEL = 2.0
# With one from the cache, leave the first seconds to the start of the service.
SECONDS_TO_FIRST_LOOK = 2.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class State:
    """`reasons` why there is no model to answer with, none if there is; `notes` on the one there is."""

    reasons: tuple[str, ...]
    notes: tuple[str, ...]


class ModelManager:
    """The model in service. One thread follows the registry; requests only read `current`.

    A request takes `current` once and uses it to its end: a swap is the assignment of one
    reference, so that every answer comes from the version that it names. Counts are of this
    process: `reloads` (models put into service), `refusals` by kind, `registry_failures`.
    `looked` is whether the registry has answered yet: until then MLflow may still be imported.
    `on_event(event, detail)` is called with each count, by the thread that counts; the detail is a
    version, a kind or empty.

    Beside it are the `challenger`, which scores what the champion scores but answers nobody, and the
    `fallback`, the version to which a rollback would go back.
    """

    def __init__(
        self, settings: Settings, on_event: Callable[[Event, str], None] = lambda *_: None
    ) -> None:
        self.current: Model | None = None
        self.previous: Model | None = None
        self.looked = False
        self.reloads = 0
        self.refusals: Counter[str] = Counter()
        self.registry_failures = 0
        self.registry_down_since: datetime | None = None
        self.refused: Rejection | None = None
        self._registry = Registry(settings.tracking_uri, settings.model)
        self._cache = Cache(settings.cache_dir, settings.model, self._count)
        self.challenger = AliasedModel(CHALLENGER, self._load)
        self.fallback = AliasedModel(PREVIOUS, self._load)
        self._poll_seconds = settings.poll_seconds
        self._on_event = on_event
        self._polling = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="champion", daemon=True)

    def start(self) -> None:
        """Serve what the cache holds, if anything, and follow the registry from now on.

        Returns within a fraction of a second; without a cached model `current` comes later.
        """
        try:
            model = self._cache.last()
        except VersionRejected as refusal:
            self._refuse("in the cache", "", refusal)
        else:
            if model is not None:
                self._swap(model)
        self._thread.start()

    def stop(self) -> None:
        """Stop following the registry; `current` goes on to answer."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=1)

    def state(self) -> State:
        """Why no prediction can be made, or what is unusual about those that are."""
        current, since, refused = self.current, self.registry_down_since, self.refused
        notes = []
        if since is not None:
            notes.append(f"the registry has given no model since {since:%Y-%m-%dT%H:%M:%SZ}")
        if refused is not None:
            notes.append(f"version {refused.version} was refused ({refused.kind})")
        notes += [note for rival in (self.challenger, self.fallback) for note in rival.notes()]
        if current is None:
            return State(("no model is loaded yet", *notes), ())
        if current.from_cache:
            notes.insert(0, f"version {current.version} is served from the local cache")
        return State((), tuple(notes))

    def refresh(self, *, retry_refused: bool = False) -> bool:
        """Look into the registry once, and swap if it names another version that passes the checks.

        Returns whether it swapped. A version that was refused is tried again only if the registry
        named another one meanwhile, or if asked to.
        """
        with self._polling:
            try:
                swapped = self._take(self._registry.resolve(), retry_refused)
            except (RegistryUnavailable, OSError) as error:
                self._fail(str(error))
                return False
            self._look_beside(retry_refused)
            self.looked = True
            return swapped

    def roll_back(self, champion: Model) -> bool:
        """Take a champion back in the registry, for all replicas, and serve the fallback.

        Returns whether that was done: not if another version is served by then or the setting names
        no alias. Raises AliasError, RegistryUnavailable.
        """
        if self.current is not champion or not self._registry.follows_champion:
            return False
        number = self._registry.roll_back(champion.version)
        logger.warning("version %s is taken back, version %s serves", champion.version, number)
        self.refresh()
        return True

    def _follow(self) -> None:
        pause = min(SECONDS_TO_FIRST_LOOK, self._poll_seconds) if self.current else 0.0
        while not self._stopped.wait(pause):
            try:
                self.refresh()
            except Exception:
                # Were it to end, no champion would be served any more, and nobody would know.
                logger.exception("looking for the champion failed")
            pause = self._poll_seconds
            if self.current is None:
                pause = min(SECONDS_WITHOUT_MODEL, pause)

    def _take(self, version: Version, retry_refused: bool) -> bool:
        swapped = False
        self._drop_contradicted(version)
        if self.current is not None and version.same(self.current):
            if self.current.from_cache:
                self.current = replace(self.current, from_cache=False)
            self.refused = None
        elif retry_refused or not (self.refused and version.same(self.refused)):
            try:
                self._swap(self._load(version))
                swapped = True
            except VersionRejected as refusal:
                self._refuse(version.number, version.sha256, refusal)
        self._recover()
        return swapped

    def _drop_contradicted(self, version: Version) -> None:
        """Serve no longer what only the cache vouched for, if the registry knows the version otherwise."""
        current = self.current
        if current is None or not current.from_cache or version.same(current):
            return
        if (current.version, current.sha256) == (version.number, version.sha256):
            logger.error("version %s in the cache is not what the registry says", current.version)
            self.current = None

    def _look_beside(self, retry_refused: bool) -> None:
        try:
            found = self._registry.aliased(CHALLENGER, PREVIOUS)
        except RegistryUnavailable:
            return  # the next look at the champion says so
        for rival in (self.challenger, self.fallback):
            rival.take(found.get(rival.alias), self.current, retry_refused)

    def _load(self, version: Version) -> Model:
        for known in (self.previous, self.fallback.current, self.challenger.current):
            if known is not None and version.same(known):
                return replace(known, from_cache=False)
        if not version.sha256:
            raise VersionRejected("hash", f"its tag {SHA256} is no SHA-256")
        return self._cache.load(version) or self._cache.keep(version, self._registry)

    def _swap(self, model: Model) -> None:
        self.previous, self.current = self.current, model
        self.refused = None
        self.reloads += 1
        logger.info("serving %s version %s", model.name, model.version)
        self._on_event("loaded", model.version)
        if not model.from_cache:
            try:
                self._cache.point_at(model, self.previous)
            except OSError as error:
                logger.warning("the cache does not take version %s: %s", model.version, error)

    def _refuse(self, version: str, sha256: str, refusal: VersionRejected) -> None:
        self.refused = Rejection(version, sha256, refusal.kind, str(refusal))
        logger.error("version %s is refused (%s): %s", version, refusal.kind, refusal)
        self._count(refusal)

    def _count(self, refusal: VersionRejected) -> None:
        self.refusals[refusal.kind] += 1
        self._on_event("refused", refusal.kind)

    def _fail(self, reason: str) -> None:
        self.registry_failures += 1
        if self.registry_down_since is None:
            self.registry_down_since = datetime.now(UTC)
            logger.error("the registry gives no model: %s", reason)
        self._on_event("registry_failed", "")

    def _recover(self) -> None:
        if self.registry_down_since is not None:
            logger.info("the registry answers again")
            self.registry_down_since = None
