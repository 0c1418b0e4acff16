"""`python -m monitoring.withdraw SENDER`: withdraw the outcomes that a token sent to a running service."""

import argparse
import sys

import httpx

from heart.addresses import http_url
from heart.errors import run_main
from heart.http.reason import reason_of
from monitoring.client import service
from monitoring.times import time

UNKNOWN = "it is not known whether outcomes were withdrawn, so run this again later"


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m monitoring.withdraw",
        description="Withdraw the outcomes that a token sent, all or those of a time. Each withdrawal is "
        "recorded; the predictions stay. HEART_API_TOKEN must have the scope admin.",
    )
    parser.add_argument("sender", help="the name of the token")
    parser.add_argument("--since", type=time, help="the first time, such as 2026-11-27T08:00:00Z")
    parser.add_argument("--until", type=time, help="the last time; now, if it is not given")
    parser.add_argument(
        "--url", type=http_url, default="http://127.0.0.1:8000", help="of the service"
    )
    return parser.parse_args(argv)


def withdraw(client: httpx.Client, options: argparse.Namespace) -> int:
    """The number of outcomes withdrawn. Ends the program with the reason if that failed."""
    body = {name: getattr(options, name) for name in ("sender", "since", "until")}
    try:
        response = client.post("/admin/outcomes/withdraw", json=body)
    except httpx.HTTPError as error:
        sys.exit(
            f"error: {UNKNOWN}: {client.base_url} did not answer ({error or type(error).__name__})"
        )
    if not response.is_success:
        sys.exit(
            f"error: {UNKNOWN if response.is_server_error else 'nothing is withdrawn'}: "
            + reason_of(response, "HEART_API_TOKEN must be a token with the scope admin")
        )
    withdrawn = int(response.json()["withdrawn"])
    if not withdrawn:
        sys.exit(
            f"error: {options.sender} has no outcomes in that time, or no longer: check the times and "
            "the name; make collect prints the senders"
        )
    return withdrawn


def main() -> None:
    options = arguments()
    with service(options.url, seconds=60) as client:
        withdrawn = withdraw(client, options)
    print(
        f"{withdrawn} outcomes of {options.sender} withdrawn. "
        "make retrain FORCE=1 trains a model without them."
    )


if __name__ == "__main__":
    run_main(main)
