"""An ONNX model behind HTTP, gRPC and local MQTT."""

from edgekit_runtime.scorer.model import Model
from edgekit_runtime.serving.metrics import Metrics
from edgekit_runtime.serving.models import Models
from edgekit_runtime.serving.program import serve as open_doors
from edgekit_runtime.settings import Settings

__all__ = ["serve"]


def serve(settings: Settings) -> None:
    """Serve the model of `settings.model` until SIGTERM or SIGINT.

    Raises:
        ModelError: it does not load.
        SettingsError: a door cannot be opened.
    """
    open_doors(settings, Models([Model.load(settings.model, settings.threads)]), Metrics())
