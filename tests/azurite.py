"""Azurite, Microsoft's emulator of Azure Storage, for the tests that need a blob service."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROGRAM = "azurite-blob"
# of every Azurite, as Microsoft documents it
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@dataclass(frozen=True)
class Azurite:
    """A running blob service.

    Args:
        address: `http://127.0.0.1:PORT`, or `https://...` where it was given a certificate.
    """

    address: str

    @property
    def url(self) -> str:
        """The account's blob endpoint."""
        return f"{self.address}/{ACCOUNT}"

    @property
    def connection_string(self) -> str:
        """For the SDKs; holds the key that every Azurite has."""
        scheme = self.address.partition(":")[0]
        return (
            f"DefaultEndpointsProtocol={scheme};AccountName={ACCOUNT};AccountKey={KEY};"
            f"BlobEndpoint={self.url};"
        )


@contextmanager
def running_azurite(folder: Path, *options: str) -> Iterator[Azurite]:
    """A blob service on a free port, which keeps everything in memory.

    Args:
        folder: for its settings and its log.
        options: of `azurite-blob`, as `--cert` and `--key`.
    """
    program = shutil.which(PROGRAM)
    assert program is not None
    command = [program, "--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence"]
    # the SDKs are newer than the service it emulates
    command += ["--disableTelemetry", "--skipApiVersionCheck", "--silent", *options]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            assert server.stdout is not None
            for line in server.stdout:
                if found := re.search(r"listens on (https?://\S+)", line):
                    yield Azurite(found[1])
                    return
            raise RuntimeError(f"Azurite does not start: {(folder / 'log').read_text()}")
        finally:
            server.kill()
            server.communicate()
