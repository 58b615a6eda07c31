"""X.509 certificates of enrolments and devices: reading, describing and following a chain."""

import base64
import binascii
import datetime
import hashlib
from collections.abc import Sequence
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from edgekit_sim.dps.errors import BAD_REQUEST, ProvisioningFault

LONGEST_CHAIN = 8
_PEM = b"-----BEGIN CERTIFICATE-----"


def read(text: object) -> bytes:
    """A certificate as clients send it, as DER: PEM, or base64 of PEM or of DER.

    Raises:
        ProvisioningFault: 400, when it is none.
    """
    try:
        sent = str(text).strip().encode("ascii")
        if not sent.startswith(_PEM):
            sent = base64.b64decode(sent, validate=True)
        if sent.lstrip().startswith(_PEM):
            return x509.load_pem_x509_certificate(sent).public_bytes(Encoding.DER)
        return x509.load_der_x509_certificate(sent).public_bytes(Encoding.DER)
    except (ValueError, binascii.Error, UnsupportedAlgorithm) as error:
        raise ProvisioningFault(
            BAD_REQUEST, "Invalid certificate: neither PEM nor base64 of DER."
        ) from error


def describe(certificate: bytes) -> dict[str, Any]:
    """An X509CertificateInfo of the service API for a certificate in DER."""
    parsed = x509.load_der_x509_certificate(certificate)
    return {
        "subjectName": parsed.subject.rfc4514_string(),
        "sha1Thumbprint": hashlib.sha1(certificate, usedforsecurity=False).hexdigest().upper(),
        "sha256Thumbprint": thumbprint(certificate),
        "issuerName": parsed.issuer.rfc4514_string(),
        "notBeforeUtc": _instant(parsed.not_valid_before_utc),
        "notAfterUtc": _instant(parsed.not_valid_after_utc),
        "serialNumber": f"{parsed.serial_number:x}".upper(),
        "version": parsed.version.value + 1,
    }


def thumbprint(certificate: bytes) -> str:
    """SHA-256 of a certificate in DER, upper-case hexadecimal."""
    return hashlib.sha256(certificate).hexdigest().upper()


def common_name(certificate: bytes) -> str:
    """The common name a certificate in DER is for; "" when it has none."""
    names = x509.load_der_x509_certificate(certificate).subject
    found = names.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def is_current(certificate: bytes, now: datetime.datetime) -> bool:
    """Say whether `now` is within a certificate's validity."""
    parsed = x509.load_der_x509_certificate(certificate)
    return parsed.not_valid_before_utc <= now <= parsed.not_valid_after_utc


def leads_to(chain: Sequence[bytes], authority: bytes) -> bool:
    """Say whether a device's certificate was issued by an authority.

    Args:
        chain: what the device presented, in DER, its own certificate first and the authorities
            between in any order.
        authority: the certificate the enrolment trusts, in DER.
    """
    try:
        target = x509.load_der_x509_certificate(authority)
        link, *between = [x509.load_der_x509_certificate(one) for one in chain]
    except ValueError:
        return False
    for _ in range(LONGEST_CHAIN):
        if _issued(target, link):
            return True
        issuers = [one for one in between if one != link and _issued(one, link)]
        if not issuers:
            return False
        link = issuers[0]
    return False


def _issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    """Say whether `issuer` is an authority whose key signed `certificate`."""
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints)
        if not constraints.value.ca:
            return False
        certificate.verify_directly_issued_by(issuer)
    except (x509.ExtensionNotFound, InvalidSignature, ValueError, TypeError):
        return False
    return True


def _instant(moment: datetime.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
