"""`python -m monitoring`: watches for drift in a process of its own, set up by HEART_... variables or .env.

It reads the champion from the registry and the patients from the prediction log; its metrics are on
127.0.0.1. The service then needs HEART_DRIFT_IN_SERVER=false, or both watch.
"""

import logging
import signal
import sys
import threading

from prometheus_client import CollectorRegistry, start_http_server

from monitoring.collector import DriftCollector
from monitoring.settings import DriftSettings
from monitoring.variables import read
from monitoring.watch import Watch
from serve.champion import Champion
from serve.log import LogRefused, PredictionLog
from serve.settings import MODEL, Settings


def champion_of(settings: Settings, drift: DriftSettings) -> Champion:
    """The version to watch, followed in the registry beside the service.

    In a cache of its own: the service's says what the service must start with.
    """
    model = settings.model
    if drift.model_version is not None:
        found = MODEL.fullmatch(model)
        assert found  # the settings checked it
        model = f"models:/{found['name']}/{drift.model_version}"
    return Champion(
        settings.model_copy(update={"model": model, "cache_dir": settings.cache_dir / "monitoring"})
    )


def main() -> None:
    settings, drift = read(Settings), read(DriftSettings)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        log = PredictionLog(settings.log_url)  # only read from, so it is not started
    except LogRefused as error:
        sys.exit(f"error: HEART_LOG_URL: {error}")
    champion = champion_of(settings, drift)
    watch = Watch(champion, log, drift)
    registry = CollectorRegistry()
    registry.register(DriftCollector(watch))
    try:
        server, thread = start_http_server(drift.port, "127.0.0.1", registry)
    except OSError as error:
        sys.exit(f"error: HEART_DRIFT_PORT={drift.port}: {error.strerror}")
    print(f"http://127.0.0.1:{server.server_port}/metrics", flush=True)
    ended = threading.Event()
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, lambda *_: ended.set())
    champion.start()
    watch.start()
    ended.wait()
    for part in (watch, champion):
        part.stop()
    server.shutdown()
    thread.join()


if __name__ == "__main__":
    main()
