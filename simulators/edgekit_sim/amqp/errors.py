"""What goes wrong on a connection, with the conditions of the standard (part 2, section 2.8).

- AmqpError: a condition and a description; on its own it ends a link
  - SessionError: ends the session
  - ConnectionFault: ends the connection
    - Malformed: bytes that are no AMQP
"""


class AmqpError(Exception):
    """Something that the peer is told with a condition.

    Args:
        condition: a symbol, for example `amqp:not-found`.
        description: what was wrong, one line.
    """

    def __init__(self, condition: str, description: str) -> None:
        super().__init__(description)
        self.condition = condition


class SessionError(AmqpError):
    """The session cannot go on."""


class ConnectionFault(AmqpError):
    """The connection cannot go on."""


class Malformed(ConnectionFault):
    """Bytes that are no AMQP 1.0, or none that this engine is willing to take."""

    def __init__(self, description: str) -> None:
        super().__init__("amqp:decode-error", description)
