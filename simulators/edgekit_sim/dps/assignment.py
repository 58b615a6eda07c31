"""Devices put into hubs: the first time, and when they register again.

Each step looks at what is there before it acts, so that an assignment cut off in the middle can be
carried out once more from the start.
"""

from edgekit_sim.dps.allocation import Allocation
from edgekit_sim.dps.attestation import Json
from edgekit_sim.dps.enrollments import Enrollment
from edgekit_sim.dps.hubs import LinkedHub, Registry
from edgekit_sim.dps.registrations import INITIAL, MIGRATED, RESET, STAYED, Registration


async def place(
    registry: Registry, device_id: str, authentication: Json, edge: bool, twin: Json
) -> None:
    """See that a device is in a hub and can prove itself there.

    Args:
        registry: of the hub.
        device_id: the device.
        authentication: its keys or thumbprints; in the place of those it had.
        edge: whether it becomes an IoT Edge device, if it is new.
        twin: tags and desired properties of a twin that nobody has touched yet.
    """
    present = await registry.device(device_id)
    document: Json = {"authentication": authentication, "capabilities": {"iotEdge": edge}}
    if present is not None:
        kept = ("status", "statusReason", "deviceScope", "parentScopes", "capabilities")
        document |= {name: present[name] for name in kept if present.get(name) is not None}
    await registry.put_device(device_id, document, update=present is not None)
    desired = twin.get("properties", {}).get("desired", {})
    if not twin.get("tags") and not desired:
        return
    found = await registry.twin(device_id)
    if not found.get("tags") and found["properties"]["desired"].get("$version") == 1:
        await registry.replace_twin(device_id, twin)


async def reprovision(
    registration: Registration,
    before: LinkedHub | None,
    allocation: Allocation,
    enrollment: Enrollment,
    authentication: Json,
) -> str:
    """Put a device into the hub that was chosen for it, and take it out of the one it was in.

    Args:
        registration: with the device's id so far.
        before: the hub it was in; None if it registers for the first time.
        allocation: the hub it goes to and the twin of a new device.
        enrollment: says whether data is migrated or reset.
        authentication: as in `place`.

    Returns:
        The substatus of the registration.
    """
    target, device_id = allocation.hub, enrollment.device_id(registration.id)
    twin, edge = allocation.initial_twin, enrollment.edge
    if before is None:
        await place(target.registry, device_id, authentication, edge, twin)
        return INITIAL
    stays = before.name == target.name and registration.device_id == device_id
    if enrollment.migrates_data and stays:
        await place(target.registry, device_id, authentication, edge, twin)
        return STAYED
    if enrollment.migrates_data:
        present = await before.registry.device(registration.device_id)
        if present is not None:
            twin = _data_of(await before.registry.twin(registration.device_id))
            edge = bool((present.get("capabilities") or {}).get("iotEdge"))
        await place(target.registry, device_id, authentication, edge, twin)
        await before.registry.delete_device(registration.device_id)
        return MIGRATED
    await before.registry.delete_device(registration.device_id)
    await target.registry.delete_device(device_id)
    await place(target.registry, device_id, authentication, edge, twin)
    return RESET


def _data_of(twin: Json) -> Json:
    """What of a twin moves with its device: tags and desired properties."""
    desired = {
        name: value
        for name, value in twin["properties"]["desired"].items()
        if name not in ("$metadata", "$version")
    }
    return {"tags": twin.get("tags") or {}, "properties": {"desired": desired}}
