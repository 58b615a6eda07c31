"""File upload: devices get a shared access signature for one blob of a storage account.

The account is named by the environment, never on the command line:
`EDGEKIT_STORAGE_CONNECTION_STRING`, for example that of Azurite, with `Container=NAME` appended
where it shall not be `uploads`. The signature is a service SAS for a blob, as "Create a service
SAS" in the storage documentation defines it for version 2020-12-06.

A hub that was told to notify gives the service side a notice of each upload that ended well.
"""

import base64
import hmac
import os
import time
import uuid
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from edgekit_sim.iothub.blobs import BlobRefused, find_blob
from edgekit_sim.iothub.errors import HubFault, SimulatorError
from edgekit_sim.iothub.notices import Notices
from edgekit_sim.iothub.store import Store
from edgekit_sim.iothub.twins import Json, timestamp

ENVIRONMENT = "EDGEKIT_STORAGE_CONNECTION_STRING"
CONTAINER = "uploads"
SAS_SECONDS = 3600
VERSION = "2020-12-06"
UNDER_WAY = 10  # uploads a device may have begun and not ended


@dataclass(frozen=True)
class Storage:
    """A storage account and the container in it that takes uploads.

    Attributes:
        account: its name.
        key: its key, base64.
        endpoint: the blob service's address, with scheme.
        container: the container; somebody has made it.
    """

    account: str
    key: str
    endpoint: str
    container: str = CONTAINER

    def __repr__(self) -> str:
        return f"Storage({self.account!r}, endpoint={self.endpoint!r})"

    @classmethod
    def parse(cls, text: str) -> "Storage":
        """Read a connection string.

        Raises:
            SimulatorError: something is missing in it.
        """
        fields = dict(part.split("=", 1) for part in text.split(";") if "=" in part)
        try:
            account, key = fields["AccountName"], fields["AccountKey"]
        except KeyError as error:
            raise SimulatorError(
                f"{ENVIRONMENT} has no {error.args[0]}", "copy the account's connection string"
            ) from error
        suffix = fields.get("EndpointSuffix", "core.windows.net")
        scheme = fields.get("DefaultEndpointsProtocol", "https")
        endpoint = fields.get("BlobEndpoint", f"{scheme}://{account}.blob.{suffix}")
        return cls(account, key, endpoint.rstrip("/"), fields.get("Container", CONTAINER))

    def signature(self, blob: str, expires: float) -> str:
        """The query string that lets its bearer read and write one blob until a time."""
        until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(expires))
        resource = f"/blob/{self.account}/{self.container}/{blob}"
        # permissions, start, expiry, resource, identifier, IP, protocol, version, kind of resource,
        # snapshot, encryption scope, and five headers of the answer
        lines = ["rw", "", until, resource, "", "", "", VERSION, "b", *[""] * 7]
        key = base64.b64decode(self.key)
        made = base64.b64encode(hmac.digest(key, "\n".join(lines).encode(), "sha256")).decode()
        return urlencode({"sp": "rw", "se": until, "sv": VERSION, "sr": "b", "sig": made})


def storage_of_environment() -> Storage | None:
    """The storage account that the environment names, if it does.

    Raises:
        SimulatorError: it names one wrongly.
    """
    text = os.environ.get(ENVIRONMENT)
    return Storage.parse(text) if text else None


class Uploads:
    """Uploads that devices have begun.

    Args:
        store: where notices are kept.
        storage: where the files go; None when there is no storage account.
        notifies: whether the service side is told of them.

    Attributes:
        notices: what it has not dealt with.
    """

    def __init__(self, store: Store, storage: Storage | None, notifies: bool) -> None:
        self._storage = storage
        self._notifies = notifies
        self.notices = Notices(store, "file notification")
        self._begun: dict[str, dict[str, str]] = {}

    def begin(self, device_id: str, blob_name: object) -> Json:
        """Let a device upload a blob.

        Returns:
            What the SDK's `get_storage_info_for_blob` gives.

        Raises:
            HubFault: 400 for a bad name or without storage, 403 with too many under way.
        """
        if self._storage is None:
            raise HubFault(400, "BlobContainerValidationError", "the hub has no storage account")
        if not isinstance(blob_name, str) or not 1 <= len(blob_name) <= 1024 - len(device_id):
            raise HubFault(400, "ArgumentInvalid", "blobName must be a name of a blob")
        begun = self._begun.setdefault(device_id, {})
        if len(begun) >= UNDER_WAY:
            raise HubFault(403, "TooManyUploads", f"{UNDER_WAY} uploads are under way")
        correlation, blob = str(uuid.uuid4()), f"{device_id}/{blob_name}"
        begun[correlation] = blob
        signature = self._storage.signature(blob, time.time() + SAS_SECONDS)
        return {
            "correlationId": correlation,
            "hostName": self._storage.endpoint.partition("://")[2],
            "containerName": self._storage.container,
            "blobName": quote(blob),
            "sasToken": f"?{signature}",
        }

    async def end(self, device_id: str, document: Json) -> None:
        """A device says how an upload ended.

        Raises:
            HubFault: 400, when it has begun none under that correlation id, or says that it ended
                well and the blob is not there; 503, when nobody can say.
        """
        correlation = str(document.get("correlationId"))
        blob = self._begun.get(device_id, {}).get(correlation)
        if blob is None:
            raise HubFault(400, "ArgumentInvalid", f"no upload {correlation[:60]!r} is under way")
        if self._notifies and document.get("isSuccess"):
            notice = await self._describe(device_id, blob)
            self.notices.put(notice)
        self._begun[device_id].pop(correlation, None)

    async def _describe(self, device_id: str, blob: str) -> Json:
        assert self._storage is not None
        address = f"{self._storage.endpoint}/{self._storage.container}/{quote(blob)}"
        signature = self._storage.signature(blob, time.time() + SAS_SECONDS)
        try:
            found = await find_blob(f"{address}?{signature}")
        except BlobRefused as error:
            raise HubFault(503, "ServiceUnavailable", str(error)) from error
        if found is None:
            raise HubFault(400, "BlobNotFound", f"there is no blob {blob!r} in the container")
        return {
            "deviceId": device_id,
            "blobUri": address,
            "blobName": blob,
            "lastUpdatedTime": found.modified.isoformat(),
            "blobSizeInBytes": found.size,
            "enqueuedTimeUtc": timestamp(),
        }
