"""Devices and modules as the hub keeps them: who they are, how they prove it, and their twin."""

import hashlib
import re
import time
from typing import Any

import orjson

from edgekit_sim.iothub import tokens
from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.twins import EPOCH, Json, Twin, new_etag, timestamp

_ID = re.compile(r"[A-Za-z0-9\-:.+%_#*?!(),=@;$']{1,128}")
_THUMBPRINT = re.compile(r"(?:[0-9A-Fa-f]{40}|[0-9A-Fa-f]{64})")
AUTHENTICATIONS = ("sas", "selfSigned", "certificateAuthority", "none")
EDGE_MODULES = ("$edgeAgent", "$edgeHub")


def check_id(identifier: str, what: str) -> str:
    """Take a device, module or configuration id, or refuse it with 400."""
    if not _ID.fullmatch(identifier):
        raise HubFault(
            400,
            "ArgumentInvalid",
            f"{what} {identifier[:40]!r} is not 1 to 128 of the letters, digits and - : . + % _ # *"
            " ? ! ( ) , = @ ; $ '",
        )
    return identifier


class Identity:
    """A device, or a module of a device, with its twin.

    Attributes:
        device_id: the device.
        module_id: the module, or "" for the device itself.
        keys: primary and secondary symmetric key, base64.
        thumbprints: primary and secondary certificate thumbprint, hexadecimal.
        configurations: automatic configurations in force here: id to status.
        connected: whether a client of this identity is connected now.
    """

    __slots__ = (
        "authentication",
        "commands",
        "configurations",
        "connected",
        "created",
        "device_id",
        "edge",
        "etag",
        "generation_id",
        "keys",
        "last_activity",
        "managed_by",
        "module_id",
        "parent_scopes",
        "scope",
        "state_changed",
        "status",
        "status_changed",
        "status_reason",
        "thumbprints",
        "twin",
    )

    def __init__(self, device_id: str, module_id: str = "") -> None:
        self.device_id = device_id
        self.module_id = module_id
        self.generation_id = str(time.time_ns() // 100)
        self.etag = new_etag()
        self.status = "enabled"
        self.status_reason = ""
        self.status_changed = EPOCH
        self.state_changed = EPOCH
        self.last_activity = EPOCH
        self.created = timestamp()
        self.authentication = "sas"
        self.keys: tuple[str, ...] = (tokens.new_key(), tokens.new_key())
        self.thumbprints: tuple[str, ...] = ()
        self.edge = False
        self.scope = ""
        self.parent_scopes: list[str] = []
        self.managed_by = ""
        self.configurations: dict[str, str] = {}
        self.twin = Twin()
        self.connected = False
        self.commands = 0

    @property
    def client_id(self) -> str:
        """The MQTT client id: `device` or `device/module`."""
        return f"{self.device_id}/{self.module_id}" if self.module_id else self.device_id

    def update(self, document: Json) -> None:
        """Take over what a client may set of the identity resource.

        Raises:
            HubFault: 400, when a field cannot be so.
        """
        authentication = _object(document, "authentication")
        kind = authentication.get("type") or _implied_type(authentication)
        if kind not in AUTHENTICATIONS:
            raise HubFault(400, "ArgumentInvalid", f"authentication.type {kind!r} is unknown")
        status = document.get("status") or "enabled"
        if status not in ("enabled", "disabled"):
            raise HubFault(400, "ArgumentInvalid", f"status {status!r} is not enabled or disabled")
        edge = _object(document, "capabilities").get("iotEdge")
        if edge is not None and not self.module_id:
            self.edge = bool(edge)
        keys = self._read_keys(authentication) if kind == "sas" else ()
        self.thumbprints = _read_thumbprints(authentication) if kind == "selfSigned" else ()
        self.authentication, self.keys = kind, keys
        if status != self.status:
            self.status_changed = timestamp()
        self.status = status
        self.status_reason = document.get("statusReason") or ""
        self.managed_by = document.get("managedBy") or self.managed_by
        self._read_scopes(document)
        self.etag = new_etag()

    def _read_keys(self, authentication: Json) -> tuple[str, ...]:
        sent = _object(authentication, "symmetricKey")
        primary, secondary = sent.get("primaryKey"), sent.get("secondaryKey")
        present = self.keys if len(self.keys) == 2 else (tokens.new_key(), tokens.new_key())
        for key in (primary, secondary):
            if key and not (isinstance(key, str) and tokens.is_key(key)):
                raise HubFault(
                    400, "DeviceInvalid", "a symmetric key must be base64 of 16 to 64 bytes"
                )
        return (primary or present[0], secondary or present[1])

    def _read_scopes(self, document: Json) -> None:
        parents = document.get("parentScopes") or []
        if self.edge:
            if not self.scope:
                self.scope = f"ms-azure-iot-edge://{self.device_id}-{self.generation_id}"
        elif not self.module_id:
            self.scope = document.get("deviceScope") or (parents[0] if parents else "")
            parents = parents or ([self.scope] if self.scope else [])
        self.parent_scopes = list(parents)

    def certificate_fits(self, certificate: bytes) -> bool:
        """Say whether a DER certificate has one of this identity's thumbprints."""
        seen = {hashlib.sha1(certificate, usedforsecurity=False).hexdigest()}
        seen.add(hashlib.sha256(certificate).hexdigest())
        return any(print_.lower() in seen for print_ in self.thumbprints if print_)

    def resource(self) -> Json:
        """The identity as the registry answers it: a Device or a Module."""
        common = {
            "deviceId": self.device_id,
            "generationId": self.generation_id,
            "etag": self.etag,
            "connectionState": self.connection_state,
            "connectionStateUpdatedTime": self.state_changed,
            "lastActivityTime": self.last_activity,
            "cloudToDeviceMessageCount": self.commands,
            "authentication": self._authentication(),
        }
        if self.module_id:
            return {**common, "moduleId": self.module_id, "managedBy": self.managed_by or None}
        return {
            **common,
            "status": self.status,
            "statusReason": self.status_reason or None,
            "statusUpdatedTime": self.status_changed,
            "capabilities": {"iotEdge": self.edge},
            **({"deviceScope": self.scope} if self.scope else {}),
            "parentScopes": self.parent_scopes,
        }

    def _authentication(self) -> Json:
        keys = self.keys or (None, None)
        prints = self.thumbprints or (None, None)
        return {
            "symmetricKey": {"primaryKey": keys[0], "secondaryKey": keys[1]},
            "x509Thumbprint": {"primaryThumbprint": prints[0], "secondaryThumbprint": prints[1]},
            "type": self.authentication,
        }

    @property
    def connection_state(self) -> str:
        """`Connected` or `Disconnected`."""
        return "Connected" if self.connected else "Disconnected"

    def twin_resource(self) -> Json:
        """The twin as the service side gets it, by REST and from queries."""
        prints = self.thumbprints or (None, None)
        document: Json = {
            "deviceId": self.device_id,
            "etag": self.twin.etag,
            "deviceEtag": self.etag,
            "status": self.status,
            "statusUpdateTime": self.status_changed,
            "connectionState": self.connection_state,
            "lastActivityTime": self.last_activity,
            "cloudToDeviceMessageCount": self.commands,
            "authenticationType": self.authentication,
            "x509Thumbprint": {"primaryThumbprint": prints[0], "secondaryThumbprint": prints[1]},
            "modelId": self.twin.model_id,
            "version": self.twin.version,
        }
        if self.module_id:
            document["moduleId"] = self.module_id
        else:
            document["tags"] = self.twin.tags
            document["capabilities"] = {"iotEdge": self.edge}
            if self.scope:
                document["deviceScope"] = self.scope
            document["parentScopes"] = self.parent_scopes
        if self.module_id and self.twin.tags:
            document["tags"] = self.twin.tags
        if self.configurations:
            document["configurations"] = {
                name: {"status": status} for name, status in self.configurations.items()
            }
        document["properties"] = {
            "desired": self.twin.desired.for_service(),
            "reported": self.twin.reported.for_service(),
        }
        return document

    def to_json(self) -> bytes:
        """The identity without its twin, as the store keeps it."""
        return orjson.dumps({name: getattr(self, name) for name in _STORED})

    @classmethod
    def from_json(cls, device_id: str, module_id: str, identity: bytes, twin: bytes) -> "Identity":
        """The identity that `to_json` wrote."""
        restored = cls.__new__(cls)
        restored.device_id, restored.module_id = device_id, module_id
        for name, value in orjson.loads(identity).items():
            setattr(restored, name, tuple(value) if name in ("keys", "thumbprints") else value)
        restored.connected = False
        restored.commands = 0
        restored.twin = Twin.from_json(twin)
        return restored


_STORED = tuple(
    name
    for name in Identity.__slots__
    if name not in ("device_id", "module_id", "twin", "connected", "commands")
)


def _object(document: Json, name: str) -> Json:
    value = document.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise HubFault(400, "ArgumentInvalid", f"{name} must be a JSON object")
    return value


def _implied_type(authentication: Json) -> str:
    prints: Any = authentication.get("x509Thumbprint") or {}
    return "selfSigned" if any(prints.values()) else "sas"


def _read_thumbprints(authentication: Json) -> tuple[str, ...]:
    sent = _object(authentication, "x509Thumbprint")
    prints = (sent.get("primaryThumbprint") or "", sent.get("secondaryThumbprint") or "")
    for text in prints:
        if text and not _THUMBPRINT.fullmatch(text):
            raise HubFault(400, "DeviceInvalid", "a thumbprint must be 40 or 64 hexadecimal digits")
    if not any(prints):
        raise HubFault(400, "DeviceInvalid", "selfSigned needs at least one thumbprint")
    return prints
