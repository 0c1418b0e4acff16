"""Addresses of servers and databases: the scheme, host and port of a URL."""

import argparse
import re

HTTP = ("http", "https")
# The host begins after the last @, so that no part of a password is taken for it.
URL = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:\S*@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:/?#@\s]*)(?::(?P<port>[^/?#]*))?(?:[/?#]\S*)?"
)


def check_url(url: str) -> None:
    """Raises ValueError for a URL without a host where its scheme needs one, or with an impossible port.

    The message does not quote a URL that may contain a password.
    """
    shown = "" if "@" in url else f"{url}: "
    parts = URL.fullmatch(url)
    if parts is None:
        raise ValueError(f"{shown}expected a URL such as http://HOST:PORT, without spaces")
    if parts["scheme"] in HTTP and not parts["host"]:
        raise ValueError(f"{shown}expected a host, as in {parts['scheme']}://HOST:PORT")
    port = parts["port"]
    if port is not None and not (re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) < 65536):
        raise ValueError(f"{shown}expected a port from 1 to 65535 after the host")


def server_of(url: str) -> str:
    """A valid URL without user and password; of one that has them only scheme, host and port are left."""
    parts = URL.fullmatch(url)
    if parts is None or "@" not in url:
        return url
    port = f":{parts['port']}" if parts["port"] else ""
    return f"{parts['scheme']}://{parts['host']}{port}"


def http_url(text: str) -> str:
    """An address on the command line. Raises ArgumentTypeError."""
    try:
        check_url(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError("expected a URL such as http://127.0.0.1:8000")
    return text
