"""Read a file of an artifact store of MLflow, at most MAX_BYTES of it, whatever size the store lists.

MLflow itself copies until the end, which `/dev/zero`, a pipe or a server that never stops does not have, and follows
symbolic links. A file on this machine must be a regular one. One of a server is read in chunks. Other stores, such as
S3, list the true size of an object, and it must be listed. Nothing is written before all of it has been read.
"""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from heart.registry.errors import CacheUnwritable, VersionRejected
from heart.registry.model_version import MAX_BYTES

CHUNK_BYTES = 256 * 1024


def copy(store: Any, info: Any, folder: Path) -> None:
    """Copy a file that a store lists into a folder, under its path in the store.

    Raises VersionRejected for one that is too large or not regular, CacheUnwritable, and what the store raises.
    """
    from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    file = info.path
    if info.is_dir:
        raise _not_regular(file)
    if (info.file_size or 0) > MAX_BYTES:
        raise _too_large(file)
    if isinstance(store, LocalArtifactRepository):
        chunks = _local(Path(store.artifact_dir, file), file)
    elif isinstance(store, HttpArtifactRepository):
        chunks = _served(store.artifact_uri, file)
    elif info.file_size is None:
        raise VersionRejected("size", f"{file}: the store does not list its size")
    else:
        _stored(store, file, folder)
        return
    content = _limited(chunks, file)
    target = folder / file
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    except OSError as error:
        raise CacheUnwritable(error.errno, error.strerror, str(target)) from error


def _limited(chunks: Iterator[bytes], file: str) -> bytes:
    content = bytearray()
    for chunk in chunks:
        content += chunk
        if len(content) > MAX_BYTES:
            raise _too_large(file)
    return bytes(content)


def _local(path: Path, file: str) -> Iterator[bytes]:
    try:
        # Opening a pipe would wait for its writer.
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link, a socket
            raise _not_regular(file) from error
        raise
    try:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise _not_regular(file)
        while chunk := os.read(number, CHUNK_BYTES):
            yield chunk
    finally:
        os.close(number)


def _served(uri: str, file: str) -> Iterator[bytes]:
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    with http_request(get_default_host_creds(uri), f"/{file}", "GET", stream=True) as response:
        response.raise_for_status()
        yield from response.iter_content(CHUNK_BYTES)


def _stored(store: Any, file: str, folder: Path) -> None:
    try:
        store.download_artifacts(file, str(folder))
    except Exception as error:
        # MLflow reports it in the third line of its text only.
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            if os.strerror(number) in str(error):
                raise CacheUnwritable(number, os.strerror(number), str(folder)) from error
        raise


def _too_large(file: str) -> VersionRejected:
    return VersionRejected("size", f"{file} is larger than {MAX_BYTES} bytes")


def _not_regular(file: str) -> VersionRejected:
    return VersionRejected("unreadable", f"{file} is a folder, a link or a device, expected a file")
