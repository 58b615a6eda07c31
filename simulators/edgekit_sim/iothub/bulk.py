"""Many identities at once: entries of bulk calls and of import and export files.

An entry is what the SDKs call an ExportImportDevice: a device or module with its keys, and its twin
where it is to be set, and an `importMode` that says what to do.
"""

from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.identities import Identity
from edgekit_sim.iothub.registry import Registry
from edgekit_sim.iothub.twins import Json

CREATE = ("create", "createOrUpdate", "createOrUpdateIfMatchETag")
UPDATE = ("update", "createOrUpdate", "updateIfMatchETag", "createOrUpdateIfMatchETag")
DELETE = ("delete", "deleteIfMatchETag")
TWIN = ("updateTwin", "updateTwinIfMatchETag")


def carry_out(registry: Registry, entries: list[Json]) -> list[Json]:
    """Carry out entries one after another; one that fails does not keep the others.

    Returns:
        An error for each entry that failed, as bulk calls answer them.
    """
    errors = []
    for entry in entries:
        try:
            carry_out_one(registry, entry)
        except HubFault as fault:
            errors.append(
                {
                    "deviceId": entry.get("id"),
                    "moduleId": entry.get("moduleId"),
                    "errorCode": fault.code,
                    "errorStatus": str(fault),
                }
            )
    return errors


def carry_out_one(registry: Registry, entry: Json) -> None:
    """Carry out one entry.

    Raises:
        HubFault: it cannot be done.
    """
    device_id, module_id = str(entry.get("id") or ""), str(entry.get("moduleId") or "")
    mode = entry.get("importMode") or "createOrUpdate"
    conditional = mode.endswith("IfMatchETag") if isinstance(mode, str) else False
    if_match: str | None = str(entry.get("eTag") or "*") if conditional else "*"
    document = {key: value for key, value in entry.items() if key not in ("id", "eTag", "etag")}
    present = registry.find(device_id, module_id)
    if mode in TWIN:
        if_match = entry.get("twinETag") if conditional else None
        _set_twin(registry, registry.get(device_id, module_id), entry, if_match)
    elif mode in DELETE:
        registry.delete(device_id, module_id, if_match)
    elif mode in CREATE and (present is None or mode == "create"):
        _set_twin(registry, registry.put(device_id, module_id, document, None), entry)
    elif mode in UPDATE:
        _set_twin(registry, registry.put(device_id, module_id, document, if_match), entry)
    else:
        raise HubFault(400, "ArgumentInvalid", f"importMode {mode!r} is unknown")


def _set_twin(
    registry: Registry, identity: Identity, entry: Json, if_match: str | None = None
) -> None:
    twin = {key: entry[key] for key in ("tags", "properties") if entry.get(key) is not None}
    if twin:
        registry.change_twin(identity, twin, if_match, replace=False)


def export_entry(identity: Identity, with_keys: bool) -> Json:
    """An identity with its twin, as an export file has it."""
    resource = identity.resource()
    authentication = resource["authentication"]
    if not with_keys:
        authentication = {
            **authentication,
            "symmetricKey": {"primaryKey": None, "secondaryKey": None},
        }
    twin = identity.twin
    return {
        "id": identity.device_id,
        **({"moduleId": identity.module_id} if identity.module_id else {}),
        "eTag": identity.etag,
        "importMode": "createOrUpdate",
        "status": identity.status,
        "authentication": authentication,
        "twinETag": twin.etag,
        "tags": twin.tags,
        "properties": {
            "desired": twin.desired.for_service(),
            "reported": twin.reported.for_service(),
        },
        "capabilities": {"iotEdge": identity.edge},
        **({"deviceScope": identity.scope} if identity.scope else {}),
    }
