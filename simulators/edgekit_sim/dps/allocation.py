"""Which hub a device is assigned to."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

from edgekit_sim.dps import errors
from edgekit_sim.dps.attestation import Json
from edgekit_sim.dps.enrollments import Enrollment
from edgekit_sim.dps.errors import ProvisioningFault
from edgekit_sim.dps.hubs import LinkedHub, LinkedHubs

WEBHOOK_SECONDS = 5.0


@dataclass(frozen=True)
class Allocation:
    """The outcome of a policy.

    Attributes:
        hub: where the device goes.
        initial_twin: `tags` and `properties.desired` of its twin, if it is new there.
        payload: what custom allocation has to say to the device.
    """

    hub: LinkedHub
    initial_twin: Json = field(default_factory=dict)
    payload: Any = None


async def allocate(
    enrollment: Enrollment, registration_id: str, hubs: LinkedHubs, context: Json
) -> Allocation:
    """Choose a hub as the enrolment's policy says; the service's own policy is `hashed`.

    Args:
        enrollment: what the device registers by.
        registration_id: who it is.
        hubs: what there is to choose from.
        context: the DeviceRuntimeContext that custom allocation is told.

    Raises:
        ProvisioningFault: there is no hub, or custom allocation failed.
    """
    policy, candidates = _candidates(enrollment, hubs)
    if policy == "custom":
        return await _ask(enrollment, candidates, context)
    if policy == "geoLatency":
        nearest = min(hub.latency for hub in candidates)
        candidates = [hub for hub in candidates if hub.latency == nearest]
    return Allocation(hashed(registration_id, candidates), enrollment.initial_twin)


def _candidates(enrollment: Enrollment, hubs: LinkedHubs) -> tuple[str, list[LinkedHub]]:
    """The policy in force and the hubs it may choose from, at least one."""
    settings = enrollment.settings
    host = settings.get("iotHubHostName")
    named = settings.get("iotHubs") or ([host] if host else [])
    policy = settings.get("allocationPolicy") or ("static" if host else "hashed")
    found = [hubs.find(name) for name in named]
    if None in found:
        missing = ", ".join(name for name, hub in zip(named, found, strict=True) if hub is None)
        raise ProvisioningFault(errors.NO_HUB, f"IoT hub is not linked: {missing}.")
    candidates = [hub for hub in found if hub] or [hub for hub in hubs.all() if hub.used]
    if not candidates:
        raise ProvisioningFault(errors.NO_HUB, "No linked IoT hub takes part in allocation.")
    return policy, candidates


def hashed(registration_id: str, hubs: Sequence[LinkedHub]) -> LinkedHub:
    """Choose by weighted rendezvous hashing.

    Each hub draws a number in (0, 1) from the hash of its name and the device's, and the highest
    `-weight / ln(number)` wins: shares are as the weights, and a hub that comes or goes moves no
    device between the others.
    """

    def score(hub: LinkedHub) -> float:
        digest = hashlib.sha256(f"{hub.name.lower()}\n{registration_id.lower()}".encode()).digest()
        drawn = (int.from_bytes(digest[:8]) + 0.5) / 2**64
        return -hub.weight / math.log(drawn)

    return max(hubs, key=score)


async def _ask(
    enrollment: Enrollment, candidates: Sequence[LinkedHub], context: Json
) -> Allocation:
    """Ask the enrolment's webhook, with the body and for the answer of the real service."""
    definition = enrollment.settings["customAllocationDefinition"]
    member = "enrollmentGroup" if enrollment.group else "individualEnrollment"
    body = {
        member: enrollment.resource(),
        "deviceRuntimeContext": context,
        "linkedHubs": [hub.name for hub in candidates],
    }
    limit = aiohttp.ClientTimeout(total=WEBHOOK_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=limit) as session,
            session.post(
                definition["webhookUrl"],
                data=orjson.dumps(body),
                headers={"Content-Type": "application/json"},
                allow_redirects=False,
            ) as response,
        ):
            text = await response.read()
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise _failed("the webhook does not answer") from error
    if response.status != 200:
        raise ProvisioningFault(
            errors.ALLOCATION_FAILED,
            f"Custom allocation failed with status code: {response.status}",
        )
    return _answer(text, enrollment, candidates)


def _answer(text: bytes, enrollment: Enrollment, candidates: Sequence[LinkedHub]) -> Allocation:
    try:
        document = orjson.loads(text)
        name = str(document["iotHubHostName"]).lower()
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise _failed("the webhook named no iotHubHostName") from error
    for hub in candidates:
        if name in (hub.name.lower(), *hub.aliases):
            twin = document.get("initialTwin") or enrollment.initial_twin
            return Allocation(hub, twin, document.get("payload"))
    raise _failed(f"the webhook chose {name[:80]}, which is not one of linkedHubs")


def _failed(reason: str) -> ProvisioningFault:
    return ProvisioningFault(errors.ALLOCATION_FAILED, f"Custom allocation failed: {reason}.")
