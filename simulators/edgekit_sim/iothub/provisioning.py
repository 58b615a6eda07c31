"""Device provisioning: enrolments, and devices that come to register under one.

An individual enrolment is for one registration id, a group for all whose key is derived from the
group's (HMAC-SHA256 of the registration id) or whose certificate the group's authority issued.
There is one hub to assign to, this one; a custom allocation function is not called.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
import time
from typing import Any

import orjson
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from edgekit_sim.iothub import tokens
from edgekit_sim.iothub.authorities import check_authority, issued_by
from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.identities import check_id
from edgekit_sim.iothub.registry import Registry, check_etag
from edgekit_sim.iothub.store import Store
from edgekit_sim.iothub.twins import Json, new_etag, timestamp

INDIVIDUAL, GROUP = "enrollments", "enrollmentGroups"
ID_FIELDS = {INDIVIDUAL: "registrationId", GROUP: "enrollmentGroupId"}
POLICIES = ("hashed", "geoLatency", "static")


class Provisioning:
    """The provisioning service of one hub.

    Args:
        store: where enrolments and registrations are kept.
        registry: where devices are made.

    Attributes:
        scope: the id scope that tells this service from others.
        hub: the host name devices are assigned to; set when the address is known.
    """

    def __init__(self, store: Store, registry: Registry) -> None:
        self._store = store
        self._registry = registry
        self._enrollments: dict[str, dict[str, Json]] = {INDIVIDUAL: {}, GROUP: {}}
        self._registrations: dict[str, Json] = {}
        self._operations: dict[str, str] = {}
        self.hub = ""
        for kind, _, text in store.read("SELECT * FROM enrollments"):
            document = orjson.loads(text)
            if kind == "registrations":
                self._registrations[document["registrationId"]] = document
            else:
                self._enrollments[kind][document[ID_FIELDS[kind]]] = document
        kept = store.read("SELECT value FROM settings WHERE name = 'scope'")
        self.scope = kept[0][0] if kept else f"0ne{secrets.token_hex(4).upper()}"
        store.write("INSERT OR REPLACE INTO settings VALUES ('scope', ?)", (self.scope,))

    def _save(self, kind: str, name: str, document: Json) -> None:
        row = (kind, name, orjson.dumps(document))
        self._store.write("INSERT OR REPLACE INTO enrollments VALUES (?,?,?)", row)

    # ---- the service side

    def get(self, kind: str, name: str) -> Json:
        """An enrolment of a kind (`enrollments`, `enrollmentGroups`), with its keys.

        Raises:
            HubFault: 404.
        """
        found = self._enrollments[kind].get(name)
        if found is None:
            raise HubFault(404, "EnrollmentNotFound", f"there is no enrolment {name!r}")
        return found

    def all(self, kind: str) -> list[Json]:
        """All enrolments of a kind."""
        return list(self._enrollments[kind].values())

    def put(self, kind: str, name: str, document: Json, if_match: str | None) -> Json:
        """Make or change an enrolment.

        Raises:
            HubFault: 400, 409 or 412 as the case is.
        """
        check_id(name, ID_FIELDS[kind])
        present = self._enrollments[kind].get(name)
        if present is None and if_match not in (None, "*"):
            self.get(kind, name)
        if present is not None:
            check_etag(if_match, present["etag"], document.get("etag"))
        policy = document.get("allocationPolicy")
        if policy is not None and policy not in POLICIES:
            raise HubFault(400, "ArgumentInvalid", f"allocationPolicy {policy!r} is not supported")
        previous = present["attestation"] if present else None
        now = timestamp()
        kept = {
            **{key: value for key, value in document.items() if value is not None},
            ID_FIELDS[kind]: name,
            "attestation": _attestation(kind, document.get("attestation"), previous),
            "provisioningStatus": document.get("provisioningStatus") or "enabled",
            "createdDateTimeUtc": present["createdDateTimeUtc"] if present else now,
            "lastUpdatedDateTimeUtc": now,
            "etag": new_etag(),
        }
        self._enrollments[kind][name] = kept
        self._save(kind, name, kept)
        return kept

    def delete(self, kind: str, name: str, if_match: str | None) -> None:
        """Delete an enrolment; devices it made stay.

        Raises:
            HubFault: 404 or 412.
        """
        check_etag(if_match, self.get(kind, name)["etag"])
        del self._enrollments[kind][name]
        self._store.write("DELETE FROM enrollments WHERE kind = ? AND id = ?", (kind, name))

    def registration(self, name: str) -> Json:
        """What became of a registration.

        Raises:
            HubFault: 404.
        """
        if name not in self._registrations:
            raise HubFault(404, "RegistrationNotFound", f"{name!r} has not registered")
        return self._registrations[name]

    def registrations(self, group: str) -> list[Json]:
        """What was registered under a group."""
        self.get(GROUP, group)
        return [r for r in self._registrations.values() if r.get("enrollmentGroupId") == group]

    def forget(self, name: str, if_match: str | None) -> None:
        """Delete a registration.

        Raises:
            HubFault: 404 or 412.
        """
        check_etag(if_match, self.registration(name)["etag"])
        del self._registrations[name]
        self._store.write(
            "DELETE FROM enrollments WHERE kind = 'registrations' AND id = ?", (name,)
        )

    # ---- the device side

    def admit(self, name: str, password: str | None, chain: tuple[bytes, ...]) -> "Registrant":
        """Let somebody in who wants to register.

        Args:
            name: the registration id it says it has.
            password: its token, None when it sent none.
            chain: its certificates in DER, its own first.

        Raises:
            HubFault: 401, when no enrolment is for it.
        """
        individual = self._enrollments[INDIVIDUAL].get(name)
        candidates = [individual] if individual else self.all(GROUP)
        for enrollment in candidates:
            proof = self._proof(enrollment, name, password, chain)
            if proof is not None:
                if enrollment["provisioningStatus"] != "enabled":
                    raise _refused(f"the enrolment of {name!r} is disabled")
                return Registrant(self, name, enrollment, proof)
        raise _refused(f"no enrolment is for {name!r} with these credentials")

    def _proof(
        self, enrollment: Json, name: str, password: str | None, chain: tuple[bytes, ...]
    ) -> Json | None:
        """How its device will prove itself to the hub; None when this is not its enrolment."""
        attestation = enrollment["attestation"]
        group = "enrollmentGroupId" in enrollment
        if attestation["type"] == "symmetricKey":
            token = tokens.parse(password or "")
            keys = attestation["symmetricKey"]
            pair = [keys["primaryKey"], keys["secondaryKey"]]
            if group:
                pair = [derive_key(key, name) for key in pair]
            if token is None or token.expiry <= time.time() or not token.signed_by(pair):
                return None
            if token.resource != f"{self.scope}/registrations/{name}":
                return None
            key = {"primaryKey": pair[0], "secondaryKey": pair[1]}
            return {"type": "sas", "symmetricKey": key}
        if not chain:
            return None
        certificates = list(_certificates(attestation))
        if group and not issued_by(chain, [_pem(one) for one in certificates], name):
            return None
        if not group and _der(chain[0]) not in [_der(_pem(one)) for one in certificates]:
            return None
        prints = {"primaryThumbprint": hashlib.sha256(chain[0]).hexdigest().upper()}
        return {"type": "selfSigned", "x509Thumbprint": prints}

    def assign(self, registrant: "Registrant", payload: Any) -> str:
        """Make the device, or find it again; returns the id of the operation.

        Raises:
            HubFault: 400 or 401.
        """
        name, enrollment = registrant.name, registrant.enrollment
        device_id = enrollment.get("deviceId") or name
        document = {
            "deviceId": device_id,
            "authentication": registrant.proof,
            "capabilities": enrollment.get("capabilities") or {},
        }
        before = self._registrations.get(name)
        if self._registry.find(device_id) is None:
            device = self._registry.put(device_id, "", document, None)
            twin = enrollment.get("initialTwin") or {}
            if twin:
                self._registry.change_twin(device, twin, None, replace=False)
        else:
            self._registry.put(device_id, "", document, "*")
        now = timestamp()
        self._registrations[name] = {
            "registrationId": name,
            "createdDateTimeUtc": before["createdDateTimeUtc"] if before else now,
            "assignedHub": self.hub,
            "deviceId": device_id,
            "status": "assigned",
            "substatus": "reprovisionedToInitialAssignment" if before else "initialAssignment",
            "lastUpdatedDateTimeUtc": now,
            "etag": new_etag(),
            **({"payload": payload} if payload is not None else {}),
            **{k: enrollment[k] for k in ("enrollmentGroupId",) if k in enrollment},
        }
        self._save("registrations", name, self._registrations[name])
        operation = f"4.{secrets.token_hex(8)}.{secrets.token_hex(16)}"
        self._operations[operation] = name
        return operation

    def operation(self, registrant: "Registrant", operation: str) -> Json:
        """How far an operation is.

        Raises:
            HubFault: 404, when it is none of this registrant's.
        """
        if self._operations.get(operation) != registrant.name:
            raise HubFault(404, "OperationNotFound", "there is no such operation")
        state = self.registration(registrant.name)
        return {"operationId": operation, "status": "assigned", "registrationState": state}


class Registrant:
    """Somebody who may register, and as what.

    Attributes:
        name: its registration id.
        enrollment: the enrolment it comes under.
        proof: the authentication its device will have.
    """

    def __init__(self, service: Provisioning, name: str, enrollment: Json, proof: Json) -> None:
        self._service = service
        self.name = name
        self.enrollment = enrollment
        self.proof = proof

    def register(self, document: Json) -> Json:
        """Register; returns the operation to ask after.

        Raises:
            HubFault: the device cannot be made, or another name stands in the body.
        """
        if document.get("registrationId", self.name) != self.name:
            raise _refused("the body is for another registration id")
        operation = self._service.assign(self, document.get("payload"))
        return {"operationId": operation, "status": "assigning"}

    def operation(self, operation: str) -> Json:
        """How far an operation is."""
        return self._service.operation(self, operation)


def derive_key(group_key: str, registration_id: str) -> str:
    """The key of one device of a group: HMAC-SHA256 of its registration id under the group's."""
    digest = hmac.digest(base64.b64decode(group_key), registration_id.encode(), "sha256")
    return base64.b64encode(digest).decode()


