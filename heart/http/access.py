"""The content type of requests."""

import re

from starlette.types import Scope

from heart.http.messages import header
from heart.http.problems import Problem


def media_type(scope: Scope) -> str:
    """The content type of a request without its parameters, in lower case."""
    content_type = header(scope, b"content-type").decode("latin-1")
    return content_type.partition(";")[0].strip().lower()


def require_json(scope: Scope, *others: str) -> None:
    """Raise 415 unless the body is JSON, or of one of some other media types, and not compressed.

    Forms on pages of other origins can send three types without a CORS preflight; none is allowed.
    """
    json_type = re.fullmatch(r"application/.+\+json", media_type(scope))
    require_type(scope, "application/json", *others, *([json_type[0]] if json_type else []))


def require_type(scope: Scope, *types: str) -> None:
    """Raise 415 unless the body is of one of the media types and not compressed.

    A compressed body of some kilobytes can become one of gigabytes.
    """
    if media_type(scope) not in types:
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
