"""The authority and the server certificate of a hub: made once, and again when they must be."""

from pathlib import Path

import pytest
from cryptography import x509

from edgekit_sim.iothub.certificates import ensure_authority, issue_server

NAMES = ("hub.local", "localhost", "127.0.0.1")


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_both_are_made_once(tmp_path: Path) -> None:
    authority, server = ensure_authority(tmp_path), issue_server(tmp_path, NAMES)
    before = authority.read_bytes(), server.read_bytes()
    assert ensure_authority(tmp_path) == authority
    assert issue_server(tmp_path, NAMES) == server
    assert (authority.read_bytes(), server.read_bytes()) == before
    certificate(server).verify_directly_issued_by(certificate(authority))


def test_another_address_needs_another_certificate(tmp_path: Path) -> None:
    ensure_authority(tmp_path)
    first = certificate(issue_server(tmp_path, NAMES))
    second = certificate(issue_server(tmp_path, (*NAMES, "127.0.0.2")))
    assert first.serial_number != second.serial_number
    names = second.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["hub.local", "localhost"]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == [
        "127.0.0.1",
        "127.0.0.2",
    ]


@pytest.mark.parametrize("damage", [b"", b"no certificate"])
def test_what_is_no_certificate_is_replaced(tmp_path: Path, damage: bytes) -> None:
    ensure_authority(tmp_path)
    issue_server(tmp_path, NAMES).write_bytes(damage)
    assert certificate(issue_server(tmp_path, NAMES)).subject.rfc4514_string() == "CN=hub.local"


def test_another_authority_needs_another_certificate(tmp_path: Path) -> None:
    ensure_authority(tmp_path)
    first = certificate(issue_server(tmp_path, NAMES))
    (tmp_path / "ca.pem").unlink()
    authority = certificate(ensure_authority(tmp_path))
    second = certificate(issue_server(tmp_path, NAMES))
    assert first.serial_number != second.serial_number
    second.verify_directly_issued_by(authority)
