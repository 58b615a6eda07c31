"""What became of each device that registered: its hub, its device id, or why not."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from edgekit_sim.dps import errors
from edgekit_sim.dps.attestation import Json
from edgekit_sim.dps.errors import ProvisioningFault
from edgekit_sim.dps.etags import check_etag
from edgekit_sim.iothub.store import Store

ASSIGNING, ASSIGNED, FAILED = "assigning", "assigned", "failed"
INITIAL, STAYED = "initialAssignment", "reprovisionedToInitialAssignment"
MIGRATED, RESET = "deviceDataMigrated", "deviceDataReset"
SAVE = "INSERT OR REPLACE INTO dps_registrations VALUES (?,?)"
DELETE = "DELETE FROM dps_registrations WHERE id = ?"


@dataclass(frozen=True)
class Registration:
    """The state of one device's registration.

    Attributes:
        id: the registration id, as the device wrote it.
        operation: id of the last registration operation.
        status: `assigning`, `assigned` or `failed`.
        etag: changes with each change.
        created: when the device first registered, as the service writes times.
        updated: when the state last changed.
        method: `symmetricKey` or `x509`.
        group: id of the group it came by; "" for an individual enrolment.
        hub: the linked hub it is assigned to; "" before the first assignment.
        device_id: its id there.
        substatus: how it came there; "" before.
        error: number and message of what failed.
        payload: what custom allocation returned for the device.
        sent: what the device sent with the operation under way: `payload`, `certificate`.
    """

    id: str
    operation: str
    status: str
    etag: str
    created: str
    updated: str
    method: str
    group: str = ""
    hub: str = ""
    device_id: str = ""
    substatus: str = ""
    error: tuple[int, str] | None = None
    payload: Any = None
    sent: Json | None = None

    def resource(self) -> Json:
        """The DeviceRegistrationState."""
        state: Json = {
            "registrationId": self.id,
            "createdDateTimeUtc": self.created,
            "status": self.status,
            "lastUpdatedDateTimeUtc": self.updated,
            "etag": f'"{self.etag}"',
        }
        if self.status == ASSIGNED:
            state |= {"assignedHub": self.hub, "deviceId": self.device_id}
            state["substatus"] = self.substatus
        if self.status == FAILED and self.error is not None:
            state |= {"errorCode": self.error[0], "errorMessage": self.error[1]}
        if self.payload is not None:
            state["payload"] = self.payload
        return state

    def operation_status(self) -> Json:
        """The RegistrationOperationStatus that its device gets."""
        if self.status == ASSIGNING:
            state: Json = {"registrationId": self.id, "status": ASSIGNING}
        else:
            state = {self.method: {}, **self.resource()}
        return {"operationId": self.operation, "status": self.status, "registrationState": state}


class Registrations:
    """The registration states of all devices; ids do not tell upper from lower case.

    Args:
        store: where they are kept.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._registrations: dict[str, Registration] = {}
        for key, document in store.read("SELECT id, document FROM dps_registrations"):
            kept = orjson.loads(document)
            kept["error"] = tuple(kept["error"]) if kept["error"] else None
            self._registrations[key] = Registration(**kept)

    def __iter__(self) -> Iterator[Registration]:
        return iter(list(self._registrations.values()))

    def find(self, registration_id: str) -> Registration | None:
        """The state, or None."""
        return self._registrations.get(registration_id.lower())

    def get(self, registration_id: str) -> Registration:
        """The state.

        Raises:
            ProvisioningFault: 404, when the device never registered.
        """
        found = self.find(registration_id)
        if found is None:
            raise ProvisioningFault(errors.REGISTRATION_NOT_FOUND, "Device registration not found.")
        return found

    def of_group(self, group_id: str) -> list[Registration]:
        """The states of devices that came by a group."""
        return [one for one in self if one.group.lower() == group_id.lower()]

    def keep(self, registration: Registration) -> None:
        """Keep a state, in the place of the one before."""
        key = registration.id.lower()
        self._registrations[key] = registration
        self._store.write(SAVE, (key, orjson.dumps(vars(registration))))

    def delete(self, registration_id: str, if_match: str | None) -> None:
        """Delete the state with that ETag: the device's next registration is its first.

        Raises:
            ProvisioningFault: 404 or 412.
        """
        registration = self.get(registration_id)
        check_etag(if_match, registration.etag)
        self.forget(registration)

    def forget(self, registration: Registration) -> None:
        """Delete a state, if it is there."""
        key = registration.id.lower()
        if self._registrations.pop(key, None) is not None:
            self._store.write(DELETE, (key,))
