"""Keys in a PKCS#11 token: a smart card, an HSM, or SoftHSM. The key signs there and stays there.

A key is named by a URI (RFC 7512), as OpenSSL and GnuTLS name it:

    pkcs11:token=release;object=signing?module-path=/usr/lib/softhsm/libsofthsm2.so

The PIN is read from the file of `pin-source`, or from `EDGEKIT_PKCS11_PIN`; never from the URI.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, unquote_to_bytes

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from edgekit.errors import Unauthorized
from edgekit.oci.keys import TOKEN_SCHEME, public_pem

if TYPE_CHECKING:
    import pkcs11

PIN_VARIABLE = "EDGEKIT_PKCS11_PIN"
MODULE_VARIABLE = "EDGEKIT_PKCS11_MODULE"
_HINT = "pkcs11:token=TOKEN;object=KEY?module-path=LIBRARY.so"
_COORDINATE = 32  # bytes of a coordinate of P-256


@dataclass(frozen=True)
class TokenUri:
    """Where a key is.

    Args:
        token: label of the token.
        object: label of the key; empty where `id` names it.
        id: of the key, as the token keeps it.
        module: path of the token's library.
        pin_source: file with the PIN; empty for the environment's.
    """

    token: str
    object: str = ""
    id: bytes = b""
    module: str = ""
    pin_source: str = ""

    @classmethod
    def parse(cls, text: str) -> "TokenUri":
        """Read a URI; the library may also be named by `EDGEKIT_PKCS11_MODULE`.

        Raises:
            Unauthorized: it is none, names no key or no library, or holds a PIN.
        """
        path, _, query = text.removeprefix(TOKEN_SCHEME).partition("?")
        parts = [part.partition("=") for part in (*path.split(";"), *query.split("&")) if part]
        said = {name: value for name, _equals, value in parts}
        if "pin-value" in said:
            raise Unauthorized(
                "a PIN in a key's name would be seen by everybody",
                f"use pin-source=file:PATH or {PIN_VARIABLE}",
            )
        if not text.startswith(TOKEN_SCHEME) or not said.get("token"):
            raise Unauthorized("the key's name has no token", f"write {_HINT}")
        if not (said.get("object") or said.get("id")):
            raise Unauthorized("the key's name has neither object nor id", f"write {_HINT}")
        module = unquote(said.get("module-path", "")) or os.environ.get(MODULE_VARIABLE, "")
        if not module:
            raise Unauthorized(
                "the key's name has no module-path", f"write {_HINT}, or set {MODULE_VARIABLE}"
            )
        return cls(
            unquote(said["token"]),
            unquote(said.get("object", "")),
            unquote_to_bytes(said.get("id", "")),
            module,
            unquote(said.get("pin-source", "")).removeprefix("file:"),
        )

    def pin(self) -> str:
        """The PIN.

        Raises:
            Unauthorized: there is none.
        """
        if self.pin_source:
            try:
                return Path(self.pin_source).read_text().strip()
            except (OSError, UnicodeDecodeError) as error:
                raise Unauthorized(
                    f"the PIN's file {self.pin_source} does not read", "name a file that does"
                ) from error
        if not (pin := os.environ.get(PIN_VARIABLE, "")):
            raise Unauthorized(
                f"the token {self.token} wants a PIN",
                f"set {PIN_VARIABLE}, or add pin-source=file:PATH to the key's name",
            )
        return pin


@dataclass(frozen=True)
class TokenKey:
    """A key in a token, while a session is open; see `edgekit.oci.keys.Signer`."""

    uri: TokenUri
    public_key: bytes
    _private: "pkcs11.SignMixin"

    def sign(self, data: bytes) -> bytes:
        """The signature of `data`, made by the token."""
        import pkcs11

        with _explained(self.uri):
            raw = self._private.sign(
                hashlib.sha256(data).digest(), mechanism=pkcs11.Mechanism.ECDSA
            )
        if len(raw) != 2 * _COORDINATE:
            raise Unauthorized(f"the token {self.uri.token} gives no signature of P-256")
        r, s = raw[:_COORDINATE], raw[_COORDINATE:]
        return encode_dss_signature(int.from_bytes(r), int.from_bytes(s))


@contextmanager
def open_token(uri: TokenUri) -> Iterator[TokenKey]:
    """A key of a token, for as long as the block runs.

    Raises:
        Unauthorized: the library, the token or the key is not there, or the PIN is wrong.
    """
    with _session(uri) as session:
        with _explained(uri):
            import pkcs11

            private: Any = session.get_key(pkcs11.ObjectClass.PRIVATE_KEY, **_named(uri))
            public: Any = session.get_key(pkcs11.ObjectClass.PUBLIC_KEY, **_named(uri))
            point = bytes(public[pkcs11.Attribute.EC_POINT])
        yield TokenKey(uri, _pem(point, uri), private)


def make_token_key(uri: TokenUri) -> bytes:
    """Make a key in a token, which never gives it away; its public key, PEM.

    Raises:
        Unauthorized: the token refuses, or has such a key.
    """
    with _session(uri, write=True) as session, _explained(uri):
        import pkcs11
        from pkcs11.util.ec import encode_named_curve_parameters

        # to the end: a search that is left open keeps the session
        found = list(session.get_objects({pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PRIVATE_KEY}))
        if any(getattr(each, "label", "") == uri.object for each in found):
            raise Unauthorized(
                f"the token {uri.token} has a key {uri.object} already", "choose another object"
            )
        curve = session.create_domain_parameters(
            pkcs11.KeyType.EC,
            {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")},
            local=True,
        )
        public: Any
        public, _private = curve.generate_keypair(
            store=True, id=uri.id or os.urandom(8), label=uri.object
        )
        return _pem(bytes(public[pkcs11.Attribute.EC_POINT]), uri)


def _named(uri: TokenUri) -> dict[str, Any]:
    return ({"label": uri.object} if uri.object else {}) | ({"id": uri.id} if uri.id else {})


@contextmanager
def _session(uri: TokenUri, write: bool = False) -> "Iterator[pkcs11.Session]":
    with _explained(uri):
        import pkcs11

        token = pkcs11.lib(uri.module).get_token(token_label=uri.token)
        session = token.open(rw=write, user_pin=uri.pin())
    with session:
        yield session


@contextmanager
def _explained(uri: TokenUri) -> Iterator[None]:
    """Turn what the token or its library says into one line."""
    try:
        from pkcs11 import exceptions
    except ModuleNotFoundError as error:
        raise Unauthorized(
            "keys in tokens need the Python package python-pkcs11", "pip install 'edgekit[pkcs11]'"
        ) from error
    try:
        yield
    except exceptions.NoSuchToken as error:
        raise Unauthorized(f"there is no token {uri.token} in {uri.module}", "is it in?") from error
    except exceptions.NoSuchKey as error:
        name = uri.object or uri.id.hex()
        raise Unauthorized(
            f"the token {uri.token} has no key {name}", "make one: edgekit image keygen"
        ) from error
    except (exceptions.PinIncorrect, exceptions.PinLenRange) as error:
        raise Unauthorized(
            f"the token {uri.token} does not take the PIN", "beware: it locks after a few tries"
        ) from error
    except exceptions.PinLocked as error:
        raise Unauthorized(f"the token {uri.token} has locked its PIN") from error
    except (exceptions.PKCS11Error, RuntimeError) as error:
        reason = str(error) or type(error).__name__
        raise Unauthorized(f"the token {uri.token} refuses: {reason}", f"see {_HINT}") from error


def _pem(point: bytes, uri: TokenUri) -> bytes:
    """The public key of a point as PKCS#11 gives it: uncompressed, within a DER octet string."""
    bare = point[2:] if point[:2] == bytes((4, len(point) - 2)) else point
    try:
        return public_pem(ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), bare))
    except ValueError as error:
        raise Unauthorized(
            f"the key in the token {uri.token} is none of ECDSA P-256", "edgekit image keygen"
        ) from error
