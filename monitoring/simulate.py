"""`python -m monitoring.simulate`: sends simulated patients to a running service, to demonstrate drift."""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from tqdm import tqdm

from heart.addresses import http_url
from heart.errors import run_main
from heart.http.reason import reason_of
from monitoring.client import service
from monitoring.simulated_patients import SHIFTS, NoPatients, draw, load

ATTEMPTS = 5  # at a service that answers one of these, with the seconds to wait
WAIT = (httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.TOO_MANY_REQUESTS)


class SimulationError(Exception):
    """Patients cannot be sent; the message gives the reason."""


@dataclass(frozen=True)
class Sender:
    """Sends patients one by one, `rate` a second (0: as fast as the service answers)."""

    client: httpx.Client
    rate: float
    outcomes: float
    random: np.random.Generator

    def send(self, patients: Iterator[tuple[dict[str, Any], str]], count: int) -> Counter[str]:
        """The numbers of answered patients, rejected patients and outcomes. Raises SimulationError."""
        counts: Counter[str] = Counter(answered=0, rejected=0, outcomes=0)
        start = time.monotonic()
        with tqdm(patients, total=count, unit=" patients") as progress:
            for number, (patient, outcome) in enumerate(progress):
                if self.rate:
                    time.sleep(max(0.0, start + number / self.rate - time.monotonic()))
                answer = self._post("/predict", patient)
                counts["rejected" if answer is None else "answered"] += 1
                if answer is not None and self.random.random() < self.outcomes:
                    self._record(answer["prediction_id"], outcome)
                    counts["outcomes"] += 1
        return counts

    def _record(self, prediction_id: str, outcome: str) -> None:
        body = {"prediction_id": prediction_id, "outcome": outcome, "source": "clinician"}
        self._post("/feedback", body)

    def _post(self, route: str, body: Mapping[str, Any]) -> Any:
        """The response; None if the service rejects the values."""
        for _ in range(ATTEMPTS):
            try:
                response = self.client.post(route, json=body)
            except httpx.HTTPError as error:
                raise SimulationError(f"no service at {self.client.base_url}: {error}") from error
            if response.status_code not in WAIT:
                break
            time.sleep(float(response.headers.get("Retry-After", 1)))
        if response.status_code == httpx.codes.UNPROCESSABLE_ENTITY:
            return None
        if response.status_code == httpx.codes.UNAUTHORIZED:
            raise SimulationError(f"{self.client.base_url} requires a token: set HEART_API_TOKEN")
        if not response.is_success:
            hint = "HEART_API_TOKEN must have the scopes predict and feedback"
            raise SimulationError(reason_of(response, hint))
        return response.json()


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m monitoring.simulate",
        description="Send simulated patients to a running service. They stay in its prediction log, and a "
        "retraining would use their outcomes: take a service whose log can be deleted.",
    )
    parser.add_argument("--rows", type=_at_least(1, int), default=500, help="patients to send")
    parser.add_argument(
        "--shift", choices=SHIFTS, default="none", help="how they differ from the training patients"
    )
    parser.add_argument(
        "--rate", type=_at_least(0, float), default=50, help="patients a second; 0: no pause"
    )
    parser.add_argument(
        "--url", type=http_url, default="http://127.0.0.1:8000", help="of the service"
    )
    parser.add_argument(
        "--outcomes",
        type=_at_least(0, float),
        default=0,
        help="share of patients whose outcome is sent too",
    )
    parser.add_argument("--seed", type=int, help="for the same patients again")
    options = parser.parse_args(argv)
    if options.outcomes > 1:
        parser.error(f"argument --outcomes: {options.outcomes:g} is not a share from 0 to 1")
    return options


def _at_least(least: int, kind: Callable[[str], Any]) -> Callable[[str], Any]:
    def number(text: str) -> Any:
        value = kind(text)
        if not least <= value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not a number of at least {least}")
        return value

    number.__name__ = kind.__name__
    return number


def main() -> None:
    options = arguments()
    random = np.random.default_rng(options.seed)
    try:
        patients = SHIFTS[options.shift](load(Path()), random)
        with service(options.url, seconds=30) as client:
            sender = Sender(client, options.rate, options.outcomes, random)
            counts = sender.send(draw(patients, options.rows, random), options.rows)
    except (NoPatients, SimulationError) as error:
        sys.exit(f"error: {error}")
    print(
        f"{counts['answered']} patients answered, {counts['rejected']} rejected (422), "
        f"{counts['outcomes']} outcomes recorded. See {options.url}/drift"
    )


if __name__ == "__main__":
    run_main(main)
