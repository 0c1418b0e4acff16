"""A version beside the champion, by its alias: checked like one, and nobody is answered with it."""

import logging
from collections.abc import Callable

from heart.registry.errors import RegistryUnavailable, Rejection, VersionRejected
from heart.registry.model_version import Model
from heart.registry.resolver import Version

logger = logging.getLogger(__name__)


class AliasedModel:
    """`current` is the version with the alias, None if there is none or it is the champion itself.

    What goes wrong with it concerns no answer: it is logged, once, and kept as `refused` or tried again.
    """

    def __init__(self, alias: str, load: Callable[[Version], Model]) -> None:
        """`load` gives the model of a version, or raises Refused, Unavailable, OSError."""
        self.alias = alias
        self.current: Model | None = None
        self.refused: Rejection | None = None
        self._load = load
        self._problem = ""

    def notes(self) -> list[str]:
        """What is unusual about it."""
        if self.refused is None:
            return []
        return [f"{self.alias} version {self.refused.version} was refused ({self.refused.kind})"]

    def take(self, version: Version | None, champion: Model | None, retry_refused: bool) -> None:
        """Take up the version that has the alias now."""
        if version is None or (champion is not None and version.same(champion)):
            self.current = self.refused = None
        elif self.current is not None and version.same(self.current):
            self.refused = None
        elif retry_refused or not (self.refused and version.same(self.refused)):
            self.current = self.refused = None
            self._try(version)

    def _try(self, version: Version) -> None:
        try:
            self.current = self._load(version)
            logger.info("%s is version %s", self.alias, version.number)
        except VersionRejected as error:
            self.refused = Rejection(version.number, version.sha256, error.kind, str(error))
            self._say(f"{self.alias} version {version.number} is refused ({error.kind}): {error}")
        except (RegistryUnavailable, OSError) as error:
            self._say(f"{self.alias} version {version.number} cannot be had: {error}")
        else:
            self._problem = ""

    def _say(self, problem: str) -> None:
        if problem != self._problem:
            logger.warning("%s", problem)
        self._problem = problem
