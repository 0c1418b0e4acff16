"""An S3 server in memory with the buckets in S3_BUCKET, on port 8333, for who names the right key."""

import os
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

from moto.s3.models import s3_backends
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

Answer = Iterable[bytes]


class Keyed:
    """Refuses whoever does not name the access key; the signature is not checked."""

    def __init__(self, app: Callable[..., Answer], key: str) -> None:
        self._app = app
        self._named = f"Credential={key}/"

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Answer:
        if environ["PATH_INFO"] == "/healthz":
            return _plain(start, HTTPStatus.OK)
        if self._named not in environ.get("HTTP_AUTHORIZATION", ""):
            return _plain(start, HTTPStatus.FORBIDDEN)
        return self._app(environ, start)


def _plain(start: Callable[..., Any], status: HTTPStatus) -> Answer:
    start(f"{status.value} {status.phrase}", [("Content-Length", "0")])
    return [b""]


def main() -> None:
    for bucket in os.environ["S3_BUCKET"].split(","):
        s3_backends["123456789012"]["aws"].create_bucket(bucket, "us-east-1")
    app = Keyed(DomainDispatcherApplication(create_backend_app), os.environ["AWS_ACCESS_KEY_ID"])
    run_simple("0.0.0.0", 8333, app, threaded=True)  # noqa: S104


if __name__ == "__main__":
    main()
