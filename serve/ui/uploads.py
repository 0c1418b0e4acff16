"""Files of visitors: the browser sends the content as text in the call, so the server stores no file.

No request contains a path: there is no file name to check, no folder to clear, and any replica can
score the table.
"""

import base64
import binascii
from typing import Any

MAX_FILE_BYTES = 2 * 1024 * 1024
# Of a longer file the browser sends one byte more, so that the server can reject it.
MAX_ENCODED = 4 * -(-(MAX_FILE_BYTES + 1) // 3)


class TooLong(ValueError):
    """The file has more than MAX_FILE_BYTES."""


def file_bytes(content: Any) -> bytes:
    """The bytes of a file in base64. Raises TooLong; ValueError if it is not base64; TypeError if it is not text."""
    if not isinstance(content, str):
        raise TypeError("expected text")
    if len(content) > MAX_ENCODED:
        raise TooLong
    try:
        data = base64.b64decode(content, validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
    if len(data) > MAX_FILE_BYTES:
        raise TooLong
    return data
