"""File upload through the unmodified device SDK; the signature against azure-storage-blob's own."""

import base64
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from azure.core.exceptions import HttpResponseError
from azure.iot.device import IoTHubDeviceClient, exceptions
from azure.storage.blob import (
    BlobClient,
    BlobSasPermissions,
    _shared_access_signature,
    generate_blob_sas,
)

from edgekit_sim.iothub import HubHandle, SimulatorError, start_hub
from edgekit_sim.iothub.uploads import ENVIRONMENT, VERSION, Storage
from tests.azurite import Azurite
from tests.edgekit_sim.iothub.receiver import FILES, Receiver

# uamqp leaves sockets to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
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
def notifying(azurite: Azurite) -> Iterator[HubHandle]:
    with pytest.MonkeyPatch.context() as environment:
        with azurite.client() as service:
            service.create_container("uploads")
        environment.setenv(ENVIRONMENT, azurite.connection_string)
        with start_hub(options=["--file-notifications"]) as hub:
            environment.setenv("SSL_CERT_FILE", hub.ca_file)
            environment.setenv("REQUESTS_CA_BUNDLE", hub.ca_file)
            yield hub


def upload(client: Any, name: str, content: bytes) -> dict[str, str]:
    """Upload a file as the SDK's samples do, but for TLS, which Azurite does not speak here."""
    info: dict[str, str] = client.get_storage_info_for_blob(name)
    place = f"http://{info['hostName']}/{info['containerName']}/{info['blobName']}"
    with BlobClient.from_blob_url(place + info["sasToken"]) as blob:
        blob.upload_blob(content, overwrite=True)
    return info


@pytest.mark.needs("azurite")
@pytest.mark.needs("port-443")
def test_a_file_is_uploaded_and_the_service_side_told(
    notifying: HubHandle, azurite: Azurite
) -> None:
    client = client_of(notifying)
    info = upload(client, "log file.txt", b"0123456789")
    client.notify_blob_upload_status(info["correlationId"], True, 200, "done")
    client.shutdown()
    with azurite.client() as service:
        blob = service.get_blob_client("uploads", "d1/log file.txt")
        assert blob.download_blob().readall() == b"0123456789"
    notifying.kill()
    notifying.start()
    receive = Receiver(notifying, FILES)
    (message,) = receive()
    message.release()
    (message,) = receive()
    notice = json.loads(b"".join(message.get_data()))
    content_type = b"application/vnd.microsoft.iothub.filenotification.json"
    assert message.properties.content_type == content_type
    message.accept()
    receive.close()
    times = [datetime.fromisoformat(notice.pop(n)) for n in ("lastUpdatedTime", "enqueuedTimeUtc")]
    assert all(abs(time.time() - moment.timestamp()) < 60 for moment in times)
    assert notice == {
        "deviceId": "d1",
        "blobUri": f"http://127.0.0.1:{azurite.port}/devstoreaccount1/uploads/d1/log%20file.txt",
        "blobName": "d1/log file.txt",
        "blobSizeInBytes": 10,
    }
    assert notifying.request("GET", "/messages/serviceBound/filenotifications") is None


@pytest.mark.needs("azurite")
@pytest.mark.needs("port-443")
def test_notices_of_files_by_rest(notifying: HubHandle) -> None:
    client = client_of(notifying)
    info = upload(client, "rest.txt", b"x")
    client.notify_blob_upload_status(info["correlationId"], True, 200, "done")
    failed = client.get_storage_info_for_blob("failed.txt")
    client.notify_blob_upload_status(failed["correlationId"], False, 500, "no disk")
    client.shutdown()
    path = "/messages/serviceBound/filenotifications"
    assert notifying.request("GET", path)["blobName"] == "d1/rest.txt"
    assert notifying.request("GET", path) is None  # it is locked, and the failed one tells nobody
    with pytest.raises(SimulatorError, match="DeviceMessageLockLost"):
        notifying.request("DELETE", f"{path}/unknown")


@pytest.mark.needs("azurite")
@pytest.mark.needs("port-443")
def test_an_upload_that_is_not_there_did_not_end_well(notifying: HubHandle) -> None:
    client = client_of(notifying)
    info = client.get_storage_info_for_blob("never.txt")
    with pytest.raises(exceptions.ClientError):
        client.notify_blob_upload_status(info["correlationId"], True, 200, "done")
    client.notify_blob_upload_status(info["correlationId"], False, 404, "not done")
    client.shutdown()


@pytest.mark.needs("azurite")
@pytest.mark.needs("port-443")
def test_a_signature_opens_its_blob_alone(notifying: HubHandle) -> None:
    client = client_of(notifying)
    info = client.get_storage_info_for_blob("mine.txt")
    client.shutdown()
    place = f"http://{info['hostName']}/{info['containerName']}/d2/theirs.txt{info['sasToken']}"
    with (
        BlobClient.from_blob_url(place) as blob,
        pytest.raises(HttpResponseError, match="authenticate"),
    ):
        blob.upload_blob(b"x")


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
