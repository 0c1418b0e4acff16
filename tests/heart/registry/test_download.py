"""A file of a store is copied up to a limit, whatever the store says about it."""

import errno
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from heart.registry import download
from heart.registry.errors import CacheUnwritable, RegistryUnavailable, VersionRejected
from heart.registry.loading import load
from serve.model_manager import ModelManager
from tests.fixtures.security import SecurityFigure
from tests.heart.registry.registry_fixture import Shelf, version_of

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")

LIMIT = 1_000_000
FILE = "extra/model.onnx"


def listed(size: int | None, *, is_dir: bool = False) -> SimpleNamespace:
    return SimpleNamespace(path=FILE, is_dir=is_dir, file_size=size)


@pytest.fixture(autouse=True)
def limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", LIMIT)


@pytest.fixture
def local(tmp_path: Path) -> LocalArtifactRepository:
    (tmp_path / "store" / "extra").mkdir(parents=True)
    return LocalArtifactRepository((tmp_path / "store").as_uri())


def bound_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        folder = os.open(path.parent, os.O_RDONLY)
        server.bind(f"/proc/self/fd/{folder}/{path.name}")
        os.close(folder)


NOT_FILES: dict[str, Callable[[Path], object]] = {
    "a link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "a link to a file": lambda path: path.symlink_to(__file__),
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a socket": bound_socket,
}


@pytest.mark.security
@pytest.mark.parametrize("name", NOT_FILES)
def test_only_regular_files_are_copied(
    local: LocalArtifactRepository, tmp_path: Path, name: str, security_figure: SecurityFigure
) -> None:
    NOT_FILES[name](tmp_path / "store" / FILE)
    target = tmp_path / "target"
    target.mkdir()

    for info in (listed(0), listed(None, is_dir=True)):
        with pytest.raises(VersionRejected) as rejection:
            download.copy(local, info, target)
        assert rejection.value.kind == "unreadable"

    assert not [*target.rglob("*")]
    security_figure(f"{name} in place of model.onnx", "rejected, 0 bytes written", "regular files")


@pytest.mark.security
@pytest.mark.parametrize(("size", "kind"), [(LIMIT, ""), (LIMIT + 1, "size")])
def test_the_size_that_is_listed_is_not_believed(
    local: LocalArtifactRepository, tmp_path: Path, size: int, kind: str
) -> None:
    (tmp_path / "store" / FILE).write_bytes(b"x" * size)
    target = tmp_path / "target"

    try:
        download.copy(local, listed(0), target)
        result = ""
    except VersionRejected as error:
        result = error.kind

    assert result == kind
    assert sum(path.stat().st_size for path in target.rglob("*") if path.is_file()) == (
        0 if kind else size
    )


@pytest.fixture
def endless() -> Iterator[tuple[str, list[int]]]:
    """A server that sends bytes until its client closes the connection, and how many it has sent."""
    sent = [0]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            chunk = b"x" * 100_000
            while sent[0] < 100 * LIMIT:
                try:
                    self.wfile.write(chunk)
                except OSError:
                    return
                sent[0] += len(chunk)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/files", sent
        server.shutdown()


@pytest.mark.security
@pytest.mark.integration
def test_a_server_that_never_stops_is_read_up_to_the_limit(
    endless: tuple[str, list[int]], tmp_path: Path, security_figure: SecurityFigure
) -> None:
    uri, sent = endless

    with pytest.raises(VersionRejected) as rejection:
        download.copy(HttpArtifactRepository(uri), listed(None), tmp_path)

    assert rejection.value.kind == "size"
    assert not [*tmp_path.iterdir()]
    assert sent[0] < 50 * LIMIT  # what the sockets hold is not read
    security_figure("a server that sends a file without end", "rejected, 0 bytes written", "64 MiB")


class OtherStore:
    """A store that is neither local nor MLflow's server."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error

    def download_artifacts(self, path: str, folder: str) -> None:
        if self._error:
            raise self._error
        (Path(folder) / Path(path).name).write_text("content")


def test_another_store_must_list_sizes(tmp_path: Path) -> None:
    for size in (None, LIMIT + 1):
        with pytest.raises(VersionRejected, match=r"size|larger"):
            download.copy(OtherStore(), listed(size), tmp_path)
    assert not [*tmp_path.iterdir()]

    download.copy(OtherStore(), listed(7), tmp_path)

    assert (tmp_path / "model.onnx").read_text() == "content"


def test_a_full_disk_is_found_in_the_text_of_another_store(tmp_path: Path) -> None:
    text = f"The following failures occurred:\n##### File {FILE} #####\n[Errno 28] {os.strerror(errno.ENOSPC)}"
    with pytest.raises(CacheUnwritable):
        download.copy(OtherStore(RuntimeError(text)), listed(7), tmp_path)
    with pytest.raises(RuntimeError):
        download.copy(OtherStore(RuntimeError("no connection")), listed(7), tmp_path)


@pytest.mark.security
def test_a_device_in_a_versions_folder_fills_no_disk(shelf: Shelf) -> None:
    champion = ModelManager(shelf.settings(), trial=lambda _: None)
    champion.refresh()
    version = shelf.set_challenger()
    model = shelf.files_of(version) / "model.onnx"
    model.unlink()
    model.symlink_to("/dev/zero")

    assert not champion.refresh()

    assert (version_of(champion), champion.rejections) == ("1", {"unreadable": 1})
    assert len([*(shelf.folder / "cache" / "heart-disease").iterdir()]) == 1


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, _: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_bytes", fail)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3 << 20))
    monkeypatch.setattr(download, "MAX_BYTES", 64 * LIMIT)


@pytest.mark.security
@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_is_reported_with_the_folder_and_the_remedy(
    shelf: Shelf, caplog: pytest.LogCaptureFixture, security_figure: SecurityFigure
) -> None:
    settings = shelf.settings()
    champion = ModelManager(settings, trial=lambda _: None)

    for _ in range(2):
        assert not champion.refresh()

    (line,) = (record.getMessage() for record in caplog.records if record.levelname == "ERROR")
    for part in ("HEART_CACHE_DIR", str(settings.cache_dir), "3 MiB", os.strerror(errno.ENOSPC)):
        assert part in line
    assert "\n" not in line
    notes = " ".join(champion.state().reasons)
    assert "HEART_CACHE_DIR" in notes
    assert "registry" not in notes
    with pytest.raises(RegistryUnavailable, match="HEART_CACHE_DIR"):
        load(settings)
    assert not [*(shelf.folder / "cache" / "heart-disease").iterdir()]
    security_figure(
        "the disk of the cache is full",
        "one line with folder and remedy",
        "the old version answers",
    )
