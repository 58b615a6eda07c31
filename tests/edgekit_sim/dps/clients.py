"""The provisioning service's two HTTP APIs, called by hand; and an end for SDK clients."""

import json
import ssl
import threading
import time
import urllib.error
import urllib.request
from typing import Any

from edgekit_sim.iothub import tokens
from edgekit_sim.iothub.handle import HubHandle


class Api:
    """The REST API of a provisioning service, called with the rights of one policy."""

    def __init__(self, hub: HubHandle, policy: str = "", key: str = "") -> None:
        fields = dict(p.split("=", 1) for p in hub.dps_service_connection_string.split(";"))
        self._host = fields["HostName"]
        self._policy = policy or fields["SharedAccessKeyName"]
        self._key = key or fields["SharedAccessKey"]
        self._context = ssl.create_default_context(cafile=hub.ca_file)

    def token(self, seconds: float = 600) -> str:
        return tokens.sign(self._host, self._key, int(time.time() + seconds), self._policy)

    def call(
        self, method: str, path: str, document: Any = None, token: str = "", **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, body and headers (lower case) of the answer, whatever it is."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        sent |= {"Authorization": token or self.token(), "Content-Type": "application/json"}
        body = document if isinstance(document, bytes | None) else json.dumps(document).encode()
        request = urllib.request.Request(f"https://{self._host}{path}", body, sent, method=method)
        try:
            with urllib.request.urlopen(request, context=self._context, timeout=20) as response:
                text, status, got = response.read(), response.status, response.headers
        except urllib.error.HTTPError as error:
            with error:
                text, status, got = error.read(), error.code, error.headers
        return (
            status,
            json.loads(text) if text else None,
            {name.lower(): value for name, value in got.items()},
        )

    def enroll(self, registration_id: str, **settings: Any) -> str:
        """Enrol a device by symmetric key; returns its primary key."""
        document = {"attestation": {"type": "symmetricKey"}, **settings}
        _, kept, _ = self.call("PUT", f"/enrollments/{registration_id}", document)
        return str(kept["attestation"]["symmetricKey"]["primaryKey"])

    def enroll_group(self, group_id: str, **settings: Any) -> str:
        """Enrol a group by symmetric key; returns its primary key."""
        document = {"attestation": {"type": "symmetricKey"}, **settings}
        _, kept, _ = self.call("PUT", f"/enrollmentGroups/{group_id}", document)
        return str(kept["attestation"]["symmetricKey"]["primaryKey"])


class Device:
    """A device that registers by HTTP, which is quicker than what the SDK does by MQTT."""

    def __init__(self, hub: HubHandle, registration_id: str, key: str) -> None:
        self._api = Api(hub)
        self._key = key
        self.id = registration_id
        self.path = f"/{hub.dps_id_scope}/registrations/{registration_id}"

    def token(self, seconds: float = 600) -> str:
        resource = self.path.removeprefix("/")
        return tokens.sign(resource, self._key, int(time.time() + seconds), "registration")

    def begin(self, payload: Any = None, token: str = "") -> tuple[int, Any, dict[str, str]]:
        document = {"registrationId": self.id, "payload": payload}
        return self._api.call("PUT", f"{self.path}/register", document, token or self.token())

    def status(self, operation: str) -> tuple[int, Any, dict[str, str]]:
        return self._api.call("GET", f"{self.path}/operations/{operation}", None, self.token())

    def lookup(self) -> tuple[int, Any, dict[str, str]]:
        return self._api.call("POST", self.path, {"registrationId": self.id}, self.token())

    def register(self, payload: Any = None) -> dict[str, Any]:
        """Register and wait; the registration state, assigned or failed."""
        _, begun, _ = self.begin(payload)
        return self.outcome(begun["operationId"])

    def outcome(self, operation: str) -> dict[str, Any]:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            status, document, _ = self.status(operation)
            if status != 202:
                state: dict[str, Any] = document["registrationState"]
                return state
            time.sleep(0.02)
        raise AssertionError(f"{self.id} is still being assigned")


def end(client: Any) -> None:
    """End a client that was refused: it goes on reconnecting, and the SDK has no way to stop it."""
    if client._pipeline._running:
        ended = threading.Event()
        client._pipeline.shutdown(callback=lambda **_: ended.set())
        assert ended.wait(10)
