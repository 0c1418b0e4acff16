"""A load generator: connections that are kept, one request on each at a time, raw HTTP/1.1."""

import asyncio
import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Load:
    """What came of a load: answers a second, their latencies in seconds, and their statuses."""

    per_second: float
    median: float
    p99: float
    statuses: dict[str, int]


def request(path: str, body: Any, port: int) -> bytes:
    """The bytes of a POST request."""
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


async def _answer(reader: asyncio.StreamReader) -> str:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length:")
    )
    await reader.readexactly(length)
    return head[9:12].decode()


async def run(port: int, data: bytes, connections: int, seconds: float) -> Load:
    """Send the same request over and over, on so many connections, for so long."""
    latencies: list[float] = []
    statuses: dict[str, int] = {}
    end = time.perf_counter() + seconds

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (start := time.perf_counter()) < end:
            writer.write(data)
            status = await _answer(reader)
            latencies.append(time.perf_counter() - start)
            statuses[status] = statuses.get(status, 0) + 1
        writer.close()

    await asyncio.gather(*(client() for _ in range(connections)))
    p99 = statistics.quantiles(latencies, n=100)[98]
    return Load(len(latencies) / seconds, statistics.median(latencies), p99, statuses)


def main() -> None:
    """`python -m benchmarks.load PORT PATH CONNECTIONS SECONDS < BODY` prints the load as JSON."""
    import uvloop

    port, path, connections, seconds = sys.argv[1:]
    data = request(path, json.load(sys.stdin), int(port))
    load = uvloop.run(run(int(port), data, int(connections), float(seconds)))
    print(json.dumps(asdict(load)))


if __name__ == "__main__":
    main()
