"""A device at a hub, with modules of this checkout in an image of this interpreter."""

import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit_sim.iotedge import DeviceConfig
from edgekit_sim.iothub import HubHandle
from edgekit_sim.iothub.pytest_plugin import iothub as iothub

ROOT = Path(__file__).parents[3]


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """Waits until a function's value is true, and returns it."""

    def wait(find: Callable[[], Any], seconds: float = 60) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := find()):
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.05)
        return found

    return wait


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`y = 2 x` for one number."""
    folder = tmp_path_factory.mktemp("model")
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "two"], ["y"])],
        "double",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        [numpy_helper.from_array(np.array([2], dtype=np.float32), "two")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "model.onnx")
    (folder / "model.json").write_text(json.dumps({"name": "double", "version": 1}))
    return folder


class Site:
    """One registered device: its configuration, and what the hub wants of it and knows of it."""

    def __init__(self, hub: HubHandle, config: DeviceConfig, device_id: str, image: str) -> None:
        self.hub, self.config, self.device_id, self.image = hub, config, device_id, image
        self.environment: dict[str, str] = {}

    def module(self, command: str, **changes: Any) -> dict[str, Any]:
        """A module that runs a command of edgekit_runtime."""
        options = json.dumps({"Cmd": [command]})
        return {
            "type": "docker",
            "status": "running",
            "restartPolicy": "always",
            "settings": {"image": self.image, "createOptions": options},
            "env": {name: {"value": value} for name, value in self.environment.items()},
        } | changes

    def deploy(self, modules: dict[str, Any], schema: str = "1.1") -> None:
        """Apply a deployment, as `applyConfigurationContent` does."""
        agent = {
            "schemaVersion": schema,
            "runtime": {"type": "docker", "settings": {}},
            "systemModules": {
                name: {"type": "docker", "settings": {"image": f"r.example/{name}:1"}}
                for name in ("edgeAgent", "edgeHub")
            },
            "modules": modules,
        }
        content = {
            "modulesContent": {
                "$edgeAgent": {"properties.desired": agent},
                "$edgeHub": {
                    "properties.desired": {
                        "schemaVersion": "1.1",
                        "routes": {},
                        "storeAndForwardConfiguration": {"timeToLiveSecs": 7200},
                    }
                },
            }
        }
        path = f"/devices/{self.device_id}/applyConfigurationContent"
        self.hub.request("POST", path, content)

    def reported(self, module: str = "$edgeAgent") -> dict[str, Any]:
        """What the device has reported for a module of its runtime."""
        twin = self.hub.request("GET", f"/twins/{self.device_id}/modules/{module}")
        reported: dict[str, Any] = twin["properties"]["reported"]
        return reported

    def received(self) -> list[dict[str, Any]]:
        """The device's messages in the hub, in the order they came."""
        return [event for event in self.hub.events() if event["deviceId"] == self.device_id]

    def changed(self, **changes: Any) -> DeviceConfig:
        """The device's configuration with some settings changed."""
        return replace(self.config, **changes)


@pytest.fixture
def site(
    iothub: HubHandle, python_image: str, model_folder: Path, tmp_path: Path
) -> Iterator[Site]:
    device_id = f"device-{random.randrange(1 << 40):x}"
    iothub.create_device(device_id, edge=True)
    secret = tmp_path / "connection-string"
    secret.write_text(iothub.device_connection_string(device_id))
    config = DeviceConfig(
        secret,
        tmp_path / "state",
        address=f"127.{random.randint(64, 250)}.{random.randint(0, 255)}.{random.randint(2, 250)}",
        rest=f"https://{iothub.gateway}:{iothub.ports['https']}",
        ca=iothub.ca_file,
        engine="process",
        cache=str(tmp_path.parent / "cache"),
    )
    site = Site(iothub, config, device_id, python_image)
    paths = [str(ROOT / "modules"), *(path for path in sys.path if "site-packages" in path)]
    site.environment = {
        "PYTHONHOME": sys.base_prefix,
        "PYTHONPATH": ":".join(paths),
        "EDGEKIT_MODEL": str(model_folder),
    }
    yield site
    iothub.heal()
