"""Azurite, Microsoft's emulator of Azure Storage, for the tests that need a blob service."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

PROGRAM = "azurite-blob"
# of every Azurite, as Microsoft documents it
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
SECONDS = 30.0


def _path() -> str:
    """Where programs are: first beside the interpreter, where `make azurite` puts it and Node."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def find_azurite() -> str | None:
    """The program, None where it is not installed."""
    return shutil.which(PROGRAM, path=_path())


class Azurite:
    """A running blob service; it may be stopped and started again, on the same data and port.

    Args:
        folder: for its data and its log.
        options: of `azurite-blob`, as `--cert` and `--key`.

    Attributes:
        address: `http://127.0.0.1:PORT`, or `https://...` where it was given a certificate.
        port: its port.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[str] | None = None
        self.address = ""
        self.port = 0
        self.start()

    def __enter__(self) -> "Azurite":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

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

    def client(self) -> Any:
        """The unmodified storage SDK."""
        from azure.storage.blob import BlobServiceClient

        return BlobServiceClient.from_connection_string(self.connection_string)

    def start(self) -> None:
        """Start it; returns when it answers."""
        program = find_azurite()
        assert program is not None
        command = [program, "--blobHost", "127.0.0.1", "--blobPort", str(self.port)]
        # the SDKs are newer than the service it emulates
        command += ["--disableTelemetry", "--skipApiVersionCheck", "--silent", *self._options]
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._folder,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,  # the program may start Node as a child
                env={**os.environ, "PATH": _path()},
            )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if found := re.search(r"listens on (https?://\S+:(\d+))", line):
                self.address, self.port = found[1], int(found[2])
                return
        words = (self._folder / "log").read_text()
        self.stop()
        raise RuntimeError(f"Azurite does not start: {words}")

    def stop(self) -> None:
        """End it; its data stays."""
        process, self._process = self._process, None
        if process is None:
            return
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate()
        end = time.monotonic() + SECONDS
        while self._answers() and time.monotonic() < end:
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True
