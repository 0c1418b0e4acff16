"""Move an alias by hand: `python -m heart.registry.promote VERSION`, `--rollback`, `--challenger VERSION`, `--approve VERSION`,
or sign a version with `--sign VERSION`.

The service follows within its poll interval, or at once by `POST /admin/reload`.
"""

import argparse
import getpass
from datetime import UTC, datetime

from heart.errors import UserError, run_main
from heart.params import Registered
from heart.registry import publishing as registry
from heart.registry.aliases import (
    APPROVED,
    CHALLENGER,
    CHAMPION,
    PREVIOUS,
    AliasError,
    aliases,
    approve,
    clear_challenger,
    promote,
    roll_back,
    set_challenger,
)
from heart.registry.signing import sign


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line: exactly one of the six options, and who approves."""
    parser = argparse.ArgumentParser(prog="python -m heart.registry.promote", description=__doc__)
    one = parser.add_mutually_exclusive_group(required=True)
    one.add_argument("version", nargs="?", help="make this version the champion")
    one.add_argument("--rollback", action="store_true", help="go back to the previous champion")
    one.add_argument("--challenger", metavar="VERSION", help="have the service score with it too")
    one.add_argument("--no-challenger", action="store_true", help="remove the challenger")
    one.add_argument("--approve", metavar="VERSION", help="record that a person approves it")
    one.add_argument("--sign", metavar="VERSION", help="sign it with the key of SIGNING_KEY")
    parser.add_argument("--by", metavar="NAME", help="who approves; this user, if it is not given")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    command = options(arguments)
    name = Registered.load().model_name
    client = registry.connect()
    try:
        if command.rollback:
            roll_back(client, name)
        elif command.sign is not None:
            sign(client, name, command.sign)
        elif command.no_challenger:
            clear_challenger(client, name)
        elif command.approve is not None:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            approve(client, name, command.approve, command.by or getpass.getuser(), now)
        elif command.challenger is not None:
            set_challenger(client, name, command.challenger)
        else:
            promote(client, name, command.version)
    except AliasError as error:
        raise UserError(str(error)) from None
    numbers = aliases(client, name)
    known = [alias for alias in (CHAMPION, PREVIOUS, CHALLENGER, APPROVED) if alias in numbers]
    print(f"{name}: {', '.join(f'{alias} {numbers[alias]}' for alias in known)}")


if __name__ == "__main__":
    run_main(main)
