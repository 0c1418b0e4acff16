"""Plain HTTP over sockets, where a client library would hide what a test is about."""

import asyncio
import json
import socket
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def request(path: str, body: Any, method: str = "POST") -> bytes:
    """The bytes of a request with a body of JSON."""
    content = json.dumps(body).encode()
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


async def answer(reader: asyncio.StreamReader) -> Answer:
    """The next answer of a connection; it has a length, as all of the API's have."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
    pairs = (line.partition(": ") for line in lines[1:] if line)
    headers = {name.lower(): value for name, _, value in pairs}
    body = await reader.readexactly(int(headers["content-length"]))
    return Answer(int(lines[0].split()[1]), headers, body)


def begun(port: int, data: bytes) -> socket.socket:
    """A connection on which so much of a request was sent."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(data)
    return connection
