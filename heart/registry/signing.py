"""Signed versions: `make register` signs, and a service with HEART_SIGNING_PUBLIC_KEYS serves nothing else.

The signature covers the name and number of a version and its tags: the hashes of model, standard errors,
training ranges and drift baseline, the threshold, the schema, and the hash of the model card. Each file is
compared with its hash, so that one signature covers all of them. It is itself a tag (ECDSA, P-256, SHA-256),
so that no file, and no output of a DVC stage, depends on the key.

`make sign VERSION=n` signs a version again, after a change of the key.
"""

import base64
import binascii
import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any

from heart.errors import UserError
from heart.registry.aliases import IDENTITY, require_version
from heart.registry.errors import VersionRejected
from heart.registry.local_store import FOLDER

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from mlflow import MlflowClient

SIGNATURE, CARD_SHA256 = "signature", "model_card_sha256"  # tags of a version
KEY = "SIGNING_KEY"  # the environment variable with the file of the private key
DEVELOPMENT_KEY = FOLDER / "signing_key.pem"
PUBLIC = ".pub.pem"  # the suffix of the public key beside it


@dataclass(frozen=True)
class Signatures:
    """What a version needs to be served: a signature by one of the keys, and a number of at least `minimum`.

    Without keys no signature is checked.
    """

    keys: Sequence[Path] = ()
    minimum: int = 0

    def require(self, name: str, number: str, tags: Mapping[str, str]) -> None:
        """Raises VersionRejected unless the version is signed and recent enough."""
        if int(number) < self.minimum:
            raise VersionRejected(
                "too_old", f"version {number} is older than HEART_MINIMUM_VERSION {self.minimum}"
            )
        if not self.keys:
            return
        if SIGNATURE not in tags:
            raise VersionRejected(
                "signature", f"version {number} has no signature: `make sign VERSION={number}`"
            )
        if not self._signed(statement(name, number, tags), tags[SIGNATURE]):
            raise VersionRejected(
                "signature", f"the signature of version {number} is by no key of this service, or of other content"
            )  # fmt: skip

    def _signed(self, content: bytes, signature: str) -> bool:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        try:
            decoded = base64.b64decode(signature, validate=True)
        except (binascii.Error, ValueError):
            return False
        for path in self.keys:
            try:
                key = load_pem_public_key(path.read_bytes())
                if isinstance(key, EllipticCurvePublicKey):
                    key.verify(decoded, content, ECDSA(SHA256()))
                    return True
            except InvalidSignature:
                continue
            except (OSError, ValueError) as error:
                raise VersionRejected("signature", f"{path} cannot be read: {error}") from error
        return False


def statement(name: str, number: str, tags: Mapping[str, str]) -> bytes:
    """The bytes that are signed."""
    signed = {tag: tags[tag] for tag in (*IDENTITY, CARD_SHA256) if tag in tags}
    content = {"name": name, "version": str(number), "tags": signed}
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def sign(client: "MlflowClient", name: str, number: str) -> None:
    """Sign a version with the project's key. Raises UserError, AliasError."""
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.hashes import SHA256

    key = private_key()
    version = require_version(client, name, str(number))
    card = hashlib.sha256((version.description or "").encode()).hexdigest()
    client.set_model_version_tag(name, str(number), CARD_SHA256, card)
    content = statement(name, str(number), {**version.tags, CARD_SHA256: card})
    signature = base64.b64encode(key.sign(content, ECDSA(SHA256()))).decode()
    client.set_model_version_tag(name, str(number), SIGNATURE, signature)


def private_key() -> "EllipticCurvePrivateKey":
    """The key in the file that SIGNING_KEY names; without one a development key, made at its first use."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    given = os.environ.get(KEY)
    path = Path(given) if given else DEVELOPMENT_KEY
    try:
        if not given and not path.exists():
            _make(path)
        key: Any = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: {error}; expected a private key as PEM ({KEY})") from error
    if not isinstance(key, EllipticCurvePrivateKey):
        raise UserError(f"{path}: expected an elliptic-curve key ({KEY})")
    if not given:
        _write_public(key, path.with_suffix(PUBLIC))
    return key


def _make(path: Path) -> None:
    """Make a key, complete or not at all; of two processes that do, both then use the first one's."""
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = generate_private_key(SECP256R1())
    path.parent.mkdir(parents=True, exist_ok=True)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    if _create(path, private, 0o600):
        print(f"note: {path} is a new development key to sign versions ({KEY})", file=sys.stderr)


def _write_public(key: "EllipticCurvePrivateKey", path: Path) -> None:
    """Write the public half of a development key, unless it is there."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    if not path.exists():
        public = key.public_key()
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        _create(path, pem, 0o644)


def _create(path: Path, content: bytes, mode: int) -> bool:
    """Create a file with its whole content; False if there is one already."""
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.") as file:
        file.write(content)
        file.flush()
        os.fchmod(file.fileno(), mode)
        try:
            os.link(file.name, path)
        except FileExistsError:
            return False
    return True
