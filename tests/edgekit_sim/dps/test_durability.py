"""What was answered is there after kill -9, and what was under way is finished."""

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from azure.iot.device import IoTHubDeviceClient

from edgekit_sim.iothub.handle import start_hub
from tests.edgekit_sim.dps.clients import Api, Device


def own_address() -> str:
    """A loopback address that no other test takes while its hub is dead."""
    number = os.getpid()
    return f"127.83.{number // 250 % 250}.{number % 250 + 1}"


class Slow:
    """An allocation function that answers only when it is told to."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.answer = threading.Event()
        self.hub = ""
        slow = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                slow.asked.set()
                slow.answer.wait(30)
                body = b'{"iotHubHostName": "%s"}' % slow.hub.encode()
                try:
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                except ConnectionError:
                    slow.asked.set()  # who asked was killed meanwhile

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()


@pytest.fixture
def slow() -> Iterator[Slow]:
    one = Slow()
    yield one
    one.answer.set()
    one.server.shutdown()
    one.thread.join()
    one.server.server_close()


def test_kill_in_the_middle_of_an_assignment(tmp_path: Path, slow: Slow) -> None:
    with start_hub(tmp_path / "hub", bind=(own_address(),)) as hub:
        api = Api(hub)
        url = f"http://127.0.0.1:{slow.server.server_port}/"
        definition = {"webhookUrl": url, "apiVersion": "2021-10-01"}
        key = api.enroll(
            "cut-off",
            allocationPolicy="custom",
            customAllocationDefinition=definition,
            initialTwin={"tags": {"a": 1}},
        )
        slow.hub = hub.gateway
        device = Device(hub, "cut-off", key)
        _, begun, _ = device.begin()
        _, joined, _ = device.begin()
        assert slow.asked.wait(10)
        assert device.status(begun["operationId"])[0] == 202
        hub.kill()
        slow.answer.set()
        hub.start()
        state = device.outcome(begun["operationId"])
        assert joined["operationId"] == begun["operationId"]
        assert (state["status"], state["assignedHub"]) == ("assigned", hub.gateway)
        assert hub.request("GET", "/twins/cut-off")["tags"] == {"a": 1}


def test_kill_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    with start_hub(tmp_path / "hub", bind=(own_address(),)) as hub:
        api = Api(hub)
        key = api.enroll("kept-1")
        group = api.enroll_group("kept-group")
        api.call("PUT", f"/edgekit/dps/linkedHubs/{hub.gateway}", {"allocationWeight": 7})
        device = Device(hub, "kept-1", key)
        state = device.register()
        paths = ("/enrollments/kept-1", "/enrollmentGroups/kept-group", "/registrations/kept-1")
        before = [api.call("GET", path)[:2] for path in paths]
        names = (hub.dps_id_scope, hub.dps_service_connection_string)
        hub.kill()
        hub.start()
        after = [api.call("GET", path)[:2] for path in paths]
        mechanism = api.call("POST", "/enrollmentGroups/kept-group/attestationmechanism")[1]
        assert (hub.dps_id_scope, hub.dps_service_connection_string) == names
        assert after == before
        assert mechanism["symmetricKey"]["primaryKey"] == group
        assert device.lookup()[1]["etag"] == state["etag"]
        client = IoTHubDeviceClient.create_from_symmetric_key(
            key,
            state["assignedHub"],
            state["deviceId"],
            server_verification_cert=Path(hub.ca_file).read_text(),
        )
        client.send_message("after")
        client.shutdown()
        assert [event["body"] for event in hub.events()] == ["after"]


def test_a_hub_that_moves_keeps_its_devices(tmp_path: Path) -> None:
    with start_hub(tmp_path / "hub", bind=(own_address(),)) as hub:
        api = Api(hub)
        key = api.enroll("mover")
        api.call("PUT", f"/edgekit/dps/linkedHubs/{hub.gateway}", {"allocationWeight": 7})
        Device(hub, "mover", key).register()
    with start_hub(tmp_path / "hub") as hub:
        state = Device(hub, "mover", key).register()
        links = Api(hub).call("GET", "/edgekit/dps/linkedHubs")[1]
        assert state["assignedHub"] == hub.gateway
        assert state["substatus"] == "reprovisionedToInitialAssignment"
        assert [(link["name"], link["allocationWeight"]) for link in links] == [(hub.gateway, 7)]
        assert hub.request("GET", "/devices/mover")["deviceId"] == "mover"
