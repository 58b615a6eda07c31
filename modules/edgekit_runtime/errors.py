"""Every error a module raises on purpose.

- ModuleError
  - SettingsError: an environment variable that is missing or does not read
  - ModelError: the model folder cannot be served
  - RequestError: an inference request that does not fit the model
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


class StoreError(ModuleError):
    """The telemetry store cannot be opened, read or written."""


class StoreFull(StoreError):
    """The disk, or the limit set for the store, has no room left."""
