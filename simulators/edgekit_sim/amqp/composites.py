"""The protocol's own structures: performatives, SASL frames, termini, outcomes, errors.

On the wire each is a list with a descriptor, whose fields are told by their position; fields at the
end that are null may be missing. Descriptors and fields are those of parts 2, 3 and 5 of the
standard; what a hub has no use for (the unsettled map of an attach, locales) is read and dropped.
"""

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self

from edgekit_sim.amqp.errors import AmqpError, Malformed
from edgekit_sim.amqp.types import Array, Described, Symbol, Ubyte, Uint, Ulong, Ushort

ANY: tuple[type, ...] = (object,)
SYMBOLS: tuple[type, ...] = (Symbol, Array)  # "multiple" symbols: one, or an array


def wire(*kinds: type, default: Any = None, mandatory: bool = False) -> Any:
    """A field of a composite.

    Args:
        *kinds: types that its value may have on the wire; the first is what it is written as.
        default: what null stands for.
        mandatory: null is not allowed.
    """
    metadata = {"kinds": kinds, "mandatory": mandatory}
    return field(default=default, metadata=metadata)


class Composite:
    """A structure of the protocol.

    Attributes:
        code: its numeric descriptor.
    """

    code: ClassVar[int]

    @classmethod
    def read(cls, values: Any) -> Self:
        """Take the fields of a list.

        Raises:
            Malformed: a field is missing or of a wrong type.
        """
        layout = _layout(cls)
        if not isinstance(values, list) or len(values) > len(layout):
            raise Malformed(f"{cls.__name__.lower()} has other fields")
        found = {}
        for (name, kinds, _), value in zip(layout, values, strict=False):
            if value is None:
                continue
            if not isinstance(value, kinds):
                raise Malformed(f"{cls.__name__.lower()} has a wrong {name}")
            found[name] = value
        for name, _, mandatory in layout:
            if mandatory and name not in found:
                raise Malformed(f"{cls.__name__.lower()} has no {name}")
        return cls(**found)

    def described(self) -> Described:
        """The structure as it goes on the wire: with all fields, also null ones at the end.

        The standard lets these be left out; azure-eventhub looks for them all the same.
        """
        values = [_convert(getattr(self, name), kinds) for name, kinds, _ in _layout(type(self))]
        return Described(Ulong(self.code), values)


Layout = list[tuple[str, tuple[type, ...], bool]]  # name, types on the wire, mandatory
_LAYOUTS: dict[type[Composite], Layout] = {}


def _layout(kind: type[Composite]) -> Layout:
    layout = _LAYOUTS.get(kind)
    if layout is None:
        layout = _LAYOUTS[kind] = [
            (one.name, one.metadata["kinds"], one.metadata["mandatory"])
            for one in fields(kind)  # type: ignore[arg-type]  # every subclass is a dataclass
        ]
    return layout


def _convert(value: Any, kinds: tuple[type, ...]) -> Any:
    if value is None or isinstance(value, kinds):
        return value.described() if isinstance(value, Composite) else value
    if isinstance(value, Composite):
        return value.described()
    return kinds[0](value)


# ---- performatives (part 2)


@dataclass(frozen=True)
class Open(Composite):
    """Begins a connection."""

    code = 0x10
    container_id: str = wire(str, mandatory=True)
    hostname: str | None = wire(str)
    max_frame_size: int = wire(Uint, default=0xFFFFFFFF)
    channel_max: int = wire(Ushort, default=0xFFFF)
    idle_time_out: int | None = wire(Uint)
    outgoing_locales: Any = wire(*SYMBOLS)
    incoming_locales: Any = wire(*SYMBOLS)
    offered_capabilities: Any = wire(*SYMBOLS)
    desired_capabilities: Any = wire(*SYMBOLS)
    properties: dict[Any, Any] | None = wire(dict)


@dataclass(frozen=True)
class Begin(Composite):
    """Begins a session."""

    code = 0x11
    remote_channel: int | None = wire(Ushort)
    next_outgoing_id: int = wire(Uint, mandatory=True)
    incoming_window: int = wire(Uint, mandatory=True)
    outgoing_window: int = wire(Uint, mandatory=True)
    handle_max: int = wire(Uint, default=0xFFFFFFFF)
    offered_capabilities: Any = wire(*SYMBOLS)
    desired_capabilities: Any = wire(*SYMBOLS)
    properties: dict[Any, Any] | None = wire(dict)


