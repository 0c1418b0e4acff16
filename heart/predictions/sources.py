"""Where an outcome is known from. Apart from the tables, since importing SQLAlchemy takes long."""

from typing import Literal

Source = Literal["angiography", "clinician", "registry"]
