"""Shared access signatures: how they are read, checked and made.

A token is `SharedAccessSignature sr=R&sig=S&se=E[&skn=P]`: `sig` is the base64 HMAC-SHA256 of
`R + "\\n" + E` under the base64-decoded key. Clients differ in what they sign: most sign the
percent-encoded resource, uamqp signs the plain one, the service signature leaves `/` as it is, and
azure-eventhub takes the text of the key for the key. So fields are split by hand (a `+` is no
blank) and the signature is tried in all these ways.
"""

import base64
import binascii
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, unquote

PREFIX = "SharedAccessSignature "


@dataclass(frozen=True)
class Token:
    """A token as it was sent; nothing of it is believed yet.

    Attributes:
        raw_resource: the resource as it was spelled on the wire.
        signature: HMAC-SHA256, 32 bytes when it is genuine.
        expiry: seconds since 1970 (UTC).
        raw_expiry: the expiry as it was spelled on the wire, which is what was signed.
        policy: name of the shared access policy, or None for an identity's own key.
    """

    raw_resource: str
    signature: bytes
    expiry: int
    raw_expiry: str
    policy: str | None

    @property
    def resource(self) -> str:
        """The resource without percent-encoding, for example `hub/devices/d/modules/m`."""
        return unquote(self.raw_resource)

    def signed_by(self, keys: Iterable[str]) -> bool:
        """Say whether one of the base64 `keys` made the signature; takes the same time for all."""
        genuine = False
        for key in keys:
            for resource in {self.raw_resource, self.resource, quote(self.resource, safe="")}:
                for secret in (base64.b64decode(key), key.encode()):
                    expected = _signature(secret, resource, self.raw_expiry)
                    genuine |= hmac.compare_digest(expected, self.signature)
        return genuine


def parse(text: str) -> Token | None:
    """Read a token; None when it is not one."""
    if not text.startswith(PREFIX):
        return None
    fields = dict(
        part.split("=", 1) for part in text[len(PREFIX) :].strip().split("&") if "=" in part
    )
    try:
        return Token(
            raw_resource=fields["sr"],
            signature=base64.b64decode(unquote(fields["sig"]), validate=True),
            expiry=int(float(fields["se"])),
            raw_expiry=fields["se"],
            policy=fields.get("skn") or None,
        )
    except (KeyError, ValueError, OverflowError, binascii.Error):
        return None


def sign(resource: str, key: str, expiry: int, policy: str | None = None) -> str:
    """Make a token for `resource` (not encoded) with a base64 key.

    Args:
        resource: what the token opens, for example `hub/devices/d`.
        key: base64 of the shared key.
        expiry: when it ends, seconds since 1970 (UTC).
        policy: name of the shared access policy the key belongs to, if it is one's.
    """
    encoded = quote(resource, safe="")
    secret = base64.b64decode(key)
    signature = base64.b64encode(_signature(secret, encoded, str(expiry))).decode()
    token = f"{PREFIX}sr={encoded}&sig={quote(signature, safe='')}&se={expiry}"
    return f"{token}&skn={policy}" if policy else token


def new_key() -> str:
    """A fresh symmetric key: 32 random bytes in base64, as the service generates them."""
    return base64.b64encode(secrets.token_bytes(32)).decode()


def is_key(text: str) -> bool:
    """Say whether `text` is a symmetric key the service takes: base64 of 16 to 64 bytes."""
    try:
        return 16 <= len(base64.b64decode(text, validate=True)) <= 64
    except (ValueError, binascii.Error):
        return False


def _signature(secret: bytes, resource: str, expiry: str) -> bytes:
    return hmac.digest(secret, f"{resource}\n{expiry}".encode(), "sha256")
