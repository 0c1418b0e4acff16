"""The sources of outcomes, in a module of their own because importing SQLAlchemy takes long."""

from typing import Literal

Source = Literal["angiography", "clinician", "registry"]
