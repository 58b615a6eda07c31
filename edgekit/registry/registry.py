"""The registry: models in counted versions, and the images and FPGA packages made from them."""

from datetime import timedelta
from pathlib import Path

from edgekit.registry.garbage import GRACE, Collected, collect
from edgekit.registry.made import Made
from edgekit.registry.models import Models


class Registry(Models, Made):
    """What a workspace has registered. Open it with `Registry.open`."""

    def export_archive(self, target: Path) -> int:
        """Write everything to one file; the number of versions in it, deleted ones included.

        Raises:
            RegistryError: a stored file is missing or damaged, or `target` cannot be written.
        """
        from edgekit.registry.archive import export_registry  # slow to import

        record = export_registry(self._database, self._blobs, target)
        return sum(1 for _ in record.versions())

    def import_archive(self, source: Path) -> int:
        """Take in everything from an archive, or nothing; the number of versions.

        Raises:
            RegistryError: it is no archive, or is damaged.
            Conflict: a model of a name in it is here already.
        """
        from edgekit.registry.archive import import_registry  # slow to import

        record = import_registry(self._database, self._blobs, source)
        return sum(1 for _ in record.versions())

    def collect_garbage(
        self,
        *,
        deleted_for: timedelta = timedelta(0),
        grace: timedelta = GRACE,
        dry_run: bool = False,
    ) -> Collected:
        """Remove deleted versions for good, and every file that nothing names any more.

        Args:
            deleted_for: keep what was deleted more recently than this.
            grace: keep files younger than this, which may be about to be registered.
            dry_run: only say what would be removed.
        """
        return collect(
            self._database, self._blobs, deleted_for=deleted_for, grace=grace, dry_run=dry_run
        )
