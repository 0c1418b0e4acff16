"""The address on which a program listens."""

import socket
import sys


def require_free(host: str, port: int, prefix: str) -> None:
    """End the program if it cannot listen there, before it starts anything that it would have to stop.

    `prefix` is that of the variables HOST and PORT.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        socket.create_server(address, family=family).close()
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]  # Python repeats the address
        sys.exit(
            f"error: {prefix}HOST={host}, {prefix}PORT={port}: {reason}: expected an address of "
            "this machine and a port on which no other program listens"
        )
