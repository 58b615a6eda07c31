"""Devices that register by certificate, and go on with it to the hub."""

import asyncio
import datetime
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from azure.iot.device import X509, IoTHubDeviceClient, ProvisioningDeviceClient, exceptions
from azure.iot.device.aio import ProvisioningDeviceClient as AsyncProvisioningClient
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from provisioningserviceclient import ProvisioningServiceClient
from provisioningserviceclient.models import (
    AttestationMechanism,
    EnrollmentGroup,
    IndividualEnrollment,
)

from edgekit_sim.dps.certificates import leads_to
from edgekit_sim.iothub.handle import HubHandle
from tests.edgekit_sim.dps.clients import end

WEBSOCKETS = [False, pytest.param(True, marks=pytest.mark.needs("port-443"))]

HOUR = datetime.timedelta(hours=1)


@dataclass(frozen=True)
class Issued:
    """A certificate with its key and those of its issuers, its own first."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    chain: tuple[x509.Certificate, ...]

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def credentials(self, folder: Path, length: int = 1) -> X509:
        """The first `length` certificates of the chain and the key, as files for the SDK."""
        name = f"{self.certificate.serial_number:x}"
        chain = b"".join(c.public_bytes(serialization.Encoding.PEM) for c in self.chain[:length])
        (folder / f"{name}.pem").write_bytes(chain)
        (folder / f"{name}.key").write_bytes(
            self.key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return X509(str(folder / f"{name}.pem"), str(folder / f"{name}.key"))


def issue(
    name: str, by: Issued | None = None, *, authority: bool = False, ended: bool = False
) -> Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC) - (4 * HOUR if ended else 0 * HOUR)
    issuer = by.certificate.subject if by else subject
    certificate = (
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - HOUR)
        .not_valid_after(now + HOUR)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .sign(by.key if by else key, hashes.SHA256())
    )
    return Issued(certificate, key, (certificate, *(by.chain if by else ())))


Register = Callable[..., Any]


@pytest.fixture
def register(iothub: HubHandle, tmp_path: Path) -> Iterator[Register]:
    """Registers with a certificate; the result."""
    clients: list[Any] = []

    def register(name: str, issued: Issued, length: int = 1, **options: bool) -> Any:
        credentials = issued.credentials(tmp_path, length)
        client = ProvisioningDeviceClient.create_from_x509_certificate(
            iothub.dps_device_host, name, iothub.dps_id_scope, credentials, **options
        )
        clients.append(client)
        return client.register()

    yield register
    for client in clients:
        end(client)


def refusal(register: Register, name: str, issued: Issued, length: int = 1) -> str:
    with pytest.raises(exceptions.ClientError) as caught:
        register(name, issued, length)
    return str(caught.value.__cause__)


def enroll(dps: ProvisioningServiceClient, name: str, *issued: Issued) -> IndividualEnrollment:
    pems = [one.pem for one in issued]
    mechanism = AttestationMechanism.create_with_x509_client_certs(*pems)
    return dps.create_or_update(IndividualEnrollment.create(name, mechanism))


def send(folder: Path, result: Any, issued: Issued, text: str) -> None:
    """Send a message to the hub a device was assigned to, with the same certificate."""
    state = result.registration_state
    client = IoTHubDeviceClient.create_from_x509_certificate(
        issued.credentials(folder), state.assigned_hub, state.device_id
    )
    client.send_message(text)
    client.shutdown()


@pytest.mark.parametrize("websockets", WEBSOCKETS)
def test_an_enrolled_certificate(
    iothub: HubHandle, dps: Any, register: Register, tmp_path: Path, websockets: bool
) -> None:
    name = f"cert-{websockets}".lower()
    device, spare = issue(name), issue(name)
    kept = enroll(dps, name, spare, device)
    info = kept.attestation.x509.client_certificates.secondary.info
    result = register(name, device, websockets=websockets)
    send(tmp_path, result, device, "signed")
    assert info.subject_name == f"CN={name}"
    assert info.sha256_thumbprint == device.certificate.fingerprint(hashes.SHA256()).hex().upper()
    assert result.status == "assigned"
    assert [e["body"] for e in iothub.events() if e["deviceId"] == name] == ["signed"]


def test_an_asynchronous_client_with_a_certificate(
    iothub: HubHandle, dps: Any, tmp_path: Path
) -> None:
    device = issue("cert-aio")
    enroll(dps, "cert-aio", device)
    credentials = device.credentials(tmp_path)

    async def run() -> str:
        aio = AsyncProvisioningClient.create_from_x509_certificate(
            iothub.dps_device_host, "cert-aio", iothub.dps_id_scope, credentials
        )
        return str((await aio.register()).status)

    assert asyncio.run(run()) == "assigned"


def test_a_group_by_its_authority(
    iothub: HubHandle, dps: Any, register: Register, tmp_path: Path
) -> None:
    root = issue("factory root", authority=True)
    mechanism = AttestationMechanism.create_with_x509_signing_certs(root.pem)
    dps.create_or_update(EnrollmentGroup.create("signed", mechanism))
    device = issue("unit-1", issue("line authority", root, authority=True))
    result = register("unit-1", device, 2)
    send(tmp_path, result, device, "by the chain")
    assert result.status == "assigned"
    assert [e["body"] for e in iothub.events() if e["deviceId"] == "unit-1"] == ["by the chain"]


def test_a_group_by_an_uploaded_authority(api: Any, dps: Any, register: Register) -> None:
    root = issue("uploaded root", authority=True)
    api.call("PUT", "/edgekit/dps/certificates/root-2", {"certificate": root.pem})
    mechanism = AttestationMechanism.create_with_x509_ca_refs("root-1", "root-2")
    dps.create_or_update(EnrollmentGroup.create("referring", mechanism))
    assert register("unit-2", issue("unit-2", root)).status == "assigned"


def test_another_certificate_is_refused(dps: Any, register: Register) -> None:
    enroll(dps, "cert-other", issue("cert-other"))
    assert "status code 401" in refusal(register, "cert-other", issue("cert-other"))


def test_a_certificate_for_another_name_is_refused(dps: Any, register: Register) -> None:
    device = issue("cert-mine")
    enroll(dps, "cert-yours", device)
    assert "status code 401" in refusal(register, "cert-yours", device)


def test_a_certificate_that_has_ended_is_refused(dps: Any, register: Register) -> None:
    device = issue("cert-ended", ended=True)
    enroll(dps, "cert-ended", device)
    assert "status code 401" in refusal(register, "cert-ended", device)


def test_a_chain_without_its_middle_is_refused(dps: Any, register: Register) -> None:
    root = issue("strict root", authority=True)
    mechanism = AttestationMechanism.create_with_x509_signing_certs(root.pem)
    dps.create_or_update(EnrollmentGroup.create("strict", mechanism))
    device = issue("unit-3", issue("middle", root, authority=True))
    assert "status code 401" in refusal(register, "unit-3", device, 1)


def test_a_device_cannot_issue_for_others() -> None:
    root = issue("only root", authority=True)
    line, device = issue("line", root, authority=True), issue("unit-5", root)
    genuine, forged = issue("unit-4", line), issue("unit-4", device)
    trusted = root.certificate.public_bytes(serialization.Encoding.DER)
    chains = [
        [c.public_bytes(serialization.Encoding.DER) for c in one.chain[:2]]
        for one in (genuine, forged)
    ]
    assert [leads_to(chain, trusted) for chain in chains] == [True, False]


def test_a_new_certificate_takes_the_place_of_the_old(
    iothub: HubHandle, dps: Any, register: Register
) -> None:
    old, new = issue("cert-roll"), issue("cert-roll")
    kept = enroll(dps, "cert-roll", old)
    register("cert-roll", old)
    kept.attestation = AttestationMechanism.create_with_x509_client_certs(new.pem)
    dps.create_or_update(kept)
    register("cert-roll", new)
    document = iothub.request("GET", "/devices/cert-roll")
    expected = new.certificate.fingerprint(hashes.SHA256()).hex().upper()
    assert document["authentication"]["x509Thumbprint"]["primaryThumbprint"] == expected
