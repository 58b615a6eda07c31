"""Devices that prove who they are by a certificate, and those whose certificate is another."""

import datetime
import hashlib
from pathlib import Path
from typing import Any

import pytest
from azure.iot.device import X509, IoTHubDeviceClient, exceptions
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edgekit_sim.iothub.handle import HubHandle

WEBSOCKETS = [False, pytest.param(True, marks=pytest.mark.needs("port-443"))]


def self_signed(folder: Path, name: str) -> tuple[X509, str]:
    """Credentials for the SDK, and the certificate's SHA-256 thumbprint."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    der = certificate.public_bytes(serialization.Encoding.DER)
    credentials = X509(str(folder / f"{name}.pem"), str(folder / f"{name}.key"))
    return credentials, hashlib.sha256(der).hexdigest()


def client_of(iothub: HubHandle, device_id: str, credentials: X509, **options: bool) -> Any:
    return IoTHubDeviceClient.create_from_x509_certificate(
        credentials,
        hostname=iothub.hostname,
        device_id=device_id,
        gateway_hostname=iothub.gateway,
        connection_retry=False,
        **options,
    )


def register(iothub: HubHandle, device_id: str, thumbprint: str) -> None:
    prints = {"primaryThumbprint": "0" * 64, "secondaryThumbprint": thumbprint.upper()}
    authentication = {"type": "selfSigned", "x509Thumbprint": prints}
    iothub.request("PUT", f"/devices/{device_id}", {"authentication": authentication})


@pytest.mark.parametrize("websockets", WEBSOCKETS)
def test_a_thumbprint_opens(iothub: HubHandle, tmp_path: Path, websockets: bool) -> None:
    device_id = f"x509-{websockets}"
    credentials, thumbprint = self_signed(tmp_path, device_id)
    register(iothub, device_id, thumbprint)
    client = client_of(iothub, device_id, credentials, websockets=websockets)
    client.send_message("signed")
    client.shutdown()
    bodies = [event["body"] for event in iothub.events() if event["deviceId"] == device_id]
    assert bodies == ["signed"]


def test_another_certificate_is_refused(iothub: HubHandle, tmp_path: Path) -> None:
    _, thumbprint = self_signed(tmp_path, "x509-right")
    other, _ = self_signed(tmp_path, "x509-wrong")
    register(iothub, "x509-right", thumbprint)
    client = client_of(iothub, "x509-right", other)
    with pytest.raises(exceptions.CredentialError):
        client.connect()
    client.shutdown()
