"""Times that a client or a command gives, in UTC."""

from datetime import UTC, datetime


def in_utc(moment: datetime) -> datetime:
    """An aware time in UTC. Raises ValueError for one that is not in the years 1 to 9999 there."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(
            "expected a time that is in the years 1 to 9999 in UTC too, such as 2026-11-27T08:00:00Z"
        ) from None
