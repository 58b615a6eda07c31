"""Takes over packages that change on disk, while the doors stay open.

A package is read, checked and run once beside the one that serves; then it takes its place in one
step. What does not load changes nothing: the old one goes on.
"""

import asyncio
import logging
import signal
from collections.abc import Callable

from edgekit_fpga.driver import Driver
from edgekit_runtime.errors import ModelError, Unavailable
from edgekit_runtime.fpga_scorer.model import FpgaModel
from edgekit_runtime.fpga_scorer.packages import Source, Sources
from edgekit_runtime.serving.metrics import Metrics
from edgekit_runtime.serving.models import Models

log = logging.getLogger(__name__)

INTERVAL = 1.0  # seconds between two looks; every file system can be looked at, not all notify


class Reloader:
    """Keeps models as the packages on disk are.

    Args:
        sources: tells where packages are.
        driver: runs them.
        models: what is served.
        metrics: counts what is loaded while serving.
    """

    def __init__(self, sources: Sources, driver: Driver, models: Models, metrics: Metrics) -> None:
        self._sources = sources
        self._driver = driver
        self._models = models
        self._metrics = metrics
        # of each source: what its files looked like, and the name it is served by
        self._seen: dict[Source, tuple[object, ...]] = {}
        self._names: dict[Source, str] = {}

    def load_all(self) -> None:
        """Load everything there is.

        Raises:
            ModelError: a package does not load, or two have one name.
            Unavailable: what runs them fails at present.
        """
        for source in self._sources():
            signature = source.signature()
            model = self._load(source)
            self._take(source, signature, model)

    def look(self) -> bool:
        """Load what changed since the last look, forget what is gone; whether `models` changed."""
        found = self._sources()
        changed = False
        for source in found:
            signature = source.signature()
            if self._seen.get(source) == signature:
                continue
            label = source.name or source.path.parent.name
            try:
                model = self._load(source)
            except Unavailable as error:
                # not the package's fault: it is tried again at the next look
                log.warning("%s; %s goes on as before", error, label)
                continue
            except ModelError as error:
                log.error("%s; %s goes on as before", error, label)
                self._metrics.count_load(label, "failed")
                self._seen[source] = signature  # and is not tried again until it changes
                continue
            self._take(source, signature, model)
            self._metrics.count_load(model.name, "ok")
            log.info("serving %s:%s from now on", model.name, model.version)
            changed = True
        for source in set(self._names) - set(found):
            name = self._names.pop(source)
            self._seen.pop(source, None)
            if name not in self._names.values():
                self._models.remove(name)
                log.info("serving %s no more", name)
                changed = True
        return changed

    async def watch(self, announce: Callable[[], None]) -> None:
        """Look every second, and at once on SIGHUP; call `announce` after each change."""
        loop = asyncio.get_running_loop()
        asked = asyncio.Event()
        loop.add_signal_handler(signal.SIGHUP, asked.set)
        while True:
            try:
                if await loop.run_in_executor(None, self.look):
                    announce()
            except Exception:
                # a look that failed must not be the last one
                log.exception("could not look for changed packages")
            try:
                await asyncio.wait_for(asked.wait(), INTERVAL)
            except TimeoutError:
                continue
            asked.clear()
            self._seen.clear()

    def _load(self, source: Source) -> FpgaModel:
        name, version, package = source.read()
        others = {other: known for other, known in self._names.items() if other != source}
        if name in others.values():
            raise ModelError(
                f"{source.path} is {name}, and so is another package", "give them different names"
            )
        return FpgaModel.load(name, version, package, self._driver, self._metrics.count_cycles)

    def _take(self, source: Source, signature: tuple[object, ...], model: FpgaModel) -> None:
        former = self._names.get(source)
        self._models.put(model)
        if former not in (None, model.name):
            self._models.remove(str(former))
        self._seen[source] = signature
        self._names[source] = model.name
