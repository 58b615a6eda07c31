"""Linked hubs: where devices are created, in this process or over another hub's REST API."""

import ssl
import time
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

import aiohttp
import orjson

from edgekit_sim.dps import errors
from edgekit_sim.dps.attestation import Json
from edgekit_sim.dps.errors import BAD_REQUEST, ProvisioningFault
from edgekit_sim.iothub import tokens
from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.hub import Hub
from edgekit_sim.iothub.store import Store

TOKEN_SECONDS = 600
CALL_SECONDS = 10.0
SAVE = "INSERT OR REPLACE INTO dps_hubs VALUES (?,?)"
OWN = ""  # the name under which the store keeps the settings of the hub in this process
DELETE = "DELETE FROM dps_hubs WHERE name = ?"


class Registry(Protocol):
    """The identity registry of a linked hub.

    A device is written as the REST API of IoT Hub takes it, a twin with `tags` and
    `properties.desired`.
    """

    async def device(self, device_id: str) -> Json | None:
        """A device's identity, or None."""

    async def twin(self, device_id: str) -> Json:
        """The twin of a device that is there."""

    async def put_device(self, device_id: str, document: Json, *, update: bool) -> None:
        """Create a device, or update the one that is there."""

    async def replace_twin(self, device_id: str, twin: Json) -> None:
        """Set tags and desired properties, in the place of all that were there."""

    async def delete_device(self, device_id: str) -> None:
        """Delete a device, if it is there."""


class OwnHub:
    """The hub in this process."""

    def __init__(self, hub: Hub) -> None:
        self._registry = hub.registry

    async def device(self, device_id: str) -> Json | None:
        """A device's identity, or None."""
        found = self._registry.find(device_id)
        return found.resource() if found else None

    async def twin(self, device_id: str) -> Json:
        """The twin of a device that is there."""
        return self._registry.get(device_id).twin_resource()

    async def put_device(self, device_id: str, document: Json, *, update: bool) -> None:
        """Create a device, or update the one that is there."""
        self._registry.put(device_id, "", document, "*" if update else None)

    async def replace_twin(self, device_id: str, twin: Json) -> None:
        """Set tags and desired properties, in the place of all that were there."""
        self._registry.change_twin(self._registry.get(device_id), twin, None, replace=True)

    async def delete_device(self, device_id: str) -> None:
        """Delete a device, if it is there."""
        if self._registry.find(device_id) is not None:
            self._registry.delete(device_id, "", None)


class RemoteHub:
    """Another hub, reached by its service connection string.

    Args:
        connection_string: with the right to write the registry and twins.
        authority: PEM of the authority that signed its certificate; "" for those of the system.

    Raises:
        ProvisioningFault: 400, when one of them cannot be read.
    """

    def __init__(self, connection_string: str, authority: str) -> None:
        fields = dict(p.split("=", 1) for p in connection_string.split(";") if "=" in p)
        try:
            self._host = fields["HostName"]
            self._policy, self._key = fields["SharedAccessKeyName"], fields["SharedAccessKey"]
            self._tls = ssl.create_default_context(cadata=authority or None)
        except (KeyError, ssl.SSLError, ValueError) as error:
            raise ProvisioningFault(
                BAD_REQUEST, "Invalid linked hub: connectionString or caCertificate is unreadable."
            ) from error

    async def device(self, device_id: str) -> Json | None:
        """A device's identity, or None."""
        status, document = await self._call("GET", f"/devices/{quote(device_id, safe='')}")
        return document if status == 200 else None

    async def twin(self, device_id: str) -> Json:
        """The twin of a device that is there."""
        document: Json
        _, document = await self._call("GET", f"/twins/{quote(device_id, safe='')}")
        return document

    async def put_device(self, device_id: str, document: Json, *, update: bool) -> None:
        """Create a device, or update the one that is there."""
        path = f"/devices/{quote(device_id, safe='')}"
        await self._call("PUT", path, {"deviceId": device_id, **document}, any_etag=update)

    async def replace_twin(self, device_id: str, twin: Json) -> None:
        """Set tags and desired properties, in the place of all that were there."""
        await self._call("PUT", f"/twins/{quote(device_id, safe='')}", twin, any_etag=True)

    async def delete_device(self, device_id: str) -> None:
        """Delete a device, if it is there."""
        await self._call("DELETE", f"/devices/{quote(device_id, safe='')}", any_etag=True)

    async def _call(
        self, method: str, path: str, body: Json | None = None, *, any_etag: bool = False
    ) -> tuple[int, Any]:
        """Call the hub; 404 is an answer, everything else that is no success a HubFault."""
        expiry = int(time.time()) + TOKEN_SECONDS
        headers = {"Authorization": tokens.sign(self._host, self._key, expiry, self._policy)}
        if any_etag:
            headers["If-Match"] = "*"
        address = f"https://{self._host}{path}?api-version=2021-04-12"
        limit = aiohttp.ClientTimeout(total=CALL_SECONDS)
        try:
            async with (
                aiohttp.ClientSession(timeout=limit, skip_auto_headers=["Content-Type"]) as session,
                session.request(
                    method,
                    address,
                    data=orjson.dumps(body) if body is not None else None,
                    headers=headers,
                    ssl=self._tls,
                ) as response,
            ):
                text = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise HubFault(503, "ServiceUnavailable", f"{self._host} does not answer") from error
        document = orjson.loads(text) if text else {}
        if response.status >= 400 and response.status != 404:
            raise HubFault(response.status, "Refused", str(document.get("Message", "refused")))
        return response.status, document


