"""The prediction log is for its owner, with all that SQLite puts beside it."""

from pathlib import Path

from tests.heart.predictions.logs import opened, records
from tests.private import not_private, open_to_all


def test_log_is_readable_by_its_owner_only_whatever_the_umask(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    with open_to_all(), opened(f"sqlite:///{folder}/log.db") as log:
        log.append_sync(records(3))

        names = {path.name for path in folder.iterdir()}
        assert names == {"log.db"} | {f"log.db-{end}" for end in ("wal", "shm", "lock", "id")}
        assert not_private(folder) == {}
