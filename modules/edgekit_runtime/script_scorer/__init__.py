"""A model of any framework behind a scoring script: Azure ML's `score.py`, over HTTP."""

import logging

from edgekit_runtime.script_scorer.front import ScriptFront
from edgekit_runtime.script_scorer.script import Script
from edgekit_runtime.serving.metrics import Metrics
from edgekit_runtime.serving.models import Models
from edgekit_runtime.serving.program import serve as open_doors
from edgekit_runtime.settings import Settings

__all__ = ["serve"]

log = logging.getLogger(__name__)


def serve(settings: Settings) -> None:
    """Serve the model of `settings.model` by the script in `settings.app` until SIGTERM or SIGINT.

    Raises:
        ModelError: the script does not load, or its `init()` fails.
        SettingsError: a door cannot be opened.
    """
    script = Script.load(settings.app, settings.model)
    if settings.broker is not None:
        log.warning("a scoring script answers over HTTP alone; requests by MQTT get an error")
    open_doors(
        settings,
        Models([script]),
        Metrics(),
        front=lambda service: ScriptFront(service, script).answer,
    )
