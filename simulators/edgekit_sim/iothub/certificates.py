"""The hub's own certificate authority and its server certificate, made at first start."""

import datetime
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID_FOR = datetime.timedelta(days=397)  # the longest that TLS clients take without complaint


def ensure_authority(folder: Path) -> Path:
    """Make `ca.pem` and `ca.key` in `folder` unless they are there; returns the certificate."""
    certificate, key_file = folder / "ca.pem", folder / "ca.key"
    if certificate.exists() and key_file.exists() and not _ends_soon(certificate):
        return certificate
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("edgekit IoT Hub simulator")
    built = (
        _builder(name, name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    _write(key_file, _private(key))
    _write(certificate, built.public_bytes(serialization.Encoding.PEM))
    return certificate


def issue_server(folder: Path, names: Sequence[str]) -> Path:
    """Issue `server.pem` (key, certificate, authority) for DNS names and IP addresses.

    One that is there stays if it is for these names and by this authority.

    Args:
        folder: where `ensure_authority` put its files.
        names: host names and addresses a client may call the hub by.
    """
    path = folder / "server.pem"
    authority = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    alternatives = x509.SubjectAlternativeName([_alternative(name) for name in names])
    if path.exists() and _serves(path, authority, alternatives):
        return path
    signer = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), password=None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    built = (
        _builder(_name(names[0]), authority.subject, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(alternatives, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .sign(signer, hashes.SHA256())
    )
    chain = built.public_bytes(serialization.Encoding.PEM)
    chain += authority.public_bytes(serialization.Encoding.PEM)
    _write(path, _private(key) + chain)
    return path


def _serves(
    path: Path, authority: x509.Certificate, alternatives: x509.SubjectAlternativeName
) -> bool:
    """Whether a server certificate is as it would be issued now."""
    try:
        present = x509.load_pem_x509_certificate(path.read_bytes())
        found = present.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        present.verify_directly_issued_by(authority)
    except (ValueError, TypeError, x509.ExtensionNotFound, InvalidSignature):
        return False
    return found.value == alternatives and not _ends_soon(path)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + VALID_FOR)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _ends_soon(certificate: Path) -> bool:
    ends = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    return ends - datetime.datetime.now(datetime.UTC) < datetime.timedelta(days=7)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, readable by its owner only where it holds a key."""
    temporary = path.with_name(path.name + ".new")
    mode = 0o644 if path.name == "ca.pem" else 0o600
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
