"""Operations of the SDKs that the other tests of this folder have no need of."""

import asyncio
import http.server
import json
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.eventhub import EventHubConsumerClient
from azure.iot.device import IoTHubDeviceClient, IoTHubModuleClient, MethodResponse
from azure.iot.device.aio import IoTHubDeviceClient as AsyncDeviceClient
from azure.iot.hub import IoTHubHttpRuntimeManager, IoTHubJobManager
from azure.iot.hub.models import (
    CloudToDeviceMethod,
    ConfigurationQueriesTestInput,
    ExportImportDevice,
    JobProperties,
    Twin,
    TwinProperties,
)
from provisioningserviceclient import ProvisioningServiceClient, QuerySpecification
from provisioningserviceclient.models import AttestationMechanism, EnrollmentGroup
from provisioningserviceclient.protocol.models import (
    BulkEnrollmentOperation,
    IndividualEnrollment,
)

from edgekit_sim.iothub import tokens
from edgekit_sim.iothub.handle import HubHandle

SYMMETRIC = AttestationMechanism(type="symmetricKey")


def token(hub: HubHandle, device_id: str, seconds: float = 600.0) -> str:
    """A token for a device by the hub's address: such clients take it for their host."""
    hub.create_device(device_id)
    key = hub.request("GET", f"/devices/{device_id}")["authentication"]["symmetricKey"]
    resource = f"{hub.gateway}/devices/{device_id}"
    return tokens.sign(resource, key["primaryKey"], int(time.time() + seconds))


def test_a_token_of_ones_own_is_renewed(iothub: HubHandle) -> None:
    client = IoTHubDeviceClient.create_from_sastoken(token(iothub, "own-token"))
    client.send_message("first")
    client.update_sastoken(token(iothub, "own-token", 1200.0))
    client.send_message("second")
    client.disconnect()
    client.send_message("after a reconnect")
    client.shutdown()
    bodies = [e["body"] for e in iothub.events() if e["deviceId"] == "own-token"]
    assert bodies == ["first", "second", "after a reconnect"]


def test_the_old_way_of_receiving(iothub: HubHandle, connect: Any, registry: Any) -> None:
    client = connect("old-way")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        registry.send_c2d_message("old-way", "hello", {})
        assert client.receive_message(timeout=10).data == b"hello"
        waiting = threading.Timer(
            0.5,
            registry.update_twin,
            ("old-way", Twin(properties=TwinProperties(desired={"a": 1}))),
        )
        waiting.start()
        patch = client.receive_twin_desired_properties_patch(timeout=10)
        waiting.join()
        assert patch["a"] == 1
        results: list[Any] = []
        call = CloudToDeviceMethod(method_name="m", response_timeout_in_seconds=20)
        thread = threading.Thread(
            target=lambda: results.append(registry.invoke_device_method("old-way", call))
        )
        client.receive_method_request(block=False)
        thread.start()
        request = client.receive_method_request(timeout=10)
        client.send_method_response(MethodResponse.create_from_method_request(request, 200))
        thread.join(20)
    assert results[0].status == 200
    assert iothub.request("GET", "/devices/old-way")["connectionState"] == "Connected"


