"""The errors of a simulated device."""

from edgekit.errors import EdgekitError


class DeviceError(EdgekitError):
    """The device cannot be started, or does not get where it was asked to."""


class DeploymentRefused(DeviceError):
    """Desired properties the runtime cannot take.

    Args:
        code: what it reports as `lastDesiredStatus.code`: 400 not valid, 412 another schema.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class ModuleFailed(DeviceError):
    """One module cannot be pulled or started; the others go on."""
