"""The server's side of SASL (part 5, section 5.3)."""

from collections.abc import Callable
from dataclasses import dataclass

from edgekit_sim.amqp.composites import Composite, SaslInit, SaslMechanisms, SaslOutcome
from edgekit_sim.amqp.errors import ConnectionFault
from edgekit_sim.amqp.types import Array, Symbol

ANONYMOUS, EXTERNAL, PLAIN, MSSBCBS = "ANONYMOUS", "EXTERNAL", "PLAIN", "MSSBCBS"
# with MSSBCBS, as with ANONYMOUS, the client proves itself by a token put to $cbs
MECHANISMS = (MSSBCBS, PLAIN, ANONYMOUS, EXTERNAL)
OK, NOT_PROVED = 0, 1
PLAIN_LIMIT = 4096  # bytes of a PLAIN response


@dataclass(frozen=True)
class Credentials:
    """What a client said of itself.

    Attributes:
        mechanism: one of `MECHANISMS`.
        name: with PLAIN, who it says it is.
        password: with PLAIN, its proof.
    """

    mechanism: str
    name: str = ""
    password: str = ""

    def __repr__(self) -> str:
        return f"Credentials({self.mechanism}, {self.name!r})"


Authenticate = Callable[[Credentials], bool]


def offer() -> SaslMechanisms:
    """What the server says first."""
    return SaslMechanisms(Array(Symbol, tuple(Symbol(name) for name in MECHANISMS)))


def answer(body: Composite, authenticate: Authenticate) -> SaslOutcome:
    """The outcome for a client's choice.

    Raises:
        ConnectionFault: it said something else.
    """
    if not isinstance(body, SaslInit):
        name = type(body).__name__
        raise ConnectionFault("amqp:not-allowed", f"{name} where SaslInit was expected")
    credentials = _credentials(body)
    proved = credentials is not None and authenticate(credentials)
    return SaslOutcome(OK if proved else NOT_PROVED)


def _credentials(init: SaslInit) -> Credentials | None:
    """What the client said; None when that is none of what was offered."""
    if init.mechanism not in MECHANISMS:
        return None
    if init.mechanism != PLAIN:
        return Credentials(init.mechanism)
    response = init.initial_response or b""
    parts = response.split(b"\0")
    if len(parts) != 3 or len(response) > PLAIN_LIMIT:  # RFC 4616: authzid NUL authcid NUL passwd
        return None
    try:
        return Credentials(PLAIN, parts[1].decode(), parts[2].decode())
    except UnicodeDecodeError:
        return None
