"""Jobs through the unmodified azure-iot-hub; import and export against a blob service."""

import json
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from azure.iot.device import MethodResponse
from azure.iot.hub import IoTHubJobManager
from azure.iot.hub.models import CloudToDeviceMethod, JobProperties, JobRequest, Twin
from azure.storage.blob import ContainerSasPermissions, generate_container_sas

from edgekit_sim.iothub.handle import HubHandle


@pytest.fixture
def jobs(iothub: HubHandle) -> IoTHubJobManager:
    return IoTHubJobManager.from_connection_string(iothub.service_connection_string)


def finished(get: Callable[[], Any]) -> Any:
    pause = threading.Event()
    for _ in range(400):
        job = get()
        if job.status in ("completed", "failed", "cancelled"):
            return job
        pause.wait(0.02)
    return job


def test_a_twin_update_on_a_query(iothub: HubHandle, registry: Any, jobs: Any) -> None:
    for number in range(5):
        iothub.create_device(f"j{number}")
        registry.update_twin(f"j{number}", Twin(tags={"odd": number % 2}))
    name = str(uuid.uuid4())
    request = JobRequest(
        type="scheduleUpdateTwin",
        update_twin=Twin(tags={"seen": True}),
        query_condition="tags.odd=1",
    )
    jobs.create_scheduled_job(name, request)
    job = finished(lambda: jobs.get_scheduled_job(name))
    assert (job.status, job.device_job_statistics.succeeded_count) == ("completed", 2)
    seen = [registry.get_twin(f"j{n}").tags.get("seen") for n in range(5)]
    assert seen == [None, True, None, True, None]
    found = iothub.request("POST", "/devices/query", {"query": "SELECT * FROM devices.jobs"})
    assert {part["deviceId"] for part in found if part["jobId"] == name} == {"j1", "j3"}


def test_a_method_on_a_query(connect: Any, jobs: Any, iothub: HubHandle) -> None:
    client = connect("jm1")
    iothub.create_device("jm2")

    def answer(request: Any) -> None:
        response = MethodResponse.create_from_method_request(request, 200, {"done": True})
        client.send_method_response(response)

    client.on_method_request_received = answer
    name = str(uuid.uuid4())
    request = JobRequest(
        type="scheduleDeviceMethod",
        cloud_to_device_method=CloudToDeviceMethod(method_name="restart"),
        query_condition="startswith(deviceId, 'jm')",
    )
    jobs.create_scheduled_job(name, request)
    job = finished(lambda: jobs.get_scheduled_job(name))
    statistics = job.device_job_statistics
    assert (statistics.succeeded_count, statistics.failed_count) == (1, 1)


def test_a_scheduled_job_is_cancelled(jobs: Any) -> None:
    name = str(uuid.uuid4())
    request = JobRequest(
        type="scheduleUpdateTwin",
        update_twin=Twin(tags={"x": 1}),
        query_condition="*",
        start_time=datetime.now(UTC) + timedelta(hours=1),
    )
    assert jobs.create_scheduled_job(name, request).status == "scheduled"
    assert jobs.cancel_scheduled_job(name).status == "cancelled"
    found = jobs.query_scheduled_jobs("scheduleUpdateTwin", "cancelled").items
    assert name in {job["jobId"] for job in found}


def with_signature(container: Any) -> str:
    """The container's URI as the SDK's users make it for the job manager."""
    account = container.credential
    signature = generate_container_sas(
        account.account_name,
        container.container_name,
        account_key=account.account_key,
        permission=ContainerSasPermissions(read=True, write=True, delete=True, list=True),
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )
    return f"{container.url}?{signature}"


@pytest.mark.needs("azurite")
def test_export_and_import(registry: Any, jobs: Any, container: Any) -> None:
    blobs = with_signature(container)
    registry.create_device_with_sas("moved", None, None, "enabled", iot_edge=True)
    registry.update_twin("moved", Twin(tags={"site": "a"}))
    key = registry.get_device("moved").authentication.symmetric_key.primary_key
    made = jobs.create_import_export_job(
        JobProperties(type="export", output_blob_container_uri=blobs)
    )
    assert finished(lambda: jobs.get_import_export_job(made.job_id)).status == "completed"
    entries = container.download_blob("devices.txt").readall().splitlines()
    (entry,) = (e for e in map(json.loads, entries) if e["id"] == "moved" and "moduleId" not in e)
    assert entry["authentication"]["symmetricKey"]["primaryKey"] == key
    registry.delete_device("moved")
    made = jobs.create_import_export_job(
        JobProperties(type="import", input_blob_container_uri=blobs)
    )
    job = finished(lambda: jobs.get_import_export_job(made.job_id))
    assert (job.status, job.failure_reason) == ("completed", None)
    again = registry.get_device("moved")
    assert again.authentication.symmetric_key.primary_key == key
    assert again.capabilities.iot_edge
    assert registry.get_twin("moved").tags == {"site": "a"}


@pytest.mark.needs("azurite")
def test_an_export_without_keys(registry: Any, jobs: Any, container: Any) -> None:
    registry.create_device_with_sas("secret", None, None, "enabled")
    properties = JobProperties(
        type="export",
        output_blob_container_uri=with_signature(container),
        exclude_keys_in_export=True,
    )
    made = jobs.create_import_export_job(properties)
    assert finished(lambda: jobs.get_import_export_job(made.job_id)).status == "completed"
    entries = container.download_blob("devices.txt").readall().splitlines()
    keys = {e["authentication"]["symmetricKey"]["primaryKey"] for e in map(json.loads, entries)}
    assert keys == {None}


@pytest.mark.needs("azurite")
def test_an_import_that_deletes_and_one_of_lines_that_are_wrong(
    registry: Any, jobs: Any, container: Any
) -> None:
    registry.create_device_with_sas("leaving", None, None, "enabled")
    lines = [{"id": "leaving", "importMode": "delete"}, {"id": "new", "importMode": "create"}]
    container.upload_blob("devices.txt", "\n".join(map(json.dumps, lines)))
    properties = JobProperties(type="import", input_blob_container_uri=with_signature(container))
    made = jobs.create_import_export_job(properties)
    assert finished(lambda: jobs.get_import_export_job(made.job_id)).status == "completed"
    ids = {device.device_id for device in registry.get_devices()}
    assert ("leaving" in ids, "new" in ids) == (False, True)
    container.upload_blob("devices.txt", "no json", overwrite=True)
    made = jobs.create_import_export_job(properties)
    job = finished(lambda: jobs.get_import_export_job(made.job_id))
    assert (job.status, job.failure_reason != "") == ("failed", True)


def test_an_export_to_nowhere_fails_with_its_reason(jobs: Any) -> None:
    made = jobs.create_import_export_job(
        JobProperties(type="export", output_blob_container_uri="http://127.0.0.1:9/c?sig=x")
    )
    job = finished(lambda: jobs.get_import_export_job(made.job_id))
    assert job.status == "failed"
    assert job.failure_reason
