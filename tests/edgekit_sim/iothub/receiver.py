"""Receives what waits for the service side with uamqp, as azure-iot-hub's users do."""

import time
from typing import Any

import uamqp
from azure.core.credentials import AccessToken

from edgekit_sim.iothub import tokens
from edgekit_sim.iothub.handle import HubHandle

FEEDBACK = "/messages/serviceBound/feedback"
FILES = "/messages/serviceBound/filenotifications"
SECONDS = 20.0


def auth(hub: HubHandle) -> Any:
    """A token as azure-iot-hub makes it."""
    fields = dict(part.split("=", 1) for part in hub.service_connection_string.split(";"))
    host = fields["HostName"]

    def get_token() -> Any:
        expiry = int(time.time()) + 600
        name = fields["SharedAccessKeyName"]
        text = tokens.sign(host, fields["SharedAccessKey"], expiry, name)
        return AccessToken(text, expiry)

    made = uamqp.authentication.JWTTokenAuth(
        audience=f"https://{host}",
        uri=f"https://{host}",
        get_token=get_token,
        token_type=b"servicebus.windows.net:sastoken",
    )
    made.update_token()
    return made


class Receiver:
    """Receives from an address; one client at a time, or they would share what is there."""

    def __init__(self, hub: HubHandle, address: str) -> None:
        self._hub = hub
        self._address = address
        self._client: Any = None

    def __call__(self) -> list[Any]:
        self.close()
        host = self._hub.service_connection_string.split(";")[0].removeprefix("HostName=")
        self._client = uamqp.ReceiveClient(
            f"amqps://{host}{self._address}", auth=auth(self._hub), prefetch=1, auto_complete=False
        )
        end = time.monotonic() + SECONDS
        found: list[Any] = []
        while not found and time.monotonic() < end:
            found = self._client.receive_message_batch(max_batch_size=1, timeout=500)
        return found

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
