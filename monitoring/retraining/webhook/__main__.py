"""`python -m monitoring.retraining.webhook`: settings are HEART_RETRAIN_... variables or .env (see .env.example)."""

import logging
import sqlite3
import sys

import uvicorn

from heart.errors import run_main
from heart.http.address import require_free
from heart.http.limits import HttpLimits
from heart.http.server import LimitedServer, raise_file_limit
from heart.settings import read
from monitoring.retraining.webhook.api import CONNECTIONS, create_app
from monitoring.retraining.webhook.runs import Runs
from monitoring.retraining.webhook.settings import RetrainerSettings


def main() -> None:
    settings = read(RetrainerSettings)
    try:
        runs = Runs(settings.folder)
    except (OSError, sqlite3.Error) as error:
        sys.exit(f"error: HEART_RETRAIN_FOLDER={settings.folder}: {error}")
    require_free(settings.host, settings.port, "HEART_RETRAIN_")
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    print(
        f"http://{settings.host}:{settings.port}  webhook /hooks/grafana  runs /status", flush=True
    )
    config = uvicorn.Config(
        create_app(settings, runs),
        host=settings.host,
        port=settings.port,
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=5,
        server_header=False,
    )
    raise_file_limit()
    LimitedServer(config, HttpLimits(connections=CONNECTIONS)).run()


if __name__ == "__main__":
    run_main(main)