class Workload(http.server.BaseHTTPRequestHandler):
    """As much of an edge device's workload API as a module needs."""

    key: str
    authority: str

    def _answer(self, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self._answer({"certificate": self.authority})

    def do_POST(self) -> None:
        import base64
        import hmac

        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        data = base64.b64decode(sent["data"])
        digest = hmac.digest(base64.b64decode(self.key), data, "sha256")
        self._answer({"digest": base64.b64encode(digest).decode()})

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture
def edge(iothub: HubHandle, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The environment of the module `m` on the edge device `edge-env`."""
    iothub.create_device("edge-env", edge=True)
    modules = iothub.request("GET", "/devices/edge-env/modules")
    if "m" not in {module["moduleId"] for module in modules}:
        iothub.request("PUT", "/devices/edge-env/modules/m", {"managedBy": "IotEdge"})
    module = iothub.request("GET", "/devices/edge-env/modules/m")
    key = module["authentication"]["symmetricKey"]["primaryKey"]
    fields = {"key": key, "authority": Path(iothub.ca_file).read_text()}
    handler = type("Handler", (Workload,), fields)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    for name, value in {
        "IOTHUBHOSTNAME": iothub.hostname,
        "DEVICEID": "edge-env",
        "MODULEID": "m",
        "GATEWAYHOSTNAME": iothub.gateway,
        "MODULEGENERATIONID": module["generationId"],
        "WORKLOADURI": f"http://127.0.0.1:{server.server_address[1]}",
        "APIVERSION": "2020-07-07",
    }.items():
        monkeypatch.setenv(f"IOTEDGE_{name}", value)
    yield
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.needs("port-443")
@pytest.mark.usefixtures("edge")
def test_a_module_of_an_edge_device(iothub: HubHandle, connect: Any) -> None:
    client = IoTHubModuleClient.create_from_edge_environment()
    client.send_message_to_output("scored", "output1")
    assert iothub.events()[-1]["moduleId"] == "m"
    other = connect("edge-env", "other")

    def answer(request: Any) -> None:
        response = MethodResponse.create_from_method_request(request, 200, request.payload)
        other.send_method_response(response)

    other.on_method_request_received = answer
    call = {"methodName": "echo", "payload": [1], "responseTimeoutInSeconds": 10}
    assert client.invoke_method(call, "edge-env", "other")["payload"] == [1]
    client.shutdown()


def test_asynchronous_handlers(iothub: HubHandle, registry: Any) -> None:
    iothub.create_device("aio-all")
    text = iothub.device_connection_string("aio-all")

    async def run() -> Any:
        client = AsyncDeviceClient.create_from_connection_string(text)
        arrived: asyncio.Queue[Any] = asyncio.Queue()
        client.on_message_received = arrived.put
        client.on_twin_desired_properties_patch_received = arrived.put
        await client.connect()
        await client.get_twin()
        await asyncio.to_thread(registry.send_c2d_message, "aio-all", "hi", {})
        message = await asyncio.wait_for(arrived.get(), 10)
        patch = Twin(properties=TwinProperties(desired={"b": 2}))
        await asyncio.to_thread(registry.update_twin, "aio-all", patch)
        desired = await asyncio.wait_for(arrived.get(), 10)
        await client.disconnect()
        await client.shutdown()
        return message.data, desired

    assert asyncio.run(run()) == (b"hi", {"b": 2, "$version": 2})


def test_the_rest_of_the_registry(connect: Any, registry: Any) -> None:
    print_ = "A" * 64
    made = registry.create_device_with_certificate_authority("rest", "enabled")
    made = registry.update_device_with_x509("rest", made.etag, print_, None, "enabled")
    made = registry.update_device_with_certificate_authority("rest", made.etag, "enabled")
    assert made.authentication.type == "certificateAuthority"
    module = registry.create_module_with_x509("rest", "m", "", print_, None)
    module = registry.update_module_with_certificate_authority("rest", "m", "", module.etag)
    module = registry.update_module_with_x509("rest", "m", "", module.etag, print_, None)
    assert module.authentication.x509_thumbprint.primary_thumbprint == print_
    registry.create_module_with_certificate_authority("rest", "m2", "")
    twin = Twin(properties=TwinProperties(desired={"x": 1}))
    replaced = registry.replace_module_twin("rest", "m", twin)
    assert replaced.properties.desired["x"] == 1
    entries = [ExportImportDevice(id=f"rest-{n}", import_mode="create") for n in range(2)]
    assert registry.bulk_create_or_update_devices(entries).is_successful
    failed = registry.bulk_create_or_update_devices(entries)
    assert [error.device_id for error in failed.errors] == ["rest-0", "rest-1"]
    client = connect("rest-3", "m")

    def answer(request: Any) -> None:
        client.send_method_response(MethodResponse.create_from_method_request(request, 200))

    client.on_method_request_received = answer
    call = CloudToDeviceMethod(method_name="m")
    assert registry.invoke_device_module_method("rest-3", "m", call).status == 200
    assert registry.get_service_statistics().connected_device_count >= 0


def test_queries_are_tried_before_they_are_used(configurations: Any) -> None:
    tried = configurations.test_configuration_queries(
        ConfigurationQueriesTestInput(
            target_condition="tags.a =",
            custom_metric_queries={"good": "SELECT * FROM devices", "bad": "SELECT"},
        )
    )
    assert "expected" in tried.target_condition_error
    assert tried.custom_metric_query_errors.keys() == {"bad"}
    assert isinstance(configurations.get_configurations(5), list)


def test_feedback_over_http_and_jobs(iothub: HubHandle, connect: Any, registry: Any) -> None:
    runtime = IoTHubHttpRuntimeManager.from_connection_string(iothub.service_connection_string)
    client = connect("runtime")
    messages: list[Any] = []
    client.on_message_received = messages.append
    registry.send_c2d_message("runtime", "x", {"iothub-ack": "full"})
    protocol = runtime.protocol.cloud_to_device_messages
    lock = ""
    for _ in range(200):
        raw = protocol.receive_feedback_notification(raw=True).response
        if raw.status_code == 200:
            lock = raw.headers["ETag"].strip('"')
            break
        time.sleep(0.05)
    runtime.abandon_feedback_notification(lock)
    raw = protocol.receive_feedback_notification(raw=True).response
    assert raw.json()[0]["deviceId"] == "runtime"
    runtime.complete_feedback_notification(raw.headers["ETag"].strip('"'))
    assert runtime.receive_feedback_notification() is None  # no more; else it tells no lock
    jobs = IoTHubJobManager.from_connection_string(iothub.service_connection_string)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # a blob service that never answers
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}/c?s"
        made = jobs.create_import_export_job(
            JobProperties(type="export", output_blob_container_uri=uri)
        )
        jobs.cancel_import_export_job(made.job_id)
    found = {job.job_id: job.status for job in jobs.get_import_export_jobs()}
    assert found[made.job_id] == "cancelled"


def test_events_in_batches(iothub: HubHandle, connect: Any) -> None:
    client = connect("batches")
    for number in range(20):
        client.send_message(str(number))
    sent = [event for event in iothub.events() if event["deviceId"] == "batches"]
    reader = EventHubConsumerClient.from_connection_string(
        iothub.eventhub_connection_string, "$Default", connection_verify=iothub.ca_file
    )
    bodies: list[str] = []
    done = threading.Event()

    def note(_context: Any, events: list[Any]) -> None:
        bodies.extend(event.body_as_str() for event in events)
        if len(bodies) >= 20:
            done.set()

    options = {
        "partition_id": str(sent[0]["partition"]),
        "starting_position": str(sent[0]["offset"] - 1),
    }
    thread = threading.Thread(target=reader.receive_batch, args=(note,), kwargs=options)
    thread.start()
    assert done.wait(20)
    reader.close()
    thread.join(20)
    assert bodies == [str(number) for number in range(20)]


def test_the_rest_of_provisioning(iothub: HubHandle) -> None:
    service = ProvisioningServiceClient.create_from_connection_string(
        iothub.dps_service_connection_string
    )
    entries = [
        IndividualEnrollment(registration_id=f"bulk-{n}", attestation=SYMMETRIC) for n in range(3)
    ]
    made = service.run_bulk_operation(BulkEnrollmentOperation(mode="create", enrollments=entries))
    assert made.is_successful
    found = service.create_individual_enrollment_query(QuerySpecification(query="SELECT *"))
    assert {e.registration_id for e in found.next()} >= {"bulk-0", "bulk-1", "bulk-2"}
    group = EnrollmentGroup(enrollment_group_id="rest-group", attestation=SYMMETRIC)
    service.create_or_update(group)
    groups = service.create_enrollment_group_query(QuerySpecification(query="SELECT *"))
    assert "rest-group" in {g.enrollment_group_id for g in groups.next()}
    service.delete(service.get_enrollment_group("rest-group"))
    service.create_or_update(group)
    service.delete_enrollment_group_by_param("rest-group")
