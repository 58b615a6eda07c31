"""A device that runs only what somebody it trusts has signed.

IoT Edge's own runtime checks no signatures; this is what a device with such a policy would do. It
stands before the engine: an image is judged by the signatures in its registry and then pulled by
the digest that was judged, so that a tag that moves meanwhile brings nothing else.
"""

import hashlib
import json
import logging
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from edgekit.errors import EdgekitError
from edgekit.oci.blobs import Blobs
from edgekit.oci.client import RegistryClient
from edgekit.oci.reference import Reference
from edgekit.oci.signing import Policy
from edgekit.packager.papers import verify_remote
from edgekit.wholefile import whole_file
from edgekit_sim.iotedge.engine import Engine, Launch, State
from edgekit_sim.iotedge.errors import ModuleFailed

log = logging.getLogger(__name__)


class VerifyingEngine:
    """See `Engine`; what it is to run must meet a policy.

    Args:
        engine: runs what is allowed.
        policy: what must hold of an image.
        known: file with the digests that met the policy, to start again without a network.
    """

    def __init__(self, engine: Engine, policy: Policy, known: Path) -> None:
        self.name = engine.name
        self._engine = engine
        self._policy = policy
        self._known = known
        self._mark = hashlib.sha256(repr((policy.keys, policy.builders)).encode()).hexdigest()
        # image as the deployment names it -> the same by the digest that was judged
        self._judged: dict[str, str] = {}

    def pull(self, image: str) -> None:
        """Judge the image, then pull it by digest.

        Raises:
            ModuleFailed: it does not meet the policy, or is not to be had.
        """
        try:
            reference = Reference.parse(image)
            digest = reference.digest if reference.digest in self._allowed() else ""
            if not digest:
                with (
                    tempfile.TemporaryDirectory(prefix="edgekit-verify-") as folder,
                    RegistryClient(reference) as client,
                ):
                    digest, _ = verify_remote(reference, client, Blobs(Path(folder)), self._policy)
                self._allow(digest)
        except EdgekitError as error:
            raise ModuleFailed(f"{image} is refused: {error}") from error
        judged = str(reference.at(digest))
        self._engine.pull(judged)
        self._judged[image] = judged
        log.info("%s is signed as the policy wants it", judged)

    def start(self, launch: Launch) -> None:
        """Start what was judged.

        Raises:
            ModuleFailed: it was never judged, as with the pull policy `never`.
        """
        if launch.image not in self._judged:
            raise ModuleFailed(
                f"{launch.module} is refused: its image {launch.image} was not pulled, so nobody"
                " looked whether it is signed"
            )
        self._engine.start(replace(launch, image=self._judged[launch.image]))

    def stop(self, module: str) -> None:
        """As the engine does."""
        self._engine.stop(module)

    def state(self, module: str) -> State | None:
        """As the engine says."""
        return self._engine.state(module)

    def close(self) -> None:
        """As the engine does."""
        self._engine.close()

    def _allowed(self) -> list[str]:
        """The digests that met this very policy before."""
        with suppress(FileNotFoundError, ValueError, AttributeError):
            found = json.loads(self._known.read_text()).get(self._mark)
            return [str(digest) for digest in found] if isinstance(found, list) else []
        return []

    def _allow(self, digest: str) -> None:
        known = [*self._allowed(), digest]
        try:
            self._known.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(self._known) as file:
                file.write(json.dumps({self._mark: sorted(set(known))}).encode())
        except OSError as error:
            # it costs a look at the registry after the next start, and no more
            log.warning("cannot keep what is signed in %s: %s", self._known, error.strerror)
