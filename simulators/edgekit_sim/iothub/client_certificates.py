"""Client certificates at the hub's TLS ports: asked for, taken whatever they are, judged later.

The services compare a device's certificate with a thumbprint or an enrolment and refuse it in their
own words. Python's `ssl` can only ask for a certificate that it verifies itself, against
authorities known beforehand. So every certificate a client presents becomes trusted for the
handshake as it is read: TLS still makes the client prove that it has the private key, and nothing
is concluded from the chain. Who accepts a client has to look at `chain_of` itself.
"""

import _ssl
import ssl
from typing import Any

_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which ssl does not name
_HANDSHAKE, _CERTIFICATE, _TLS13 = 22, 11, 0x0304  # content type, message type, version


def ask_for_certificates(context: ssl.SSLContext) -> None:
    """Let clients of a server `context` present any certificate, or none."""
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VerifyFlags(_NO_CHECK_TIME)
    # the setter below ssl.SSLContext's own, which would wrap each call into enum members
    _ssl._SSLContext._msg_callback.__set__(context, _on_message)  # type: ignore[attr-defined]


def chain_of(connection: Any) -> tuple[bytes, ...]:
    """The certificates a client presented, in DER, its own first; empty when it had none.

    Args:
        connection: the `ssl_object` of a transport, None for one without TLS.
    """
    if connection is None or connection.getpeercert(binary_form=True) is None:
        return ()
    chain: tuple[bytes, ...] = getattr(connection, "presented_chain", ())
    return chain or (connection.getpeercert(binary_form=True),)


def _on_message(
    connection: Any, direction: str, version: int, content: int, message: int, data: bytes
) -> None:
    """Called by OpenSSL with each protocol message, before it is acted upon."""
    if content != _HANDSHAKE or message != _CERTIFICATE or direction != "read":
        return
    chain = _certificates(data[4:], version == _TLS13)
    for certificate in chain:
        try:
            connection.context.load_verify_locations(cadata=certificate)
        except (ssl.SSLError, ValueError):
            return  # no certificate: the handshake fails by itself
    connection.presented_chain = chain


def _certificates(body: bytes, tls13: bool) -> tuple[bytes, ...]:
    """Take a Certificate message apart (RFC 5246 7.4.2, RFC 8446 4.4.2)."""
    position = 1 + body[0] if tls13 and body else 0  # certificate_request_context
    position += 3  # length of the list
    found = []
    while position + 3 <= len(body):
        end = position + 3 + int.from_bytes(body[position : position + 3])
        found.append(bytes(body[position + 3 : end]))
        position = end
        if tls13:
            position += 2 + int.from_bytes(body[position : position + 2])  # extensions
    return tuple(found)
