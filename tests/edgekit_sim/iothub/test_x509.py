"""Devices that prove who they are with a certificate."""

from pathlib import Path
from typing import Any

import pytest
from azure.iot.device import X509, IoTHubDeviceClient, exceptions
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from edgekit_sim.iothub.handle import HubHandle
from tests.edgekit_sim.iothub.certificates import Pair, issue, pem, private

WEBSOCKETS = [False, pytest.param(True, marks=pytest.mark.needs("port-443"))]


def client(
    iothub: HubHandle,
    device_id: str,
    pair: Pair,
    folder: Path,
    chain: tuple[x509.Certificate, ...] = (),
    **options: Any,
) -> Any:
    (folder / "cert.pem").write_text("".join(pem(one) for one in (pair[0], *chain)))
    (folder / "key.pem").write_bytes(private(pair[1]))
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
    except (exceptions.CredentialError, exceptions.ConnectionFailedError):
        return True
    finally:
        device.shutdown()
    return False


@pytest.mark.parametrize("algorithm", [hashes.SHA1(), hashes.SHA256()])
@pytest.mark.parametrize("websockets", WEBSOCKETS)
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


def test_by_authority_with_one_between(iothub: HubHandle, registry: Any, tmp_path: Path) -> None:
    root = issue("root-2", authority=True)
    between = issue("between", root, authority=True)
    leaf, key = issue("by-chain", between)
    iothub.trust("root-2", pem(root[0]))
    registry.create_device_with_certificate_authority("by-chain", "enabled")
    assert not refused(client(iothub, "by-chain", (leaf, key), tmp_path, chain=(between[0],)))
    assert refused(client(iothub, "by-chain", (leaf, key), tmp_path))
    usurper = issue("usurper", root)
    stolen = issue("by-chain", usurper)
    assert refused(client(iothub, "by-chain", stolen, tmp_path, chain=(usurper[0],)))


def test_a_certificate_does_not_open_a_device_with_keys(iothub: HubHandle, tmp_path: Path) -> None:
    iothub.create_device("by-key")
    assert refused(client(iothub, "by-key", issue("by-key"), tmp_path))
