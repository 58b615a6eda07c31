"""Keys that sign, ECDSA over P-256: in PEM files, or in a token that they never leave."""

import base64
import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edgekit.errors import OciError, Unauthorized

PASSWORD_VARIABLE = "EDGEKIT_SIGNING_PASSWORD"  # noqa: S105 - the name of a variable
TOKEN_SCHEME = "pkcs11:"  # noqa: S105 - of a URI


class Signer(Protocol):
    """Whatever signs with one key."""

    @property
    def public_key(self) -> bytes:
        """The public key, PEM."""
        ...

    def sign(self, data: bytes) -> bytes:
        """The signature of `data`: ECDSA with SHA-256, DER."""
        ...


@dataclass(frozen=True)
class PemKey:
    """A key that this process holds. Equal data get equal signatures (RFC 6979)."""

    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def public_key(self) -> bytes:
        """The public key, PEM."""
        return public_pem(self.key.public_key())

    def sign(self, data: bytes) -> bytes:
        """The signature of `data`."""
        return self.key.sign(data, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))


def new_key() -> tuple[bytes, bytes]:
    """A new private key (PKCS#8) and its public key, both PEM.

    The private key is encrypted where `EDGEKIT_SIGNING_PASSWORD` is set.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    password = os.environ.get(PASSWORD_VARIABLE, "").encode()
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        encryption = serialization.BestAvailableEncryption(password)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )
    return private, public_pem(key.public_key())


def public_pem(key: ec.EllipticCurvePublicKey) -> bytes:
    """A public key as PEM."""
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def read_private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The signing key in a PEM file; its password, if any, from `EDGEKIT_SIGNING_PASSWORD`.

    Raises:
        Unauthorized: it does not read, the password is wrong, or it is of another kind.
    """
    password = os.environ.get(PASSWORD_VARIABLE, "").encode() or None
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password)
    except TypeError as error:
        raise Unauthorized(
            f"the key {path} needs a password, or needs none", f"set or unset {PASSWORD_VARIABLE}"
        ) from error
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        reason = error.strerror if isinstance(error, OSError) else "wrong format or password"
        raise Unauthorized(
            f"the key {path} does not read: {reason}", "make one: edgekit image keygen"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise Unauthorized(f"the key {path} is none of ECDSA P-256", "edgekit image keygen")
    return key


def fingerprint(public_key: bytes) -> str:
    """Names a public key (PEM): base64 of the sha256 of its DER form, as cosign hints at it."""
    der = load_public(public_key).public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return base64.b64encode(hashlib.sha256(der).digest()).decode()


def load_public(data: bytes) -> ec.EllipticCurvePublicKey:
    """A public key from PEM.

    Raises:
        OciError: it is none of ECDSA P-256.
    """
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise OciError("a public key of the policy does not read", "give it as PEM") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise OciError("a public key of the policy is none of ECDSA P-256")
    return key
