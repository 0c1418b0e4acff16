"""A time on the command line."""

import argparse
from datetime import datetime

from heart.utc import in_utc


def time(text: str) -> str:
    """The same time in UTC as ISO 8601. Raises ArgumentTypeError without a time zone: it would be in doubt."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time, expected one such as 2026-11-27T08:00:00Z"
        ) from None
    if moment.tzinfo is None:
        raise argparse.ArgumentTypeError(
            f"{text} has no time zone: add Z for UTC, or an offset such as +07:00"
        )
    try:
        return in_utc(moment).isoformat()
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from None
