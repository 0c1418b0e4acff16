"""A load generator: persistent connections with one request at a time, in raw HTTP/1.1."""

import asyncio
import json
import re
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

PERCENTILES = (50, 90, 99, 99.9)


@dataclass(frozen=True)
class Load:
    """The result of a load.

    Responses with status 200 in a second; their latencies in seconds by the percentiles of PERCENTILES,
    those of rejections (503), and the number of responses by status.
    """

    per_second: float
    answered: dict[str, float]
    refused: dict[str, float]
    statuses: dict[str, int]


def request(path: str, body: Any, port: int) -> bytes:
    """The bytes of a POST request."""
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


class Client(asyncio.Protocol):
    """One connection: it repeats the request and measures the time to the end of each response.

    A protocol without streams or tasks, so that the generator costs less than the server.
    """

    def __init__(self, data: bytes, wait: float, latencies: dict[str, list[float]]) -> None:
        self._data, self._wait, self._latencies = data, wait, latencies
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._end = 0.0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def run(self, end: float) -> "asyncio.Future[None]":
        """Send until the time `end`, at least once."""
        self._end, self._done = end, self._loop.create_future()
        self._send()
        return self._done

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not separator or not length or len(body) < int(length[1]):
            return
        self._received = b""
        status = head[9:12].decode()
        self._latencies.setdefault(status, []).append(time.perf_counter() - self._start)
        if time.perf_counter() >= self._end:
            self._done.set_result(None)
        elif status == "503" and self._wait:
            self._loop.call_later(self._wait, self._send)
        else:
            self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(error or ConnectionError("the server closed a connection"))

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def _send(self) -> None:
        self._start = time.perf_counter()
        self._transport.write(self._data)


_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


async def run(port: int, data: bytes, connections: int, seconds: float, wait: float) -> Load:
    """Repeat a request on a number of connections for some seconds.

    After a rejection a connection waits `wait` seconds before its next request.
    """
    latencies: dict[str, list[float]] = {}
    loop = asyncio.get_running_loop()
    clients = []
    for _ in range(connections):
        _, client = await loop.create_connection(
            lambda: Client(data, wait, latencies), "127.0.0.1", port
        )
        await client.run(end=0)  # the time to connect is not measured
        clients.append(client)
    latencies.clear()
    latencies |= {"200": [], "503": []}
    end = time.perf_counter() + seconds
    await asyncio.gather(*(client.run(end) for client in clients))
    for client in clients:
        client.close()
    statuses = {status: len(times) for status, times in latencies.items() if times}
    answered, refused = map(_percentiles, (latencies["200"], latencies["503"]))
    return Load(len(latencies["200"]) / seconds, answered, refused, statuses)


def _percentiles(latencies: list[float]) -> dict[str, float]:
    values = np.percentile(latencies, PERCENTILES) if latencies else np.zeros(len(PERCENTILES))
    return {f"p{share:g}": float(value) for share, value in zip(PERCENTILES, values, strict=True)}


def main() -> None:
    """`python -m benchmarks.load PORT PATH CONNECTIONS SECONDS WAIT < BODY` prints a load as JSON."""
    import uvloop

    port, path, connections, seconds, wait = sys.argv[1:]
    data = request(path, json.load(sys.stdin), int(port))
    load = uvloop.run(run(int(port), data, int(connections), float(seconds), float(wait)))
    print(json.dumps(asdict(load)))


if __name__ == "__main__":
    main()
