"""Every error edgekit raises on purpose, and what a caller can do about each.

- EdgekitError
  - WorkspaceError: no workspace here, or its file does not read
  - ModelError: a file that is no model, or one that cannot be used so
    - QuantizeError: the model or the calibration data does not fit the quantizer
  - RegistryError
    - NotFound: no such model, version, alias, image or graph
    - InUse: deleting it would leave somebody without it; names the users
    - Conflict: it exists already and is not the same
  - ImageError: an image that cannot be planned or built
  - OciError: an OCI registry or layout
    - Unreachable: nothing answers there
    - Unauthorized: the credentials are missing or refused
    - Corrupt: the bytes are not what their digest says
  - ManifestError: a deployment manifest or fleet file that the hub would refuse
  - HubError: the IoT Hub refused, or does not answer
  - FleetError: a rollout that cannot go on

The other three packages stand alone and have trees of their own with the same shape: a message
that says what and where, and a `hint` that says what to do next (`Explained`).
"""

from typing import Protocol, runtime_checkable


@runtime_checkable
class Explained(Protocol):
    """An error made for people: `str(error)` says what and where, `hint` what to do next."""

    hint: str


class EdgekitError(Exception):
    """The root of edgekit's errors.

    Args:
        message: what is wrong and where, one line, no full stop at its end.
        hint: the next thing to try, as an imperative or a command; may be empty.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class WorkspaceError(EdgekitError):
    """No workspace here, or its file does not read."""


class ModelError(EdgekitError):
    """A file that is no model, or a model that cannot be used in the way asked for."""


class QuantizeError(ModelError):
    """The model or the calibration data does not fit the quantizer."""


class RegistryError(EdgekitError):
    """The registry of models, images and graphs."""


class NotFound(RegistryError):
    """No such model, version, alias, image or graph."""


class InUse(RegistryError):
    """Deleting it would leave somebody without it; the message names the users."""


class Conflict(RegistryError):
    """It exists already and is not the same."""


class ImageError(EdgekitError):
    """An image that cannot be planned or built."""


class OciError(EdgekitError):
    """An OCI registry or layout that does not behave."""


class Unreachable(OciError):
    """Nothing answers at the registry's address."""


class Unauthorized(OciError):
    """The registry's credentials are missing or refused."""


class Corrupt(OciError):
    """The bytes are not what their digest says."""


class ManifestError(EdgekitError):
    """A deployment manifest or fleet file that the hub would refuse."""


class HubError(EdgekitError):
    """The IoT Hub refused a call or does not answer."""


class FleetError(EdgekitError):
    """A rollout that cannot go on."""
