"""The pytest fixture `iothub`: a hub for the tests of a module, with nothing in it at first.

Loaded by itself where edgekit is installed (entry point `pytest11`), else with
`pytest_plugins = ["edgekit_sim.iothub.pytest_plugin"]`.
"""

from collections.abc import Iterator

import pytest

from edgekit_sim.iothub.handle import HubHandle, start_hub


@pytest.fixture(scope="module")
def iothub() -> Iterator[HubHandle]:
    """A running hub; `SSL_CERT_FILE` and `REQUESTS_CA_BUNDLE` name its authority meanwhile."""
    with start_hub() as hub, pytest.MonkeyPatch.context() as environment:
        environment.setenv("SSL_CERT_FILE", hub.ca_file)
        environment.setenv("REQUESTS_CA_BUNDLE", hub.ca_file)
        yield hub
