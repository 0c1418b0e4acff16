"""Checks of a settings file `.env`, whose lines would otherwise be left out without an error.

This module imports only what Python has, since `deploy/make_secrets.py` runs before anything is installed.
"""

import codecs
import re
from io import StringIO
from pathlib import Path

NAME = re.compile("[A-Za-z_][A-Za-z0-9_.-]*")
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",  # before UTF-16, whose mark is its beginning
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def read_text(path: Path) -> str:
    """The text of the file, without a byte order mark. Raises ValueError if it is not in UTF-8, OSError."""
    content = path.read_bytes()
    if b"\0" in content or content.startswith(tuple(BYTE_ORDER_MARKS)):
        encoding = _wide_encoding(content)
        raise ValueError(
            f"{path} is not in UTF-8, it may be in {encoding}: save it as UTF-8, for example with "
            f"`iconv -f {encoding} -t UTF-8`"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not in UTF-8: save it as UTF-8") from None


def _wide_encoding(content: bytes) -> str:
    """The encoding of a text that has zeros: of ASCII, UTF-16 has one in two bytes, UTF-32 three in four."""
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if content.startswith(mark):
            return encoding
    width = 32 if content.count(0) > len(content) / 2 else 16
    return f"UTF-{width}{'LE' if content[0] else 'BE'}"


def check_lines(text: str, path: Path) -> None:
    """Raises ValueError for a line that gives no setting. The message does not quote it: it may be a secret."""
    from dotenv.parser import parse_stream

    for binding in parse_stream(StringIO(text)):
        whole = binding.original.string
        name_is_valid = binding.key is None or NAME.fullmatch(binding.key)
        value_is_missing = binding.key is not None and binding.value is None
        if binding.error or value_is_missing or not name_is_valid:
            blank = whole[: len(whole) - len(whole.lstrip())]
            line = binding.original.line + len(blank.splitlines())
            raise ValueError(
                f"{path}, line {line}: expected NAME=VALUE: a name of letters, digits and _ without invisible "
                "characters before it, a =, and a value whose quotes are closed"
            )
