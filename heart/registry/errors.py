"""Why a version of the model is not served."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["hash", "schema", "shape", "self_test", "external_data", "size", "unreadable"]


class VersionRejected(Exception):
    """A version that must not be served. `kind` is the label of the metric, the text is for people."""

    def __init__(self, kind: Kind, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


@dataclass(frozen=True)
class Rejection:
    """The version that was rejected last. It is not downloaded again until the alias moves."""

    version: str
    sha256: str
    kind: Kind
    reason: str


class RegistryUnavailable(Exception):
    """The registry cannot be read, or the cache cannot be written; a later attempt may succeed."""
