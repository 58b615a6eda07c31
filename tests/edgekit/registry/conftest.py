import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import boto3
import psycopg
import pytest
from azure.storage.blob import BlobServiceClient

from edgekit.registry import Registry
from edgekit.workspace import Workspace
from tests.azurite import Azurite

DIGITS = Path(__file__).parents[3] / "examples" / "digits"


@pytest.fixture
def digits() -> Path:
    return DIGITS / "digits.onnx"


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Path]:
    """The folder with the socket of a PostgreSQL server of our own, which refuses to be root."""
    programs = _programs()
    user = _unprivileged_user()
    with tempfile.TemporaryDirectory(prefix="edgekit-postgresql-") as name:
        folder = Path(name)
        shutil.chown(folder, user)
        cluster = folder / "cluster"
        initdb = [programs / "initdb", "--auth=trust", "--username=edgekit", "--no-sync", cluster]
        subprocess.run(initdb, user=user, cwd=folder, check=True, capture_output=True, timeout=60)
        settings = {"listen_addresses": "", "unix_socket_directories": folder, "fsync": "off"}
        options = [f"-c{key}={value}" for key, value in settings.items()]
        log = (folder / "log").open("wb")
        server = subprocess.Popen(
            [programs / "postgres", "-D", cluster, *options], user=user, cwd=folder, stderr=log
        )
        try:
            _wait_for(folder, server)
            yield folder
        finally:
            server.send_signal(signal.SIGQUIT)  # at once: nothing of it is kept
            server.wait(timeout=30)
            log.close()


@pytest.fixture
def postgresql_url(postgresql: Path) -> Iterator[str]:
    """The URL of a schema of the test's own: quicker made than a database."""
    schema = f"t{secrets.token_hex(8)}"
    with _connect(postgresql) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
        options = quote(f"-csearch_path={schema}")
        yield f"postgresql+psycopg://edgekit@/postgres?host={postgresql}&options={options}"
        connection.execute(f"DROP SCHEMA {schema} CASCADE")


@pytest.fixture(
    params=["sqlite", pytest.param("postgresql", marks=pytest.mark.needs("postgresql"))]
)
def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Workspace:
    if request.param == "sqlite":
        return Workspace.create(tmp_path / "workspace")
    return Workspace.create(
        tmp_path / "workspace", database=request.getfixturevalue("postgresql_url")
    )


@pytest.fixture
def azure_blobs(azurite: Azurite, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a new folder in Azurite; its credentials are in the environment."""
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azurite.connection_string)
    container = f"c{secrets.token_hex(8)}"
    with BlobServiceClient.from_connection_string(azurite.connection_string) as client:
        client.create_container(container)
    return f"abfs://{container}/models"


@pytest.fixture(scope="session")
def s3_address() -> Iterator[str]:
    """Where moto's S3 listens, in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "--host", "127.0.0.1", "-p0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        for line in server.stderr:
            if found := re.search(r"Running on (http://\S+)", line):
                # what it says of each request must go somewhere
                threading.Thread(target=server.stderr.read, daemon=True).start()
                yield found[1]
                return
        raise RuntimeError("moto's server does not start")
    finally:
        server.kill()
        server.wait()
        server.stderr.close()


@pytest.fixture
def s3_blobs(s3_address: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a new folder in moto's S3; its address and credentials are in the environment."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_address)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-s3")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    bucket = f"b{secrets.token_hex(8)}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    return f"s3://{bucket}/models"


@pytest.fixture
def registry(workspace: Workspace) -> Registry:
    return Registry.open(workspace)


def _programs() -> Path:
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    return max(Path("/usr/lib/postgresql").glob("*/bin/initdb")).parent


def _unprivileged_user() -> str:
    if os.geteuid():
        return pwd.getpwuid(os.geteuid()).pw_name
    return next(user.pw_name for user in pwd.getpwall() if user.pw_name in ("postgres", "nobody"))


def _connect(folder: Path) -> psycopg.Connection:
    return psycopg.connect(
        host=str(folder), user="edgekit", dbname="postgres", autocommit=True, connect_timeout=5
    )


def _wait_for(folder: Path, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            _connect(folder).close()
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((folder / "log").read_text()) from None
            time.sleep(0.05)
        else:
            return
