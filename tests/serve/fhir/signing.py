"""Keys and tokens of a CDS client."""

import time
from typing import Any
from uuid import uuid4

from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

from serve.fhir.cards import SERVICE_PATH

URL = "https://heart.example.org"
ISSUER = "https://ehr.example.org"
EC = ECKey.generate_key("P-384", {"kid": "ec", "use": "sig"})
RSA = RSAKey.generate_key(2048, {"kid": "rsa"})


def public(*keys: Any) -> dict[str, Any]:
    return dict(KeySet(list(keys)).as_dict(private=False))


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    content = {
        "iss": ISSUER,
        "aud": URL + SERVICE_PATH,
        "exp": now + 240,
        "iat": now,
        "jti": str(uuid4()),
    }
    return {name: value for name, value in (content | changes).items() if value is not None}


def signed(
    content: dict[str, Any] | None = None, key: Any = EC, alg: str = "ES384", **head: Any
) -> str:
    head = {"alg": alg, "typ": "JWT", "kid": key.kid} | head
    head = {name: value for name, value in head.items() if value is not None}
    token = jwt.encode(head, content or claims(), key, algorithms=[alg], default_type=None)
    return str(token)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
