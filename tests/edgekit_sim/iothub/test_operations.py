"""Every operation of the device SDK, in every way of connecting: one scenario, one table.

MQTT and WebSocket, connection string, symmetric key, token and certificate, blocking and
asynchronous, devices and modules. Each run ends by comparing what it used of the client with what
the client has.
"""

import asyncio
import inspect
import itertools
import queue
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from azure.iot.device import (
    X509,
    IoTHubDeviceClient,
    IoTHubModuleClient,
    Message,
    MethodResponse,
    exceptions,
)
from azure.iot.device.aio import IoTHubDeviceClient as AsyncDeviceClient
from azure.iot.device.aio import IoTHubModuleClient as AsyncModuleClient
from azure.iot.hub import IoTHubRegistryManager
from cryptography.hazmat.primitives import hashes

from edgekit_sim.iothub import HubHandle, start_hub, tokens
from tests.edgekit_sim.iothub.certificates import issue, pem, private
from tests.edgekit_sim.iothub.test_coverage import not_supported, operations
from tests.edgekit_sim.iothub.test_uploads import ACCOUNT, ENVIRONMENT

pytestmark = pytest.mark.needs("port-443")
SECONDS = 30
CONNECTION_STRING, KEY, TOKEN, CERTIFICATE = "connection string", "key", "token", "certificate"
DEVICES = {False: IoTHubDeviceClient, True: AsyncDeviceClient}
MODULES = {False: IoTHubModuleClient, True: AsyncModuleClient}


@dataclass(frozen=True)
class Case:
    """One way of connecting."""

    module: bool
    proof: str
    websockets: bool
    asynchronous: bool

    def __str__(self) -> str:
        words = ("module" if self.module else "device", self.proof.replace(" ", "-"))
        ways = ("ws" if self.websockets else "mqtt", "aio" if self.asynchronous else "sync")
        return "-".join((*words, *ways))

    @property
    def kind(self) -> Any:
        """The client's class."""
        return (MODULES if self.module else DEVICES)[self.asynchronous]


BOTH = (False, True)
CASES = [
    Case(*one)
    for one in itertools.product(BOTH, (CONNECTION_STRING, KEY, TOKEN, CERTIFICATE), BOTH, BOTH)
    if not (one[0] and one[1] == KEY)  # the SDK has no such constructor for modules
]


