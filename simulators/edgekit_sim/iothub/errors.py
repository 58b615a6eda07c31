"""What goes wrong in the hub: answers to clients, and reasons why it cannot start.

- HubFault: an answer with an HTTP status and one of the real service's error codes
- SimulatorError: the hub cannot start or go on; carries a `hint` for the person who started it
  - HubStopped: the hub's process ended while somebody needed it
"""


class HubFault(Exception):
    """A request the hub refuses, in the words of the real service.

    Args:
        status: the HTTP status; over MQTT the status of a twin or method response.
        code: the service's error code, for example `DeviceNotFound`.
        message: what was wrong, one line.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class SimulatorError(Exception):
    """The hub cannot start or go on; `str()` says what and where, `hint` what to do next."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class HubStopped(SimulatorError):
    """The hub's process ended while somebody needed it."""
