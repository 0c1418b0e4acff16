"""Another process reads the log while the service writes it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.heart.predictions.logs import ROOT, opened, records


def test_outcomes_are_collected_beside_the_running_service(
    url: str, tmp_path: Path, command: Callable[..., Any]
) -> None:
    settings = {"HEART_LOG_URL": url, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    with opened(url) as log:
        log.append_sync(records(2))
        (key, _) = log.last(2)["id"]
        log.record_outcome(key, "presence", "registry")

        command("python -m monitoring.retraining.collect", tmp_path, **settings)

        [_, row] = (tmp_path / "data/production/labelled.csv").read_text().splitlines()
        assert row.startswith(f"{key},registry,")
        log.append_sync(records(1))
        assert (log.count(), log.stats.failures) == (3, 0)
