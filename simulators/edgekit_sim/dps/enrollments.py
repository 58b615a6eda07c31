"""Individual enrolments and groups: what they say, checked, and kept with their ETags."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import orjson

from edgekit_sim.dps import errors
from edgekit_sim.dps.attestation import Attestation, Json, read_attestation
from edgekit_sim.dps.errors import BAD_REQUEST, ProvisioningFault
from edgekit_sim.dps.etags import check_etag
from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.identities import check_id
from edgekit_sim.iothub.store import Store
from edgekit_sim.iothub.twins import check_section, new_etag, timestamp

INDIVIDUAL, GROUP = "enrollment", "enrollmentGroup"
ID_FIELD = {INDIVIDUAL: "registrationId", GROUP: "enrollmentGroupId"}
NOT_FOUND = {
    INDIVIDUAL: (errors.ENROLLMENT_NOT_FOUND, "Enrollment not found."),
    GROUP: (errors.GROUP_NOT_FOUND, "Enrollment group not found."),
}
ALLOCATION_POLICIES = ("hashed", "geoLatency", "static", "custom")
_ID = re.compile(r"[A-Za-z0-9\-:._]{0,127}[A-Za-z0-9\-]")
SAVE = "INSERT OR REPLACE INTO dps_enrollments VALUES (?,?,?)"
DELETE = "DELETE FROM dps_enrollments WHERE kind = ? AND id = ?"


def check_registration_id(text: str, field: str = "registrationId") -> str:
    """Take a registration or group id, or refuse it with 400."""
    if not _ID.fullmatch(text):
        raise ProvisioningFault(
            BAD_REQUEST,
            f"Invalid {field}: 1 to 128 letters, digits and - : . _ , ending in none of : . _",
        )
    return text


@dataclass(frozen=True)
class Enrollment:
    """One enrolment, of a device or of a group.

    Attributes:
        kind: `enrollment` or `enrollmentGroup`.
        id: registration id or group id, as it was first written.
        attestation: how its devices prove who they are.
        settings: the other members of the resource that a client may set, in its terms.
        etag: changes with each change.
        created: when it was made, as the service writes times.
        updated: when it was last changed.
    """

    kind: str
    id: str
    attestation: Attestation
    settings: Json
    etag: str
    created: str
    updated: str

    @property
    def group(self) -> bool:
        """Whether it is a group."""
        return self.kind == GROUP

    @property
    def enabled(self) -> bool:
        """Whether its devices may register."""
        return bool(self.settings["provisioningStatus"] == "enabled")

    @property
    def edge(self) -> bool:
        """Whether its devices become IoT Edge devices."""
        return bool((self.settings.get("capabilities") or {}).get("iotEdge"))

    @property
    def updates_hub(self) -> bool:
        """Whether a device that registers again is assigned anew."""
        return bool((self.settings.get("reprovisionPolicy") or {}).get("updateHubAssignment", True))

    @property
    def migrates_data(self) -> bool:
        """Whether a device that registers again keeps its twin."""
        return bool((self.settings.get("reprovisionPolicy") or {}).get("migrateDeviceData", True))

    @property
    def initial_twin(self) -> Json:
        """`tags` and `properties.desired` of a new device's twin."""
        twin = self.settings.get("initialTwin") or {}
        desired = (twin.get("properties") or {}).get("desired") or {}
        return {"tags": twin.get("tags") or {}, "properties": {"desired": desired}}

    def device_id(self, registration_id: str) -> str:
        """The id a device has in its hub."""
        wanted = None if self.group else self.settings.get("deviceId")
        return str(wanted or registration_id)

    def resource(self, *, secrets: bool = False) -> Json:
        """The IndividualEnrollment or EnrollmentGroup; keys only for who just set them."""
        attestation = self.attestation
        return {
            ID_FIELD[self.kind]: self.id,
            "attestation": attestation.mechanism() if secrets else attestation.resource(),
            **self.settings,
            "etag": f'"{self.etag}"',
            "createdDateTimeUtc": self.created,
            "lastUpdatedDateTimeUtc": self.updated,
        }

    def to_json(self) -> bytes:
        """The enrolment as the store keeps it."""
        return orjson.dumps({**vars(self), "attestation": self.attestation.to_json()})

    @classmethod
    def from_json(cls, text: bytes) -> "Enrollment":
        """The enrolment that `to_json` wrote."""
        kept = orjson.loads(text)
        return cls(**{**kept, "attestation": Attestation.from_json(kept["attestation"])})


