"""Devices that prove who they are with a certificate."""

import datetime
from pathlib import Path
from typing import Any

import pytest
from azure.iot.device import X509, IoTHubDeviceClient, exceptions
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edgekit_sim.iothub.handle import HubHandle

Pair = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def issue(name: str, issuer: Pair | None = None, days: int = 1, authority: bool = False) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=5))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .sign(issuer[1] if issuer else key, hashes.SHA256())
    )
    return certificate, key


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def client(iothub: HubHandle, device_id: str, pair: Pair, folder: Path, **options: Any) -> Any:
    key = pair[1].private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "cert.pem").write_text(pem(pair[0]))
    (folder / "key.pem").write_bytes(key)
    return IoTHubDeviceClient.create_from_x509_certificate(
        X509(str(folder / "cert.pem"), str(folder / "key.pem")),
        hostname=iothub.hostname,
        device_id=device_id,
        gateway_hostname=iothub.gateway,
        connection_retry=False,
        **options,
    )


def refused(device: Any) -> bool:
    try:
        device.connect()
    except exceptions.CredentialError:
        return True
    finally:
        device.shutdown()
    return False


@pytest.mark.parametrize("algorithm", [hashes.SHA1(), hashes.SHA256()])
@pytest.mark.parametrize("websockets", [False, True])
def test_by_thumbprint(
    iothub: HubHandle, registry: Any, tmp_path: Path, algorithm: Any, websockets: bool
) -> None:
    name = f"thumb-{algorithm.name}-{websockets}"
    pair = issue("anything")
    thumbprint = pair[0].fingerprint(algorithm).hex().upper()
    registry.create_device_with_x509(name, thumbprint, None, "enabled")
    device = client(iothub, name, pair, tmp_path, websockets=websockets)
    device.send_message("signed")
    device.shutdown()
    assert [e["body"] for e in iothub.events() if e["deviceId"] == name] == ["signed"]


def test_another_certificate_is_refused(iothub: HubHandle, registry: Any, tmp_path: Path) -> None:
    thumbprint = issue("a")[0].fingerprint(hashes.SHA256()).hex()
    registry.create_device_with_x509("thumb-wrong", thumbprint, None, "enabled")
    assert refused(client(iothub, "thumb-wrong", issue("a"), tmp_path))


def test_by_authority(iothub: HubHandle, registry: Any, tmp_path: Path) -> None:
    root = issue("root", authority=True)
    iothub.trust("root", pem(root[0]))
    registry.create_device_with_certificate_authority("by-ca", "enabled")
    assert not refused(client(iothub, "by-ca", issue("by-ca", root), tmp_path))
    assert refused(client(iothub, "by-ca", issue("somebody", root), tmp_path))
    assert refused(client(iothub, "by-ca", issue("by-ca", root, days=-1), tmp_path))
    assert refused(client(iothub, "by-ca", issue("by-ca"), tmp_path))


def test_a_certificate_does_not_open_a_device_with_keys(iothub: HubHandle, tmp_path: Path) -> None:
    iothub.create_device("by-key")
    assert refused(client(iothub, "by-key", issue("by-key"), tmp_path))
