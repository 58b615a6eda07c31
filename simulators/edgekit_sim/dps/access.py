"""Who may do what at the provisioning service: its shared access policies, and devices."""

import time
from collections.abc import Iterable

from edgekit_sim.dps import errors
from edgekit_sim.dps.errors import ProvisioningFault
from edgekit_sim.iothub import access, tokens
from edgekit_sim.iothub.access import Policy
from edgekit_sim.iothub.store import Store

SERVICE_CONFIG = "ServiceConfig"
ENROLLMENT_READ, ENROLLMENT_WRITE = "EnrollmentRead", "EnrollmentWrite"
REGISTRATION_READ, REGISTRATION_WRITE = "RegistrationStatusRead", "RegistrationStatusWrite"
OWNER = "provisioningserviceowner"

# the owner is there in every new service; the others are ones that people commonly add
POLICIES: dict[str, frozenset[str]] = {
    OWNER: frozenset(
        {SERVICE_CONFIG, ENROLLMENT_READ, ENROLLMENT_WRITE, REGISTRATION_READ, REGISTRATION_WRITE}
    ),
    "enrollmentRead": frozenset({ENROLLMENT_READ}),
    "enrollmentReadWrite": frozenset({ENROLLMENT_READ, ENROLLMENT_WRITE}),
    "registrationRead": frozenset({REGISTRATION_READ}),
}


def load_policies(store: Store) -> dict[str, Policy]:
    """The service's policies with the keys the store keeps; made and stored at first start."""
    return access.load_policies(store, POLICIES, "dps/policy/")


def check_service(
    authorization: str | None, right: str, policies: dict[str, Policy], hostnames: Iterable[str]
) -> None:
    """Let a request of the service API pass.

    Args:
        authorization: the header of that name.
        right: what the request needs.
        policies: by name.
        hostnames: what the service may be called in a token, without port, lower case.

    Raises:
        ProvisioningFault: 401, or 403 without the right.
    """
    token = tokens.parse(authorization or "")
    policy = policies.get((token and token.policy) or "")
    if token is None or policy is None or not token.signed_by(policy.keys):
        raise ProvisioningFault(errors.UNAUTHORIZED, "Unauthorized")
    host = token.resource.removeprefix("https://").partition("/")[0].lower()
    known = set(hostnames)
    if token.expiry <= time.time() or not {host, host.rpartition(":")[0]} & known:
        raise ProvisioningFault(errors.UNAUTHORIZED, "Unauthorized")
    if right not in policy.rights:
        raise ProvisioningFault(
            errors.FORBIDDEN, f"Forbidden: policy {policy.name} does not have the right {right}."
        )


def fits_device(password: str, scope: str, registration_id: str, keys: Iterable[str]) -> bool:
    """Say whether a device's token is genuine, current and for this registration.

    Args:
        password: a token for `{scope}/registrations/{registration id}`.
        scope: the service's id scope.
        registration_id: who the device says it is.
        keys: the keys it may have signed with, base64.
    """
    token = tokens.parse(password)
    if token is None or token.policy not in (None, "registration"):
        return False
    wanted = f"{scope}/registrations/{registration_id}".lower()
    genuine = token.signed_by(keys)
    return genuine and token.expiry > time.time() and token.resource.lower() == wanted