def without_secrets(document: Json) -> Json:
    """An enrolment as it is answered: keys are had by the attestation mechanism only."""
    attestation = document["attestation"]
    if attestation["type"] != "symmetricKey":
        return document
    return {**document, "attestation": {"type": "symmetricKey"}}


def _attestation(kind: str, sent: Any, previous: Json | None) -> Json:
    if not isinstance(sent, dict):
        raise HubFault(400, "ArgumentInvalid", "attestation must be a JSON object")
    if sent.get("type") == "symmetricKey":
        keys = sent.get("symmetricKey") or (previous or {}).get("symmetricKey") or {}
        pair = {name: keys.get(name) or tokens.new_key() for name in ("primaryKey", "secondaryKey")}
        if not all(isinstance(key, str) and tokens.is_key(key) for key in pair.values()):
            raise HubFault(400, "ArgumentInvalid", "a key must be base64 of 16 to 64 bytes")
        return {"type": "symmetricKey", "symmetricKey": pair}
    if sent.get("type") != "x509":
        raise HubFault(400, "ArgumentInvalid", f"attestation {sent.get('type')!r} is not supported")
    try:
        certificates = [_pem(one) for one in _certificates(sent)]
        if kind == GROUP:
            for certificate in certificates:
                check_authority(certificate)
    except (ValueError, binascii.Error) as error:
        raise HubFault(400, "ArgumentInvalid", f"a certificate cannot be used: {error}") from error
    if not certificates:
        raise HubFault(400, "ArgumentInvalid", "x509 needs a certificate")
    return sent


def _certificates(attestation: Json) -> list[str]:
    """The certificates of an x509 attestation, as they were sent: PEM, or base64 of DER."""
    x509_part = attestation.get("x509") or {}
    found = []
    for part in ("clientCertificates", "signingCertificates"):
        for which in ("primary", "secondary"):
            holder = (x509_part.get(part) or {}).get(which) or {}
            if holder.get("certificate"):
                found.append(str(holder["certificate"]))
    return found


def _pem(text: str) -> bytes:
    if "BEGIN CERTIFICATE" in text:
        return text.encode()
    return x509.load_der_x509_certificate(base64.b64decode(text)).public_bytes(Encoding.PEM)


def _der(certificate: bytes) -> bytes:
    if certificate.startswith(b"-----"):
        return x509.load_pem_x509_certificate(certificate).public_bytes(Encoding.DER)
    return certificate


def _refused(reason: str) -> HubFault:
    return HubFault(401, "Unauthorized", f"Unauthorized: {reason}")
