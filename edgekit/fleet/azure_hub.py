"""The hub port over `azure-iot-hub`: REST only, errors told in one line, the key never shown."""

import binascii
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgekit.errors import HubError
from edgekit.fleet.hub import Configuration

VARIABLE = "EDGEKIT_HUB_CONNECTION_STRING"
FILE_VARIABLE = f"{VARIABLE}_FILE"

_PAGE = "1000"
_MOST_CONFIGURATIONS = 100  # what a paid hub holds
_SECONDS = 30


def connection_string() -> str:
    """The hub's connection string from the environment, or from the file it names.

    Raises:
        HubError: neither variable is set, or the file cannot be read.
    """
    value = os.environ.get(VARIABLE, "").strip()
    path = os.environ.get(FILE_VARIABLE, "").strip()
    if not value and path:
        try:
            value = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise HubError(f"cannot read {path} ({FILE_VARIABLE}): {reason}") from error
    if not value:
        raise HubError(
            "no hub is named",
            f"set {VARIABLE}, or {FILE_VARIABLE} to the file that holds it",
        )
    return value


class AzureHub:
    """An IoT Hub reached with a service connection string.

    Args:
        connection: `HostName=...;SharedAccessKeyName=...;SharedAccessKey=...`.
        retries: how often a call is tried again when the hub is busy or does not answer.

    Raises:
        HubError: the SDK is not installed, or the string does not read.
    """

    def __init__(self, connection: str, retries: int = 3) -> None:
        try:
            from azure.iot.hub import IoTHubConfigurationManager
        except ImportError as error:
            raise HubError(
                f"azure-iot-hub does not import: {error}", "pip install 'edgekit[azure]'"
            ) from error
        try:
            # its protocol client reaches all REST calls; the registry's would bring AMQP along
            manager = IoTHubConfigurationManager.from_connection_string(connection)
            key = dict(part.split("=", 1) for part in connection.split(";"))["SharedAccessKey"]
            base64_key = binascii.a2b_base64(key.encode(), strict_mode=True)
        except (ValueError, KeyError, AttributeError):
            # without the cause: it may hold a part of the string
            raise HubError(
                "the hub's connection string does not read",
                "copy one with the right 'service' or 'iothubowner': "
                "HostName=...;SharedAccessKeyName=...;SharedAccessKey=...",
            ) from None
        if not base64_key:
            raise HubError("the hub's connection string holds an empty key")
        self._name = str(manager.auth["HostName"])
        self._rest = manager.protocol
        self._rest.config.connection.timeout = _SECONDS
        self._rest.config.retry_policy.retries = retries

    @classmethod
    def from_environment(cls) -> "AzureHub":
        """The hub that the environment names, see `connection_string`."""
        return cls(connection_string())

    def __repr__(self) -> str:
        return f"AzureHub({self._name!r})"

    @property
    def name(self) -> str:
        """The hub's host name."""
        return self._name

    def configurations(self) -> list[Configuration]:
        """All configurations of the hub; one call."""
        with self._told("list configurations"):
            found = self._rest.configuration.get_configurations(_MOST_CONFIGURATIONS)
            return [_from_sdk(item) for item in found]

    def configuration(self, name: str) -> Configuration | None:
        """One configuration, None when there is none of that name; one call."""
        from msrest.exceptions import HttpOperationError

        with self._told(f"read configuration {name}"):
            try:
                return _from_sdk(self._rest.configuration.get(name))
            except HttpOperationError as error:
                if error.response.status_code == 404:
                    return None
                raise

    def create(self, configuration: Configuration) -> Configuration:
        """Store a new configuration; one call.

        Raises:
            HubError: the id is taken (the hub's 409), or any other refusal.
        """
        with self._told(f"create configuration {configuration.id}"):
            stored = self._rest.configuration.create_or_update(
                configuration.id, _to_sdk(configuration)
            )
            return _from_sdk(stored)

    def update(self, configuration: Configuration) -> Configuration:
        """Change all but the content, if the hub's ETag is still `configuration.etag`; one call.

        Raises:
            HubError: it changed since (the hub's 412), or any other refusal.
        """
        with self._told(f"update configuration {configuration.id}"):
            stored = self._rest.configuration.create_or_update(
                configuration.id, _to_sdk(configuration), _quoted(configuration.etag)
            )
            return _from_sdk(stored)

    def query(self, text: str) -> list[dict[str, Any]]:
        """All rows of a query, page by page; one call a thousand rows."""
        from azure.iot.hub.protocol.models import QuerySpecification

        rows: list[dict[str, Any]] = []
        token = None
        with self._told("query"):
            while True:
                answer = self._rest.query.get_twins(
                    QuerySpecification(query=text), token, _PAGE, None, True
                )
                # the SDK reads every row as a twin and would lose the columns of a COUNT
                rows += json.loads(answer.response.text)
                token = answer.response.headers.get("x-ms-continuation")
                if not token:
                    return rows

    def patch_tags(self, device: str, tags: Mapping[str, Any]) -> None:
        """Merge `tags` into the device's, null removes one; one call."""
        from azure.iot.hub.protocol.models import Twin

        with self._told(f"tag device {device}"):
            self._rest.devices.update_twin(device, Twin(tags=dict(tags)), '"*"')

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Turn all that the SDK raises into one line."""
        from azure.iot.hub.sastoken import SasTokenError
        from msrest.exceptions import ClientException, HttpOperationError
        from requests.exceptions import RequestException

        try:
            yield
        except HttpOperationError as error:
            raise _refused(self._name, what, error.response) from error
        except (ClientException, RequestException) as error:
            raise _silent(self._name, what, error) from error
        except (SasTokenError, binascii.Error) as error:
            raise HubError(f"cannot sign a call to {self._name}", f"check {VARIABLE}") from error
        except ValueError as error:
            raise HubError(
                f"{self._name} answers something else than JSON to: {what}",
                "check that the host name is an IoT Hub's",
            ) from error


_HINTS = {
    401: f"check the key in {VARIABLE}, and this machine's clock",
    403: "the policy lacks a right (service connect, registry read and write), or the hub is full",
    409: "somebody else made it meanwhile; plan again",
    412: "it was changed meanwhile; plan again",
    429: "the hub's quota is used up; wait a minute and run the same command again",
}


def _refused(hub: str, what: str, response: Any) -> HubError:
    status = int(response.status_code)
    reason = _reason(response)
    hint = _HINTS.get(status, "try again in a minute" if status >= 500 else "")
    told = {401: "the credentials are refused", 429: "too many calls"}.get(status, reason)
    return HubError(f"{hub} refused to {what}: {status} {told}".rstrip(), hint)


def _reason(response: Any) -> str:
    """What the hub says, at most 300 characters; its body is `{"Message": ...}`."""
    try:
        body = json.loads(response.text)
        text = str(body.get("Message") or body.get("message") or "")
    except (ValueError, AttributeError):
        text = ""
    return " ".join(text.split())[:300]


def _silent(hub: str, what: str, error: Exception) -> HubError:
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text or "SSLError" in text:
        return HubError(
            f"{hub} shows a certificate this machine does not trust",
            "for a hub of your own set REQUESTS_CA_BUNDLE to its root certificate",
        )
    told = [reason for sign, reason in _SILENCES.items() if sign in text]
    return HubError(
        f"{hub} does not answer ({told[0] if told else type(error).__name__}); could not {what}",
        f"check the HostName in {VARIABLE} and the network",
    )


# what the operating system and requests say -> what we say
_SILENCES = {
    "Name or service not known": "the name is unknown",
    "No address associated": "the name is unknown",
    "Temporary failure in name resolution": "the name cannot be resolved",
    "Connection refused": "the connection is refused",
    "timed out": "no answer in time",
}


def _quoted(etag: str) -> str:
    return etag if etag.startswith(('"', "*")) else f'"{etag}"'


def _from_sdk(item: Any) -> Configuration:
    results: dict[str, int] = {}
    for metrics in (item.system_metrics, item.metrics):
        results.update((metrics.results if metrics else None) or {})
    created = item.created_time_utc
    return Configuration(
        id=item.id,
        content={"modulesContent": item.content.modules_content}
        if item.content is not None and item.content.modules_content
        else {},
        condition=item.target_condition or "",
        priority=item.priority or 0,
        labels=item.labels or {},
        metrics=(item.metrics.queries if item.metrics else None) or {},
        results=results,
        created=created.isoformat() if created else "",
        etag=item.etag or "",
    )


def _to_sdk(configuration: Configuration) -> Any:
    from azure.iot.hub.protocol import models

    return models.Configuration(
        id=configuration.id,
        content=models.ConfigurationContent(
            modules_content=configuration.content.get("modulesContent")
        ),
        target_condition=configuration.condition,
        priority=configuration.priority,
        labels=dict(configuration.labels),
        metrics=models.ConfigurationMetrics(queries=dict(configuration.metrics)),
        etag=configuration.etag or None,
    )
