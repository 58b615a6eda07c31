"""What a simulated device is told: who it is, where its hub is, where it keeps things."""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from edgekit_sim.iotedge.errors import DeviceError

ENGINES = ("auto", "docker", "process")
BROKERS = ("auto", "mosquitto", "edgekit")
EDGE_HUBS = ("off", "on")
_PATHS = ("ca", "cache", "policy")


@dataclass(frozen=True)
class ConnectionString:
    """A device's connection string.

    `HostName=..;DeviceId=..;SharedAccessKey=..`, and `;GatewayHostName=..` where it goes elsewhere.

    Attributes:
        host: the hub's name, as it stands in tokens.
        key: base64 of the device's key; shown nowhere.
        gateway: where to connect instead of `host`.
    """

    host: str
    device_id: str
    key: str
    gateway: str

    def __repr__(self) -> str:
        return f"ConnectionString({self.host}, {self.device_id})"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read one.

        Raises:
            DeviceError: a part is missing; the message never holds the text.
        """
        parts = dict(part.split("=", 1) for part in text.strip().split(";") if "=" in part)
        try:
            return cls(
                parts["HostName"],
                parts["DeviceId"],
                parts["SharedAccessKey"],
                parts.get("GatewayHostName", ""),
            )
        except KeyError as error:
            raise DeviceError(
                f"the device's connection string has no {error.args[0]}",
                "take it from the hub: HostName=...;DeviceId=...;SharedAccessKey=...",
            ) from None


@dataclass(frozen=True)
class DeviceConfig:
    """The configuration of one device.

    Attributes:
        connection_string_file: file with the device's connection string, kept out of argv.
        state: the device's own disk; everything it keeps lies below.
        address: the device's own loopback address, 127.x.y.z; its broker and its modules use it.
        gateway: host name or address of the hub, if the connection string does not say it.
        rest: base URL of the hub's REST side; empty for https at the gateway.
        ca: PEM file the hub's certificate is checked with; empty for the system's.
        engine: `docker`, `process`, or `auto` for Docker where one answers.
        broker: `mosquitto`, `edgekit`, or `auto` for mosquitto where it is on the PATH.
        broker_port: port of the local broker on `address`.
        cache: folder for pulled images, shared by devices; empty for one below `state`.
        edge_hub: `on` for modules to connect to an edge hub on `address`, which carries out the
            routes of `$edgeHub`; `off` for modules to connect to the hub itself.
        policy: file that says who must have signed what runs here (docs/images.md); empty for none.
        backoff: seconds before the first restart of a module; doubles up to 32 times that.
    """

    connection_string_file: Path
    state: Path
    address: str = "127.0.0.1"
    gateway: str = ""
    rest: str = ""
    ca: str = ""
    engine: str = "auto"
    broker: str = "auto"
    broker_port: int = 1883
    cache: str = ""
    edge_hub: str = "off"
    policy: str = ""
    backoff: float = 0.5

    def __post_init__(self) -> None:
        for name, value, known in (
            ("engine", self.engine, ENGINES),
            ("broker", self.broker, BROKERS),
            ("edge_hub", self.edge_hub, EDGE_HUBS),
        ):
            if value not in known:
                raise DeviceError(f"{name} is {value!r}", f"use one of {', '.join(known)}")
        if not self.address.startswith("127."):
            raise DeviceError(
                f"address is {self.address!r}", "give the device a loopback address, 127.x.y.z"
            )

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a TOML file; relative paths count from its folder.

        Raises:
            DeviceError: it does not open or read, or has a key that is not known.
        """
        try:
            data = tomllib.loads(path.read_text())
        except OSError as error:
            raise DeviceError(f"{path} does not open: {error.strerror}", "name a file") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise DeviceError(f"{path} is no TOML: {error}", "correct it") from error
        return cls.from_mapping(data, path.parent.absolute(), str(path))

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any], base: Path, where: str) -> Self:
        """Check and take over a mapping; `where` names it in errors."""
        known = cls.__dataclass_fields__
        for name, value in data.items():
            if name not in known:
                raise DeviceError(f"{where} has {name!r}", f"known keys are {', '.join(known)}")
            wanted: type = {"broker_port": int, "backoff": float}.get(name, str)
            if type(value) is not wanted and not (wanted is float and type(value) is int):
                raise DeviceError(f"{where}: {name} has a value of another type", "correct it")
        for name in ("connection_string_file", "state"):
            if name not in data:
                raise DeviceError(f"{where} has no {name}", "add it")
        paths = {
            name: base / data[name]
            for name in ("connection_string_file", "state", *_PATHS)
            if data.get(name)
        }
        texts = {name: str(path) for name, path in paths.items() if name in _PATHS}
        return cls(**{**data, **paths, **texts})

    def to_toml(self) -> str:
        """The file `read` reads."""
        lines = [f"{name} = {_toml(value)}" for name, value in asdict(self).items()]
        return "\n".join(lines) + "\n"

    def connection(self) -> ConnectionString:
        """Read the connection string from its file.

        Raises:
            DeviceError: the file does not open, or holds no connection string.
        """
        try:
            text = self.connection_string_file.read_text()
        except OSError as error:
            raise DeviceError(
                f"{self.connection_string_file} does not open: {error.strerror}",
                "write the device's connection string into it",
            ) from error
        return ConnectionString.parse(text)


def _toml(value: Any) -> str:
    if isinstance(value, int | float):
        return repr(value)
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
