"""The public keys of CDS clients: a JSON Web Key Set (RFC 7517) in a file or at an address.

It is read again every five minutes, and soon after a token names a key that it lacks, so that clients can
change their keys. If that fails, the keys that were read last stay.
"""

import asyncio
import json
import logging
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, RSAKey

from heart.errors import UserError, without_password

ALGORITHMS = ("ES384", "RS384")
CURVE, RSA_BITS = "P-384", 2048
REFRESH_SECONDS = 300
PAUSE_SECONDS = 10  # between two attempts, however many tokens name unknown keys
FETCH_SECONDS = 5
MAX_BYTES = 256 * 1024
FORM = (
    "expected a JSON Web Key Set with public keys: EC of curve P-384, or RSA of at least 2048 bits"
)

# Whatever a file or an address has: an error of another type would end `follow`.
UNREADABLE = (
    *(OSError, httpx.HTTPError, httpx.InvalidURL),
    *(JoseError, ValueError, KeyError, TypeError, RecursionError),
)

logger = logging.getLogger(__name__)


class Keys:
    """The keys of a file or an address; `current` is empty until they are read for the first time."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._wanted = asyncio.Event()
        self.current = KeySet([])

    @property
    def is_file(self) -> bool:
        """Whether the keys are in a file."""
        return "://" not in self._source

    def want(self) -> None:
        """Read the keys again soon. Only in the event loop."""
        self._wanted.set()

    def read(self) -> None:
        """Read the keys; it waits for the network. Raises UserError, and then the keys stay."""
        try:
            text = Path(self._source).read_bytes() if self.is_file else _fetch(self._source)
            self.current = _key_set(json.loads(text))
        except UNREADABLE as error:
            reason = error if isinstance(error, UnusableKeys) else type(error).__name__
            source = without_password(self._source)
            raise UserError(f"HEART_CDS_PUBLIC_KEYS={source}: {reason}: {FORM}") from None

    async def follow(self) -> None:
        """Read the keys again and again."""
        while True:
            started = time.monotonic()
            try:
                await asyncio.to_thread(self.read)
            except UserError as error:
                logger.error("%s", error)  # noqa: TRY400  # a traceback says no more
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), REFRESH_SECONDS)
            await asyncio.sleep(max(0.0, started + PAUSE_SECONDS - time.monotonic()))
            self._wanted.clear()


class UnusableKeys(ValueError):
    """The key set has no key that can be used, or one that must not be there; the message says which."""


def _fetch(url: str) -> bytes:
    with httpx.stream("GET", url, timeout=FETCH_SECONDS, follow_redirects=False) as response:
        response.raise_for_status()
        content = b""
        for part in response.iter_bytes():
            content += part
            if len(content) > MAX_BYTES:
                raise UnusableKeys(f"it is longer than {MAX_BYTES:,} bytes")
    return content


def _key_set(content: dict[str, Any]) -> KeySet:
    """The keys that may verify a signature. Raises UnusableKeys."""
    keys = []
    for entry in content["keys"]:
        if not isinstance(entry, dict):
            raise UnusableKeys("one of its keys is no object")
        if "d" in entry:
            raise UnusableKeys("it has a private key, which only its owner may have")
        if entry.get("kid") and entry.get("use", "sig") == "sig":
            keys += _usable(entry)
    if not keys:
        raise UnusableKeys("it has no usable key with a kid")
    return KeySet(list(keys))


def _usable(entry: dict[str, Any]) -> list[ECKey | RSAKey]:
    if entry.get("kty") == "EC" and entry.get("crv") == CURVE:
        return [ECKey.import_key(entry)]
    # A character of base64 has 6 bits. joserfc would import a shorter key, with a warning.
    if entry.get("kty") == "RSA" and 6 * len(entry["n"]) >= RSA_BITS:
        return [RSAKey.import_key(entry)]
    return []
