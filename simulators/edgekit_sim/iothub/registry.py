"""The identity registry: devices, modules and their twins, kept in memory and written through."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.identities import EDGE_MODULES, Identity, check_id
from edgekit_sim.iothub.store import Store
from edgekit_sim.iothub.twins import (
    PROPERTIES_LIMIT,
    TAGS_LIMIT,
    Json,
    check_section,
    check_size,
    merge,
)

MODULES_PER_DEVICE = 50
SAVE = "INSERT OR REPLACE INTO identities VALUES (?,?,?,?)"
DELETE = "DELETE FROM identities WHERE device_id = ? AND module_id = ?"

Listener = Callable[[Identity], None]
DesiredListener = Callable[[Identity, Json], None]


@dataclass(frozen=True)
class TwinChange:
    """What was changed in a twin.

    Attributes:
        replaced: the service side has replaced all of it; no patches are given then.
        tags: patch of the tags; None when they stayed.
        desired: patch of the desired properties.
        reported: patch of the reported properties.
    """

    replaced: bool = False
    tags: Json | None = None
    desired: Json | None = None
    reported: Json | None = None


TwinListener = Callable[[Identity, TwinChange], None]


class Registry:
    """All identities of the hub.

    Attributes:
        on_desired: called with the identity and the patch when desired properties change.
        on_change: called when something changed that a target condition may read.
        on_removed: called when an identity is gone, or may no longer connect.
        on_created: called with a new identity.
        on_deleted: called with an identity that is gone.
        on_twin: called with each change of a twin.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._devices: dict[str, Identity] = {}
        self._modules: dict[str, dict[str, Identity]] = {}
        self.on_desired: list[DesiredListener] = []
        self.on_change: list[Listener] = []
        self.on_removed: list[Listener] = []
        self.on_created: list[Listener] = []
        self.on_deleted: list[Listener] = []
        self.on_twin: list[TwinListener] = []
        for device_id, module_id, identity, twin in store.read("SELECT * FROM identities"):
            self._place(Identity.from_json(device_id, module_id, identity, twin))

    def _place(self, identity: Identity) -> None:
        if identity.module_id:
            self._modules.setdefault(identity.device_id, {})[identity.module_id] = identity
        else:
            self._devices[identity.device_id] = identity

    # ---- reading

    def find(self, device_id: str, module_id: str = "") -> Identity | None:
        """The identity, or None."""
        if module_id:
            return self._modules.get(device_id, {}).get(module_id)
        return self._devices.get(device_id)

    def get(self, device_id: str, module_id: str = "") -> Identity:
        """The identity.

        Raises:
            HubFault: 404, when there is none.
        """
        identity = self.find(device_id, module_id)
        if identity is not None:
            return identity
        if device_id not in self._devices:
            raise HubFault(404, "DeviceNotFound", f"no device {device_id!r} is registered")
        raise HubFault(404, "ModuleNotFound", f"device {device_id!r} has no module {module_id!r}")

    def devices(self) -> Iterator[Identity]:
        """All devices, in the order they were registered."""
        return iter(list(self._devices.values()))

    def modules(self, device_id: str | None = None) -> Iterator[Identity]:
        """The modules of one device, or of all."""
        if device_id is not None:
            return iter(list(self._modules.get(device_id, {}).values()))
        return (module for group in list(self._modules.values()) for module in list(group.values()))

    # ---- identities

    def put(self, device_id: str, module_id: str, document: Json, if_match: str | None) -> Identity:
        """Create an identity (no `if_match`), or update the one with that ETag.

        Raises:
            HubFault: 404, 409 or 412 as the case is; 400 for a bad document.
        """
        check_id(device_id, "deviceId")
        self._check_names(device_id, module_id, document)
        present = self.find(device_id, module_id)
        if module_id:
            self.get(device_id)
            check_id(module_id, "moduleId")
        if if_match is None and present is not None:
            kind = "Module" if module_id else "Device"
            raise HubFault(409, f"{kind}AlreadyExists", f"{present.client_id!r} is registered")
        if present is None:
            if if_match is not None:
                self.get(device_id, module_id)
            return self._create(device_id, module_id, document)
        check_etag(if_match, present.etag, document.get("etag"))
        present.update(document)
        self.save(present)
        for listener in self.on_change:
            listener(present)
        if present.status == "disabled":
            for listener in self.on_removed:
                listener(present)
        return present

    def _check_names(self, device_id: str, module_id: str, document: Json) -> None:
        for field, expected in (("deviceId", device_id), ("moduleId", module_id)):
            sent = document.get(field)
            if sent is not None and sent != expected and expected:
                raise HubFault(
                    400, "ArgumentInvalid", f"{field} in the body is not the one in the address"
                )

    def _create(self, device_id: str, module_id: str, document: Json) -> Identity:
        if module_id and len(self._modules.get(device_id, {})) >= MODULES_PER_DEVICE:
            raise HubFault(
                403,
                "ModuleCountExceeded",
                f"device {device_id!r} has {MODULES_PER_DEVICE} modules, the most it can have",
            )
        identity = Identity(device_id, module_id)
        identity.update(document)
        self._place(identity)
        self.save(identity)
        for listener in self.on_created:
            listener(identity)
        if identity.edge:
            for name in EDGE_MODULES:
                self.ensure_module(device_id, name)
        for listener in self.on_change:
            listener(identity)
        return identity

    def ensure_module(self, device_id: str, module_id: str) -> Identity:
        """The module, created for the edge runtime if it is not there."""
        present = self.find(device_id, module_id)
        return present or self._create(device_id, module_id, {"managedBy": "IotEdge"})

    def delete(self, device_id: str, module_id: str, if_match: str | None) -> None:
        """Delete an identity; a device goes with all its modules.

        Raises:
            HubFault: 404 or 412; 400 for the two modules that an edge device cannot be without.
        """
        identity = self.get(device_id, module_id)
        check_etag(if_match, identity.etag)
        if module_id in EDGE_MODULES and self.get(device_id).edge:
            raise HubFault(400, "ArgumentInvalid", f"{module_id} belongs to every edge device")
        if module_id:
            self._drop(self._modules[device_id].pop(module_id))
            return
        for module in self._modules.pop(device_id, {}).values():
            self._drop(module)
        self._drop(self._devices.pop(device_id))

    def _drop(self, identity: Identity) -> None:
        self._store.write(DELETE, (identity.device_id, identity.module_id))
        for listener in (*self.on_removed, *self.on_deleted):
            listener(identity)

    def save(self, identity: Identity) -> None:
        """Queue the identity and its twin for the disk."""
        row = (
            identity.device_id,
            identity.module_id,
            identity.to_json(),
            identity.twin.to_json(),
        )
        self._store.write(SAVE, row)

    # ---- twins

    def change_twin(
        self, identity: Identity, document: Json, if_match: str | None, replace: bool
    ) -> None:
        """Patch or replace tags and desired properties from the service side.

        Raises:
            HubFault: 400, 412 or 413; the twin is then as it was.
        """
        twin = identity.twin
        check_etag(if_match, twin.etag)
        properties = document.get("properties") or {}
        if not isinstance(properties, dict):
            raise HubFault(400, "ArgumentInvalid", "properties must be a JSON object")
        sent_tags, sent_desired = document.get("tags"), properties.get("desired")
        tags, change = twin.tags, None
        if sent_tags is not None or replace:
            change = check_section(sent_tags or {}, "tags")
            tags = merge({} if replace else twin.tags, change)
            check_size(tags, "tags", TAGS_LIMIT)
        desired: Json | None = None
        if sent_desired is not None or replace:
            desired = check_section(sent_desired or {}, "properties.desired")
            base = {} if replace else twin.desired.value
            check_size(merge(base, desired), "properties.desired", PROPERTIES_LIMIT)
        twin.tags = tags
        if desired is not None:
            self._set_desired(identity, desired, replace)
        twin.changed()
        self.save(identity)
        self._tell(identity, TwinChange(True) if replace else TwinChange(False, change, desired))
        for listener in self.on_change:
            listener(identity)

    def _tell(self, identity: Identity, change: TwinChange) -> None:
        for listener in self.on_twin:
            listener(identity, change)

    def _set_desired(self, identity: Identity, desired: Json, replace: bool) -> None:
        section = identity.twin.desired
        notice = desired
        if replace:
            gone = {key: None for key in section.value if key not in desired}
            notice = {**desired, **gone}
            section.replace(desired)
        else:
            section.patch(desired)
        for listener in self.on_desired:
            listener(identity, notice)

    def replace_desired(self, identity: Identity, desired: Json) -> None:
        """Set the desired properties as a configuration has them, if they differ.

        The device is told what changed at the top level: new values, and null for what is gone.
        """
        section = identity.twin.desired
        if section.value == desired:
            return
        changed: Json = {k: v for k, v in desired.items() if section.value.get(k) != v}
        gone = {key: None for key in section.value if key not in desired}
        section.replace(desired)
        identity.twin.changed()
        self.save(identity)
        self._tell(identity, TwinChange(desired={**changed, **gone}))
        for listener in self.on_desired:
            listener(identity, {**changed, **gone})

    def report(self, identity: Identity, patch: Any) -> int:
        """Merge a patch of reported properties that the device itself sent.

        Returns:
            The new version of the reported properties.

        Raises:
            HubFault: 400 or 413; the twin is then as it was.
        """
        twin = identity.twin
        change = check_section(patch, "properties.reported")
        check_size(merge(twin.reported.value, change), "properties.reported", PROPERTIES_LIMIT)
        twin.reported.patch(change)
        twin.changed()
        self.save(identity)
        self._tell(identity, TwinChange(reported=change))
        for listener in self.on_change:
            listener(identity)
        return twin.reported.version


def check_etag(if_match: str | None, present: str, sent_in_body: str | None = None) -> None:
    """Refuse a change made on an outdated copy.

    Args:
        if_match: the If-Match header; None and `*` match everything. When it is None, an ETag
            inside the body counts.
        present: the ETag of what is there.
        sent_in_body: the `etag` member of the document, where there is one.

    Raises:
        HubFault: 412, when they differ.
    """
    expected = if_match if if_match is not None else sent_in_body
    if expected is None:
        return
    expected = expected.strip().removeprefix("W/").strip('"')
    if expected not in ("*", present):
        raise HubFault(412, "PreconditionFailed", f"the ETag is {present!r}, not {expected!r}")
