"""Why a version of the model is not served."""

import math
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "hash",
    "schema",
    "shape",
    "self_test",
    "external_data",
    "operators",
    "size",
    "unreadable",
    "timeout",
    "memory",
    "crash",
    "signature",
    "too_old",
]
# Kinds that a trial in a subprocess may also report on an overloaded machine: they are tried again.
EXHAUSTED: tuple[Kind, ...] = ("timeout", "memory", "crash")
MAX_REASON = 300  # characters: a reason may quote a file of the version


class VersionRejected(Exception):
    """A version that must not be served. `kind` is the label of the metric, the text is for people.

    From `retry_at` on, in seconds since the epoch, the same files may be tried again.
    """

    def __init__(self, kind: Kind, reason: str, retry_at: float = math.inf) -> None:
        # One line: the reason is logged.
        super().__init__(" ".join(reason[:MAX_REASON].split()))
        self.kind = kind
        self.retry_at = retry_at


@dataclass(frozen=True)
class Rejection:
    """The version that was rejected last. It is not tried again until `retry_at` or until the alias moves."""

    version: str
    sha256: str
    kind: Kind
    reason: str
    retry_at: float = math.inf


class RegistryUnavailable(Exception):
    """The registry cannot be read, or no subprocess can be started. A later attempt may succeed."""


class NoSuchVersion(RegistryUnavailable):
    """The registry answers, and has no version that the setting names."""


class ScoringFailed(Exception):
    """A version in service has no valid risk for some patients. The text holds no value of them."""

    def __init__(self, version: str, reason: str) -> None:
        super().__init__(version, reason)
        self.version = version

    def __str__(self) -> str:
        version, reason = self.args
        return f"version {version} could not score the patients of a request: {reason}"


class CacheUnwritable(OSError):
    """The folder HEART_CACHE_DIR cannot be written, because its disk is full for example."""
