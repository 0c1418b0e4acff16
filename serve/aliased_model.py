"""A model version besides the champion that an alias names, verified like the champion; no response uses it."""

import logging
from collections.abc import Callable

from heart.registry.errors import RegistryUnavailable, Rejection, VersionRejected
from heart.registry.model_version import Model
from heart.registry.resolver import Version

logger = logging.getLogger(__name__)


class AliasedModel:
    """`current` is the version with the alias, None if there is none or if it is the champion itself.

    No failure here affects a response. Each is logged once; a rejected version is counted and kept as
    `rejection`, and loading is tried again after any other failure.
    """

    def __init__(
        self,
        alias: str,
        load: Callable[[Version], Model],
        on_rejected: Callable[[VersionRejected], None],
    ) -> None:
        """`load` returns the model of a version or raises VersionRejected, RegistryUnavailable or OSError."""
        self.alias = alias
        self.current: Model | None = None
        self.rejection: Rejection | None = None
        self._load = load
        self._on_rejected = on_rejected
        self._problem = ""

    def notes(self) -> list[str]:
        """Notes for the readiness report."""
        if self.rejection is None:
            return []
        return [
            f"{self.alias} version {self.rejection.version} was rejected ({self.rejection.kind})"
        ]

    def update(
        self, version: Version | None, champion: Model | None, *, retry_rejected: bool
    ) -> None:
        """Load the version that has the alias now, if it is another one."""
        if version is None or (champion is not None and version.same(champion)):
            self.current = self.rejection = None
        elif self.current is not None and version.same(self.current):
            self.rejection = None
        elif retry_rejected or not version.rejected(self.rejection):
            self.current = self.rejection = None
            self._try(version)

    def _try(self, version: Version) -> None:
        name = f"{self.alias} version {version.number}"
        try:
            self.current = self._load(version)
            logger.info("%s is version %s", self.alias, version.number)
        except VersionRejected as error:
            self.rejection = Rejection(
                version.number, version.sha256, error.kind, str(error), error.retry_at
            )
            self._on_rejected(error)
            self._log_once(f"{name} is rejected ({error.kind}): {error}")
        except (RegistryUnavailable, OSError) as error:
            self._log_once(f"{name} cannot be loaded: {error}")
        else:
            self._problem = ""

    def _log_once(self, problem: str) -> None:
        if problem != self._problem:
            logger.warning("%s", problem)
        self._problem = problem
