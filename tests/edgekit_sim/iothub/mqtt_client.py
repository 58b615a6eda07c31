"""A blocking MQTT client of a few lines, to say what no SDK would."""

import contextlib
import os
import socket
import ssl
import time

from edgekit_sim.iothub import tokens
from edgekit_sim.iothub.client import HubClient

SECONDS = 10.0


def text(value: str) -> bytes:
    """A string with its length before it."""
    return len(value.encode()).to_bytes(2) + value.encode()


def packet(first: int, body: bytes) -> bytes:
    """A control packet."""
    length, encoded = len(body), b""
    while True:
        length, byte = divmod(length, 128)
        encoded += bytes([byte | 0x80 if length else byte])
        if not length:
            return bytes([first]) + encoded + body


def connect_packet(client_id: str, username: str, password: str, flags: int = 0xC0) -> bytes:
    """A CONNECT packet; the flags say that a user name and a password follow."""
    header = text("MQTT") + bytes([4, flags, 0, 60])
    return packet(0x10, header + text(client_id) + text(username) + text(password))


def publish(topic: str, payload: bytes, packet_id: int) -> bytes:
    """A PUBLISH packet with QoS 1."""
    return packet(0x32, text(topic) + packet_id.to_bytes(2) + payload)


def hello(
    hub: HubClient, device_id: str, *, expiry: float = 600.0, resource: str = "", module: str = ""
) -> bytes:
    """The CONNECT packet of a device or module, which is registered if it was not."""
    hub.create_device(device_id)
    path = f"/devices/{device_id}"
    if module:
        path += f"/modules/{module}"
        if all(
            m["moduleId"] != module for m in hub.request("GET", f"/devices/{device_id}/modules")
        ):
            hub.request("PUT", path, {})
    key = hub.request("GET", path)["authentication"]["symmetricKey"]["primaryKey"]
    token = tokens.sign(resource or f"{hub.hostname}{path}", key, int(time.time() + expiry))
    client_id = f"{device_id}/{module}" if module else device_id
    user = f"{hub.hostname}/{client_id}/?api-version=2021-04-12"
    return connect_packet(client_id, user, token)


def end_sending(one: socket.socket) -> None:
    """Close a connection's sending half, below TLS, which would close its own both ways."""
    with socket.socket(fileno=os.dup(one.fileno())) as same, contextlib.suppress(OSError):
        same.shutdown(socket.SHUT_WR)  # unless the hub has reset it


class Raw:
    """A client that says what it is told to say, over TLS."""

    def __init__(self, hub: HubClient) -> None:
        context = ssl.create_default_context(cafile=hub.ca_file)
        plain = socket.create_connection((hub.gateway, hub.ports["mqtt"]), timeout=SECONDS)
        self._socket = context.wrap_socket(plain, server_hostname=hub.gateway)

    def say(self, data: bytes) -> None:
        self._socket.sendall(data)

    def hear(self, size: int) -> bytes:
        """`size` bytes, fewer when the hub closes the connection."""
        heard = b""
        try:
            while len(heard) < size and (more := self._socket.recv(size - len(heard))):
                heard += more
        except ConnectionResetError:
            return heard
        return heard

    def end(self) -> None:
        """Say no more; what the hub says is still heard."""
        end_sending(self._socket)

    def close(self) -> None:
        self._socket.close()
