"""References to images: `REGISTRY/NAME:TAG`, `REGISTRY/NAME@sha256:...`."""

import ipaddress
import re
from dataclasses import dataclass, replace

from edgekit.errors import OciError
from edgekit.oci.descriptor import is_digest

# the distribution specification's grammar
_NAME = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_REGISTRY = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?")


@dataclass(frozen=True)
class Reference:
    """Where an image is, or is to be put.

    The registry must be named: a name alone would silently mean one company's registry.
    """

    registry: str
    name: str
    tag: str = ""
    digest: str = ""

    def __post_init__(self) -> None:
        hint = "write REGISTRY/NAME:TAG, as in registry.example.com/digits:1 or localhost:5000/d:1"
        if not _REGISTRY.fullmatch(self.registry):
            raise OciError(f"{str(self)!r} does not name a registry", hint)
        if not _NAME.fullmatch(self.name) or len(self.name) > 255:
            raise OciError(f"{self.name!r} is no image name (lower case, digits, . _ - /)", hint)
        if self.tag and not _TAG.fullmatch(self.tag):
            raise OciError(f"{self.tag!r} is no tag", hint)
        if self.digest and not is_digest(self.digest):
            raise OciError(f"{self.digest!r} is no sha256 digest", hint)

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """Read a reference; without a tag and a digest the tag is `latest`.

        Raises:
            OciError: it has another form, or names no registry.
        """
        rest, _, digest = text.strip().partition("@")
        registry, slash, name = rest.partition("/")
        if not slash or not ("." in registry or ":" in registry or registry == "localhost"):
            registry, name = "", rest
        tag = ""
        if ":" in name:
            name, _, tag = name.rpartition(":")
        return cls(registry, name, tag if tag or digest else "latest", digest)

    @property
    def target(self) -> str:
        """What the registry is asked for: the digest where there is one, else the tag."""
        return self.digest or self.tag

    @property
    def host(self) -> str:
        """The registry without its port."""
        return re.sub(r":[0-9]+$", "", self.registry).strip("[]")

    @property
    def loopback(self) -> bool:
        """Whether the registry is on this machine: only there is plain HTTP tried unasked."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def at(self, digest: str) -> "Reference":
        """The same place by digest."""
        return replace(self, tag="", digest=digest)

    def __str__(self) -> str:
        text = f"{self.registry}/{self.name}" if self.registry else self.name
        text += f":{self.tag}" if self.tag else ""
        return text + (f"@{self.digest}" if self.digest else "")
