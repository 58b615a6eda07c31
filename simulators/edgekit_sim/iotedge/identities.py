"""The identities of a device's modules, taken from the hub with the device's own key.

On a real device the identity service does this: it asks the hub's registry for the modules of its
own device, and keeps their keys; modules never see a key, they have data signed.
"""

import base64
import binascii
import hashlib
import hmac
import json
import ssl
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import quote

import httpx

from edgekit.wholefile import whole_file
from edgekit_sim.iotedge.config import ConnectionString
from edgekit_sim.iotedge.errors import DeviceError

API_VERSION = "2021-04-12"
TOKEN_LIFE = 600  # seconds


@dataclass(frozen=True)
class ModuleIdentity:
    """A module's name at the hub, the generation of that name, and its key in base64."""

    name: str
    generation: str
    key: str = field(repr=False)


def sign(key: str, data: bytes) -> str:
    """HMAC-SHA256 of `data` under a base64 key, in base64."""
    try:
        secret = base64.b64decode(key, validate=True)
    except binascii.Error as error:
        raise DeviceError(
            "a key is no base64", "take the connection string from the hub"
        ) from error
    return base64.b64encode(hmac.digest(secret, data, hashlib.sha256)).decode()


def device_token(connection: ConnectionString) -> str:
    """A shared access signature for the device itself."""
    resource = quote(f"{connection.host}/devices/{connection.device_id}", safe="")
    expiry = int(time.time()) + TOKEN_LIFE
    signature = quote(sign(connection.key, f"{resource}\n{expiry}".encode()), safe="")
    return f"SharedAccessSignature sr={resource}&sig={signature}&se={expiry}"


class Identities:
    """What the device knows of its modules' identities, kept over restarts.

    Args:
        connection: the device's own.
        rest: base URL of the hub's REST side.
        ca: PEM file for its certificate, or empty.
        path: where they are kept, readable by the owner only.
    """

    def __init__(self, connection: ConnectionString, rest: str, ca: str, path: Path) -> None:
        self._connection = connection
        self._rest = rest.rstrip("/")
        self._path = path
        self._tls = ssl.create_default_context(cafile=ca or None)
        self._known: dict[str, ModuleIdentity] = {}
        if path.exists():
            kept = json.loads(path.read_text())
            self._known = {entry["name"]: ModuleIdentity(**entry) for entry in kept}

    def find(self, name: str) -> ModuleIdentity | None:
        """What is known of a module, without asking the hub."""
        return self._known.get(name)

    def refresh(self) -> None:
        """Ask the hub for all modules of this device.

        Raises:
            DeviceError: it does not answer, or refuses.
        """
        url = f"{self._rest}/devices/{quote(self._connection.device_id, safe='')}/modules"
        headers = {"Authorization": device_token(self._connection)}
        try:
            with httpx.Client(verify=self._tls, timeout=20, trust_env=False) as client:
                reply = client.get(url, params={"api-version": API_VERSION}, headers=headers)
        except httpx.HTTPError as error:
            raise DeviceError(f"the hub at {self._rest} does not answer: {error}") from error
        if reply.status_code != 200:
            raise DeviceError(f"the hub at {self._rest} refuses the device: {reply.status_code}")
        known = {}
        for module in reply.json():
            key = module["authentication"].get("symmetricKey", {}).get("primaryKey") or ""
            known[module["moduleId"]] = ModuleIdentity(
                module["moduleId"], str(module["generationId"]), key
            )
        if known != self._known:
            self._known = known
            self._keep()

    def _keep(self) -> None:
        known = [asdict(identity) for identity in self._known.values()]
        with whole_file(self._path, 0o600) as file:
            file.write(json.dumps(known).encode())