@dataclass(frozen=True)
class Attach(Composite):
    """Attaches a link; `role` is True when who sends this receives messages."""

    code = 0x12
    name: str = wire(str, mandatory=True)
    handle: int = wire(Uint, mandatory=True)
    role: bool = wire(bool, mandatory=True)
    snd_settle_mode: int = wire(Ubyte, default=2)
    rcv_settle_mode: int = wire(Ubyte, default=0)
    source: Any = wire(Described)
    target: Any = wire(Described)
    unsettled: dict[Any, Any] | None = wire(dict)
    incomplete_unsettled: bool = wire(bool, default=False)
    initial_delivery_count: int | None = wire(Uint)
    max_message_size: int | None = wire(Ulong)
    offered_capabilities: Any = wire(*SYMBOLS)
    desired_capabilities: Any = wire(*SYMBOLS)
    properties: dict[Any, Any] | None = wire(dict)


@dataclass(frozen=True)
class Flow(Composite):
    """Says where a session stands, and with a handle where a link does."""

    code = 0x13
    next_incoming_id: int | None = wire(Uint)
    incoming_window: int = wire(Uint, mandatory=True)
    next_outgoing_id: int = wire(Uint, mandatory=True)
    outgoing_window: int = wire(Uint, mandatory=True)
    handle: int | None = wire(Uint)
    delivery_count: int | None = wire(Uint)
    link_credit: int | None = wire(Uint)
    available: int | None = wire(Uint)
    drain: bool = wire(bool, default=False)
    echo: bool = wire(bool, default=False)
    properties: dict[Any, Any] | None = wire(dict)


@dataclass(frozen=True)
class Transfer(Composite):
    """Carries a message, or a piece of one."""

    code = 0x14
    handle: int = wire(Uint, mandatory=True)
    delivery_id: int | None = wire(Uint)
    delivery_tag: bytes | None = wire(bytes)
    message_format: int | None = wire(Uint)
    settled: bool | None = wire(bool)
    more: bool = wire(bool, default=False)
    rcv_settle_mode: int | None = wire(Ubyte)
    state: Any = wire(Described)
    resume: bool = wire(bool, default=False)
    aborted: bool = wire(bool, default=False)
    batchable: bool = wire(bool, default=False)


@dataclass(frozen=True)
class Disposition(Composite):
    """Says what became of deliveries; `role` is True when who sends this received them."""

    code = 0x15
    role: bool = wire(bool, mandatory=True)
    first: int = wire(Uint, mandatory=True)
    last: int | None = wire(Uint)
    settled: bool = wire(bool, default=False)
    state: Any = wire(Described)
    batchable: bool = wire(bool, default=False)


@dataclass(frozen=True)
class Detach(Composite):
    """Detaches a link, for good when `closed`."""

    code = 0x16
    handle: int = wire(Uint, mandatory=True)
    closed: bool = wire(bool, default=False)
    error: Any = wire(Described)


@dataclass(frozen=True)
class End(Composite):
    """Ends a session."""

    code = 0x17
    error: Any = wire(Described)


@dataclass(frozen=True)
class Close(Composite):
    """Closes a connection."""

    code = 0x18
    error: Any = wire(Described)


@dataclass(frozen=True)
class Error(Composite):
    """Why something ended."""

    code = 0x1D
    condition: str = wire(Symbol, mandatory=True)
    description: str | None = wire(str)
    info: dict[Any, Any] | None = wire(dict)


# ---- outcomes (part 3)


@dataclass(frozen=True)
class Received(Composite):
    """How much of a delivery has arrived; not an end."""

    code = 0x23
    section_number: int = wire(Uint, mandatory=True)
    section_offset: int = wire(Ulong, mandatory=True)


@dataclass(frozen=True)
class Accepted(Composite):
    """The message was taken."""

    code = 0x24


@dataclass(frozen=True)
class Rejected(Composite):
    """The message was refused."""

    code = 0x25
    error: Any = wire(Described)


@dataclass(frozen=True)
class Released(Composite):
    """The message was given back as it was."""

    code = 0x26


