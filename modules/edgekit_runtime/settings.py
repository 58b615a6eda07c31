"""What a module reads from its environment; the table in docs/architecture.md."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TypeVar

from edgekit_runtime.errors import SettingsError

T = TypeVar("T")

POLICIES = ("drop-oldest", "refuse")


@dataclass(frozen=True)
class Address:
    """Where something listens: `host:port`."""

    host: str
    port: int

    def __post_init__(self) -> None:
        if not self.host or not 0 <= self.port <= 65535:
            raise ValueError(f"not an address: {self.host}:{self.port}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `host:port`; an IPv6 host stands in brackets."""
        host, separator, port = text.rpartition(":")
        if not separator:
            raise ValueError("host:port is needed")
        return cls(host.removeprefix("[").removesuffix("]"), int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Tls:
    """PEM files of a server: its certificate chain and key, and who must have signed clients'."""

    certificate: Path
    key: Path
    client_authority: Path | None = None


@dataclass(frozen=True)
class Settings:
    """The settings of one module.

    Attributes:
        module: the module's name on this device, also its name on the broker.
        model: folder with `model.onnx` or `model.npu`, and `model.json`.
        http: where the scorer listens.
        broker: the device's MQTT broker; None for a scorer that only serves HTTP.
        state: folder that outlives the container.
        threads: threads of one inference; 0 lets ONNX Runtime take every core.
        max_body: bytes of the largest request.
        queue: requests that may wait for an inference before others are turned away.
        store_limit: bytes the telemetry store may take.
        store_policy: `drop-oldest` or `refuse`, what happens at that limit.
        grpc_port: where the scorer speaks gRPC, on the address of `http`; 0 for nowhere.
        tokens: that open the scorer's doors; none leaves them open.
        tls: of the scorer's doors; None for plain text.
        backend: what runs FPGA packages.
        device: serial device of a board.
        baud: its speed; 0 for the board's own.
        app: folder with a scoring script.
    """

    module: str = "scorer"
    model: Path = Path("/opt/edgekit/model")
    http: Address = Address("0.0.0.0", 8080)  # noqa: S104 a container's port is published by its host
    broker: Address | None = None
    state: Path = Path("/var/lib/edgekit")
    threads: int = 1
    max_body: int = 16 << 20
    queue: int = 64
    store_limit: int = 1 << 30
    store_policy: str = "drop-oldest"
    grpc_port: int = 0
    tokens: tuple[str, ...] = field(default=(), repr=False)
    tls: Tls | None = None
    backend: str = "interpreter"
    device: str = ""
    baud: int = 0
    app: Path = Path("/opt/edgekit/app")

    def __post_init__(self) -> None:
        if not self.module or any(sign in self.module for sign in "/+#\0"):
            raise SettingsError(f"{self.module!r} cannot be a module's name on a broker")
        if self.threads < 0 or self.queue < 1 or self.max_body < 1 or self.store_limit < 1 << 20:
            raise SettingsError(
                "a limit is out of range",
                "EDGEKIT_THREADS is 0 or more, EDGEKIT_QUEUE and EDGEKIT_MAX_BODY 1 or more, "
                "EDGEKIT_STORE_LIMIT 1048576 or more",
            )
        if not 0 <= self.grpc_port <= 65535 or self.baud < 0:
            raise SettingsError("EDGEKIT_GRPC_PORT or EDGEKIT_BAUD is out of range")
        if self.store_policy not in POLICIES:
            raise SettingsError(
                f"EDGEKIT_STORE_POLICY is {self.store_policy!r}",
                f"use one of {', '.join(POLICIES)}",
            )

    @classmethod
    def read(cls, environment: Mapping[str, str], role: str) -> Self:
        """Read the settings of a module that plays `role`, as `edgekit_runtime` is called.

        Raises:
            SettingsError: a variable that does not read, named in the message.
        """

        def get(name: str, convert: Callable[[str], T], default: T) -> T:
            text = environment.get(name, "")
            if not text:
                return default
            try:
                return convert(text)
            except ValueError as error:
                raise SettingsError(
                    f"{name} is {text!r}: {error}", "correct it and restart"
                ) from error

        return cls(
            module=environment.get("IOTEDGE_MODULEID") or role,
            model=get("EDGEKIT_MODEL", Path, cls.model),
            http=Address(
                get("EDGEKIT_BIND", str, cls.http.host),
                get("EDGEKIT_HTTP_PORT", int, cls.http.port),
            ),
            broker=get("EDGEKIT_BROKER", Address.parse, None),
            state=get("EDGEKIT_STATE", Path, cls.state),
            threads=get("EDGEKIT_THREADS", int, cls.threads),
            max_body=get("EDGEKIT_MAX_BODY", int, cls.max_body),
            queue=get("EDGEKIT_QUEUE", int, cls.queue),
            store_limit=get("EDGEKIT_STORE_LIMIT", int, cls.store_limit),
            store_policy=get("EDGEKIT_STORE_POLICY", str, cls.store_policy),
            grpc_port=get("EDGEKIT_GRPC_PORT", int, cls.grpc_port),
            tokens=_tokens(environment),
            tls=_tls(environment),
            backend=get("EDGEKIT_BACKEND", str, cls.backend),
            device=get("EDGEKIT_DEVICE", str, cls.device),
            baud=get("EDGEKIT_BAUD", int, cls.baud),
            app=get("EDGEKIT_APP", Path, cls.app),
        )


def _tokens(environment: Mapping[str, str]) -> tuple[str, ...]:
    """From EDGEKIT_TOKEN, or the lines of the file EDGEKIT_TOKEN_FILE names; never in a message."""
    text, path = environment.get("EDGEKIT_TOKEN", ""), environment.get("EDGEKIT_TOKEN_FILE", "")
    if path:
        try:
            text = Path(path).read_text()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no text"
            raise SettingsError(f"EDGEKIT_TOKEN_FILE {path} does not read: {reason}") from error
    tokens = tuple(line.strip() for line in text.splitlines() if line.strip())
    if path and not tokens:
        # an empty secret must not open the doors
        raise SettingsError(f"EDGEKIT_TOKEN_FILE {path} holds no token", "write one token a line")
    return tokens


def _tls(environment: Mapping[str, str]) -> Tls | None:
    certificate, key, authority = (
        environment.get(f"EDGEKIT_TLS_{name}", "") for name in ("CERT", "KEY", "CLIENT_CA")
    )
    if not (certificate or key or authority):
        return None
    if not certificate or not key:
        raise SettingsError(
            "EDGEKIT_TLS_CERT and EDGEKIT_TLS_KEY go together", "set both, to PEM files"
        )
    return Tls(Path(certificate), Path(key), Path(authority) if authority else None)
