"""Addresses and ports: which the hub listens on, and what to say when it cannot."""

import errno
import logging
import resource
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from edgekit_sim.iothub.errors import SimulatorError

MQTT_PORT = 8883  # fixed in the device SDKs
WEBSOCKET_PORT = 443  # fixed in the device SDKs
AMQPS_PORT = 5671  # fixed in uamqp, which azure-iot-hub uses for cloud-to-device messages
AMQP_PORT = 5672  # what azure-eventhub uses with UseDevelopmentEmulator=true
HTTPS_PORT = 8443  # first choice; HostName in a service connection string can name any
AUTO = "auto"
BACKLOG = 4096
OWN_DESCRIPTORS = 100  # of the hub itself: listeners, the database, the event loop
MANY_DEVICES = 10_000  # what a hub should be able to hold

logger = logging.getLogger(__name__)


def raise_descriptor_limit() -> int:
    """Let this process open as many connections as it may; returns how many that are.

    The usual limit of 1,024 is for programs that use select(2). Where even the highest allowed one
    is too low for many devices, a line in the log says so.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    room = hard - OWN_DESCRIPTORS
    if room < MANY_DEVICES:
        logger.warning(
            "only about %d connections fit: no process may open more than %d files here;"
            " raise that with ulimit -Hn, LimitNOFILE= (systemd) or --ulimit nofile= (docker)",
            max(0, room),
            hard,
        )
    return room


@dataclass
class Sockets:
    """The hub's listening sockets, by what is spoken on them.

    Attributes:
        addresses: the addresses all of them are bound to.
        ports: `mqtt`, `https`, and where they are open `websocket` and `mqtt_plain`.
        sockets: one for each address.
    """

    addresses: tuple[str, ...]
    ports: dict[str, int] = field(default_factory=dict)
    sockets: dict[str, list[socket.socket]] = field(default_factory=dict)

    def open(self, name: str, port: int) -> bool:
        """Listen on `port` of every address, or on none; says whether it could.

        Port 0 lets the system choose, the same for every address.
        """
        opened: list[socket.socket] = []
        try:
            for address in self.addresses:
                opened.append(listen(address, port))
                port = opened[0].getsockname()[1]
        except OSError as error:
            for one in opened:
                one.close()
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise SimulatorError(
                f"cannot listen on {address}:{port}: {error.strerror}",
                "name an address of this machine with --bind",
            ) from error
        self.ports[name], self.sockets[name] = port, opened
        return True

    def close(self) -> None:
        """Close all."""
        for group in self.sockets.values():
            for one in group:
                one.close()


def listen(address: str, port: int) -> socket.socket:
    """A listening TCP socket."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind((address, port))
        one.listen(BACKLOG)
        one.setblocking(False)
    except OSError:
        one.close()
        raise
    return one


def open_sockets(
    bind: Sequence[str], https: Iterable[int], websocket: int | None, plain: int | None
) -> Sockets:
    """Open all the hub listens on.

    Args:
        bind: addresses; `auto` is the first of 127.0.0.1 to 127.0.0.254 whose port 8883 is free.
        https: ports for REST in the order of preference; the system chooses when none is free.
        websocket: port for MQTT over WebSocket; it is left out when it may not be opened.
        plain: port for MQTT without TLS, for load tests only; None for none.

    Raises:
        SimulatorError: something else has port 8883 there.
    """
    sockets = _open_mqtt(bind)
    for port in [*https, 0]:
        if sockets.open("https", port):
            break
    sockets.open("amqps", AMQPS_PORT)
    sockets.open("amqp", AMQP_PORT)
    if websocket is not None:
        sockets.open("websocket", websocket)
    if plain is not None:
        sockets.open("mqtt_plain", plain)
    return sockets


def _open_mqtt(bind: Sequence[str]) -> Sockets:
    fixed = tuple(address for address in bind if address != AUTO)
    if AUTO not in bind:
        sockets = Sockets(fixed)
        if sockets.open("mqtt", MQTT_PORT):
            return sockets
        raise SimulatorError(
            f"port {MQTT_PORT} of {', '.join(fixed)} is in use, and device SDKs know no other",
            "use --bind auto, or stop what has it (a second hub, or an MQTT broker)",
        )
    for number in range(1, 255):
        sockets = Sockets((f"127.0.0.{number}", *fixed))
        if sockets.open("mqtt", MQTT_PORT):
            return sockets
    raise SimulatorError(
        f"port {MQTT_PORT} is in use on every loopback address",
        "stop what has it (an MQTT broker on all addresses?)",
    )
