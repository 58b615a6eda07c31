"""File upload through the unmodified device SDK; the signature against azure-storage-blob's own."""

import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from azure.iot.device import IoTHubDeviceClient, exceptions
from azure.storage.blob import (
    BlobSasPermissions,
    _shared_access_signature,
    generate_blob_sas,
)

from edgekit_sim.iothub import HubHandle, SimulatorError, start_hub
from edgekit_sim.iothub.uploads import ENVIRONMENT, VERSION, Storage

KEY = base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
ACCOUNT = f"AccountName=acc;AccountKey={KEY};BlobEndpoint=http://127.0.0.1:10000/acc"


def test_the_signature_is_that_of_the_storage_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_shared_access_signature, "X_MS_VERSION", VERSION)
    expires = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    theirs = generate_blob_sas(
        "acc",
        "uploads",
        "d1/log file.txt",
        account_key=KEY,
        permission=BlobSasPermissions(read=True, write=True),
        expiry=expires,
    )
    ours = Storage.parse(ACCOUNT).signature("d1/log file.txt", expires.timestamp())
    assert parse_qs(ours) == parse_qs(theirs)


@pytest.fixture(scope="module")
def storing() -> Iterator[HubHandle]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(ENVIRONMENT, ACCOUNT)
        with start_hub() as hub:
            environment.setenv("SSL_CERT_FILE", hub.ca_file)
            environment.setenv("REQUESTS_CA_BUNDLE", hub.ca_file)
            yield hub


def client_of(hub: HubHandle) -> Any:
    hub.create_device("d1")
    return IoTHubDeviceClient.create_from_connection_string(
        hub.device_connection_string("d1"), server_verification_cert=Path(hub.ca_file).read_text()
    )


@pytest.mark.needs("port-443")
def test_an_upload_from_begin_to_end(storing: HubHandle) -> None:
    client = client_of(storing)
    info = client.get_storage_info_for_blob("log.txt")
    assert info["hostName"] == "127.0.0.1:10000/acc"
    assert (info["containerName"], info["blobName"]) == ("uploads", "d1/log.txt")
    assert parse_qs(info["sasToken"][1:])["sp"] == ["rw"]
    client.notify_blob_upload_status(info["correlationId"], True, 200, "done")
    with pytest.raises(exceptions.ClientError):
        client.notify_blob_upload_status(info["correlationId"], True, 200, "again")
    client.shutdown()


def test_without_storage_nothing_is_uploaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    with start_hub() as hub:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", hub.ca_file)
        client = client_of(hub)
        with pytest.raises(exceptions.ClientError):
            client.get_storage_info_for_blob("log.txt")
        client.shutdown()


def test_a_connection_string_without_its_key() -> None:
    with pytest.raises(SimulatorError, match="AccountKey") as error:
        Storage.parse("AccountName=a")
    assert error.value.hint
