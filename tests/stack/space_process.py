"""Started by its test where there is no network: the service of a Space as its image runs it, asked once.

Arguments: the command as JSON, the port, the token. Prints what was answered, as JSON.
"""

import fcntl
import http.client
import json
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

PATIENT = {"age": 57, "sex": "male", "chest_pain_type": "asymptomatic", "st_depression": 1.5}
UP = struct.pack("16sh14x", b"lo", 0x1 | 0x40)  # ifreq with IFF_UP and IFF_RUNNING
SIOCSIFFLAGS = 0x8914
SECONDS = 120


def loopback() -> list[str]:
    """Have 127.0.0.1, also where all begins without any network. Returns the interfaces."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as some, suppress(PermissionError):
        fcntl.ioctl(some, SIOCSIFFLAGS, UP)
    return [name for _, name in socket.if_nameindex()]


def ask(
    port: int, token: str, method: str, path: str, body: Any = None, **changes: str
) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", **changes}
    connection.request(method, path, json.dumps(body) if body else None, headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def started(port: int, token: str, process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """The first answer on readiness that is 200, or the last one within the time."""
    result, end = (0, "no answer"), time.monotonic() + SECONDS
    while result[0] != 200 and time.monotonic() < end and process.poll() is None:
        time.sleep(0.1)
        with suppress(OSError):
            result = ask(port, token, "GET", "/health/ready")
    return result


def user_of(pid: int) -> int:
    """The effective user of a process; -1 if there is none any more."""
    try:
        return int(re.findall(r"Uid:\s+\d+\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0])
    except OSError:
        return -1


def main() -> None:
    command, port, token = json.loads(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    result: dict[str, Any] = {"interfaces": loopback()}
    process = subprocess.Popen(command)
    try:
        result["ready"] = started(port, token, process)
        result["user"] = user_of(process.pid)
        if result["ready"][0] == 200:
            result["predicted"] = ask(port, token, "POST", "/predict", PATIENT)
            result["stranger"] = ask(port, "", "POST", "/predict", PATIENT)
            for host in ("owner-name.hf.space", "evil.example"):
                result[host] = ask(port, token, "GET", "/model", Host=host)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    print("\n" + json.dumps(result))


if __name__ == "__main__":
    main()
