"""The content type of requests, and the codings of their bodies."""

import re

from starlette.types import Scope

from heart.http.messages import header
from heart.http.problems import Problem

JSON = "application/json"
JSON_SUFFIX = re.compile(r"application/.+\+json")
# With commas only in quoted parameters: others separate the values of a header that was sent twice.
ONE_TYPE = re.compile(r'[^,;]*(?:;(?:[^,"]|"(?:[^"\\]|\\.)*")*)?')


def media_type(scope: Scope) -> str:
    """The content type of a request without its parameters, in lower case; empty if it has two."""
    content_type = header(scope, b"content-type").decode("latin-1")
    if "," in content_type and not ONE_TYPE.fullmatch(content_type):
        return ""
    return content_type.partition(";")[0].strip().lower()


def require_json(scope: Scope, *others: str) -> str:
    """The media type of the body: JSON, or one of some others. Raises 415 otherwise, also if it is compressed.

    Forms on pages of other origins can send three types without a CORS preflight; none is allowed.
    """
    return require_type(scope, JSON, *others, pattern=JSON_SUFFIX)


def require_type(scope: Scope, *types: str, pattern: re.Pattern[str] | None = None) -> str:
    """The media type of the body: one of the types, or of the pattern. Raises 415 otherwise.

    It is also raised for a compressed body, of which some kilobytes can become gigabytes. The parser
    undoes no transfer coding but `chunked`: 501 (RFC 9112, section 6.1).
    """
    actual = media_type(scope)
    if actual not in types and not (pattern and pattern.fullmatch(actual)):
        content_type = header(scope, b"content-type").decode("latin-1")
        raise Problem(
            "unsupported-media-type",
            f"the header Content-Type is {content_type[:100]!r}: expected {' or '.join(types)}",
            {"Accept": ", ".join(types)},
            accepted=list(types),
        )
    encoding = header(scope, b"content-encoding").decode("latin-1").strip()
    if encoding.lower() not in ("", "identity"):
        raise Problem(
            "unsupported-media-type",
            f"the header Content-Encoding is {encoding[:100]!r}: send the body as it is",
            {"Accept-Encoding": "identity"},
        )
    coding = header(scope, b"transfer-encoding").decode("latin-1")
    if coding.lower() not in ("", "chunked"):
        raise Problem(
            "unknown-transfer-coding",
            f"the header Transfer-Encoding is {coding[:100]!r}: expected chunked",
        )
    return actual
