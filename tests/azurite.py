"""Azurite, a real blob service: started, stopped and started again on the same data and port."""

import base64
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

ACCOUNT = "acc"
KEY = base64.b64encode(b"a key of no value, for tests only").decode()
SECONDS = 30.0


def _path() -> str:
    """Where programs are: first beside the interpreter, where `make azurite` puts it and Node."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def find_azurite() -> str | None:
    """The program, None where it is not installed."""
    return shutil.which("azurite-blob", path=_path())


class Azurite:
    """A blob service in a child process.

    Args:
        folder: where its data is.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
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
    def connection_string(self) -> str:
        """For azure-storage-blob, and for the hub."""
        return (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};"
            f"BlobEndpoint=http://127.0.0.1:{self.port}/{ACCOUNT}"
        )

    def client(self) -> Any:
        """The unmodified storage SDK."""
        from azure.storage.blob import BlobServiceClient

        return BlobServiceClient.from_connection_string(self.connection_string)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        program = find_azurite()
        assert program is not None
        arguments = ["--blobHost", "127.0.0.1", "--blobPort", str(self.port), "--silent"]
        arguments += ["--location", str(self._folder), "--skipApiVersionCheck"]
        self._process = subprocess.Popen(
            [program, *arguments, "--disableTelemetry"],
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # its program may start Node as a child
            env={**os.environ, "PATH": _path(), "AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"},
        )
        self._wait(answering=True)

    def stop(self) -> None:
        """End it; its data stays."""
        process, self._process = self._process, None
        if process is not None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(SECONDS)
            self._wait(answering=False)

    def _wait(self, answering: bool) -> None:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            if self._answers() is answering:
                return
            time.sleep(0.05)
        raise AssertionError(f"Azurite did not {'start' if answering else 'stop'}")

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True
