"""A time on the command line."""

import argparse
from datetime import datetime


def time(text: str) -> str:
    """The same time in ISO 8601. Raises ArgumentTypeError without a time zone: it would be in doubt."""
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
    return moment.isoformat()