class Recorder:
    """Passes everything on to a client, and remembers which of its operations were used."""

    def __init__(self, client: Any) -> None:
        self.__dict__.update(client=client, used=set())

    def __getattr__(self, name: str) -> Any:
        self.used.add(name)
        return getattr(self.client, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self.used.add(name)
        setattr(self.client, name, value)


async def do(operation: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Carry out an operation of a blocking or an asynchronous client."""
    outcome = await asyncio.to_thread(operation, *arguments, **options)
    return await asyncio.wait_for(outcome, SECONDS) if inspect.isawaitable(outcome) else outcome


@pytest.fixture(scope="module")
def storing() -> Iterator[HubHandle]:
    """A hub with storage for files."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(ENVIRONMENT, ACCOUNT)
        with start_hub() as hub:
            environment.setenv("SSL_CERT_FILE", hub.ca_file)
            environment.setenv("REQUESTS_CA_BUNDLE", hub.ca_file)
            yield hub


@pytest.fixture(scope="module")
def service(storing: HubHandle) -> IoTHubRegistryManager:
    return IoTHubRegistryManager.from_connection_string(storing.service_connection_string)


class Scenario:
    """A device or module that does all it can."""

    def __init__(
        self, hub: HubHandle, service: Any, case: Case, folder: Path, device_id: str = ""
    ) -> None:
        self.hub, self.service, self.case = hub, service, case
        self.device_id = device_id or str(case)
        self.module_id = "m" if case.module else ""
        self.path = f"/devices/{self.device_id}" + ("/modules/m" if case.module else "")
        self.twin = self.path.replace("/devices", "/twins")
        self.key = tokens.new_key()
        self.pair = issue("anything")
        self._certificate, self._key_file = folder / "cert.pem", folder / "key.pem"

    def register(self) -> None:
        """Register it, and the device that a module is on."""
        names = {"deviceId": self.device_id, "moduleId": self.module_id}
        if self.case.module:
            self.hub.create_device(self.device_id)
        keys = {"primaryKey": self.key, "secondaryKey": tokens.new_key()}
        authentication: dict[str, Any] = {"type": "sas", "symmetricKey": keys}
        if self.case.proof == CERTIFICATE:
            thumbprint = self.pair[0].fingerprint(hashes.SHA256()).hex().upper()
            authentication = {"type": "selfSigned"}
            authentication["x509Thumbprint"] = {"primaryThumbprint": thumbprint}
        names = {key: value for key, value in names.items() if value}
        self.hub.request("PUT", self.path, {**names, "authentication": authentication})

    def client(self, **more: Any) -> Recorder:
        """A client of it."""
        kind, proof = self.case.kind, self.case.proof
        ids = (self.device_id, self.module_id) if self.case.module else (self.device_id,)
        options: dict[str, Any] = {"websockets": self.case.websockets, **more}
        if proof == CONNECTION_STRING:
            text = f"HostName={self.hub.gateway};DeviceId={self.device_id}"
            text += f";ModuleId={self.module_id}" if self.case.module else ""
            text += f";SharedAccessKey={self.key}"
            made = kind.create_from_connection_string(text, **options)
        elif proof == KEY:
            made = kind.create_from_symmetric_key(self.key, self.hub.gateway, *ids, **options)
        elif proof == TOKEN:
            made = kind.create_from_sastoken(self._token(600), **options)
        else:
            self._certificate.write_text(pem(self.pair[0]))
            self._key_file.write_bytes(private(self.pair[1]))
            x509 = X509(str(self._certificate), str(self._key_file))
            made = kind.create_from_x509_certificate(x509, self.hub.gateway, *ids, **options)
        return Recorder(made)

    def _token(self, seconds: int) -> str:
        resource = f"{self.hub.gateway}{self.path}"
        return tokens.sign(resource, self.key, int(time.time()) + seconds)

    async def run(self) -> set[str]:
        """All of it, with handlers and then in the old way; returns the operations used."""
        first, second = self.client(), self.client()
        await self._with_handlers(first)
        await do(first.shutdown)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            await self._in_the_old_way(second)
        await do(second.shutdown)
        return first.used | second.used

    async def _with_handlers(self, client: Recorder) -> None:
        states: queue.Queue[bool] = queue.Queue()
        client.on_connection_state_change = lambda: states.put(client.connected)
        await do(client.connect)
        assert states.get(timeout=SECONDS)
        await do(client.send_message, Message("sent", message_id="m-1"))
        await do(client.patch_twin_reported_properties, {"a": 1})
        assert (await do(client.get_twin))["reported"]["a"] == 1
        await self._desired(client)
        await self._method(client)
        if self.case.module:
            await do(client.send_message_to_output, "put out", "output1")
            await self._method_of_another(client)
        else:
            await self._command(client)
            await self._upload(client)
        await self._renew(client)
        await do(client.disconnect)
        bodies = [e["body"] for e in self.hub.events() if e["deviceId"] == self.device_id]
        assert bodies == (["sent", "put out"] if self.case.module else ["sent"])

    async def _desired(self, client: Recorder) -> None:
        arrived: queue.Queue[Any] = queue.Queue()
        client.on_twin_desired_properties_patch_received = arrived.put
        await self._request("PATCH", self.twin, {"properties": {"desired": {"b": 2}}})
        assert await asyncio.to_thread(arrived.get, True, SECONDS) == {"b": 2, "$version": 2}

    async def _method(self, client: Recorder) -> None:
        arrived: queue.Queue[Any] = queue.Queue()
        client.on_method_request_received = arrived.put
        request = asyncio.to_thread(arrived.get, True, SECONDS)
        assert await self._invoke(client, request) == (200, {"did": "go"})

    async def _invoke(self, client: Recorder, waiting: Any) -> tuple[int, Any]:
        call = {"methodName": "go", "payload": 1, "connectTimeoutInSeconds": SECONDS}
        answer = asyncio.ensure_future(self._request("POST", f"{self.twin}/methods", call))
        request = await waiting
        response = MethodResponse.create_from_method_request(request, 200, {"did": request.name})
        await do(client.send_method_response, response)
        told = await answer
        return told["status"], told["payload"]

    async def _command(self, client: Recorder) -> None:
        arrived: queue.Queue[Any] = queue.Queue()
        client.on_message_received = arrived.put
        await asyncio.to_thread(self.service.send_c2d_message, self.device_id, "hello")
        assert (await asyncio.to_thread(arrived.get, True, SECONDS)).data == b"hello"

    async def _upload(self, client: Recorder) -> None:
        info = await do(client.get_storage_info_for_blob, "log.txt")
        assert info["blobName"] == f"{self.device_id}/log.txt"
        identifier = info["correlationId"]
        await do(client.notify_blob_upload_status, identifier, True, 200, "done")

    async def _method_of_another(self, client: Recorder) -> None:
        client.on_message_received = lambda _: None  # its inputs; nothing comes without an edge hub
        call = {"methodName": "x", "payload": 1, "responseTimeoutInSeconds": 5}
        await asyncio.to_thread(self.hub.create_device, "absent")
        with pytest.raises(exceptions.ClientError):
            await do(client.invoke_method, call, "absent")

    async def _renew(self, client: Recorder) -> None:
        if self.case.proof == TOKEN:
            await do(client.update_sastoken, self._token(1200))
            assert (await do(client.get_twin))["desired"]["b"] == 2
        else:
            with pytest.raises(exceptions.ClientError):
                await do(client.update_sastoken, "SharedAccessSignature sr=x&sig=y&se=1")

    async def _in_the_old_way(self, client: Recorder) -> None:
        assert await self._invoke(client, do(client.receive_method_request)) == (200, {"did": "go"})
        patch = asyncio.ensure_future(do(client.receive_twin_desired_properties_patch))
        number = 0
        while not patch.done():  # until it has subscribed
            number += 1
            await self._request("PATCH", self.twin, {"properties": {"desired": {"n": number}}})
        assert 1 <= patch.result()["n"] <= number
        if not self.case.module:
            await asyncio.to_thread(self.service.send_c2d_message, self.device_id, "again")
            assert (await do(client.receive_message)).data == b"again"

    async def _request(self, method: str, path: str, document: Any) -> Any:
        return await asyncio.to_thread(self.hub.request, method, path, document)

    async def try_to_connect(self) -> None:
        """Connect once."""
        client = self.client(connection_retry=False)
        try:
            await do(client.connect)
        finally:
            await do(client.shutdown)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_who_has_another_proof_is_refused(
    storing: HubHandle, service: Any, tmp_path: Path, case: Case
) -> None:
    one, other = (
        Scenario(storing, service, case, tmp_path, f"{case}-{word}") for word in ("one", "other")
    )
    one.register()
    other.register()
    one.key, one.pair = other.key, other.pair
    with pytest.raises(exceptions.CredentialError):
        asyncio.run(one.try_to_connect())
    asyncio.run(other.try_to_connect())  # with what the other was refused for


@pytest.mark.parametrize("case", CASES, ids=str)
def test_all_a_client_can_do(storing: HubHandle, service: Any, tmp_path: Path, case: Case) -> None:
    scenario = Scenario(storing, service, case, tmp_path)
    scenario.register()
    used = asyncio.run(scenario.run())
    made_by = {name for name in operations(case.kind) if name.startswith("create_from_")}
    assert operations(case.kind) - made_by - used - not_supported().keys() == set()


def test_every_way_to_make_a_client_is_in_the_table() -> None:
    ways = {"create_from_connection_string", "create_from_sastoken", "create_from_x509_certificate"}
    for kind in DEVICES.values():
        made_by = {name for name in operations(kind) if name.startswith("create_from_")}
        assert made_by == {*ways, "create_from_symmetric_key"}
    for kind in MODULES.values():
        made_by = {name for name in operations(kind) if name.startswith("create_from_")}
        assert made_by == {*ways, "create_from_edge_environment"}  # see test_sdk
