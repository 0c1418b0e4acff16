"""`python -m serve`: run the service, configured by HEART_... variables or .env (see .env.example)."""

import gc
import sys

import uvicorn

from heart.errors import run_main
from heart.http.address import require_free
from heart.http.server import raise_file_limit
from heart.log_format import configure
from heart.predictions.log import LogConfigurationError, PredictionLog
from heart.settings import read
from monitoring.monitor import DriftMonitor
from monitoring.settings import DriftSettings
from serve.app import create_app
from serve.metrics import Metrics
from serve.model_manager import ModelManager
from serve.server import DrainingServer
from serve.settings import Settings

GRACE_SECONDS = 5  # for requests at shutdown: the stream of an open page would never end
# Longer than proxies keep idle connections: the first to close one may miss a request that was just sent.
KEEP_ALIVE_SECONDS = 75
# While a thread scores a batch, the event loop and the writer of the log wait so long for the interpreter's
# lock (GIL), each time that they need it; Python's default is 5 ms.
SWITCH_SECONDS = 0.001
# New objects that survive between two garbage collections. The requests in progress have more than Python's
# default of 700: collections, which find next to nothing, would take some percent of the time.
GC_OBJECTS = 10_000


def _log(settings: Settings, metrics: Metrics) -> PredictionLog:
    """The prediction log, started before the server: there, an invalid URL would be a traceback."""
    try:
        log = PredictionLog(
            settings.log_url,
            retention_days=settings.log_retention_days,
            clock_confirmed=settings.log_clock_confirmed,
            queue_limit=settings.log_queue_max_rows,
            on_commit=metrics.observe_commit,
        )
        log.start()
    except LogConfigurationError as error:
        sys.exit(f"error: HEART_LOG_URL: {error}")
    return log


def main() -> None:
    settings, drift = read(Settings), read(DriftSettings)
    configure(settings.log_format)
    raise_file_limit()
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(GC_OBJECTS)
    require_free(settings.host, settings.port, "HEART_")
    metrics = Metrics()
    log = _log(settings, metrics)
    champion = ModelManager(settings, metrics.on_model_event)
    monitor = DriftMonitor(champion, log, drift)
    app = create_app(settings, champion, log, metrics, monitor=monitor)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        # Access logs would hold ids of predictions with addresses; counts are in /metrics.
        access_log=False,
        log_config=None,  # `configure` has set up logging without messages of errors
        log_level="warning",
        timeout_graceful_shutdown=GRACE_SECONDS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        server_header=False,
    )
    DrainingServer(config).run()


if __name__ == "__main__":
    run_main(main)
