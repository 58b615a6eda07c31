"""Certificates of devices that an authority issued, judged when the client has said its name."""

import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

CHAIN_LIMIT = 5  # certificates from the device's own to the one the authority issued


def issued_by(chain: tuple[bytes, ...], authorities: list[bytes], name: str) -> bool:
    """Say whether one of the authorities stands behind a certificate for `name`, valid now.

    Args:
        chain: what the client presented in DER, its own certificate first.
        authorities: certificates in PEM.
        name: what the certificate's common name must be, the device id.
    """
    try:
        links = [x509.load_der_x509_certificate(text) for text in chain[:CHAIN_LIMIT]]
    except ValueError:
        return False
    now = datetime.datetime.now(datetime.UTC)
    trusted = [x509.load_pem_x509_certificate(text) for text in authorities]
    if not links or _common_names(links[0]) != [name]:
        return False
    for number, link in enumerate(links):
        if not link.not_valid_before_utc <= now <= link.not_valid_after_utc:
            return False
        if any(_issued(link, authority) for authority in trusted):
            return True
        issuer = links[number + 1] if number + 1 < len(links) else None
        if issuer is None or not _may_issue(issuer) or not _issued(link, issuer):
            return False
    return False


def check_authority(text: bytes) -> bytes:
    """Take an authority's certificate in PEM.

    Raises:
        ValueError: it is none, or may not issue certificates.
    """
    if not _may_issue(x509.load_pem_x509_certificate(text)):
        raise ValueError("a certificate that may not issue others")
    return text


def _common_names(certificate: x509.Certificate) -> list[str]:
    found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return [str(attribute.value) for attribute in found]


def _may_issue(certificate: x509.Certificate) -> bool:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except (x509.ExtensionNotFound, ValueError):
        return False
    return constraints.value.ca


def _issued(leaf: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
