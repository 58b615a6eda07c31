"""Every error a module raises on purpose.

- ModuleError
  - SettingsError: an environment variable that is missing or does not read
  - ModelError: the model folder cannot be served
  - RequestError: an inference request that does not fit the model
    - ModelNotFound: it is for a model that is not served here
  - Overloaded: as many requests wait as may
  - Unauthenticated: a request without the token, or with a wrong one
  - Unavailable: what runs the model fails at present
  - StoreError: the telemetry store
    - StoreFull: the disk, or the limit set for the store, has no room left
"""


class ModuleError(Exception):
    """The root of the runtime's errors.

    Args:
        message: what is wrong and where, one line, no full stop at its end.
        hint: the next thing to try; may be empty.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class SettingsError(ModuleError):
    """An environment variable that is missing or does not read."""


class ModelError(ModuleError):
    """The model folder cannot be served."""


class RequestError(ModuleError):
    """An inference request that does not fit the model."""


class ModelNotFound(RequestError):
    """A request for a model that is not served here."""


class Overloaded(ModuleError):
    """As many requests wait as may."""


class Unauthenticated(ModuleError):
    """A request without the token, or with a wrong one."""


class Unavailable(ModuleError):
    """What runs the model fails at present; the same request may succeed later."""


class StoreError(ModuleError):
    """The telemetry store cannot be opened, read or written."""


class StoreFull(StoreError):
    """The disk, or the limit set for the store, has no room left."""