class Enrollments:
    """All enrolments of one kind; ids do not tell upper from lower case.

    Args:
        store: where they are kept.
        kind: `enrollment` or `enrollmentGroup`.
    """

    def __init__(self, store: Store, kind: str) -> None:
        self._store = store
        self.kind = kind
        rows = store.read("SELECT id, document FROM dps_enrollments WHERE kind = ?", (kind,))
        self._enrollments = {key: Enrollment.from_json(document) for key, document in rows}

    def __iter__(self) -> Iterator[Enrollment]:
        return iter(list(self._enrollments.values()))

    def find(self, identifier: str) -> Enrollment | None:
        """The enrolment, or None."""
        return self._enrollments.get(identifier.lower())

    def get(self, identifier: str) -> Enrollment:
        """The enrolment.

        Raises:
            ProvisioningFault: 404, when there is none.
        """
        found = self.find(identifier)
        if found is None:
            raise ProvisioningFault(*NOT_FOUND[self.kind])
        return found

    def put(self, identifier: str, document: Json, if_match: str | None) -> Enrollment:
        """Create an enrolment (no `if_match`), or change the one with that ETag.

        Raises:
            ProvisioningFault: 400, 404, 409 or 412 as the case is.
        """
        field = ID_FIELD[self.kind]
        check_registration_id(identifier, field)
        if str(document.get(field, identifier)).lower() != identifier.lower():
            raise _invalid(f"{field} in the body is not the one in the address")
        before = self.find(identifier)
        if before is not None and if_match is None:
            raise ProvisioningFault(errors.CONFLICT, "Enrollment already exists.")
        if before is None and if_match is not None:
            raise ProvisioningFault(*NOT_FOUND[self.kind])
        if before is not None:
            check_etag(if_match, before.etag)
        enrollment = _read(self.kind, identifier, document, before)
        self._enrollments[identifier.lower()] = enrollment
        self._store.write(SAVE, (self.kind, identifier.lower(), enrollment.to_json()))
        return enrollment

    def delete(self, identifier: str, if_match: str | None) -> Enrollment:
        """Delete an enrolment; returns it as it was.

        Raises:
            ProvisioningFault: 404 or 412.
        """
        enrollment = self.get(identifier)
        check_etag(if_match, enrollment.etag)
        del self._enrollments[identifier.lower()]
        self._store.write(DELETE, (self.kind, identifier.lower()))
        return enrollment


def _read(kind: str, identifier: str, document: Json, before: Enrollment | None) -> Enrollment:
    """Read and check an enrolment that a client sent."""
    group, now = kind == GROUP, timestamp()
    attestation = read_attestation(
        document.get("attestation"), before.attestation if before else None, group=group
    )
    settings = _settings(document, group)
    if before is None:
        return Enrollment(kind, identifier, attestation, settings, new_etag(), now, now)
    return replace(before, attestation=attestation, settings=settings, etag=new_etag(), updated=now)


def _settings(document: Json, group: bool) -> Json:
    """The members of the resource besides attestation and id, checked."""
    status = document.get("provisioningStatus") or "enabled"
    if status not in ("enabled", "disabled"):
        raise _invalid(f"provisioningStatus {status!r} is not enabled or disabled")
    settings: Json = {"provisioningStatus": status}
    for name in ("capabilities", "reprovisionPolicy", "customAllocationDefinition", "initialTwin"):
        value = document.get(name)
        if value is not None and not isinstance(value, dict):
            raise _invalid(f"{name} must be a JSON object")
        if value is not None:
            settings[name] = value
    if "optionalDeviceInformation" in document:
        settings["optionalDeviceInformation"] = document["optionalDeviceInformation"]
    settings |= _allocation(document)
    device_id = document.get("deviceId")
    try:
        if device_id and not group:
            settings["deviceId"] = check_id(str(device_id), "deviceId")
        _check_twin(settings.get("initialTwin") or {})
    except HubFault as fault:
        raise _invalid(str(fault)) from fault
    return settings


def _allocation(document: Json) -> Json:
    policy, hubs = document.get("allocationPolicy"), document.get("iotHubs")
    host = document.get("iotHubHostName")
    if policy is not None and policy not in ALLOCATION_POLICIES:
        raise _invalid(f"allocationPolicy {policy!r} is none of {', '.join(ALLOCATION_POLICIES)}")
    if hubs is not None and not (isinstance(hubs, list) and all(isinstance(h, str) for h in hubs)):
        raise _invalid("iotHubs must be a list of host names")
    if policy == "static" and len({*(hubs or []), *filter(None, [host])}) != 1:
        raise _invalid("allocationPolicy static needs exactly one hub in iotHubs")
    if policy == "custom":
        definition = document.get("customAllocationDefinition")
        url = definition.get("webhookUrl") if isinstance(definition, dict) else None
        parts = urlsplit(str(url or ""))
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise _invalid("allocationPolicy custom needs customAllocationDefinition.webhookUrl")
    sent = {"allocationPolicy": policy, "iotHubs": hubs, "iotHubHostName": host}
    return {name: value for name, value in sent.items() if value is not None}


def _check_twin(twin: Json) -> None:
    properties: Any = twin.get("properties") or {}
    if not isinstance(properties, dict):
        raise _invalid("initialTwin.properties must be a JSON object")
    check_section(twin.get("tags") or {}, "initialTwin.tags")
    check_section(properties.get("desired") or {}, "initialTwin.properties.desired")


def _invalid(reason: str) -> ProvisioningFault:
    return ProvisioningFault(BAD_REQUEST, f"Invalid enrollment: {reason}.")