@dataclass(frozen=True)
class Modified(Composite):
    """The message was given back, changed."""

    code = 0x27
    delivery_failed: bool = wire(bool, default=False)
    undeliverable_here: bool = wire(bool, default=False)
    message_annotations: dict[Any, Any] | None = wire(dict)


Outcome = Accepted | Rejected | Released | Modified


# ---- termini (part 3)


@dataclass(frozen=True)
class Source(Composite):
    """Where messages come from."""

    code = 0x28
    address: str | None = wire(*ANY)
    durable: int = wire(Uint, default=0)
    expiry_policy: str | None = wire(Symbol)
    timeout: int = wire(Uint, default=0)
    dynamic: bool = wire(bool, default=False)
    dynamic_node_properties: dict[Any, Any] | None = wire(dict)
    distribution_mode: str | None = wire(Symbol)
    filter: dict[Any, Any] | None = wire(dict)
    default_outcome: Any = wire(Described)
    outcomes: Any = wire(*SYMBOLS)
    capabilities: Any = wire(*SYMBOLS)


@dataclass(frozen=True)
class Target(Composite):
    """Where messages go."""

    code = 0x29
    address: str | None = wire(*ANY)
    durable: int = wire(Uint, default=0)
    expiry_policy: str | None = wire(Symbol)
    timeout: int = wire(Uint, default=0)
    dynamic: bool = wire(bool, default=False)
    dynamic_node_properties: dict[Any, Any] | None = wire(dict)
    capabilities: Any = wire(*SYMBOLS)


# ---- SASL (part 5)


@dataclass(frozen=True)
class SaslMechanisms(Composite):
    """What the server offers."""

    code = 0x40
    mechanisms: Any = wire(*SYMBOLS, mandatory=True)


@dataclass(frozen=True)
class SaslInit(Composite):
    """What the client chooses, with its first answer."""

    code = 0x41
    mechanism: str = wire(Symbol, mandatory=True)
    initial_response: bytes | None = wire(bytes)
    hostname: str | None = wire(str)


@dataclass(frozen=True)
class SaslChallenge(Composite):
    """What the server asks."""

    code = 0x42
    challenge: bytes = wire(bytes, mandatory=True)


@dataclass(frozen=True)
class SaslResponse(Composite):
    """What the client answers."""

    code = 0x43
    response: bytes = wire(bytes, mandatory=True)


@dataclass(frozen=True)
class SaslOutcome(Composite):
    """How it ended: 0 well, 1 not proved."""

    code = 0x44
    outcome: int = wire(Ubyte, mandatory=True)
    additional_data: bytes | None = wire(bytes)


_KINDS: tuple[type[Composite], ...] = (
    Open,
    Begin,
    Attach,
    Flow,
    Transfer,
    Disposition,
    Detach,
    End,
    Close,
    Error,
    Received,
    Accepted,
    Rejected,
    Released,
    Modified,
    Source,
    Target,
    SaslMechanisms,
    SaslInit,
    SaslChallenge,
    SaslResponse,
    SaslOutcome,
)
# descriptors are numbers or names: amqp:open:list, amqp:sasl-init:list ...
_BY_DESCRIPTOR: dict[Any, type[Composite]] = {kind.code: kind for kind in _KINDS}


def _symbolic(kind: type[Composite]) -> Symbol:
    name = "".join(f"-{c.lower()}" if c.isupper() else c for c in kind.__name__).lstrip("-")
    return Symbol(f"amqp:{name}:list")


_BY_DESCRIPTOR.update({_symbolic(kind): kind for kind in _KINDS})


def read_composite(value: Any) -> Composite:
    """The composite that a described value is.

    Raises:
        Malformed: it is none.
    """
    if not isinstance(value, Described) or not isinstance(value.descriptor, Ulong | Symbol):
        raise Malformed("not a structure of the protocol")
    kind = _BY_DESCRIPTOR.get(value.descriptor)
    if kind is None:
        raise Malformed(f"no structure has the descriptor {value.descriptor!r}")
    return kind.read(value.value)


def read_outcome(value: Any) -> Outcome | None:
    """The outcome in a delivery state; None when there is none yet."""
    if not isinstance(value, Described):
        return None
    state = read_composite(value)
    return state if isinstance(state, Outcome) else None


def error_of(error: AmqpError) -> Error:
    """An error as the peer is told it."""
    return Error(error.condition, str(error))
