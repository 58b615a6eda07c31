"""The provisioning service itself: registrations from the first request to the assigned hub."""

import asyncio
import base64
import logging
import secrets
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from edgekit_sim.dps import access, certificates, errors
from edgekit_sim.dps.admission import Admission, Credentials, admit
from edgekit_sim.dps.allocation import allocate
from edgekit_sim.dps.assignment import place, reprovision
from edgekit_sim.dps.attestation import Json
from edgekit_sim.dps.enrollments import GROUP, INDIVIDUAL, Enrollment, Enrollments
from edgekit_sim.dps.errors import ProvisioningFault
from edgekit_sim.dps.hubs import LinkedHub, LinkedHubs, OwnHub
from edgekit_sim.dps.registrations import (
    ASSIGNED,
    ASSIGNING,
    FAILED,
    STAYED,
    Registration,
    Registrations,
)
from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.hub import Hub
from edgekit_sim.iothub.twins import new_etag, timestamp

logger = logging.getLogger(__name__)

RETRY_AFTER = 3  # seconds; what the real service tells devices that wait for their assignment
SCHEMA = """
CREATE TABLE IF NOT EXISTS dps_enrollments (
    kind TEXT NOT NULL, id TEXT NOT NULL, document BLOB NOT NULL, PRIMARY KEY (kind, id))
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dps_registrations (id TEXT PRIMARY KEY, document BLOB NOT NULL)
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dps_hubs (name TEXT PRIMARY KEY, document BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dps_authorities (name TEXT PRIMARY KEY, certificate BLOB NOT NULL)
    WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Answer:
    """What a device is told.

    Attributes:
        status: the HTTP status.
        document: the body.
        retry_after: seconds after which it should ask again; 0 for never.
    """

    status: int
    document: Json
    retry_after: int = 0


class Provisioning:
    """One Device Provisioning Service.

    It shares the store of the hub in its process, so that a device and its registration are
    written in one transaction.

    Args:
        hub: the hub in this process.
        assigned_as: the name under which its devices reach that hub.
        hostnames: what the service may be called in tokens, and the hub in enrolments.

    Attributes:
        scope: the id scope devices name.
        policies: shared access policies by name.
        enrollments: individual ones.
        groups: enrolment groups.
        registrations: what became of each device.
        hubs: linked hubs.
        throttled: requests of devices still to be answered with 429, and its retry-after.
    """

    def __init__(self, hub: Hub, assigned_as: str, hostnames: Iterable[str]) -> None:
        self._store = hub.store
        self._store.define(SCHEMA)
        self._hostnames = frozenset(name.lower() for name in hostnames)
        self._tasks: set[asyncio.Task[None]] = set()
        self.scope = self._load_scope()
        self.policies = access.load_policies(self._store)
        self.enrollments = Enrollments(self._store, INDIVIDUAL)
        self.groups = Enrollments(self._store, GROUP)
        self.registrations = Registrations(self._store)
        names = self._hostnames | self._names_of_own(assigned_as)
        own = LinkedHub(assigned_as, OwnHub(hub), aliases=tuple(names))
        self.hubs = LinkedHubs(self._store, own)
        self.throttled: tuple[int, int] = (0, 0)
        self._authorities: dict[str, bytes] = dict(
            self._store.read("SELECT name, certificate FROM dps_authorities")
        )

    def _load_scope(self) -> str:
        kept = self._store.read("SELECT value FROM settings WHERE name = 'dps/scope'")
        if kept:
            return str(kept[0][0])
        scope = f"0ne{secrets.token_hex(4).upper()}"
        self._store.write("INSERT INTO settings VALUES (?,?)", ("dps/scope", scope))
        return scope

    def _names_of_own(self, assigned_as: str) -> set[str]:
        """All names under which the hub in this process was ever assigned, in lower case.

        Its address may change from one start to the next, and it still has its devices.
        """
        kept = self._store.read("SELECT value FROM settings WHERE name = 'dps/own-names'")
        names = {*(kept[0][0].split() if kept else ()), assigned_as.lower()}
        statement = "INSERT OR REPLACE INTO settings VALUES ('dps/own-names', ?)"
        self._store.write(statement, (" ".join(sorted(names)),))
        return names

    def start(self) -> None:
        """Go on with the registrations that were under way when the service last ended."""
        for registration in self.registrations:
            if registration.status == ASSIGNING:
                self._carry_out(registration)

    async def stop(self) -> None:
        """Leave the registrations under way for the next start."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def describe(self, address: str, host: str) -> dict[str, str]:
        """What clients need to know, by the names that the hub's description gives them.

        Args:
            address: where devices connect to.
            host: address and port of the REST API.
        """
        key = self.policies[access.OWNER].keys[0]
        names = f"HostName={host};SharedAccessKeyName={access.OWNER}"
        return {
            "dps_service_connection_string": f"{names};SharedAccessKey={key}",
            "dps_device_host": address,
            "dps_id_scope": self.scope,
        }

    async def committed(self) -> None:
        """Wait until all changes so far are on disk."""
        await self._store.committed()

    # ---- service side

    def allow(self, authorization: str | None, right: str) -> None:
        """Let a request of the service API pass.

        Raises:
            ProvisioningFault: 401 or 403.
        """
        access.check_service(authorization, right, self.policies, self._hostnames)

    def delete_enrollment(self, kind: str, identifier: str, if_match: str | None) -> None:
        """Delete an enrolment with the registration states of its devices; those stay in hubs.

        Raises:
            ProvisioningFault: 404 or 412.
        """
        if kind == GROUP:
            group = self.groups.delete(identifier, if_match)
            gone = self.registrations.of_group(group.id)
        else:
            individual = self.enrollments.delete(identifier, if_match)
            state = self.registrations.find(individual.id)
            gone = [state] if state is not None and not state.group else []
        for registration in gone:
            self.registrations.forget(registration)

    def keep_authority(self, name: str, certificate: bytes) -> None:
        """Keep an authority's certificate (DER) for enrolments that refer to it by name."""
        self._authorities[name] = certificate
        self._store.write(
            "INSERT OR REPLACE INTO dps_authorities VALUES (?,?)", (name, certificate)
        )

    # ---- device side

    async def register(
        self, registration_id: str, credentials: Credentials, document: Json
    ) -> Answer:
        """Begin to register a device; one whose registration is under way joins that.

        Args:
            registration_id: who it says it is.
            credentials: how it proves that.
            document: a DeviceRegistration: `registrationId` and `payload`.

        Raises:
            ProvisioningFault: 400, 401 or 429.
        """
        admission = self._admit(registration_id, credentials)
        if str(document.get("registrationId", registration_id)).lower() != registration_id.lower():
            raise ProvisioningFault(
                errors.BAD_REQUEST, "registrationId in the body is not the one that asks."
            )
        if not admission.enrollment.enabled:
            state = {"registrationId": registration_id, "status": "disabled"}
            return Answer(
                200, {"operationId": "", "status": "disabled", "registrationState": state}
            )
        registration = self.registrations.find(registration_id)
        if registration is None or registration.status != ASSIGNING:
            registration = self._begin(registration_id, admission, document, registration)
            await self._store.committed()
            self._carry_out(registration)
        begun = {"operationId": registration.operation, "status": ASSIGNING}
        return Answer(202, begun, RETRY_AFTER)

    def status(self, registration_id: str, credentials: Credentials, operation: str) -> Answer:
        """How far a registration is.

        Raises:
            ProvisioningFault: 401, 404 or 429.
        """
        self._admit(registration_id, credentials)
        registration = self.registrations.find(registration_id)
        if registration is None or registration.operation != operation:
            raise ProvisioningFault(errors.OPERATION_NOT_FOUND, "Operation not found.")
        if registration.status == ASSIGNING:
            return Answer(202, registration.operation_status(), RETRY_AFTER)
        return Answer(200, registration.operation_status())

    def lookup(self, registration_id: str, credentials: Credentials) -> Answer:
        """The state of a device's registration, for the device itself.

        Raises:
            ProvisioningFault: 401, 404 or 429.
        """
        self._admit(registration_id, credentials)
        return Answer(200, self.registrations.get(registration_id).resource())

    def _admit(self, registration_id: str, credentials: Credentials) -> Admission:
        left, retry_after = self.throttled
        if left > 0:
            self.throttled = (left - 1, retry_after)
            raise ProvisioningFault(
                errors.THROTTLED, "Operations are being throttled for this tenant.", retry_after
            )
        if credentials.scope.lower() != self.scope.lower():
            raise ProvisioningFault(errors.UNAUTHORIZED, "Unauthorized")
        return admit(
            registration_id, credentials, self.enrollments, self.groups, self._authorities.get
        )

    def _begin(
        self,
        registration_id: str,
        admission: Admission,
        document: Json,
        before: Registration | None,
    ) -> Registration:
        """Keep a registration under way, with all that is needed to carry it out."""
        now, enrollment = timestamp(), admission.enrollment
        begun = before or Registration(registration_id, "", "", "", now, now, "")
        begun = replace(
            begun,
            operation=f"5.{secrets.token_hex(8)}.{uuid.uuid4()}",
            status=ASSIGNING,
            etag=new_etag(),
            updated=now,
            method=next(iter(admission.evidence)),
            group=enrollment.id if enrollment.group else "",
            error=None,
            sent={
                "payload": document.get("payload"),
                "authentication": admission.authentication,
                "evidence": admission.evidence,
            },
        )
        self.registrations.keep(begun)
        return begun

    # ---- assignment

    def _carry_out(self, registration: Registration) -> None:
        task = asyncio.get_running_loop().create_task(self._finish(registration))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _finish(self, registration: Registration) -> None:
        """Assign a device and keep what came of it."""
        try:
            done = await self._assign(registration)
        except ProvisioningFault as fault:
            done = replace(registration, status=FAILED, error=(fault.code, str(fault)))
        except HubFault as fault:
            message = f"The IoT hub refused the device: {fault}."
            done = replace(registration, status=FAILED, error=(errors.HUB_FAILED, message))
        if done.error is not None:
            logger.info("registration of %s failed: %s", registration.id, done.error[1])
        present = self.registrations.find(registration.id)
        if present is None or present.operation != registration.operation:
            return  # forgotten meanwhile: its enrolment or its state was deleted
        done = replace(done, etag=new_etag(), updated=timestamp(), sent=None)
        self.registrations.keep(done)
        await self._store.committed()

    async def _assign(self, registration: Registration) -> Registration:
        enrollment = self._enrollment_of(registration)
        assert registration.sent is not None
        authentication = registration.sent["authentication"]
        before = self.hubs.find(registration.hub) if registration.hub else None
        if before is not None and not enrollment.updates_hub:
            device_id = registration.device_id
            twin = enrollment.initial_twin
            await place(before.registry, device_id, authentication, enrollment.edge, twin)
            return replace(registration, status=ASSIGNED, substatus=STAYED)
        context = self._context(registration)
        allocation = await allocate(enrollment, registration.id, self.hubs, context)
        substatus = await reprovision(registration, before, allocation, enrollment, authentication)
        return replace(
            registration,
            status=ASSIGNED,
            hub=allocation.hub.name,
            device_id=enrollment.device_id(registration.id),
            substatus=substatus,
            payload=allocation.payload,
        )

    def _enrollment_of(self, registration: Registration) -> Enrollment:
        if registration.group:
            return self.groups.get(registration.group)
        return self.enrollments.get(registration.id)

    def _context(self, registration: Registration) -> Json:
        """The DeviceRuntimeContext that custom allocation is told."""
        sent: dict[str, Any] = registration.sent or {}
        context = {"registrationId": registration.id, **sent["evidence"]}
        if registration.hub:
            context["currentIotHubHostName"] = registration.hub
            context["currentDeviceId"] = registration.device_id
        if sent.get("payload") is not None:
            context["payload"] = sent["payload"]
        return context

    def describe_authority(self, name: str) -> Json:
        """An uploaded authority.

        Raises:
            ProvisioningFault: 404, when there is none of that name.
        """
        certificate = self._authorities.get(name)
        if certificate is None:
            raise ProvisioningFault(errors.NOT_FOUND, "Certificate not found.")
        encoded = base64.b64encode(certificate).decode()
        return {"name": name, "certificate": encoded, **certificates.describe(certificate)}
