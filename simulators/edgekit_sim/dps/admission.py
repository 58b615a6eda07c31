"""Whether a device may register: its enrolment is found and its credentials are checked."""

import datetime
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edgekit_sim.dps import certificates, errors
from edgekit_sim.dps.access import fits_device
from edgekit_sim.dps.attestation import CLIENT, REFERENCES, SYMMETRIC_KEY, Json
from edgekit_sim.dps.enrollments import Enrollment, Enrollments, check_registration_id
from edgekit_sim.dps.errors import ProvisioningFault

Authority = Callable[[str], bytes | None]


@dataclass(frozen=True)
class Credentials:
    """What a device shows.

    Attributes:
        scope: the id scope it names.
        password: its token, None or "" without one.
        chain: certificates it presented in DER, its own first.
    """

    scope: str
    password: str | None
    chain: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Admission:
    """A device that may register.

    Attributes:
        enrollment: what it registers by.
        authentication: how it will prove itself to its hub, as the hub's REST API takes it.
        evidence: its member of the DeviceRuntimeContext: `symmetricKey` or `x509`.
    """

    enrollment: Enrollment
    authentication: Json
    evidence: Json


def admit(
    registration_id: str,
    credentials: Credentials,
    enrollments: Enrollments,
    groups: Enrollments,
    authority: Authority,
) -> Admission:
    """Find the enrolment a device may register by; an individual one goes before all groups.

    Args:
        registration_id: who it says it is.
        credentials: how it proves that.
        enrollments: individual ones.
        groups: enrolment groups.
        authority: the certificate, in DER, of an authority uploaded under a name.

    Raises:
        ProvisioningFault: 400 for an id that cannot be, 401 in all other cases: who cannot prove
            who he is does not learn what is enrolled.
    """
    check_registration_id(registration_id)
    individual = enrollments.find(registration_id)
    candidates: Iterable[Enrollment] = groups if individual is None else [individual]
    for enrollment in candidates:
        admission = _admission(enrollment, registration_id, credentials, authority)
        if admission is not None:
            return admission
    if credentials.chain and not credentials.password:
        raise ProvisioningFault(errors.UNAUTHORIZED, "Invalid certificate.")
    raise ProvisioningFault(errors.UNAUTHORIZED, "Unauthorized")


def _admission(
    enrollment: Enrollment, registration_id: str, credentials: Credentials, authority: Authority
) -> Admission | None:
    attestation = enrollment.attestation
    if attestation.type == SYMMETRIC_KEY:
        for pair in attestation.key_pairs(registration_id, group=enrollment.group):
            password, scope = credentials.password or "", credentials.scope
            if fits_device(password, scope, registration_id, pair):
                keys = {"primaryKey": pair[0], "secondaryKey": pair[1]}
                authentication = {"type": "sas", "symmetricKey": keys}
                return Admission(enrollment, authentication, {"symmetricKey": {}})
        return None
    if not credentials.chain or not _certified(enrollment, registration_id, credentials, authority):
        return None
    leaf = credentials.chain[0]
    prints = {"primaryThumbprint": certificates.thumbprint(leaf)}
    evidence = {"x509": {"clientCertificate": certificates.describe(leaf)}}
    return Admission(enrollment, {"type": "selfSigned", "x509Thumbprint": prints}, evidence)


def _certified(
    enrollment: Enrollment, registration_id: str, credentials: Credentials, authority: Authority
) -> bool:
    """Say whether a device's certificates are those the enrolment asks for."""
    chain, attestation = credentials.chain, enrollment.attestation
    now = datetime.datetime.now(datetime.UTC)
    try:
        if certificates.common_name(chain[0]).lower() != registration_id.lower():
            return False
        if not all(certificates.is_current(one, now) for one in chain):
            return False
    except ValueError:
        return False
    if attestation.kind == CLIENT:
        return chain[0] in attestation.certificates
    trusted: Iterable[bytes | None] = attestation.certificates
    if attestation.kind == REFERENCES:
        trusted = map(authority, attestation.references)
    return any(certificates.leads_to(chain, one) for one in trusted if one is not None)
