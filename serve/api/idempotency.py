"""The header Idempotency-Key: a request that is repeated with it is answered, and logged, once.

What identifies a request is kept as hashes only, since a client may put anything into the header.
"""

import re
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from fastapi import Request, Response
from pydantic import BaseModel

from heart.http.access import JSON, media_type
from heart.http.messages import header_values, route_path
from heart.predictions.answers import KEPT, OnceKey
from serve.api.bodies import InvalidBody
from serve.api.protected import body_of, token_of
from serve.metrics import route_label
from serve.micro_batching import Predictions
from serve.service import Service

NAME = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
HEADER = NAME.lower().encode()
FORM = re.compile(rb"[!-~]{1,100}")
HOURS = int(KEPT.total_seconds() // 3600)
PARAMETER = {
    "name": NAME,
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 100, "pattern": "^[!-~]+$"},
    "description": f"Any text of your own, different for each request. Within {HOURS} hours, the same key with "
    "the same body and parameters gets the same answer, and is logged once",
}
REPLAY = {
    "schema": {"type": "string", "enum": ["true"]},
    "description": "The answer is that of an earlier request with the same key",
}


def once_key(request: Request, query: BaseModel) -> OnceKey | None:
    """The identity of a request, None without the header. Raises InvalidBody."""
    scope = request.scope
    keys = header_values(scope, HEADER)
    if not keys:
        return None
    key = keys[0]
    if len(keys) > 1 or not FORM.fullmatch(key):
        text = "expected once, with 1 to 100 visible ASCII characters"
        item = {"type": "invalid_header", "msg": text, "loc": ("header", NAME)}
        raise InvalidBody([item], complete=True)
    route = route_label(route_path(scope))
    content = (route, query.model_dump_json(), media_type(scope))
    return OnceKey(
        _hash(token_of(scope).name.encode(), key),
        _hash(*(part.encode() for part in content), body_of(scope)),
    )


def _hash(*parts: bytes) -> str:
    """A hash of parts, of which none can end in another."""
    digest = sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


async def answered(
    service: Service,
    patients: Any,
    query: Any,
    request: Request,
    encode: Callable[[Predictions], bytes],
) -> Response:
    """The response with the predictions for patients, as `encode` writes them."""
    key = once_key(request, query)
    if key is None:
        body = await service.predict_encoded(patients, query.parts, encode)
        return Response(body, media_type=JSON)
    answer = await service.predict_once(patients, query.parts, key, encode)
    headers = {} if answer.is_new else {REPLAYED: "true"}
    return Response(answer.body, headers=headers, media_type=JSON)
