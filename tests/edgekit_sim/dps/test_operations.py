"""Every public operation of the provisioning SDKs is covered, or listed with the reason why not."""

import inspect
from pathlib import Path

from azure.iot.device import ProvisioningDeviceClient
from provisioningserviceclient import ProvisioningServiceClient

NOT_SUPPORTED = {
    # version 1.2 passes the page size as `custom_headers` and fails before it sends anything
    "create_registration_state_query",
}


def operations() -> set[str]:
    return {
        name
        for kind in (ProvisioningDeviceClient, ProvisioningServiceClient)
        for name, _ in inspect.getmembers(kind, callable)
        if not name.startswith("_")
    }


def test_every_operation_is_covered_or_listed() -> None:
    here = Path(__file__)
    text = "".join(p.read_text() for p in here.parent.glob("*.py") if p != here)
    missing = {name for name in operations() if name not in text}
    assert missing == NOT_SUPPORTED


def test_what_is_not_supported_is_in_the_docs() -> None:
    docs = (Path(__file__).parents[3] / "docs/dps.md").read_text()
    assert [name for name in NOT_SUPPORTED if f"`{name}`" not in docs] == []
