"""An S3 server on the loopback."""

import contextlib
import urllib.request
from collections.abc import Iterator

from moto.server import ThreadedMotoServer

BUCKET = "heart"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "anyone",
    "AWS_SECRET_ACCESS_KEY": "anything",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """The address of an S3 server with one bucket, while the block runs."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    with urllib.request.urlopen(  # noqa: S310
        urllib.request.Request(f"{address}/{BUCKET}", method="PUT")  # noqa: S310
    ):
        pass
    yield address
    # Buckets belong to the process: the next server would have them too.
    reset = urllib.request.Request(f"{address}/moto-api/reset", method="POST")  # noqa: S310
    urllib.request.urlopen(reset).close()  # noqa: S310
    server.stop()
