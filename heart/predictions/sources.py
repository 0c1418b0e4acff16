"""The sources of outcomes, in a module of their own because importing SQLAlchemy takes long."""

from typing import Literal

UNKNOWN = "unknown"  # the sender of outcomes that were recorded before senders were
Source = Literal["angiography", "clinician", "registry"]
