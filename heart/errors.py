"""How a stage fails: one clear message, exit code 1, no stack trace for what the user can mend."""

import sys
from collections.abc import Callable

from heart.schema import SchemaError


class ParamsError(ValueError):
    """params.yaml does not say what a stage needs; the message names the key and what is known."""


class UserError(ValueError):
    """The stage cannot go on; the message names the value, the place and what was expected."""


def run_main(main: Callable[[], object]) -> None:
    """Run a stage's main; an error that the user can mend ends it with its message alone."""
    try:
        main()
    except (UserError, ParamsError, SchemaError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
