"""Blobs of a storage account, as far as the hub needs them: by URLs that carry a signature."""

import email.utils
from dataclasses import dataclass
from datetime import datetime

from aiohttp import ClientError, ClientSession, ClientTimeout

API_VERSION = "2021-08-06"
SECONDS = 60


class BlobRefused(Exception):
    """The blob service refuses, or does not answer; `str()` says which blob and why."""


@dataclass(frozen=True)
class BlobProperties:
    """What a blob service says of a blob.

    Attributes:
        size: bytes.
        modified: when it was last written (UTC).
    """

    size: int
    modified: datetime


async def put_blob(url: str, content: bytes) -> None:
    """Write a blob, in the place of one that is there.

    Raises:
        BlobRefused: it is not written.
    """
    headers = {"x-ms-blob-type": "BlockBlob"}
    await _call("PUT", url, content, headers)


async def get_blob(url: str) -> bytes:
    """Read a blob.

    Raises:
        BlobRefused: it is not there, or not to be had.
    """
    return (await _call("GET", url))[2]


async def find_blob(url: str) -> BlobProperties | None:
    """Look for a blob; None when it is not there.

    Raises:
        BlobRefused: nobody can say.
    """
    status, headers, _ = await _call("HEAD", url)
    if status == 404:
        return None
    modified = email.utils.parsedate_to_datetime(headers["Last-Modified"])
    return BlobProperties(int(headers["Content-Length"]), modified)


async def _call(
    method: str, url: str, content: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    name = url.partition("?")[0]  # what follows is a secret
    headers = {"x-ms-version": API_VERSION, **(headers or {})}
    timeout = ClientTimeout(total=SECONDS)
    try:
        async with (
            ClientSession(timeout=timeout, trust_env=True) as client,
            client.request(method, url, data=content, headers=headers) as response,
        ):
            body = await response.read()
            status, answered = response.status, dict(response.headers)
    except (TimeoutError, ClientError, OSError, ValueError) as error:
        reason = str(error).replace(url, name) or type(error).__name__
        raise BlobRefused(f"{name} cannot be reached: {reason}") from error
    if status >= 400 and not (method == "HEAD" and status == 404):
        code = answered.get("x-ms-error-code", "")
        raise BlobRefused(
            f"the blob service answered {status} {code} for {name}".replace("  ", " ")
        )
    return status, answered, body
