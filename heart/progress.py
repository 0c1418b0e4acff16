"""How far a long step is, on standard error."""

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def progress(
    items: Iterable[Any] | None, label: str, unit: str, total: int | None = None
) -> "tqdm[Any]":
    """The items with a bar; or, with a total and without items, a bar to update.

    In a terminal the bar moves twice a second; in a file or a log of CI it is a line every 15 seconds.
    """
    return tqdm(
        items,
        total=total,
        desc=label,
        unit=f" {unit}",
        unit_scale=total is not None and total >= 1000,
        mininterval=0.5 if sys.stderr.isatty() else 15,
    )
