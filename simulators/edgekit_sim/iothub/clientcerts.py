"""Client certificates: asked for in the TLS handshake, judged afterwards.

A device may hold a certificate that nobody issued but itself; the hub knows its thumbprint only.
Python's `ssl` either asks for no certificate or ends the handshake over one it cannot verify.
OpenSSL itself can be told to go on, by a callback that `ssl` does not offer; so that one function
of OpenSSL is called past `ssl`, where its library can be found. Who is let in is decided when the
client has said its name: by thumbprint, or by an authority the hub knows.
"""

import ctypes
import datetime
import logging
import ssl
import sys

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

logger = logging.getLogger(__name__)

VERIFY_PEER = 1  # SSL_VERIFY_PEER in openssl/ssl.h
_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p)
_go_on = _Callback(lambda _verified, _store: 1)


def ask_for_certificates(context: ssl.SSLContext) -> bool:
    """Have clients asked for a certificate and let in with any; says whether that is possible.

    Where it is not (Python without a shared OpenSSL), devices can connect with tokens only.
    """
    import _ssl

    if sys.implementation.name != "cpython":
        return False
    try:
        library = ctypes.CDLL(getattr(_ssl, "__file__", None))
        set_verify = library.SSL_CTX_set_verify
    except (OSError, AttributeError) as error:
        logger.warning("no client certificates, OpenSSL cannot be reached: %s", error)
        return False
    context.check_hostname = False
    context.verify_mode = ssl.CERT_OPTIONAL
    # a PySSLContext begins with its object header, then comes its SSL_CTX pointer
    pointer = ctypes.c_void_p.from_address(id(context) + object.__basicsize__)
    set_verify.restype = None
    set_verify.argtypes = (ctypes.c_void_p, ctypes.c_int, _Callback)
    set_verify(pointer, VERIFY_PEER, _go_on)
    return True


def issued_by(certificate: bytes, authorities: list[bytes], name: str) -> bool:
    """Say whether one of the authorities issued a certificate for `name`, valid now.

    Args:
        certificate: in DER.
        authorities: certificates in PEM.
        name: what the certificate's common name must be, the device id.
    """
    try:
        leaf = x509.load_der_x509_certificate(certificate)
    except ValueError:
        return False
    names = [str(a.value) for a in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    now = datetime.datetime.now(datetime.UTC)
    if names != [name] or not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
        return False
    return any(_issued(leaf, x509.load_pem_x509_certificate(text)) for text in authorities)


def _issued(leaf: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def check_authority(text: bytes) -> bytes:
    """Take an authority's certificate in PEM.

    Raises:
        ValueError: it is none, or may not issue certificates.
    """
    certificate = x509.load_pem_x509_certificate(text)
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound as error:
        raise ValueError("a certificate without basic constraints") from error
    if not constraints.value.ca:
        raise ValueError("a certificate that may not issue others")
    return text
