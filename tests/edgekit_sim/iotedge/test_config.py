"""A device's configuration: what is read back is what was written, and mistakes are named."""

from pathlib import Path
from typing import Any

import pytest

from edgekit_sim.iotedge import DeviceConfig, DeviceError
from edgekit_sim.iotedge.config import ConnectionString

TEXT = "HostName=hub.example;DeviceId=d;SharedAccessKey=c2VjcmV0a2V5Cg==;GatewayHostName=g"


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    config = DeviceConfig(
        tmp_path / 'a "b" \\c', tmp_path / "state", address="127.1.2.3", ca=str(tmp_path / "ca.pem")
    )
    (tmp_path / "device.toml").write_text(config.to_toml())
    assert DeviceConfig.read(tmp_path / "device.toml") == config


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("state = 1", "type"),
        ("state = 's'", "connection_string_file"),
        ("states = 's'", "states"),
        ("connection_string_file='c'\nstate='s'\nengine='vm'", "engine"),
        ("connection_string_file='c'\nstate='s'\naddress='10.0.0.1'", "address"),
        ("=", "no TOML"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "device.toml"
    path.write_text(text)
    with pytest.raises(DeviceError, match=word) as caught:
        DeviceConfig.read(path)
    assert "\n" not in str(caught.value)
    assert caught.value.hint


def test_reads_a_connection_string() -> None:
    connection = ConnectionString.parse(TEXT + "\n")
    assert connection == ConnectionString("hub.example", "d", "c2VjcmV0a2V5Cg==", "g")


def test_a_key_never_shows() -> None:
    values: list[Any] = [ConnectionString.parse(TEXT)]
    with pytest.raises(DeviceError) as caught:
        ConnectionString.parse(TEXT.replace("DeviceId", "Device"))
    values.append(caught.value)
    assert not [value for value in values if "c2VjcmV0" in f"{value!r}{value}"]
