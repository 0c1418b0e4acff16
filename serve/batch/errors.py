"""Why a table is not scored."""


class ScoreError(ValueError):
    """A table or an option that does not fit; the message names it, its place and what was expected."""
