"""A visitor's file: the browser sends it with the call, as text, so that none lies on the server.

Nothing that a request says is a path: there is no name of a file to check, no folder to clear, and any
replica can score the table.
"""

import base64
import binascii
from typing import Any

MAX_FILE_BYTES = 2 * 1024 * 1024
# The browser sends one byte more at most, from which it is seen that a file is too long.
MAX_ENCODED = 4 * -(-(MAX_FILE_BYTES + 1) // 3)


class TooLong(ValueError):
    """The file has more than MAX_FILE_BYTES."""


def file_bytes(content: Any) -> bytes:
    """The bytes of a file in base64. Raises TooLong, ValueError, and TypeError for no text."""
    if not isinstance(content, str):
        raise TypeError("expected a text")
    if len(content) > MAX_ENCODED:
        raise TooLong
    try:
        data = base64.b64decode(content, validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
    if len(data) > MAX_FILE_BYTES:
        raise TooLong
    return data
