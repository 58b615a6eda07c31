"""FPGA packages behind HTTP, gRPC and local MQTT: several models, each replaced while it serves."""

from collections.abc import Sequence

from edgekit_fpga.driver import DeviceError, open_driver
from edgekit_runtime.errors import ModelError, SettingsError
from edgekit_runtime.fpga_scorer.packages import Source, Sources, folder_sources
from edgekit_runtime.fpga_scorer.reloading import Reloader
from edgekit_runtime.serving.metrics import Metrics
from edgekit_runtime.serving.models import Models
from edgekit_runtime.serving.program import Opened
from edgekit_runtime.serving.program import serve as open_doors
from edgekit_runtime.settings import Settings

__all__ = ["Source", "serve"]


def serve(settings: Settings, sources: Sequence[Source] = (), opened: Opened | None = None) -> None:
    """Serve FPGA packages until SIGTERM or SIGINT; what changes on disk is taken over at once.

    Args:
        settings: of the module.
        sources: the packages; without any, those in the folder `settings.model`.
        opened: called once the doors are open, with the port of HTTP.

    Raises:
        ModelError: a package does not load, or there is none.
        SettingsError: no such backend, or a door cannot be opened.
    """
    found: Sources = (lambda: list(sources)) if sources else folder_sources(settings.model)
    models, metrics = Models(), Metrics()
    try:
        driver = open_driver(settings.backend, settings.device, settings.baud)
    except DeviceError as error:
        raise SettingsError(str(error), error.hint) from error
    with driver:
        reloader = Reloader(found, driver, models, metrics)
        reloader.load_all()
        if not len(models):
            raise ModelError(
                f"{settings.model} has no FPGA package",
                "EDGEKIT_MODEL names a folder with model.npu and model.json, or with *.npu",
            )
        open_doors(settings, models, metrics, reloader.watch, opened=opened)
