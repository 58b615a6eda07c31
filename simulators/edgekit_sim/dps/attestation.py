"""How devices of an enrolment prove who they are: symmetric keys or certificates."""

import base64
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgekit_sim.dps import certificates
from edgekit_sim.dps.errors import BAD_REQUEST, ProvisioningFault
from edgekit_sim.iothub import tokens

Json = dict[str, Any]

SYMMETRIC_KEY, X509 = "symmetricKey", "x509"
CLIENT, SIGNING, REFERENCES = "clientCertificates", "signingCertificates", "caReferences"
X509_KINDS = (CLIENT, SIGNING, REFERENCES)


@dataclass(frozen=True)
class Attestation:
    """An attestation mechanism.

    Attributes:
        type: `symmetricKey` or `x509`.
        keys: primary and secondary key in base64; empty for x509.
        kind: which x509 member it has: `clientCertificates`, `signingCertificates` or
            `caReferences`; "" for symmetric keys.
        certificates: primary and, where there is one, secondary certificate in DER.
        references: names of authorities uploaded to the service.
    """

    type: str
    keys: tuple[str, ...] = ()
    kind: str = ""
    certificates: tuple[bytes, ...] = ()
    references: tuple[str, ...] = ()

    def key_pairs(self, registration_id: str, *, group: bool) -> list[tuple[str, str]]:
        """The pairs of keys that one device may prove itself with, base64: derived in a group.

        A device may have derived its key from the id as it writes it or in lower case, since ids
        do not tell cases apart.
        """
        if not self.keys:
            return []
        primary, secondary = self.keys
        if not group:
            return [(primary, secondary)]
        spellings = dict.fromkeys([registration_id, registration_id.lower()])
        return [(derive_key(primary, name), derive_key(secondary, name)) for name in spellings]

    def mechanism(self) -> Json:
        """The AttestationMechanism with its keys, for those who may read them."""
        if self.type == SYMMETRIC_KEY:
            keys = {"primaryKey": self.keys[0], "secondaryKey": self.keys[1]}
            return {"type": SYMMETRIC_KEY, SYMMETRIC_KEY: keys}
        return self.resource()

    def resource(self) -> Json:
        """The AttestationMechanism without secrets, as enrolments show it."""
        if self.type == SYMMETRIC_KEY:
            return {"type": SYMMETRIC_KEY}
        if self.kind == REFERENCES:
            names = dict(zip(("primary", "secondary"), self.references, strict=False))
            return {"type": X509, X509: {REFERENCES: names}}
        described = ({"info": certificates.describe(one)} for one in self.certificates)
        return {
            "type": X509,
            X509: {self.kind: dict(zip(("primary", "secondary"), described, strict=False))},
        }

    def to_json(self) -> Json:
        """The attestation as the store keeps it."""
        return {
            "type": self.type,
            "keys": self.keys,
            "kind": self.kind,
            "certificates": [base64.b64encode(one).decode() for one in self.certificates],
            "references": self.references,
        }

    @classmethod
    def from_json(cls, kept: Json) -> "Attestation":
        """The attestation that `to_json` wrote."""
        return cls(
            kept["type"],
            tuple(kept["keys"]),
            kept["kind"],
            tuple(base64.b64decode(one) for one in kept["certificates"]),
            tuple(kept["references"]),
        )


def derive_key(group_key: str, registration_id: str) -> str:
    """A device's key in a group: base64 of HMAC-SHA256 of its registration id under the group's."""
    secret = base64.b64decode(group_key)
    return base64.b64encode(hmac.digest(secret, registration_id.encode(), "sha256")).decode()


def read_attestation(document: object, before: Attestation | None, *, group: bool) -> Attestation:
    """Read the `attestation` member of an enrolment.

    Args:
        document: what was sent.
        before: the enrolment's attestation so far; keys and certificates that are not sent again
            stay, since the service does not show them to who reads, changes and writes back.
        group: whether it is that of a group.

    Raises:
        ProvisioningFault: 400, saying what it lacks.
    """
    sent = _object(document, "attestation")
    kind = sent.get("type")
    if before is not None and before.type != kind:
        before = None
    if kind == SYMMETRIC_KEY:
        return _read_keys(_object(sent.get(SYMMETRIC_KEY) or {}, SYMMETRIC_KEY), before)
    if kind == X509:
        return _read_x509(_object(sent.get(X509), X509), before, group)
    if kind == "tpm":
        raise _invalid("tpm attestation is not simulated; use symmetricKey or x509")
    raise _invalid(f"attestation type {kind!r} is unknown")


def _read_keys(sent: Json, before: Attestation | None) -> Attestation:
    present = before.keys if before else (tokens.new_key(), tokens.new_key())
    keys = (sent.get("primaryKey") or present[0], sent.get("secondaryKey") or present[1])
    for key in keys:
        if not isinstance(key, str) or not tokens.is_key(key):
            raise _invalid("a symmetric key must be base64 of 16 to 64 bytes")
    return Attestation(SYMMETRIC_KEY, keys=keys)


def _read_x509(sent: Json, before: Attestation | None, group: bool) -> Attestation:
    kinds = [kind for kind in X509_KINDS if sent.get(kind)]
    if len(kinds) != 1:
        raise _invalid(f"x509 attestation needs one of {', '.join(X509_KINDS)}")
    kind = kinds[0]
    allowed = (SIGNING if group else CLIENT, REFERENCES)
    if kind not in allowed:
        raise _invalid(f"this kind of enrollment takes {' or '.join(allowed)}, not {kind}")
    pair = _object(sent[kind], kind)
    entries = [pair[name] for name in ("primary", "secondary") if pair.get(name)]
    if not entries:
        raise _invalid(f"{kind} has no primary")
    if kind == REFERENCES:
        return Attestation(X509, kind=kind, references=tuple(map(str, entries)))
    found = []
    for number, entry in enumerate(entries):
        certificate = _object(entry, kind).get("certificate")
        if certificate:
            found.append(certificates.read(certificate))
        elif before is not None and before.kind == kind and number < len(before.certificates):
            found.append(before.certificates[number])
        else:
            raise _invalid(f"{kind} has an entry without certificate")
    return Attestation(X509, kind=kind, certificates=tuple(found))


def _object(value: object, name: str) -> Json:
    if not isinstance(value, Mapping):
        raise _invalid(f"{name} is missing or no JSON object")
    return dict(value)


def _invalid(reason: str) -> ProvisioningFault:
    return ProvisioningFault(BAD_REQUEST, f"Invalid attestation: {reason}.")