@dataclass(frozen=True)
class LinkedHub:
    """A hub that devices can be assigned to.

    Attributes:
        name: what a device is told as its hub; it connects to this name.
        registry: where its devices are created.
        weight: its share under the policy `hashed`, 1 to 1000.
        latency: milliseconds that the policy `geoLatency` takes for its distance from devices.
        used: whether it takes part in allocation where an enrolment names no hubs.
        aliases: other names by which enrolments may call it.
    """

    name: str
    registry: Registry
    weight: int = 1
    latency: float = 0.0
    used: bool = True
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.weight <= 1000:
            raise ProvisioningFault(
                BAD_REQUEST, "Invalid linked hub: allocationWeight must be 1 to 1000."
            )
        if self.latency < 0:
            raise ProvisioningFault(BAD_REQUEST, "Invalid linked hub: latency is below 0.")

    def resource(self) -> Json:
        """The link without its connection string."""
        return {
            "name": self.name,
            "allocationWeight": self.weight,
            "latency": self.latency,
            "applyAllocationPolicy": self.used,
        }


class LinkedHubs:
    """The hubs of the service: its own, and those linked to it.

    Args:
        store: where links are kept.
        own: the hub in this process.
    """

    def __init__(self, store: Store, own: LinkedHub) -> None:
        self._store = store
        self._own = own
        self._hubs = {own.name.lower(): own}
        for name, document in store.read("SELECT name, document FROM dps_hubs"):
            hub = _read(name, orjson.loads(document), own)
            self._hubs[hub.name.lower()] = hub

    def all(self) -> list[LinkedHub]:
        """All linked hubs, the own one first."""
        return list(self._hubs.values())

    def find(self, name: str) -> LinkedHub | None:
        """The hub of a name or alias, or None."""
        wanted = name.lower()
        found = self._hubs.get(wanted)
        return found or next((hub for hub in self.all() if wanted in hub.aliases), None)

    def link(self, name: str, document: Json) -> LinkedHub:
        """Link a hub, or change a link.

        Raises:
            ProvisioningFault: 400, saying what is wrong with it.
        """
        if not name or any(character in name for character in "/;= "):
            raise ProvisioningFault(BAD_REQUEST, "Invalid linked hub: its name is no host name.")
        present = self.find(name)
        key = OWN if present is not None and present.name == self._own.name else name
        hub = _read(key, document, self._own)
        self._hubs[hub.name.lower()] = hub
        self._store.write(SAVE, (key, orjson.dumps(document)))
        return hub

    def unlink(self, name: str) -> None:
        """Take a link away; its devices stay where they are.

        Raises:
            ProvisioningFault: 404, when there is none; 400 for the hub in this process.
        """
        hub = self.find(name)
        if hub is None:
            raise ProvisioningFault(errors.NOT_FOUND, "Linked hub not found.")
        if hub.name == self._own.name:
            raise ProvisioningFault(BAD_REQUEST, "The hub in this process cannot be unlinked.")
        del self._hubs[hub.name.lower()]
        self._store.write(DELETE, (hub.name,))


def _read(name: str, document: Json, own: LinkedHub) -> LinkedHub:
    try:
        settings: Json = {
            "weight": int(document.get("allocationWeight", 1)),
            "latency": float(document.get("latency", 0.0)),
            "used": bool(document.get("applyAllocationPolicy", True)),
        }
    except (TypeError, ValueError) as error:
        raise ProvisioningFault(
            BAD_REQUEST, "Invalid linked hub: allocationWeight and latency are numbers."
        ) from error
    if name == OWN:
        return LinkedHub(own.name, own.registry, aliases=own.aliases, **settings)
    remote = RemoteHub(
        str(document.get("connectionString", "")), str(document.get("caCertificate") or "")
    )
    return LinkedHub(name, remote, **settings)
