"""`python -m serve`: the service, set up by HEART_... variables or .env (see .env.example)."""

import logging
import sys
from types import FrameType

import uvicorn

from monitoring.settings import DriftSettings
from monitoring.variables import read
from monitoring.watch import Watch
from serve.api import create_app
from serve.champion import Champion
from serve.log import LogRefused, PredictionLog
from serve.metrics import Metrics
from serve.settings import Settings

GRACE_SECONDS = 5  # an open tab of the page would hold up the end for ever


class Server(uvicorn.Server):
    """Turns unready at the first signal, before the requests in work are answered."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop taking requests, answer those in work, end."""
        self.config.app.state.admission.draining = True  # type: ignore[union-attr]
        super().handle_exit(sig, frame)


def main() -> None:
    settings, drift = read(Settings), read(DriftSettings)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    metrics = Metrics()
    log = PredictionLog(
        settings.log_url,
        retention_days=settings.log_retention_days,
        queue_limit=settings.log_queue,
        on_commit=metrics.committed,
    )
    champion = Champion(settings)
    watch = Watch(champion, log, drift) if drift.in_server else None
    app = create_app(settings, champion, log, metrics, watch=watch)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        # A line a request would hold who asked about whom; counts are in /metrics.
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=GRACE_SECONDS,
        server_header=False,
    )
    print(f"http://{settings.host}:{settings.port}  page /  documentation /docs  metrics /metrics")
    try:
        Server(config).run()
    except LogRefused as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
